//! The side of xtask that runs inside a guest: does the tasks of the job one after the other and
//! reports over the second serial port. The init script starts it, as `xtask agent`.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::case;
use super::protocol::{JOB, Order, Report, Task, receive, send};

/// The port that reports go to. The init script has set it to raw.
const PORT: &str = "/dev/ttyS1";

/// Writes reports; shared by the threads that forward output.
#[derive(Clone)]
struct Reports(Arc<Mutex<File>>);

impl Reports {
    fn send(&self, report: Report, payload: &[u8]) -> Result<()> {
        let mut port = self.0.lock().expect("no thread panics while it writes");
        send(&mut *port, report, payload).context("cannot write a report")
    }
}

/// Does the whole job.
pub(crate) fn run() -> Result<()> {
    let job = fs::read(format!("/{JOB}")).context("cannot read the job")?;
    let tasks: Vec<Task> = serde_json::from_slice(&job).context("the job is malformed")?;
    let reports = Reports(Arc::new(Mutex::new(
        OpenOptions::new().write(true).open(PORT)?,
    )));
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    reports.send(Report::Hello(release.trim().to_owned()), &[])?;
    for (number, task) in tasks.iter().enumerate() {
        let limit = match task {
            Task::Case(case) => Some(case.limit),
            Task::File { .. } => Some(60_000),
            Task::Shell { .. } => None,
        };
        reports.send(
            Report::Started {
                task: number,
                limit,
            },
            &[],
        )?;
        match task {
            Task::Shell { line, input } => {
                let status = shell(line, *input, &reports)?;
                reports.send(Report::Status(status), &[])?;
            }
            Task::File { path } => {
                let status = file(path, &reports)?;
                reports.send(Report::Status(status), &[])?;
            }
            Task::Case(task) => {
                let outcome = case::run(task, Path::new(case::FOLDER))?;
                kill_strays();
                reports.send(Report::Outcome(Box::new(outcome)), &[])?;
            }
        }
    }
    reports.send(Report::End, &[])
}

/// A process's status as a shell has it.
pub(super) fn shell_status(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

fn file(path: &str, reports: &Reports) -> Result<i32> {
    match fs::read(path) {
        Ok(bytes) => reports.send(Report::Stdout, &bytes).map(|()| 0),
        Err(error) => {
            let text = format!("{path}: {error}\n");
            reports.send(Report::Stderr, text.as_bytes()).map(|()| 1)
        }
    }
}

fn shell(line: &str, input: bool, reports: &Reports) -> Result<i32> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", line]).process_group(0);
    command.stdin(if input { Stdio::piped() } else { Stdio::null() });
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let group = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .context("no process id")?;
    let stdout = child.stdout.take().context("no pipe")?;
    let stderr = child.stderr.take().context("no pipe")?;
    let forwarders = [
        forward(stdout, Report::Stdout, reports),
        forward(stderr, Report::Stderr, reports),
    ];
    if let Some(stdin) = child.stdin.take() {
        let port = BufReader::new(File::open(PORT)?);
        // Lives until the guest powers off; nothing follows a shell line that has input.
        thread::spawn(move || obey(port, stdin, group));
    }
    let status = child.wait()?;
    // What a line leaves running must not keep the pipes open.
    kill_strays();
    for forwarder in forwarders {
        let _ = forwarder.join();
    }
    Ok(shell_status(status))
}

/// Carries out what the host orders while a shell line runs.
fn obey(mut port: impl BufRead, stdin: ChildStdin, group: Pid) {
    let mut stdin = Some(stdin);
    while let Ok(Some((order, payload))) = receive::<Order>(&mut port) {
        match order {
            Order::Stdin if payload.is_empty() => stdin = None,
            Order::Stdin => {
                if let Some(stdin) = &mut stdin {
                    // The line may have ended, or may not read its input.
                    let _ = stdin.write_all(&payload);
                }
            }
            Order::Signal(number) => {
                if let Some(signal) = Signal::from_named_raw(number) {
                    let _ = kill_process_group(group, signal);
                }
            }
        }
    }
}

fn forward(
    mut from: impl Read + Send + 'static,
    kind: Report,
    to: &Reports,
) -> thread::JoinHandle<()> {
    let to = to.clone();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(n) = from.read(&mut buffer) {
            if n == 0 || to.send(kind.clone(), &buffer[..n]).is_err() {
                return;
            }
        }
    })
}

/// Kills what a task left running: everything but process 1, this process and kernel threads.
fn kill_strays() {
    let Ok(processes) = fs::read_dir("/proc") else {
        return;
    };
    let this = std::process::id();
    for process in processes.flatten() {
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        // Kernel threads have no executable.
        let is_user = fs::read_link(process.path().join("exe")).is_ok();
        if pid != 1
            && pid != this
            && is_user
            && let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw)
        {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}
