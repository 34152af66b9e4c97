use super::*;
use crate::source::{SourceMap, Span};

fn attach_point(raw: &str) -> AttachPoint {
    let mut map = SourceMap::new();
    let id = map.add("a.bt", raw);
    let (attach_point, diagnostics) = AttachPoint::parse(raw, Span::new(id, 0, raw.len() as u32));
    assert!(diagnostics.is_empty(), "{raw}: {diagnostics:?}");
    attach_point
}

/// The typed view in one line: fields by name, texts quoted, what is absent left out.
fn view(raw: &str) -> String {
    let syntax = match attach_point(raw).syntax(false) {
        Ok(syntax) => syntax,
        Err(diagnostics) => panic!("{raw}: {diagnostics:?}"),
    };
    let text = |text: &Text| format!("{:?}", text.to_display());
    let opt_text = |name: &str, value: &Option<Text>| {
        value
            .as_ref()
            .map_or(String::new(), |value| format!("{name}={} ", text(value)))
    };
    let number = |number: &Number| match number {
        Number::Known(value) => value.to_string(),
        Number::Hole(hole) => text(hole),
    };
    let opt_number = |name: &str, value: &Option<Number>| {
        value
            .as_ref()
            .map_or(String::new(), |value| format!("{name}={} ", number(value)))
    };
    let location = |location: &Location| match location {
        Location::Function { func, offset } => {
            format!("func={} {}", text(func), opt_number("offset", offset))
        }
        Location::Address(address) => format!("address={address}"),
        Location::Source { file, line, col } => {
            format!(
                "file={} line={} {}",
                text(file),
                number(line),
                opt_number("col", col)
            )
        }
    };
    let timer = |timer: &Timer| match timer {
        Timer::Rate { unit, count } => format!("{unit:?} {}", number(count)),
        Timer::Period(period) => format!("period {}", number(period)),
    };
    let shown = match &syntax {
        AttachSyntax::Kprobe {
            is_return,
            module,
            location: at,
        } => {
            format!(
                "kprobe return={is_return} {}{}",
                opt_text("module", module),
                location(at)
            )
        }
        AttachSyntax::Uprobe {
            is_return,
            path,
            lang,
            location: at,
        } => {
            format!(
                "uprobe return={is_return} {}{}{}",
                opt_text("path", path),
                opt_text("lang", lang),
                location(at)
            )
        }
        AttachSyntax::Usdt {
            path,
            namespace,
            name,
        } => {
            format!(
                "usdt {}{}{}",
                opt_text("path", path),
                opt_text("namespace", namespace),
                text(name)
            )
        }
        AttachSyntax::Tracepoint { category, event } => {
            format!("tracepoint {} {}", text(category), text(event))
        }
        AttachSyntax::Rawtracepoint { module, name } => {
            format!("rawtracepoint {}{}", opt_text("module", module), text(name))
        }
        AttachSyntax::Fentry {
            is_return,
            module,
            func,
        } => {
            format!(
                "fentry return={is_return} {}{}",
                opt_text("module", module),
                text(func)
            )
        }
        AttachSyntax::FentryBpf {
            is_return,
            prog_id,
            prog_name,
        } => {
            format!(
                "fentry bpf return={is_return} {}{}",
                opt_number("id", prog_id),
                text(prog_name)
            )
        }
        AttachSyntax::Iter { kind, pin } => format!("iter {} {}", text(kind), opt_text("pin", pin)),
        AttachSyntax::Profile(every) => format!("profile {}", timer(every)),
        AttachSyntax::Interval(every) => format!("interval {}", timer(every)),
        AttachSyntax::Software { event, count } => {
            format!("software {} {}", text(event), opt_number("count", count))
        }
        AttachSyntax::Hardware { event, count } => {
            format!("hardware {} {}", text(event), opt_number("count", count))
        }
        AttachSyntax::Watchpoint {
            address,
            length,
            mode,
        } => {
            format!(
                "watchpoint {} {} {}",
                number(address),
                number(length),
                text(mode)
            )
        }
        AttachSyntax::Begin => "begin".to_owned(),
        AttachSyntax::End => "end".to_owned(),
        AttachSyntax::SelfSignal { signal } => format!("self signal {}", text(signal)),
        AttachSyntax::Test { name } => format!("test {}", text(name)),
        AttachSyntax::Bench { name } => format!("bench {}", text(name)),
    };
    shown.trim_end().to_owned()
}

#[test]
fn every_provider_has_its_view() {
    for (raw, shown) in [
        ("kprobe:vfs_read", r#"kprobe return=false func="vfs_read""#),
        ("K:vfs_*", r#"kprobe return=false func="vfs_*""#),
        (
            "kprobe:ext4:f+0x10",
            r#"kprobe return=false module="ext4" func="f" offset=16"#,
        ),
        ("kprobe:0xffff", "kprobe return=false address=65535"),
        ("kr:f", r#"kprobe return=true func="f""#),
        (
            "uprobe:/bin/sh:main",
            r#"uprobe return=false path="/bin/sh" func="main""#,
        ),
        (
            "u:libc:malloc+4",
            r#"uprobe return=false path="libc" func="malloc" offset=4"#,
        ),
        (
            "uprobe:./a:cpp:\"A::b(int)\"",
            r#"uprobe return=false path="./a" lang="cpp" func="A::b(int)""#,
        ),
        (
            "uprobe:/bin/sh:0x10",
            r#"uprobe return=false path="/bin/sh" address=16"#,
        ),
        (
            "uprobe:/bin/sh@x.c:3:1",
            r#"uprobe return=false path="/bin/sh" file="x.c" line=3 col=1"#,
        ),
        (
            "ur:/bin/sh:main",
            r#"uprobe return=true path="/bin/sh" func="main""#,
        ),
        ("usdt:/bin/a:b", r#"usdt path="/bin/a" "b""#),
        ("U:/bin/a:b:c", r#"usdt path="/bin/a" namespace="b" "c""#),
        (
            "tracepoint:sched:sched_*",
            r#"tracepoint "sched" "sched_*""#,
        ),
        ("t:*exec*", r#"tracepoint "*" "*exec*""#),
        ("rt:sched_switch", r#"rawtracepoint "sched_switch""#),
        ("rawtracepoint:xfs:a", r#"rawtracepoint module="xfs" "a""#),
        ("fentry:f", r#"fentry return=false "f""#),
        (
            "kretfunc:vmlinux:f",
            r#"fentry return=true module="vmlinux" "f""#,
        ),
        ("fentry:bpf:f", r#"fentry bpf return=false "f""#),
        ("fexit:bpf:12:f", r#"fentry bpf return=true id=12 "f""#),
        ("fentry:bpf:*:f", r#"fentry bpf return=false "f""#),
        ("iter:task", r#"iter "task""#),
        ("it:task:mine", r#"iter "task" pin="mine""#),
        ("profile:hz:99", "profile Hz 99"),
        ("p:ms:0x10", "profile Ms 16"),
        ("interval:1s", "interval period 1000000000"),
        ("i:us:5", "interval Us 5"),
        ("software:faults:100", r#"software "faults" count=100"#),
        ("s:cs", r#"software "cs""#),
        ("hardware:cycles:*", r#"hardware "cycles""#),
        ("w:0x1000:8:rw", r#"watchpoint 4096 8 "rw""#),
        ("BEGIN", "begin"),
        ("begin:*", "begin"),
        ("End", "end"),
        ("self:signal:SIGUSR1", r#"self signal "SIGUSR1""#),
        ("test:a", r#"test "a""#),
        ("bench:a", r#"bench "a""#),
    ] {
        assert_eq!(view(raw), shown, "{raw}");
    }
}

#[test]
fn holes_stay_holes() {
    for (raw, shown) in [
        ("kprobe:$1", r#"kprobe return=false func="$1""#),
        ("kprobe:f+$1", r#"kprobe return=false func="f" offset="$1""#),
        (
            "kprobe:a$1b+0x$2",
            r#"kprobe return=false func="a$1b" offset="0x$2""#,
        ),
        ("uprobe:$1:$2", r#"uprobe return=false path="$1" func="$2""#),
        (
            "uprobe:a@b.c:$1",
            r#"uprobe return=false path="a" file="b.c" line="$1""#,
        ),
        ("interval:ms:$1", r#"interval Ms "$1""#),
        ("profile:$1ms", r#"profile period "$1ms""#),
        ("watchpoint:$1:8:$2", r#"watchpoint "$1" 8 "$2""#),
        ("self:signal:$1", r#"self signal "$1""#),
    ] {
        assert_eq!(view(raw), shown, "{raw}");
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
        let found = attach_point(raw).syntax(false).err().unwrap_or_default();
        let found: Vec<&str> = found
            .iter()
            .map(|diagnostic| diagnostic.message.as_str())
            .collect();
        assert_eq!(found.join("; "), messages, "{raw}");
    }
}

#[test]
fn a_given_process_stands_in_for_a_path() {
    for raw in ["uprobe:f", "uprobe:cpp:f", "usdt:f", "usdt::f"] {
        assert!(attach_point(raw).syntax(true).is_ok(), "{raw}");
    }
    assert!(matches!(
        attach_point("uprobe:f").syntax(true),
        Ok(AttachSyntax::Uprobe { path: None, .. })
    ));
}

#[test]
fn a_pattern_of_providers_is_read_as_each_of_them() {
    let any = attach_point("*:vfs_read");
    assert!(matches!(
        any.syntax_as(ProviderKind::Kprobe, false),
        Ok(AttachSyntax::Kprobe { .. })
    ));
    assert!(any.syntax_as(ProviderKind::Tracepoint, false).is_err());
}
