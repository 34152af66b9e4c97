//! Runs one test case, inside a guest: starts its processes in order, waits for the probes,
//! applies the stimulus, and keeps to the time limit. It judges nothing.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
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
pub(crate) fn run(task: &CaseTask, folder: &Path) -> Result<Outcome> {
    let start = Instant::now();
    let deadline = start + Duration::from_millis(task.limit);
    let mut outcome = Outcome::default();
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    for (name, text) in &task.files {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, text).with_context(|| format!("file {name}"))?;
    }
    if task.ordinary_user {
        std::os::unix::fs::chown(folder, Some(ORDINARY_USER), Some(ORDINARY_USER))?;
    }
    let mut background = match &task.background {
        Some(line) => Some(
            shell(line, folder)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?,
        ),
        None => None,
    };
    outcome.pid = background.as_ref().map(Child::id);
    let built = match &task.build {
        Some(words) => phase(words, task, folder, false, deadline, &mut outcome)?,
        None => true,
    };
    if built {
        phase(&task.run, task, folder, true, deadline, &mut outcome)?;
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
    folder: &Path,
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
        .current_dir(folder)
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
        folder: folder.to_owned(),
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
    folder: PathBuf,
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
                        Some(line) => stimulate(line, &self.folder, self.sender.clone()),
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

fn shell(line: &str, folder: &Path) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", line])
        .current_dir(folder)
        .process_group(0)
        .stdin(Stdio::null());
    command
}

fn stimulate(line: &str, folder: &Path, sender: Sender<Event>) {
    let mut command = shell(&format!("exec 2>&1; {line}"), folder);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(name: &str, task: &CaseTask) -> Outcome {
        let folder = std::env::temp_dir().join(format!("xtask-case-{}-{name}", std::process::id()));
        let outcome = run(task, &folder).unwrap();
        fs::remove_dir_all(folder).unwrap();
        outcome
    }

    fn sh(line: &str) -> Vec<String> {
        ["/bin/sh", "-c", line].map(str::to_owned).to_vec()
    }

    #[test]
    fn the_stimulus_runs_once_probes_are_attached() {
        // The last sleep lets the stimulus end first.
        let wait = "echo before; echo $__BPFTRACE_NOTIFY_PROBES_ATTACHED >&2; \
                    echo __BPFTRACE_NOTIFY_PROBES_ATTACHED; \
                    while ! [ -e done ]; do sleep 0.01; done; sleep 2; echo after; exit 3";
        let task = CaseTask {
            run: sh(wait),
            stimulus: Some("echo stimulus; touch done".to_owned()),
            limit: 20_000,
            ..CaseTask::default()
        };
        let outcome = outcome("stimulus", &task);
        assert_eq!(
            (outcome.status, outcome.timed_out, outcome.attached),
            (3, false, true)
        );
        assert_eq!(
            (&*outcome.stdout, &*outcome.stderr),
            ("before\nafter\n", "1\n")
        );
        assert!(outcome.stimulus.starts_with("stimulus\n"));
    }

    #[test]
    fn an_interrupt_follows_the_stimulus() {
        let wait = "trap 'echo interrupted; exit 0' INT; \
                    echo __BPFTRACE_NOTIFY_PROBES_ATTACHED; while :; do sleep 0.01; done";
        let task = CaseTask {
            run: sh(wait),
            interrupt: true,
            limit: 20_000,
            ..CaseTask::default()
        };
        let outcome = outcome("interrupt", &task);
        assert_eq!((outcome.status, &*outcome.stdout), (0, "interrupted\n"));
    }

    #[test]
    fn what_hangs_is_killed_with_its_children() {
        let task = CaseTask {
            run: sh("echo x; sleep 1000 & wait"),
            limit: 200,
            ..CaseTask::default()
        };
        let outcome = outcome("hang", &task);
        assert!(outcome.timed_out);
        assert_eq!(outcome.stdout, "x\n");
    }

    #[test]
    fn a_failed_build_is_the_result() {
        let task = CaseTask {
            build: Some(sh("echo no >&2; exit 1")),
            run: sh("echo never"),
            limit: 20_000,
            ..CaseTask::default()
        };
        let outcome = outcome("build", &task);
        assert_eq!(
            (outcome.status, &*outcome.stdout, &*outcome.stderr),
            (1, "", "no\n")
        );
    }

    #[test]
    fn the_background_line_is_known_by_its_process_id() {
        let task = CaseTask {
            background: Some("exec sleep 1000".to_owned()),
            run: sh("kill -0 {{pid}} && echo {{pid}}"),
            limit: 20_000,
            ..CaseTask::default()
        };
        let outcome = outcome("background", &task);
        assert_eq!(outcome.stdout, format!("{}\n", outcome.pid.unwrap()));
    }
}
