//! What can be wrong with a specification.

/// Why an object cannot be written. All of these are mistakes of the producer, except sizes that
/// depend on the script.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// The kernel accepts only C identifiers as names.
    #[error("{what} has the name {name:?}, which is not a C identifier")]
    InvalidName {
        /// What the name belongs to.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// Two things share a name.
    #[error("{what} {name:?} is defined twice")]
    DuplicateName {
        /// What the name belongs to.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A variable does not fit its section.
    #[error("variable {name:?}: {what}")]
    InvalidVariable {
        /// Name of the variable.
        name: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A map contradicts itself.
    #[error("map {name:?}: {what}")]
    InvalidMap {
        /// Name of the map.
        name: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A relocation refers to a row that does not exist, or to an instruction that cannot hold it.
    #[error("function {function:?}, instruction {insn_idx}: {what}")]
    InvalidReloc {
        /// Name of the function.
        function: String,
        /// The instruction, in units of 8 bytes.
        insn_idx: u32,
        /// What is wrong.
        what: String,
    },
    /// A function contradicts itself.
    #[error("function {function:?}: {what}")]
    InvalidFunction {
        /// Name of the function.
        function: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A CO-RE relocation does not fit the types.
    #[error("CO-RE relocation {patch}: {what}")]
    InvalidCore {
        /// Row of the patch.
        patch: u32,
        /// What is wrong.
        what: String,
    },
    /// A type cannot be described in BTF.
    #[error("type {name:?}: {what}")]
    InvalidType {
        /// Name of the type, if it has one.
        name: String,
        /// What is wrong.
        what: &'static str,
    },
    /// The ELF writer refused.
    #[error("cannot write the object: {0}")]
    Elf(String),
}

/// Checks that a name is what the kernel takes for one: a C identifier of at most 127 bytes
/// (`btf_name_valid_identifier` in kernel/bpf/btf.c, with the limit of kernels before 6.1).
pub(super) fn check_identifier(what: &'static str, name: &str) -> Result<(), ObjectError> {
    let mut bytes = name.bytes();
    let starts_well = bytes
        .next()
        .is_some_and(|first| first == b'_' || first.is_ascii_alphabetic());
    if starts_well
        && bytes.all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
        && name.len() < 128
    {
        Ok(())
    } else {
        Err(ObjectError::InvalidName {
            what,
            name: name.to_owned(),
        })
    }
}
