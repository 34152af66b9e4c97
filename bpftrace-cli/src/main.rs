//! The bpftrace command.

fn main() {}
