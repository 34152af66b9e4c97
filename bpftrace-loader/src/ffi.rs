//! The only unsafe code of the crate: calls of C libraries, each behind a safe function.

pub(crate) mod clock;
