//! What the caller of the analysis decides.

use bpftrace_meta::ParamKind;

/// Options that shape the typed program. The caller reads the command line and the environment; the
/// script's config block is read by the analysis, and overrides given here win over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SemaOptions {
    /// Whether functions that change the system may be used.
    pub unsafe_mode: bool,
    /// Whether the program is to report look-ups in maps and reads of memory that fail (`-k`).
    pub extra_warnings: bool,
    /// Settings that win over the config block: key as in a config block (or as the environment
    /// variable is called, `BPFTRACE_MAX_STRLEN`), and value. Keys that only matter at run time are
    /// not looked at.
    pub overrides: Vec<(String, String)>,
    /// Positional parameters given on the command line, when there are any. Only the types of the
    /// arguments of attach points with parameters depend on their values.
    pub params: Vec<String>,
    /// What these positional parameters look like.
    /// Parameters beyond these are typed by their use in the script.
    pub param_kinds: Vec<ParamKind>,
    /// Headers that are read before the script's C text, as if it named them in quotes.
    pub includes: Vec<String>,
}

impl SemaOptions {
    /// Safe mode, nothing overridden, no positional parameters.
    #[must_use]
    pub fn safe() -> Self {
        Self {
            unsafe_mode: false,
            extra_warnings: false,
            overrides: Vec::new(),
            params: Vec::new(),
            param_kinds: Vec::new(),
            includes: Vec::new(),
        }
    }
}
