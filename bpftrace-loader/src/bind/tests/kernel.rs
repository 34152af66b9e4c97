//! What the kernel offers: its functions, its features, how many programs and links.

use bpftrace_meta::{
    Feature, MissingProbes, Period, ProbeId, ProbeTarget, ProgramKind, ProviderKind, Session,
};

use super::{bound, kernel, kprobe, manifest, names, one_probe, options, texts, written};
use crate::bind::PROBE_REMOVED;
use crate::error::ErrorKind;
use crate::ffi::attach_type;
use crate::host::fake::FakeHost;
use crate::host::{BtfEntry, BtfEntryKind, BtfObject};
use crate::options::RunOptions;

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
    assert_eq!(texts(&warn), [PROBE_REMOVED]);

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
