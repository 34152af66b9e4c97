//! Measures one run of a command, through a small C program (see `xtask/bench/measure.c`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::workspace::Workspace;

/// Nothing that is measured takes a second.
const LIMIT: Duration = Duration::from_secs(30);

/// The figures of one run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    /// From the start to the first line on standard output, in nanoseconds.
    pub(super) first_line: Option<u64>,
    /// From the start to the end, in nanoseconds.
    pub(super) end: u64,
    /// Processor time, in nanoseconds.
    pub(super) cpu: u64,
    /// The most resident memory, in bytes.
    pub(super) memory: u64,
}

/// The measuring program, compiled.
#[derive(Debug)]
pub(super) struct Measure {
    program: PathBuf,
    result: PathBuf,
}

impl Measure {
    /// Compiles it.
    pub(super) fn new(workspace: &Workspace) -> Result<Measure> {
        let folder = workspace.target.join("bench");
        fs::create_dir_all(&folder)?;
        let program = folder.join("measure");
        compile(&workspace.root.join("xtask/bench/measure.c"), &program)?;
        Ok(Measure {
            program,
            result: folder.join("result"),
        })
    }

    /// Runs a command once; it has to succeed.
    pub(super) fn run(&self, words: &[String]) -> Result<Run> {
        let mut measure = Command::new(&self.program);
        measure
            .arg(&self.result)
            .args(words)
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        command::check(&mut measure, LIMIT)?;
        let text = fs::read_to_string(&self.result)?;
        let numbers: Vec<i64> = text
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()
            .context(text)?;
        let &[status, first, end, cpu, kilobytes] = numbers.as_slice() else {
            bail!("the measuring program wrote {numbers:?}");
        };
        if status != 0 {
            bail!("{}: status {status}", words.join(" "));
        }
        let natural = |number: i64| u64::try_from(number).unwrap_or(0);
        Ok(Run {
            first_line: u64::try_from(first).ok(),
            end: natural(end),
            cpu: natural(cpu),
            memory: natural(kilobytes) * 1024,
        })
    }
}

/// Compiles a C program without shared libraries.
pub(super) fn compile(source: &Path, program: &Path) -> Result<()> {
    let mut gcc = Command::new("gcc");
    gcc.args(["-O2", "-Wall", "-Werror", "-static", "-o"])
        .arg(program)
        .arg(source);
    command::check(gcc.stdout(std::io::stderr()), LIMIT)
}
