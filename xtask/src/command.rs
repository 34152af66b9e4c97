//! Running other programs with a time limit, so that nothing here waits for ever.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

/// How often a child is looked at while waiting for it.
const POLL: Duration = Duration::from_millis(20);

/// Runs a command to its end; it is killed with its children when the limit passes.
pub(crate) fn status(command: &mut Command, limit: Duration) -> Result<ExitStatus> {
    let shown = show(command);
    let mut child = command
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {shown}"))?;
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() > deadline {
            kill_group(child.id());
            child.wait()?;
            bail!("{shown}: killed after {} s", limit.as_secs());
        }
        thread::sleep(POLL);
    }
}

/// Like [`status`], and anything but success is an error.
pub(crate) fn check(command: &mut Command, limit: Duration) -> Result<()> {
    let status = status(command, limit)?;
    if !status.success() {
        bail!("{}: {status}", show(command));
    }
    Ok(())
}

/// Runs a command to its end like [`status`], passes its standard output on and also returns it.
pub(crate) fn tee(command: &mut Command, limit: Duration) -> Result<(ExitStatus, String)> {
    let (reader, writer) = std::io::pipe()?;
    command.stdout(writer);
    let copier = thread::spawn(move || {
        let mut text = String::new();
        for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            text.push_str(&line);
            text.push('\n');
        }
        text
    });
    let status = status(command, limit);
    // The command's own copy of the pipe would keep the reader waiting.
    command.stdout(Stdio::null());
    let text = copier.join().expect("copying does not panic");
    Ok((status?, text))
}

/// What a quick command prints. Standard error passes through.
pub(crate) fn stdout(command: &mut Command) -> Result<String> {
    let output = output(command.stderr(Stdio::inherit()))?;
    if !output.status.success() {
        bail!("{}: {}", show(command), output.status);
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("{}: output is not UTF-8", show(command)))
}

/// Both outputs of a quick command, whatever its status.
pub(crate) fn output(command: &mut Command) -> Result<Output> {
    let shown = show(command);
    command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {shown}"))
}

/// Kills a process group that was started with `process_group(0)`; it may be gone already.
pub(crate) fn kill_group(leader: u32) {
    if let Some(pid) = i32::try_from(leader).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

/// The command line, for messages.
pub(crate) fn show(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}
