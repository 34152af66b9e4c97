//! Semantic analysis: a [`bpftrace_ast`] syntax tree and a [`TypeSource`] in, a [`TypedProgram`] and
//! diagnostics out.
//!
//! In the typed program every name is resolved, every expression has a type, conversions are
//! explicit, and what depends on the machine is a slot or an attach point as written. This crate
//! must not know BPF instructions, libbpf, `/proc`, `/sys`, the kernel's version, or how the
//! program will be started: the same script and the same types give the same typed program on
//! every machine.
//!
//! Read [`TypedProgram`] first, then [`Ty`] and [`TypeTable`], then [`TypeSource`].
#![forbid(unsafe_code)]

mod builtin;
mod cached;
mod cdef;
pub mod codes;
mod constants;
mod cycles;
mod dump;
mod env;
mod explain;
mod import;
mod join;
mod lower;
mod number_names;
mod options;
mod pass;
mod pipeline;
mod require;
mod spell;
mod stdlib;
mod suggest;
mod texts;
mod ty;
mod typed;
mod typeinfo;
mod verify;
mod walk;

pub use dump::dump;
pub use explain::{explain, explained, nearest_code};
pub use options::SemaOptions;
pub use pass::imports::with_imports;
pub use pipeline::analyze;
pub use spell::spell;

pub use texts::{
    Header, HeaderQuery, ImportContent, ImportError, ImportedFile, IncludeForm, NoTexts,
    ObjectFile, TextSource,
};
pub use ty::{
    AggTy, EnumDef, EnumTyId, IntTy, Mem, Member, Origin, StackTy, StructDef, StructId, Ty,
    TypeTable,
};
pub use typed::*;
pub use typeinfo::{
    FIRST_PROGRAM, FormatField, FunctionInfo, KernelFiles, KernelTypes, ProgramParam, RawMember,
    RawParam, RawType, TypeRef, TypeSource, parse_format,
};
