//! The parser takes any text, and what it prints of a text without mistakes is printed the same again.
#![no_main]

use bpftrace_ast::dump::{Spans, dump};
use bpftrace_ast::print::print;
use bpftrace_ast::source::SourceMap;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let mut sources = SourceMap::new();
    let first = sources.add("fuzz.bt", &*text);
    let (script, mistakes) = bpftrace_ast::parse(first, &sources);
    let _ = dump(&script, Spans::Shown);
    if !mistakes.is_empty() {
        return;
    }
    let printed = print(&script, &sources);
    let second = sources.add("printed.bt", printed.as_str());
    let (script, mistakes) = bpftrace_ast::parse(second, &sources);
    assert!(
        mistakes.is_empty(),
        "printed text has mistakes: {mistakes:?}\n{printed}"
    );
    let again = print(&script, &sources);
    assert_eq!(again, printed, "printed text is not printed the same again");
});
