//! What a program costs per event, and how many instructions it has, on this machine's kernel.
//!
//! The kernel counts runs and time while `kernel.bpf_stats_enabled` is set; `bpftool` shows them.
//! The programs fire for one system call of one process of ours.

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
use serde::Deserialize;

use crate::command;
use crate::guest::protocol::ATTACHED;

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";
const LIMIT: Duration = Duration::from_secs(30);
/// How often the system call is made.
const CALLS: &str = "200000";

/// Programs to compare, by what they show.
pub(super) const PROGRAMS: [(&str, &str); 4] = [
    (
        "count by comm",
        "tracepoint:syscalls:sys_enter_getppid { @[comm] = count(); }",
    ),
    (
        "log2 histogram",
        "tracepoint:syscalls:sys_enter_getppid { @ = hist(nsecs & 0xffff); }",
    ),
    (
        "predicate and string",
        r#"tracepoint:syscalls:sys_enter_getppid /comm == "syscalls"/ { @[pid, comm] = sum(1); }"#,
    ),
    (
        "latency by thread",
        "tracepoint:syscalls:sys_enter_getppid { @s[tid] = nsecs; } \
         tracepoint:syscalls:sys_exit_getppid /@s[tid]/ { @ = hist(nsecs - @s[tid]); delete(@s, tid); }",
    ),
];

/// The sum over the programs of a script.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cost {
    /// Instructions, as the verifier left them.
    pub(super) instructions: u64,
    /// Nanoseconds per run, times 1000.
    pub(super) picoseconds: u64,
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

/// Runs a command that attaches a program, makes events, and reads what they cost.
pub(super) fn cost(words: &[String], syscalls: &Path) -> Result<Cost> {
    let before: BTreeSet<u64> = programs()?.into_iter().map(|program| program.id).collect();
    let mut child = Command::new(&words[0])
        .args(&words[1..])
        .env(ATTACHED, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {}", words[0]))?;
    let result = while_attached(&mut child, syscalls, &before);
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::INT);
    }
    thread::sleep(Duration::from_millis(500));
    let _ = child.kill();
    child.wait()?;
    result
}

fn while_attached(child: &mut Child, syscalls: &Path, before: &BTreeSet<u64>) -> Result<Cost> {
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
    command::check(Command::new(syscalls).args(["getppid", CALLS]), LIMIT)?;
    let mut cost = Cost::default();
    for program in programs()?
        .iter()
        .filter(|program| !before.contains(&program.id))
    {
        // Those that never ran are not part of it.
        if let Some(time) = (program.run_time_ns * 1000).checked_div(program.run_cnt) {
            cost.instructions += program.bytes_xlated / 8;
            cost.picoseconds += time;
        }
    }
    if cost.instructions == 0 {
        bail!("no program ran");
    }
    Ok(cost)
}

fn programs() -> Result<Vec<Shown>> {
    let text = command::stdout(Command::new("bpftool").args(["--json", "prog", "show"]))?;
    serde_json::from_str(&text).context("bpftool's output")
}
