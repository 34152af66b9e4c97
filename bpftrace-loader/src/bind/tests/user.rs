//! Places in programs of users.

use bpftrace_meta::{Feature, MissingProbes, ProbeTarget, ProgramKind, UprobePlace};

use super::{bound, names, one_probe, options};
use crate::bind::{Bound, Place};
use crate::host::elf::Segment;
use crate::host::fake::FakeHost;
use crate::host::{ElfFile, ElfSymbol};

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

    // Two names of one place are two probes.
    let pattern = run("/bin/a", place("f_*", None, 0)).unwrap();
    assert_eq!(offsets(&pattern), [0x1020, 0x1010, 0x1020]);
    assert!(pattern.attachments[0].multi && pattern.attachments[0].targets.len() == 3);

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
        (
            // Its body asks for the probe, as one of a pattern may.
            place("g", None, 0),
            "Probe has no valid attach points. If this is expected, set the 'missing_probes' config \
             variable to 'warn'.",
        ),
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
