//! Values as text.

use super::number;
use super::value::Value;

impl Value {
    /// Appends the value as `print` shows it.
    pub fn write_text(&self, out: &mut Vec<u8>) {
        match self {
            Self::None => out.extend_from_slice(b"null"),
            Self::Bool(true) => out.extend_from_slice(b"true"),
            Self::Bool(false) => out.extend_from_slice(b"false"),
            Self::Int(number) => number::push_signed(*number, out),
            Self::Unsigned(number) => number::push_decimal(*number, out),
            Self::Enum { name, .. } => out.extend_from_slice(name.as_bytes()),
            Self::Pointer(address) => {
                out.extend_from_slice(b"0x");
                number::push_hex(*address, out);
            }
            Self::Str(text) | Self::Text(text) => out.extend_from_slice(text),
            Self::Buffer(bytes) => write_buffer(bytes, BufferStyle::Printable, out),
            Self::Array(elements) => {
                out.push(b'[');
                write_list(elements, b",", out);
                out.push(b']');
            }
            Self::Tuple(elements) => {
                out.push(b'(');
                write_list(elements, b", ", out);
                out.push(b')');
            }
            Self::Record(fields) if fields.is_empty() => out.extend_from_slice(b"{}"),
            Self::Record(fields) => {
                for (index, (name, value)) in fields.iter().enumerate() {
                    out.extend_from_slice(if index == 0 { b"{ ." } else { b", ." });
                    out.extend_from_slice(name.as_bytes());
                    out.extend_from_slice(b" = ");
                    value.write_text(out);
                }
                out.extend_from_slice(b" }");
            }
        }
    }

    /// The value as `print` shows it.
    #[must_use]
    pub fn to_text(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_text(&mut out);
        out
    }

    /// Appends the value as the key of a map: its text without one pair of outer parentheses.
    pub fn write_key(&self, out: &mut Vec<u8>) {
        let start = out.len();
        self.write_text(out);
        if let [b'(', .., b')'] = out[start..] {
            out.pop();
            out.remove(start);
        }
    }
}

fn write_list(elements: &[Value], separator: &[u8], out: &mut Vec<u8>) {
    for (index, element) in elements.iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(separator);
        }
        element.write_text(out);
    }
}

/// How bytes of a buffer are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BufferStyle {
    /// Printable ASCII as it is, other bytes as `\xNN`.
    Printable,
    /// Every byte as `\xNN`.
    Escaped,
    /// Every byte as `NN`, with spaces between.
    Plain,
}

/// Appends bytes of a buffer.
pub(crate) fn write_buffer(bytes: &[u8], style: BufferStyle, out: &mut Vec<u8>) {
    for (index, byte) in bytes.iter().enumerate() {
        match style {
            BufferStyle::Printable if (32..=126).contains(byte) => {
                out.push(*byte);
                continue;
            }
            BufferStyle::Printable | BufferStyle::Escaped => out.extend_from_slice(b"\\x"),
            BufferStyle::Plain if index > 0 => out.push(b' '),
            BufferStyle::Plain => {}
        }
        number::push_byte(*byte, number::LOWER, out);
    }
}
