//! The front end, as targets use it.

use bpftrace_ast::diag::{Diagnostic, has_errors};
use bpftrace_ast::source::{SourceId, SourceMap};
use bpftrace_sema::{NoTexts, SemaOptions, TypedProgram, analyze};

#[allow(dead_code, reason = "the tests of the front end use more of it")]
#[path = "../../bpftrace-sema/tests/support/mod.rs"]
mod support;

/// What became of a text that can be parsed.
#[allow(dead_code, reason = "a target reads what it looks at")]
pub struct Analyzed {
    pub program: Option<TypedProgram>,
    pub found: Vec<Diagnostic>,
    pub sources: SourceMap,
    pub source: SourceId,
}

/// `None` if the text cannot be parsed.
pub fn analyzed(bytes: &[u8], unsafe_mode: bool) -> Option<Analyzed> {
    let text = String::from_utf8_lossy(bytes);
    let mut sources = SourceMap::new();
    let source = sources.add("fuzz.bt", &*text);
    let (script, mistakes) = bpftrace_ast::parse(source, &sources);
    if has_errors(&mistakes) {
        return None;
    }
    let mut options = SemaOptions::safe();
    options.unsafe_mode = unsafe_mode;
    let (program, found) = analyze(
        &script,
        &mut sources,
        &support::Fixture::new(),
        &NoTexts,
        &options,
    );
    Some(Analyzed {
        program,
        found,
        sources,
        source,
    })
}
