//! Large scripts: thousands of statements in one probe are compiled, from the text to the artifact, in
//! time in proportion to their number.

#[path = "support/cpu_time.rs"]
mod cpu_time;
#[path = "../../bpftrace-sema/tests/support/mod.rs"]
mod support;

use std::time::Duration;

use bpftrace_ast::source::SourceMap;
use bpftrace_codegen::{CodegenOptions, DumpStages, ScriptInfo, compile};
use bpftrace_sema::{NoTexts, SemaOptions, analyze};

const FEW: usize = 1250;
const MANY: usize = 4 * FEW;
/// What four times as many statements may cost more than four times the time: caches, allocations, and what
/// else the machine does meanwhile. If the time went with the square, it would be 4.
const SLACK: f64 = 3.0;
/// Measurements are repeated when the machine did something else meanwhile.
const TRIES: usize = 4;

/// Compiles a probe of `n` statements; gives what that took of the processor's time.
fn time(n: usize, between: &str, statement: impl Fn(usize) -> String) -> Duration {
    let body: Vec<String> = (0..n).map(statement).collect();
    let script = format!("begin {{\n$v = (uint64)1;\n{}\n}}", body.join(between));
    let start = cpu_time::of_thread();
    let mut sources = SourceMap::new();
    let source = sources.add("t.bt", script);
    let (tree, mistakes) = bpftrace_ast::parse(source, &sources);
    assert!(mistakes.is_empty(), "{mistakes:?}");
    let (program, mistakes) = analyze(
        &tree,
        &mut sources,
        &support::Fixture::new(),
        &NoTexts,
        &SemaOptions::safe(),
    );
    let Some(program) = program else {
        panic!("{mistakes:?}");
    };
    let info = ScriptInfo {
        name: "t.bt".to_owned(),
        source,
        compiler: "test".to_owned(),
    };
    let options = CodegenOptions {
        optimize: true,
        verify: false,
        dump: DumpStages::default(),
    };
    let (artifact, _) = match compile(&program, &sources, &info, &options) {
        Ok(compiled) => compiled,
        Err(error) => panic!("{n} statements: {error}"),
    };
    assert!(!artifact.encode().is_empty());
    cpu_time::of_thread() - start
}

fn is_linear(statement: impl Fn(usize) -> String) {
    is_linear_with("\n", statement);
}

fn is_linear_with(between: &str, statement: impl Fn(usize) -> String) {
    let (mut few, mut many) = (Duration::MAX, Duration::MAX);
    for _ in 0..TRIES {
        few = few.min(time(FEW, between, &statement));
        many = many.min(time(MANY, between, &statement));
        if many.as_secs_f64() <= few.as_secs_f64() * (MANY / FEW) as f64 * SLACK {
            return;
        }
    }
    panic!("{FEW} statements take {few:?}, {MANY} take {many:?}");
}

#[test]
fn assignments_to_a_variable() {
    is_linear(|n| format!("$v = $v * 3 + {n} * pid;"));
}

#[test]
fn assignments_to_entries_of_a_map() {
    is_linear(|n| format!("@a[{n}] = $v + {n};"));
}

#[test]
fn assignments_of_texts_and_tuples() {
    is_linear(|n| format!("$s{n} = \"text {n}\"; @t = ({n}, $s{n}, pid);"));
}

#[test]
fn assignments_under_conditions() {
    is_linear(|n| format!("if (pid == {n}) {{ $v = $v + {n}; }} else {{ @c = $v; }}"));
}

#[test]
fn calls_of_printf() {
    is_linear(|n| format!("printf(\"{n} %d\\n\", pid);"));
}

#[test]
fn aggregations() {
    is_linear(|n| format!("@k[pid, {n}] = count();"));
}

#[test]
fn histograms() {
    is_linear(|n| format!("@h = hist(pid + {n});"));
}

#[test]
fn conditions_and_choices() {
    is_linear(|n| format!("if (pid == {n} && tid > 1) {{ @c = pid > {n} ? 1 : 2; }}"));
}

#[test]
fn everything_on_one_line() {
    is_linear_with(" ", |n| format!("@a[{n}] = $v + {n};"));
}

#[test]
fn loops_and_scopes() {
    is_linear(|n| format!("if (pid == {n}) {{ let $x = pid; if (tid) {{ $x = 1; }} @ = $x; }}"));
}

/// What is read on the way to a value, and variables for which there are no registers, have no place of their own on the
/// stack.
#[test]
fn long_ways_and_many_variables_fit_the_stack() {
    time(1, "\n", |_| {
        format!("@ = curtask{}->pid;", "->real_parent".repeat(60))
    });
    let each = |piece: fn(usize) -> String| (0..500).map(piece).collect::<String>();
    let assigned = each(|i| format!("$v{i} = pid; if (tid == {i}) {{ $v{i} = {i}; }}\n"));
    let used = each(|i| format!("@ = $v{i};\n"));
    time(1, "\n", |_| format!("{assigned}{used}"));
}
