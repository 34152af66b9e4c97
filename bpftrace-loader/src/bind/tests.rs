//! Binding against a machine that is made up.

use bpftrace_meta::{
    Artifact, CompileOptionsMeta, Feature, HostSlot, HostValue, Manifest, MapMeta, MapRole,
    MapSize, MissingProbes, NamedParam, ParamKind, ParamValue, Period, ProbeId, ProbeMeta,
    ProbeTarget, ProgramKind, ProviderKind, RunConfig, ScriptMeta, Session, SlotType, SourceMeta,
    SourceRange, UprobePlace,
};

use super::{Bound, Invocation, Place, bind};
use crate::error::{ErrorKind, LoadError};
use crate::ffi::attach_type;
use crate::host::elf::Segment;
use crate::host::fake::FakeHost;
use crate::host::{BtfEntry, BtfEntryKind, BtfObject, ElfFile, ElfSymbol};
use crate::options::{DebugStages, Mode, RunOptions, Warnings};

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

fn manifest() -> Manifest {
    Manifest {
        script: ScriptMeta {
            name: "stdin".into(),
            sha256: [0; 32],
            compiler: "test".into(),
        },
        options: CompileOptionsMeta {
            max_strlen: 1024,
            on_stack_limit: 32,
            unsafe_mode: false,
            extra_warnings: false,
        },
        config: RunConfig::default(),
        probes: Vec::new(),
        maps: Vec::new(),
        slots: Vec::new(),
        events: Vec::new(),
        lost: None,
        enums: Vec::new(),
        time_formats: Vec::new(),
        cgroup_filters: Vec::new(),
        named_params: Vec::new(),
        typed_params: Vec::new(),
        imports: Vec::new(),
        n_params: 0,
        default_options: Vec::new(),
        requirements: Vec::new(),
        tracepoint_patches: Vec::new(),
        source: SourceMeta::default(),
    }
}

/// A manifest with one probe, whose code depends on the target.
fn one_probe(kind: ProgramKind, targets: Vec<ProbeTarget>) -> Manifest {
    let mut manifest = manifest();
    manifest.probes.push(ProbeMeta {
        program: "probe_0".into(),
        kind,
        targets,
        places: Vec::new(),
        session: None,
        name: None,
        place: SourceRange::default(),
        target_number_insns: vec![3],
        uses_target_number: true,
        n_insns: 8,
        sent_per_run: None,
        layout: None,
        from_pattern: false,
    });
    manifest
}

fn bound(manifest: Manifest, options: &RunOptions, host: &FakeHost) -> Result<Bound, LoadError> {
    let artifact = Artifact {
        manifest,
        object: vec![0; 64],
    };
    let invocation = Invocation {
        options,
        child: None,
    };
    bind(artifact, &invocation, host)
}

fn names(bound: &Bound) -> Vec<&str> {
    bound.targets.iter().map(|t| t.name.as_str()).collect()
}

fn texts(bound: &Bound) -> Vec<&str> {
    bound.warnings.iter().map(|w| w.text.as_str()).collect()
}

fn kprobe(module: Option<&str>, function: &str) -> ProbeTarget {
    ProbeTarget::Kprobe {
        ret: false,
        module: module.map(str::to_owned),
        function: function.to_owned(),
        offset: 0,
    }
}

fn kernel() -> FakeHost {
    FakeHost::new().with_functions(&[
        ("vfs_read", None),
        ("vfs_write", None),
        ("vfs_open", None),
        ("kvm_exit", Some("kvm")),
    ])
}

#[test]
fn wildcards_share_a_link_where_the_kernel_has_one() {
    let host = kernel().with_features(&[Feature::KprobeMulti]);
    let script = one_probe(ProgramKind::Kprobe, vec![kprobe(None, "vfs_*")]);
    let bound = bound(script, &options(), &host).unwrap();
    assert_eq!(
        names(&bound),
        ["kprobe:vfs_open", "kprobe:vfs_read", "kprobe:vfs_write"]
    );
    assert_eq!(bound.programs.len(), 1);
    assert_eq!(
        bound.programs[0].expected_attach_type,
        attach_type::KPROBE_MULTI
    );
    assert_eq!(bound.attachments.len(), 1);
    assert_eq!(bound.attachments[0].targets, [0, 1, 2]);
    assert!(bound.attachments[0].multi && bound.attachments[0].cookies);
}

#[test]
fn without_it_each_match_has_its_own() {
    let script = || one_probe(ProgramKind::Kprobe, vec![kprobe(None, "vfs_*")]);
    let host = kernel().with_features(&[Feature::AttachCookie]);
    let cookies = bound(script(), &options(), &host).unwrap();
    assert_eq!(cookies.programs.len(), 1);
    assert_eq!(cookies.attachments.len(), 3);
    assert!(cookies.attachments.iter().all(|a| a.cookies && !a.multi));

    // Without cookies the number is in the program.
    let none = bound(script(), &options(), &kernel()).unwrap();
    let numbers: Vec<_> = none.programs.iter().map(|p| p.number).collect();
    assert_eq!(numbers, [Some(0), Some(1), Some(2)]);

    // Unless nobody wants to know it.
    let mut plain = script();
    plain.probes[0].uses_target_number = false;
    let plain = bound(plain, &options(), &kernel()).unwrap();
    assert_eq!((plain.programs.len(), plain.attachments.len()), (1, 3));
}

#[test]
fn switched_off_features_are_not_there() {
    let host = kernel().with_features(&[Feature::KprobeMulti, Feature::AttachCookie]);
    let script = one_probe(ProgramKind::Kprobe, vec![kprobe(None, "vfs_*")]);
    let mut options = options();
    options.no_features = vec![Feature::KprobeMulti];
    let bound = bound(script, &options, &host).unwrap();
    assert!(bound.attachments.iter().all(|attachment| !attachment.multi));
}

#[test]
fn exact_and_pattern_of_one_probe_are_two_programs() {
    let host = kernel().with_features(&[Feature::KprobeMulti, Feature::AttachCookie]);
    let targets = vec![kprobe(None, "vfs_read"), kprobe(Some("kvm"), "kvm_*")];
    let bound = bound(one_probe(ProgramKind::Kprobe, targets), &options(), &host).unwrap();
    assert_eq!(names(&bound), ["kprobe:vfs_read", "kprobe:kvm:kvm_exit"]);
    let types: Vec<_> = bound
        .programs
        .iter()
        .map(|program| program.expected_attach_type)
        .collect();
    assert_eq!(types, [attach_type::NONE, attach_type::KPROBE_MULTI]);
}

// F082, L13.23
#[test]
fn a_kprobe_and_a_kretprobe_of_the_same_functions_are_a_session() {
    let features = [Feature::KprobeMulti, Feature::KprobeSession];
    let script = |function: &str, of_return: &str| {
        let mut script = one_probe(ProgramKind::Kprobe, vec![kprobe(None, function)]);
        script.probes[0].uses_target_number = false;
        let mut ret = script.probes[0].clone();
        ret.targets = vec![ProbeTarget::Kprobe {
            ret: true,
            module: None,
            function: of_return.to_owned(),
            offset: 0,
        }];
        let mut both = script.probes[0].clone();
        both.targets = Vec::new();
        both.session = Some(Session {
            entry: ProbeId(0),
            ret: ProbeId(1),
        });
        script.probes.extend([ret, both]);
        script
    };
    let plan = |script, features: &[Feature], options: &RunOptions| {
        let bound = bound(script, options, &kernel().with_features(features)).unwrap();
        let attachments = bound.attachments.into_iter();
        attachments
            .map(|attachment| {
                let program = &bound.programs[attachment.program];
                let attach_type = program.expected_attach_type;
                (program.probe.0, attach_type, attachment.targets)
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(
        plan(script("vfs_*", "vfs_*"), &features, &options()),
        [(2, attach_type::KPROBE_SESSION, vec![0, 1, 2])]
    );
    assert_eq!(
        plan(script("vfs_read", "vfs_read"), &features, &options()),
        [(2, attach_type::KPROBE_SESSION, vec![0])]
    );
    let apart = [
        (0, attach_type::NONE, vec![0]),
        (1, attach_type::NONE, vec![1]),
    ];
    assert_eq!(
        plan(script("vfs_read", "vfs_read"), &features[..1], &options()),
        apart
    );
    // One of the two is not wanted.
    let mut filtered = options();
    filtered.probe_filter = Some("kretprobe".to_owned());
    assert_eq!(
        plan(script("vfs_read", "vfs_read"), &features, &filtered),
        [(1, attach_type::NONE, vec![0])]
    );
}

#[test]
fn nothing_found_follows_the_policy() {
    let script = || one_probe(ProgramKind::Kprobe, vec![kprobe(None, "nope_*")]);
    let error = bound(script(), &options(), &kernel()).unwrap_err();
    assert!(
        error
            .summary()
            .starts_with("Probe has no valid attach points. If")
    );
    assert_eq!(error.kind(), ErrorKind::Usage);

    let mut warn = script();
    warn.config.missing_probes = Some(MissingProbes::Warn);
    let warn = bound(warn, &options(), &kernel()).unwrap();
    assert!(warn.targets.is_empty());
    assert_eq!(texts(&warn), [super::PROBE_REMOVED]);

    let ignore = kernel().with_env("BPFTRACE_MISSING_PROBES", "ignore");
    let ignore = bound(script(), &options(), &ignore).unwrap();
    assert!(ignore.targets.is_empty() && ignore.warnings.is_empty());
}

#[test]
fn modules_have_to_be_loaded() {
    let script = one_probe(ProgramKind::Kprobe, vec![kprobe(Some("zfs"), "f")]);
    let error = bound(script, &options(), &kernel()).unwrap_err();
    assert_eq!(
        error.summary(),
        "specified module zfs in probe kprobe:zfs:f is not loaded."
    );
}

fn written(provider: ProviderKind, text: &str) -> ProbeTarget {
    ProbeTarget::Written {
        provider,
        text: text.to_owned(),
    }
}

#[test]
fn parameters_are_filled_in() {
    let mut options = options();
    options.params = vec!["read".into(), "k".into()];
    for text in ["kprobe:vfs_$1", "$2:vfs_$1"] {
        let targets = vec![written(ProviderKind::Kprobe, text)];
        let bound = bound(one_probe(ProgramKind::Kprobe, targets), &options, &kernel()).unwrap();
        assert_eq!(names(&bound), ["kprobe:vfs_read"]);
    }
    // A parameter may bring more than a name.
    options.params = vec!["kretprobe:vfs_read".into()];
    let targets = vec![written(ProviderKind::Kretprobe, "$1")];
    let bound = bound(one_probe(ProgramKind::Kprobe, targets), &options, &kernel()).unwrap();
    assert_eq!(names(&bound), ["kretprobe:vfs_read"]);
}

#[test]
fn of_several_programs_for_an_attach_point_one_is_taken() {
    let script = || {
        let mut script = one_probe(
            ProgramKind::Tracepoint,
            vec![written(ProviderKind::Tracepoint, "$1:$2")],
        );
        let mut other = script.probes[0].clone();
        other.kind = ProgramKind::Kprobe;
        other.targets = vec![written(ProviderKind::Kprobe, "$1:$2")];
        script.probes.push(other);
        script
    };
    let mut options = options();
    options.params = vec!["kprobe".into(), "vfs_read".into()];
    assert_eq!(
        names(&bound(script(), &options, &kernel()).unwrap()),
        ["kprobe:vfs_read"]
    );
    let mut failing = |first: &str, second: &str| {
        options.params = vec![first.into(), second.into()];
        let error = bound(script(), &options, &kernel()).unwrap_err();
        error.summary().to_owned()
    };
    assert_eq!(
        failing("software", "faults"),
        "software:faults: the body is not possible for software probes"
    );
    assert_eq!(failing("nothing", "x"), "Invalid probe type: nothing");
    assert_eq!(
        failing("kprobe", ""),
        "kprobes should be attached to a function or an address"
    );
}

#[test]
fn a_pattern_of_providers_takes_those_that_match() {
    let script = |text: &str| {
        let mut script = one_probe(
            ProgramKind::Tracepoint,
            vec![written(ProviderKind::Tracepoint, text)],
        );
        let mut other = script.probes[0].clone();
        other.kind = ProgramKind::Kprobe;
        other.targets = vec![written(ProviderKind::Kprobe, text)];
        script.probes.push(other);
        script
    };
    let found = bound(script("*:vfs_read"), &options(), &kernel()).unwrap();
    assert_eq!(names(&found), ["kprobe:vfs_read"]);
    let error = bound(script("*:nothing_*"), &options(), &kernel()).unwrap_err();
    assert_eq!(error.summary(), "No matches for *:nothing_*.");
}

#[test]
fn parameters_that_types_come_from_are_fixed() {
    let script = || {
        let mut script = one_probe(ProgramKind::Kprobe, vec![kprobe(None, "vfs_read")]);
        script.typed_params = vec![(1, "vfs_read".into())];
        script
    };
    let mut options = options();
    let error = bound(script(), &options, &kernel()).unwrap_err();
    assert_eq!(
        error.summary(),
        "positional parameter $1 has to be 'vfs_read', which the program was compiled for"
    );
    options.params = vec!["vfs_read".into()];
    assert!(bound(script(), &options, &kernel()).is_ok());
    let mut counted = script();
    counted.typed_params.push((0, "2".into()));
    let error = bound(counted, &options, &kernel()).unwrap_err();
    assert_eq!(
        error.summary(),
        "the number of positional parameters has to be '2', which the program was compiled for"
    );
}

#[test]
fn numbers_of_probes_are_limited() {
    let host = kernel().with_env("BPFTRACE_MAX_PROBES", "2");
    let script = one_probe(ProgramKind::Kprobe, vec![kprobe(None, "vfs_*")]);
    let error = bound(script, &options(), &host).unwrap_err();
    assert_eq!(
        error.summary(),
        "Can't attach to 3 probes because it exceeds the current limit of 2 probes."
    );
    let host = kernel().with_env("BPFTRACE_MAX_BPF_PROGS", "2");
    let script = one_probe(ProgramKind::Kprobe, vec![kprobe(None, "vfs_*")]);
    let error = bound(script, &options(), &host).unwrap_err();
    assert_eq!(
        error.summary(),
        "Your program is trying to generate more than 3 BPF programs, which exceeds the current limit of 2"
    );
}

#[test]
fn the_environment_is_checked() {
    for (key, value, expected) in [
        (
            "BPFTRACE_MAX_MAP_KEYS",
            "a",
            Some("max_map_keys: expecting a number, got a"),
        ),
        (
            "BPFTRACE_MAX_STRLEN",
            "64",
            Some("max_strlen cannot be set to 64: the script was compiled with 1024"),
        ),
        ("BPFTRACE_MAX_STRLEN", "1024", None),
        ("BPFTRACE_STRLEN", "64", None),
        ("BPFTRACE_MAP_KEYS_MAX", "many", None),
        ("BPFTRACE_PRINT_MAPS_ON_EXIT", "off", None),
    ] {
        let host = FakeHost::new().with_env(key, value);
        let result = bound(manifest(), &options(), &host);
        assert_eq!(
            result.err().map(|error| error.summary()).as_deref(),
            expected,
            "{key}={value}"
        );
    }
}

fn slots(values: &[(HostValue, SlotType)]) -> Manifest {
    let mut manifest = manifest();
    for (index, (value, ty)) in values.iter().enumerate() {
        manifest.slots.push(HostSlot {
            value: value.clone(),
            ty: *ty,
            offset: Some(8 * index as u32),
            sites: Vec::new(),
            place: SourceRange::default(),
        });
    }
    manifest
}

#[test]
fn slots_get_facts_about_machine_and_invocation() {
    let int = |index| HostValue::Param {
        index,
        kind: ParamKind::Int,
    };
    let values: Vec<(HostValue, u64)> = vec![
        (int(1), 0xff),
        (int(2), (-7i64) as u64),
        (int(9), 0),
        (HostValue::ParamCount, 2),
        (HostValue::KernelSymbol("jiffies".into()), 0x1234),
        (HostValue::CgroupId("/sys/fs/cgroup".into()), 77),
        (HostValue::TargetPid, 4242),
        (HostValue::ChildPid, 0),
        (HostValue::PidNamespaceDev, 4),
        (HostValue::PidNamespaceIno, 5),
        (HostValue::NumCpus, 4),
        (HostValue::StartTime, 1_000),
        (HostValue::TaiOffset, 37),
        (HostValue::PageSize, 4096),
        (HostValue::Feature(Feature::Loop), 1),
        (HostValue::Feature(Feature::KprobeMulti), 0),
        (HostValue::WarningsOn, 1),
    ];
    let script = slots(
        &values
            .iter()
            .map(|(value, _)| (value.clone(), SlotType::U64))
            .collect::<Vec<_>>(),
    );
    let mut host = FakeHost::new().with_features(&[Feature::Loop]);
    host.initial_pid_namespace = false;
    host.kernel_symbols.insert("jiffies".into(), 0x1234);
    host.cgroups.insert("/sys/fs/cgroup".into(), 77);
    let mut options = options();
    options.params = vec!["0xff".into(), "-7".into()];
    options.pid = Some(4242);
    let bound = bound(script, &options, &host).unwrap();
    for (index, (value, expected)) in values.iter().enumerate() {
        let (offset, bytes) = &bound.data[index];
        assert_eq!(*offset, 8 * index as u32);
        assert_eq!(*bytes, expected.to_le_bytes(), "{value:?}");
    }
    assert_eq!(
        texts(&bound),
        ["Positional parameter $9 is empty or not provided. "]
    );
}

#[test]
fn what_is_odd_about_the_environment_and_parameters_is_told() {
    // F041: a parameter that is not given is worth a warning where it is a number, not where it is text.
    let param = |index, kind| (HostValue::Param { index, kind }, SlotType::U64);
    let text = (
        HostValue::Param {
            index: 2,
            kind: ParamKind::Str,
        },
        SlotType::Str { size: 8 },
    );
    let script = slots(&[param(1, ParamKind::Int), text]);
    let host = FakeHost::new().with_env("BPFTRACE_COLOR", "red");
    assert_eq!(
        texts(&bound(script.clone(), &options(), &host).unwrap()),
        [
            "Invalid env value! The valid values of `BPFTRACE_COLOR` are [auto|always|never]. The current \
             value is red!",
            "Positional parameter $1 is empty or not provided. ",
        ]
    );
    let host = FakeHost::new().with_env("BPFTRACE_USE_BLAZESYM", "perhaps");
    let error = bound(script, &options(), &host).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("use_blazesym: Invalid bool value")
    );
}

#[test]
fn what_parameters_come_to() {
    // F041: beside a parameter, literals are calculated at start, as those of the script are while compiling.
    use bpftrace_meta::{LiteralOp as Op, ParamExpr, ParamStep as Step};
    let run = |params: &[&str], steps: &[Step], kind| {
        let ty = match kind {
            ParamKind::Int => SlotType::U64,
            ParamKind::Str => SlotType::Str { size: 16 },
        };
        let expr = ParamExpr(steps.to_vec());
        let script = slots(&[(HostValue::ParamFold { expr, kind }, ty)]);
        let mut options = options();
        options.params = params.iter().map(|&text| text.to_owned()).collect();
        match bound(script, &options, &FakeHost::new()) {
            Ok(bound) => {
                let mut shown = String::from_utf8_lossy(&bound.data[0].1).into_owned();
                if kind == ParamKind::Int {
                    let bytes = bound.data[0].1.as_slice().try_into().unwrap();
                    shown = i64::from_le_bytes(bytes).to_string();
                }
                let shown = shown.trim_end_matches('\0').to_owned();
                texts(&bound)
                    .iter()
                    .fold(shown, |all, text| format!("{all}! {text}"))
            }
            Err(error) => format!("error: {}", error.summary()),
        }
    };
    let sum = [Step::Number(1), Step::Param(1), Step::Binary(Op::Add)];
    let int = |params: &[&str], steps: &[Step]| run(params, steps, ParamKind::Int);
    let text = |params: &[&str], steps: &[Step]| run(params, steps, ParamKind::Str);
    assert_eq!(int(&["0x10"], &sum), "17");
    assert_eq!(text(&["0x10"], &sum), "17");
    assert_eq!(text(&["-7"], &sum), "-6");
    assert_eq!(text(&["word"], &sum), "ord");
    assert_eq!(text(&["w"], &sum), "! literal string will always be empty");
    assert_eq!(
        text(&[], &sum),
        "1! Positional parameter $1 is empty or not provided. "
    );
    assert_eq!(
        int(&["word"], &sum),
        "error: positional parameter $1 is used as an integer: word"
    );
    let overflow = "error: unable to fold literals due to overflow or underflow";
    assert_eq!(text(&["18446744073709551615"], &sum), overflow);
    let quotient = [Step::Count, Step::Param(1), Step::Binary(Op::Div)];
    assert_eq!(int(&["0"], &quotient), overflow);
    assert_eq!(int(&["2", "", "", ""], &quotient), "2");
    assert_eq!(int(&["5"], &[Step::Param(1), Step::Neg]), "-5");
    assert_eq!(
        text(&["5"], &[Step::Param(1), Step::BitNot]),
        "184467440737095"
    );
    let joined = [
        Step::Text(b"ab".into()),
        Step::ParamText(1),
        Step::Binary(Op::Add),
    ];
    assert_eq!(text(&["07"], &joined), "ab07");
    let product = [Step::Param(1), Step::Number(2), Step::Binary(Op::Mul)];
    assert_eq!(
        text(&["ab"], &product),
        "error: The * operator can not be used on 'ab', which is no integer"
    );
    let cut = [Step::ParamText(1), Step::Param(2), Step::Cut];
    assert_eq!(text(&["abcdef", "3"], &cut), "abc");
    assert_eq!(
        text(&["abcdef", "-3"], &cut),
        "error: str() cannot use negative length (must be non-negative)"
    );
    assert_eq!(
        int(&[], &[Step::Binary(Op::Add)]),
        "error: the compiled script is malformed: no such expression"
    );
}

#[test]
fn texts_fit_their_slots() {
    let text = HostValue::Param {
        index: 1,
        kind: ParamKind::Str,
    };
    let script = slots(&[
        (text.clone(), SlotType::Str { size: 4 }),
        (text, SlotType::Str { size: 8 }),
        (HostValue::NumCpus, SlotType::Bool),
    ]);
    let mut options = options();
    options.params = vec!["hello".into()];
    let bound = bound(script, &options, &FakeHost::new()).unwrap();
    assert_eq!(bound.data[0].1, b"hel\0");
    assert_eq!(bound.data[1].1, b"hello\0\0\0");
    assert_eq!(bound.data[2].1, [1]);
}

#[test]
fn a_word_where_the_script_wants_an_integer() {
    let script = slots(&[(
        HostValue::Param {
            index: 1,
            kind: ParamKind::Int,
        },
        SlotType::U64,
    )]);
    let mut options = options();
    options.params = vec!["word".into()];
    let error = bound(script, &options, &FakeHost::new()).unwrap_err();
    assert!(error.to_string().contains("$1"), "{error}");
}

#[test]
fn named_parameters() {
    let script = || {
        let mut script = slots(&[
            (HostValue::NamedParam(0), SlotType::Bool),
            (HostValue::NamedParam(1), SlotType::U64),
            (HostValue::NamedParam(2), SlotType::Str { size: 8 }),
        ]);
        for (name, default, description) in [
            ("bb", ParamValue::Bool(false), None),
            ("nn", ParamValue::Unsigned(7), Some("a number")),
            ("ss", ParamValue::Str("x".into()), None),
        ] {
            script.named_params.push(NamedParam {
                name: name.into(),
                default,
                description: description.map(str::to_owned),
            });
        }
        script
    };
    let run = |named: &[(&str, Option<&str>)]| {
        let mut options = options();
        options.named = named
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned)))
            .collect();
        bound(script(), &options, &FakeHost::new())
            .map(|bound| bound.data.into_iter().map(|(_, bytes)| bytes).collect())
            .map_err(|error| error.to_string())
    };
    let values = |flag: u8, number: u64, text: &[u8; 8]| {
        Ok(vec![
            vec![flag],
            number.to_le_bytes().to_vec(),
            text.to_vec(),
        ])
    };
    assert_eq!(run(&[]), values(0, 7, b"x\0\0\0\0\0\0\0"));
    assert_eq!(
        run(&[
            ("bb", None),
            ("nn", Some("0x10")),
            ("ss", Some("long text"))
        ]),
        values(1, 16, b"long te\0")
    );
    for (name, value, why) in [
        (
            "bb",
            Some("maybe"),
            "--bb expects a boolean (e.g. 'true') (value: maybe)",
        ),
        ("nn", Some("x"), "--nn invalid integer (value: x)"),
        ("nn", Some("-1"), "--nn value is out of range (value: -1)"),
        ("nn", None, "--nn expects an integer"),
        ("ss", None, "--ss expects a string"),
    ] {
        let expected = format!("ERROR: program command line option {why}");
        assert_eq!(run(&[(name, value)]), Err(expected));
    }
    assert_eq!(
        run(&[("zz", None)]),
        Err("ERROR: unexpected program command line options: --zz\n\
             HINT: expected program options: --bb: --nn: --ss"
            .to_owned())
    );
    assert!(
        run(&[("help", None)])
            .unwrap_err()
            .ends_with("HINT: expected program options:\n--bb\n--nn: a number\n--ss")
    );
}

#[test]
fn sizes_of_maps() {
    let mut script = one_probe(
        ProgramKind::PerfEvent,
        vec![
            ProbeTarget::Interval(Period::Seconds(1)),
            ProbeTarget::Profile(Period::Hertz(99)),
        ],
    );
    for size in [
        MapSize::Fixed,
        MapSize::MaxMapKeys,
        MapSize::MaxMapKeysTimes(3),
        MapSize::Targets,
        MapSize::RingBuffer,
    ] {
        script.maps.push(MapMeta {
            symbol: "m".into(),
            role: MapRole::Internal,
            size,
        });
    }
    let host = FakeHost::new().with_env("BPFTRACE_MAX_MAP_KEYS", "10");
    let sizes = |script: Manifest, host: &FakeHost| bound(script, &options(), host).unwrap();
    let first = sizes(script.clone(), &host);
    assert_eq!(names(&first), ["interval:s:1", "profile:hz:99"]);
    assert_eq!(
        first.entries,
        [None, Some(10), Some(30), Some(2), Some(16 << 20)]
    );
    let pages = FakeHost::new().with_env("BPFTRACE_PERF_RB_PAGES", "5");
    assert_eq!(sizes(script, &pages).entries[4], Some(4 * 4096));
}

#[test]
fn the_ring_buffer_holds_what_probes_that_run_once_send() {
    let size = |targets: Vec<ProbeTarget>, sent: Option<u64>, host: &FakeHost| {
        let mut script = one_probe(ProgramKind::RawTracepointRun, targets);
        script.probes[0].sent_per_run = sent;
        script.maps.push(MapMeta {
            symbol: "ringbuf".into(),
            role: MapRole::RingBuffer,
            size: MapSize::RingBuffer,
        });
        bound(script, &options(), host).unwrap().entries[0].unwrap()
    };
    let host = FakeHost::new();
    let begin = || vec![ProbeTarget::Begin];
    assert_eq!(size(begin(), Some(0), &host), 4096);
    assert_eq!(size(begin(), Some(4095), &host), 4096);
    // The kernel never fills the last byte.
    assert_eq!(size(begin(), Some(4096), &host), 8192);
    assert_eq!(size(begin(), Some(u64::MAX), &host), 16 << 20);
    let both = vec![ProbeTarget::Begin, ProbeTarget::End];
    assert_eq!(size(both, Some(4000), &host), 8192);
    assert_eq!(size(begin(), None, &host), 16 << 20);
    let timer = ProbeTarget::Interval(Period::Seconds(1));
    assert_eq!(
        size(vec![ProbeTarget::Begin, timer], Some(16), &host),
        16 << 20
    );
    let pages = FakeHost::new().with_env("BPFTRACE_PERF_RB_PAGES", "16");
    assert_eq!(size(begin(), Some(16), &pages), 16 * 4096);
}

fn function(object: BtfObject, name: &str, id: u32) -> (BtfEntryKind, BtfEntry) {
    let name = name.to_owned();
    (BtfEntryKind::Function, BtfEntry { object, name, id })
}

#[test]
fn fentry_is_loaded_once_for_each_function() {
    let mut host = kernel();
    host.btf = vec![
        function(BtfObject::Vmlinux, "vfs_read", 10),
        function(BtfObject::Vmlinux, "vfs_write", 11),
        function(BtfObject::Vmlinux, "vfs_inlined", 12),
        function(BtfObject::Module("kvm".into()), "kvm_exit", 20),
        function(BtfObject::Module("a".into()), "twice", 30),
        function(BtfObject::Module("b".into()), "twice", 31),
    ];
    let target = |module: Option<&str>, function: &str| ProbeTarget::Fentry {
        exit: true,
        module: module.map(str::to_owned),
        function: function.to_owned(),
    };
    let script = one_probe(
        ProgramKind::Fexit,
        vec![target(None, "vfs_*"), target(Some("kvm"), "kvm_exit")],
    );
    let found = bound(script, &options(), &host).unwrap();
    // A function that cannot be traced is left out of a wildcard.
    assert_eq!(
        names(&found),
        [
            "fexit:vmlinux:vfs_read",
            "fexit:vmlinux:vfs_write",
            "fexit:kvm:kvm_exit"
        ]
    );
    let ids: Vec<_> = found
        .programs
        .iter()
        .map(|program| program.entry.as_ref().map(|entry| entry.id))
        .collect();
    assert_eq!(ids, [Some(10), Some(11), Some(20)]);
    let script = one_probe(ProgramKind::Fexit, vec![target(None, "twice")]);
    assert_eq!(
        bound(script, &options(), &host).unwrap_err().summary(),
        "ambiguous attach point, please specify module containing the function 'twice'"
    );
}

fn elf(symbols: &[(&str, u64)]) -> ElfFile {
    let mut symbols: Vec<ElfSymbol> = symbols
        .iter()
        .map(|(name, address)| ElfSymbol {
            name: (*name).into(),
            address: *address,
            size: if *name == "empty" { 0 } else { 16 },
        })
        .collect();
    symbols.sort_by(|a, b| a.name.cmp(&b.name));
    ElfFile {
        symbols,
        segments: vec![Segment {
            address: 0x401000,
            offset: 0x1000,
            size: 0x1000,
            executable: true,
        }],
        ..ElfFile::default()
    }
}

#[test]
fn uprobes_go_to_offsets_in_the_file() {
    let mut host = FakeHost::new().with_features(&[Feature::UprobeMulti, Feature::AttachCookie]);
    host.files.insert(
        "/bin/a".into(),
        elf(&[
            ("f_one", 0x401010),
            ("f_two", 0x401020),
            ("f_alias", 0x401020),
            ("_Z3addii", 0x401030),
            ("empty", 0x401040),
        ]),
    );
    let run = |path: &str, place: UprobePlace| {
        let script = one_probe(
            ProgramKind::Uprobe,
            vec![ProbeTarget::Uprobe {
                ret: false,
                path: Some(path.to_owned()),
                place,
            }],
        );
        bound(script, &options(), &host)
    };
    let place = |name: &str, language: Option<&str>, offset| UprobePlace::Function {
        name: name.to_owned(),
        language: language.map(str::to_owned),
        offset,
    };
    let offsets = |bound: &Bound| -> Vec<u64> {
        bound
            .targets
            .iter()
            .map(|target| match &target.place {
                Place::Uprobe { offset, .. } => *offset,
                other => panic!("{other:?}"),
            })
            .collect()
    };
    let exact = run("/bin/a", place("f_one", None, 4)).unwrap();
    assert_eq!(names(&exact), ["uprobe:/bin/a:f_one+4"]);
    assert_eq!(offsets(&exact), [0x1014]);
    assert!(!exact.attachments[0].multi);

    // Two names of one place fire once.
    let pattern = run("/bin/a", place("f_*", None, 0)).unwrap();
    assert_eq!(offsets(&pattern), [0x1020, 0x1010]);
    assert!(pattern.attachments[0].multi && pattern.attachments[0].targets.len() == 2);

    let cpp = run("/bin/a", place("add", Some("cpp"), 0)).unwrap();
    assert_eq!(offsets(&cpp), [0x1030]);

    let address = run("/bin/a", UprobePlace::Address(0x401014)).unwrap();
    assert_eq!(offsets(&address), [0x1014]);
    for (place, message) in [
        (
            UprobePlace::Address(10),
            "Could not resolve address: /bin/a:0xa",
        ),
        (
            place("f_one", None, 16),
            "Offset outside the function bounds ('f_one' size is 16)",
        ),
        (
            place("f_one", None, 3),
            "Could not add uprobe into middle of instruction: /bin/a:f_one+3",
        ),
        (
            place("empty", None, 0),
            "Could not determine boundary for empty (symbol has size 0).",
        ),
        (
            place("empty", None, 1),
            "Offset outside the function bounds ('empty' size is 0)",
        ),
        (place("g", None, 0), "No matches for uprobe /bin/a:g."),
    ] {
        assert_eq!(run("/bin/a", place).unwrap_err().summary(), message);
    }
    // What a pattern matches is not looked at.
    let pattern = run("/bin/a", place("empt*", None, 0)).unwrap();
    assert_eq!(offsets(&pattern), [0x1040]);
    assert_eq!(
        run("/bin/none", place("f", None, 0)).unwrap_err().summary(),
        "uprobe target file '/bin/none' does not exist or is not executable"
    );
}

// F064, F086
#[test]
fn a_place_for_no_probe_is_skipped_where_probes_may_be_missing() {
    let mut host = FakeHost::new().with_features(&[Feature::AttachCookie]);
    host.files
        .insert("/bin/a".into(), elf(&[("empty", 0x401040)]));
    let script = || {
        let place = UprobePlace::Function {
            name: "empty".into(),
            language: None,
            offset: 0,
        };
        let uprobe = ProbeTarget::Uprobe {
            ret: false,
            path: Some("/bin/a".into()),
            place,
        };
        one_probe(ProgramKind::Uprobe, vec![ProbeTarget::Begin, uprobe])
    };
    let error = bound(script(), &options(), &host).unwrap_err();
    assert_eq!(
        error.to_string(),
        "ERROR: Could not determine boundary for empty (symbol has size 0).\n\
         Use --unsafe to force attachment. WARNING: This option could lead to data corruption in the \
         target process.\n\
         ERROR: Unable to attach probe: uprobe:/bin/a:empty. If this is expected, set the \
         'missing_probes' config variable to 'warn'."
    );
    assert_eq!(error.exit_code(), 255);

    let mut lenient = script();
    lenient.config.missing_probes = Some(MissingProbes::Warn);
    let found = bound(lenient, &options(), &host).unwrap();
    assert_eq!(names(&found), ["begin"]);
    let texts: Vec<&str> = found.warnings.iter().map(|w| w.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "Could not determine boundary for empty (symbol has size 0).\n\
             Use --unsafe to force attachment. WARNING: This option could lead to data corruption in \
             the target process.",
            "Unable to attach probe: uprobe:/bin/a:empty. Skipping.",
        ]
    );

    let mut forced = options();
    forced.unsafe_mode = true;
    let found = bound(script(), &forced, &host).unwrap();
    assert_eq!(names(&found), ["begin", "uprobe:/bin/a:empty"]);
}

#[test]
fn filters_look_at_names() {
    let mut options = options();
    options.probe_filter = Some("^interval:s:[12]$".into());
    let targets = |seconds: &[u64]| {
        let mut targets = vec![ProbeTarget::Begin];
        targets.extend(
            seconds
                .iter()
                .map(|s| ProbeTarget::Interval(Period::Seconds(*s))),
        );
        targets
    };
    let script = one_probe(ProgramKind::PerfEvent, targets(&[1, 2, 3]));
    let found = bound(script, &options, &FakeHost::new()).unwrap();
    assert_eq!(names(&found), ["begin", "interval:s:1", "interval:s:2"]);
    options.probe_filter = Some("(".into());
    let error = bound(manifest(), &options, &FakeHost::new()).unwrap_err();
    assert!(
        error
            .summary()
            .starts_with("Invalid --probe-filter regex '(': ")
    );
}

#[test]
fn features_are_asked_for_only_when_they_matter() {
    let host = FakeHost::new();
    let script = one_probe(ProgramKind::RawTracepointRun, vec![ProbeTarget::Begin]);
    bound(script, &options(), &host).unwrap();
    assert_eq!(*host.asked.borrow(), []);
}

// F065
#[test]
fn another_build_of_a_program_is_refused() {
    let target = ProbeTarget::Uprobe {
        ret: false,
        path: Some("/bin/app".into()),
        place: UprobePlace::Function {
            name: "work".into(),
            language: None,
            offset: 0,
        },
    };
    let with_layout = || {
        let mut manifest = one_probe(ProgramKind::Uprobe, vec![target.clone()]);
        manifest.probes[0].layout = Some(bpftrace_meta::UserLayout {
            path: "/bin/app".into(),
            build: bpftrace_meta::UserBuild::Id(vec![1, 0xab]),
        });
        manifest
    };
    let mut host = FakeHost::new().with_features(&[Feature::AttachCookie]);
    host.files
        .insert("/bin/app".into(), elf(&[("work", 0x401010)]));
    let build = bpftrace_meta::UserBuild::Id(vec![1, 0xab]);
    host.builds.insert("/bin/app".into(), build);
    assert!(bound(with_layout(), &options(), &host).is_ok());
    let other = bpftrace_meta::UserBuild::of_bytes(b"other");
    host.builds.insert("/bin/app".into(), other);
    let message = bound(with_layout(), &options(), &host)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("compiled with build id 01ab, found checksum"),
        "{message}"
    );
}

// F080, F222
#[test]
fn a_match_of_a_pattern_may_be_gone() {
    let target = |function: &str| ProbeTarget::Uprobe {
        ret: false,
        path: Some("/bin/app".into()),
        place: UprobePlace::Function {
            name: function.into(),
            language: None,
            offset: 0,
        },
    };
    let script = || {
        let mut manifest = one_probe(ProgramKind::Uprobe, vec![target("work")]);
        manifest.probes[0].from_pattern = true;
        let mut other = manifest.probes[0].clone();
        other.targets = vec![target("gone")];
        manifest.probes.push(other);
        manifest
    };
    let mut host = FakeHost::new().with_features(&[Feature::AttachCookie]);
    host.files
        .insert("/bin/app".into(), elf(&[("work", 0x401010)]));
    let found = bound(script(), &options(), &host).unwrap();
    assert_eq!(names(&found), ["uprobe:/bin/app:work"]);
    let texts: Vec<&str> = found.warnings.iter().map(|w| w.text.as_str()).collect();
    assert_eq!(texts, ["No matches for uprobe /bin/app:gone. Skipping."]);

    let nothing = FakeHost::new().with_features(&[Feature::AttachCookie]);
    let error = bound(script(), &options(), &nothing).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("Probe has no valid attach points."),
        "{error}"
    );
}
