//! A program that the front end accepts compiles: to an artifact, or to an error about its size or a part of the
//! language, and never to a mistake of the compiler's own.
#![no_main]

mod front;

use bpftrace_codegen::{CodegenError, CodegenOptions, ScriptInfo, compile};
use bpftrace_meta::Artifact;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some(of) = front::analyzed(bytes, true) else {
        return;
    };
    let Some(program) = of.program else {
        return;
    };
    let info = ScriptInfo {
        name: "fuzz.bt".to_owned(),
        source: of.source,
        compiler: "fuzz".to_owned(),
    };
    match compile(&program, &of.sources, &info, &CodegenOptions::new()) {
        Ok((artifact, _)) => {
            let bytes = artifact.encode();
            assert!(Artifact::decode(&bytes).is_ok(), "cannot be read again");
        }
        Err(CodegenError::Unsupported { .. } | CodegenError::TooLarge { .. }) => {}
        Err(error) => panic!("{error}"),
    }
});
