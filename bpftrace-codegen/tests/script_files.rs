//! Scripts with the code that is made of them, as data: `tests/scripts/*.txt`. Above the line of
//! dashes is the script, below is the stage that its first line names (`// stage: bpf`, `clif`,
//! `clif-opt` or `vcode`) or why there is none. `BLESS=1` rewrites what is below.
//!
//! Besides, every script that the analysis is tested with has to compile, or be refused at a place of
//! the script.

#[path = "../../bpftrace-sema/tests/support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};

use bpftrace_ast::source::SourceMap;
use bpftrace_codegen::{CodegenError, CodegenOptions, DumpStages, Dumps, ScriptInfo, compile};
use bpftrace_meta::{Artifact, ParamKind};
use bpftrace_sema::{NoTexts, SemaOptions, analyze};

const LINE: &str = "\n----------------------------------------\n";

/// What compiling a script gives: nothing when the analysis refuses it.
type Compiled = Option<Result<(Artifact, Dumps), (CodegenError, String)>>;

fn compile_script(script: &str, dump: DumpStages) -> Compiled {
    let mut sources = SourceMap::new();
    let source = sources.add("t.bt", script);
    let (tree, _) = bpftrace_ast::parse(source, &sources);
    let first = script.lines().next().unwrap_or("");
    let mut options = SemaOptions::safe();
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
    }
    let (program, _) = analyze(
        &tree,
        &mut sources,
        &support::Fixture::new(),
        &NoTexts,
        &options,
    );
    let program = program?;
    let info = ScriptInfo {
        name: "t.bt".to_owned(),
        source,
        compiler: "test".to_owned(),
    };
    let options = CodegenOptions {
        optimize: true,
        verify: true,
        dump,
    };
    Some(
        compile(&program, &sources, &info, &options).map_err(|error| {
            let place = match error.span() {
                Some(span) => {
                    let at = sources.start(span);
                    format!("{}:{}", at.line, at.col)
                }
                None => "no place".to_owned(),
            };
            (error, place)
        }),
    )
}

fn run(script: &str) -> String {
    let stage = script
        .lines()
        .next()
        .and_then(|line| line.split_once("stage: "))
        .map_or("bpf", |(_, rest)| {
            rest.split_whitespace().next().unwrap_or("bpf")
        });
    let dump = DumpStages {
        clif: stage == "clif",
        clif_opt: stage == "clif-opt",
        vcode: stage == "vcode",
        bpf: stage == "bpf",
    };
    match compile_script(script, dump) {
        None => "the analysis refuses it\n".to_owned(),
        Some(Err((error, place))) => format!("{place}: {error}\n"),
        Some(Ok((_, dumps))) => {
            let text = [dumps.clif, dumps.clif_opt, dumps.vcode, dumps.bpf];
            let text: String = text.into_iter().flatten().collect();
            let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
            format!("{}\n", lines.join("\n"))
        }
    }
}

fn files(dir: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
    let mut paths: Vec<_> = std::fs::read_dir(&dir)
        .expect("the directory of test files")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "txt"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

#[test]
fn scripts() {
    let bless = std::env::var_os("BLESS").is_some_and(|value| value == "1");
    let mut failures = Vec::new();
    for path in files("tests/scripts") {
        let text = std::fs::read_to_string(&path).expect("a readable file");
        let (script, expected) = text.split_once(LINE).unwrap_or((text.trim_end(), ""));
        let actual = run(script);
        if actual == expected {
            continue;
        }
        if bless {
            std::fs::write(&path, format!("{script}{LINE}{actual}")).expect("a writable file");
        } else {
            failures.push(format!(
                "== {}\n-- expected:\n{expected}-- found:\n{actual}",
                name(&path)
            ));
        }
    }
    assert!(
        failures.is_empty(),
        "{}\nBLESS=1 takes what was found as what is expected",
        failures.join("\n")
    );
}

#[test]
fn what_the_analysis_accepts_compiles_or_is_refused_at_a_place() {
    let mut n_compiled = 0;
    let mut failures = Vec::new();
    for path in files("../bpftrace-sema/tests/files") {
        let text = std::fs::read_to_string(&path).expect("a readable file");
        let (script, _) = text.split_once(LINE).unwrap_or((&text, ""));
        match compile_script(script, DumpStages::default()) {
            None => {}
            Some(Ok((artifact, _))) => {
                n_compiled += 1;
                let again = Artifact::decode(&artifact.encode());
                assert_eq!(again.as_ref(), Ok(&artifact), "{}", name(&path));
            }
            Some(Err((error, place))) if error.is_bug() || error.span().is_none() => {
                failures.push(format!("{}: {place}: {error}", name(&path)));
            }
            Some(Err(_)) => {}
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(n_compiled > 10, "only {n_compiled} scripts compiled");
}

#[test]
fn the_same_script_gives_the_same_bytes() {
    for script in [
        "begin { @a[comm] = count(); printf(\"%s %d\\n\", comm, pid); }",
        "tracepoint:sched:sched_one { @[args.comm] = hist(args.pid); }",
    ] {
        let bytes = || match compile_script(script, DumpStages::default()) {
            Some(Ok((artifact, _))) => artifact.encode(),
            _ => panic!("does not compile: {script}"),
        };
        assert_eq!(bytes(), bytes());
    }
}

#[test]
fn what_a_run_of_a_probe_sends_at_most_is_known_unless_a_loop_sends() {
    let sent = |script: &str| {
        let Some(Ok((artifact, _))) = compile_script(script, DumpStages::default()) else {
            panic!("{script} does not compile");
        };
        artifact.manifest.probes[0].sent_per_run
    };
    assert_eq!(sent("begin { $a = pid; }"), Some(0));
    assert_eq!(sent("begin { @ = 1; }"), Some(24), "the update may fail");
    // A record is the event's number and its arguments, behind a header of 8 bytes.
    assert_eq!(sent("begin { printf(\"hello\\n\"); }"), Some(16));
    assert_eq!(
        sent("begin { printf(\"%d\\n\", pid); exit(); }"),
        Some(24 + 16)
    );
    assert_eq!(
        sent("begin { if (pid > 1) { printf(\"a\"); } else { printf(\"b\"); } }"),
        Some(32),
        "branches count together"
    );
    assert_eq!(
        sent("begin { $a = 7 / pid; }"),
        Some(16),
        "a warning, sent by a function that probes share"
    );
    assert_eq!(sent("begin { unroll(3) { printf(\"a\"); } }"), Some(48));
    assert_eq!(
        sent("begin { $i = 0; while ($i < 9) { $i++; } printf(\"a\"); }"),
        None
    );
    assert_eq!(sent("begin { for ($i : 0..99) { print($i); } }"), None);
    assert_eq!(
        sent("begin { @a[1] = 1; for ($kv : @a) { print($kv.0); } }"),
        None
    );
}
