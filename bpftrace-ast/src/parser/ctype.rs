//! Types as scripts write them, and the operands that are a type or an expression.

use super::{Parsed, Parser};
use crate::lexer::{Token, TokenKind};
use crate::node::{IntegerLit, TypeOrExpr, TypeSpec, TypeSpecKind};

/// Builtin variables that the grammar has to know: they are never the start of a type or the name of a macro's
/// parameter, and `arg` or `sarg` with a number are of them too.
const GRAMMAR_BUILTINS: &[&str] = &[
    "args",
    "ctx",
    "kstack",
    "nsecs",
    "pid",
    "tid",
    "ustack",
    "__builtin_comm",
    "__builtin_cpid",
    "__builtin_cpu",
    "__builtin_dw_ustack",
    "__builtin_elapsed",
    "__builtin_func",
    "__builtin_ncpus",
    "__builtin_probe",
    "__builtin_retval",
    "__builtin_usermode",
];

/// Whether a name is a builtin variable for the grammar.
pub(crate) fn is_builtin(name: &str) -> bool {
    let numbered = name
        .strip_prefix("sarg")
        .or_else(|| name.strip_prefix("arg"));
    GRAMMAR_BUILTINS.contains(&name)
        || numbered.is_some_and(|number| {
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        })
}

fn is_tag_keyword(word: &str) -> bool {
    matches!(word, "struct" | "union" | "enum")
}

impl Parser<'_> {
    /// A type where only a type can stand.
    pub(super) fn type_spec(&mut self) -> Parsed<TypeSpec> {
        self.subtree(Self::type_spec_inner)
    }

    fn type_spec_inner(&mut self) -> Parsed<TypeSpec> {
        if self.at_word("typeof") {
            return self.typeof_spec();
        }
        let word = self.ident("expected type name")?;
        let start = word.span.start as usize;
        let kind = if is_tag_keyword(&word.name) {
            let tag = self.ident("expected identifier")?.name;
            match word.name.as_str() {
                "struct" => TypeSpecKind::Struct(tag),
                "union" => TypeSpecKind::Union(tag),
                _ => TypeSpecKind::Enum(tag),
            }
        } else {
            TypeSpecKind::Named(word.name)
        };
        let mut ty = TypeSpec {
            span: self.cursor.since(start),
            kind,
        };
        loop {
            // In `int8 *= ...` the star belongs to the type.
            let kind = if self.at("*") || self.at("*=") {
                self.cursor.skip_layout();
                self.cursor.take(1);
                TypeSpecKind::Pointer(Box::new(ty))
            } else if self.eat("[") {
                let len = self.array_len()?;
                self.expect("]")?;
                TypeSpecKind::Array {
                    element: Box::new(ty),
                    len,
                }
            } else {
                return Ok(ty);
            };
            ty = TypeSpec {
                span: self.cursor.since(start),
                kind,
            };
            self.grow()?;
        }
    }

    fn array_len(&mut self) -> Parsed<Option<IntegerLit>> {
        Ok((self.peek().kind == TokenKind::Integer).then(|| self.integer()))
    }

    /// `typeof(x)`; the next token must be `typeof`.
    pub(super) fn typeof_spec(&mut self) -> Parsed<TypeSpec> {
        let start = self.bump().start;
        self.expect("(")?;
        let operand = self.nested(Self::type_or_expr)?;
        self.expect(")")?;
        Ok(TypeSpec {
            span: self.cursor.since(start),
            kind: TypeSpecKind::Typeof(Box::new(operand)),
        })
    }

    /// What stands in the parentheses of `sizeof` and its kin.
    pub(super) fn type_or_expr(&mut self) -> Parsed<TypeOrExpr> {
        if self.at_word("typeof") {
            return Ok(TypeOrExpr::Type(self.typeof_spec()?));
        }
        let token = self.peek();
        match self.end_of_type(token) {
            Some(end) if end.is(")") || end.is(",") => {
                let ty = self.type_spec()?;
                Ok(match ty.kind {
                    TypeSpecKind::Named(name) => TypeOrExpr::Name(crate::node::Ident {
                        span: ty.span,
                        name,
                    }),
                    _ => TypeOrExpr::Type(ty),
                })
            }
            _ => Ok(TypeOrExpr::Expr(Box::new(self.expr()?))),
        }
    }

    /// The token that follows what reads as a type from `token` on; `None` if nothing reads as a type there.
    pub(super) fn end_of_type(&mut self, token: Token) -> Option<Token> {
        if token.kind != TokenKind::Ident || is_builtin(self.text(token)) {
            return None;
        }
        let mut next = self.cursor.after(token);
        if is_tag_keyword(self.text(token)) {
            if next.kind != TokenKind::Ident {
                return None;
            }
            next = self.cursor.after(next);
        }
        loop {
            if next.is("*") {
                next = self.cursor.after(next);
            } else if next.is("[") {
                next = self.cursor.after(next);
                if next.kind == TokenKind::Integer {
                    next = self.cursor.after(next);
                }
                if !next.is("]") {
                    return None;
                }
                next = self.cursor.after(next);
            } else {
                return Some(next);
            }
        }
    }
}
