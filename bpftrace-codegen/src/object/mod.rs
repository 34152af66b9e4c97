//! The BPF ELF object: compiled functions, maps, data and types in, bytes that libbpf loads out.
//!
//! ```text
//!   ObjectSpec                      what the producer fills in
//!     types      TypeGraph          full C types, of which only what is used is written
//!     maps       [MapDef]           row = index of RelocKind::Map
//!     data       [DataSection]      row = `section` of RelocKind::Data
//!     externs    [ExternDef]        row = index of RelocKind::KfuncCall, KfuncAddr
//!     patches    [Patch]            row = `patch` of RelocKind::Patch
//!     functions  [FunctionDef]      row = index of RelocKind::SubprogCall, SubprogAddr
//!       |
//!       |  write_object
//!       v
//!   BpfObject                       the ELF file, and where things are in it
//! ```
//!
//! The result is what clang would produce for libbpf: ELF64, little endian, `EM_BPF`, with BTF-defined
//! maps, `.BTF`, `.BTF.ext` (function and line info, CO-RE relocations), a `license` section and extern
//! kernel functions in `.ksyms`. Nothing in it depends on the machine that compiles: the same
//! specification gives the same bytes.
//!
//! The writer knows ELF, BTF and libbpf's conventions. It knows nothing about scripts, CLIF or
//! instruction selection; of an instruction it looks at the opcode only to store the initial value
//! of a patched field.
//!
//! Two kinds of patched constants look alike to the code and differ here ([`Patch`]): CO-RE
//! relocations are resolved by libbpf against the target's BTF, the others (fields of tracepoints)
//! are reported as [`PatchSite`]s, and the loader rewrites the bytes of the file before it opens it.

mod btf;
mod btf_ext;
mod btf_types;
mod core_relo;
mod data;
mod elf;
mod error;
mod function;
mod layout;
mod maps;
mod references;
mod relocate;
mod types;
mod write;

pub use core_relo::{CoreKind, CoreReloc, Patch};
pub use data::{DataKind, DataSection, DataVar};
pub use error::ObjectError;
pub use function::{ExternDef, ExternKind, FunctionDef, Placement, Signature, SourceLine};
pub use maps::MapDef;
pub use types::{Enumerator, Member, Type, TypeGraph, TypeRef};
pub use write::write_object;

use crate::bpf::PatchField;

/// Everything an object is made of. The rows of the tables are what relocations count in.
#[derive(Clone, Debug, Default)]
pub struct ObjectSpec {
    /// The types that maps, functions, externs and CO-RE relocations refer to.
    pub types: TypeGraph,
    /// Text of the `license` section, without the final NUL; "GPL" opens all helpers.
    pub license: String,
    /// The maps.
    pub maps: Vec<MapDef>,
    /// The data sections. Empty ones are left out of the object.
    pub data: Vec<DataSection>,
    /// Functions and variables of the kernel.
    pub externs: Vec<ExternDef>,
    /// The constants that are known only on the target.
    pub patches: Vec<Patch>,
    /// Programs, subprograms and callbacks. Those of one section follow each other in this order.
    pub functions: Vec<FunctionDef>,
}

/// A written object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BpfObject {
    /// The ELF file.
    pub elf: Vec<u8>,
    /// One record per program, in the order of [`ObjectSpec::functions`] (subprograms are left out).
    pub programs: Vec<ProgramRecord>,
    /// The instructions that the loader has to patch, in ascending order of `file_offset`.
    pub patch_sites: Vec<PatchSite>,
}

/// A program as libbpf will see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramRecord {
    /// Row in [`ObjectSpec::functions`].
    pub function: u32,
    /// Name of the ELF symbol, which is libbpf's name of the program.
    pub symbol: String,
    /// Name of the ELF section.
    pub section: String,
    /// Instructions in units of 8 bytes, without the subprograms that libbpf appends.
    pub insn_cnt: u32,
}

/// An instruction field that waits for a value that only the loader knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatchSite {
    /// Row in [`ObjectSpec::patches`]; always a [`Patch::Loader`].
    pub patch: u32,
    /// Row in [`ObjectSpec::functions`].
    pub function: u32,
    /// Name of the ELF section.
    pub section: String,
    /// Byte offset of the instruction (not of the field) within its section.
    pub section_offset: u64,
    /// Byte offset of the instruction (not of the field) within [`BpfObject::elf`].
    pub file_offset: u64,
    /// The field to write: the `off` of 16 bits at byte 2 of the instruction, the `imm` of 32 bits at
    /// byte 4, or the two halves of a 64-bit value at bytes 4 and 12.
    pub field: PatchField,
}
