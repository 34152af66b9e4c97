//! Tests across crates, and what writes the BPF objects that runtime tests import.
