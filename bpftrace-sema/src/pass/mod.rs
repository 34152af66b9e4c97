//! Passes over the tree, before types.

pub(crate) mod attach;
pub(crate) mod config;
pub(crate) mod decls;
pub(crate) mod imports;
pub(crate) mod macros;
pub(crate) mod mentions;
pub(crate) mod rewrite;
pub(crate) mod units;
