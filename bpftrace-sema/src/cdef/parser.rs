//! Declarations as a whole, and what the parser of each of their parts uses.

use bpftrace_ast::diag::Diagnostic;
use bpftrace_ast::source::Span;

use super::consteval;
use super::names::ParserNames;
use super::scope::{CDefs, Scope};
use super::specifier::CType;
use super::token::{Kind, Token};
use crate::codes;
use crate::import::Imported;
use crate::lower::named_type;
use crate::typeinfo::TypeSource;

/// Structs in structs, and declarators in declarators, go no deeper.
pub(super) const MAX_DEPTH: u32 = 32;

pub(super) struct Parser<'r> {
    pub(super) defs: &'r mut CDefs,
    pub(super) imported: &'r mut Imported,
    pub(super) types: &'r dyn TypeSource,
    pub(super) diags: &'r mut Vec<Diagnostic>,
    pub(super) tokens: Vec<Token>,
    pub(super) at: usize,
    pub(super) depth: u32,
    /// Whether the declaration is a system header's.
    pub(super) system: bool,
}

/// A mistake that has been reported; the rest of the declaration is skipped.
pub(super) struct Reported;

pub(super) type Parse<T> = Result<T, Reported>;

/// Words that say nothing about a type's layout.
pub(super) const IGNORED_WORDS: &[&str] = &[
    "const",
    "volatile",
    "restrict",
    "register",
    "extern",
    "static",
    "inline",
    "auto",
    "__const",
    "__volatile__",
    "__restrict",
    "__restrict__",
    "__inline",
    "__inline__",
    "__extension__",
    "__user",
    "__kernel",
    "__iomem",
    "__rcu",
    "__percpu",
    "__force",
    "_Noreturn",
    "_Atomic",
];

/// Whether a declaration is about types, and not only about variables or functions.
pub(super) fn declares_types(tokens: &[Token]) -> bool {
    let word = tokens
        .iter()
        .find_map(|token| token.word().filter(|word| !IGNORED_WORDS.contains(word)));
    matches!(word, Some("typedef" | "struct" | "union" | "enum"))
        || tokens.iter().any(|token| token.is_word("typedef"))
}

impl<'r> Parser<'r> {
    pub(super) fn new(
        defs: &'r mut CDefs,
        imported: &'r mut Imported,
        types: &'r dyn TypeSource,
        diags: &'r mut Vec<Diagnostic>,
        tokens: Vec<Token>,
        system: bool,
    ) -> Self {
        Self {
            defs,
            imported,
            types,
            diags,
            tokens,
            at: 0,
            depth: 0,
            system,
        }
    }

    pub(super) fn scope(&mut self) -> &mut Scope {
        if self.system {
            &mut self.defs.system
        } else {
            &mut self.defs.own
        }
    }

    /// A declaration up to its `;`.
    pub(super) fn declaration(&mut self) {
        // What is wrong is reported where it is found.
        drop(self.whole_declaration());
    }

    pub(super) fn whole_declaration(&mut self) -> Parse<()> {
        let specifier = self.specifier()?;
        let mut first = true;
        loop {
            if first && self.take(";") {
                return Ok(());
            }
            first = false;
            let start = self.at;
            let (name, mut ty) = self.declarator(specifier.ty.clone())?;
            let attributes = self.attributes()?;
            for attributes in [specifier.attributes, attributes] {
                if let Some(align) = attributes.align {
                    ty.align = ty.align.max(align);
                }
            }
            match name {
                Some(name) if specifier.is_typedef => {
                    let known = named_type(&name).is_some() || name == "string" || name == "buffer";
                    let before = self.scope().typedefs.get(&name);
                    if let Some(before) = before.filter(|before| before.ty != ty.ty) {
                        let (before, ty) = (before.ty.clone(), ty.ty);
                        self.at = start;
                        while self.peek().is_some_and(|token| !token.is_word(&name)) {
                            self.at += 1;
                        }
                        let (ty, before) = (self.spell(&ty), self.spell(&before));
                        return self.fail(format!(
                            "typedef redefinition with different types ('{ty}' vs '{before}')"
                        ));
                    }
                    if !known {
                        self.scope().typedefs.insert(name, ty);
                    }
                }
                Some(_) => {}
                None => {
                    self.at = start;
                    return self.fail("expected ';' after a C definition");
                }
            }
            if self.take("=") {
                self.skip_value();
            }
            if self.take(";") {
                return Ok(());
            }
            if !self.take(",") {
                return self.fail("expected ';' after a C definition");
            }
        }
    }

    fn spell(&self, ty: &crate::Ty) -> String {
        crate::spell::spell(ty, &self.imported.table)
    }

    /// Skips a value up to `,` or `;`.
    pub(super) fn skip_value(&mut self) {
        let mut open = 0u32;
        while let Some(token) = self.peek() {
            match token.kind {
                Kind::Punct("(" | "[" | "{") => open += 1,
                Kind::Punct(")" | "]" | "}") => open = open.saturating_sub(1),
                Kind::Punct("," | ";") if open == 0 => return,
                _ => {}
            }
            self.at += 1;
        }
    }

    /// All tokens as one constant expression.
    pub(super) fn whole_constant(&mut self) -> Option<i128> {
        let tokens = std::mem::take(&mut self.tokens);
        consteval::evaluate(&tokens, &mut ParserNames(self))
    }

    /// The place of the current token, or the end.
    pub(super) fn here(&self) -> Option<Span> {
        match self.tokens.get(self.at) {
            Some(token) => Some(token.span),
            None => self.tokens.last().map(|token| Span {
                start: token.span.end,
                ..token.span
            }),
        }
    }

    pub(super) fn fail<T>(&mut self, message: impl Into<String>) -> Parse<T> {
        let place = self.here();
        if let Some(place) = place {
            self.diags
                .push(Diagnostic::error(codes::C_DEFINITION, place, message));
        }
        Err(Reported)
    }

    pub(super) fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    pub(super) fn at_punct(&self, punct: &str) -> bool {
        self.peek().is_some_and(|token| token.is_punct(punct))
    }

    pub(super) fn take(&mut self, punct: &str) -> bool {
        let found = self.at_punct(punct);
        self.at += usize::from(found);
        found
    }

    pub(super) fn take_word(&mut self, word: &str) -> bool {
        let found = self.peek().is_some_and(|token| token.is_word(word));
        self.at += usize::from(found);
        found
    }

    pub(super) fn name(&mut self) -> Option<String> {
        let name = self.peek()?.word()?.to_owned();
        self.at += 1;
        Some(name)
    }

    pub(super) fn qualifiers(&mut self) {
        while self
            .peek()
            .and_then(Token::word)
            .is_some_and(|word| IGNORED_WORDS.contains(&word))
        {
            self.at += 1;
        }
    }

    /// Skips past the parenthesis that closes an open one.
    pub(super) fn skip_to_close(&mut self) -> Parse<()> {
        let mut open = 1u32;
        while let Some(token) = self.peek() {
            if token.is_punct("(") {
                open += 1;
            } else if token.is_punct(")") {
                open -= 1;
            }
            self.at += 1;
            if open == 0 {
                return Ok(());
            }
        }
        self.fail("expected ')'")
    }

    /// A constant expression up to a closing token, which is consumed; `,` stands for the end of an
    /// enumerator and stays.
    pub(super) fn constant(&mut self, close: &str) -> Parse<i128> {
        let start = self.at;
        let mut open = 0u32;
        while let Some(token) = self.peek() {
            if open == 0 && (token.is_punct(close) || (close == "," && token.is_punct("}"))) {
                break;
            }
            if token.is_punct("(") {
                open += 1;
            } else if token.is_punct(")") {
                open = open.saturating_sub(1);
            }
            self.at += 1;
        }
        let expression = self.tokens[start..self.at].to_vec();
        let value = consteval::evaluate(&expression, &mut ParserNames(self));
        let Some(value) = value else {
            self.at = start;
            return self.fail("expected a constant expression");
        };
        if close != "," && !self.take(close) {
            return self.fail(format!("expected '{close}'"));
        }
        Ok(value)
    }

    /// A type without a name, as the operand of `sizeof`.
    pub(super) fn type_name(&mut self) -> Parse<CType> {
        let specifier = self.specifier()?;
        let (_, ty) = self.declarator(specifier.ty)?;
        Ok(self.with_size(ty))
    }

    /// One level deeper.
    pub(super) fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parse<T>) -> Parse<T> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fail("C definitions are nested too deeply");
        }
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }
}
