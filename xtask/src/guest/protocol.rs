//! What the host and the agent in the guest say to each other.
//!
//! The job travels inside the initramfs, as JSON. From then on both sides talk over the second
//! serial port in frames: one line of JSON, and after it as many raw bytes as the line says.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Where the agent finds its job.
pub(crate) const JOB: &str = "job.json";

/// The variable that makes bpftrace print [`ATTACHED`], and the line it then prints.
pub(crate) const ATTACHED: &str = "__BPFTRACE_NOTIFY_PROBES_ATTACHED";

/// One thing for the guest to do. The guest powers off after the last.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Task {
    /// Runs a shell line. Its output comes back while it runs; it may run for ever.
    Shell {
        /// The line.
        line: String,
        /// Whether the host will send its standard input. Otherwise that is empty.
        input: bool,
    },
    /// Sends a file back, as standard output.
    File {
        /// Its path.
        path: String,
    },
    /// Runs a test case. What it printed comes back at its end.
    Case(Box<CaseTask>),
}

/// A test case, as the guest sees it: what to start and when.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct CaseTask {
    /// Files to write before anything else, in the folder that the case runs in.
    pub(crate) files: BTreeMap<String, String>,
    /// A shell line that runs beside the rest from before the start, and is killed at the end.
    /// `{{pid}}` in the other command lines is its process id.
    pub(crate) background: Option<String>,
    /// A command that must succeed before the main one starts. If it fails, its result is the
    /// case's result. What it prints counts as the case's.
    pub(crate) build: Option<Vec<String>>,
    /// The main command.
    pub(crate) run: Vec<String>,
    /// Added to the environment of both.
    pub(crate) env: BTreeMap<String, String>,
    /// Run both as the guest's ordinary user.
    pub(crate) ordinary_user: bool,
    /// A shell line to run as soon as the main command says that its probes are attached.
    pub(crate) stimulus: Option<String>,
    /// Send the main command an interrupt: after the stimulus, or once attached without one.
    pub(crate) interrupt: bool,
    /// The time for all of it, in milliseconds of the guest's clock.
    pub(crate) limit: u64,
}

/// What came of a case.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// The exit status, or 128 and the number of the signal, as a shell has it.
    pub(crate) status: i32,
    /// The time was up.
    pub(crate) timed_out: bool,
    /// Whether the main command said that its probes are attached.
    pub(crate) attached: bool,
    /// Standard output of the build and the main command, without the line [`ATTACHED`].
    pub(crate) stdout: String,
    /// Standard error of both.
    pub(crate) stderr: String,
    /// What the stimulus printed; for the reader of a failure.
    pub(crate) stimulus: String,
    /// The process id of the background line.
    pub(crate) pid: Option<u32>,
    /// How long it took, in milliseconds of the guest's clock.
    pub(crate) took: u64,
}

/// Guest to host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The agent is up. Holds the kernel's release.
    Hello(String),
    /// A task starts, and will end within so many milliseconds if there is a limit.
    Started {
        /// Its place in the job.
        task: usize,
        /// Its limit.
        limit: Option<u64>,
    },
    /// The payload is from standard output.
    Stdout,
    /// The payload is from standard error.
    Stderr,
    /// A shell line or file ended, with this status.
    Status(i32),
    /// A case ended.
    Outcome(Box<Outcome>),
    /// The job is done.
    End,
}

/// Host to guest, while a shell line runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Order {
    /// The payload is standard input; when empty, that is its end.
    Stdin,
    /// Send this signal to the shell line.
    Signal(i32),
}

#[derive(Serialize, Deserialize)]
struct Frame<T> {
    message: T,
    payload: usize,
}

/// Writes a frame.
pub(crate) fn send<T: Serialize>(
    out: &mut impl Write,
    message: T,
    payload: &[u8],
) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(&Frame {
        message,
        payload: payload.len(),
    })?;
    bytes.push(b'\n');
    bytes.extend_from_slice(payload);
    out.write_all(&bytes)?;
    out.flush()
}

/// Reads a frame; `None` at the end. Lines that are no frame (a kernel may put noise on a port
/// while it sets it up) are passed over.
pub(crate) fn receive<T: DeserializeOwned>(
    input: &mut impl BufRead,
) -> io::Result<Option<(T, Vec<u8>)>> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        if let Ok(frame) = serde_json::from_slice::<Frame<T>>(&line) {
            let mut payload = vec![0; frame.payload];
            input.read_exact(&mut payload)?;
            return Ok(Some((frame.message, payload)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_noise_and_binary_payloads() {
        let mut wire = b"[    0.1] noise\n".to_vec();
        send(&mut wire, Report::Stdout, b"a\n\0b").unwrap();
        send(&mut wire, Report::Status(3), b"").unwrap();
        let mut input = wire.as_slice();
        let (report, payload) = receive::<Report>(&mut input).unwrap().unwrap();
        assert!(matches!(report, Report::Stdout));
        assert_eq!(payload, b"a\n\0b");
        let (report, _) = receive::<Report>(&mut input).unwrap().unwrap();
        assert!(matches!(report, Report::Status(3)));
        assert!(receive::<Report>(&mut input).unwrap().is_none());
    }
}
