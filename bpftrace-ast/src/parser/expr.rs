//! Expressions.

use super::ctype::is_builtin;
use super::{Failed, Parsed, Parser};
use crate::diag::Code;
use crate::lexer::{Token, TokenKind};
use crate::node::{
    Arg, BinaryOp, Call, Else, Expr, ExprKind, Fixity, Ident, If, IncDecOp, MapAccess, Place,
    RecordField, UnaryOp,
};

const NOT_A_PLACE: &str = "increment/decrement requires a variable or map";

impl Parser<'_> {
    /// Any expression.
    pub(super) fn expr(&mut self) -> Parsed<Expr> {
        self.nested(Self::ternary)
    }

    fn ternary(&mut self) -> Parsed<Expr> {
        let cond = self.binary(0)?;
        self.ternary_after(cond)
    }

    /// The rest of an expression whose first operand is there.
    pub(super) fn expr_after(&mut self, first: Expr) -> Parsed<Expr> {
        let first = self.postfix_after(first)?;
        let cond = self.binary_after(0, first)?;
        self.ternary_after(cond)
    }

    fn ternary_after(&mut self, cond: Expr) -> Parsed<Expr> {
        if !self.eat("?") {
            return Ok(cond);
        }
        let then = if self.at(":") {
            None
        } else {
            Some(Box::new(self.nested(Self::ternary)?))
        };
        self.expect(":")?;
        let otherwise = Box::new(self.nested(Self::ternary)?);
        self.grow()?;
        let span = self.cursor.since(cond.span.start as usize);
        Ok(Expr {
            span,
            kind: ExprKind::Ternary {
                cond: Box::new(cond),
                then,
                otherwise,
            },
        })
    }

    /// Operands joined by operators of at least the given precedence.
    fn binary(&mut self, min: u8) -> Parsed<Expr> {
        self.subtree(|parser| {
            let first = parser.unary()?;
            parser.binary_after(min, first)
        })
    }

    fn binary_after(&mut self, min: u8, first: Expr) -> Parsed<Expr> {
        let mut left = first;
        loop {
            let token = self.peek();
            let Some(op) = self.binary_op(token).filter(|op| op.precedence() >= min) else {
                return Ok(left);
            };
            self.bump();
            let right = self.binary(op.precedence() + 1)?;
            self.grow()?;
            let span = self.cursor.since(left.span.start as usize);
            let op_span = self.cursor.span(token);
            left = Expr {
                span,
                kind: ExprKind::Binary {
                    op,
                    op_span,
                    left: Box::new(left),
                    right: Box::new(right),
                },
            };
        }
    }

    /// The operator that a token is. A `/` before `{` closes a predicate and divides nothing.
    fn binary_op(&mut self, token: Token) -> Option<BinaryOp> {
        let TokenKind::Punct(punct) = token.kind else {
            return None;
        };
        Some(match punct {
            "||" => BinaryOp::LogicalOr,
            "&&" => BinaryOp::LogicalAnd,
            "|" => BinaryOp::BitOr,
            "^" => BinaryOp::BitXor,
            "&" => BinaryOp::BitAnd,
            "==" => BinaryOp::Eq,
            "!=" => BinaryOp::Ne,
            "<" => BinaryOp::Lt,
            ">" => BinaryOp::Gt,
            "<=" => BinaryOp::Le,
            ">=" => BinaryOp::Ge,
            "<<" => BinaryOp::Shl,
            ">>" => BinaryOp::Shr,
            "+" => BinaryOp::Add,
            "-" => BinaryOp::Sub,
            "*" => BinaryOp::Mul,
            "/" if !self.cursor.after(token).is("{") => BinaryOp::Div,
            "%" => BinaryOp::Mod,
            _ => return None,
        })
    }

    /// Prefix operators and what they apply to.
    pub(super) fn unary(&mut self) -> Parsed<Expr> {
        let token = self.peek();
        let TokenKind::Punct(punct) = token.kind else {
            return self.postfix();
        };
        let op = match punct {
            "++" => return self.prefix_inc_dec(IncDecOp::Inc),
            "--" => return self.prefix_inc_dec(IncDecOp::Dec),
            "&" => return self.address_of(),
            "*" => UnaryOp::Deref,
            "!" => UnaryOp::Not,
            "~" => UnaryOp::BitNot,
            "-" => UnaryOp::Neg,
            _ => return self.postfix(),
        };
        self.bump();
        let operand = Box::new(self.nested(Self::unary)?);
        Ok(Expr {
            span: self.cursor.since(token.start),
            kind: ExprKind::Unary { op, operand },
        })
    }

    fn prefix_inc_dec(&mut self, op: IncDecOp) -> Parsed<Expr> {
        let start = self.bump().start;
        let operand = self.nested(Self::unary)?;
        let operand_span = operand.span;
        let kind = match place(operand) {
            Ok(target) => ExprKind::IncDec {
                op,
                fixity: Fixity::Prefix,
                target: Box::new(target),
            },
            // That has been reported already.
            Err(operand) if operand.kind == ExprKind::Error => ExprKind::Error,
            Err(_) => {
                self.report(Code::SYNTAX, operand_span, NOT_A_PLACE);
                ExprKind::Error
            }
        };
        Ok(Expr {
            span: self.cursor.since(start),
            kind,
        })
    }

    fn address_of(&mut self) -> Parsed<Expr> {
        let start = self.bump().start;
        let token = self.peek();
        let kind = match token.kind {
            TokenKind::Variable => ExprKind::AddressOfVariable(self.sigil_ident()),
            TokenKind::Map => ExprKind::AddressOfMap(self.sigil_ident()),
            _ if self.text(token).starts_with('$') => {
                return self.fail("expected identifier after '$'");
            }
            _ => {
                return self.fail("address-of operator (&) can only be used on a map or variable");
            }
        };
        Ok(Expr {
            span: self.cursor.since(start),
            kind,
        })
    }

    fn postfix(&mut self) -> Parsed<Expr> {
        let first = self.primary()?;
        self.postfix_after(first)
    }

    /// Field accesses, indices, `++` and `--` after an operand.
    fn postfix_after(&mut self, first: Expr) -> Parsed<Expr> {
        let mut expr = first;
        loop {
            let token = self.peek();
            let TokenKind::Punct(punct) = token.kind else {
                return Ok(expr);
            };
            let start = expr.span.start as usize;
            let kind = match punct {
                "." => {
                    self.bump();
                    let index = self.peek();
                    if index.kind == TokenKind::Integer {
                        let value = self.integer().value;
                        let index_span = self.cursor.span(index);
                        ExprKind::TupleIndex {
                            base: Box::new(expr),
                            index_span,
                            index: value,
                        }
                    } else {
                        let field = self.ident("expected field name after '.'")?;
                        ExprKind::Field {
                            base: Box::new(expr),
                            field,
                            arrow: false,
                        }
                    }
                }
                "->" => {
                    self.bump();
                    let field = self.ident("expected field name after '->'")?;
                    ExprKind::Field {
                        base: Box::new(expr),
                        field,
                        arrow: true,
                    }
                }
                "[" => {
                    self.bump();
                    let index = Box::new(self.expr()?);
                    self.expect("]")?;
                    ExprKind::Index {
                        base: Box::new(expr),
                        index,
                    }
                }
                "++" | "--" => match place(expr) {
                    Ok(target) => {
                        self.bump();
                        let op = if punct == "++" {
                            IncDecOp::Inc
                        } else {
                            IncDecOp::Dec
                        };
                        ExprKind::IncDec {
                            op,
                            fixity: Fixity::Postfix,
                            target: Box::new(target),
                        }
                    }
                    // What follows an `if` or block may well be the next statement.
                    Err(block) if is_block_like(&block) => return Ok(block),
                    Err(_) => {
                        self.bump();
                        self.report(Code::SYNTAX, self.cursor.span(token), NOT_A_PLACE);
                        ExprKind::Error
                    }
                },
                _ => return Ok(expr),
            };
            self.grow()?;
            expr = Expr {
                span: self.cursor.since(start),
                kind,
            };
        }
    }

    /// An operand without operators.
    pub(super) fn primary(&mut self) -> Parsed<Expr> {
        let token = self.peek();
        let start = token.start;
        let kind = match token.kind {
            TokenKind::Punct("(") => return self.parenthesised(),
            TokenKind::Punct("{") => ExprKind::Block(Box::new(self.block(true)?)),
            TokenKind::Ident => return self.word(),
            TokenKind::Map => return self.map(),
            TokenKind::Variable => ExprKind::Variable(self.sigil_ident().name),
            TokenKind::Param => self.param(),
            TokenKind::ParamCount => {
                self.bump();
                ExprKind::PositionalCount
            }
            TokenKind::Integer => ExprKind::Integer(self.integer()),
            TokenKind::String => ExprKind::String(self.string()),
            TokenKind::Unknown if self.text(token) == "$" => {
                return self.fail("expected identifier after '$'");
            }
            _ => return self.fail("expected expression"),
        };
        Ok(Expr {
            span: self.cursor.since(start),
            kind,
        })
    }

    /// `$1`.
    fn param(&mut self) -> ExprKind {
        let token = self.bump();
        let text = self.text(token);
        match text[1..].parse() {
            Ok(number) if (1..=i64::MAX as u64).contains(&number) => {
                ExprKind::PositionalParam(number)
            }
            _ => {
                let message = format!("param {text} is out of integer range [1, {}]", i64::MAX);
                self.report(Code::LITERAL, self.cursor.span(token), message);
                ExprKind::Error
            }
        }
    }

    /// A map, perhaps with key.
    pub(super) fn map(&mut self) -> Parsed<Expr> {
        let map = self.sigil_ident();
        if !self.eat("[") {
            return Ok(Expr {
                span: map.span,
                kind: ExprKind::Map(map.name),
            });
        }
        let mut keys = vec![self.expr()?];
        while self.eat(",") {
            keys.push(self.expr()?);
        }
        self.expect("]")?;
        let span = self.cursor.since(map.span.start as usize);
        Ok(Expr {
            span,
            kind: ExprKind::MapAccess(MapAccess { span, map, keys }),
        })
    }

    /// What starts with a name: keywords, calls, bare names.
    fn word(&mut self) -> Parsed<Expr> {
        let token = self.peek();
        let kind = match self.text(token) {
            "if" => self.if_kind(),
            "sizeof" => self.sizeof_kind(),
            "offsetof" => self.offsetof_kind(),
            "typeinfo" => self.typeinfo_kind(),
            "comptime" => self.comptime_kind(),
            word @ ("true" | "false") => {
                self.bump();
                Ok(ExprKind::Bool(word == "true"))
            }
            _ => self.name_kind(),
        };
        Ok(Expr {
            span: self.cursor.since(token.start),
            kind: kind?,
        })
    }

    fn sizeof_kind(&mut self) -> Parsed<ExprKind> {
        self.bump();
        self.expect("(")?;
        let operand = self.nested(Self::type_or_expr)?;
        self.expect(")")?;
        Ok(ExprKind::Sizeof(operand))
    }

    fn offsetof_kind(&mut self) -> Parsed<ExprKind> {
        self.bump();
        self.expect("(")?;
        let of = self.nested(Self::type_or_expr)?;
        self.expect(",")?;
        let mut fields = vec![self.ident("expected field name")?];
        while self.eat(".") {
            fields.push(self.ident("expected field name after '.'")?);
        }
        self.expect(")")?;
        Ok(ExprKind::Offsetof { of, fields })
    }

    fn typeinfo_kind(&mut self) -> Parsed<ExprKind> {
        self.bump();
        self.expect("(")?;
        let operand = self.nested(Self::type_or_expr)?;
        self.expect(")")?;
        Ok(ExprKind::Typeinfo(operand))
    }

    fn comptime_kind(&mut self) -> Parsed<ExprKind> {
        self.bump();
        Ok(ExprKind::Comptime(Box::new(self.nested(Self::unary)?)))
    }

    /// A call or a bare name.
    fn name_kind(&mut self) -> Parsed<ExprKind> {
        let name = self.ident("expected expression")?;
        if self.at("(") {
            Ok(ExprKind::Call(self.call(name)?))
        } else {
            Ok(ExprKind::Ident(name.name))
        }
    }

    fn call(&mut self, name: Ident) -> Parsed<Call> {
        self.expect("(")?;
        let mut args = Vec::new();
        if !self.at(")") {
            args.push(self.arg()?);
            while self.eat(",") {
                args.push(self.arg()?);
            }
        }
        self.expect(")")?;
        Ok(Call { name, args })
    }

    fn arg(&mut self) -> Parsed<Arg> {
        if self.at_word("typeof") {
            Ok(Arg::Type(self.typeof_spec()?))
        } else {
            Ok(Arg::Expr(self.expr()?))
        }
    }

    /// The condition of `if`, `while` and `unroll`: anything in parentheses, or without them no binary operator.
    pub(super) fn condition(&mut self) -> Parsed<Expr> {
        if !self.eat("(") {
            return self.nested(Self::unary);
        }
        let cond = self.expr()?;
        self.expect(")")?;
        Ok(cond)
    }

    /// `if` with all that belongs to it; the next token must be `if`. A chain of `else if` is one construct, however
    /// long it is.
    fn if_kind(&mut self) -> Parsed<ExprKind> {
        let mut arms = Vec::new();
        let mut otherwise = None;
        loop {
            let start = self.bump().start;
            let cond = self.condition()?;
            let then = self.block(true)?;
            arms.push((start, cond, then));
            self.grow()?;
            if !self.eat_word("else") {
                break;
            }
            if self.at("{") {
                otherwise = Some(Else::Block(self.block(true)?));
                break;
            }
            if !self.at_word("if") {
                return self.fail("expected '{' or 'if' after 'else'");
            }
        }
        let Some((start, cond, then)) = arms.pop() else {
            return Err(Failed);
        };
        let mut chain = If {
            span: self.cursor.since(start),
            cond,
            then,
            otherwise,
        };
        while let Some((start, cond, then)) = arms.pop() {
            let otherwise = Some(Else::If(Box::new(chain)));
            chain = If {
                span: self.cursor.since(start),
                cond,
                then,
                otherwise,
            };
        }
        Ok(ExprKind::If(Box::new(chain)))
    }

    /// What starts with a parenthesis: tuples, records, casts, and expressions in parentheses.
    fn parenthesised(&mut self) -> Parsed<Expr> {
        let open = self.bump();
        if self.eat(")") {
            return Ok(Expr {
                span: self.cursor.since(open.start),
                kind: ExprKind::Tuple(Vec::new()),
            });
        }
        let first = self.peek();
        if first.kind == TokenKind::Ident {
            let is_record = self.cursor.after(first).is("=") && !is_builtin(self.text(first));
            if is_record {
                return self.record(open);
            }
            if let Some(cast) = self.opt_cast(open)? {
                return Ok(cast);
            }
        }
        let first = self.expr()?;
        if !self.at(",") {
            self.expect(")")?;
            return Ok(first);
        }
        let mut elements = vec![first];
        while self.eat(",") && !self.at(")") {
            elements.push(self.expr()?);
        }
        self.expect(")")?;
        Ok(Expr {
            span: self.cursor.since(open.start),
            kind: ExprKind::Tuple(elements),
        })
    }

    fn record(&mut self, open: Token) -> Parsed<Expr> {
        let mut fields: Vec<RecordField> = Vec::new();
        let mut names = std::collections::HashSet::new();
        loop {
            let name = self.ident("expected identifier")?;
            self.expect("=")?;
            let value = self.expr()?;
            let span = self.cursor.since(name.span.start as usize);
            if names.insert(name.name.clone()) {
                fields.push(RecordField { span, name, value });
            } else {
                let message = format!("Named argument list already contains name: {}", name.name);
                self.report(Code::SYNTAX, span, message);
            }
            if !self.eat(",") {
                break;
            }
        }
        self.expect(")")?;
        Ok(Expr {
            span: self.cursor.since(open.start),
            kind: ExprKind::Record(fields),
        })
    }

    /// A cast, if what follows the parenthesis is a type, a closing parenthesis, and something to convert.
    fn opt_cast(&mut self, open: Token) -> Parsed<Option<Expr>> {
        let ty = if self.at_word("typeof") {
            let checkpoint = self.cursor.checkpoint();
            let ty = self.typeof_spec()?;
            let close = self.peek();
            if !(close.is(")") && starts_operand(self.cursor.after(close))) {
                self.cursor.rewind(checkpoint);
                return Ok(None);
            }
            ty
        } else {
            let first = self.peek();
            let Some(close) = self.end_of_type(first) else {
                return Ok(None);
            };
            if !(close.is(")") && starts_operand(self.cursor.after(close))) {
                return Ok(None);
            }
            self.type_spec()?
        };
        self.expect(")")?;
        let head_span = self.cursor.since(open.start);
        let operand = Box::new(self.nested(Self::unary)?);
        let span = self.cursor.since(open.start);
        Ok(Some(Expr {
            span,
            kind: ExprKind::Cast {
                ty,
                head_span,
                operand,
            },
        }))
    }
}

/// Whether a token can be the start of what a cast converts. A block or `++` cannot, by the rules of the language.
fn starts_operand(token: Token) -> bool {
    match token.kind {
        TokenKind::Punct(punct) => matches!(punct, "(" | "-" | "--" | "!" | "~" | "*" | "&"),
        TokenKind::Unknown | TokenKind::Eof => false,
        _ => true,
    }
}

fn is_block_like(expr: &Expr) -> bool {
    matches!(expr.kind, ExprKind::If(_) | ExprKind::Block(_))
}

/// The place that an expression reads, or the expression if it reads none.
pub(super) fn place(expr: Expr) -> Result<Place, Expr> {
    let span = expr.span;
    match expr.kind {
        ExprKind::Variable(name) => Ok(Place::Variable(Ident { span, name })),
        ExprKind::Map(name) => Ok(Place::Map(Ident { span, name })),
        ExprKind::MapAccess(access) => Ok(Place::MapAccess(access)),
        kind => Err(Expr { span, kind }),
    }
}
