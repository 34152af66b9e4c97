//! Blocks and statements.

use super::expr::place;
use super::{Failed, Parsed, Parser};
use crate::diag::Code;
use crate::lexer::{Token, TokenKind};
use crate::node::{BinaryOp, Block, Else, Expr, ExprKind, ForOver, If, Import, Stmt, StmtKind};

/// What one step through a block yields.
enum Step {
    Stmt(Box<Stmt>),
    /// An expression right before the closing brace.
    Trailing(Box<Expr>),
}

impl Parser<'_> {
    /// `{ ... }`. In a body that has no value the trailing expression becomes a statement.
    pub(super) fn block(&mut self, may_have_value: bool) -> Parsed<Block> {
        self.nested(|parser| parser.block_inner(may_have_value))
    }

    fn block_inner(&mut self, may_have_value: bool) -> Parsed<Block> {
        let start = self.expect("{")?.start;
        let mut stmts = Vec::new();
        let mut value = None;
        loop {
            let token = self.peek();
            if token.is("}") {
                self.bump();
                break;
            }
            if token.kind == TokenKind::Eof {
                return self.fail("expected '}'");
            }
            match self.subtree(Self::step) {
                Ok(Step::Stmt(stmt)) => stmts.push(*stmt),
                Ok(Step::Trailing(expr)) => value = Some(expr),
                Err(Failed) => {
                    self.skip_statement();
                    self.give_up_on_too_many();
                }
            }
        }
        // The last statement of a body is shown as its value would be.
        if !may_have_value
            && value.is_none()
            && let Some(last) = stmts.last_mut()
            && let StmtKind::Expr(expr) = &last.kind
        {
            last.span = expr.span;
        }
        if !may_have_value && let Some(expr) = value.take() {
            let mut expr = *expr;
            drop_value(&mut expr);
            stmts.push(Stmt {
                span: expr.span,
                kind: StmtKind::Expr(expr),
            });
        }
        Ok(Block {
            span: self.cursor.since(start),
            stmts,
            value,
        })
    }

    /// Skips to the end of the statement that could not be read: past the next `;`, or to the `}` that closes the
    /// block it is in.
    fn skip_statement(&mut self) {
        let mut depth = 0u32;
        loop {
            let token = self.peek();
            match token.kind {
                TokenKind::Eof => return,
                TokenKind::Punct("{") => depth += 1,
                TokenKind::Punct("}") if depth == 0 => return,
                TokenKind::Punct("}") => depth -= 1,
                _ => {}
            }
            self.bump();
            if depth == 0 && token.is(";") {
                return;
            }
            // A block that ends here ends the statement too, unless something follows that cannot start one.
            if depth == 0 && token.is("}") && !self.at_continuation() {
                return;
            }
        }
    }

    /// Whether the next token goes on with a statement after a `}`.
    pub(super) fn at_continuation(&mut self) -> bool {
        let token = self.peek();
        token.is(";") || token.is(")") || token.is(",") || self.at_word("else")
    }

    /// One statement, or the trailing expression.
    fn step(&mut self) -> Parsed<Step> {
        let token = self.peek();
        let start = token.start;
        let kind = match token.kind {
            TokenKind::Variable => return self.place_step(),
            TokenKind::Map => return self.place_step(),
            TokenKind::Ident => match self.text(token) {
                "import" => StmtKind::Import(self.import()?),
                "while" => {
                    self.bump();
                    StmtKind::While {
                        cond: self.condition()?,
                        body: self.block(false)?,
                    }
                }
                "unroll" => {
                    self.bump();
                    StmtKind::Unroll {
                        count: self.condition()?,
                        body: self.block(false)?,
                    }
                }
                "for" => self.for_loop()?,
                "break" => {
                    self.bump();
                    return self.ended(start, StmtKind::Break);
                }
                "continue" => {
                    self.bump();
                    return self.ended(start, StmtKind::Continue);
                }
                "return" => {
                    self.bump();
                    let bare = self.at(";") || self.at("}");
                    let value = if bare { None } else { Some(self.expr()?) };
                    return self.ended(start, StmtKind::Return(value));
                }
                "_" if self.cursor.after(token).is("=") => {
                    self.bump();
                    self.bump();
                    let value = self.expr()?;
                    return self.ended(start, StmtKind::Discard(value));
                }
                "let" => {
                    let kind = self.let_stmt()?;
                    return self.ended(start, kind);
                }
                _ => return self.expr_step(),
            },
            _ => return self.expr_step(),
        };
        Ok(Step::Stmt(Box::new(Stmt {
            span: self.cursor.since(start),
            kind,
        })))
    }

    /// A statement that needs `;` unless the block ends.
    fn ended(&mut self, start: usize, kind: StmtKind) -> Parsed<Step> {
        let span = self.cursor.since(start);
        if !self.at("}") {
            self.expect(";")?;
        }
        Ok(Step::Stmt(Box::new(Stmt { span, kind })))
    }

    fn let_stmt(&mut self) -> Parsed<StmtKind> {
        self.bump();
        let var = self.variable("expected variable after 'let'")?;
        let ty = if self.eat(":") {
            Some(self.type_spec()?)
        } else {
            None
        };
        let value = if self.eat("=") {
            Some(self.expr()?)
        } else {
            None
        };
        Ok(StmtKind::Let { var, ty, value })
    }

    /// A statement that starts with a variable or map: an assignment, or else an expression.
    fn place_step(&mut self) -> Parsed<Step> {
        let token = self.peek();
        let first = if token.kind == TokenKind::Map {
            self.map()?
        } else {
            self.primary()?
        };
        let next = self.peek();
        if next.is("=") {
            return match place(first) {
                Ok(target) => {
                    self.bump();
                    let value = self.expr()?;
                    self.ended(token.start, StmtKind::Assign { target, value })
                }
                Err(expr) => self.bad_target(expr),
            };
        }
        if let Some(op) = compound_op(next) {
            let op_span = self.cursor.span(next);
            return match place(first) {
                Ok(target) => {
                    self.bump();
                    let value = self.expr()?;
                    self.ended(
                        token.start,
                        StmtKind::CompoundAssign {
                            target,
                            op_span,
                            op,
                            value,
                        },
                    )
                }
                Err(expr) => self.bad_target(expr),
            };
        }
        let expr = self.expr_after(first)?;
        if self.at("=") {
            return self.bad_target(expr);
        }
        self.expr_end(expr)
    }

    /// Reads the rest of an assignment to something that cannot be assigned to, and reports it.
    fn bad_target(&mut self, target: Expr) -> Parsed<Step> {
        self.bump();
        self.expr()?;
        let span = self.cursor.since(target.span.start as usize);
        let message = match target.kind {
            ExprKind::Field { .. } | ExprKind::TupleIndex { .. } => {
                "Tuples and records are immutable once created. Consider creating a new value and assigning it instead."
            }
            _ => "invalid assignment target",
        };
        self.report(Code::SYNTAX, span, message);
        self.ended(
            span.start as usize,
            StmtKind::Expr(Expr {
                span,
                kind: ExprKind::Error,
            }),
        )
    }

    fn expr_step(&mut self) -> Parsed<Step> {
        let expr = self.expr()?;
        self.expr_end(expr)
    }

    /// The end of an expression statement, which only `if` and blocks may do without.
    fn expr_end(&mut self, expr: Expr) -> Parsed<Step> {
        if self.at("}") {
            return Ok(Step::Trailing(Box::new(expr)));
        }
        let mut span = expr.span;
        let needs_end = !matches!(expr.kind, ExprKind::If(_) | ExprKind::Block(_));
        if self.eat(";") {
            // Shown with its semicolon, unless it might have been an assignment.
            let (start, end) = (expr.span.start as usize, expr.span.end as usize);
            if needs_end && !self.cursor.slice(start, end).starts_with(['$', '@']) {
                span = self.cursor.since(start);
            }
        } else if needs_end {
            return self.fail("expected ';'");
        }
        Ok(Step::Stmt(Box::new(Stmt {
            span,
            kind: StmtKind::Expr(expr),
        })))
    }

    fn for_loop(&mut self) -> Parsed<StmtKind> {
        self.bump();
        let has_paren = self.eat("(");
        let var = self.variable("expected variable in for loop")?;
        self.expect(":")?;
        let first = self.nested(Self::primary)?;
        let over = if self.eat("..") {
            let end = self.nested(Self::primary)?;
            Some(ForOver::Range { start: first, end })
        } else if let ExprKind::Map(name) = first.kind {
            Some(ForOver::Map(crate::node::Ident {
                span: first.span,
                name,
            }))
        } else {
            None
        };
        if has_paren {
            self.expect(")")?;
        }
        let Some(over) = over else {
            return self.fail("expected map or range in for loop");
        };
        let body = self.block(false)?;
        Ok(StmtKind::For { var, over, body })
    }

    /// `import "path";`, at the top level or in a block; the next token must be `import`.
    pub(super) fn import(&mut self) -> Parsed<Import> {
        let start = self.bump().start;
        if self.peek().kind != TokenKind::String {
            return self.fail("expected string after 'import'");
        }
        let path = self.string();
        let span = self.cursor.since(start);
        if !self.eat(";") {
            return self.fail("expected ';' after import");
        }
        Ok(Import { span, path })
    }
}

/// The operator of a compound assignment.
fn compound_op(token: Token) -> Option<BinaryOp> {
    let TokenKind::Punct(punct) = token.kind else {
        return None;
    };
    Some(match punct {
        "<<=" => BinaryOp::Shl,
        ">>=" => BinaryOp::Shr,
        "+=" => BinaryOp::Add,
        "-=" => BinaryOp::Sub,
        "*=" => BinaryOp::Mul,
        "/=" => BinaryOp::Div,
        "%=" => BinaryOp::Mod,
        "&=" => BinaryOp::BitAnd,
        "|=" => BinaryOp::BitOr,
        "^=" => BinaryOp::BitXor,
        _ => return None,
    })
}

/// Turns the trailing expressions in the arms of a trailing `if` or block into statements, as deep as they go.
pub(crate) fn drop_value(expr: &mut Expr) {
    match &mut expr.kind {
        ExprKind::Block(block) => drop_block_value(block),
        ExprKind::If(arms) => drop_if_values(arms),
        _ => {}
    }
}

fn drop_block_value(block: &mut Block) {
    for stmt in &mut block.stmts {
        if let StmtKind::Expr(expr) = &mut stmt.kind {
            drop_value(expr);
        }
    }
    if let Some(mut value) = block.value.take() {
        drop_value(&mut value);
        block.stmts.push(Stmt {
            span: value.span,
            kind: StmtKind::Expr(*value),
        });
    }
}

fn drop_if_values(arms: &mut If) {
    drop_block_value(&mut arms.then);
    match &mut arms.otherwise {
        Some(Else::Block(block)) => drop_block_value(block),
        Some(Else::If(arms)) => drop_if_values(arms),
        None => {}
    }
}
