//! Integers as scripts, attach points and command lines spell them.

use std::fmt;

/// Why a text is not an integer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IntegerError {
    /// No digits at all.
    Invalid(String),
    /// Something follows the digits that is not a suffix.
    TrailingBytes(String),
    /// `NeM` where N is not one digit from 1 to 9.
    Coefficient(String),
    /// The value does not fit.
    Overflow {
        /// The largest value that the suffix allows.
        max: u64,
        /// The text.
        text: String,
    },
}

impl fmt::Display for IntegerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IntegerError::Invalid(text) => write!(f, "invalid integer: {text}"),
            IntegerError::TrailingBytes(text) => write!(f, "invalid trailing bytes: {text}"),
            IntegerError::Coefficient(text) => {
                write!(
                    f,
                    "coefficient part of scientific literal must be 1-9: {text}"
                )
            }
            IntegerError::Overflow { max, text } => {
                write!(f, "overflow error, maximum value is {max}: {text}")
            }
        }
    }
}

impl std::error::Error for IntegerError {}

/// Suffixes with the largest value that a literal may have with them, and the factor they stand for.
const SUFFIXES: &[(&str, u64, u64)] = &[
    ("", u64::MAX, 1),
    ("u", u32::MAX as u64, 1),
    ("ul", u64::MAX, 1),
    ("ull", u64::MAX, 1),
    ("l", i64::MAX as u64, 1),
    ("ll", i64::MAX as u64, 1),
    ("ns", u64::MAX, 1),
    ("us", u64::MAX, 1_000),
    ("ms", u64::MAX, 1_000_000),
    ("s", u64::MAX, 1_000_000_000),
    ("m", u64::MAX, 60_000_000_000),
    ("h", u64::MAX, 3_600_000_000_000),
    ("d", u64::MAX, 86_400_000_000_000),
];

/// The value of a non-negative integer: decimal, `0x`, `0b`, leading-zero octal, `NeM`, with underscores
/// anywhere and perhaps a suffix. Durations give nanoseconds.
pub fn parse_uint(text: &str) -> Result<u64, IntegerError> {
    let cleaned: String = text.chars().filter(|&character| character != '_').collect();
    let bytes = cleaned.as_bytes();
    let (radix, digits) = match bytes {
        [b'0', b'x' | b'X', ..] => (16, &cleaned[2..]),
        [b'0', b'b' | b'B', ..] => (2, &cleaned[2..]),
        [b'0', b'0'..=b'7', ..] => (8, &cleaned[1..]),
        // A zero before 8 or 9 starts an octal number that ends at once.
        [b'0', b'8' | b'9', ..] => return Err(IntegerError::TrailingBytes(text.to_owned())),
        _ => (10, cleaned.as_str()),
    };
    let n_digits = digits
        .bytes()
        .take_while(|byte| char::from(*byte).is_digit(radix))
        .count();
    if n_digits == 0 {
        return Err(IntegerError::Invalid(text.to_owned()));
    }
    let (digits, mut rest) = digits.split_at(n_digits);
    let overflow = |max| IntegerError::Overflow {
        max,
        text: text.to_owned(),
    };
    let mut value = u64::from_str_radix(digits, radix).map_err(|_| overflow(u64::MAX))?;
    if let [b'e' | b'E', b'1'..=b'9', ..] = rest.as_bytes() {
        if !(1..10).contains(&value) {
            return Err(IntegerError::Coefficient(text.to_owned()));
        }
        let n_digits = rest.bytes().skip(1).take_while(u8::is_ascii_digit).count();
        let exponent: u32 = rest[1..=n_digits].parse().unwrap_or(u32::MAX);
        value = 10u64
            .checked_pow(exponent)
            .and_then(|power| power.checked_mul(value))
            .ok_or(overflow(u64::MAX))?;
        rest = &rest[1 + n_digits..];
    }
    let Some(&(_, max, factor)) = SUFFIXES.iter().find(|(suffix, ..)| *suffix == rest) else {
        return Err(IntegerError::TrailingBytes(text.to_owned()));
    };
    if value > max / factor {
        return Err(overflow(max));
    }
    Ok(value * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_has_its_value() {
        for (text, value) in [
            ("0", 0),
            ("42", 42),
            ("1_000", 1000),
            ("0x1F", 31),
            ("0X_f_f", 255),
            ("010", 8),
            ("0b101", 5),
            ("3e4", 30_000),
            ("1E6", 1_000_000),
            ("1e19", 10_000_000_000_000_000_000),
            ("2e3s", 2_000_000_000_000),
            ("4294967295u", 4_294_967_295),
            ("18446744073709551615ull", u64::MAX),
            ("9223372036854775807ll", i64::MAX as u64),
            ("7ns", 7),
            ("7us", 7_000),
            ("7ms", 7_000_000),
            ("7s", 7_000_000_000),
            ("7m", 420_000_000_000),
            ("7h", 25_200_000_000_000),
            ("7d", 604_800_000_000_000),
        ] {
            assert_eq!(parse_uint(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_the_text() {
        for (text, message) in [
            ("", "invalid integer: "),
            ("abc", "invalid integer: abc"),
            ("-1", "invalid integer: -1"),
            ("0x", "invalid integer: 0x"),
            ("08", "invalid trailing bytes: 08"),
            ("019", "invalid trailing bytes: 019"),
            ("5U", "invalid trailing bytes: 5U"),
            ("1e", "invalid trailing bytes: 1e"),
            ("1e0", "invalid trailing bytes: 1e0"),
            (
                "10e3",
                "coefficient part of scientific literal must be 1-9: 10e3",
            ),
            (
                "1e20",
                "overflow error, maximum value is 18446744073709551615: 1e20",
            ),
            (
                "1e99999999999",
                "overflow error, maximum value is 18446744073709551615: 1e99999999999",
            ),
            (
                "18446744073709551616",
                "overflow error, maximum value is 18446744073709551615: 18446744073709551616",
            ),
            (
                "4294967296u",
                "overflow error, maximum value is 4294967295: 4294967296u",
            ),
            (
                "9223372036854775808l",
                "overflow error, maximum value is 9223372036854775807: 9223372036854775808l",
            ),
            (
                "999999999999d",
                "overflow error, maximum value is 18446744073709551615: 999999999999d",
            ),
        ] {
            assert_eq!(parse_uint(text).unwrap_err().to_string(), message);
        }
    }
}
