//! bpftrace source text to a syntax tree with spans, and diagnostics.
#![forbid(unsafe_code)]

pub mod attach;
pub mod diag;
pub mod node;
pub mod source;
