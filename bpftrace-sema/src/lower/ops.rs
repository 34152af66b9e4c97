//! Operators.

use bpftrace_ast::node::{self, BinaryOp as Op, ExprKind as Ast, UnaryOp as AstUnary};
use bpftrace_ast::source::Span;
use bpftrace_meta::{ParamKind, ParamStep};
use bpftrace_notation::negate_literal;

use super::expr::Operand;
use super::fold::{Folded, arithmetic_op, fold_bools, fold_ints, fold_strings};
use super::{Lowerer, Val};
use crate::join::{self, join_ints};
use crate::{CompareOp, Expr, ExprKind, IntTy, LogicalOp, Mem, Ty, UnaryOp, codes};

impl Lowerer<'_, '_> {
    /// `before`: how many slots there were before the operands.
    pub(super) fn binary(
        &mut self,
        span: Span,
        op: Op,
        op_span: Span,
        before: usize,
        left: Operand<'_>,
        right: &node::Expr,
    ) -> Val {
        if op.is_logical() {
            let left = match left {
                Operand::Tree(tree) => self.expr(tree),
                Operand::Done(val) => val,
            };
            let right = self.expr(right);
            return self.logical(span, op, op_span, left, right);
        }
        // Tuples of unequal length differ, whatever is in them.
        if let (Op::Eq | Op::Ne, Operand::Tree(tree)) = (op, &left)
            && let (Ast::Tuple(a), Ast::Tuple(b)) = (&tree.kind, &right.kind)
            && (a.len() != b.len() || a.is_empty())
        {
            return Val::boolean(span, (a.len() == b.len()) == (op == Op::Eq));
        }
        // A positional parameter is what it is compared with.
        let (left, right) = match left {
            Operand::Tree(left) if op.is_comparison() && is_positional(left) => {
                let right = self.expr(right);
                let left = self.operand_like(left, &right);
                (left, right)
            }
            left => {
                let left = match left {
                    Operand::Tree(left) => self.expr(left),
                    Operand::Done(left) => left,
                };
                let right = match op.is_comparison() {
                    true => self.operand_like(right, &left),
                    false => self.expr(right),
                };
                (left, right)
            }
        };
        if !left.known || !right.known {
            return Val::unknown(span);
        }
        if op.is_comparison() {
            self.compare(span, op, op_span, left, right)
        } else {
            self.arithmetic(span, op, op_span, before, left, right)
        }
    }

    /// An operand; a positional parameter is a string where the other one is.
    fn operand_like(&mut self, tree: &node::Expr, other: &Val) -> Val {
        match (&tree.kind, other.ty()) {
            (Ast::PositionalParam(n), Ty::Str(_) | Ty::ProbeName) if other.known => {
                self.positional(tree.span, *n, Some(ParamKind::Str))
            }
            _ => self.expr(tree),
        }
    }

    /// An expression as a condition.
    pub(super) fn condition(&mut self, tree: &node::Expr) -> Expr {
        let val = self.expr(tree);
        self.truth(val)
    }

    /// A value as a condition, of type `Bool`.
    pub(super) fn truth(&mut self, val: Val) -> Expr {
        let span = val.span();
        if !val.known {
            return Val::boolean(span, false).expr;
        }
        if val.agg.is_none() {
            match val.ty() {
                Ty::Bool => return val.expr,
                Ty::Int(_) | Ty::Enum(..) | Ty::Ptr(..) => {
                    if let Some(value) = val.as_literal() {
                        return Val::boolean(span, value != 0).expr;
                    }
                    return self.cast_to(val.expr, Ty::Bool, crate::CastKind::Truth);
                }
                Ty::Str(_) if let Some(text) = val.as_str_literal() => {
                    return Val::boolean(span, !text.is_empty()).expr;
                }
                _ => {}
            }
        }
        let spelled = self.spell_val(&val);
        self.error(
            codes::CONDITION,
            span,
            format!("Invalid condition: {spelled}"),
        );
        Val::boolean(span, false).expr
    }

    fn logical(&mut self, span: Span, op: Op, op_span: Span, left: Val, right: Val) -> Val {
        if !left.known || !right.known {
            return Val::unknown(span);
        }
        if let Some(folded) = fold(op, &left, &right) {
            return self.folded(span, folded);
        }
        let text = |val: &Val| val.as_str_literal().map(|text| !text.is_empty());
        let truth = |val: &Val| text(val).or_else(|| val.as_bool_literal());
        if let (Some(a), Some(b)) = (truth(&left), truth(&right)) {
            return self.folded(span, fold_bools(op, a, b));
        }
        let is_ptr = |val: &Val| matches!(val.ty(), Ty::Ptr(..));
        let has_truth = |val: &Val| is_ptr(val) || self.as_int(val).is_some();
        if !has_truth(&left) || !has_truth(&right) {
            let types = &self.s.imported.table;
            let alike = join::join(left.ty(), right.ty(), types).is_some();
            return if alike || is_ptr(&left) || is_ptr(&right) {
                self.no_operator(span, op, op_span, &left, &right)
            } else {
                self.mismatch(span, op, op_span, &left, &right)
            };
        }
        let int = |val: Val| Val { agg: None, ..val };
        let (left, right) = (self.truth(int(left)), self.truth(int(right)));
        if let (ExprKind::Const(a), ExprKind::Const(b)) = (&left.kind, &right.kind) {
            return self.folded(span, fold_bools(op, *a != 0, *b != 0));
        }
        let op = if op == Op::LogicalAnd {
            LogicalOp::And
        } else {
            LogicalOp::Or
        };
        Val::new(
            Ty::Bool,
            span,
            ExprKind::Logical(op, Box::new(left), Box::new(right)),
        )
    }

    pub(super) fn unary(&mut self, span: Span, op: AstUnary, operand: &node::Expr) -> Val {
        let before = self.slots_so_far();
        let val = self.expr(operand);
        if !val.known {
            return Val::unknown(span);
        }
        match op {
            AstUnary::Deref => self.deref(span, val),
            AstUnary::Not => {
                if self.as_int(&val).is_none() || val.agg.is_some() {
                    return self.no_unary(span, op, &val);
                }
                let cond = self.truth(val);
                if let ExprKind::Const(bits) = cond.kind {
                    return Val::boolean(span, bits == 0);
                }
                Val::new(
                    Ty::Bool,
                    span,
                    ExprKind::Unary(UnaryOp::Not, Box::new(cond)),
                )
            }
            AstUnary::Neg | AstUnary::BitNot => {
                if let Some(value) = val.as_literal() {
                    return match op {
                        AstUnary::Neg => match negate_literal(value) {
                            Some(negated) => Val::literal(span, negated),
                            None => {
                                self.error(codes::OVERFLOW, span, "negative value will underflow");
                                Val::unknown(span)
                            }
                        },
                        // Of a literal it is unsigned.
                        _ => Val::new(Ty::Int(IntTy::U64), span, ExprKind::Const(!(value as u64))),
                    };
                }
                let step = match op {
                    AstUnary::Neg => ParamStep::Neg,
                    _ => ParamStep::BitNot,
                };
                if let Some(val) = self.unary_at_start(span, step, before, &val) {
                    return val;
                }
                let int = self
                    .as_int(&val)
                    .filter(|_| *val.ty() != Ty::Bool && val.agg.is_none());
                let Some(int) = int else {
                    return self.no_unary(span, op, &val);
                };
                let wide = IntTy {
                    size: 8,
                    signed: int.signed,
                };
                let space = val.space;
                let inner = self.int_of(val, wide);
                let op = if op == AstUnary::Neg {
                    UnaryOp::Neg
                } else {
                    UnaryOp::BitNot
                };
                let wrap = |ty, kind| Val::new(Ty::Int(ty), span, kind).with_space(space);
                let result = wrap(wide, ExprKind::Unary(op, Box::new(inner)));
                if int.signed || int.size == 8 {
                    return result;
                }
                // Unsigned numbers keep their width, but not their type.
                let narrow = self.int_of(result, int);
                let widened = self.int_of(wrap(int, narrow.kind), wide);
                wrap(wide, widened.kind)
            }
        }
    }

    fn no_unary(&mut self, span: Span, op: AstUnary, val: &Val) -> Val {
        let sign = op.as_str();
        let spelled = self.spell_val(val);
        self.error(
            codes::OPERATOR,
            span,
            format!("The {sign} operator can not be used on expressions of type '{spelled}'"),
        );
        Val::unknown(span)
    }

    fn no_operator(&mut self, span: Span, op: Op, op_span: Span, left: &Val, right: &Val) -> Val {
        let (a, b) = (self.spell_val(left), self.spell_val(right));
        self.error(
            codes::OPERATOR,
            op_span,
            format!(
                "The {} operator can not be used on expressions of types {a}, {b}",
                op.as_str()
            ),
        );
        Val::unknown(span)
    }

    /// The integer type of what can be calculated with.
    pub(super) fn as_int(&self, val: &Val) -> Option<IntTy> {
        match val.ty() {
            Ty::Int(int) | Ty::Enum(_, int) => Some(*int),
            Ty::Bool => Some(IntTy::U8),
            _ => None,
        }
    }

    fn folded(&mut self, span: Span, folded: Folded) -> Val {
        match folded {
            Folded::Int(value) => Val::literal(span, value),
            Folded::Bool(value) => Val::boolean(span, value),
            Folded::Overflow => self.overflow(span),
        }
    }

    fn overflow(&mut self, span: Span) -> Val {
        self.error(
            codes::OVERFLOW,
            span,
            "unable to fold literals due to overflow or underflow",
        );
        Val::unknown(span)
    }

    fn arithmetic(
        &mut self,
        span: Span,
        op: Op,
        op_span: Span,
        before: usize,
        left: Val,
        right: Val,
    ) -> Val {
        if let Some(folded) = fold(op, &left, &right) {
            return self.folded(span, folded);
        }
        if let Some(val) = self.binary_at_start(span, op, before, &left, &right) {
            return val;
        }
        if op == Op::Add {
            if let (Some(a), Some(b)) = (left.as_str_literal(), right.as_str_literal()) {
                let joined = [a, b].concat();
                return Val::string(span, joined);
            }
            // What is behind the first characters of a literal.
            let (text, skip) = match left.as_str_literal() {
                Some(text) => (Some(text), right.as_literal()),
                None => (right.as_str_literal(), left.as_literal()),
            };
            if let (Some(text), Some(skip)) = (text, skip.filter(|skip| *skip >= 0)) {
                if skip >= text.len() as i128 {
                    self.warn(
                        codes::ARGUMENT_IGNORED,
                        span,
                        "literal string will always be empty",
                    );
                }
                let skip = usize::try_from(skip).unwrap_or(usize::MAX).min(text.len());
                return Val::string(span, text[skip..].to_vec());
            }
        }
        if matches!(op, Op::Add | Op::Sub) {
            match (left.ty(), right.ty()) {
                (Ty::Ptr(..), _) if self.as_int(&right).is_some() => {
                    return self.pointer_add(span, left, right, op == Op::Sub);
                }
                (_, Ty::Ptr(..)) if op == Op::Add && self.as_int(&left).is_some() => {
                    return self.pointer_add(span, right, left, false);
                }
                _ => {}
            }
        }
        let (Some(operator), Some(a), Some(b)) =
            (arithmetic_op(op), self.as_int(&left), self.as_int(&right))
        else {
            return self.no_operator(span, op, op_span, &left, &right);
        };
        let (a_range, b_range) = (left.range, right.range);
        let signed = match op {
            Op::Sub => true,
            Op::Shl | Op::Shr => a.signed && !(a_range.is_some() && b_range.is_none() && !b.signed),
            _ => operands_signed(a, a_range, b, b_range),
        };
        // Literals have the signedness of what they meet. Operands of one type are taken to be meant.
        let adopts = |range: Option<join::Range>| range.is_some_and(|(min, _)| min >= 0);
        let (a_met, b_met) = match (a_range.is_some(), b_range.is_some()) {
            (true, false) if adopts(a_range) => (
                IntTy {
                    signed: b.signed,
                    ..a
                },
                b,
            ),
            (false, true) if adopts(b_range) => (
                a,
                IntTy {
                    signed: a.signed,
                    ..b
                },
            ),
            _ => (a, b),
        };
        if matches!(op, Op::Div | Op::Mod) && a_met != b_met && (a_met.signed || b_met.signed) {
            self.warn(
                codes::SIGNED_DIVISION,
                span,
                format!(
                    "signed operands for '{}' can lead to undefined behavior (cast to unsigned to \
                     silence warning)",
                    op.as_str()
                ),
            );
        }
        let wide = if signed { IntTy::I64 } else { IntTy::U64 };
        // Deliberately not as upstream: a difference of two unsigned values comes without a warning that
        // they are cast. Several of upstream's own tools, which calculate `nsecs - @start[tid]`, would print
        // it at every start.
        let space = match (left.space, right.space) {
            (Mem::Unknown, space) | (space, Mem::Unknown) => space,
            (a, b) => join::join_mem(a, b),
        };
        let (left, right) = if a.signed == b.signed || matches!(op, Op::Shl | Op::Shr) {
            (self.int_of(left, wide), self.int_of(right, wide))
        } else {
            (
                self.int_of_warned(left, wide),
                self.int_of_warned(right, wide),
            )
        };
        let kind = ExprKind::Binary(operator, Box::new(left), Box::new(right));
        Val::new(Ty::Int(wide), span, kind).with_space(space)
    }

    fn pointer_add(&mut self, span: Span, ptr: Val, index: Val, negative: bool) -> Val {
        let signed = self.as_int(&index).is_some_and(|int| int.signed);
        let index = self.int_of(index, if signed { IntTy::I64 } else { IntTy::U64 });
        // The verifier follows no arithmetic on pointers with types.
        let ty = match ptr.ty() {
            Ty::Ptr(pointee, mem) => Ty::Ptr(pointee.clone(), untrusted(*mem)),
            other => other.clone(),
        };
        if let Ty::Ptr(pointee, _) = &ty {
            self.complete_if_by_address(&pointee.clone());
        }
        let kind = ExprKind::PtrAdd {
            ptr: Box::new(self.reinterpret(ptr.expr, &ty)),
            index: Box::new(index),
            negative,
        };
        Val::new(ty, span, kind)
    }

    fn compare(&mut self, span: Span, op: Op, op_span: Span, left: Val, right: Val) -> Val {
        if let Some(folded) = fold(op, &left, &right) {
            return self.folded(span, folded);
        }
        if let (Some(a), Some(b)) = (left.as_str_literal(), right.as_str_literal())
            && let Some(value) = fold_strings(op, a, b)
        {
            return Val::boolean(span, value);
        }
        let equality = matches!(op, Op::Eq | Op::Ne);
        let done = |left: Expr, right: Expr| {
            let kind = ExprKind::Compare(compare_op(op), Box::new(left), Box::new(right));
            Val::new(Ty::Bool, span, kind)
        };
        match (left.ty().clone(), right.ty().clone()) {
            (Ty::Bool, Ty::Bool) if equality => done(left.expr, right.expr),
            (Ty::Int(_) | Ty::Enum(..) | Ty::Bool, Ty::Int(_) | Ty::Enum(..) | Ty::Bool) => {
                let (Some(a), Some(b)) = (self.as_int(&left), self.as_int(&right)) else {
                    return Val::unknown(span);
                };
                let signed = operands_signed(a, left.range, b, right.range);
                let wide = if signed { IntTy::I64 } else { IntTy::U64 };
                let left = self.int_of_warned(left, wide);
                let right = self.int_of_warned(right, wide);
                done(left, right)
            }
            (Ty::Ptr(a, _), Ty::Ptr(b, _)) => {
                let types = &self.s.imported.table;
                if !join::same_pointee(&a, &b, types) && *a != Ty::Void && *b != Ty::Void {
                    let (a, b) = (self.spell(&a), self.spell(&b));
                    self.s.diags.push(
                        bpftrace_ast::diag::Diagnostic::warning(
                            codes::POINTER_COMPARISON,
                            op_span,
                            format!("comparison of distinct pointer types: {a}, {b}"),
                        )
                        .with_context(left.span(), format!("left ({a})"))
                        .with_context(right.span(), format!("right ({b})")),
                    );
                }
                let right = self.reinterpret(right.expr, left.ty());
                done(left.expr, right)
            }
            (Ty::Ptr(..), Ty::Int(_) | Ty::Enum(..)) | (Ty::Int(_) | Ty::Enum(..), Ty::Ptr(..)) => {
                let left = self.int_of(left, IntTy::U64);
                let right = self.int_of(right, IntTy::U64);
                done(left, right)
            }
            // A bare pointer or number may be shorter than what it is compared with.
            (Ty::Str(_) | Ty::ProbeName, Ty::Str(_) | Ty::ProbeName) if equality => {
                let left = self.text_of(left.expr);
                let right = self.text_of(right.expr);
                done(left, right)
            }
            (Ty::Tuple(_), Ty::Tuple(_))
            | (Ty::Record(_), Ty::Record(_))
            | (Ty::Buf(_), Ty::Buf(_))
                if equality =>
            {
                if let Some(equal) = constants_equal(&left.expr, &right.expr) {
                    return Val::boolean(span, equal == (op == Op::Eq));
                }
                match join::join_with_literals(
                    (left.ty(), &left.literals()),
                    (right.ty(), &right.literals()),
                    &self.s.imported.table,
                ) {
                    Some((ty, _)) => {
                        let a = self.compared_elements(left, &ty);
                        let b = self.compared_elements(right, &ty);
                        done(a, b)
                    }
                    // Literals that are not alike are not equal.
                    None if is_constant(&left.expr) && is_constant(&right.expr) => {
                        Val::boolean(span, op == Op::Ne)
                    }
                    None => self.mismatch(span, op, op_span, &left, &right),
                }
            }
            (Ty::Array(a, n, _), Ty::Array(b, m, _)) if equality && n == m && a == b => {
                done(left.expr, right.expr)
            }
            (a, b) if equality && a == b && is_bytes_comparable(&a) => done(left.expr, right.expr),
            (Ty::Array(_, n, _), Ty::Array(_, m, _)) => {
                let message = if equality && n != m {
                    "Only arrays of same size support comparison operators.".to_owned()
                } else if equality {
                    "Only arrays of same sized integer support comparison operators.".to_owned()
                } else {
                    format!("The {} operator cannot be used on arrays.", op.as_str())
                };
                self.not_comparable(span, op_span, message, &left, &right)
            }
            (a, b) if !equality && std::mem::discriminant(&a) == std::mem::discriminant(&b) => {
                let (a, b) = (self.spell_val(&left), self.spell_val(&right));
                let message = format!(
                    "The {} operator can not be used on expressions of types {a}, {b}",
                    op.as_str()
                );
                self.error(codes::TYPE_MISMATCH, op_span, message);
                Val::unknown(span)
            }
            _ => self.mismatch(span, op, op_span, &left, &right),
        }
    }

    /// A tuple, record or buffer as what it is compared as. Integers that the type does not hold keep their bits.
    fn compared_elements(&mut self, val: Val, ty: &Ty) -> Expr {
        let expr = val.expr.clone();
        match self.coerce(val, ty) {
            Some(expr) => expr,
            None => self.cast_to(expr, ty.clone(), crate::CastKind::Elements),
        }
    }

    fn mismatch(&mut self, span: Span, op: Op, op_span: Span, left: &Val, right: &Val) -> Val {
        let (a, b) = (self.spell_val(left), self.spell_val(right));
        let message = format!(
            "Type mismatch for '{}': comparing {a} with {b}",
            op.as_str()
        );
        self.not_comparable(span, op_span, message, left, right)
    }

    fn not_comparable(
        &mut self,
        span: Span,
        op_span: Span,
        message: String,
        left: &Val,
        right: &Val,
    ) -> Val {
        let (a, b) = (self.spell_val(left), self.spell_val(right));
        self.s.diags.push(
            bpftrace_ast::diag::Diagnostic::error(codes::TYPE_MISMATCH, op_span, message)
                .with_context(left.span(), format!("left ({a})"))
                .with_context(right.span(), format!("right ({b})")),
        );
        Val::unknown(span)
    }

    /// A string; the name of a probe is turned into one.
    pub(super) fn text_of(&mut self, expr: Expr) -> Expr {
        match expr.ty {
            Ty::ProbeName => self.cast_to(
                expr,
                Ty::Str(join::PROBE_NAME_SIZE),
                crate::CastKind::ProbeNameToStr,
            ),
            _ => expr,
        }
    }
}

fn is_positional(tree: &node::Expr) -> bool {
    matches!(tree.kind, Ast::PositionalParam(_))
}

/// What two integer literals, or two of type bool, come to.
fn fold(op: Op, left: &Val, right: &Val) -> Option<Folded> {
    if let (Some(a), Some(b)) = (left.as_literal(), right.as_literal()) {
        return Some(fold_ints(op, a, b));
    }
    let (a, b) = (left.as_bool_literal()?, right.as_bool_literal()?);
    Some(fold_bools(op, a, b))
}

/// Whether an operation on two integers is signed, after literals took the other side's signedness.
fn operands_signed(
    a: IntTy,
    a_range: Option<join::Range>,
    b: IntTy,
    b_range: Option<join::Range>,
) -> bool {
    // As wide as they are calculated with.
    let wide = |int: IntTy| IntTy { size: 8, ..int };
    match (a_range, b_range) {
        (None, None) => a.signed || b.signed,
        _ => join_ints(wide(a), a_range, wide(b), b_range).signed,
    }
}

/// Whether two expressions of literals alone are the same, if they are of one shape.
fn constants_equal(left: &Expr, right: &Expr) -> Option<bool> {
    match (&left.kind, &right.kind) {
        (ExprKind::Const(a), ExprKind::Const(b)) => match (&left.ty, &right.ty) {
            (Ty::Int(x), Ty::Int(y)) => {
                let same_range = x.signed == y.signed || (a | b) >> 63 == 0;
                Some(same_range && a == b)
            }
            (Ty::Bool, Ty::Bool) => Some(a == b),
            _ => None,
        },
        (ExprKind::Str(a), ExprKind::Str(b)) => Some(a == b),
        (ExprKind::Tuple(a), ExprKind::Tuple(b)) => {
            let same_names = match (&left.ty, &right.ty) {
                (Ty::Record(a), Ty::Record(b)) => a
                    .iter()
                    .map(|(name, _)| name)
                    .eq(b.iter().map(|(name, _)| name)),
                (Ty::Tuple(a), Ty::Tuple(b)) => a.len() == b.len(),
                _ => false,
            };
            if !same_names {
                return None;
            }
            let mut equal = true;
            for (a, b) in a.iter().zip(b) {
                equal &= constants_equal(a, b)?;
            }
            Some(equal)
        }
        _ => None,
    }
}

/// Whether an expression is made of literals alone.
fn is_constant(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Const(_) | ExprKind::Str(_) => true,
        ExprKind::Tuple(elements) => elements.iter().all(is_constant),
        _ => false,
    }
}

/// Pointers lose what the verifier knows about them.
pub(super) fn untrusted(mem: Mem) -> Mem {
    if mem == Mem::Btf { Mem::Kernel } else { mem }
}

fn is_bytes_comparable(ty: &Ty) -> bool {
    matches!(
        ty,
        Ty::KSym
            | Ty::USym
            | Ty::Inet
            | Ty::Username
            | Ty::MacAddr
            | Ty::Timestamp
            | Ty::CgroupPath
            | Ty::KStack(_)
            | Ty::UStack(_)
    )
}

fn compare_op(op: Op) -> CompareOp {
    match op {
        Op::Ne => CompareOp::Ne,
        Op::Lt => CompareOp::Lt,
        Op::Le => CompareOp::Le,
        Op::Gt => CompareOp::Gt,
        Op::Ge => CompareOp::Ge,
        _ => CompareOp::Eq,
    }
}
