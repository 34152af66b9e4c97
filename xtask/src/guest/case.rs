//! Runs one test case, inside a guest: starts its processes in order, waits for the probes,
//! applies the stimulus, and keeps to the time limit. It judges nothing.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::agent::shell_status;
use super::protocol::{ATTACHED, CaseTask, Outcome};
use super::rootfs::ORDINARY_USER;
use crate::command::kill_group;

/// The folder that cases run in; made anew for each.
pub(crate) const FOLDER: &str = "/tmp/case";

/// How long the outputs of an ended process are still waited for. A process that it left behind
/// may hold them open.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What the threads of a case tell its main thread.
enum Event {
    /// A line of the main command's standard output, with its newline if it had one.
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    /// One of the two outputs ended.
    Closed,
    /// The process ended.
    Exit(i32),
    /// The stimulus ended, having printed this.
    Stimulus(Vec<u8>),
}

/// Runs the case. An error means that the guest is unfit, not that the case failed.
pub(crate) fn run(task: &CaseTask) -> Result<Outcome> {
    let start = Instant::now();
    let deadline = start + Duration::from_millis(task.limit);
    let mut outcome = Outcome::default();
    if Path::new(FOLDER).exists() {
        fs::remove_dir_all(FOLDER)?;
    }
    fs::create_dir_all(FOLDER)?;
    for (name, text) in &task.files {
        fs::write(Path::new(FOLDER).join(name), text).with_context(|| format!("file {name}"))?;
    }
    if task.ordinary_user {
        std::os::unix::fs::chown(FOLDER, Some(ORDINARY_USER), Some(ORDINARY_USER))?;
    }
    let mut background = match &task.background {
        Some(line) => Some(
            shell(line)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?,
        ),
        None => None,
    };
    outcome.pid = background.as_ref().map(Child::id);
    let built = match &task.build {
        Some(words) => phase(words, task, false, deadline, &mut outcome)?,
        None => true,
    };
    if built {
        phase(&task.run, task, true, deadline, &mut outcome)?;
    }
    if let Some(child) = &mut background {
        kill_group(child.id());
        child.wait()?;
    }
    outcome.took = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(outcome)
}

/// Starts one command and follows it to its end; true if it succeeded.
fn phase(
    words: &[String],
    task: &CaseTask,
    is_main: bool,
    deadline: Instant,
    outcome: &mut Outcome,
) -> Result<bool> {
    let pid = outcome.pid.map(|pid| pid.to_string()).unwrap_or_default();
    let mut words = words.iter().map(|word| word.replace("{{pid}}", &pid));
    let program = words.next().context("an empty command line")?;
    let mut command = Command::new(&program);
    command
        .args(words)
        .envs(&task.env)
        .current_dir(FOLDER)
        .process_group(0);
    if is_main {
        command.env(ATTACHED, "1");
    }
    if task.ordinary_user {
        command.uid(ORDINARY_USER).gid(ORDINARY_USER);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            outcome.status = 127;
            outcome
                .stderr
                .push_str(&format!("cannot start {program}: {error}\n"));
            return Ok(false);
        }
    };
    let leader = child.id();
    let (sender, events) = mpsc::channel();
    read_lines(child.stdout.take(), sender.clone(), Event::Stdout);
    read_lines(child.stderr.take(), sender.clone(), Event::Stderr);
    let waiter = sender.clone();
    thread::spawn(move || {
        let status = child.wait().map_or(-1, shell_status);
        let _ = waiter.send(Event::Exit(status));
    });
    let stimulus = task
        .stimulus
        .as_ref()
        .map(|line| line.replace("{{pid}}", &pid));
    let interrupts = task.interrupt;
    Started {
        leader,
        is_main,
        stimulus,
        interrupts,
        sender,
    }
    .follow(&events, deadline, outcome);
    Ok(outcome.status == 0 && !outcome.timed_out)
}

/// A command that was started, and what is to happen to it.
struct Started {
    leader: u32,
    is_main: bool,
    stimulus: Option<String>,
    interrupts: bool,
    /// For the thread of the stimulus.
    sender: Sender<Event>,
}

impl Started {
    fn follow(&self, events: &Receiver<Event>, mut deadline: Instant, outcome: &mut Outcome) {
        let (mut open, mut running, mut stimulated) = (2, true, false);
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        while running || open > 0 {
            match events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Event::Stdout(line)) if self.says_attached(&line) => {
                    outcome.attached = true;
                    match &self.stimulus {
                        Some(line) => stimulate(line, self.sender.clone()),
                        None if self.interrupts => interrupt(self.leader),
                        None => {}
                    }
                }
                Ok(Event::Stdout(line)) => stdout.extend(line),
                Ok(Event::Stderr(line)) => stderr.extend(line),
                Ok(Event::Closed) => open -= 1,
                Ok(Event::Stimulus(text)) => {
                    stimulated = true;
                    outcome.stimulus = String::from_utf8_lossy(&text).into_owned();
                    if self.interrupts && running {
                        interrupt(self.leader);
                    }
                }
                Ok(Event::Exit(status)) => {
                    running = false;
                    outcome.status = status;
                    deadline = deadline.min(Instant::now() + LAST_WORDS);
                }
                Err(_) if running => {
                    outcome.timed_out = true;
                    kill_group(self.leader);
                    deadline = Instant::now() + LAST_WORDS;
                    // A process that cannot be killed must not hold up the rest.
                    running = false;
                }
                Err(_) => break,
            }
        }
        if self.stimulus.is_some() && outcome.attached && !stimulated {
            outcome
                .stimulus
                .push_str("(did not end before the main command)\n");
        }
        outcome.stdout.push_str(&String::from_utf8_lossy(&stdout));
        outcome.stderr.push_str(&String::from_utf8_lossy(&stderr));
    }

    fn says_attached(&self, line: &[u8]) -> bool {
        self.is_main && line.trim_ascii_end() == ATTACHED.as_bytes()
    }
}

fn shell(line: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", line])
        .current_dir(FOLDER)
        .process_group(0)
        .stdin(Stdio::null());
    command
}

fn stimulate(line: &str, sender: Sender<Event>) {
    let mut command = shell(&format!("exec 2>&1; {line}"));
    thread::spawn(move || {
        let text = match command.output() {
            Ok(output) => output.stdout,
            Err(error) => format!("cannot start: {error}").into_bytes(),
        };
        let _ = sender.send(Event::Stimulus(text));
    });
}

/// What the interrupt key of a terminal would do, to the main command alone.
fn interrupt(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::INT);
    }
}

fn read_lines<R: Read + Send + 'static>(
    from: Option<R>,
    sender: Sender<Event>,
    event: fn(Vec<u8>) -> Event,
) {
    thread::spawn(move || {
        if let Some(from) = from {
            let mut reader = BufReader::new(from);
            let mut line = Vec::new();
            while matches!(reader.read_until(b'\n', &mut line), Ok(n) if n > 0) {
                if sender.send(event(std::mem::take(&mut line))).is_err() {
                    return;
                }
            }
        }
        let _ = sender.send(Event::Closed);
    });
}
