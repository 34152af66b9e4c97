//! Constants that are known only on the target.

use super::types::TypeRef;

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
