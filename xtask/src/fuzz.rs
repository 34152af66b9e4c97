//! Fuzzing: texts and bytes that nobody would write, made by libFuzzer from small examples.
//!
//! The targets are a package of their own in `fuzz`. They are built with the compiler that everything is
//! built with; what guides the fuzzer are the coverage counters of LLVM's, which need no sanitizer.
//! `fuzz/seeds` holds the examples to start from, with the programs of the runtime tests; what a run adds stays
//! under the target directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::command;
use crate::runtime::case;
use crate::workspace::{TARGET, Workspace};

/// Counters at every edge, which libFuzzer reads to see what an input reaches.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                     -Cllvm-args=-sanitizer-coverage-pc-table \
                     -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Longest input in bytes.
const MAX_LEN: u32 = 4096;

/// What is fuzzed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FuzzTarget {
    /// The parser and the printer, on any text.
    Parse,
    /// The whole front end, on any text.
    Analyze,
    /// The back end, on what the front end accepts.
    Compile,
    /// The decoder of artifacts, on any bytes.
    Artifact,
}

impl FuzzTarget {
    fn name(self) -> &'static str {
        match self {
            FuzzTarget::Parse => "parse",
            FuzzTarget::Analyze => "analyze",
            FuzzTarget::Compile => "compile",
            FuzzTarget::Artifact => "artifact",
        }
    }
}

/// Fuzzes one target, or all of them one after the other, each for so long. An input that a target
/// cannot take is an error; it is kept, and the message says where.
pub(crate) fn run(workspace: &Workspace, only: Option<FuzzTarget>, seconds: u64) -> Result<()> {
    build(workspace)?;
    let targets = match &only {
        Some(target) => std::slice::from_ref(target),
        None => FuzzTarget::value_variants(),
    };
    for &target in targets {
        fuzz(workspace, target, seconds)?;
    }
    Ok(())
}

fn build(workspace: &Workspace) -> Result<()> {
    let manifest = workspace.root.join("fuzz/Cargo.toml");
    let mut cargo = workspace.cargo(["build", "--release", "--bins", "--target", TARGET]);
    cargo
        .arg("--manifest-path")
        .arg(manifest)
        .arg("--target-dir")
        .arg(workspace.target.join("fuzz"))
        .env("RUSTFLAGS", FLAGS)
        .stdout(std::io::stderr());
    command::check(&mut cargo, Duration::from_secs(3600))
}

fn fuzz(workspace: &Workspace, target: FuzzTarget, seconds: u64) -> Result<()> {
    let name = target.name();
    let folder = workspace.target.join("fuzz");
    let corpus = folder.join("corpus").join(name);
    let failures = folder.join("failures").join(name);
    for path in [&corpus, &failures] {
        fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
    }
    println!("{name}: {seconds} s");
    let mut fuzzer = Command::new(folder.join(TARGET).join("release").join(name));
    fuzzer
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={MAX_LEN}"))
        .args(["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"])
        .arg(format!("-artifact_prefix={}/", failures.display()))
        .arg(&corpus);
    let seeds = workspace.root.join("fuzz/seeds").join(name);
    if seeds.exists() {
        fuzzer.arg(seeds);
    }
    if target != FuzzTarget::Artifact {
        fuzzer.arg(write_programs(workspace)?);
        let words = workspace.root.join("fuzz/bpftrace.dict");
        fuzzer.arg(format!("-dict={}", words.display()));
    }
    let status = command::status(&mut fuzzer, Duration::from_secs(seconds + 300))?;
    if !status.success() {
        bail!(
            "{name}: an input cannot be taken; {} has it",
            shown(&failures)
        );
    }
    Ok(())
}

/// Writes the programs of the runtime tests to files of their own; gives the folder.
fn write_programs(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.target.join("fuzz/programs");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let cases = case::load_all(&workspace.root.join("tests/runtime"))?;
    let programs = cases
        .iter()
        .filter_map(|loaded| loaded.case.program.as_ref());
    for (i, program) in programs.enumerate() {
        let path = folder.join(format!("{i}.bt"));
        fs::write(&path, program).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(folder)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
