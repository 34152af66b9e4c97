use std::io::{self, Write};

use super::super::events::error_text;
use super::located::{file_name, write_plain};
use super::text::write_detail;
use super::{
    BenchResult, Located, MessageKind, OutputKind, ScriptOutput, Severity, Sink, TestResult,
};
use crate::print::json::{write_number, write_object, write_string};
use crate::print::{MapBody, MapCell, MapDump, MapKind, Value};

/// An object a line for programs, all to the place of the script's output; what has no object goes
/// to standard error as text.
pub struct JsonSink {
    out: ScriptOutput,
    err: Box<dyn Write>,
    scratch: Vec<u8>,
}

impl JsonSink {
    /// Objects to `out`, messages that have none to standard error.
    #[must_use]
    pub fn new(out: ScriptOutput) -> Self {
        Self::with_errors(out, Box::new(io::stderr()))
    }

    /// Objects to `out`, messages that have none to `err`.
    #[must_use]
    pub fn with_errors(out: ScriptOutput, err: Box<dyn Write>) -> Self {
        Self {
            out,
            err,
            scratch: Vec::new(),
        }
    }

    /// Writes a line with `{"type": "KIND"`, what `write` appends, and `}`.
    fn object(&mut self, kind: &str, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let out = &mut self.scratch;
        out.clear();
        out.extend_from_slice(b"{\"type\": \"");
        out.extend_from_slice(kind.as_bytes());
        out.push(b'"');
        write(out);
        out.extend_from_slice(b"}\n");
        self.out.write(&self.scratch)
    }

    fn complain(&mut self, severity: Severity, text: &str) -> io::Result<()> {
        self.scratch.clear();
        write_plain(severity, text, false, &mut self.scratch);
        self.say()
    }

    /// Writes the text that is waiting where messages go.
    fn say(&mut self) -> io::Result<()> {
        self.out.before_message()?;
        match self.err.write_all(&self.scratch) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        }
    }
}

fn write_member(name: &str, out: &mut Vec<u8>, value: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(b", \"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\": ");
    value(out);
}

impl Sink for JsonSink {
    fn output(&mut self, kind: OutputKind, text: &[u8]) -> io::Result<()> {
        let kind = match kind {
            OutputKind::Printf => "printf",
            OutputKind::Cat => "cat",
            OutputKind::Join => "join",
            OutputKind::Time => "time",
            OutputKind::System => "syscall",
        };
        self.object(kind, |out| {
            write_member("data", out, |out| write_string(text, out));
        })
    }

    fn value(&mut self, value: &Value) -> io::Result<()> {
        self.object("value", |out| {
            write_member("data", out, |out| value.write_json(out));
        })
    }

    fn map(&mut self, map: &MapDump) -> io::Result<()> {
        // Of empty maps only `stats` ones say so.
        if matches!(&map.body, MapBody::Keyed(entries) if entries.is_empty())
            && map.kind != MapKind::Stats
        {
            return Ok(());
        }
        let kind = match map.kind {
            MapKind::Map => "map",
            MapKind::Stats => "stats",
            MapKind::Hist => "hist",
            MapKind::Tseries => "tseries",
        };
        self.object(kind, |out| {
            write_member("data", out, |out| {
                out.push(b'{');
                write_string(map.name.as_bytes(), out);
                out.extend_from_slice(b": ");
                match &map.body {
                    MapBody::Scalar(cell) => cell.write_json(out),
                    MapBody::Keyed(entries) => write_object(
                        entries,
                        out,
                        |(key, _), out| key.write_json_key(out),
                        |(_, cell), out| cell.write_json(out),
                    ),
                }
                out.push(b'}');
            });
        })
    }

    fn attached_probes(&mut self, n_probes: u64) -> io::Result<()> {
        self.object("attached_probes", |out| {
            write_count("probes", n_probes, out);
        })
    }

    fn lost_events(&mut self, n_events: u64) -> io::Result<()> {
        self.object("lost_events", |out| write_count("events", n_events, out))
    }

    fn total_lost_events(&mut self, n_events: u64) -> io::Result<()> {
        self.warning(&format!("Total lost event count: {n_events}"))
    }

    fn located(&mut self, message: &Located<'_>) -> io::Result<()> {
        let kind = match message.kind {
            MessageKind::Errorf => "errorf",
            MessageKind::Warnf => "warnf",
            // Not of the running script: as text, where other messages of the tool go.
            MessageKind::Start => {
                self.scratch.clear();
                message.write_text(false, &mut self.scratch);
                return self.say();
            }
            MessageKind::Runtime => "runtime_error",
            MessageKind::Helper { .. } => "helper_error",
        };
        self.object(kind, |out| {
            // Of helpers no more than the error: programs read this.
            write_member("msg", out, |out| match message.kind {
                MessageKind::Helper { retcode, .. } => {
                    write_string(error_text(retcode).as_bytes(), out);
                }
                _ => write_string(message.text, out),
            });
            if let MessageKind::Helper { name, retcode } = message.kind {
                write_member("helper", out, |out| write_string(name.as_bytes(), out));
                write_member("retcode", out, |out| write_number(retcode.into(), out));
            }
            let place = message.place;
            let file = file_name(message.source, place);
            write_member("filename", out, |out| write_string(file.as_bytes(), out));
            write_member("line", out, |out| write_number(place.line.into(), out));
            write_member("col", out, |out| write_number(place.column.into(), out));
        })
    }

    fn warning(&mut self, text: &str) -> io::Result<()> {
        self.complain(Severity::Warning, text)
    }

    fn error(&mut self, text: &str) -> io::Result<()> {
        self.complain(Severity::Error, text)
    }

    fn detail(&mut self, text: &str) -> io::Result<()> {
        self.scratch.clear();
        write_detail(text, &mut self.scratch);
        self.say()
    }

    fn test_results(&mut self, results: &[TestResult]) -> io::Result<()> {
        for result in results {
            let record = Value::Record(vec![
                ("duration".into(), Value::Unsigned(result.duration_ns)),
                ("passed".into(), Value::Bool(result.passed)),
                ("output".into(), Value::Str(result.output.clone())),
            ]);
            self.object("test_result", |out| write_named(&result.name, &record, out))?;
        }
        Ok(())
    }

    fn bench_results(&mut self, results: &[BenchResult]) -> io::Result<()> {
        for result in results {
            let record = Value::Record(vec![
                ("average".into(), Value::Unsigned(result.average_ns)),
                ("iters".into(), Value::Unsigned(result.iterations)),
            ]);
            self.object("benchmark_result", |out| {
                write_named(&result.name, &record, out);
            })?;
        }
        Ok(())
    }

    fn end_of_run(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn drained(&mut self) -> io::Result<()> {
        self.out.drained()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn write_named(name: &str, value: &Value, out: &mut Vec<u8>) {
    write_member("data", out, |out| {
        out.push(b'{');
        write_string(name.as_bytes(), out);
        out.extend_from_slice(b": ");
        value.write_json(out);
        out.push(b'}');
    });
}

fn write_count(name: &str, count: u64, out: &mut Vec<u8>) {
    write_member("count", out, |out| write_number(count.into(), out));
    write_member("data", out, |out| {
        out.push(b'{');
        write_string(name.as_bytes(), out);
        out.extend_from_slice(b": ");
        write_number(count.into(), out);
        out.push(b'}');
    });
}

impl MapCell {
    fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Self::Value(value) => value.write_json(out),
            Self::Histogram(histogram) => histogram.write_json(out),
            Self::Series(series) => series.write_json(out),
        }
    }
}
