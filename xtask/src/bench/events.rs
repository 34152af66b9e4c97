//! What a program costs per event, and how many instructions it has, on this machine's kernel.
//!
//! The kernel counts runs and time while `kernel.bpf_stats_enabled` is set; `bpftool` shows them.
//! The events come from one process of ours that makes system calls.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Deserialize;

use crate::command;
use crate::guest::protocol::ATTACHED;

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";
const LIMIT: Duration = Duration::from_secs(30);
/// A script in `xtask/bench`, and what makes its events.
#[derive(Debug)]
pub(super) struct Script {
    /// The file.
    pub(super) file: &'static str,
    /// What `tests/runtime/programs/syscalls.c` does.
    work: [&'static str; 2],
}

/// The scripts whose programs are compared.
pub(super) const SCRIPTS: [Script; 12] = [
    script("count.bt", ["getppid", "200000"]),
    script("disk.bt", ["fsync", "200"]),
    script("filter.bt", ["getppid", "200000"]),
    script("histogram.bt", ["getppid", "200000"]),
    script("latency.bt", ["getppid", "200000"]),
    script("loop.bt", ["getppid", "200000"]),
    script("names.bt", ["openat", "100000"]),
    script("opens.bt", ["openat", "5000"]),
    script("queue.bt", ["sleep", "200"]),
    script("reads.bt", ["read", "100000"]),
    script("stacks.bt", ["getppid", "50000"]),
    script("task.bt", ["getppid", "200000"]),
];

const fn script(file: &'static str, work: [&'static str; 2]) -> Script {
    Script { file, work }
}

/// Programs that ran less often say nothing about the time they take: `begin`, and what else
/// belongs to a tracer's own start.
const FEWEST_RUNS: u64 = 20;

/// The sum over the programs of a script.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cost {
    /// Instructions, as the verifier left them.
    pub(super) instructions: u64,
    /// Nanoseconds per run, times 1000; none if no program ran often enough to tell.
    pub(super) picoseconds: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Shown {
    id: u64,
    #[serde(default)]
    bytes_xlated: u64,
    #[serde(default)]
    run_time_ns: u64,
    #[serde(default)]
    run_cnt: u64,
}

/// Why this cannot be measured here, if it cannot.
pub(super) fn why_not() -> Option<String> {
    if !Path::new(SWITCH).exists() {
        return Some(format!("there is no {SWITCH}"));
    }
    match command::output(Command::new("bpftool").arg("version")) {
        Ok(output) if output.status.success() => None,
        _ => Some("bpftool is not installed".to_owned()),
    }
}

/// The kernel's statistics are on while this lives.
#[derive(Debug)]
pub(super) struct Statistics(String);

impl Statistics {
    /// Turns them on.
    pub(super) fn on() -> Result<Statistics> {
        let before = fs::read_to_string(SWITCH)?;
        fs::write(SWITCH, "1").with_context(|| format!("cannot write {SWITCH}"))?;
        Ok(Statistics(before))
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        let _ = fs::write(SWITCH, self.0.trim());
    }
}

/// Runs a script, makes events, and reads what they cost.
pub(super) fn cost(
    bpftrace: &str,
    script: &Script,
    folder: &Path,
    syscalls: &Path,
) -> Result<Cost> {
    let before: BTreeSet<u64> = programs()?.into_iter().map(|program| program.id).collect();
    let mut child = Command::new(bpftrace)
        .arg(folder.join(script.file))
        .env(ATTACHED, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {bpftrace}"))?;
    let result = while_attached(&mut child, script, syscalls, &before);
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::INT);
    }
    thread::sleep(Duration::from_millis(500));
    let _ = child.kill();
    child.wait()?;
    result
}

fn while_attached(
    child: &mut Child,
    script: &Script,
    syscalls: &Path,
    before: &BTreeSet<u64>,
) -> Result<Cost> {
    let stdout = child.stdout.take().context("no pipe")?;
    let (sender, attached) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if line == ATTACHED {
                let _ = sender.send(());
            }
        }
    });
    attached
        .recv_timeout(LIMIT)
        .context("probes were not attached")?;
    on_one_cpu(|| command::check(Command::new(syscalls).args(script.work), LIMIT))?;
    let mut cost = Cost::default();
    for program in programs()?
        .iter()
        .filter(|program| !before.contains(&program.id))
    {
        cost.instructions += program.bytes_xlated / 8;
        if program.run_cnt >= FEWEST_RUNS {
            let time = program.run_time_ns * 1000 / program.run_cnt;
            cost.picoseconds = Some(cost.picoseconds.unwrap_or(0) + time);
        }
    }
    if cost.instructions == 0 {
        bail!("there is no program");
    }
    Ok(cost)
}

/// What is started meanwhile stays on one CPU: moving about costs more than what programs differ by.
fn on_one_cpu<T>(start: impl FnOnce() -> Result<T>) -> Result<T> {
    let all = sched_getaffinity(None)?;
    let last = (0..CpuSet::MAX_CPU).rev().find(|&cpu| all.is_set(cpu));
    let mut one = CpuSet::new();
    one.set(last.context("no CPU to run on")?);
    sched_setaffinity(None, &one)?;
    let result = start();
    sched_setaffinity(None, &all)?;
    result
}

fn programs() -> Result<Vec<Shown>> {
    let text = command::stdout(Command::new("bpftool").args(["--json", "prog", "show"]))?;
    serde_json::from_str(&text).context("bpftool's output")
}
