//! Arithmetic on literals: signed, with overflow an error, unlike the same arithmetic at run time.

use bpftrace_ast::node::BinaryOp;

/// What a literal expression comes to.
pub(super) enum Folded {
    Int(i128),
    Bool(bool),
    /// Overflow, underflow, or division by zero.
    Overflow,
}

/// Applies an operator to two integer literals. What is not negative is unsigned; beside a negative one it
/// has to fit `int64`.
pub(super) fn fold_ints(op: BinaryOp, a: i128, b: i128) -> Folded {
    use BinaryOp as B;
    let max = i128::from(i64::MAX);
    let (unsigned, signs_differ) = (a >= 0 && b >= 0, (a < 0) != (b < 0));
    if signs_differ && (a > max || b > max) {
        return Folded::Overflow;
    }
    let int = |value: Option<i128>| match value {
        Some(value) if in_range(value) && !(signs_differ && value > max) => Folded::Int(value),
        _ => Folded::Overflow,
    };
    // Bits of 64-bit values.
    let bits = |value: i128| value as u64;
    let from_bits = |value: u64| {
        Folded::Int(if unsigned {
            i128::from(value)
        } else {
            i128::from(value as i64)
        })
    };
    match op {
        B::Add => int(a.checked_add(b)),
        B::Sub => int(a.checked_sub(b)),
        B::Mul => int(a.checked_mul(b)),
        B::Div => int(a.checked_div(b)),
        B::Mod => int(a.checked_rem(b)),
        B::BitAnd => from_bits(bits(a) & bits(b)),
        B::BitOr => from_bits(bits(a) | bits(b)),
        B::BitXor => from_bits(bits(a) ^ bits(b)),
        // Bits are lost as at run time.
        B::Shl if (0..64).contains(&b) => from_bits(bits(a) << b),
        B::Shr if (0..64).contains(&b) => Folded::Int(a >> b),
        B::Shl | B::Shr => Folded::Overflow,
        B::Eq => Folded::Bool(a == b),
        B::Ne => Folded::Bool(a != b),
        B::Lt => Folded::Bool(a < b),
        B::Le => Folded::Bool(a <= b),
        B::Gt => Folded::Bool(a > b),
        B::Ge => Folded::Bool(a >= b),
        B::LogicalAnd => Folded::Bool(a != 0 && b != 0),
        B::LogicalOr => Folded::Bool(a != 0 || b != 0),
    }
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

/// Whether a value fits `int64` or `uint64`.
pub(super) fn in_range(value: i128) -> bool {
    (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&value)
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

    fn fold(op: BinaryOp, a: i128, b: i128) -> Option<i128> {
        match fold_ints(op, a, b) {
            Folded::Int(value) => Some(value),
            Folded::Bool(value) => Some(i128::from(value)),
            Folded::Overflow => None,
        }
    }

    #[test]
    fn division_of_literals_is_signed() {
        assert_eq!(fold(BinaryOp::Div, -7, 2), Some(-3));
        assert_eq!(fold(BinaryOp::Mod, -7, 3), Some(-1));
        assert_eq!(fold(BinaryOp::Shr, -8, 1), Some(-4));
    }

    #[test]
    fn what_has_no_result_is_an_overflow() {
        assert_eq!(fold(BinaryOp::Div, 5, 0), None);
        assert_eq!(fold(BinaryOp::Mul, i128::from(u64::MAX), 2), None);
        assert_eq!(fold(BinaryOp::Sub, i128::from(i64::MIN), 1), None);
        assert_eq!(fold(BinaryOp::Shl, 1, 64), None);
        assert_eq!(fold(BinaryOp::Add, i128::from(i64::MAX), 1), Some(1 << 63));
    }

    #[test]
    fn beside_a_negative_literal_all_has_to_fit_int64() {
        let (max, high) = (i128::from(i64::MAX), 1i128 << 63);
        assert_eq!(fold(BinaryOp::Add, high, -1), None);
        assert_eq!(fold(BinaryOp::Sub, max, -1), None);
        assert_eq!(fold(BinaryOp::BitAnd, -1, i128::from(u64::MAX)), None);
        assert_eq!(fold(BinaryOp::Lt, -1, high), None);
        assert_eq!(fold(BinaryOp::LogicalOr, -1, high), None);
        assert_eq!(fold(BinaryOp::Add, max, -1), Some(max - 1));
        assert_eq!(fold(BinaryOp::Mul, -1, -high), Some(high));
        assert_eq!(fold(BinaryOp::BitAnd, -1, max), Some(max));
    }

    #[test]
    fn shifts_lose_bits() {
        assert_eq!(fold(BinaryOp::Shl, i128::from(i64::MAX), 63), Some(1 << 63));
        assert_eq!(fold(BinaryOp::Shl, -3, 63), Some(i128::from(i64::MIN)));
    }
}
