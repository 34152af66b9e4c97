use std::io;

use super::located::write_plain;
use super::text::{write_attached, write_detail, write_lost};
use super::{BenchResult, Located, MessageKind, OutputKind, Severity, Sink, TestResult};
use crate::print::{MapDump, Value};

/// Keeps what a session says, as text: for probes whose output is shown later or not at all, and for
/// tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptureSink {
    /// Output of the script.
    pub output: Vec<u8>,
    /// Messages.
    pub messages: Vec<u8>,
    /// Whether the script called `errorf`.
    pub errorf: bool,
    /// Results of tests.
    pub tests: Vec<TestResult>,
    /// Results of benchmarks.
    pub benches: Vec<BenchResult>,
}

impl Sink for CaptureSink {
    fn output(&mut self, kind: OutputKind, text: &[u8]) -> io::Result<()> {
        self.output.extend_from_slice(text);
        if matches!(kind, OutputKind::Join | OutputKind::System) {
            self.output.push(b'\n');
        }
        Ok(())
    }

    fn value(&mut self, value: &Value) -> io::Result<()> {
        value.write_text(&mut self.output);
        self.output.push(b'\n');
        Ok(())
    }

    fn map(&mut self, map: &MapDump) -> io::Result<()> {
        map.write_text(&mut self.output);
        Ok(())
    }

    fn attached_probes(&mut self, n_probes: u64) -> io::Result<()> {
        write_attached(n_probes, &mut self.messages);
        Ok(())
    }

    fn lost_events(&mut self, n_events: u64) -> io::Result<()> {
        write_lost(n_events, &mut self.messages);
        Ok(())
    }

    fn total_lost_events(&mut self, n_events: u64) -> io::Result<()> {
        self.warning(&format!("Total lost event count: {n_events}"))
    }

    fn located(&mut self, message: &Located<'_>) -> io::Result<()> {
        self.errorf |= message.kind == MessageKind::Errorf;
        message.write_text(false, &mut self.messages);
        Ok(())
    }

    fn warning(&mut self, text: &str) -> io::Result<()> {
        write_plain(Severity::Warning, text, false, &mut self.messages);
        Ok(())
    }

    fn error(&mut self, text: &str) -> io::Result<()> {
        write_plain(Severity::Error, text, false, &mut self.messages);
        Ok(())
    }

    fn detail(&mut self, text: &str) -> io::Result<()> {
        write_detail(text, &mut self.messages);
        Ok(())
    }

    fn test_results(&mut self, results: &[TestResult]) -> io::Result<()> {
        self.tests.extend_from_slice(results);
        Ok(())
    }

    fn bench_results(&mut self, results: &[BenchResult]) -> io::Result<()> {
        self.benches.extend_from_slice(results);
        Ok(())
    }

    fn end_of_run(&mut self) -> io::Result<()> {
        self.output.extend_from_slice(b"\n\n");
        Ok(())
    }

    fn drained(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
