//! The C part of a script: preprocessor lines, headers, and definitions of structs, unions, enums and
//! typedefs. Layouts are those of x86-64 Linux.
//!
//! ```text
//! lines, definitions ─▶ token ─▶ preprocess ─▶ parser ─▶ scope (what the script defines)
//!                                 (expand)  └▶ index ──▶ parser, when somebody asks
//! ```
//!
//! The parser is one type in several files: `parser` has what all of it uses, `specifier` and `records` read types,
//! `declarator` what stands around names, `attributes` what changes layouts.
//!
//! Definitions of the script and of its own headers are read at once, and their mistakes are reported.
//! Headers of the system are indexed; of them only what is asked for is read, and what cannot be read
//! is as if it were not there. Types that the kernel's own type information has come from there.

mod attributes;
mod consteval;
mod declarator;
mod expand;
mod hide;
mod index;
mod layout;
mod names;
mod parser;
mod preprocess;
mod records;
mod scope;
mod specifier;
mod token;

use bpftrace_ast::diag::Diagnostic;
use bpftrace_ast::node::{CStatement, CStatementKind};
use bpftrace_ast::source::SourceMap;

use crate::import::Imported;
use crate::texts::{Header, IncludeForm, TextSource};
use crate::typeinfo::TypeSource;
use crate::{Origin, StructDef};

use parser::Parser;
use preprocess::Preprocessor;
use token::Token;

pub(crate) use scope::{Asker, CDefs};

/// The C text of a script.
pub(crate) struct CText<'a> {
    /// Headers that the command line names.
    pub(crate) includes: &'a [String],
    /// Headers that the script imports.
    pub(crate) headers: &'a [Header],
    /// Lines and definitions in the script.
    pub(crate) statements: &'a [CStatement],
}

/// Reads the C part of a script.
pub(crate) fn read_c(
    text: &CText<'_>,
    texts: &dyn TextSource,
    sources: &mut SourceMap,
    types: &dyn TypeSource,
    imported: &mut Imported,
    diags: &mut Vec<Diagnostic>,
) -> CDefs {
    if text.includes.is_empty() && text.headers.is_empty() && text.statements.is_empty() {
        return CDefs::default();
    }
    let mut reader = Preprocessor::new(texts, sources, diags, types.has_kernel_types());
    for name in text.includes {
        reader.include_header(None, name, IncludeForm::Quotes, false);
    }
    for header in text.headers {
        reader.header(None, header.clone());
    }
    for statement in text.statements {
        // A definition may hold directives, and a directive may go on over several lines.
        debug_assert!(matches!(
            statement.kind,
            CStatementKind::Preprocessor | CStatementKind::Definition
        ));
        reader.script_text(&statement.text, statement.span);
    }
    reader.finish();
    let own = std::mem::take(&mut reader.own);
    let mut defs = CDefs {
        index: index::HeaderIndex::new(std::mem::take(&mut reader.system)),
        macros: std::mem::take(&mut reader.macros),
        missing: std::mem::take(&mut reader.missing),
        ..CDefs::default()
    };
    declare(&mut defs, own, imported, types, diags);
    defs
}

/// Reads the script's own declarations.
fn declare(
    defs: &mut CDefs,
    tokens: Vec<Token>,
    imported: &mut Imported,
    types: &dyn TypeSource,
    diags: &mut Vec<Diagnostic>,
) {
    for (name, keyword) in index::tags(&tokens) {
        defs.shadows |= match keyword {
            "enum" => types.find_enum(&name).is_some(),
            _ => types.find_struct(&name, keyword == "union").is_some(),
        };
        if keyword != "enum" {
            // Known by its name from here on, wherever else the name occurs.
            let is_union = keyword == "union";
            let key = (name.to_string(), is_union);
            let id = imported.table.add_struct(StructDef {
                name: name.to_string(),
                is_union,
                size: 0,
                origin: Origin::Script,
                members: Vec::new(),
                complete: true,
            });
            let id = *defs.own.structs.entry(key.clone()).or_insert(id);
            imported.replace_struct(key, id);
        }
    }
    let mut lens = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let (len, is_function) = index::declaration_len(&tokens[at..]);
        lens.push((len, is_function));
        at += len;
    }
    let mut tokens = tokens.into_iter();
    for (len, is_function) in lens {
        let declaration: Vec<Token> = tokens.by_ref().take(len).collect();
        // Functions cannot be called, and variables are not there.
        if !is_function && parser::declares_types(&declaration) {
            Parser::new(defs, imported, types, diags, declaration, false).declaration();
        }
    }
}
