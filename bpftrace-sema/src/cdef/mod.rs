//! The C part of a script: preprocessor lines, and definitions of structs, unions and enums.
//!
//! No headers are read: the kernel's types come from the type source, so what guarded includes would
//! give is there already. Layouts are those of x86-64 Linux.

mod consteval;
mod layout;
mod members;
mod token;

use std::collections::HashMap;

use bpftrace_ast::diag::Diagnostic;
use bpftrace_ast::node::{CStatement, CStatementKind, Script};
use bpftrace_ast::source::Span;

use crate::import::Imported;
use crate::typeinfo::TypeSource;
use crate::{EnumTyId, IntTy, StructId, codes};

use token::{Token, tokenize};

/// What the C part of a script defines.
#[derive(Debug, Default)]
pub(crate) struct CDefs {
    /// Object-like macros: replacement text.
    pub(crate) macros: HashMap<String, String>,
    /// Macros with parameters, which expressions cannot use.
    pub(crate) function_like: Vec<String>,
    /// Structs, and (`true`) unions, by name.
    pub(crate) structs: HashMap<(String, bool), StructId>,
    /// Enums by name.
    pub(crate) enums: HashMap<String, (EnumTyId, IntTy)>,
    /// Enumerators: their enum and value.
    pub(crate) enumerators: HashMap<String, (EnumTyId, i64)>,
}

/// Macros in replacement texts of macros are expanded so often.
const MAX_EXPANSIONS: usize = 10_000;

/// Reads the C part of a script.
pub(crate) fn read_c(
    script: &Script,
    types: &dyn TypeSource,
    imported: &mut Imported,
    diags: &mut Vec<Diagnostic>,
) -> CDefs {
    let mut reader = Reader {
        types,
        imported,
        diags,
        defs: CDefs::default(),
        conditions: Vec::new(),
    };
    if types.has_kernel_types() {
        reader
            .defs
            .macros
            .insert("BPFTRACE_HAVE_BTF".to_owned(), "1".to_owned());
    }
    for statement in &script.c_statements {
        match statement.kind {
            CStatementKind::Preprocessor => reader.directive(statement),
            CStatementKind::Definition if reader.is_active() => reader.definition(statement),
            CStatementKind::Definition => {}
        }
    }
    if let Some(condition) = reader.conditions.last() {
        let span = condition.span;
        reader.error(span, "unterminated conditional directive");
    }
    let mut defs = reader.defs;
    defs.macros.remove("BPFTRACE_HAVE_BTF");
    defs
}

/// An open `#if`.
struct Condition {
    span: Span,
    /// Whether lines count now.
    active: bool,
    /// Whether a branch was taken already, or none may be.
    taken: bool,
}

struct Reader<'a> {
    types: &'a dyn TypeSource,
    imported: &'a mut Imported,
    diags: &'a mut Vec<Diagnostic>,
    defs: CDefs,
    conditions: Vec<Condition>,
}

impl Reader<'_> {
    fn error(&mut self, span: Span, message: impl Into<String>) {
        self.diags
            .push(Diagnostic::error(codes::C_DEFINITION, span, message));
    }

    fn is_active(&self) -> bool {
        self.conditions.iter().all(|condition| condition.active)
    }

    /// A line that starts with `#`.
    fn directive(&mut self, statement: &CStatement) {
        let span = statement.span;
        let text = statement.text.trim().trim_start_matches('#').trim_start();
        let (word, rest) = match text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            Some(at) => text.split_at(at),
            None => (text, ""),
        };
        let rest = without_comments(rest);
        let rest = rest.trim();
        match word {
            "ifdef" | "ifndef" => {
                let defined = self.defs.macros.contains_key(rest);
                self.open(span, defined == (word == "ifdef"));
            }
            "if" => {
                let holds = self.is_active() && self.holds(span, rest);
                self.open(span, holds);
            }
            "elif" => {
                let pending = self.conditions.last().is_some_and(|c| !c.taken);
                let holds = pending && self.holds(span, rest);
                match self.conditions.last_mut() {
                    Some(condition) => {
                        condition.active = holds;
                        condition.taken |= holds;
                    }
                    None => self.error(span, "#elif without #if"),
                }
            }
            "else" => match self.conditions.last_mut() {
                Some(condition) => {
                    condition.active = !condition.taken;
                    condition.taken = true;
                }
                None => self.error(span, "#else without #if"),
            },
            "endif" => {
                if self.conditions.pop().is_none() {
                    self.error(span, "#endif without #if");
                }
            }
            _ if !self.is_active() => {}
            "define" => self.define(span, rest),
            "undef" => {
                self.defs.macros.remove(rest);
                self.defs.function_like.retain(|name| name != rest);
            }
            "error" => self.error(span, rest.to_owned()),
            // Headers give what the kernel's types give as well.
            "include" | "pragma" | "warning" | "line" | "" => {}
            other => self.error(span, format!("invalid preprocessing directive #{other}")),
        }
    }

    fn open(&mut self, span: Span, holds: bool) {
        self.conditions.push(Condition {
            span,
            active: holds,
            taken: holds,
        });
    }

    fn holds(&mut self, span: Span, text: &str) -> bool {
        let tokens = match tokenize(text) {
            Ok(tokens) => tokens,
            Err(_) => {
                self.error(span, "invalid token in a condition");
                return false;
            }
        };
        let tokens = self.resolve_defined(tokens);
        let tokens = self.expand(tokens);
        match consteval::evaluate(&tokens, &|_| Some(0)) {
            Some(value) => value != 0,
            None => {
                self.error(span, "invalid expression in a condition");
                false
            }
        }
    }

    /// `defined X` and `defined(X)` to 1 and 0.
    fn resolve_defined(&self, tokens: Vec<Token>) -> Vec<Token> {
        let mut out = Vec::with_capacity(tokens.len());
        let mut i = 0;
        while i < tokens.len() {
            if tokens[i].is_word("defined") {
                let (name, used) = match &tokens[i + 1..] {
                    [open, name, close, ..] if open.is_punct("(") && close.is_punct(")") => {
                        (Some(name), 4)
                    }
                    [name, ..] => (Some(name), 2),
                    [] => (None, 1),
                };
                let defined = name
                    .and_then(|name| name.word())
                    .is_some_and(|name| self.defs.macros.contains_key(name));
                out.push(Token::number(i128::from(defined), tokens[i].at));
                i += used;
            } else {
                out.push(tokens[i].clone());
                i += 1;
            }
        }
        out
    }

    /// Object-like macros replaced, each not within itself.
    fn expand(&self, tokens: Vec<Token>) -> Vec<Token> {
        let mut out = Vec::new();
        // What is to be looked at, with the macros it came out of.
        let mut todo: Vec<(Token, Vec<String>)> = tokens
            .into_iter()
            .rev()
            .map(|token| (token, Vec::new()))
            .collect();
        let mut n_expansions = 0;
        while let Some((token, hidden)) = todo.pop() {
            let replacement = token
                .word()
                .filter(|name| !hidden.iter().any(|h| h == name))
                .and_then(|name| {
                    self.defs
                        .macros
                        .get(name)
                        .map(|text| (name.to_owned(), text))
                });
            match replacement {
                Some((name, text)) if n_expansions < MAX_EXPANSIONS => {
                    n_expansions += 1;
                    let mut hidden = hidden;
                    hidden.push(name);
                    let at = token.at;
                    for mut inner in tokenize(text).unwrap_or_default().into_iter().rev() {
                        inner.at = at;
                        todo.push((inner, hidden.clone()));
                    }
                }
                _ => out.push(token),
            }
        }
        out
    }

    fn define(&mut self, span: Span, rest: &str) {
        let end = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        let (name, text) = rest.split_at(end);
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            self.error(span, "macro name must be an identifier");
        } else if text.starts_with('(') {
            self.defs.function_like.push(name.to_owned());
        } else {
            self.defs
                .macros
                .insert(name.to_owned(), text.trim().to_owned());
        }
    }

    /// A struct, union or enum definition.
    fn definition(&mut self, statement: &CStatement) {
        let span = statement.span;
        let tokens = match tokenize(&statement.text) {
            Ok(tokens) => tokens,
            Err(at) => {
                let place = self.place(span, at, at + 1);
                self.error(place, "invalid character in a C definition");
                return;
            }
        };
        let tokens = self.expand(tokens);
        let mut parser = members::Parser::new(self, span, tokens);
        parser.top_level();
    }

    /// A place within a statement.
    fn place(&self, span: Span, start: usize, end: usize) -> Span {
        let offset = |at: usize| {
            span.start
                .saturating_add(u32::try_from(at).unwrap_or(u32::MAX))
                .min(span.end)
        };
        Span {
            start: offset(start),
            end: offset(end).max(offset(start)),
            ..span
        }
    }
}

fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    loop {
        let line = rest.find("//").unwrap_or(rest.len());
        let block = rest.find("/*").unwrap_or(rest.len());
        if line <= block {
            out.push_str(&rest[..line]);
            return out;
        }
        out.push_str(&rest[..block]);
        out.push(' ');
        match rest[block + 2..].find("*/") {
            Some(end) => rest = &rest[block + 2 + end + 2..],
            None => return out,
        }
    }
}
