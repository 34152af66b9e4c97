//! Developer tasks: builds, guests, tests, benchmarks.

fn main() {}
