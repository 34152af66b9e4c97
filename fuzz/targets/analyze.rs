//! The whole front end takes any text: an error or a program, and never a mistake of its own.
#![no_main]

#[allow(dead_code, reason = "the tests of the front end use more of it")]
#[path = "../../bpftrace-sema/tests/support/mod.rs"]
mod support;

use bpftrace_ast::diag::has_errors;
use bpftrace_ast::diag::render::{Color, render_all};
use bpftrace_ast::source::SourceMap;
use bpftrace_sema::{NoTexts, SemaOptions, analyze, dump};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let mut sources = SourceMap::new();
    let source = sources.add("fuzz.bt", &*text);
    let (script, mistakes) = bpftrace_ast::parse(source, &sources);
    if has_errors(&mistakes) {
        return;
    }
    let mut options = SemaOptions::safe();
    options.unsafe_mode = bytes.len() % 2 == 0;
    let (program, found) = analyze(
        &script,
        &mut sources,
        &support::Fixture::new(),
        &NoTexts,
        &options,
    );
    let _ = render_all(&found, &sources, Color::Never);
    assert!(
        program.is_some() || has_errors(&found),
        "no program, and nothing says why"
    );
    for diagnostic in &found {
        assert_ne!(diagnostic.code.name(), "internal", "{}", diagnostic.message);
    }
    if let Some(program) = program {
        let _ = dump(&program);
    }
});
