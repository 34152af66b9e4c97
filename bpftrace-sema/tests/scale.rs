//! Many of each thing that a script can have many of: what the front end takes goes with their number.

#[path = "../../bpftrace-codegen/tests/support/cpu_time.rs"]
mod cpu_time;
mod support;

use std::time::Duration;

use bpftrace_ast::source::SourceMap;
use bpftrace_sema::{NoTexts, SemaOptions, analyze};

const FEW: usize = 500;
const MANY: usize = 16 * FEW;
/// What sixteen times as many may cost more than sixteen times the time: caches, allocations, and what else the
/// machine does meanwhile. If the time went with the square, it would be 16.
const SLACK: f64 = 4.0;
/// Measurements are repeated when the machine did something else meanwhile.
const TRIES: usize = 4;

/// Analyses a script; gives what that took of the processor's time.
fn time(script: &str) -> Duration {
    let start = cpu_time::of_thread();
    let mut sources = SourceMap::new();
    let source = sources.add("t.bt", script);
    let (tree, _) = bpftrace_ast::parse(source, &sources);
    let (program, mistakes) = analyze(
        &tree,
        &mut sources,
        &support::Fixture::new(),
        &NoTexts,
        &SemaOptions::safe(),
    );
    assert!(program.is_some() || !mistakes.is_empty(), "{script:.200}");
    cpu_time::of_thread() - start
}

fn is_linear(script: impl Fn(usize) -> String) {
    let (small, large) = (script(FEW), script(MANY));
    let (mut few, mut many) = (Duration::MAX, Duration::MAX);
    for _ in 0..TRIES {
        few = few.min(time(&small));
        many = many.min(time(&large));
        if many.as_secs_f64() <= few.as_secs_f64() * (MANY / FEW) as f64 * SLACK {
            return;
        }
    }
    panic!("{FEW} take {few:?}, {MANY} take {many:?}: {small:.200}");
}

/// `n` pieces of text.
fn each(n: usize, between: &str, piece: impl Fn(usize) -> String) -> String {
    (0..n).map(piece).collect::<Vec<_>>().join(between)
}

/// A probe of `n` statements.
fn statements(n: usize, statement: impl Fn(usize) -> String) -> String {
    format!("begin {{\n{}\n}}", each(n, "\n", statement))
}

#[test]
fn members_of_structs() {
    let reads = |n| statements(n, |i| format!("@ = ((struct s *)0)->m{i};"));
    is_linear(|n| {
        let members = each(n, " ", |i| format!("int m{i};"));
        format!("struct s {{ {members} }};\n{}", reads(n))
    });
    is_linear(|n| {
        let members = each(n, " ", |i| format!("struct {{ int m{i}; }};"));
        format!("struct s {{ {members} }};\n{}", reads(n))
    });
    is_linear(|n| {
        let offsets = statements(n, |i| format!("@ = offsetof(struct s, m{i});"));
        let members = each(n, " ", |i| format!("int m{i};"));
        format!("struct s {{ {members} }};\n{offsets}")
    });
}

#[test]
fn fields_of_records() {
    let record = |n| each(n, ", ", |i| format!("a{i} = {i}"));
    let reads = |n| each(n, "\n", |i| format!("@ = @r.a{i};"));
    is_linear(|n| format!("begin {{ @r = ({});\n{} }}", record(n), reads(n)));
    is_linear(|n| {
        let backwards = each(n, ", ", |i| format!("a{} = 1", n - 1 - i));
        format!("begin {{ $r = ({}); $r = ({backwards}); }}", record(n))
    });
    is_linear(|n| {
        let elements = each(n, ", ", |i| i.to_string());
        let reads = each(n, "\n", |i| format!("@ = @t.{i};"));
        format!("begin {{ @t = ({elements});\n{reads} }}")
    });
}

#[test]
fn variables_and_maps() {
    is_linear(|n| statements(n, |i| format!("$v{i} = {i}; @ = $v{i};")));
    is_linear(|n| statements(n, |i| format!("if (pid) {{ let $v = {i}; @ = $v; }}")));
    is_linear(|n| statements(n, |i| format!("$x{i} = 1; $p{i} = &$x{i};")));
    is_linear(|n| statements(n, |i| format!("$x{i} = (int8)1; $x{i} = (int64)1;")));
    is_linear(|n| statements(n, |i| format!("@m{i}[{i}] = count();")));
    is_linear(|n| statements(n, |i| format!("print(@m{i});")));
    is_linear(|n| {
        let declared = each(n, "\n", |i| format!("let @m{i} = hash(10);"));
        let used = statements(n, |i| format!("@m{i}[1] = 1;"));
        format!("{declared}\n{used}")
    });
}

#[test]
fn maps_with_the_type_of_the_next_one() {
    is_linear(|n| {
        let copies = each(n, "\n", |i| format!("@m{i} = @m{};", i + 1));
        format!("begin {{ {copies} @m{n} = \"a\"; }}")
    });
    is_linear(|n| {
        let copies = each(n, "\n", |i| format!("@m{i}[1] = @m{}[\"a\"];", i + 1));
        format!("begin {{ {copies} @m{n}[1] = (1, \"a\"); @m{n}[1] = (pid, \"a\"); }}")
    });
}

#[test]
fn definitions() {
    is_linear(|n| {
        let functions = each(n, "\n", |i| {
            format!("fn f{i}($a : int64) : int64 {{ return $a; }}")
        });
        let calls = statements(n, |i| format!("$v{i} = f{i}(1);"));
        format!("{functions}\n{calls}")
    });
    is_linear(|n| each(n, "\n", |_| "fn f() : int64 { return 1; }".to_owned()));
    is_linear(|n| {
        let macros = each(n, "\n", |i| format!("macro m{i}() {{ {i} }}"));
        let calls = statements(n, |i| format!("@ = m{i}();"));
        format!("{macros}\n{calls}")
    });
    is_linear(|n| {
        let params = each(n, ", ", |i| format!("$a{i}"));
        format!("macro m({params}) {{ 1 }} begin {{ }}")
    });
    is_linear(|n| {
        let macros = each(n, "\n", |i| format!("#define D{i} (D{} + 1)", i.max(1) - 1));
        let uses = statements(n, |i| format!("@ = D{};", i % 8));
        format!("{macros}\n{uses}")
    });
    is_linear(|n| {
        let types = each(n, "\n", |i| {
            format!(
                "struct s{0} {{ struct s{1} *p; }}; typedef struct s{0} t{0}; enum e{0} {{ E{0} }};",
                i,
                i.max(1) - 1
            )
        });
        let uses = statements(n, |i| format!("@ = ((t{i} *)0)->p; @e = E{i};"));
        format!("{types}\n{uses}")
    });
    is_linear(|n| {
        let values = each(n, ", ", |i| format!("E{i}"));
        let uses = statements(n, |i| format!("@ = E{i}; print((enum e){i});"));
        format!("enum e {{ {values} }};\n{uses}")
    });
}

#[test]
fn texts_and_parameters() {
    is_linear(|n| statements(n, |i| format!("printf(\"{i} %d\", pid); print(\"{i}\");")));
    is_linear(|n| statements(n, |i| format!("print(strftime(\"%H{i}\", nsecs));")));
    is_linear(|n| statements(n, |i| format!("print(cgroup_path(cgroup, \"{i}\"));")));
    is_linear(|n| {
        statements(n, |i| {
            format!("@ = getopt(\"p{i}\", 1); print(${});", i + 1)
        })
    });
    is_linear(|n| statements(n, |i| format!("@ = kaddr(\"f{i}\");")));
}

#[test]
fn probes() {
    is_linear(|n| each(n, "\n", |i| format!("interval:ms:{} {{ @ = 1; }}", i + 1)));
    is_linear(|n| {
        let points = each(n, ",\n", |i| format!("kprobe:f{i}"));
        format!("{points} {{ @[probe] = count(); }}")
    });
    // Each of them has something to warn about.
    is_linear(|n| {
        each(n, "\n", |i| {
            format!("kprobe:f{i} {{ let $x; return; @ = *arg0; }}")
        })
    });
}

#[test]
fn mistakes() {
    is_linear(|n| statements(n, |i| format!("@ = $v{i};")));
    is_linear(|n| {
        statements(n, |i| {
            format!("@ = v{i}; @ = v{i}(); @ = (struct v{i} *)0;")
        })
    });
    is_linear(|n| format!("begin {{ @ = \"a\"; {} }}", "@ = 1; ".repeat(n)));
    is_linear(|n| {
        let lines = each(n, "\n", |i| format!("abc{i} = 1"));
        format!("config = {{ {lines} }} begin {{ }}")
    });
    is_linear(|n| each(n, "\n", |i| format!("macro m() {{ {i} }}")));
}
