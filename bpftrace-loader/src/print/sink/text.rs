use std::io::{self, Write};

use super::located::write_plain;
use super::{BenchResult, Located, OutputKind, ScriptOutput, Severity, Sink, TestResult};
use crate::print::{MapBody, MapCell, MapDump, Value};

/// Text for people: output of the script to its place, everything else to standard error.
pub struct TextSink {
    out: ScriptOutput,
    err: Box<dyn Write>,
    color: bool,
    scratch: Vec<u8>,
}

impl TextSink {
    /// Output of the script to `out`, messages to standard error, in color if wanted.
    #[must_use]
    pub fn new(out: ScriptOutput, color: bool) -> Self {
        Self::with_errors(out, Box::new(io::stderr()), color)
    }

    /// Output of the script to `out`, messages to `err`.
    #[must_use]
    pub fn with_errors(out: ScriptOutput, err: Box<dyn Write>, color: bool) -> Self {
        Self {
            out,
            err,
            color,
            scratch: Vec::new(),
        }
    }

    fn say(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        self.scratch.clear();
        write(&mut self.scratch);
        self.out.write(&self.scratch)
    }

    /// Writes a message behind the output so far.
    fn complain(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        self.out.before_message()?;
        self.scratch.clear();
        write(&mut self.scratch);
        // Nobody may be reading messages; that is no reason to end.
        match self.err.write_all(&self.scratch) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        }
    }
}

impl Sink for TextSink {
    fn output(&mut self, kind: OutputKind, text: &[u8]) -> io::Result<()> {
        self.out.write(text)?;
        match kind {
            OutputKind::Join | OutputKind::System => self.out.write(b"\n"),
            OutputKind::Printf | OutputKind::Cat | OutputKind::Time => Ok(()),
        }
    }

    fn value(&mut self, value: &Value) -> io::Result<()> {
        self.say(|out| {
            value.write_text(out);
            out.push(b'\n');
        })
    }

    fn map(&mut self, map: &MapDump) -> io::Result<()> {
        self.say(|out| map.write_text(out))
    }

    fn attached_probes(&mut self, n_probes: u64) -> io::Result<()> {
        self.complain(|out| write_attached(n_probes, out))
    }

    fn lost_events(&mut self, n_events: u64) -> io::Result<()> {
        self.complain(|out| write_lost(n_events, out))
    }

    fn total_lost_events(&mut self, n_events: u64) -> io::Result<()> {
        self.warning(&format!("Total lost event count: {n_events}"))
    }

    fn located(&mut self, message: &Located<'_>) -> io::Result<()> {
        let color = self.color;
        self.complain(|out| message.write_text(color, out))
    }

    fn warning(&mut self, text: &str) -> io::Result<()> {
        let color = self.color;
        self.complain(|out| write_plain(Severity::Warning, text, color, out))
    }

    fn error(&mut self, text: &str) -> io::Result<()> {
        let color = self.color;
        self.complain(|out| write_plain(Severity::Error, text, color, out))
    }

    fn detail(&mut self, text: &str) -> io::Result<()> {
        self.complain(|out| write_detail(text, out))
    }

    fn test_results(&mut self, results: &[TestResult]) -> io::Result<()> {
        self.say(|out| write_tests(results, out))
    }

    fn bench_results(&mut self, results: &[BenchResult]) -> io::Result<()> {
        self.say(|out| write_benches(results, out))
    }

    fn end_of_run(&mut self) -> io::Result<()> {
        self.out.write(b"\n\n")
    }

    fn drained(&mut self) -> io::Result<()> {
        self.out.drained()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Appends `Attached N probes`.
pub(super) fn write_attached(n_probes: u64, out: &mut Vec<u8>) {
    let plural = if n_probes == 1 { "" } else { "s" };
    out.extend_from_slice(format!("Attached {n_probes} probe{plural}\n").as_bytes());
}

/// Appends what is said with `-v`.
pub(super) fn write_detail(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(text.as_bytes());
    out.push(b'\n');
}

/// Appends `Lost N events`.
pub(super) fn write_lost(n_events: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("Lost {n_events} events\n").as_bytes());
}

impl MapDump {
    /// Appends the map as lines of text; nothing when it is empty.
    pub fn write_text(&self, out: &mut Vec<u8>) {
        match &self.body {
            MapBody::Scalar(cell) => {
                out.extend_from_slice(self.name.as_bytes());
                cell.write_text(out);
            }
            MapBody::Keyed(entries) => {
                for (key, cell) in entries {
                    out.extend_from_slice(self.name.as_bytes());
                    out.push(b'[');
                    key.write_key(out);
                    out.push(b']');
                    cell.write_text(out);
                }
            }
        }
    }
}

impl MapCell {
    /// Appends a colon and the value, on lines of its own when it takes several.
    fn write_text(&self, out: &mut Vec<u8>) {
        match self {
            Self::Value(value) => {
                out.extend_from_slice(b": ");
                value.write_text(out);
            }
            Self::Histogram(histogram) => {
                out.extend_from_slice(b":\n");
                histogram.write_text(out);
            }
            Self::Series(series) => {
                out.extend_from_slice(b":\n");
                series.write_text(out);
            }
        }
        out.push(b'\n');
    }
}

const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const RESET: &str = "\x1b[0m";

fn write_tests(results: &[TestResult], out: &mut Vec<u8>) {
    let tests = |count: usize| match count {
        1 => "1 test".to_owned(),
        _ => format!("{count} tests"),
    };
    let total = results.len();
    write_test_line(GREEN, "==========", &format!("Running {total} tests."), out);
    for result in results {
        let name = &result.name;
        let (unit, scale) = match result.duration_ns {
            1_000_000_000.. => ("s", 1_000_000_000),
            1_000_000.. => ("ms", 1_000_000),
            1_000.. => ("μs", 1_000),
            _ => ("ns", 1),
        };
        let took = format!("{name} ({} {unit})", result.duration_ns / scale);
        write_test_line(GREEN, " RUN      ", name, out);
        if result.passed {
            write_test_line(GREEN, "       OK ", &took, out);
        } else {
            let lines = result.output.split(|byte| *byte == b'\n');
            for text in lines.filter(|text| !text.is_empty()) {
                out.extend_from_slice(text);
                out.push(b'\n');
            }
            write_test_line(RED, "  FAILED  ", &took, out);
        }
    }
    let n_passed = results.iter().filter(|result| result.passed).count();
    let n_failed = total - n_passed;
    write_test_line(GREEN, "==========", &format!("{} ran.", tests(total)), out);
    write_test_line(GREEN, "  PASSED  ", &format!("{}.", tests(n_passed)), out);
    if n_failed > 0 {
        let summary = format!("{}, listed below:", tests(n_failed));
        write_test_line(RED, "  FAILED  ", &summary, out);
        for result in results.iter().filter(|result| !result.passed) {
            write_test_line(RED, "  FAILED  ", &result.name, out);
        }
    }
}

fn write_test_line(color: &str, label: &str, text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{color}[{label}]{RESET} {text}\n").as_bytes());
}

fn write_benches(results: &[BenchResult], out: &mut Vec<u8>) {
    let longest = results.iter().map(|result| result.name.len()).max();
    let width = longest.unwrap_or(0).max(40) + 1;
    let mut lines = format!("{:<width$}{:<15}Iterations\n", "Benchmark", "Time(ns)");
    lines.push_str(&"-".repeat(width + 15 + "Iterations".len()));
    lines.push('\n');
    for result in results {
        let BenchResult {
            name,
            average_ns,
            iterations,
        } = result;
        lines.push_str(&format!("{name:<width$}{average_ns:<15}{iterations}\n"));
    }
    out.extend_from_slice(lines.as_bytes());
}
