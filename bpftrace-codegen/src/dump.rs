//! Text of the stages of code generation, for `-d` and for tests.

/// Which stages to keep as text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DumpStages {
    /// CLIF as made from the typed program (`-d clif`).
    pub clif: bool,
    /// CLIF after the mid-end (`-d clif-opt`).
    pub clif_opt: bool,
    /// Instructions with virtual registers (`-d vcode`).
    pub vcode: bool,
    /// Instructions as they go into the object (`-d bpf`).
    pub bpf: bool,
}

/// The stages as text: all functions of the script one after the other, each under its name. The
/// stages that were not asked for are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dumps {
    /// CLIF as made from the typed program.
    pub clif: Option<String>,
    /// CLIF after the mid-end.
    pub clif_opt: Option<String>,
    /// Instructions with virtual registers.
    pub vcode: Option<String>,
    /// Instructions as they go into the object.
    pub bpf: Option<String>,
}
