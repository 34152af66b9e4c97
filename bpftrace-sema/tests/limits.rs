//! Large, deep and broken scripts: no panic, and time in proportion to their length.

mod support;

use std::time::{Duration, Instant};

use bpftrace_ast::diag::has_errors;
use bpftrace_ast::source::SourceMap;
use bpftrace_sema::{NoTexts, SemaOptions, TypedProgram, analyze};

/// How many probes the program has, if there is one. Debug builds take a lot of stack for a level.
fn run(text: &str) -> Option<usize> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(1 << 30);
        let thread =
            thread.spawn_scoped(scope, || run_here(text).map(|program| program.probes.len()));
        match thread.expect("spawned").join() {
            Ok(program) => program,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn run_here(text: &str) -> Option<TypedProgram> {
    let mut sources = SourceMap::new();
    let id = sources.add("t.bt", text);
    let (script, _) = bpftrace_ast::parse(id, &sources);
    let (program, diags) = analyze(
        &script,
        &mut sources,
        &support::Fixture::new(),
        &NoTexts,
        &SemaOptions::safe(),
    );
    assert!(
        program.is_some() || has_errors(&diags),
        "no program and no error: {text:.200}"
    );
    for diag in &diags {
        assert_ne!(
            diag.code.name(),
            "internal",
            "{}: {text:.200}",
            diag.message
        );
    }
    program
}

/// Generous for debug builds on a busy machine; what is quadratic takes minutes.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn large_scripts_take_time_in_proportion() {
    let start = Instant::now();
    let assignments: String = (0..5_000).map(|i| format!("$v{i} = {i}; ")).collect();
    assert!(run(&format!("begin {{ {assignments} }}")).is_some());
    let probes: String = (0..1_000)
        .map(|i| format!("kprobe:f{i} {{ @[pid, {i}] = count(); }}\n"))
        .collect();
    assert_eq!(run(&probes), Some(1_000));
    assert!(start.elapsed() < LONG, "took {:?}", start.elapsed());
}

/// Tables that are written as choices get long.
#[test]
fn long_rows_of_choices_and_operators_are_programs() {
    let choices = "else if (pid == 3) { print(2); } ".repeat(1_500);
    assert!(run(&format!("begin {{ if (pid) {{ }} {choices} }}")).is_some());
    let operators = " || pid == 3".repeat(1_500);
    assert!(
        run(&format!(
            "begin {{ if (pid == 2{operators}) {{ print(2); }} }}"
        ))
        .is_some()
    );
}

#[test]
fn deep_scripts_end_in_a_diagnostic_or_a_program() {
    for n in [10, 100, 390, 1_900, 10_000] {
        let open = |text: &str| text.repeat(n);
        run(&format!("begin {{ $a = {}pid{}; }}", open("("), open(")")));
        run(&format!("begin {{ $a = {}pid; }}", open("!")));
        run(&format!("begin {{ $a = pid{}; }}", open(" + pid")));
        run(&format!("begin {{ {}{} }}", open("if (pid) { "), open("}")));
        run(&format!(
            "begin {{ if (pid) {{ }} {} }}",
            open("else if (pid) { } ")
        ));
        run(&format!("begin {{ $a = {}1{}; }}", open("(1, "), open(")")));
        run(&format!("begin {{ $a = ({}int32)pid; }}", open("struct ")));
        run(&format!(
            "begin {{ $a = curtask{}->pid; }}",
            open("->real_parent")
        ));
        run(&format!("begin {{ $a = {}1; }}", open("pid ? 2 : ")));
    }
}

#[test]
fn macros_that_double_end_in_a_diagnostic() {
    let mut text = String::from("macro m0() { 1 }\n");
    for i in 1..40 {
        text.push_str(&format!("macro m{i}() {{ m{0}() + m{0}() }}\n", i - 1));
    }
    text.push_str("begin { print(m12()); }");
    assert!(run(&text).is_some());
}

#[test]
fn c_macros_that_double_end_in_a_diagnostic() {
    let mut text = String::from("#define D0 1\n");
    for i in 1..200 {
        text.push_str(&format!("#define D{i} (D{0} + D{0})\n", i - 1));
    }
    assert!(run(&format!("{text}begin {{ print(D10); }}")).is_some());
    assert!(run(&format!("{text}begin {{ print(D199); print(D198); }}")).is_none());
}

#[test]
fn as_many_mistakes_as_there_are_names_take_time_in_proportion() {
    let start = Instant::now();
    let members: String = (0..4_000).map(|i| format!("int member{i}; ")).collect();
    let reads: String = (0..10_000)
        .map(|i| format!("@ = $s->mumber{i}; "))
        .collect();
    assert!(
        run(&format!(
            "struct s {{ {members} }}; begin {{ $s = (struct s *)0; {reads} }}"
        ))
        .is_none()
    );
    assert!(start.elapsed() < LONG, "took {:?}", start.elapsed());
}

#[test]
fn macros_that_call_each_other_in_a_row_take_time_in_proportion() {
    let start = Instant::now();
    let mut text = String::from("macro m0() { 1 }\n");
    for i in 1..20_000 {
        text.push_str(&format!("macro m{i}() {{ m{}() }}\n", i - 1));
    }
    text.push_str("begin { print(m10()); }");
    assert!(run(&text).is_some());
    assert!(start.elapsed() < LONG, "took {:?}", start.elapsed());
}

/// Pieces of scripts in all combinations of two: what is wrong is said, and nothing panics.
#[test]
fn pieces_in_all_combinations() {
    const VALUES: &[&str] = &[
        "1",
        "-1",
        "pid",
        "\"a\"",
        "comm",
        "true",
        "nsecs",
        "arg0",
        "$x",
        "@m",
        "@k[1]",
        "@c",
        "@h",
        "curtask",
        "kstack",
        "(1, 2)",
        "(a = 1)",
        "str($1)",
        "$1",
        "probe",
        "func",
        "SLEEPING",
        "()",
        "(struct task_struct *)arg0",
        "*curtask",
        "curtask->numbers",
        "buf(arg0, 4)",
        "username",
        "count()",
        "printf(\"x\")",
        "exit()",
        "{ 1 }",
        "if (pid) { 1 } else { 2 }",
    ];
    for a in VALUES {
        for b in VALUES {
            run(&format!(
                "kprobe:f {{ $x = {a}; $y = {b}; @m = {a}; @k[{b}] = {a}; @c = count(); \
                 @h = hist({b}); $z = {a} + {b}; $w = {a} == {b}; $v = {a} ? {a} : {b}; \
                 print(({a}, {b})); printf(\"%s %d\", {a}, {b}); $u = ({a})[{b}]; $x = {b}; }}"
            ));
        }
    }
}
