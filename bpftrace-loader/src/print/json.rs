//! Values as JSON.

use super::number;
use super::value::Value;

impl Value {
    /// Appends the value as JSON. The result is valid UTF-8 and valid JSON whatever the bytes are.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Self::None => out.extend_from_slice(b"null"),
            Self::Bool(true) => out.extend_from_slice(b"true"),
            Self::Bool(false) => out.extend_from_slice(b"false"),
            Self::Int(number) => write_number((*number).into(), out),
            Self::Unsigned(number) | Self::Pointer(number) => write_number((*number).into(), out),
            Self::Enum { number, .. } => write_number(*number, out),
            Self::Str(text) | Self::Text(text) => write_string(text, out),
            // Numbers of bytes as C's `char` has them.
            Self::Buffer(bytes) => write_array(bytes, out, |byte, out| {
                number::push_signed(i64::from(byte.cast_signed()), out);
            }),
            Self::Array(elements) | Self::Tuple(elements) => {
                write_array(elements, out, Self::write_json);
            }
            Self::Record(fields) => write_object(
                fields,
                out,
                |(name, _), out| write_string(name.as_bytes(), out),
                |(_, value), out| value.write_json(out),
            ),
        }
    }

    /// Appends the value as the key of an object: the text of a map's key, without any space.
    pub(crate) fn write_json_key(&self, out: &mut Vec<u8>) {
        let mut text = Vec::new();
        self.write_key(&mut text);
        text.retain(|byte| *byte != b' ');
        write_string(&text, out);
    }
}

/// Appends `[a,b]`.
pub(crate) fn write_array<T>(items: &[T], out: &mut Vec<u8>, write: impl Fn(&T, &mut Vec<u8>)) {
    out.push(b'[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(item, out);
    }
    out.push(b']');
}

/// Appends `{"a": 1, "b": 2}`; `key` writes a whole JSON string.
pub(crate) fn write_object<T>(
    items: &[T],
    out: &mut Vec<u8>,
    key: impl Fn(&T, &mut Vec<u8>),
    value: impl Fn(&T, &mut Vec<u8>),
) {
    out.push(b'{');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(b", ");
        }
        key(item, out);
        out.extend_from_slice(b": ");
        value(item, out);
    }
    out.push(b'}');
}

/// Appends a number; in quotes when a reader that keeps numbers in a double would change it.
pub(crate) fn write_number(number: i128, out: &mut Vec<u8>) {
    let exact = (number as f64) as i128 == number;
    if !exact {
        out.push(b'"');
    }
    out.extend_from_slice(number.to_string().as_bytes());
    if !exact {
        out.push(b'"');
    }
}

/// Appends a string in quotes. Bytes that are not UTF-8 become the characters U+0080 to U+00FF,
/// escaped.
pub(crate) fn write_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        for byte in chunk.valid().bytes() {
            match byte {
                b'"' => out.extend_from_slice(b"\\\""),
                b'\\' => out.extend_from_slice(b"\\\\"),
                b'\n' => out.extend_from_slice(b"\\n"),
                b'\r' => out.extend_from_slice(b"\\r"),
                b'\t' => out.extend_from_slice(b"\\t"),
                0..0x20 => write_escape(byte, out),
                _ => out.push(byte),
            }
        }
        for byte in chunk.invalid() {
            write_escape(*byte, out);
        }
    }
    out.push(b'"');
}

fn write_escape(byte: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\\u00");
    number::push_byte(byte, number::LOWER, out);
}
