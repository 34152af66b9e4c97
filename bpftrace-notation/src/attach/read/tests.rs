use super::*;

const SAFE: Reading = Reading {
    process_given: false,
    unsafe_mode: false,
};

fn read(raw: &str, how: Reading) -> Result<ProbeTarget, Vec<Wrong>> {
    let (point, wrong) = AttachPoint::parse(raw);
    assert!(wrong.is_empty(), "{raw}: {wrong:?}");
    point.read(point.known_provider().map_err(|wrong| vec![wrong])?, how)
}

/// The target in one line.
fn shown(raw: &str) -> String {
    match read(raw, SAFE) {
        Ok(target) => format!("{target:?}"),
        Err(wrong) => panic!("{raw}: {wrong:?}"),
    }
}

#[test]
fn every_provider_reads_its_parts() {
    for (raw, target) in [
        (
            "kprobe:vfs_read",
            r#"Kprobe { ret: false, module: None, function: "vfs_read", offset: 0 }"#,
        ),
        (
            "K:vfs_*",
            r#"Kprobe { ret: false, module: None, function: "vfs_*", offset: 0 }"#,
        ),
        (
            "kprobe:ext4:f+0x10",
            r#"Kprobe { ret: false, module: Some("ext4"), function: "f", offset: 16 }"#,
        ),
        (
            "kr:f",
            r#"Kprobe { ret: true, module: None, function: "f", offset: 0 }"#,
        ),
        (
            "uprobe:/bin/sh:main",
            r#"Uprobe { ret: false, path: Some("/bin/sh"), place: Function { name: "main", language: None, offset: 0 } }"#,
        ),
        (
            "u:libc:malloc+4",
            r#"Uprobe { ret: false, path: Some("libc"), place: Function { name: "malloc", language: None, offset: 4 } }"#,
        ),
        (
            r#"uprobe:./a:cpp:"A::b(int)""#,
            r#"Uprobe { ret: false, path: Some("./a"), place: Function { name: "A::b(int)", language: Some("cpp"), offset: 0 } }"#,
        ),
        (
            "uprobe:/bin/sh:0x10",
            r#"Uprobe { ret: false, path: Some("/bin/sh"), place: Address(16) }"#,
        ),
        (
            "uprobe:/bin/sh@x.c:3:1",
            r#"Uprobe { ret: false, path: Some("/bin/sh"), place: SourceLine { file: "x.c", line: 3, column: Some(1) } }"#,
        ),
        (
            "ur:/bin/sh:main",
            r#"Uprobe { ret: true, path: Some("/bin/sh"), place: Function { name: "main", language: None, offset: 0 } }"#,
        ),
        (
            "usdt:/bin/a:b",
            r#"Usdt { path: Some("/bin/a"), provider: None, name: "b" }"#,
        ),
        (
            "U:/bin/a:b:c",
            r#"Usdt { path: Some("/bin/a"), provider: Some("b"), name: "c" }"#,
        ),
        (
            "tracepoint:sched:sched_*",
            r#"Tracepoint { category: "sched", event: "sched_*" }"#,
        ),
        (
            "t:*exec*",
            r#"Tracepoint { category: "*", event: "*exec*" }"#,
        ),
        (
            "rt:sched_switch",
            r#"RawTracepoint { module: None, name: "sched_switch" }"#,
        ),
        (
            "rawtracepoint:xfs:a",
            r#"RawTracepoint { module: Some("xfs"), name: "a" }"#,
        ),
        (
            "fentry:f",
            r#"Fentry { exit: false, module: None, function: "f" }"#,
        ),
        (
            "kretfunc:vmlinux:f",
            r#"Fentry { exit: true, module: Some("vmlinux"), function: "f" }"#,
        ),
        (
            "fentry:bpf:f",
            r#"FentryBpf { exit: false, prog_id: None, name: "f" }"#,
        ),
        (
            "fexit:bpf:12:f",
            r#"FentryBpf { exit: true, prog_id: Some(12), name: "f" }"#,
        ),
        (
            "fentry:bpf:*:f",
            r#"FentryBpf { exit: false, prog_id: None, name: "f" }"#,
        ),
        ("iter:task", r#"Iter { name: "task", pin: None }"#),
        (
            "it:task:mine",
            r#"Iter { name: "task", pin: Some("mine") }"#,
        ),
        ("profile:hz:99", "Profile(Hertz(99))"),
        ("p:ms:0x10", "Profile(Milliseconds(16))"),
        ("interval:1s", "Interval(Microseconds(1000000))"),
        ("i:us:5", "Interval(Microseconds(5))"),
        (
            "software:faults:100",
            r#"Software { event: "faults", count: 100 }"#,
        ),
        ("s:cs", r#"Software { event: "cs", count: 0 }"#),
        (
            "hardware:cycles:*",
            r#"Hardware { event: "cycles", count: 0 }"#,
        ),
        (
            "w:0x1000:8:rw",
            r#"Watchpoint { address: 4096, length: 8, mode: "rw" }"#,
        ),
        ("BEGIN", "Begin"),
        ("begin:*", "Begin"),
        ("End", "End"),
        ("self:signal:SIGUSR1", r#"SelfSignal("SIGUSR1")"#),
        ("test:a", r#"Test("a")"#),
        ("bench:a", r#"Bench("a")"#),
    ] {
        assert_eq!(shown(raw), target, "{raw}");
    }
}

#[test]
fn what_is_wrong_is_said() {
    for (raw, messages) in [
        ("nothing:a", "Invalid probe type: nothing"),
        ("", "No attach points for probe"),
        ("zz*:a", "No probe type matched for zz*"),
        (
            "kprobe",
            "kprobe probe type requires 1 or 2 arguments, found 0",
        ),
        (
            "kprobe:a:b:c",
            "kprobe probe type requires 1 or 2 arguments, found 3",
        ),
        (
            "kprobe:",
            "kprobes should be attached to a function or an address",
        ),
        ("kprobe:f+", "Invalid offset"),
        ("kprobe:f+x", "Invalid offset: invalid integer: x"),
        ("kprobe:f+1+2", "Cannot take more than one offset"),
        ("kretprobe:f+1", "Offset not allowed"),
        ("uretprobe:a:f+1", "Offset not allowed"),
        (
            "uprobe:f",
            "uprobe probe type requires 2 or 3 arguments, found 1",
        ),
        ("uprobe::f", "uprobe should have a target"),
        (
            "uprobe:a:",
            "uprobe should be attached to a function and/or address",
        ),
        ("uprobe:a:go:f", "unsupported language type: go"),
        (
            "uprobe:a*:0x1",
            "Cannot use wildcards with absolute address",
        ),
        (
            "uprobe:a*@x.c:1",
            "Cannot use wildcards with source code location",
        ),
        (
            "uprobe:a@x.c",
            "Invalid uprobe arguments, expected format: uprobe:TARGET@FILE:LINE[:COL]",
        ),
        ("uprobe:a@x.c:y", "Invalid line number: invalid integer: y"),
        (
            "uprobe:a@x.c:1:y",
            "Invalid column number: invalid integer: y",
        ),
        ("uretprobe:a@x.c:1", "Source code location not allowed"),
        (
            "usdt:a",
            "usdt probe type requires 2 or 3 arguments, found 1",
        ),
        (
            "usdt::a",
            "usdt probe must specify at least path or pid to probe. To target all paths/pids set the path to '*'.",
        ),
        (
            "usdt:a:",
            "usdt probe must have a target function or wildcard",
        ),
        (
            "tracepoint:a",
            "tracepoint probe type requires 2 arguments, found 1",
        ),
        ("tracepoint:a:", "tracepoint probe must have a target"),
        (
            "rawtracepoint",
            "rawtracepoint probe type requires 2 or 1 arguments, found 0",
        ),
        (
            "fentry",
            "fentry probe type requires 1 or 3 arguments, found 0",
        ),
        (
            "fentry:a:b:c",
            "Only the 'bpf' variant of this probe supports 4 arguments",
        ),
        ("fentry:bpf:x:c", "bpf program id must be a number or '*'"),
        (
            "fentry:bpf",
            "the 'bpf' variant of this probe requires a bpf program name and optional bpf program id",
        ),
        ("fexit:", "fentry/fexit should specify a function"),
        ("iter", "iter probe type takes 2 arguments (1 optional)"),
        ("iter:task*", "iter probe type does not support wildcards"),
        (
            "profile:hz",
            "Invalid rate of profile probe: invalid integer: hz",
        ),
        (
            "interval:500",
            "Invalid rate of interval probe. Minimum is 1000 or 1us. Found: 500 nanoseconds",
        ),
        (
            "interval:foo:0",
            "foo is not an accepted unit of time; interval frequency should be a positive integer",
        ),
        (
            "interval:s:-1",
            "interval frequency should be a positive integer",
        ),
        (
            "software:cpu:-1",
            "software count should be a positive integer",
        ),
        ("profile::1", "profile probe must have unit of time"),
        (
            "software",
            "software probe type requires 1 or 2 arguments, found 0",
        ),
        (
            "software:",
            "software probe must have a software event name",
        ),
        (
            "software:a*",
            "wildcards are not allowed for software probe type",
        ),
        (
            "hardware:a:b",
            "Invalid count for hardware probe: invalid integer: b",
        ),
        (
            "watchpoint:a:8:w",
            "Invalid function/address argument: invalid integer: a",
        ),
        (
            "watchpoint:0:3:wqw",
            "watchpoint must be attached to a non-zero address; watchpoint length must be one of (1,2,4,8); \
             watchpoint mode must be combination of (r,w,x); watchpoint modes may not be duplicated",
        ),
        ("begin:a", "begin probe type requires 0 arguments, found 1"),
        ("self:signal:SIGUSR2", "SIGUSR2 is not a supported signal"),
        ("self:a:b", "a is not a supported trigger"),
        ("test", "test probe type requires 1 arguments, found 0"),
        ("bench:", "bench probes must have a name"),
    ] {
        let found = read(raw, SAFE).err().unwrap_or_default();
        let found: Vec<&str> = found.iter().map(|wrong| wrong.message.as_str()).collect();
        assert_eq!(found.join("; "), messages, "{raw}");
    }
}

#[test]
fn a_given_process_stands_in_for_a_path() {
    let how = Reading {
        process_given: true,
        ..SAFE
    };
    for raw in ["uprobe:f", "uprobe:cpp:f", "usdt:f", "usdt::f"] {
        assert!(read(raw, how).is_ok(), "{raw}");
    }
    assert!(matches!(
        read("uprobe:f", how),
        Ok(ProbeTarget::Uprobe { path: None, .. })
    ));
}

#[test]
fn an_address_in_the_kernel_is_unsafe() {
    let how = Reading {
        unsafe_mode: true,
        ..SAFE
    };
    assert_eq!(
        read("kprobe:0xffff", how),
        Ok(ProbeTarget::KprobeAddress(0xffff))
    );
    let wrong = read("kprobe:0xffff", SAFE).unwrap_err();
    assert!(wrong[0].needs_unsafe);
    assert_eq!(wrong[0].message, "Probing by address requires --unsafe");
}

#[test]
fn an_unknown_mode_of_a_watchpoint_gets_the_known_ones() {
    let wrong = read("watchpoint:1:8:rwx", SAFE).unwrap_err();
    assert_eq!(wrong[0].message, "invalid watchpoint mode: rwx");
    assert_eq!(wrong[0].hint.as_deref(), Some("supported modes: x,w,rw"));
}

#[test]
fn a_pattern_of_providers_is_read_as_each_of_them() {
    let (any, _) = AttachPoint::parse("*:vfs_read");
    assert!(matches!(
        any.read(ProviderKind::Kprobe, SAFE),
        Ok(ProbeTarget::Kprobe { .. })
    ));
    assert!(any.read(ProviderKind::Tracepoint, SAFE).is_err());
}
