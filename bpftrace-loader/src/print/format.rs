//! `printf`: formats prepared once, and applied to the bytes of records.

use bpftrace_meta::{ArgLayout, Conversion, FormatPiece, FormatSpec, Length, ValueLayout};

use super::gfp;
use super::number;
use super::text::{BufferStyle, write_buffer};
use super::value::{Decoder, buffer_bytes, tail};

/// A format with its arguments: what to append for a record.
pub(crate) struct Format {
    steps: Vec<Step>,
}

enum Step {
    /// Text as it is.
    Literal(Box<[u8]>),
    /// An integer.
    Integer {
        field: Field,
        /// Bits of it that are looked at.
        bits: u8,
        style: IntegerStyle,
        padding: Padding,
    },
    /// `%c`.
    Char { field: Field, padding: Padding },
    /// `%p`.
    Pointer { field: Field, padding: Padding },
    /// `%gr`.
    GfpFlags { field: Field, padding: Padding },
    /// `%r` and its variants.
    Buffer {
        offset: usize,
        capacity: u32,
        style: BufferStyle,
        padding: Padding,
    },
    /// `%s`, and what else shows as its text.
    Text {
        offset: usize,
        layout: ValueLayout,
        padding: Padding,
    },
    /// An argument that the conversion cannot show: `!{what} text}`.
    Mismatch {
        offset: usize,
        layout: ValueLayout,
        what: &'static str,
    },
}

/// An integer in a record.
#[derive(Clone, Copy)]
struct Field {
    offset: usize,
    size: u8,
    signed: bool,
}

impl Field {
    /// The integer of an argument that is one, or is shown as one.
    fn of(arg: &ArgLayout) -> Option<Self> {
        let (size, signed) = match arg.layout {
            ValueLayout::Int { size, signed } | ValueLayout::Enum { size, signed, .. } => {
                (size, signed)
            }
            ValueLayout::Bool => (1, false),
            ValueLayout::Pointer => (8, false),
            _ => return None,
        };
        Some(Self {
            offset: arg.offset as usize,
            size,
            signed,
        })
    }

    fn read(self, record: &[u8]) -> u64 {
        let bits = number::read(record, self.offset, self.size);
        if self.signed {
            number::sign_extend(bits, self.size).cast_unsigned()
        } else {
            bits
        }
    }
}

#[derive(Clone, Copy)]
enum IntegerStyle {
    Signed { plus: bool },
    Unsigned,
    Octal { prefix: bool },
    Hex { prefix: bool, upper: bool },
}

#[derive(Clone, Copy)]
struct Padding {
    width: usize,
    left: bool,
    /// Fill with zeros, in front of everything: of a sign and of a prefix too.
    zeros: bool,
}

/// No width beyond this is honoured: a format is a constant of the script, and the result of a
/// mistyped width should not exhaust memory.
const MAX_WIDTH: u32 = 1 << 20;

impl Format {
    /// Prepares a format for the arguments of an event.
    pub(crate) fn new(pieces: &[FormatPiece], args: &[ArgLayout]) -> Self {
        let mut args = args.iter();
        let steps = pieces
            .iter()
            .map(|piece| match piece {
                FormatPiece::Literal(text) => Step::Literal(text.as_bytes().into()),
                FormatPiece::Spec(spec) => match args.next() {
                    Some(arg) => Step::new(spec, arg),
                    None => Step::Literal(b"!{missing argument}".as_slice().into()),
                },
            })
            .collect();
        Self { steps }
    }

    /// Appends the formatted text for a record.
    pub(crate) fn write(&self, record: &[u8], decoder: &mut Decoder, out: &mut Vec<u8>) {
        for step in &self.steps {
            step.write(record, decoder, out);
        }
    }
}

impl Step {
    fn new(spec: &FormatSpec, arg: &ArgLayout) -> Self {
        let offset = arg.offset as usize;
        let padding = Padding {
            width: spec.width.unwrap_or(0).min(MAX_WIDTH) as usize,
            left: spec.left,
            // Behind a number, zeros would make it another one.
            zeros: spec.zero && !spec.left,
        };
        let text = || Self::Text {
            offset,
            layout: arg.layout.clone(),
            padding,
        };
        let style = match spec.conversion {
            Conversion::Str => return text(),
            Conversion::Buffer | Conversion::BufferHex | Conversion::BufferHexPlain => {
                let style = match spec.conversion {
                    Conversion::Buffer => BufferStyle::Printable,
                    Conversion::BufferHex => BufferStyle::Escaped,
                    _ => BufferStyle::Plain,
                };
                return match arg.layout {
                    ValueLayout::Buffer { capacity } => Self::Buffer {
                        offset,
                        capacity,
                        style,
                        padding,
                    },
                    _ => text(),
                };
            }
            Conversion::GfpFlags => {
                return match Field::of(arg) {
                    Some(field) => Self::GfpFlags { field, padding },
                    None => Self::mismatch(arg, "invalid GFP flags conversion: "),
                };
            }
            Conversion::Char | Conversion::Pointer => None,
            Conversion::Signed => Some(IntegerStyle::Signed { plus: spec.plus }),
            Conversion::Unsigned => Some(IntegerStyle::Unsigned),
            Conversion::Octal => Some(IntegerStyle::Octal {
                prefix: spec.alternate,
            }),
            Conversion::Hex | Conversion::HexUpper => Some(IntegerStyle::Hex {
                prefix: spec.alternate,
                upper: spec.conversion == Conversion::HexUpper,
            }),
        };
        let Some(field) = Field::of(arg) else {
            return Self::mismatch(arg, "invalid integer conversion: ");
        };
        match style {
            Some(style) => Self::Integer {
                field,
                bits: match spec.length {
                    Length::Hh => 8,
                    Length::H => 16,
                    Length::None => 32,
                    Length::Long => 64,
                },
                style,
                padding,
            },
            None if spec.conversion == Conversion::Char => Self::Char { field, padding },
            None => Self::Pointer { field, padding },
        }
    }

    fn mismatch(arg: &ArgLayout, what: &'static str) -> Self {
        Self::Mismatch {
            offset: arg.offset as usize,
            layout: arg.layout.clone(),
            what,
        }
    }

    fn write(&self, record: &[u8], decoder: &mut Decoder, out: &mut Vec<u8>) {
        let start = out.len();
        match self {
            Self::Literal(text) => out.extend_from_slice(text),
            Self::Integer {
                field,
                bits,
                style,
                padding,
            } => {
                write_integer(field.read(record), *bits, *style, out);
                pad(out, start, *padding);
            }
            Self::Char { field, padding } => {
                out.push(field.read(record) as u8);
                pad(out, start, *padding);
            }
            Self::Pointer { field, padding } => {
                number::push_address(field.read(record), out);
                pad(out, start, *padding);
            }
            Self::GfpFlags { field, padding } => {
                gfp::write_flags(field.read(record), out);
                pad(out, start, *padding);
            }
            Self::Buffer {
                offset,
                capacity,
                style,
                padding,
            } => {
                let bytes = buffer_bytes(*capacity, tail(record, *offset));
                write_buffer(bytes, *style, out);
                pad(out, start, *padding);
            }
            Self::Text {
                offset,
                layout,
                padding,
            } => {
                decoder.write_text(layout, tail(record, *offset), out);
                pad(out, start, *padding);
            }
            Self::Mismatch {
                offset,
                layout,
                what,
            } => {
                out.extend_from_slice(b"!{");
                out.extend_from_slice(what.as_bytes());
                decoder.write_text(layout, tail(record, *offset), out);
                out.push(b'}');
            }
        }
    }
}

/// Appends an integer of which the lowest `bits` count.
fn write_integer(value: u64, bits: u8, style: IntegerStyle, out: &mut Vec<u8>) {
    let unsigned = value & (u64::MAX >> (64 - bits));
    match style {
        IntegerStyle::Signed { plus } => {
            let signed = number::sign_extend(value, bits / 8);
            if signed < 0 {
                out.push(b'-');
            } else if plus {
                out.push(b'+');
            }
            number::push_decimal(signed.unsigned_abs(), out);
        }
        IntegerStyle::Unsigned => number::push_decimal(unsigned, out),
        IntegerStyle::Octal { prefix } => {
            if prefix && unsigned != 0 {
                out.push(b'0');
            }
            number::push_radix(unsigned, 3, number::LOWER, out);
        }
        IntegerStyle::Hex { prefix, upper } => {
            if prefix && unsigned != 0 {
                out.extend_from_slice(if upper { b"0X" } else { b"0x" });
            }
            let digits = if upper { number::UPPER } else { number::LOWER };
            number::push_radix(unsigned, 4, digits, out);
        }
    }
}

/// Pads what follows `start` to a width.
fn pad(out: &mut Vec<u8>, start: usize, padding: Padding) {
    let length = out.len() - start;
    if length >= padding.width {
        return;
    }
    let missing = padding.width - length;
    let end = out.len();
    out.resize(end + missing, b' ');
    if padding.left {
        return;
    }
    let fill = if padding.zeros { b'0' } else { b' ' };
    out.copy_within(start..end, start + missing);
    out[start..start + missing].fill(fill);
}
