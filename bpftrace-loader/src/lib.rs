//! Binds, loads, attaches and prints an artifact.
