//! Integers as people write them: positional and named parameters, configuration, pids.

/// Why a text is not an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberError {
    /// It is something else.
    Invalid,
    /// It is one, but too large.
    OutOfRange,
}

/// Reads an unsigned integer: decimal, `0x`, `0b`, octal with a leading 0, `_` between digits, `NeM`,
/// and a suffix for a type (`u`, `l`, ...) or a duration (`ms`, ...; in nanoseconds).
pub fn parse_unsigned(text: &str) -> Result<u64, NumberError> {
    let lower = text.to_ascii_lowercase();
    for (prefix, radix) in [("0x", 16), ("0b", 2)] {
        if let Some(digits) = lower.strip_prefix(prefix) {
            return parse_digits(digits, radix);
        }
    }
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '_')
        .unwrap_or(text.len());
    let (digits, suffix) = text.split_at(end);
    if let Some(exponent) = suffix.strip_prefix('e') {
        return parse_scientific(digits, exponent);
    }
    let radix = if digits.len() > 1 && digits.starts_with('0') {
        8
    } else {
        10
    };
    let value = parse_digits(digits, radix)?;
    let (factor, limit) = match suffix {
        "" | "ul" | "ull" | "ns" => (1, u64::MAX),
        "u" => (1, u64::from(u32::MAX)),
        "l" | "ll" => (1, i64::MAX as u64),
        "us" => (1_000, u64::MAX),
        "ms" => (1_000_000, u64::MAX),
        "s" => (1_000_000_000, u64::MAX),
        "m" => (60_000_000_000, u64::MAX),
        "h" => (3_600_000_000_000, u64::MAX),
        "d" => (86_400_000_000_000, u64::MAX),
        _ => return Err(NumberError::Invalid),
    };
    value
        .checked_mul(factor)
        .filter(|value| *value <= limit)
        .ok_or(NumberError::OutOfRange)
}

fn parse_digits(digits: &str, radix: u32) -> Result<u64, NumberError> {
    if digits.starts_with('_') || digits.ends_with('_') || digits.starts_with('+') {
        return Err(NumberError::Invalid);
    }
    u64::from_str_radix(&digits.replace('_', ""), radix).map_err(|e| match e.kind() {
        std::num::IntErrorKind::PosOverflow => NumberError::OutOfRange,
        _ => NumberError::Invalid,
    })
}

fn parse_scientific(coefficient: &str, exponent: &str) -> Result<u64, NumberError> {
    let coefficient = match coefficient.as_bytes() {
        [digit @ b'1'..=b'9'] => u64::from(digit - b'0'),
        _ => return Err(NumberError::Invalid),
    };
    if !exponent.starts_with(|c: char| ('1'..='9').contains(&c)) {
        return Err(NumberError::Invalid);
    }
    let exponent =
        u32::try_from(parse_digits(exponent, 10)?).map_err(|_| NumberError::OutOfRange)?;
    10u64
        .checked_pow(exponent)
        .and_then(|power| power.checked_mul(coefficient))
        .ok_or(NumberError::OutOfRange)
}

/// As [`parse_unsigned`], with an optional sign; negative numbers in two's complement.
pub fn parse_integer(text: &str) -> Result<u64, NumberError> {
    match text.strip_prefix('-') {
        Some(magnitude) => {
            let magnitude = parse_unsigned(magnitude)?;
            if magnitude > 1 << 63 {
                return Err(NumberError::OutOfRange);
            }
            Ok(magnitude.wrapping_neg())
        }
        None => parse_unsigned(text),
    }
}

/// The words for true and false.
#[must_use]
pub fn parse_bool(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "on" | "yes" => Some(true),
        "0" | "false" | "off" | "no" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers() {
        for (text, value) in [
            ("0", Ok(0)),
            ("42", Ok(42)),
            ("010", Ok(8)),
            ("08", Err(NumberError::Invalid)),
            ("0xFF", Ok(255)),
            ("0b101", Ok(5)),
            ("1_000", Ok(1000)),
            ("1_", Err(NumberError::Invalid)),
            ("1e6", Ok(1_000_000)),
            ("12e6", Err(NumberError::Invalid)),
            ("1e99", Err(NumberError::OutOfRange)),
            ("5ms", Ok(5_000_000)),
            ("5u", Ok(5)),
            ("4294967296u", Err(NumberError::OutOfRange)),
            ("5U", Err(NumberError::Invalid)),
            ("", Err(NumberError::Invalid)),
            ("abc", Err(NumberError::Invalid)),
            ("-1", Ok(u64::MAX)),
            ("-9223372036854775808", Ok(1 << 63)),
            ("-9223372036854775809", Err(NumberError::OutOfRange)),
            ("18446744073709551616", Err(NumberError::OutOfRange)),
        ] {
            assert_eq!(parse_integer(text), value, "{text}");
        }
    }
}
