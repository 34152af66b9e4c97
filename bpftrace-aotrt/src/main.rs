//! The runtime shim: runs the artifact inside its own executable.

fn main() {}
