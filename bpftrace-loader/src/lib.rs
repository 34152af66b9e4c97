//! Binds, loads, attaches and prints an artifact.

pub mod print;
