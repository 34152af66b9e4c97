//! bpftrace source text to a syntax tree with spans, and diagnostics.
