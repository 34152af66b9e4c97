//! Scripts with what the analysis makes of them, as data: `tests/files/*.txt`. Above the line of
//! dashes is the script, below are its diagnostics and its typed program. `BLESS=1` rewrites what is
//! below.

mod support;
mod texts;

use std::path::Path;

use bpftrace_ast::diag::render::{Color, render_all};
use bpftrace_ast::source::SourceMap;
use bpftrace_meta::ParamKind;
use bpftrace_sema::{SemaOptions, analyze, dump};

const LINE: &str = "\n----------------------------------------\n";

fn run(script: &str) -> String {
    let mut sources = SourceMap::new();
    let id = sources.add("t.bt", script);
    let (tree, mut diags) = bpftrace_ast::parse(id, &sources);
    let mut options = SemaOptions::safe();
    // The first line of a script can say how it is started.
    let first = script.lines().next().unwrap_or("");
    options.unsafe_mode = first.contains("--unsafe");
    for word in first.split_whitespace() {
        match word {
            "int-param" => options.param_kinds.push(ParamKind::Int),
            "str-param" => options.param_kinds.push(ParamKind::Str),
            _ => {}
        }
        if let Some((key, value)) = word.split_once('=')
            && key.starts_with("BPFTRACE_")
        {
            options.overrides.push((key.to_owned(), value.to_owned()));
        }
        if let Some(value) = word.strip_prefix("param=") {
            let is_number = value.starts_with(|c: char| c == '-' || c.is_ascii_digit());
            let kind = if is_number {
                ParamKind::Int
            } else {
                ParamKind::Str
            };
            options.params.push(value.to_owned());
            options.param_kinds.push(kind);
        }
        if let Some(name) = word.strip_prefix("include=") {
            options.includes.push(name.to_owned());
        }
    }
    let (program, more) = analyze(
        &tree,
        &mut sources,
        &support::Fixture::new(),
        &texts::Texts,
        &options,
    );
    diags.extend(more);
    let mut out = render_all(&diags, &sources, Color::Never);
    for diag in &diags {
        out.push_str(&format!("code: {}\n", diag.code));
    }
    if let Some(program) = program {
        out.push_str(&dump(&program));
    }
    out
}

#[test]
fn files() {
    let bless = std::env::var_os("BLESS").is_some();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files");
    let mut paths: Vec<_> = std::fs::read_dir(&dir)
        .expect("the directory of test files")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "txt"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    let mut failures = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("a readable file");
        let (script, expected) = text.split_once(LINE).unwrap_or((text.trim_end(), ""));
        let actual = run(script);
        if actual == expected {
            continue;
        }
        if bless {
            std::fs::write(&path, format!("{script}{LINE}{actual}")).expect("a writable file");
        } else {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            failures.push(format!(
                "== {name}\n-- expected:\n{expected}-- found:\n{actual}"
            ));
        }
    }
    assert!(
        failures.is_empty(),
        "{}\nBLESS=1 takes what was found as what is expected",
        failures.join("\n")
    );
}
