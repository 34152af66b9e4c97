//! Test and benchmark mode: programs that are run by us, on a made-up packet, instead of attached.

use std::time::Duration;

use super::{End, Events, Loaded, written};
use crate::bind::Place;
use crate::error::LoadError;
use crate::ffi::Program;
use crate::options::Mode;
use crate::print::{BenchResult, CaptureSink, TestResult};

/// What XDP programs are run on: an Ethernet header, the least that the kernel takes.
const PACKET: [u8; 14] = [0; 14];
/// Runs of a benchmark last at least so long in all.
const BENCHMARK_TIME: Duration = Duration::from_millis(1);

/// What a test or benchmark left behind.
struct Outcome {
    retval: u32,
    /// Of one run, nanoseconds.
    duration_ns: u64,
    exit_code: u8,
    sink: CaptureSink,
}

impl Outcome {
    fn has_failed(&self) -> bool {
        self.exit_code != 0 || self.sink.errorf
    }
}

/// The programs of the mode, with their names, in the order of the script.
fn programs(loaded: &Loaded) -> impl Iterator<Item = (&str, &Program)> {
    loaded.bound.attachments.iter().filter_map(|attachment| {
        let target = &loaded.bound.targets[attachment.targets[0] as usize];
        match &target.place {
            Place::Named(name) => Some((name.as_str(), &loaded.programs[attachment.program])),
            _ => None,
        }
    })
}

fn run_program(
    name: &str,
    program: &Program,
    repeat: u32,
    events: &mut Events<'_>,
) -> Result<Outcome, LoadError> {
    let (retval, duration_ns) = program
        .run_on_packet(&PACKET, repeat)
        .map_err(|e| LoadError::io(format!("Failed to run {name}"), &e))?;
    let mut sink = CaptureSink::default();
    let end = events.drain_to(&mut sink, &mut |_| {})?;
    events.discard()?;
    let exit_code = match end {
        Some(End::Asked(code)) => code,
        _ => 0,
    };
    Ok(Outcome {
        retval,
        duration_ns,
        exit_code,
        sink,
    })
}

/// Runs the tests or benchmarks; gives the exit status.
pub(super) fn run(loaded: &Loaded, mode: Mode, events: &mut Events<'_>) -> Result<u8, LoadError> {
    match mode {
        Mode::Trace => Ok(0),
        Mode::Test => run_tests(loaded, events),
        Mode::Bench => run_benchmarks(loaded, events),
    }
}

fn run_tests(loaded: &Loaded, events: &mut Events<'_>) -> Result<u8, LoadError> {
    let mut results = Vec::new();
    for (name, program) in programs(loaded) {
        let outcome = run_program(name, program, 1, events)?;
        let passed = outcome.retval == 0 && !outcome.has_failed();
        let mut output = outcome.sink.output;
        output.extend_from_slice(&outcome.sink.messages);
        results.push(TestResult {
            name: name.to_owned(),
            duration_ns: outcome.duration_ns,
            passed,
            output,
        });
    }
    written(events.sink.test_results(&results))?;
    Ok(u8::from(results.iter().any(|result| !result.passed)))
}

fn run_benchmarks(loaded: &Loaded, events: &mut Events<'_>) -> Result<u8, LoadError> {
    let mut results = Vec::new();
    let mut code = 0;
    for (name, program) in programs(loaded) {
        let mut iterations = 1u32;
        loop {
            let outcome = run_program(name, program, iterations, events)?;
            if outcome.exit_code == 0 && outcome.retval != 0 {
                // It does not want to be run here.
                break;
            }
            if outcome.has_failed() {
                let text = format!("Benchmark '{name}' failed.");
                written(events.sink.error(&text))?;
                code = 1;
                break;
            }
            let total = Duration::from_nanos(outcome.duration_ns) * iterations;
            let factor = match total.as_micros() {
                0 => 1_000,
                1..10 => 100,
                10..100 => 10,
                _ => 2,
            };
            if total < BENCHMARK_TIME
                && let Some(more) = iterations.checked_mul(factor)
                && i32::try_from(more).is_ok()
            {
                iterations = more;
                continue;
            }
            results.push(BenchResult {
                name: name.to_owned(),
                average_ns: outcome.duration_ns,
                iterations: u64::from(iterations),
            });
            break;
        }
    }
    written(events.sink.bench_results(&results))?;
    Ok(code)
}
