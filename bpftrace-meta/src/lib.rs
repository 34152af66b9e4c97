//! The contract between the compiler and the loader.
//!
//! An [`Artifact`] is a BPF ELF object plus a [`Manifest`]: everything the loader has to know about
//! a script that libbpf does not read from the object itself. The compiler makes one, the loader
//! takes one, and neither knows the other. Running a script directly hands the bytes over in
//! memory; an ahead-of-time executable carries the same bytes in its `.btaot` section.
//!
//! Read [`Manifest`] first, then [`ProbeMeta`] (what to attach), [`HostSlot`] (what to bind at
//! start) and [`EventMeta`] (what a record in the ring buffer means).
//!
//! This crate knows nothing of the language, of BPF instructions or of the running machine. What
//! is in here never holds pointers, hash maps, paths of the build machine or timestamps: the same
//! script and types give the same bytes everywhere.
#![forbid(unsafe_code)]

mod artifact;
mod config;
mod container;
mod event;
mod format;
mod map;
mod param;
mod perf_event;
mod probe;
mod provider;
mod registers;
mod require;
mod script;
mod slot;
mod source;
pub mod unwind;
mod usdt;
mod value;
mod wildcard;

pub use artifact::{Artifact, DecodeError, SECTION_NAME};
pub use config::{CacheUserSymbols, MissingProbes, RunConfig, StackMode};
pub use container::{ContainerError, make_executable, read_artifact, read_payload};
pub use event::{
    ArgLayout, EventId, EventKind, EventMeta, HelperFailure, LostLayout, RuntimeError,
};
pub use format::{Conversion, FormatPiece, FormatSpec, Length};
pub use map::{AggKind, MapId, MapMeta, MapRole, MapSize, MapValue, TseriesAgg, UnwindTable};
pub use param::{ArithmeticOp, ParamExpr, ParamStep};
pub use perf_event::{HARDWARE_EVENTS, PerfEvent, SOFTWARE_EVENTS};
pub use probe::{
    AttachText, Period, ProbeId, ProbeMeta, ProbeTarget, ProgramKind, Session, TextPart,
    UprobePlace, UserBuild, UserLayout,
};
pub use provider::ProviderKind;
pub use registers::ARGUMENT_REGISTERS;
pub use require::{Feature, Requirement};
pub use script::{
    CompileOptionsMeta, ImportMeta, Manifest, NamedParam, ParamKind, ParamValue, PatchSite,
    ScriptMeta, TracepointPatch,
};
pub use slot::{HostSlot, HostValue, SlotForm, SlotId, SlotSite, SlotType};
pub use source::{SourceMeta, SourceRange};
pub use usdt::{USDT_ENTRY_SIZE, USDT_FIRST_TARGET, USDT_MAX_ARGS, UsdtArg};
pub use value::{EnumId, EnumMeta, FieldLayout, TimeMode, ValueLayout};
pub use wildcard::wildcard_match;
