//! What the manifest says: layouts of types, places in the source, names.

use std::collections::{BTreeMap, BTreeSet};

use bpftrace_ast::source::{SourceId, SourceMap, Span};
use bpftrace_meta::{EnumId, EnumMeta, FieldLayout, SourceMeta, SourceRange, ValueLayout};
use bpftrace_sema::{Origin, StructId, Ty, TypeTable};

use crate::error::CodegenError;

/// How user space reads a value of a type.
pub(crate) fn value_layout(
    types: &TypeTable,
    ty: &Ty,
    span: Span,
) -> Result<ValueLayout, CodegenError> {
    let size32 = |size: u64| {
        u32::try_from(size).map_err(|_| CodegenError::Unsupported {
            span,
            what: format!("a value of {size} bytes"),
        })
    };
    Ok(match ty {
        Ty::Void => ValueLayout::None,
        Ty::Bool => ValueLayout::Bool,
        Ty::Int(int) => ValueLayout::Int {
            size: int.size,
            signed: int.signed,
        },
        Ty::Enum(id, int) => ValueLayout::Enum {
            size: int.size,
            signed: int.signed,
            id: EnumId(id.0),
        },
        Ty::Ptr(..) => ValueLayout::Pointer,
        Ty::Struct(id, _) if let Some(stored) = stored_arguments(types, *id) => {
            let def = types.struct_def(*id);
            let mut fields = Vec::with_capacity(def.members.len());
            for (member, offset) in def.members.iter().zip(stored.offsets) {
                fields.push(FieldLayout {
                    name: member.name.clone(),
                    offset: size32(offset)?,
                    layout: value_layout(types, &member.ty, span)?,
                });
            }
            ValueLayout::Record {
                fields,
                size: size32(stored.size)?,
            }
        }
        Ty::Struct(id, _) => {
            let def = types.struct_def(*id);
            let mut fields = Vec::with_capacity(def.members.len());
            for member in &def.members {
                let byte_offset = size32(member.bit_offset / 8)?;
                let (offset, layout) = match member.bits {
                    None => (byte_offset, value_layout(types, &member.ty, span)?),
                    Some(bits) => {
                        let (size, offset, shift) =
                            bit_field_container(member.bit_offset, bits, types.size(&member.ty));
                        let layout = ValueLayout::BitField {
                            size,
                            shift,
                            bits,
                            signed: false,
                        };
                        (size32(offset)?, layout)
                    }
                };
                fields.push(FieldLayout {
                    name: member.name.clone(),
                    offset,
                    layout,
                });
            }
            ValueLayout::Record {
                fields,
                size: size32(def.size)?,
            }
        }
        Ty::Array(element, count, _) => ValueLayout::Array {
            stride: size32(types.size(element))?,
            element: Box::new(value_layout(types, element, span)?),
            count: *count,
        },
        Ty::Str(size) => ValueLayout::Str { size: *size },
        Ty::Buf(capacity) => ValueLayout::Buffer {
            capacity: *capacity,
        },
        Ty::Tuple(elements) => {
            let (offsets, size) = types.tuple_layout(ty);
            let mut fields = Vec::with_capacity(elements.len());
            for (element, offset) in elements.iter().zip(offsets.iter().copied()) {
                fields.push(FieldLayout {
                    name: String::new(),
                    offset: size32(offset)?,
                    layout: value_layout(types, element, span)?,
                });
            }
            ValueLayout::Tuple {
                fields,
                size: size32(size)?,
            }
        }
        Ty::Record(elements) => {
            let (offsets, size) = types.tuple_layout(ty);
            let mut fields = Vec::with_capacity(elements.len());
            for ((name, element), offset) in elements.iter().zip(offsets.iter().copied()) {
                fields.push(FieldLayout {
                    name: name.clone(),
                    offset: size32(offset)?,
                    layout: value_layout(types, element, span)?,
                });
            }
            ValueLayout::Record {
                fields,
                size: size32(size)?,
            }
        }
        Ty::KStack(stack) => ValueLayout::KernelStack {
            mode: stack.mode,
            limit: stack.limit,
        },
        Ty::UStack(stack) => ValueLayout::UserStack {
            mode: stack.mode,
            limit: stack.limit,
        },
        Ty::KSym => ValueLayout::KernelSymbol,
        Ty::USym => ValueLayout::UserSymbol,
        Ty::Inet => ValueLayout::Inet,
        Ty::Username => ValueLayout::Username,
        Ty::Timestamp => ValueLayout::Timestamp,
        Ty::MacAddr => ValueLayout::MacAddress,
        Ty::CgroupPath => ValueLayout::CgroupPath,
        Ty::ProbeName => ValueLayout::ProbeName,
        Ty::Agg(_) => {
            return Err(CodegenError::Internal {
                span: Some(span),
                what: "an aggregation where a value is expected".to_owned(),
            });
        }
    })
}

/// Where the members of a struct are when it is copied as a value.
pub(crate) struct Stored {
    /// Byte offset of each member.
    pub(crate) offsets: Vec<u64>,
    /// Bytes in all.
    pub(crate) size: u64,
}

/// The layout of arguments as a value: members one after the other, naturally aligned. Where the members of
/// a tracepoint's record are is known on the target only, and a member may be the address of what the
/// record holds, so the values cannot have the layout of the record.
///
/// `None` for all structs whose values have the layout of the struct.
pub(crate) fn stored_arguments(types: &TypeTable, id: StructId) -> Option<Stored> {
    let def = types.struct_def(id);
    if !matches!(
        def.origin,
        Origin::Tracepoint { .. } | Origin::Arguments | Origin::Registers
    ) {
        return None;
    }
    let mut end = 0u64;
    let offsets = def
        .members
        .iter()
        .map(|member| {
            let size = stored_size(types, &member.ty);
            let align = match size {
                0..=1 => 1,
                2..=3 => 2,
                4..=7 => 4,
                _ => 8,
            };
            let offset = end.next_multiple_of(align);
            end = offset + size;
            offset
        })
        .collect();
    Some(Stored {
        offsets,
        size: end.next_multiple_of(8),
    })
}

/// Bytes of a value of a type.
pub(crate) fn stored_size(types: &TypeTable, ty: &Ty) -> u64 {
    match ty {
        Ty::Struct(id, _) => match stored_arguments(types, *id) {
            Some(stored) => stored.size,
            None => types.size(ty),
        },
        _ => types.size(ty),
    }
}

/// The integer to load for a bit-field: its size in bytes, its byte offset, and the bits to shift right.
/// It is the aligned integer of the declared type where the field fits one, as the C ABI has it, and
/// wider or unaligned only for packed structs.
pub(crate) fn bit_field_container(bit_offset: u64, bits: u8, declared: u64) -> (u8, u64, u8) {
    let fits = |size: u64, offset: u64| {
        bit_offset >= offset * 8 && bit_offset + u64::from(bits) <= (offset + size) * 8
    };
    let declared = declared.clamp(1, 8);
    for size in [declared, 1, 2, 4, 8] {
        let offset = bit_offset / 8 / size * size;
        if size.is_power_of_two() && fits(size, offset) {
            return (size as u8, offset, (bit_offset - offset * 8) as u8);
        }
    }
    let offset = bit_offset / 8;
    (8, offset, (bit_offset % 8) as u8)
}

/// The names of all enums; the ids of [`ValueLayout::Enum`] count in it.
pub(crate) fn enums(types: &TypeTable) -> Vec<EnumMeta> {
    types
        .enums()
        .iter()
        .map(|def| EnumMeta {
            name: def.name.clone(),
            values: def.values.clone(),
        })
        .collect()
}

/// Most bytes of a name that is made of what the script says: kernels before 6.1 take no more than 127, and the
/// makers of names add something.
const MAX_IDENTIFIER: usize = 100;

/// A C identifier from any text. Long ones are told apart by a hash of what is left out.
pub(crate) fn identifier(text: &str) -> String {
    let mut name: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        name.insert(0, '_');
    }
    if name.len() > MAX_IDENTIFIER {
        // FNV-1a.
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        name.truncate(MAX_IDENTIFIER - 17);
        name.push_str(&format!("_{hash:016x}"));
    }
    name
}

/// Collects the lines that messages at run time quote.
pub(crate) struct SourceLines<'p> {
    sources: &'p SourceMap,
    kept: KeptLines,
}

/// Files and lines that are quoted, without the texts.
#[derive(Debug, Default)]
pub(crate) struct KeptLines {
    files: Vec<SourceId>,
    file_rows: BTreeMap<SourceId, u32>,
    lines: BTreeSet<(u32, u32)>,
}

impl<'p> SourceLines<'p> {
    pub(crate) fn new(sources: &'p SourceMap) -> Self {
        Self::resume(sources, KeptLines::default())
    }

    /// Goes on where another one stopped.
    pub(crate) fn resume(sources: &'p SourceMap, kept: KeptLines) -> Self {
        Self { sources, kept }
    }

    pub(crate) fn into_kept(self) -> KeptLines {
        self.kept
    }

    /// A span as lines and columns. Its lines are kept.
    pub(crate) fn range(&mut self, span: Span) -> SourceRange {
        let files = &mut self.kept.files;
        let file = *self.kept.file_rows.entry(span.source).or_insert_with(|| {
            files.push(span.source);
            files.len() as u32 - 1
        });
        let (start, end) = (self.sources.start(span), self.sources.end(span));
        // A message quotes the first line; a span over many lines is not quoted in full.
        self.kept.lines.insert((file, start.line));
        SourceRange {
            file,
            line: start.line,
            column: start.col,
            end_line: end.line,
            end_column: end.col,
        }
    }

    pub(crate) fn finish(self) -> SourceMeta {
        let text = |file: u32, line: u32| {
            let id = self.kept.files[file as usize];
            self.sources.file(id).line(line).to_owned()
        };
        SourceMeta {
            files: self
                .kept
                .files
                .iter()
                .map(|id| self.sources.file(*id).name().to_owned())
                .collect(),
            lines: self
                .kept
                .lines
                .iter()
                .map(|&(file, line)| (file, line, text(file, line)))
                .collect(),
        }
    }
}
