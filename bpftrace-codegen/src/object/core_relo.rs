//! Constants that are known only on the target.

use std::collections::{BTreeSet, HashMap};

use super::btf::BtfId;
use super::btf_types::{Form, sort_members};
use super::error::ObjectError;
use super::types::{Type, TypeGraph, TypeRef};

/// A constant that is known only on the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Patch {
    /// Resolved by libbpf against the target's BTF.
    Core(CoreReloc),
    /// Rewritten by the loader in the bytes of the object, before it is opened: a fact that no BTF
    /// holds, such as the offset of a tracepoint's field.
    Loader {
        /// What the field holds until then.
        initial: u64,
    },
}

/// A question about the target's types.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CoreReloc {
    /// The type that the question is about, or that `access` starts from. It needs a name: a struct,
    /// union, enumeration, typedef or integer.
    pub root: TypeRef,
    /// For the `Field*` kinds the path into `root`: for each struct or union the index of the member
    /// in [`Type::Struct`](super::Type::Struct), for each array the index of the element; anonymous
    /// members count as a step. For the `Enumerator*` kinds the row of the enumerator. Empty for the
    /// `Type*` kinds.
    pub access: Vec<u32>,
    /// The question.
    pub kind: CoreKind,
}

/// What libbpf is asked. The numbers are those of the kernel's `enum bpf_core_relo_kind`
/// (include/uapi/linux/bpf.h).
///
/// What is answered when the target lacks the field or type: 0 by the `*Exists` and
/// [`TypeMatches`](CoreKind::TypeMatches) kinds, 0 by `TypeSize`; with every other kind libbpf replaces
/// the instruction by an invalid call, which fails only if it can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum CoreKind {
    /// Offset of the field in bytes. For a bit-field that of the integer that holds it.
    FieldByteOffset = 0,
    /// Size of the field in bytes. For a bit-field that of the integer that holds it.
    FieldByteSize = 1,
    /// 1 if the field exists.
    FieldExists = 2,
    /// 1 if the field is signed.
    FieldSigned = 3,
    /// For a bit-field loaded into 64 bits: the left shift that drops what is above it.
    FieldLeftShift = 4,
    /// For a bit-field shifted left by `FieldLeftShift`: the right shift that brings it to bit 0.
    FieldRightShift = 5,
    /// The type's id in the object's own BTF.
    TypeIdLocal = 6,
    /// The type's id in the target's BTF.
    TypeIdTarget = 7,
    /// 1 if the type exists.
    TypeExists = 8,
    /// Size of the type in bytes.
    TypeSize = 9,
    /// 1 if the enumerator exists.
    EnumeratorExists = 10,
    /// Value of the enumerator.
    EnumeratorValue = 11,
    /// 1 if the type exists with the same members.
    TypeMatches = 12,
}

impl CoreKind {
    fn is_field(self) -> bool {
        (self as u32) <= CoreKind::FieldRightShift as u32
    }

    fn is_enumerator(self) -> bool {
        matches!(self, CoreKind::EnumeratorExists | CoreKind::EnumeratorValue)
    }

    /// How much of the root the local BTF has to hold.
    pub(super) fn root_form(self) -> Form {
        match self {
            CoreKind::TypeMatches => Form::Full,
            kind if kind.is_field() || kind.is_enumerator() => Form::Used,
            // Pointees are compared when a typedef names a pointer or function.
            _ => Form::Shape,
        }
    }
}

/// Most steps of a path that libbpf follows, counting the one through the root's own pointer
/// (`BPF_CORE_SPEC_MAX_LEN` in libbpf's relo_core.h).
const MAX_STEPS: usize = 64;

/// Which members and enumerators CO-RE relocations use, for each struct, union and enumeration.
#[derive(Debug, Default)]
pub(super) struct CoreUsage {
    /// In the order in which they are written.
    rows: HashMap<TypeRef, Vec<u32>>,
}

impl CoreUsage {
    /// Checks the relocations against the types and collects what they use. The numbers are rows in the
    /// table of patches, for messages.
    pub(super) fn collect<'a>(
        graph: &TypeGraph,
        relocs: impl Iterator<Item = (u32, &'a CoreReloc)>,
    ) -> Result<Self, ObjectError> {
        let mut sets: HashMap<TypeRef, BTreeSet<u32>> = HashMap::new();
        for (patch, reloc) in relocs {
            let path = Path::follow(graph, reloc)
                .map_err(|what| ObjectError::InvalidCore { patch, what })?;
            for (owner, row) in path.used {
                sets.entry(owner).or_default().insert(row);
            }
        }
        let rows = sets
            .into_iter()
            .map(|(ty, set)| {
                let mut rows: Vec<u32> = set.into_iter().collect();
                if let Type::Struct { members, .. } = graph.get(ty) {
                    sort_members(&mut rows, members);
                }
                (ty, rows)
            })
            .collect();
        Ok(CoreUsage { rows })
    }

    /// The members of a struct that are used, in the order of their offsets.
    pub(super) fn members(&self, ty: TypeRef) -> &[u32] {
        self.rows.get(&ty).map_or(&[], Vec::as_slice)
    }

    /// The enumerators of an enumeration that are used.
    pub(super) fn enumerators(&self, ty: TypeRef) -> &[u32] {
        self.members(ty)
    }

    /// The access string in terms of the types as they are written.
    pub(super) fn access_string(&self, graph: &TypeGraph, reloc: &CoreReloc) -> String {
        if reloc.kind.is_enumerator() {
            let (ty, _) = graph.resolve(reloc.root);
            return self.position(ty, reloc.access[0]).to_string();
        }
        let mut text = "0".to_owned();
        let mut at = reloc.root;
        for &step in &reloc.access {
            let (owner, ty) = graph.resolve(at);
            let written = match ty {
                Type::Struct { members, .. } => {
                    at = members[step as usize].ty;
                    self.position(owner, step)
                }
                Type::Array { element, .. } => {
                    at = *element;
                    step
                }
                _ => step,
            };
            text.push_str(&format!(":{written}"));
        }
        text
    }

    fn position(&self, ty: TypeRef, row: u32) -> u32 {
        self.members(ty)
            .iter()
            .position(|&used| used == row)
            .expect("collect() has seen every relocation") as u32
    }
}

/// The value that libbpf computes for a relocation from the local types, and compares with what the
/// instruction holds. `local_id` is the id of the root in the local BTF.
///
/// Follows `bpf_core_calc_relo` in libbpf's relo_core.c.
pub(super) fn initial_value(
    graph: &TypeGraph,
    reloc: &CoreReloc,
    local_id: BtfId,
) -> Result<u64, String> {
    let path = Path::follow(graph, reloc)?;
    Ok(match reloc.kind {
        CoreKind::FieldExists
        | CoreKind::TypeExists
        | CoreKind::TypeMatches
        | CoreKind::EnumeratorExists => 1,
        CoreKind::TypeIdLocal => u64::from(local_id.0),
        CoreKind::TypeIdTarget => 0,
        CoreKind::TypeSize => graph
            .size_of(reloc.root)
            .map(u64::from)
            .ok_or("the type has no size")?,
        CoreKind::EnumeratorValue => path.enum_value as u64,
        CoreKind::FieldByteOffset => path.storage(graph)?.byte_offset,
        CoreKind::FieldByteSize => path.storage(graph)?.byte_size,
        CoreKind::FieldSigned => u64::from(path.is_signed(graph)),
        CoreKind::FieldLeftShift => {
            let storage = path.storage(graph)?;
            // libbpf counts in 32 bits, and does not compare the result for bit-fields.
            64u64.wrapping_sub(storage.bits_above_start) & 0xffff_ffff
        }
        CoreKind::FieldRightShift => {
            64u64.wrapping_sub(path.storage(graph)?.bit_size) & 0xffff_ffff
        }
    })
}

/// What a relocation's access path leads to.
#[derive(Debug, Default)]
struct Path {
    /// Each member or enumerator on the way, with the type it belongs to.
    used: Vec<(TypeRef, u32)>,
    bit_offset: u64,
    /// What the last step found.
    end: PathEnd,
    enum_value: i64,
}

#[derive(Debug, Default)]
enum PathEnd {
    /// The root itself.
    #[default]
    Root,
    Member {
        ty: TypeRef,
        bitfield_bits: Option<u32>,
        /// Whether it is the last one of its struct, so that an array in it may be a flexible one.
        is_last: bool,
    },
    Element {
        ty: TypeRef,
    },
}

/// Where a field lies, in the form in which it is loaded.
#[derive(Debug)]
struct Storage {
    byte_offset: u64,
    byte_size: u64,
    bit_size: u64,
    /// From the start of the loaded integer to the end of the field.
    bits_above_start: u64,
}

impl Path {
    fn follow(graph: &TypeGraph, reloc: &CoreReloc) -> Result<Path, String> {
        if !has_name(graph, reloc.root) {
            return Err("the root type has no name".to_owned());
        }
        let mut path = Path::default();
        let (root, root_type) = graph.resolve(reloc.root);
        if reloc.kind.is_enumerator() {
            let (Type::Enum { values, size, .. }, &[row]) = (root_type, &reloc.access[..]) else {
                return Err("an enumeration and one enumerator are needed".to_owned());
            };
            let value = values
                .get(row as usize)
                .ok_or_else(|| format!("there is no enumerator {row}"))?
                .value;
            // Anything but the 64-bit kind is stored as a signed 32-bit number.
            path.enum_value = if *size == 8 {
                value
            } else {
                i64::from(value as i32)
            };
            path.used.push((root, row));
            return Ok(path);
        }
        if !reloc.kind.is_field() {
            return if reloc.access.is_empty() {
                Ok(path)
            } else {
                Err("a question about a type takes no path".to_owned())
            };
        }
        if reloc.access.is_empty() || reloc.access.len() >= MAX_STEPS {
            return Err(format!("a path of 1 to {} steps is needed", MAX_STEPS - 1));
        }
        let mut at = reloc.root;
        let mut ends_in_anonymous = false;
        for &step in &reloc.access {
            let (owner, ty) = graph.resolve(at);
            at = match ty {
                Type::Struct { members, name, .. } => {
                    let member = members
                        .get(step as usize)
                        .ok_or_else(|| format!("{name:?} has no member {step}"))?;
                    path.used.push((owner, step));
                    path.bit_offset += u64::from(member.bit_offset);
                    ends_in_anonymous = member.name.is_empty();
                    if !ends_in_anonymous {
                        path.end = PathEnd::Member {
                            ty: member.ty,
                            bitfield_bits: member.bitfield_bits,
                            is_last: step as usize + 1 == members.len(),
                        };
                    }
                    member.ty
                }
                Type::Array { element, len } => {
                    let is_flexible =
                        *len == 0 && matches!(path.end, PathEnd::Member { is_last: true, .. });
                    if step >= *len && !is_flexible {
                        return Err(format!("an array of {len} has no element {step}"));
                    }
                    let size = graph.size_of(*element).ok_or("the element has no size")?;
                    path.bit_offset += u64::from(step) * u64::from(size) * 8;
                    ends_in_anonymous = false;
                    path.end = PathEnd::Element { ty: *element };
                    *element
                }
                _ => return Err(format!("step {step} leads into a type without parts")),
            };
        }
        if ends_in_anonymous {
            return Err("the path ends at an anonymous member".to_owned());
        }
        if path.bit_offset > u64::from(u32::MAX) {
            return Err("the field lies beyond 512 MiB".to_owned());
        }
        let is_element = matches!(path.end, PathEnd::Element { .. });
        let fits_element = matches!(
            reloc.kind,
            CoreKind::FieldByteOffset | CoreKind::FieldByteSize | CoreKind::FieldExists
        );
        if is_element && !fits_element {
            return Err("of an array element only offset, size and existence are known".to_owned());
        }
        Ok(path)
    }

    fn storage(&self, graph: &TypeGraph) -> Result<Storage, String> {
        let (ty, bitfield_bits) = match self.end {
            PathEnd::Member {
                ty, bitfield_bits, ..
            } => (ty, bitfield_bits),
            PathEnd::Element { ty } => (ty, None),
            PathEnd::Root => return Err("a path is needed".to_owned()),
        };
        let mut byte_size = u64::from(graph.size_of(ty).ok_or("the field has no size")?);
        let Some(bits) = bitfield_bits.filter(|&bits| bits != 0) else {
            return Ok(Storage {
                byte_offset: self.bit_offset / 8,
                byte_size,
                bit_size: byte_size * 8,
                bits_above_start: byte_size * 8,
            });
        };
        let bits = u64::from(bits);
        if !matches!(byte_size, 1 | 2 | 4 | 8) {
            return Err("the bit-field's type is no integer that can be loaded".to_owned());
        }
        // The smallest aligned integer, starting from the declared type, that holds all of it.
        loop {
            let byte_offset = self.bit_offset / 8 / byte_size * byte_size;
            let bits_above_start = self.bit_offset + bits - byte_offset * 8;
            if bits_above_start <= byte_size * 8 {
                return Ok(Storage {
                    byte_offset,
                    byte_size,
                    bit_size: bits,
                    bits_above_start,
                });
            }
            if byte_size == 8 {
                return Err("the bit-field spans more than one 64-bit word".to_owned());
            }
            byte_size *= 2;
        }
    }

    fn is_signed(&self, graph: &TypeGraph) -> bool {
        let (PathEnd::Member { ty, .. } | PathEnd::Element { ty }) = self.end else {
            return false;
        };
        matches!(
            graph.resolve(ty).1,
            Type::Int {
                signed: true,
                boolean: false,
                ..
            } | Type::Enum { signed: true, .. }
        )
    }
}

/// Whether libbpf finds a name to search for; qualifiers around it do not count.
fn has_name(graph: &TypeGraph, root: TypeRef) -> bool {
    let mut at = root;
    // A chain longer than this goes in circles.
    for _ in 0..64 {
        at = match graph.get(at) {
            Type::Const(target) | Type::Volatile(target) | Type::TypeTag { target, .. } => *target,
            Type::Typedef { name, .. }
            | Type::Struct { name, .. }
            | Type::Enum { name, .. }
            | Type::Forward { name, .. }
            | Type::Int { name, .. }
            | Type::Float { name, .. } => return !name.is_empty(),
            Type::Void | Type::Ptr(_) | Type::Array { .. } | Type::Function { .. } => return false,
        };
    }
    false
}
