//! A program that the front end accepts compiles: to an artifact, or to an error about its size or a part of the
//! language, and never to a mistake of the compiler's own.
#![no_main]

#[allow(dead_code, reason = "the tests of the front end use more of it")]
#[path = "../../bpftrace-sema/tests/support/mod.rs"]
mod support;

use bpftrace_ast::diag::has_errors;
use bpftrace_ast::source::SourceMap;
use bpftrace_codegen::{CodegenError, CodegenOptions, ScriptInfo, compile};
use bpftrace_meta::Artifact;
use bpftrace_sema::{NoTexts, SemaOptions, analyze};
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
    options.unsafe_mode = true;
    let (program, _) = analyze(
        &script,
        &mut sources,
        &support::Fixture::new(),
        &NoTexts,
        &options,
    );
    let Some(program) = program else {
        return;
    };
    let info = ScriptInfo {
        name: "fuzz.bt".to_owned(),
        source,
        compiler: "fuzz".to_owned(),
    };
    match compile(&program, &sources, &info, &CodegenOptions::new()) {
        Ok((artifact, _)) => {
            let bytes = artifact.encode();
            assert!(Artifact::decode(&bytes).is_ok(), "cannot be read again");
        }
        Err(CodegenError::Unsupported { .. } | CodegenError::TooLarge { .. }) => {}
        Err(error) => panic!("{error}"),
    }
});
