use std::collections::BTreeMap;
use std::rc::Rc;

use bpftrace_meta::{EnumMeta, Manifest, StackMode, TimeMode, ValueLayout};

use super::names::Names;
use super::number;
use super::stack::{Frames, StackRenderer};
use super::time::Times;

/// A value read back, with its names resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing.
    None,
    /// A truth value.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// An unsigned integer.
    Unsigned(u64),
    /// An integer with the name of its enumerator.
    Enum {
        /// The integer; it fits in 64 bits, signed or not.
        number: i128,
        /// Name of the enumerator, or the number in decimal.
        name: Rc<str>,
    },
    /// An address.
    Pointer(u64),
    /// A string, with the trailer of a truncated one. Any bytes but NUL.
    Str(Vec<u8>),
    /// Bytes of `buf`.
    Buffer(Vec<u8>),
    /// Elements of an array.
    Array(Vec<Value>),
    /// Elements of a tuple.
    Tuple(Vec<Value>),
    /// Fields of a record or struct, with their names.
    Record(Vec<(Rc<str>, Value)>),
    /// What only has a text: symbols, stacks, addresses of networks, dates and the like.
    Text(Vec<u8>),
}

/// Reads values back from the bytes that BPF programs wrote.
///
/// Reading never fails: what lies beyond the end of the bytes reads as zero. Whoever has the bytes
/// checks first that they are as many as the layout says.
pub(crate) struct Decoder {
    enums: Vec<EnumNames>,
    trailer: Vec<u8>,
    pub(crate) times: Times,
    pub(crate) names: Names,
    pub(crate) stacks: StackRenderer,
}

/// Names of an enum's values.
struct EnumNames {
    /// Sorted by value; of two names for one value the first declared.
    values: BTreeMap<i64, Rc<str>>,
}

impl EnumNames {
    fn new(meta: &EnumMeta) -> Self {
        // Of equal values the first declared is kept.
        let values = meta.values.iter().rev();
        let values = values.map(|(value, name)| (*value, Rc::from(name.as_str())));
        Self {
            values: values.collect(),
        }
    }

    fn find(&self, bits: u64, size: u8) -> Option<Rc<str>> {
        // A value of the enum may be recorded sign-extended or zero-extended from its width.
        let unsigned = bits.cast_signed();
        let signed = number::sign_extend(bits, size);
        [unsigned, signed]
            .iter()
            .find_map(|wanted| self.values.get(wanted).cloned())
    }
}

impl Decoder {
    pub(crate) fn new(
        manifest: &Manifest,
        trailer: &str,
        times: Times,
        names: Names,
        stacks: StackRenderer,
    ) -> Self {
        Self {
            enums: manifest.enums.iter().map(EnumNames::new).collect(),
            trailer: trailer.as_bytes().to_vec(),
            times,
            names,
            stacks,
        }
    }

    /// Reads the value that starts at the first of `bytes`.
    pub(crate) fn decode(&mut self, layout: &ValueLayout, bytes: &[u8]) -> Value {
        match layout {
            ValueLayout::None => Value::None,
            ValueLayout::Bool => Value::Bool(number::read(bytes, 0, 1) != 0),
            ValueLayout::Int { size, signed } => {
                integer(number::read(bytes, 0, *size), *size, *signed)
            }
            ValueLayout::Enum { size, signed, id } => {
                let bits = number::read(bytes, 0, *size);
                let number = if *signed {
                    i128::from(number::sign_extend(bits, *size))
                } else {
                    i128::from(bits)
                };
                let names = self.enums.get(id.0 as usize);
                let name = names
                    .and_then(|names| names.find(bits, *size))
                    .unwrap_or_else(|| Rc::from(number.to_string()));
                Value::Enum { number, name }
            }
            ValueLayout::Pointer => Value::Pointer(number::read(bytes, 0, 8)),
            ValueLayout::Str { size } => {
                let mut text = Vec::new();
                self.write_str(*size, bytes, &mut text);
                Value::Str(text)
            }
            ValueLayout::Buffer { capacity } => {
                Value::Buffer(buffer_bytes(*capacity, bytes).to_vec())
            }
            ValueLayout::Array {
                element,
                count,
                stride,
            } => {
                // A corrupt count must not allocate without bounds: nothing lies beyond the bytes.
                let count = match *stride {
                    0 => *count as usize,
                    stride => (*count as usize).min(bytes.len().div_ceil(stride as usize)),
                };
                let elements = (0..count)
                    .map(|index| self.decode(element, tail(bytes, index * *stride as usize)));
                Value::Array(elements.collect())
            }
            ValueLayout::Tuple { fields, .. } => {
                let elements = fields
                    .iter()
                    .map(|field| self.decode(&field.layout, tail(bytes, field.offset as usize)));
                Value::Tuple(elements.collect())
            }
            ValueLayout::Record { fields, .. } => {
                let elements = fields.iter().map(|field| {
                    let value = self.decode(&field.layout, tail(bytes, field.offset as usize));
                    (Rc::from(field.name.as_str()), value)
                });
                Value::Record(elements.collect())
            }
            ValueLayout::BitField {
                size,
                shift,
                bits,
                signed,
            } => bit_field(number::read(bytes, 0, *size), *shift, *bits, *signed),
            ValueLayout::KernelSymbol
            | ValueLayout::UserSymbol
            | ValueLayout::KernelStack { .. }
            | ValueLayout::UserStack { .. }
            | ValueLayout::Inet
            | ValueLayout::Username
            | ValueLayout::Timestamp
            | ValueLayout::MacAddress
            | ValueLayout::CgroupPath
            | ValueLayout::ProbeName => {
                let mut text = Vec::new();
                self.write_text(layout, bytes, &mut text);
                Value::Text(text)
            }
        }
    }

    /// Appends the text of a value to `out`, as `print` shows it; without going through a [`Value`]
    /// where that would only be copied.
    pub(crate) fn write_text(&mut self, layout: &ValueLayout, bytes: &[u8], out: &mut Vec<u8>) {
        match layout {
            ValueLayout::Str { size } => self.write_str(*size, bytes, out),
            ValueLayout::KernelSymbol => {
                self.stacks.kernel_symbol(number::read(bytes, 0, 8), out);
            }
            ValueLayout::UserSymbol => {
                let address = number::read(bytes, 0, 8);
                let (pid, probe) = process(tail(bytes, 8));
                self.stacks
                    .user_symbol(pid, self.names.probe(probe), address, out);
            }
            ValueLayout::KernelStack { mode, limit } => {
                let depth = number::read(bytes, 0, 8);
                let frames = Frames::new(tail(bytes, 8), depth, *limit, 8);
                self.stacks.kernel_stack(*mode, frames, out);
            }
            ValueLayout::UserStack { mode, limit } => {
                let (pid, probe) = process(bytes);
                let depth = number::read(bytes, 8, 8);
                let frame_size = if *mode == StackMode::BuildId { 32 } else { 8 };
                let frames = Frames::new(tail(bytes, 16), depth, *limit, frame_size);
                let probe = self.names.probe(probe);
                self.stacks.user_stack(*mode, pid, probe, frames, out);
            }
            ValueLayout::Inet => {
                super::names::write_inet(number::read(bytes, 0, 8), tail(bytes, 8), out);
            }
            ValueLayout::Username => {
                out.extend_from_slice(self.names.user(number::read(bytes, 0, 8)));
            }
            ValueLayout::Timestamp => {
                let nanoseconds = number::read(bytes, 0, 8);
                let from_boot = number::read(bytes, 8, 4) == u64::from(TimeMode::Boot as u32);
                let format = number::read(bytes, 12, 4);
                self.times.write(nanoseconds, from_boot, format, out);
            }
            ValueLayout::MacAddress => super::names::write_mac(bytes, out),
            ValueLayout::CgroupPath => {
                let filter = number::read(bytes, 0, 8);
                let id = number::read(bytes, 8, 8);
                out.extend_from_slice(self.names.cgroup_path(filter, id));
            }
            ValueLayout::ProbeName => {
                let name = self.names.probe(number::read(bytes, 0, 8));
                out.extend_from_slice(name.as_bytes());
            }
            _ => self.decode(layout, bytes).write_text(out),
        }
    }

    fn write_str(&self, size: u32, bytes: &[u8], out: &mut Vec<u8>) {
        let buffer = &bytes[..bytes.len().min(size as usize)];
        match buffer.iter().position(|byte| *byte == 0) {
            Some(end) => out.extend_from_slice(&buffer[..end]),
            None => {
                out.extend_from_slice(buffer);
                if buffer.len() == size as usize && size > 0 {
                    out.extend_from_slice(&self.trailer);
                }
            }
        }
    }
}

/// The bytes of a buffer: as many as its header says, at most its capacity.
pub(crate) fn buffer_bytes(capacity: u32, bytes: &[u8]) -> &[u8] {
    let length = number::read(bytes, 0, 4).min(u64::from(capacity));
    let content = tail(bytes, 4);
    &content[..content
        .len()
        .min(usize::try_from(length).unwrap_or(usize::MAX))]
}

/// What follows `offset`; nothing when that is beyond the end.
pub(crate) fn tail(bytes: &[u8], offset: usize) -> &[u8] {
    bytes.get(offset..).unwrap_or_default()
}

fn process(bytes: &[u8]) -> (u32, u64) {
    let pid = u32::try_from(number::read(bytes, 0, 4)).unwrap_or_default();
    (pid, number::read(bytes, 4, 4))
}

fn integer(bits: u64, size: u8, signed: bool) -> Value {
    if signed {
        Value::Int(number::sign_extend(bits, size))
    } else {
        Value::Unsigned(bits)
    }
}

fn bit_field(container: u64, shift: u8, bits: u8, signed: bool) -> Value {
    let shifted = container.checked_shr(u32::from(shift)).unwrap_or(0);
    let unused = 64 - u32::from(bits.min(64));
    let top = shifted.checked_shl(unused).unwrap_or(0);
    if signed {
        Value::Int(top.cast_signed().checked_shr(unused).unwrap_or(0))
    } else {
        Value::Unsigned(top.checked_shr(unused).unwrap_or(0))
    }
}
