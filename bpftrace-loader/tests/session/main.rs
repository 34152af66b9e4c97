//! Whole sessions on the running kernel, with scripts that are assembled by hand. They need root and
//! a kernel with BPF; elsewhere each says that it was skipped.

mod script;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bpftrace_loader::options::{DebugStages, Mode, Warnings};
use bpftrace_loader::print::CaptureSink;
use bpftrace_loader::{Exit, Host as _, LinuxHost, LoadError, RunOptions, start};
use bpftrace_meta::{
    Feature, HostValue, MissingProbes, ParamKind, Period, ProbeTarget, ProgramKind, Requirement,
    SourceRange, UprobePlace,
};
use script::{ScriptBuilder, Step};

/// Sessions catch signals, of which a process has one set: one at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The right to run a session, when this machine can.
fn turn() -> Option<MutexGuard<'static, ()>> {
    if let Some(why) = LinuxHost::new().missing_privilege() {
        eprintln!("skipped: {why}");
        return None;
    }
    Some(ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner))
}

fn options() -> RunOptions {
    RunOptions {
        params: Vec::new(),
        named: Vec::new(),
        pid: None,
        command: None,
        quiet: false,
        verbose: false,
        dry_run: false,
        debug: DebugStages {
            libbpf: false,
            verifier: false,
        },
        warnings: Warnings::Default,
        unsafe_mode: false,
        mode: Mode::Trace,
        probe_filter: None,
        no_features: Vec::new(),
        traceable_functions: None,
        debug_dirs: Vec::new(),
        dwarf_pids: Vec::new(),
        usdt_file_activation: false,
    }
}

/// Runs a script and gives what it wrote: exit status or error, output, messages.
fn run(script: ScriptBuilder, options: RunOptions) -> (Result<Exit, LoadError>, String, String) {
    let mut sink = CaptureSink::default();
    let result = start(&script.finish(), &LinuxHost::new(), options, &mut sink);
    (
        result,
        String::from_utf8(sink.output).unwrap(),
        String::from_utf8(sink.messages).unwrap(),
    )
}

fn begin(script: &mut ScriptBuilder, steps: &[Step]) {
    script.probe(
        ProgramKind::RawTracepointRun,
        vec![ProbeTarget::Begin],
        steps,
    );
}

fn own_pid_slot(script: &mut ScriptBuilder) -> usize {
    script.slot(HostValue::TargetPid)
}

#[test]
fn begin_and_end_run_and_bound_values_arrive() {
    let Some(_turn) = turn() else { return };
    let mut script = ScriptBuilder::new();
    let param = script.slot(HostValue::Param {
        index: 1,
        kind: ParamKind::Int,
    });
    let count = script.slot(HostValue::ParamCount);
    begin(
        &mut script,
        &[Step::PrintSlot(param), Step::Store { key: 3, value: 4 }],
    );
    script.probe(
        ProgramKind::RawTracepointRun,
        vec![ProbeTarget::End],
        &[Step::PrintSlot(count)],
    );
    let mut options = options();
    options.params = vec!["0x2a".into(), "two".into()];
    let started = Instant::now();
    let (result, output, messages) = run(script, options);
    assert_eq!(result.map(|exit| exit.code), Ok(0));
    assert!(
        output.starts_with("value 42\nvalue 2\n") && output.ends_with("@counts[3]: 4\n"),
        "{output}"
    );
    assert_eq!(messages, "Attached 2 probes\n");
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[test]
fn an_interval_fires_and_exit_gives_the_status() {
    let Some(_turn) = turn() else { return };
    let mut script = ScriptBuilder::new();
    let cpus = script.slot(HostValue::NumCpus);
    script.probe(
        ProgramKind::PerfEvent,
        vec![ProbeTarget::Interval(Period::Milliseconds(10))],
        &[Step::PrintSlot(cpus), Step::Exit(263)],
    );
    script.probe(
        ProgramKind::RawTracepointRun,
        vec![ProbeTarget::End],
        &[Step::PrintSlot(cpus)],
    );
    let (result, output, messages) = run(script, options());
    assert_eq!(result.map(|exit| exit.code), Ok(7));
    let cpus = LinuxHost::new().possible_cpus().unwrap();
    assert!(
        output.starts_with(&format!("value {cpus}\nvalue {cpus}\n")),
        "{output}"
    );
    assert_eq!(messages, "Attached 2 probes\n");
}

#[test]
fn the_verifiers_answer_quotes_the_script() {
    let Some(_turn) = turn() else { return };
    let mut script = ScriptBuilder::new();
    begin(&mut script, &[Step::Misbehave]);
    let (result, _, _) = run(script, options());
    let error = result.unwrap_err();
    assert_eq!(error.exit_code(), 255);
    let text = error.to_string();
    assert!(
        text.contains(
            "ERROR: Error loading BPF program for probe_0. Error code: -13 (Permission denied). Use -v \
             for full kernel error log."
        ) && text.contains("stdin:1:")
            && text.contains("begin { misbehave() }")
            && text.contains("R7 invalid mem access"),
        "{text}"
    );
}

#[test]
fn fentry_of_several_functions_tells_which_one_fired() {
    let Some(_turn) = turn() else { return };
    let host = LinuxHost::new();
    if !host.has_feature(Feature::Fentry) {
        eprintln!("skipped: no fentry");
        return;
    }
    for (step, no_features) in [
        (Step::PrintName, vec![]),
        (Step::PrintPatchedName, vec![Feature::TracingCookie]),
    ] {
        if no_features.is_empty() && !host.has_feature(Feature::TracingCookie) {
            continue;
        }
        let mut script = ScriptBuilder::new();
        let pid = own_pid_slot(&mut script);
        script.probe(
            ProgramKind::Fentry,
            vec![ProbeTarget::Fentry {
                exit: false,
                module: None,
                function: "hrtimer_nano*ep".to_owned(),
            }],
            &[Step::OnlyPid(pid), step, Step::Exit(0)],
        );
        let mut options = options();
        options.pid = Some(std::process::id() as i32);
        options.no_features = no_features;
        let stop = std::sync::atomic::AtomicBool::new(false);
        let (result, output, _) = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
            let result = run(script, options);
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            result
        });
        assert_eq!(result.map(|exit| exit.code), Ok(0));
        assert!(
            output.contains("fentry:vmlinux:hrtimer_nanosleep\n"),
            "{output}"
        );
    }
}

#[inline(never)]
fn probed_by_the_session_test(number: u64) -> u64 {
    std::hint::black_box(number + 1)
}

#[test]
fn uprobes_by_pattern_one_by_one_and_in_one_link() {
    let Some(_turn) = turn() else { return };
    let host = LinuxHost::new();
    for no_features in [vec![], vec![Feature::UprobeMulti]] {
        let mut script = ScriptBuilder::new();
        let pid = own_pid_slot(&mut script);
        let path = std::env::current_exe().unwrap();
        let step = if host.has_feature(Feature::AttachCookie) {
            Step::PrintName
        } else {
            Step::PrintPatchedName
        };
        script.probe(
            ProgramKind::Uprobe,
            vec![ProbeTarget::Uprobe {
                ret: false,
                path: Some(path.to_string_lossy().into_owned()),
                place: UprobePlace::Function {
                    name: "*probed_by_the_session_test*".to_owned(),
                    language: None,
                    offset: 0,
                },
            }],
            &[Step::OnlyPid(pid), step, Step::Exit(3)],
        );
        let mut options = options();
        options.pid = Some(std::process::id() as i32);
        options.no_features = no_features;
        let stop = std::sync::atomic::AtomicBool::new(false);
        let (result, output, messages) = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    probed_by_the_session_test(1);
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
            let result = run(script, options);
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            result
        });
        assert_eq!(result.map(|exit| exit.code), Ok(3), "{messages}");
        assert!(
            output.starts_with(&format!("uprobe:{}:", path.display()))
                && output.contains("probed_by_the_session_test"),
            "{output}"
        );
        assert_eq!(messages, "Attached 1 probe\n");
    }
}

#[test]
fn a_command_is_released_after_attaching_and_ends_the_session() {
    let Some(_turn) = turn() else { return };
    let mut script = ScriptBuilder::new();
    let child = script.slot(HostValue::ChildPid);
    begin(&mut script, &[Step::PrintSlot(child)]);
    script.probe(
        ProgramKind::PerfEvent,
        vec![ProbeTarget::Interval(Period::Seconds(3_600))],
        &[Step::Exit(9)],
    );
    let mut options = options();
    options.command = Some("sleep 0.05".into());
    let (result, output, _) = run(script, options);
    assert_eq!(result.map(|exit| exit.code), Ok(0));
    let pid = output
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("value "));
    assert!(pid.is_some_and(|pid| pid.parse::<u32>().unwrap() > 1));
}

#[test]
fn a_missing_command_is_an_error() {
    let Some(_turn) = turn() else { return };
    let mut script = ScriptBuilder::new();
    begin(&mut script, &[]);
    let mut options = options();
    options.command = Some("/no/such/program".into());
    let error = run(script, options).0.unwrap_err();
    assert_eq!(
        error.summary(),
        "Failed to fork child: Path '/no/such/program' does not exist or is not executable (No such \
         file or directory)"
    );
    assert_eq!(error.exit_code(), 1);
}

/// Waits until this process has a handler for a signal.
fn wait_until_caught(signal: u32) {
    loop {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let mut lines = status.lines();
        let caught = lines.find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
        if caught >> (signal - 1) & 1 == 1 {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_signal_finishes_the_session() {
    let Some(_turn) = turn() else { return };
    let mut script = ScriptBuilder::new();
    let cpus = script.slot(HostValue::NumCpus);
    begin(&mut script, &[Step::Store { key: 1, value: 2 }]);
    script.probe(
        ProgramKind::PerfEvent,
        vec![ProbeTarget::Interval(Period::Seconds(3_600))],
        &[Step::Exit(9)],
    );
    script.probe(
        ProgramKind::RawTracepointRun,
        vec![ProbeTarget::SelfSignal("SIGUSR1".into())],
        &[Step::PrintSlot(cpus)],
    );
    script.probe(
        ProgramKind::RawTracepointRun,
        vec![ProbeTarget::End],
        &[Step::Store { key: 5, value: 6 }],
    );
    let pid = std::process::id().to_string();
    let kill = std::thread::spawn(move || {
        wait_until_caught(10);
        for signal in ["-USR1", "-INT"] {
            let status = std::process::Command::new("kill")
                .args([signal, &pid])
                .status();
            assert!(status.unwrap().success());
        }
    });
    let (result, output, messages) = run(script, options());
    kill.join().unwrap();
    assert_eq!(result.map(|exit| exit.code), Ok(0));
    assert_eq!(messages, "Attached 4 probes\n");
    assert!(output.starts_with("value "), "{output}");
    assert!(
        output.contains("@counts[1]: 2\n@counts[5]: 6\n"),
        "{output}"
    );
}

#[test]
fn what_a_kernel_lacks_is_named_before_anything_else() {
    let Some(_turn) = turn() else { return };
    let mut script = ScriptBuilder::new();
    begin(&mut script, &[]);
    script.manifest().requirements.push(Requirement {
        feature: Feature::Loop,
        what: "`while`".into(),
        place: SourceRange {
            file: 0,
            line: 1,
            column: 9,
            end_line: 1,
            end_column: 20,
        },
    });
    let mut options = options();
    options.no_features = vec![Feature::Loop];
    let text = run(script, options).0.unwrap_err().to_string();
    assert!(
        text.starts_with("stdin:1:9-20: ERROR: Missing required kernel feature: loop\n")
            && text.contains("HINT: needed by `while`; Linux 5.17 has it, this is Linux "),
        "{text}"
    );
}

#[test]
fn missing_targets_follow_the_policy() {
    let Some(_turn) = turn() else { return };
    let script = |policy| {
        let mut script = ScriptBuilder::new();
        script.manifest().config.missing_probes = policy;
        begin(&mut script, &[]);
        script.probe(
            ProgramKind::Uprobe,
            vec![ProbeTarget::Uprobe {
                ret: false,
                path: Some("/bin/sh".to_owned()),
                place: UprobePlace::Function {
                    name: "no_such_function".to_owned(),
                    language: None,
                    offset: 0,
                },
            }],
            &[],
        );
        script
    };
    let error = run(script(None), options()).0.unwrap_err();
    assert_eq!(
        error.summary(),
        "No matches for uprobe /bin/sh:no_such_function."
    );
    let (result, _, messages) = run(script(Some(MissingProbes::Warn)), options());
    assert_eq!(result.map(|exit| exit.code), Ok(0));
    assert!(
        messages.contains(
            "stdin:1:1-6: WARNING: No matches for uprobe /bin/sh:no_such_function. Skipping.\n"
        ) && messages.contains("Attached 1 probe\n"),
        "{messages}"
    );
    let (result, _, messages) = run(script(Some(MissingProbes::Ignore)), options());
    assert_eq!(result.map(|exit| exit.code), Ok(0));
    assert_eq!(messages, "Attached 1 probe\n");
}

/// A tracepoint's programs fire for every process: this is for the mount of tracefs in the kernel's
/// usual place, which not every machine has.
#[test]
fn tracepoints_by_pattern() {
    let Some(_turn) = turn() else { return };
    if LinuxHost::new().tracepoints().is_err() {
        eprintln!("skipped: no tracefs");
        return;
    }
    let mut script = ScriptBuilder::new();
    let pid = own_pid_slot(&mut script);
    script.probe(
        ProgramKind::Tracepoint,
        vec![ProbeTarget::Tracepoint {
            category: "sched".to_owned(),
            event: "sched_*ing".to_owned(),
        }],
        &[Step::OnlyPid(pid), Step::PrintPatchedName, Step::Exit(0)],
    );
    let mut options = options();
    options.pid = Some(std::process::id() as i32);
    options.no_features = vec![Feature::AttachCookie];
    let waker = std::thread::spawn(|| {
        for _ in 0..100 {
            std::thread::sleep(Duration::from_millis(5));
            std::thread::spawn(|| ()).join().unwrap();
        }
    });
    let (result, output, _) = run(script, options);
    assert_eq!(result.map(|exit| exit.code), Ok(0));
    assert!(
        output.starts_with("tracepoint:sched:sched_waking\n"),
        "{output}"
    );
    waker.join().unwrap();
}

#[test]
fn tests_pass_and_fail_and_benchmarks_are_timed() {
    let Some(_turn) = turn() else { return };
    let script = || {
        let mut script = ScriptBuilder::new();
        let cpus = script.slot(HostValue::NumCpus);
        for (name, steps) in [
            ("good", vec![Step::PrintSlot(cpus)]),
            ("bad", vec![Step::Return(1)]),
            ("worse", vec![Step::Exit(2)]),
        ] {
            script.probe(
                ProgramKind::Xdp,
                vec![ProbeTarget::Test(name.into())],
                &steps,
            );
        }
        script.probe(
            ProgramKind::Xdp,
            vec![ProbeTarget::Bench("quick".into())],
            &[],
        );
        script
    };
    let run_in = |mode| {
        let mut options = options();
        options.mode = mode;
        let mut sink = CaptureSink::default();
        let result = start(&script().finish(), &LinuxHost::new(), options, &mut sink);
        (result.map(|exit| exit.code), sink)
    };
    let (result, sink) = run_in(Mode::Test);
    assert_eq!(result, Ok(1));
    let tests: Vec<_> = sink
        .tests
        .iter()
        .map(|t| (t.name.as_str(), t.passed))
        .collect();
    assert_eq!(tests, [("good", true), ("bad", false), ("worse", false)]);
    assert!(sink.tests[0].output.starts_with(b"value "));
    let (result, sink) = run_in(Mode::Bench);
    assert_eq!(result, Ok(0));
    assert_eq!(sink.benches.len(), 1);
    assert!(sink.benches[0].iterations > 1);
    let (result, _) = run_in(Mode::Trace);
    assert_eq!(
        result.unwrap_err().summary(),
        "No probes attached; use --test to run test probes."
    );
}

fn kprobe(ret: bool, function: &str, offset: u64) -> ProbeTarget {
    ProbeTarget::Kprobe {
        ret,
        module: None,
        function: function.to_owned(),
        offset,
    }
}

/// Sessions with kprobes, while a thread sleeps; only our own calls count.
fn run_kprobes(
    targets: Vec<ProbeTarget>,
    step: Step,
    no_features: Vec<Feature>,
) -> (Result<Exit, LoadError>, String, String) {
    let mut script = ScriptBuilder::new();
    let pid = own_pid_slot(&mut script);
    script.probe(
        ProgramKind::Kprobe,
        targets,
        &[Step::OnlyPid(pid), step, Step::Exit(0)],
    );
    let mut options = options();
    options.pid = Some(std::process::id() as i32);
    options.no_features = no_features;
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let result = run(script, options);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        result
    })
}

#[test]
fn kprobes_by_name_and_by_pattern() {
    let Some(_turn) = turn() else { return };
    if !std::path::Path::new("/sys/bus/event_source/devices/kprobe").exists() {
        eprintln!("skipped: no kprobes");
        return;
    }
    let host = LinuxHost::new();
    let name = |no_features: &[Feature]| {
        let cookies = [Feature::AttachCookie, Feature::KprobeMulti]
            .into_iter()
            .any(|feature| host.has_feature(feature) && !no_features.contains(&feature));
        if cookies {
            Step::PrintName
        } else {
            Step::PrintPatchedName
        }
    };
    let one_by_one = vec![Feature::KprobeMulti];
    let without_cookies = vec![Feature::KprobeMulti, Feature::AttachCookie];
    for (function, no_features) in [
        ("hrtimer_nanosleep", vec![]),
        ("hrtimer_nanosleep", without_cookies.clone()),
        ("hrtimer_n*sleep", vec![]),
        ("hrtimer_n*sleep", one_by_one),
        ("hrtimer_n*sleep", without_cookies),
    ] {
        for ret in [false, true] {
            let targets = vec![kprobe(ret, function, 0)];
            let what = format!("{function} {ret} {no_features:?}");
            let (result, output, messages) =
                run_kprobes(targets, name(&no_features), no_features.clone());
            assert_eq!(result.map(|exit| exit.code), Ok(0), "{what}");
            let provider = if ret { "kretprobe" } else { "kprobe" };
            assert!(
                output.starts_with(&format!("{provider}:hrtimer_nanosleep\n")),
                "{what}: {output}"
            );
            assert_eq!(messages, "Attached 1 probe\n", "{what}");
        }
    }
    let (result, _, _) = run_kprobes(
        vec![kprobe(false, "no_such_function", 0)],
        Step::Exit(0),
        vec![],
    );
    let error = result.unwrap_err();
    assert_eq!(error.summary(), "No matches for kprobe no_such_function.");
    assert_eq!(error.exit_code(), 1);
    let (result, _, _) = run_kprobes(
        vec![kprobe(false, "hrtimer_nanosleep", 0xfffff)],
        Step::Exit(0),
        vec![],
    );
    let text = result.unwrap_err().to_string();
    assert!(
        text.contains("Unable to attach probe: kprobe:hrtimer_nanosleep+1048575."),
        "{text}"
    );
}
