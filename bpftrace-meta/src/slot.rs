use serde::{Deserialize, Serialize};

use crate::{AttachText, Feature, ParamExpr, ParamKind, ProgramKind, SourceRange};

/// Index of a slot in [`crate::Manifest::slots`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SlotId(pub u32);

/// A value that the loader puts into the object before load: text into `.rodata`, which libbpf freezes,
/// numbers into the instructions that use them. So the verifier sees constants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSlot {
    /// What to write.
    pub value: HostValue,
    /// In which form.
    pub ty: SlotType,
    /// Offset in bytes from the start of `.rodata`; `None` when it is needed in instructions only.
    pub offset: Option<u32>,
    /// Instructions that a number goes into.
    pub sites: Vec<SlotSite>,
    /// Where the script asks for it; line 0 where it does not do so itself.
    pub place: SourceRange,
}

/// An instruction that a slot's number goes into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotSite {
    /// Byte offset of the instruction in the object file.
    pub file_offset: u64,
    /// What of the number.
    pub form: SlotForm,
}

/// What of a slot's number goes into an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SlotForm {
    /// All of it, into the immediate of an `ld_imm64`.
    Number,
    /// 1 if it is not 0, else 0, into an immediate of 32 bits.
    Truth,
}

/// The form of a slot's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SlotType {
    /// A number; in memory eight bytes, little-endian.
    U64,
    /// 0 or 1; in memory one byte.
    Bool,
    /// `size` bytes, NUL-padded; longer text is cut to `size - 1` bytes.
    Str {
        /// Size in bytes, the NUL included.
        size: u32,
    },
}

/// A fact about the machine or the invocation, bound at start.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HostValue {
    /// Positional parameter `$index` (from 1), as an integer or as text.
    Param {
        /// Which one, from 1.
        index: u32,
        /// How the script uses it.
        kind: ParamKind,
    },
    /// `$#`.
    ParamCount,
    /// What literals and positional parameters come to, as an integer or as text.
    ParamFold {
        /// The expression.
        expr: ParamExpr,
        /// How the script uses it.
        kind: ParamKind,
    },
    /// A named parameter (`getopt`): index into [`crate::Manifest::named_params`].
    NamedParam(u32),
    /// Address of a kernel symbol, from `/proc/kallsyms`.
    KernelSymbol(String),
    /// Address of a symbol in the executable that the probe is attached to.
    UserSymbol {
        /// The executable, as in the attach point.
        path: AttachText,
        /// The symbol.
        name: String,
    },
    /// Id of a cgroup v2 directory.
    CgroupId(String),
    /// `-p PID`, or 0. Probe types that cannot be attached to one process compare with it. A `-c`
    /// child is not meant: what it starts is to be seen as well.
    TargetPid,
    /// Pid of the `-c` child; 0 without one.
    ChildPid,
    /// Device of the pid namespace bpftrace runs in; 0 in the initial one.
    PidNamespaceDev,
    /// Inode of the pid namespace bpftrace runs in; 0 in the initial one.
    PidNamespaceIno,
    /// Number of possible CPUs.
    NumCpus,
    /// Nanoseconds since boot (`CLOCK_BOOTTIME`) at the start of the session.
    StartTime,
    /// Nanoseconds to add to boot time to get TAI.
    TaiOffset,
    /// Whether the kernel has a feature.
    Feature(Feature),
    /// Whether the kernel has a function that programs may call.
    KernelFunction {
        /// The function.
        name: String,
        /// The kind of program that has to be allowed to call it; `None`: any.
        caller: Option<ProgramKind>,
    },
    /// Size of a memory page in bytes.
    PageSize,
    /// Whether run-time warnings are reported (not with `--no-warnings`).
    WarningsOn,
}
