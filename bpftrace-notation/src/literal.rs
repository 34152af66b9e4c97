//! Arithmetic on literals: signed, with overflow an error, unlike the same arithmetic at run time. The
//! compiler folds literals with it, the loader what stands beside positional parameters.

use bpftrace_meta::ArithmeticOp as Op;

/// Applies an operator to two integer literals. What is not negative is unsigned; beside a negative one it
/// has to fit `int64`. `None`: overflow, underflow, or division by zero.
#[must_use]
pub fn fold_literals(op: Op, a: i128, b: i128) -> Option<i128> {
    let max = i128::from(i64::MAX);
    let (unsigned, signs_differ) = (a >= 0 && b >= 0, (a < 0) != (b < 0));
    if signs_differ && (a > max || b > max) {
        return None;
    }
    let int = |value: Option<i128>| value.filter(|v| in_range(*v) && !(signs_differ && *v > max));
    // Bits of 64-bit values.
    let bits = |value: i128| value as u64;
    let from_bits = |value: u64| {
        Some(if unsigned {
            i128::from(value)
        } else {
            i128::from(value as i64)
        })
    };
    match op {
        Op::Add => int(a.checked_add(b)),
        Op::Sub => int(a.checked_sub(b)),
        Op::Mul => int(a.checked_mul(b)),
        Op::Div => int(a.checked_div(b)),
        Op::Mod => int(a.checked_rem(b)),
        Op::BitAnd => from_bits(bits(a) & bits(b)),
        Op::BitOr => from_bits(bits(a) | bits(b)),
        Op::BitXor => from_bits(bits(a) ^ bits(b)),
        // Bits are lost as at run time.
        Op::Shl if (0..64).contains(&b) => from_bits(bits(a) << b),
        Op::Shr if (0..64).contains(&b) => Some(a >> b),
        Op::Shl | Op::Shr => None,
    }
}

/// `-x` of an integer literal; `None`: it does not fit.
#[must_use]
pub fn negate_literal(value: i128) -> Option<i128> {
    value
        .checked_neg()
        .filter(|negated| in_range(*negated) && value <= 1 << 63)
}

/// Whether a value fits `int64` or `uint64`.
fn in_range(value: i128) -> bool {
    (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&value)
}

#[cfg(test)]
mod tests {
    use super::*;

    use fold_literals as fold;

    #[test]
    fn division_of_literals_is_signed() {
        assert_eq!(fold(Op::Div, -7, 2), Some(-3));
        assert_eq!(fold(Op::Mod, -7, 3), Some(-1));
        assert_eq!(fold(Op::Shr, -8, 1), Some(-4));
    }

    #[test]
    fn what_has_no_result_is_an_overflow() {
        assert_eq!(fold(Op::Div, 5, 0), None);
        assert_eq!(fold(Op::Mul, i128::from(u64::MAX), 2), None);
        assert_eq!(fold(Op::Sub, i128::from(i64::MIN), 1), None);
        assert_eq!(fold(Op::Shl, 1, 64), None);
        assert_eq!(fold(Op::Add, i128::from(i64::MAX), 1), Some(1 << 63));
        assert_eq!(negate_literal(1 << 63), Some(i128::from(i64::MIN)));
        assert_eq!(negate_literal((1 << 63) + 1), None);
        assert_eq!(negate_literal(i128::MIN), None);
    }

    #[test]
    fn beside_a_negative_literal_all_has_to_fit_int64() {
        let (max, high) = (i128::from(i64::MAX), 1i128 << 63);
        assert_eq!(fold(Op::Add, high, -1), None);
        assert_eq!(fold(Op::Sub, max, -1), None);
        assert_eq!(fold(Op::BitAnd, -1, i128::from(u64::MAX)), None);
        assert_eq!(fold(Op::Add, max, -1), Some(max - 1));
        assert_eq!(fold(Op::Mul, -1, -high), Some(high));
        assert_eq!(fold(Op::BitAnd, -1, max), Some(max));
    }

    #[test]
    fn shifts_lose_bits() {
        assert_eq!(fold(Op::Shl, i128::from(i64::MAX), 63), Some(1 << 63));
        assert_eq!(fold(Op::Shl, -3, 63), Some(i128::from(i64::MIN)));
    }
}
