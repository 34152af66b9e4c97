//! Measures what design promises: times, memory, sizes, and the cost of events; beside a peer
//! where there is one.
//!
//! Runs of the two alternate, so that what else the machine does falls on both, and every figure
//! is a median.

mod events;
mod measure;
mod storm;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use rustix::process::geteuid;

use crate::setup;
use crate::workspace::Workspace;
use measure::{Measure, Run};

const HELLO: &str = r#"BEGIN { print("hello world"); exit(); }"#;

/// Scripts whose compilation is measured, in `xtask/bench`.
const SCRIPTS: [&str; 3] = ["opens.bt", "disk.bt", "queue.bt"];

/// What is measured.
#[derive(Debug)]
pub(crate) struct Options {
    /// How often.
    pub(crate) runs: usize,
    /// The bpftrace to compare with; otherwise one on `PATH`.
    pub(crate) peer: Option<PathBuf>,
    /// Only the cost of events, and only of the scripts in whose name this occurs.
    pub(crate) script: Option<String>,
}

/// One of the two that are compared.
struct Subject {
    bpftrace: String,
    /// The executable that it wrote for [`HELLO`], if it could.
    written: Option<String>,
}

/// Prints the table.
pub(crate) fn run(workspace: &Workspace, ours: &Path, options: &Options) -> Result<()> {
    let measure = Measure::new(workspace)?;
    let folder = workspace.target.join("bench");
    let mut subjects = vec![Subject::new(ours, &folder.join("hello-ours"), &measure)];
    match options.peer.clone().or_else(on_path) {
        Some(peer) => subjects.push(Subject::new(&peer, &folder.join("hello-peer"), &measure)),
        None => println!("no peer: bpftrace is not on PATH and --peer is not given"),
    }
    println!("medians of {} runs", options.runs);
    println!("{:44} {:>12} {:>12} {:>7}", "", "ours", "peer", "ratio");
    if let Some(script) = &options.script {
        return event_rows(workspace, &subjects, options.runs, script);
    }

    let hello = |subject: &Subject| {
        Some(vec![
            subject.bpftrace.clone(),
            "-e".to_owned(),
            HELLO.to_owned(),
        ])
    };
    let written = |subject: &Subject| subject.written.as_ref().map(|path| vec![path.clone()]);
    hello_rows("direct", &subjects, options.runs, &measure, &hello);
    println!(
        "{:44} {}",
        "direct: executable",
        row(&sizes(&subjects, |s| Some(&s.bpftrace)), megabytes)
    );
    hello_rows("ahead-of-time", &subjects, options.runs, &measure, &written);
    let sizes = sizes(&subjects, |subject| subject.written.as_ref());
    println!(
        "{:44} {}",
        "ahead-of-time: executable",
        row(&sizes, megabytes)
    );
    for script in SCRIPTS {
        let path = workspace
            .root
            .join("xtask/bench")
            .join(script)
            .display()
            .to_string();
        let compile = |subject: &Subject| {
            let words = [&subject.bpftrace, "--mode", "codegen", &path];
            Some(words.map(str::to_owned).to_vec())
        };
        let runs = alternate(&subjects, options.runs, &measure, &compile);
        let cpu = medians(&runs, |run| Some(run.cpu));
        println!(
            "{:44} {}",
            format!("compile {script}: processor time"),
            row(&cpu, milliseconds)
        );
    }
    event_rows(workspace, &subjects, options.runs, "")
}

/// Where tracefs is not mounted, starts this task again in a mount namespace where it is, and
/// returns its exit status: the peer does without a mount less well than we do.
pub(crate) fn with_tracefs() -> Result<Option<i32>> {
    if Path::new("/sys/kernel/tracing/events").exists() || !geteuid().is_root() {
        return Ok(None);
    }
    let line = "mount -t tracefs tracefs /sys/kernel/tracing && exec \"$@\"";
    let status = Command::new("unshare")
        .args(["--mount", "sh", "-c", line, "sh"])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .status()
        .context("cannot start unshare")?;
    Ok(Some(status.code().unwrap_or(1)))
}

impl Subject {
    fn new(bpftrace: &Path, to: &Path, measure: &Measure) -> Subject {
        let bpftrace = bpftrace.display().to_string();
        let to = to.display().to_string();
        let words = [&bpftrace, "--aot", &to, "-e", HELLO].map(str::to_owned);
        let written = match measure.run(&words) {
            Ok(_) => Some(to),
            Err(error) => {
                eprintln!("xtask: {error:#}");
                None
            }
        };
        Subject { bpftrace, written }
    }
}

fn hello_rows(
    mode: &str,
    subjects: &[Subject],
    n_runs: usize,
    measure: &Measure,
    words: &dyn Fn(&Subject) -> Option<Vec<String>>,
) {
    let runs = alternate(subjects, n_runs, measure, words);
    let first_line = medians(&runs, |run| run.first_line);
    let exit = medians(&runs, |run| run.first_line.map(|first| run.end - first));
    let memory = medians(&runs, |run| Some(run.memory));
    for (what, figures, show) in [
        (
            "start to first line",
            first_line,
            milliseconds as fn(u64) -> String,
        ),
        ("first line to end", exit, milliseconds),
        ("resident memory", memory, megabytes),
    ] {
        println!("{:44} {}", format!("{mode}: {what}"), row(&figures, show));
    }
}

/// All runs of each subject; none if it failed.
fn alternate(
    subjects: &[Subject],
    n_runs: usize,
    measure: &Measure,
    words: &dyn Fn(&Subject) -> Option<Vec<String>>,
) -> Vec<Vec<Run>> {
    let words: Vec<_> = subjects.iter().map(words).collect();
    let mut all: Vec<Vec<Run>> = vec![Vec::new(); subjects.len()];
    let mut failed = vec![false; subjects.len()];
    // One more than asked for: the first fills the caches.
    for number in 0..=n_runs {
        for (subject, words) in words.iter().enumerate() {
            let (Some(words), false) = (words, failed[subject]) else {
                continue;
            };
            match measure.run(words) {
                Ok(run) if number > 0 => all[subject].push(run),
                Ok(_) => {}
                Err(error) => {
                    eprintln!("xtask: {error:#}");
                    failed[subject] = true;
                }
            }
        }
    }
    for (runs, failed) in all.iter_mut().zip(failed) {
        if failed {
            runs.clear();
        }
    }
    all
}

fn medians(runs: &[Vec<Run>], figure: impl Fn(&Run) -> Option<u64>) -> Vec<Option<u64>> {
    runs.iter()
        .map(|runs| median(runs.iter().filter_map(&figure).collect()))
        .collect()
}

fn median(mut numbers: Vec<u64>) -> Option<u64> {
    numbers.sort_unstable();
    numbers.get(numbers.len() / 2).copied()
}

fn sizes<'a>(
    subjects: &'a [Subject],
    path: impl Fn(&'a Subject) -> Option<&'a String>,
) -> Vec<Option<u64>> {
    let size = |path: &String| {
        let file = fs::read(path).ok()?;
        // A script that runs something else says nothing of its size.
        (!file.starts_with(b"#!")).then_some(file.len() as u64)
    };
    subjects
        .iter()
        .map(|subject| path(subject).and_then(size))
        .collect()
}

/// Instructions and time per event of each script, ours and the peer's from one run.
fn event_rows(
    workspace: &Workspace,
    subjects: &[Subject],
    n_runs: usize,
    filter: &str,
) -> Result<()> {
    setup::install(&["bpftool"])?;
    if let Some(why) = events::why_not() {
        println!("no cost of events: {why}");
        return Ok(());
    }
    let syscalls = workspace.target.join("bench/syscalls");
    measure::compile(
        &workspace.root.join("tests/runtime/programs/syscalls.c"),
        &syscalls,
    )?;
    let folder = workspace.root.join("xtask/bench");
    if "storm.bt".contains(filter) {
        storm_rows(&folder, &syscalls, subjects, n_runs);
    }
    let _statistics = events::Statistics::on().context("the cost of events")?;
    let scripts = events::SCRIPTS.iter();
    for script in scripts.filter(|script| script.file.contains(filter)) {
        let mut costs: Vec<Vec<events::Cost>> = vec![Vec::new(); subjects.len()];
        for number in 0..n_runs.min(9) {
            let mut turns: Vec<_> = subjects.iter().zip(&mut costs).collect();
            // Neither is always the first.
            if number % 2 == 1 {
                turns.reverse();
            }
            for (subject, costs) in turns {
                match events::cost(&subject.bpftrace, script, &folder, &syscalls) {
                    Ok(cost) => costs.push(cost),
                    Err(error) => eprintln!("xtask: {}: {error:#}", script.file),
                }
            }
        }
        let figure = |figure: fn(&events::Cost) -> Option<u64>| -> Vec<Option<u64>> {
            costs
                .iter()
                .map(|costs| median(costs.iter().filter_map(figure).collect()))
                .collect()
        };
        let instructions = figure(|cost| Some(cost.instructions));
        println!(
            "{:44} {}",
            format!("{}: BPF instructions", script.file),
            row(&instructions, |n| n.to_string())
        );
        let time = figure(|cost| cost.picoseconds);
        println!(
            "{:44} {}",
            format!("{}: time per event", script.file),
            row(&time, nanoseconds)
        );
    }
    Ok(())
}

/// A flood of output.
fn storm_rows(folder: &Path, syscalls: &Path, subjects: &[Subject], n_runs: usize) {
    let mut floods: Vec<Vec<storm::Flood>> = vec![Vec::new(); subjects.len()];
    for _ in 0..n_runs.min(3) {
        for (subject, floods) in subjects.iter().zip(&mut floods) {
            match storm::flood(&subject.bpftrace, folder, syscalls) {
                Ok(flood) => floods.push(flood),
                Err(error) => eprintln!("xtask: storm.bt, {}: {error:#}", subject.bpftrace),
            }
        }
    }
    let show = |what: &str, figure: fn(&storm::Flood) -> u64, show: fn(u64) -> String| {
        let figures: Vec<_> = floods
            .iter()
            .map(|floods| median(floods.iter().map(figure).collect()))
            .collect();
        println!("{:44} {}", format!("storm.bt: {what}"), row(&figures, show));
    };
    show("lines a second", |flood| flood.rate, |n| n.to_string());
    show("processor time per line", |flood| flood.cpu, nanoseconds);
    show("lost, of a million", |flood| flood.lost, |n| n.to_string());
    show("memory gained", |flood| flood.gained, megabytes);
}

/// Ours, the peer's, and ours as a part of the peer's.
fn row(figures: &[Option<u64>], show: fn(u64) -> String) -> String {
    let at = |n: usize| figures.get(n).copied().flatten();
    let text = |figure: Option<u64>| figure.map_or_else(|| "-".to_owned(), show);
    let ratio = match (at(0), at(1)) {
        (Some(ours), Some(peer)) if peer > 0 => format!("{:.2}", ours as f64 / peer as f64),
        _ => String::new(),
    };
    format!("{:>12} {:>12} {ratio:>7}", text(at(0)), text(at(1)))
}

fn milliseconds(nanoseconds: u64) -> String {
    format!("{:.2} ms", nanoseconds as f64 / 1e6)
}

fn nanoseconds(picoseconds: u64) -> String {
    format!("{:.1} ns", picoseconds as f64 / 1e3)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}

fn on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join("bpftrace"))
        .find(|file| file.is_file())
}
