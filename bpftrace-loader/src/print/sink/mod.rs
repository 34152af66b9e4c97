//! Where a session says what it has to say.

mod capture;
mod json;
mod located;
mod text;
mod writer;

use std::io;

use bpftrace_meta::{SourceMeta, SourceRange};

use crate::print::{MapDump, Value};

pub use capture::CaptureSink;
pub use json::JsonSink;
pub use text::TextSink;
pub use writer::{BufferMode, ScriptOutput};

/// Which call of the script made a piece of output; JSON output names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputKind {
    /// `printf`.
    Printf,
    /// `cat`.
    Cat,
    /// `join`.
    Join,
    /// `time`.
    Time,
    /// `system`: what the command wrote.
    System,
}

/// How bad a [`Located`] message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// `errorf`.
    Error,
    /// `warnf` and warnings of the running program.
    Warning,
}

/// What a [`Located`] message comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind<'a> {
    /// The script called `errorf`.
    Errorf,
    /// The script called `warnf`.
    Warnf,
    /// Something about the script was noticed while it was started, such as a missing attach point.
    Start,
    /// The program did something doubtful (division by zero, index out of bounds).
    Runtime,
    /// A BPF helper failed.
    Helper {
        /// Its name without `bpf_`.
        name: &'a str,
        /// What it returned: a negative errno, or 0 for a look-up that found nothing.
        retcode: i64,
    },
}

/// A message of the running script about a place in it.
#[derive(Clone, Copy, Debug)]
pub struct Located<'a> {
    /// Where it comes from.
    pub kind: MessageKind<'a>,
    /// Text, without a newline at its end unless the script put one there.
    pub text: &'a [u8],
    /// The place.
    pub place: SourceRange,
    /// Where the macros around it were expanded, innermost first.
    pub expanded_from: &'a [SourceRange],
    /// File names and lines to quote.
    pub source: &'a SourceMeta,
}

/// Result of one `test` probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestResult {
    /// Name of the test.
    pub name: String,
    /// How long it ran, nanoseconds.
    pub duration_ns: u64,
    /// Whether it passed.
    pub passed: bool,
    /// What it wrote.
    pub output: Vec<u8>,
}

/// Result of one `bench` probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BenchResult {
    /// Name of the benchmark.
    pub name: String,
    /// Mean time of one run, nanoseconds.
    pub average_ns: u64,
    /// Number of runs.
    pub iterations: u64,
}

/// Everything a session says: output of the script, and messages around it.
///
/// Implementations: [`TextSink`] and [`JsonSink`] for people and programs, and [`CaptureSink`], which
/// keeps what was said. Errors are those of writing; the caller looks for [`io::ErrorKind::BrokenPipe`], which is
/// a quiet end of the session, see [`crate::print::Action::OutputClosed`].
pub trait Sink {
    /// Text that the script wrote.
    fn output(&mut self, kind: OutputKind, text: &[u8]) -> io::Result<()>;

    /// A printed value.
    fn value(&mut self, value: &Value) -> io::Result<()>;

    /// A printed map.
    fn map(&mut self, map: &MapDump) -> io::Result<()>;

    /// All probes are attached. Not called for quiet sessions.
    fn attached_probes(&mut self, n_probes: u64) -> io::Result<()>;

    /// So many more events were lost since the last call.
    fn lost_events(&mut self, n_events: u64) -> io::Result<()>;

    /// The total of lost events, at the end; called when it is not 0.
    fn total_lost_events(&mut self, n_events: u64) -> io::Result<()>;

    /// A message of the running script about a place in it.
    fn located(&mut self, message: &Located<'_>) -> io::Result<()>;

    /// A warning about no place in the script; `text` is without `WARNING: ` and newline.
    fn warning(&mut self, text: &str) -> io::Result<()>;

    /// An error about no place in the script; `text` is without `ERROR: ` and newline.
    fn error(&mut self, text: &str) -> io::Result<()>;

    /// What is only said with `-v`, such as what is being attached; `text` is without a newline.
    fn detail(&mut self, text: &str) -> io::Result<()>;

    /// A result of test mode.
    fn test_results(&mut self, results: &[TestResult]) -> io::Result<()>;

    /// A result of benchmark mode.
    fn bench_results(&mut self, results: &[BenchResult]) -> io::Result<()>;

    /// Tracing is over: what separates the output so far from the final maps.
    fn end_of_run(&mut self) -> io::Result<()>;

    /// The ring buffer is empty for now, so somebody may be looking: in line mode, complete lines
    /// have to be visible after this. The run loop calls it each time it is about to wait.
    fn drained(&mut self) -> io::Result<()>;

    /// Writes out whatever is buffered. Called before anything else writes to the same place, and
    /// at the end.
    fn flush(&mut self) -> io::Result<()>;
}
