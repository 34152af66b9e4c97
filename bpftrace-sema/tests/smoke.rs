//! Scripts of a few lines, through the parser and the analysis.

mod support;

use bpftrace_ast::diag::has_errors;
use bpftrace_ast::diag::render::{Color, render_all};
use bpftrace_ast::source::SourceMap;
use bpftrace_sema::{NoTexts, SemaOptions, TypedProgram, analyze};

fn check(text: &str) -> (Option<TypedProgram>, String) {
    let mut sources = SourceMap::new();
    let id = sources.add("t.bt", text);
    let (script, diags) = bpftrace_ast::parse(id, &sources);
    assert!(
        !has_errors(&diags),
        "{}",
        render_all(&diags, &sources, Color::Never)
    );
    let (program, diags) = analyze(
        &script,
        &mut sources,
        &support::Fixture::new(),
        &NoTexts,
        &SemaOptions::safe(),
    );
    (program, render_all(&diags, &sources, Color::Never))
}

#[test]
fn scripts_that_are_fine() {
    for text in [
        r#"BEGIN { printf("hello %d\n", 1 + 2); exit(); }"#,
        r#"kprobe:f /pid == 5/ { @[comm, arg0] = count(); }"#,
        r#"kprobe:f { @a[tid] = nsecs; } kretprobe:f /@a[tid]/ { @h = hist(nsecs - @a[tid]); delete(@a, tid); }"#,
        r#"tracepoint:sched:sched_one { printf("%s %d %s\n", args.comm, args.pid, str(args.name)); }"#,
        r#"tracepoint:syscalls:sys_enter_openat { printf("%s\n", str(args.filename)); }"#,
        r#"tracepoint:sched:sched_* { @[args.pid] = sum(1); }"#,
        r#"fentry:task_kill { @[args.task.real_parent.comm] = max(args.sig); }"#,
        r#"fexit:task_kill { printf("%d %s\n", retval, args.task->comm); }"#,
        r#"kprobe:f { $t = (struct task_struct *)arg0; if ($t->state == SLEEPING) { @ = lhist($t->on_rq, 0, 100, 10); } else { @x = $t->ticks; } }"#,
        r#"interval:s:1 { for ($kv : @m) { print($kv.0); } @m[1] = 2; for ($i : 0..10) { @n[$i] = avg($i); } print(@n); clear(@n); }"#,
        r#"begin { let $x : uint8 = 5; $y = $x ? "a" : "bcd"; print(($x, $y)); unroll (3) { $x++ } }"#,
    ] {
        let (program, diags) = check(text);
        assert!(program.is_some(), "{text}\n{diags}");
    }
}
