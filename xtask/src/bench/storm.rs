//! What a flood of output costs the process that prints it, and whether all of it is accounted for.
//!
//! One process of ours makes system calls as fast as it can, and a script prints a line for each.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::command;
use crate::guest::protocol::ATTACHED;

const LIMIT: Duration = Duration::from_secs(60);
/// Events of a flood.
const EVENTS: u64 = 2_000_000;
/// Events before memory is looked at for the first time.
const WARM_UP: u64 = 200_000;

/// The figures of one flood.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flood {
    /// Events in a second, made and printed at the same time.
    pub(super) rate: u64,
    /// Processor time of the printing process for each line, in picoseconds.
    pub(super) cpu: u64,
    /// Events that were counted as lost, of a million.
    pub(super) lost: u64,
    /// Bytes of resident memory gained between a tenth of the flood and its end.
    pub(super) gained: u64,
}

/// Runs `storm.bt` and makes the events.
pub(super) fn flood(bpftrace: &str, folder: &Path, syscalls: &Path) -> Result<Flood> {
    let mut child = Command::new(bpftrace)
        .arg(folder.join("storm.bt"))
        .env(ATTACHED, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {bpftrace}"))?;
    let result = while_running(&mut child, syscalls);
    let _ = child.kill();
    child.wait()?;
    result
}

fn while_running(child: &mut Child, syscalls: &Path) -> Result<Flood> {
    let id = child.id();
    let stdout = child.stdout.take().context("no pipe")?;
    let stderr = child.stderr.take().context("no pipe")?;
    let (sender, attached) = mpsc::channel();
    let printed = thread::spawn(move || {
        let mut count = 0;
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            if line == ATTACHED.as_bytes() {
                let _ = sender.send(());
            } else if !line.is_empty() {
                count += 1;
            }
        }
        count
    });
    let lost: JoinHandle<u64> = thread::spawn(move || {
        let lines = BufReader::new(stderr).lines().map_while(Result::ok);
        lines.filter_map(|line| lost_in(&line)).sum()
    });
    attached
        .recv_timeout(LIMIT)
        .context("probes were not attached")?;
    let make = |n: u64| {
        let n = n.to_string();
        command::check(Command::new(syscalls).args(["getppid", &n]), LIMIT)
    };
    make(WARM_UP)?;
    let (memory, cpu, start) = (memory(id)?, cpu_time(id)?, Instant::now());
    make(EVENTS)?;
    wait_until_idle(id)?;
    let (took, cpu) = (start.elapsed(), cpu_time(id)? - cpu);
    let gained = self::memory(id)?.saturating_sub(memory);
    if let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        kill_process(pid, Signal::INT)?;
    }
    let join = |thread: JoinHandle<u64>| thread.join().ok().context("a reader failed");
    let (printed, lost) = (join(printed)?, join(lost)?);
    if printed + lost != WARM_UP + EVENTS {
        let made = WARM_UP + EVENTS;
        bail!("{made} events were made, {printed} printed and {lost} counted as lost");
    }
    let in_flood = printed.saturating_sub(WARM_UP).max(1);
    Ok(Flood {
        rate: (in_flood as f64 / took.as_secs_f64()) as u64,
        cpu: u64::try_from(cpu.as_nanos() * 1000)? / in_flood,
        lost: lost * 1_000_000 / (WARM_UP + EVENTS),
        gained,
    })
}

/// How many events a line on standard error says were lost just now.
fn lost_in(line: &str) -> Option<u64> {
    line.strip_prefix("Lost ")?
        .strip_suffix(" events")?
        .parse()
        .ok()
}

/// Resident memory in bytes.
fn memory(id: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kilobytes: u64 = kilobytes.context("no VmRSS")?.trim().parse()?;
    Ok(kilobytes * 1024)
}

/// Processor time so far, of all threads.
fn cpu_time(id: u32) -> Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{id}/schedstat"))?;
    let nanoseconds = text.split_whitespace().next().context("no schedstat")?;
    Ok(Duration::from_nanos(nanoseconds.parse()?))
}

/// Waits until the process has nothing more to do.
fn wait_until_idle(id: u32) -> Result<()> {
    let start = Instant::now();
    let mut before = cpu_time(id)?;
    while start.elapsed() < LIMIT {
        thread::sleep(Duration::from_millis(50));
        let now = cpu_time(id)?;
        if now - before < Duration::from_micros(500) {
            return Ok(());
        }
        before = now;
    }
    bail!("it does not come to rest")
}

#[cfg(test)]
mod tests {
    use super::lost_in;

    #[test]
    fn losses_are_read_from_what_is_said_about_them() {
        assert_eq!(lost_in("Lost 17 events"), Some(17));
        assert_eq!(lost_in("WARNING: Total lost event count: 17"), None);
        assert_eq!(lost_in("Attached 1 probe"), None);
    }
}
