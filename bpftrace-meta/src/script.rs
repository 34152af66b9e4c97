use serde::{Deserialize, Serialize};

use crate::{
    EnumMeta, EventMeta, HostSlot, LostLayout, MapMeta, ProbeMeta, Requirement, RunConfig,
    SourceMeta,
};

/// How a script uses a positional parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ParamKind {
    /// As an integer: text that is not one is an error at start.
    Int,
    /// As text.
    Str,
}

/// Default value, and with it the type, of a named parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ParamValue {
    /// `true` or `false`.
    Bool(bool),
    /// A `uint64`.
    Unsigned(u64),
    /// An `int64`.
    Signed(i64),
    /// Text.
    Str(String),
}

/// A named parameter of the script (`getopt`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedParam {
    /// Name, without dashes.
    pub name: String,
    /// Value when it is not given.
    pub default: ParamValue,
    /// For the list of options.
    pub description: Option<String>,
}

/// Which script this is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptMeta {
    /// File name as messages show it; `stdin` for `-e`.
    pub name: String,
    /// SHA-256 of the source text.
    pub sha256: [u8; 32],
    /// Version of the compiler.
    pub compiler: String,
}

/// Options that shaped the code and cannot be changed at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompileOptionsMeta {
    /// `max_strlen`, bytes.
    pub max_strlen: u64,
    /// `on_stack_limit`, bytes.
    pub on_stack_limit: u64,
    /// Whether unsafe functions were allowed.
    pub unsafe_mode: bool,
    /// Whether look-ups in maps and reads of memory that fail are reported (`-k`).
    pub extra_warnings: bool,
}

/// Everything the loader has to know about a script beside its BPF object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Which script.
    pub script: ScriptMeta,
    /// What shaped the code.
    pub options: CompileOptionsMeta,
    /// What the script configured.
    pub config: RunConfig,
    /// Probes in the order of the script.
    pub probes: Vec<ProbeMeta>,
    /// Maps; those of the script first, sorted by name.
    pub maps: Vec<MapMeta>,
    /// Values to bind at start.
    pub slots: Vec<HostSlot>,
    /// Records in the ring buffer.
    pub events: Vec<EventMeta>,
    /// Where lost events are counted; `None` when no event can be sent.
    pub lost: Option<LostLayout>,
    /// Names of enums.
    pub enums: Vec<EnumMeta>,
    /// Formats of `strftime` calls.
    pub time_formats: Vec<String>,
    /// Filters of `cgroup_path` calls.
    pub cgroup_filters: Vec<String>,
    /// Named parameters.
    pub named_params: Vec<NamedParam>,
    /// Highest positional parameter the script names; 0 for none.
    pub n_params: u32,
    /// Positional parameters, by number, that types come from: the program is for these values only.
    /// Number 0 stands for `$#`.
    pub typed_params: Vec<(u32, String)>,
    /// Kernel features the script cannot do without.
    pub requirements: Vec<Requirement>,
    /// Tracepoint fields whose place the loader patches into instructions.
    pub tracepoint_patches: Vec<TracepointPatch>,
    /// BPF objects that were joined with the script's, in the order of the script.
    pub imports: Vec<ImportMeta>,
    /// Source text for messages at run time.
    pub source: SourceMeta,
    /// Options for the executable that were given when it was written: words of a command line, in
    /// front of its own.
    pub default_options: Vec<String>,
}

/// A BPF object that was joined with the script's: for messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportMeta {
    /// The file, as the script's compiler knew it.
    pub path: String,
    /// What is in it: programs, functions, maps and data.
    pub symbols: Vec<String>,
}

/// Instructions that read a field of a tracepoint, to be patched with the field's offset on the
/// target (from the event's `format` file) before the object is opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracepointPatch {
    /// Category.
    pub category: String,
    /// Event.
    pub event: String,
    /// Field name.
    pub field: String,
    /// Size in bytes the code was compiled for.
    pub size: u32,
    /// Signedness the code was compiled for.
    pub signed: bool,
    /// Whether it is a `__data_loc` field.
    pub data_loc: bool,
    /// Offset the code was compiled with.
    pub offset: u32,
    /// Bytes from the field's start to what is read, which is an element of an array.
    pub inside: u32,
    /// Instructions: byte offset in the object file, and whether the offset goes to the `off`
    /// field (16 bits, byte 2) or to the `imm` field (32 bits, byte 4).
    pub sites: Vec<PatchSite>,
}

/// An instruction to patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatchSite {
    /// Byte offset of the instruction in the object file.
    pub file_offset: u64,
    /// True: `imm`; false: `off`.
    pub imm: bool,
}
