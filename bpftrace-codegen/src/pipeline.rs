//! All of code generation, top to bottom.

use bpftrace_ast::source::{SourceId, SourceMap};
use bpftrace_meta::Artifact;
use bpftrace_sema::TypedProgram;

use crate::dump::{DumpStages, Dumps};
use crate::error::CodegenError;

/// What the manifest says about the script as a whole.
#[derive(Clone, Debug)]
pub struct ScriptInfo {
    /// File name as messages show it; `stdin` for `-e`.
    pub name: String,
    /// The script's own text, whose hash goes into the manifest.
    pub source: SourceId,
    /// Version of the compiler, as `bpftrace --version` shows it.
    pub compiler: String,
}

/// How to compile; what shapes the code itself is in [`TypedProgram::options`].
#[derive(Clone, Copy, Debug)]
pub struct CodegenOptions {
    /// Run the mid-end's optimisations. Without them the code is correct, but larger.
    pub optimize: bool,
    /// Verify the code after each pass.
    pub verify: bool,
    /// Stages to keep as text.
    pub dump: DumpStages,
}

impl CodegenOptions {
    /// Optimise, verify in debug builds only, dump nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            optimize: true,
            verify: cfg!(debug_assertions),
            dump: DumpStages::default(),
        }
    }
}

impl Default for CodegenOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// Compiles a typed program. `sources` holds the texts that its spans point into.
///
/// # Errors
///
/// See [`CodegenError`].
pub fn compile(
    program: &TypedProgram,
    sources: &SourceMap,
    script: &ScriptInfo,
    options: &CodegenOptions,
) -> Result<(Artifact, Dumps), CodegenError> {
    let _ = (sources, script, options);
    let span = program.probes.first().map(|probe| probe.span);
    Err(CodegenError::Internal {
        span,
        what: "code generation is not connected".to_owned(),
    })
}
