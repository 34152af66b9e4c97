use std::io::{self, Write};

use super::{FakeMaps, Shared, event, json, manifest, printer, record};
use crate::print::{
    Action, BenchResult, BufferMode, OutputKind, PrinterOptions, ScriptOutput, Sink, TestResult,
    TextSink,
};
use bpftrace_meta::{EventKind, FormatPiece};

/// A sink whose output and messages go to the same place, as on a terminal.
fn terminal(mode: BufferMode) -> (TextSink, Shared) {
    let shared = Shared::default();
    let out = ScriptOutput::to(Box::new(shared.clone()), mode);
    let sink = TextSink::with_errors(out, Box::new(shared.clone()), false);
    (sink, shared)
}

#[test]
fn buffer_modes() {
    for (mode, at_once, after_message, when_drained) in [
        (
            BufferMode::None,
            "a\n",
            "a\nWARNING: w\n",
            "a\nWARNING: w\nb",
        ),
        (BufferMode::Line, "", "a\nWARNING: w\n", "a\nWARNING: w\nb"),
        (BufferMode::Full, "", "WARNING: w\n", "WARNING: w\n"),
    ] {
        let (mut sink, shared) = terminal(mode);
        sink.output(OutputKind::Printf, b"a\n").expect("written");
        assert_eq!(shared.text(), at_once, "{mode:?}");
        sink.warning("w").expect("written");
        assert_eq!(shared.text(), after_message, "{mode:?}");
        sink.output(OutputKind::Printf, b"b").expect("written");
        sink.drained().expect("written");
        assert_eq!(shared.text(), when_drained, "{mode:?}");
        sink.flush().expect("written");
        assert!(shared.text().ends_with('b'), "{mode:?}");
        assert_eq!(shared.text().len(), "a\nWARNING: w\nb".len());
    }
}

#[test]
fn much_output_is_written_in_order() {
    let (mut sink, shared) = terminal(BufferMode::Full);
    let mut expected = String::new();
    for size in [10, 60_000, 10_000, 200_000, 5] {
        let text = size.to_string().repeat(size / 4);
        sink.output(OutputKind::Printf, text.as_bytes())
            .expect("written");
        expected.push_str(&text);
    }
    sink.flush().expect("written");
    assert!(shared.text() == expected);
}

#[test]
fn what_sessions_say() {
    let (mut sink, shared) = terminal(BufferMode::Line);
    let say = |sink: &mut dyn Sink| {
        sink.attached_probes(1).expect("written");
        sink.attached_probes(2).expect("written");
        sink.lost_events(3).expect("written");
        sink.total_lost_events(3).expect("written");
        sink.error("oh").expect("written");
        sink.end_of_run().expect("written");
        sink.flush().expect("written");
    };
    say(&mut sink);
    assert_eq!(
        shared.text(),
        "Attached 1 probe\nAttached 2 probes\nLost 3 events\n\
         WARNING: Total lost event count: 3\nERROR: oh\n\n\n"
    );
    assert_eq!(
        json(say),
        "{\"type\": \"attached_probes\", \"count\": 1, \"data\": {\"probes\": 1}}\n\
         {\"type\": \"attached_probes\", \"count\": 2, \"data\": {\"probes\": 2}}\n\
         {\"type\": \"lost_events\", \"count\": 3, \"data\": {\"events\": 3}}\n"
    );
}

#[test]
fn colors() {
    let shared = Shared::default();
    let out = ScriptOutput::to(Box::new(io::sink()), BufferMode::Line);
    let mut sink = TextSink::with_errors(out, Box::new(shared.clone()), true);
    sink.error("a\n").expect("written");
    sink.warning("b").expect("written");
    assert_eq!(
        shared.text(),
        "\u{1b}[31mERROR: a\u{1b}[0m\n\u{1b}[33mWARNING: b\u{1b}[0m\n"
    );
}

#[test]
fn results_of_tests_and_benchmarks() {
    let tests = [
        TestResult {
            name: "good".to_owned(),
            duration_ns: 1_500,
            passed: true,
            output: b"unseen\n".to_vec(),
        },
        TestResult {
            name: "bad".to_owned(),
            duration_ns: 20,
            passed: false,
            output: b"seen\n\ntoo\n".to_vec(),
        },
    ];
    let benches = [BenchResult {
        name: "b".to_owned(),
        average_ns: 12,
        iterations: 1_000,
    }];
    let (mut sink, shared) = terminal(BufferMode::Line);
    sink.test_results(&tests).expect("written");
    sink.flush().expect("written");
    let plain = shared.text();
    let plain = plain
        .replace("\u{1b}[32m", "")
        .replace("\u{1b}[31m", "")
        .replace("\u{1b}[0m", "");
    assert_eq!(
        plain,
        "[==========] Running 2 tests.\n[ RUN      ] good\n[       OK ] good (1 μs)\n\
         [ RUN      ] bad\nseen\ntoo\n[  FAILED  ] bad (20 ns)\n[==========] 2 tests ran.\n\
         [  PASSED  ] 1 test.\n[  FAILED  ] 1 test, listed below:\n[  FAILED  ] bad\n"
    );
    assert_eq!(
        json(|sink| {
            sink.test_results(&tests[..1]).expect("written");
            sink.bench_results(&benches).expect("written");
        }),
        "{\"type\": \"test_result\", \"data\": {\"good\": {\"duration\": 1500, \"passed\": true, \
         \"output\": \"unseen\\n\"}}}\n\
         {\"type\": \"benchmark_result\", \"data\": {\"b\": {\"average\": 12, \"iters\": 1000}}}\n"
    );
    let (mut sink, shared) = terminal(BufferMode::None);
    sink.bench_results(&benches).expect("written");
    let shown = shared.text();
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(
        lines[0],
        format!("{:41}{:15}Iterations", "Benchmark", "Time(ns)")
    );
    assert_eq!(lines[1], "-".repeat(66));
    assert_eq!(lines[2], format!("{:41}{:15}1000", "b", "12"));
}

/// A reader that went away.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_closed_output_is_a_quiet_end() {
    let mut manifest = manifest();
    let text = vec![FormatPiece::Literal("x".to_owned())];
    manifest.events = vec![event(EventKind::Printf(text), vec![])];
    let mut printer = printer(&manifest, PrinterOptions::default());
    let out = ScriptOutput::to(Box::new(Closed), BufferMode::None);
    let mut sink = TextSink::with_errors(out, Box::new(Closed), false);
    let action = printer.handle(&record(0, &[]), &mut FakeMaps::default(), &mut sink);
    assert_eq!(action.expect("quiet"), Action::OutputClosed);
    printer
        .finish(&mut FakeMaps::default(), &mut sink)
        .expect("quiet");

    // Buffered output fails when it is written, once.
    let out = ScriptOutput::to(Box::new(Closed), BufferMode::Line);
    let mut sink = TextSink::with_errors(out, Box::new(Closed), false);
    sink.output(OutputKind::Printf, b"x").expect("buffered");
    let error = sink.drained().expect_err("closed");
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    sink.flush().expect("nothing is left");
    // That nobody reads messages is no reason to end.
    sink.error("unheard").expect("ignored");
}
