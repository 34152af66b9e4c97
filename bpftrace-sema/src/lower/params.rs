//! Positional parameters. To the user they are literals, so what is made of them and of literals is one too:
//! the loader calculates it.

use bpftrace_ast::node::BinaryOp as Op;
use bpftrace_ast::source::Span;
use bpftrace_meta::{HostValue, ParamExpr, ParamKind, ParamStep};

use super::fold::arithmetic_op;
use super::{Lowerer, Val};
use crate::{ExprKind, IntTy, Ty};

/// What takes any signedness that it meets; negative values keep their bits.
const ANY_SIGN: (i128, i128) = (0, i64::MAX as i128);

impl Lowerer<'_, '_> {
    /// How many slots there are: those of operands that follow can be forgotten.
    pub(super) fn slots_so_far(&self) -> usize {
        self.s.tables.slots.len()
    }

    /// A value as an expression of literals and parameters, if it is one. Values that are literals alone
    /// are, too.
    fn param_steps(&self, val: &Val) -> Option<Vec<ParamStep>> {
        if val.agg.is_some() {
            return None;
        }
        if let Some(number) = val.as_literal() {
            return Some(vec![ParamStep::Number(number)]);
        }
        if let Some(text) = val.as_str_literal() {
            return Some(vec![ParamStep::Text(text.to_vec())]);
        }
        let ExprKind::Slot(idx) = val.expr.kind else {
            return None;
        };
        match &self.s.tables.slots.get(idx.0 as usize)?.value {
            HostValue::Param { index, kind } => Some(vec![match kind {
                ParamKind::Int => ParamStep::Param(*index),
                ParamKind::Str => ParamStep::ParamText(*index),
            }]),
            HostValue::ParamCount => Some(vec![ParamStep::Count]),
            HostValue::ParamFold { expr, .. } => Some(expr.0.clone()),
            _ => None,
        }
    }

    /// Whether parameters take part in a value that is known at start.
    pub(super) fn is_of_params(&self, val: &Val) -> bool {
        matches!(val.expr.kind, ExprKind::Slot(_)) && self.param_steps(val).is_some()
    }

    /// A binary operator of which the loader knows the operands. `before`: how many slots there were before
    /// the operands.
    pub(super) fn binary_at_start(
        &mut self,
        span: Span,
        op: Op,
        before: usize,
        left: &Val,
        right: &Val,
    ) -> Option<Val> {
        let op = arithmetic_op(op)?;
        let is_text = |val: &Val| matches!(val.ty(), Ty::Str(_));
        let kind = match is_text(left) || is_text(right) {
            true if op != bpftrace_meta::ArithmeticOp::Add => return None,
            true => ParamKind::Str,
            false => ParamKind::Int,
        };
        if !self.is_of_params(left) && !self.is_of_params(right) {
            return None;
        }
        let mut steps = self.param_steps(left)?;
        steps.extend(self.param_steps(right)?);
        steps.push(ParamStep::Binary(op));
        let signed = Ty::Int(IntTy::I64);
        let folded = self.fold_at_start(span, before, steps, kind, signed)?;
        Some(match kind {
            ParamKind::Int => folded.with_range(ANY_SIGN),
            ParamKind::Str => folded,
        })
    }

    /// `-x` and `~x` of what the loader knows.
    pub(super) fn unary_at_start(
        &mut self,
        span: Span,
        step: ParamStep,
        before: usize,
        operand: &Val,
    ) -> Option<Val> {
        if !self.is_of_params(operand) || matches!(operand.ty(), Ty::Str(_)) {
            return None;
        }
        let mut steps = self.param_steps(operand)?;
        let negated = step == ParamStep::Neg;
        steps.push(step);
        // As of literals, `~x` is unsigned.
        let ty = Ty::Int(if negated { IntTy::I64 } else { IntTy::U64 });
        let folded = self.fold_at_start(span, before, steps, ParamKind::Int, ty)?;
        Some(if negated {
            folded.with_range(ANY_SIGN)
        } else {
            folded
        })
    }

    /// The text of a number that the loader knows; of a text, its first `len` bytes.
    pub(super) fn text_at_start(
        &mut self,
        span: Span,
        before: usize,
        val: &Val,
        len: Option<&Val>,
    ) -> Option<Val> {
        let is_number = self.is_of_params(val) && !matches!(val.ty(), Ty::Str(_));
        if !is_number && !len.is_some_and(|len| self.is_of_params(len)) {
            return None;
        }
        let mut steps = self.param_steps(val)?;
        if let Some(len) = len {
            steps.extend(self.param_steps(len)?);
            steps.push(ParamStep::Cut);
        }
        self.fold_at_start(span, before, steps, ParamKind::Str, Ty::Void)
    }

    fn fold_at_start(
        &mut self,
        span: Span,
        before: usize,
        steps: Vec<ParamStep>,
        kind: ParamKind,
        int: Ty,
    ) -> Option<Val> {
        if steps.len() > ParamExpr::MAX_STEPS {
            return None;
        }
        self.s.tables.forget_slots(before);
        let ty = match kind {
            ParamKind::Int => int,
            ParamKind::Str => Ty::Str(self.s.settings.max_strlen),
        };
        let expr = ParamExpr(steps);
        Some(self.slot(HostValue::ParamFold { expr, kind }, ty, span))
    }
}
