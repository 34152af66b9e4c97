//! What is written the same way in a script and on the command line of a compiled one: integers and
//! attach points. Text goes in; a number, or a [`bpftrace_meta::ProbeTarget`], comes out, or the
//! text of what is wrong. And what literals come to ([`fold_literals`]), as a positional parameter is one
//! to the user.
//!
//! An attach point may have positional parameters in it (`$1:vfs_*`, `interval:s:$2`). What a
//! parameter brings is text like the rest, so such an attach point can only be read where the
//! program starts. That is why the compiler and the loader share this crate: the compiler reads the
//! attach points that have no parameters, the loader the others, by the same rules.
//!
//! Read [`AttachPoint`] first: its text is split by [`AttachPoint::parse`], its parameters are put
//! in by [`AttachPoint::fill`], and [`AttachPoint::read`] says what it means. This crate knows
//! nothing of the language around attach points, of types, or of the running machine.
#![forbid(unsafe_code)]

mod attach;
mod integer;
mod literal;

pub use attach::{AttachPoint, Piece, ProviderName, Reading, Text, Wrong};
pub use integer::{IntegerError, parse_uint};
pub use literal::{fold_literals, negate_literal};
