//! Integers in bytes, and as digits.

/// The little-endian integer of `size` bytes (at most 8) at `offset`, zero-extended. Bytes beyond
/// the end read as zero.
pub(crate) fn read(bytes: &[u8], offset: usize, size: u8) -> u64 {
    let size = usize::from(size.min(8));
    let mut word = [0; 8];
    let from = bytes.get(offset..).unwrap_or_default();
    let n_bytes = from.len().min(size);
    word[..n_bytes].copy_from_slice(&from[..n_bytes]);
    u64::from_le_bytes(word)
}

/// Extends the sign of an integer of `size` bytes.
pub(crate) fn sign_extend(bits: u64, size: u8) -> i64 {
    match size {
        1 => i64::from(bits as u8 as i8),
        2 => i64::from(bits as u16 as i16),
        4 => i64::from(bits as u32 as i32),
        _ => bits.cast_signed(),
    }
}

/// Appends decimal digits.
pub(crate) fn push_decimal(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// Appends a sign when it is negative, and decimal digits.
pub(crate) fn push_signed(number: i64, out: &mut Vec<u8>) {
    if number < 0 {
        out.push(b'-');
    }
    push_decimal(number.unsigned_abs(), out);
}

/// Appends digits to a base that is a power of two, `1 << log2_base`.
pub(crate) fn push_radix(mut number: u64, log2_base: u32, digits: &[u8; 16], out: &mut Vec<u8>) {
    let mut text = [0; 64];
    let mut start = text.len();
    let mask = (1 << log2_base) - 1;
    loop {
        start -= 1;
        text[start] = digits[(number & mask) as usize];
        number >>= log2_base;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[start..]);
}

/// Digits of [`push_radix`].
pub(crate) const LOWER: &[u8; 16] = b"0123456789abcdef";
/// Digits of [`push_radix`].
pub(crate) const UPPER: &[u8; 16] = b"0123456789ABCDEF";

/// Appends hexadecimal digits.
pub(crate) fn push_hex(number: u64, out: &mut Vec<u8>) {
    push_radix(number, 4, LOWER, out);
}

/// Appends an address: `0x` and hexadecimal digits, but `0` for null.
pub(crate) fn push_address(address: u64, out: &mut Vec<u8>) {
    if address != 0 {
        out.extend_from_slice(b"0x");
    }
    push_hex(address, out);
}

/// Appends two hexadecimal digits.
pub(crate) fn push_byte(byte: u8, digits: &[u8; 16], out: &mut Vec<u8>) {
    out.push(digits[usize::from(byte >> 4)]);
    out.push(digits[usize::from(byte & 15)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_within_and_beyond() {
        let bytes = [0xff, 0x80, 1, 2];
        assert_eq!(read(&bytes, 0, 1), 0xff);
        assert_eq!(read(&bytes, 1, 2), 0x0180);
        assert_eq!(read(&bytes, 2, 8), 0x0201);
        assert_eq!(read(&bytes, 9, 8), 0);
        assert_eq!(sign_extend(0xff, 1), -1);
        assert_eq!(sign_extend(0x8000, 2), -32768);
        assert_eq!(sign_extend(0x8000, 4), 32768);
        assert_eq!(sign_extend(u64::MAX, 8), -1);
    }

    #[test]
    fn digits_agree_with_the_standard_library() {
        for number in [0, 1, 7, 8, 9, 10, 99, 255, 4096, u64::MAX / 10, u64::MAX] {
            let text = |push: &dyn Fn(&mut Vec<u8>)| {
                let mut out = Vec::new();
                push(&mut out);
                String::from_utf8(out).expect("digits")
            };
            assert_eq!(text(&|out| push_decimal(number, out)), number.to_string());
            assert_eq!(text(&|out| push_hex(number, out)), format!("{number:x}"));
            assert_eq!(
                text(&|out| push_radix(number, 3, LOWER, out)),
                format!("{number:o}")
            );
            let signed = number.cast_signed();
            assert_eq!(text(&|out| push_signed(signed, out)), signed.to_string());
        }
    }
}
