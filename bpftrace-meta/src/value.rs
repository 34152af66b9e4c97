use serde::{Deserialize, Serialize};

use crate::config::StackMode;

/// Index of an enum in [`crate::Manifest::enums`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EnumId(pub u32);

/// The names of an enum's values, for printing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnumMeta {
    /// Name of the enum, without the keyword `enum`; empty for an anonymous one.
    pub name: String,
    /// Value and name of each enumerator, in the order of their declaration.
    pub values: Vec<(i64, String)>,
}

/// One element of a tuple, record or struct value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldLayout {
    /// Field name; empty in a tuple.
    pub name: String,
    /// Offset in bytes from the start of the enclosing value.
    pub offset: u32,
    /// How to read the element.
    pub layout: ValueLayout,
}

/// Which clock a [`ValueLayout::Timestamp`] was read from: the value of its `mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u32)]
pub enum TimeMode {
    /// `CLOCK_MONOTONIC`; cannot be turned into a date.
    Monotonic = 0,
    /// `CLOCK_BOOTTIME`.
    Boot = 1,
    /// `CLOCK_TAI` of the kernel, printed as nanoseconds since 1970.
    Tai = 2,
    /// Boot time plus an offset bound at start, printed as nanoseconds since 1970.
    SwTai = 3,
}

/// How to read a value back from bytes that a BPF program wrote: map keys and values, event
/// arguments. All integers are little-endian (the only byte order supported); elements are read
/// from unaligned memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ValueLayout {
    /// No value, 0 bytes; prints as `null`.
    None,
    /// One byte, 0 or 1.
    Bool,
    /// An integer of `size` bytes (1, 2, 4 or 8).
    Int {
        /// Size in bytes.
        size: u8,
        /// Whether it is two's complement.
        signed: bool,
    },
    /// An integer of `size` bytes that prints as its enumerator's name.
    Enum {
        /// Size in bytes.
        size: u8,
        /// Whether it is two's complement.
        signed: bool,
        /// Where the names are.
        id: EnumId,
    },
    /// Eight bytes; prints as `0x` and hexadecimal digits.
    Pointer,
    /// `size` bytes, NUL-terminated when shorter; a buffer without NUL was truncated.
    Str {
        /// Capacity in bytes, the NUL included.
        size: u32,
    },
    /// A `u32` count of bytes, then that many of `capacity` bytes.
    Buffer {
        /// Capacity in bytes, the header not included.
        capacity: u32,
    },
    /// `count` elements, `stride` bytes apart.
    Array {
        /// The element.
        element: Box<ValueLayout>,
        /// Number of elements.
        count: u32,
        /// Distance of elements in bytes.
        stride: u32,
    },
    /// A tuple of `size` bytes.
    Tuple {
        /// Elements in order.
        fields: Vec<FieldLayout>,
        /// Size in bytes, padding included.
        size: u32,
    },
    /// A record or struct of `size` bytes.
    Record {
        /// Fields in order of declaration.
        fields: Vec<FieldLayout>,
        /// Size in bytes, padding included.
        size: u32,
    },
    /// A bit-field inside a struct value: `bits` bits starting `shift` bits above the lowest bit of
    /// the little-endian integer of `size` bytes at the field's offset.
    BitField {
        /// Bytes of the containing integer.
        size: u8,
        /// Bits to shift right.
        shift: u8,
        /// Width in bits.
        bits: u8,
        /// Whether the highest bit is a sign.
        signed: bool,
    },
    /// Eight bytes, a kernel address; prints as a symbol.
    KernelSymbol,
    /// `u64` address, `u32` pid, `u32` probe id; 16 bytes; prints as a symbol of that process.
    UserSymbol,
    /// `u64` number of frames, then `limit` times `u64`.
    KernelStack {
        /// How frames are rendered.
        mode: StackMode,
        /// Most frames stored.
        limit: u32,
    },
    /// `u32` pid, `u32` probe id, `u64` number of frames, then `limit` frames of 8 bytes
    /// (32 bytes, `struct bpf_stack_build_id`, in build-id mode).
    UserStack {
        /// How frames are rendered.
        mode: StackMode,
        /// Most frames stored.
        limit: u32,
    },
    /// `u64` address family (`AF_INET` or `AF_INET6`), then 16 bytes in network order.
    Inet,
    /// `u64` user id; prints as a user name.
    Username,
    /// `u64` nanoseconds of the clock that `mode` names, `u32` mode (a [`TimeMode`]), `u32` index into
    /// [`crate::Manifest::time_formats`].
    Timestamp,
    /// Six bytes.
    MacAddress,
    /// `u64` index into [`crate::Manifest::cgroup_filters`], `u64` cgroup id.
    CgroupPath,
    /// `u64` number of the attached target that fired; prints as that target's probe name.
    ProbeName,
}

impl ValueLayout {
    /// Size of the value in bytes.
    #[must_use]
    pub fn size(&self) -> u32 {
        match self {
            Self::None => 0,
            Self::Bool => 1,
            Self::Int { size, .. } | Self::Enum { size, .. } | Self::BitField { size, .. } => {
                u32::from(*size)
            }
            Self::Pointer | Self::KernelSymbol | Self::Username | Self::ProbeName => 8,
            Self::Str { size } | Self::Tuple { size, .. } | Self::Record { size, .. } => *size,
            Self::Buffer { capacity } => capacity.saturating_add(4),
            Self::Array { count, stride, .. } => count.saturating_mul(*stride),
            Self::UserSymbol | Self::Timestamp | Self::CgroupPath => 16,
            Self::KernelStack { limit, .. } => limit.saturating_mul(8).saturating_add(8),
            Self::UserStack { mode, limit } => {
                let frame = if *mode == StackMode::BuildId { 32 } else { 8 };
                limit.saturating_mul(frame).saturating_add(16)
            }
            Self::Inet => 24,
            Self::MacAddress => 6,
        }
    }
}
