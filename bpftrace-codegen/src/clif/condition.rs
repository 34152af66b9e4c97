//! Conditions: expressions that are branched on, and answers that only a branch can give.

use bpftrace_sema::{Call, CastKind, CompareOp, Expr, ExprKind, LogicalOp, UnaryOp};
use cranelift_codegen::ir::{Block, Value, types};

use super::R;
use super::capture;
use super::func::FnCx;
use super::place::{is_by_address, scalar_type};

/// Where a comparison leads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verdict {
    /// When both are equal.
    pub(super) equal: Block,
    /// When they differ.
    pub(super) unequal: Block,
}

impl FnCx<'_, '_> {
    /// Branches on a condition, without making a bool of it first where branches decide it anyway.
    pub(super) fn condition(&mut self, cond: &Expr, then: Block, otherwise: Block) -> R<()> {
        match &cond.kind {
            ExprKind::Logical(op, lhs, rhs) => {
                let second = self.b.create_block();
                match op {
                    LogicalOp::And => self.condition(lhs, second, otherwise)?,
                    LogicalOp::Or => self.condition(lhs, then, second)?,
                }
                self.enter(second);
                self.condition(rhs, then, otherwise)
            }
            ExprKind::Unary(UnaryOp::Not, operand) => self.condition(operand, otherwise, then),
            ExprKind::Cast(CastKind::Truth, operand) if scalar_type(&operand.ty).is_some() => {
                self.condition(operand, then, otherwise)
            }
            ExprKind::Cast(CastKind::Int, operand) if is_decided(operand) => {
                self.condition(operand, then, otherwise)
            }
            ExprKind::Cond(cond, yes, no) => {
                let blocks = [self.b.create_block(), self.b.create_block()];
                self.condition(cond, blocks[0], blocks[1])?;
                for (block, value) in blocks.into_iter().zip([yes, no]) {
                    self.enter(block);
                    self.condition(value, then, otherwise)?;
                }
                Ok(())
            }
            ExprKind::Block(stmts, value) => {
                self.scoped(stmts, |cx| cx.condition(value, then, otherwise))
            }
            ExprKind::Compare(op @ (CompareOp::Eq | CompareOp::Ne), lhs, rhs) => {
                let (equal, unequal) = match op {
                    CompareOp::Eq => (then, otherwise),
                    _ => (otherwise, then),
                };
                if is_decided(lhs) && capture::constant(rhs) == Some(0) {
                    return self.condition(lhs, unequal, equal);
                }
                if scalar_type(&lhs.ty).is_some() && !is_by_address(&lhs.ty) {
                    return self.branch_on_value(cond, then, otherwise);
                }
                let outer = self.span;
                self.set_span(cond.span);
                self.compare_memory(lhs, rhs, Verdict { equal, unequal })?;
                self.set_span(outer);
                Ok(())
            }
            ExprKind::Call(Call::Strncmp(lhs, rhs, n)) => {
                let outer = self.span;
                self.set_span(cond.span);
                let verdict = Verdict {
                    equal: otherwise,
                    unequal: then,
                };
                self.strncmp(lhs, rhs, *n, verdict)?;
                self.set_span(outer);
                Ok(())
            }
            // Of an entry that is not there, the value is not looked at.
            ExprKind::MapGet { map, key } if self.is_plain_number(*map, &cond.ty)? => {
                let found = self.map_find(*map, key.as_deref())?;
                let there = self.b.create_block();
                self.brif(found, there, otherwise);
                self.enter(there);
                let value = self.map_number(found, &cond.ty)?;
                self.brif(value, then, otherwise);
                Ok(())
            }
            _ => self.branch_on_value(cond, then, otherwise),
        }
    }

    fn branch_on_value(&mut self, cond: &Expr, then: Block, otherwise: Block) -> R<()> {
        let value = self.scalar(cond)?;
        self.brif(value, then, otherwise);
        Ok(())
    }

    /// The answer that branches give, as a bool.
    pub(super) fn decided(
        &mut self,
        decide: impl FnOnce(&mut Self, Block, Block) -> R<()>,
    ) -> R<Value> {
        let (yes, no, after) = (
            self.b.create_block(),
            self.b.create_block(),
            self.b.create_block(),
        );
        let result = self.b.append_block_param(after, types::I8);
        decide(self, yes, no)?;
        for (block, answer) in [(no, 0), (yes, 1)] {
            self.enter(block);
            let answer = self.int(types::I8, answer);
            self.jump(after, &[answer]);
        }
        self.enter(after);
        Ok(result)
    }

    /// `&&` and `||` as a bool.
    pub(super) fn logical(&mut self, op: LogicalOp, lhs: &Expr, rhs: &Expr) -> R<Value> {
        let (second, known, after) = (
            self.b.create_block(),
            self.b.create_block(),
            self.b.create_block(),
        );
        let result = self.b.append_block_param(after, types::I8);
        let answer = match op {
            LogicalOp::And => {
                self.condition(lhs, second, known)?;
                0
            }
            LogicalOp::Or => {
                self.condition(lhs, known, second)?;
                1
            }
        };
        self.enter(second);
        let value = self.scalar(rhs)?;
        self.jump(after, &[value]);
        self.enter(known);
        let answer = self.int(types::I8, answer);
        self.jump(after, &[answer]);
        self.enter(after);
        Ok(result)
    }
}

/// Whether the value is 0 or 1 by way of a branch.
fn is_decided(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Logical(..) | ExprKind::Call(Call::Strncmp(..)) => true,
        ExprKind::Compare(_, lhs, _) => scalar_type(&lhs.ty).is_none() || is_by_address(&lhs.ty),
        ExprKind::Unary(UnaryOp::Not, operand) | ExprKind::Cast(CastKind::Int, operand) => {
            is_decided(operand)
        }
        _ => false,
    }
}
