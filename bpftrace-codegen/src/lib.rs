//! Typed program to an artifact: CLIF, BPF instructions, a BPF ELF object.

#![forbid(unsafe_code)]

pub mod bpf;
pub mod object;
pub mod symbols;
