//! What the caller of the analysis decides.

use bpftrace_meta::ParamKind;

/// Options that shape the typed program. The caller reads the command line and the environment; the
/// script's config block is read by the analysis, and overrides given here win over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SemaOptions {
    /// Whether functions that change the system may be used.
    pub unsafe_mode: bool,
    /// Settings that win over the config block: key as in a config block (or as the environment
    /// variable is called, `BPFTRACE_MAX_STRLEN`), and value. Keys that only matter at run time are
    /// not looked at.
    pub overrides: Vec<(String, String)>,
    /// What the positional parameters given on the command line look like, when there are any.
    /// Parameters beyond these are typed by their use in the script.
    pub param_kinds: Vec<ParamKind>,
}

impl SemaOptions {
    /// Safe mode, nothing overridden, no positional parameters.
    #[must_use]
    pub fn safe() -> Self {
        Self {
            unsafe_mode: false,
            overrides: Vec::new(),
            param_kinds: Vec::new(),
        }
    }
}
