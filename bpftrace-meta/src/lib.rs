//! The artifact: what the compiler hands to the loader.
