//! What operators on literals come to.

use bpftrace_ast::node::BinaryOp;
use bpftrace_meta::ArithmeticOp;
use bpftrace_notation::fold_literals;

/// What a literal expression comes to.
pub(super) enum Folded {
    Int(i128),
    Bool(bool),
    /// Overflow, underflow, or division by zero.
    Overflow,
}

/// The operators that give a number.
pub(super) fn arithmetic_op(op: BinaryOp) -> Option<ArithmeticOp> {
    use ArithmeticOp as L;
    use BinaryOp as B;
    Some(match op {
        B::Add => L::Add,
        B::Sub => L::Sub,
        B::Mul => L::Mul,
        B::Div => L::Div,
        B::Mod => L::Mod,
        B::BitAnd => L::BitAnd,
        B::BitOr => L::BitOr,
        B::BitXor => L::BitXor,
        B::Shl => L::Shl,
        B::Shr => L::Shr,
        _ => return None,
    })
}

/// Applies an operator to two integer literals.
pub(super) fn fold_ints(op: BinaryOp, a: i128, b: i128) -> Folded {
    use BinaryOp as B;
    if let Some(op) = arithmetic_op(op) {
        return fold_literals(op, a, b).map_or(Folded::Overflow, Folded::Int);
    }
    // Beside a negative one, the other has to fit `int64`.
    let max = i128::from(i64::MAX);
    if (a < 0) != (b < 0) && (a > max || b > max) {
        return Folded::Overflow;
    }
    Folded::Bool(match op {
        B::Ne => a != b,
        B::Lt => a < b,
        B::Le => a <= b,
        B::Gt => a > b,
        B::Ge => a >= b,
        B::LogicalAnd => a != 0 && b != 0,
        B::LogicalOr => a != 0 || b != 0,
        _ => a == b,
    })
}

/// Applies an operator to two literals of type bool, which gives one again.
pub(super) fn fold_bools(op: BinaryOp, a: bool, b: bool) -> Folded {
    use BinaryOp as B;
    match op {
        B::Add | B::BitOr | B::LogicalOr => Folded::Bool(a || b),
        B::Sub | B::BitXor | B::Ne => Folded::Bool(a != b),
        B::Mul | B::BitAnd | B::LogicalAnd => Folded::Bool(a && b),
        B::Div | B::Mod if !b => Folded::Overflow,
        B::Div => Folded::Bool(a),
        B::Mod => Folded::Bool(false),
        B::Shl | B::Lt => Folded::Bool(!a && b),
        B::Shr | B::Gt => Folded::Bool(a && !b),
        B::Eq => Folded::Bool(a == b),
        B::Le => Folded::Bool(a <= b),
        B::Ge => Folded::Bool(a >= b),
    }
}

/// Compares two string literals up to their first NUL, in the order of their bytes.
pub(super) fn fold_strings(op: BinaryOp, a: &[u8], b: &[u8]) -> Option<bool> {
    use BinaryOp as B;
    Some(match op {
        B::Eq => a == b,
        B::Ne => a != b,
        B::Lt => a < b,
        B::Le => a <= b,
        B::Gt => a > b,
        B::Ge => a >= b,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beside_a_negative_literal_all_has_to_fit_int64() {
        for op in [BinaryOp::Lt, BinaryOp::LogicalOr, BinaryOp::Add] {
            assert!(matches!(fold_ints(op, -1, 1 << 63), Folded::Overflow));
        }
    }
}
