//! Syntax tree and types to a typed program.
