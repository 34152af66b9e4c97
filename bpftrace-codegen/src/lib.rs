//! Typed program to an artifact: CLIF, BPF instructions, a BPF ELF object.
//!
//! ```text
//!   TypedProgram
//!       |  clif        one CLIF function per probe, subprogram and loop body
//!   ir::Function
//!       |  bpf         mid-end, instruction selection, registers
//!   CompiledFunction
//!       |  object      ELF, BTF, CO-RE relocations
//!       |  meta_out    layouts, events, maps, slots
//!   Artifact
//! ```
//!
//! [`compile`] is the only entry point. This crate must not know the syntax of scripts, files, `/sys`,
//! `/proc`, or the running kernel: whatever depends on the machine the program will run on is a slot,
//! a patched constant or a map size, and the manifest says what the loader has to write there. The same typed program gives the same bytes everywhere.
//!
//! Read [`symbols`] first (what CLIF and the back end agree on), then [`pipeline`], then `clif`.

#![forbid(unsafe_code)]

pub mod bpf;
pub mod dump;
pub mod object;
pub mod pipeline;
pub mod symbols;

mod clif;
mod error;
mod meta_out;
mod midend;
mod twins;

pub use dump::{DumpStages, Dumps};
pub use error::CodegenError;
pub use pipeline::{CodegenOptions, ScriptInfo, compile};
