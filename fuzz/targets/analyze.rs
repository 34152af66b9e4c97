//! The whole front end takes any text: an error or a program, and never a mistake of its own.
#![no_main]

mod front;

use bpftrace_ast::diag::has_errors;
use bpftrace_ast::diag::render::{Color, render_all};
use bpftrace_sema::dump;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some(of) = front::analyzed(bytes, bytes.len() % 2 == 0) else {
        return;
    };
    let _ = render_all(&of.found, &of.sources, Color::Never);
    assert!(
        of.program.is_some() || has_errors(&of.found),
        "no program, and nothing says why"
    );
    for diagnostic in &of.found {
        assert_ne!(diagnostic.code.name(), "internal", "{}", diagnostic.message);
    }
    if let Some(program) = of.program {
        let _ = dump(&program);
    }
});
