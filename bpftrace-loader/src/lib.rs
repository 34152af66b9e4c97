//! Binds, loads, attaches and prints an artifact.

mod ffi;
pub mod print;
