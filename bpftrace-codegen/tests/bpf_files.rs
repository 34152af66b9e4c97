//! File tests of the BPF back end: CLIF in, BPF text out, both in one file under `tests/bpf`.
//!
//! A file is CLIF text, with the expected disassembly of each function after it in comments that
//! start with `;;`. A first line `; test: vcode` or `; test: clif` asks for an earlier stage.
//! `BLESS=1` writes what comes out into the file.

use std::fmt::Write as _;
use std::path::Path;

use bpftrace_codegen::bpf::{BackendOptions, compile_function, disassemble};

fn render(text: &str, path: &Path) -> String {
    let stage = text
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("; test: "))
        .unwrap_or("bpf");
    let functions = cranelift_reader::parse_functions(text)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut out = String::new();
    for func in functions {
        let name = func.name.to_string();
        let mut options = BackendOptions::new();
        options.verify = true;
        options.dump_clif_opt = stage == "clif";
        options.dump_vcode = stage == "vcode";
        let body = match compile_function(func, &options) {
            Ok(compiled) => {
                let code = disassemble(&compiled.code, &compiled.relocs);
                compiled.clif_opt.or(compiled.vcode).unwrap_or(code)
            }
            Err(error) => format!("error: {error}\n"),
        };
        let _ = writeln!(out, ";; {name}");
        for line in body.lines() {
            let _ = writeln!(out, ";; {}", line.trim_end());
        }
    }
    out
}

#[test]
fn files() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bpf");
    let bless = std::env::var_os("BLESS").is_some_and(|value| value == "1");
    let mut paths: Vec<_> = std::fs::read_dir(&dir)
        .expect("tests/bpf can be read")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "clif")
        })
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no file tests found");
    let mut failures = String::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("file test can be read");
        let (input, expected) = match text.find(";; ") {
            Some(at) => text.split_at(at),
            None => (text.as_str(), ""),
        };
        let actual = render(input, &path);
        if actual == expected {
            continue;
        }
        if bless {
            let blessed = format!("{}\n\n{actual}", input.trim_end());
            std::fs::write(&path, blessed).expect("file test can be written");
        } else {
            let _ = writeln!(
                failures,
                "{}: expected\n{expected}\nbut got\n{actual}\n(BLESS=1 writes it into the file)",
                path.display()
            );
        }
    }
    assert!(failures.is_empty(), "{failures}");
}
