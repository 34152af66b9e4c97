//! What a script gets from the invocation and the machine: parameters, the environment, sizes.

use bpftrace_meta::{
    Feature, HostSlot, HostValue, Manifest, MapMeta, MapRole, MapSize, NamedParam, ParamKind,
    ParamValue, Period, ProbeTarget, ProgramKind, SlotType, SourceRange,
};

use super::{bound, kernel, kprobe, manifest, names, one_probe, options, texts};
use crate::host::fake::FakeHost;

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
    use bpftrace_meta::{ArithmeticOp as Op, ParamExpr, ParamStep as Step};
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
