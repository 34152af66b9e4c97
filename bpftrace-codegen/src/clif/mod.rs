//! Typed bodies to CLIF.
//!
//! ```text
//!   TypedProgram ──▶ Module      tables of the object: maps, .rodata, patches, events, source lines
//!                      │
//!                      ├─ Program   what the functions of one probe share: places of variables, the frame
//!                      │   └─ FnCx  one CLIF function under construction: a probe, or the body of a loop
//!                      └─ Lowered   finished functions and tables
//! ```
//!
//! # Values
//!
//! A scalar (integer, bool, enum, pointer, address of a struct or array) is a CLIF value of exactly its
//! own width: `i8`, `i16`, `i32` or `i64`. The typed program converts explicitly, so every extension
//! comes from a cast, and comparisons of narrow values stay narrow. A `bool` is an `i8` that is 0 or 1.
//!
//! Everything else (strings, buffers, tuples, stacks, ...) is a place in memory, an [`Addr`]. Code that
//! needs such a value *somewhere* passes the destination down ([`FnCx::store_expr`]), so that a string
//! that is printed is read straight into the record of the ring buffer. Code that only wants to look
//! at one asks where it is ([`FnCx::mem_expr`]), and gets a variable, a map value or a temporary.
//!
//! A value of a type with padding, and a string, is stored in one of two ways ([`Fill`]): `Exact`
//! leaves no byte undefined (map keys, tuples), `Loose` leaves the bytes behind the NUL of a string as
//! they were. The last byte of a string's buffer is always defined: not zero means that the string was
//! cut off.
//!
//! # Memory
//!
//! Values up to the on-stack limit are kept on the stack as long as it has room; all others live in the
//! scratch map, one entry of which a program looks up when it starts. Programs that the kernel never
//! nests on one CPU (kprobe, tracepoint and perf event programs guard each other with `bpf_prog_active`)
//! share an entry; the others have one each. A program that is preempted by itself on a preemptible
//! kernel overwrites its own scratch values.
//!
//! Variables that a loop body running as a callback also uses live in the *frame*: a structure on the
//! stack of the probe's main function whose address all callbacks get.

mod access;
mod aggregate;
mod arith;
mod builtin;
mod call;
mod capture;
mod condition;
mod convert;
mod core_types;
mod event;
mod expr;
mod func;
mod helper;
mod large_key;
mod loops;
mod map;
mod memory;
mod module;
mod once;
mod place;
mod program;
mod report;
mod session;
mod stack;
mod stmt;
mod string;
mod unwind;
mod usdt;

pub(crate) use module::{ClifFunction, FunctionRole, Lowered};
pub(crate) use program::lower_program;

use memory::Addr;

/// What lowering gives, or why it could not.
type R<T> = Result<T, crate::error::CodegenError>;
