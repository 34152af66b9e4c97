use serde::{Deserialize, Serialize};

use crate::{FormatPiece, MapId, SourceRange, ValueLayout};

/// Index of an event in [`crate::Manifest::events`]; the first `u64` of every record in the ring
/// buffer is this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EventId(pub u32);

/// One value inside a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArgLayout {
    /// Offset in bytes from the start of the record (the event number included).
    pub offset: u32,
    /// How to read it.
    pub layout: ValueLayout,
}

/// A record that BPF programs send to user space: one per call in the script. Records of one event
/// are all `size` bytes long: `u64` event number, then the arguments at their offsets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventMeta {
    /// What to do when it arrives.
    pub kind: EventKind,
    /// The arguments, in the order of the script.
    pub args: Vec<ArgLayout>,
    /// Bytes of the record, a multiple of 8.
    pub size: u32,
    /// The call in the script.
    pub place: SourceRange,
    /// For a call inside macros: where each was expanded, innermost first.
    pub expanded_from: Vec<SourceRange>,
}

/// What user space does about a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// `printf`: format the arguments to the output.
    Printf(Vec<FormatPiece>),
    /// `errorf`: a message with its place, to standard error.
    Errorf(Vec<FormatPiece>),
    /// `warnf`: a warning with its place, to standard error.
    Warnf(Vec<FormatPiece>),
    /// `system`: run the formatted text with `sh -c`.
    System(Vec<FormatPiece>),
    /// `cat`: print the file that the formatted text names.
    Cat(Vec<FormatPiece>),
    /// `print` of one value and a newline.
    PrintValue,
    /// `print` of a map.
    PrintMap {
        /// The map.
        map: MapId,
        /// Only the last so many entries of the order; 0: all.
        top: u64,
        /// Divide printed integers by this; 0 and 1: do not.
        div: u64,
    },
    /// `clear`: delete all entries of a map.
    ClearMap(MapId),
    /// `zero`: set all values of a map to zero.
    ZeroMap(MapId),
    /// `exit`; the argument, when there is one, is the exit code (`i64`).
    Exit,
    /// `time`: local wall time in this `strftime` format.
    Time(String),
    /// `join`: one argument, an array of strings of which empty ones end the list.
    Join {
        /// What stands between the strings.
        separator: String,
    },
    /// `skboutput`: write a packet to a pcap file. Such records come through the packet buffer.
    /// Arguments: `u64` nanoseconds since boot, `u64` number of bytes of the packet; the packet follows
    /// behind the record.
    SkbOutput {
        /// Path of the file as the script has it.
        path: String,
        /// First byte of the packet that is written.
        skip: u64,
    },
    /// `unwatch`: detach a watchpoint; the argument is its address.
    Unwatch,
    /// A warning of the running program.
    RuntimeError(RuntimeError),
}

/// Warnings of a running BPF program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RuntimeError {
    /// Division or modulo by zero; 1 was used as the result.
    DivideByZero,
    /// An array index out of bounds; 0 was read.
    ArrayOutOfBounds,
    /// There are no tables to unwind the stack of a process with; the stack is empty.
    NoUnwindTables,
    /// A helper failed; the only argument is its return code (`i64`, a negative errno).
    HelperFailed(HelperFailure),
}

/// Which helper failed, and about what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelperFailure {
    /// Name of the helper without `bpf_`, as `map_update_elem`.
    pub helper: String,
}

/// Where lost events are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostLayout {
    /// Array of one entry, made of words of 64 bits. Word 0 counts records that found the ring buffer
    /// full. In word [`Self::EXIT`] an `exit` that found it full leaves word.
    pub map: MapId,
}

impl LostLayout {
    /// The word of `exit`: 0, or the exit status with [`Self::EXIT_ASKED`].
    pub const EXIT: usize = 1;
    /// `exit` was called.
    pub const EXIT_ASKED: u64 = 1 << 8;
}
