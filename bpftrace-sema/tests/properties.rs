//! Scripts that nobody would write, made of every function, builtin and operator: each ends in a program or in
//! an error that says why, never in a panic or a mistake of the compiler's own. Mistakes in what the
//! library's macros are made of would show here too.

mod support;

use bpftrace_ast::diag::has_errors;
use bpftrace_ast::diag::render::{Color, render_all};
use bpftrace_ast::source::SourceMap;
use bpftrace_sema::{NoTexts, SemaOptions, analyze, dump};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

const PROBES: &[&str] = &[
    "begin",
    "kprobe:f",
    "kretprobe:f",
    "fentry:vfs_read",
    "fexit:vfs_read",
    "tracepoint:syscalls:sys_enter_read",
    "uprobe:/bin/x:f",
    "interval:s:1",
    "profile:hz:99",
    "iter:task",
    "fn f($p : int64) : int64",
];

const LEAVES: &[&str] = &[
    "0",
    "1",
    "-1",
    "300",
    "18446744073709551615",
    "5s",
    "\"\"",
    "\"abc\"",
    "\"SIGKILL\"",
    "true",
    "$a",
    "$b",
    "@s",
    "@k",
    "@k[1]",
    "@h",
    "@c",
    "pid",
    "tid",
    "comm",
    "uid",
    "username",
    "curtask",
    "args",
    "arg0",
    "retval",
    "func",
    "probe",
    "probetype",
    "cpu",
    "cpid",
    "has_cpid",
    "elapsed",
    "nsecs",
    "kstack",
    "ustack",
    "config",
    "config.max_strlen",
    "curtask.comm",
    "curtask.real_parent.pid",
    "()",
    "(1, \"x\")",
    "(a = 1, b = \"y\")",
    "$1",
    "$#",
    "ctx",
    "SLEEPING",
    "(uint8)1",
    "(int8 *)arg0",
    "typeinfo(1).base_type",
    "sizeof(uint64)",
    "unknown",
    "typeof(uint64)",
    "typeof(struct task_struct)",
];

const FUNCTIONS: &[&str] = &[
    "assert",
    "avg",
    "bswap",
    "buf",
    "cat",
    "cgroup_path",
    "cgroupid",
    "clear",
    "comm",
    "config",
    "container_of",
    "count",
    "cpid",
    "cpu",
    "curtask",
    "debugf",
    "delete",
    "elapsed",
    "errorf",
    "exit",
    "fail",
    "find",
    "func",
    "getopt",
    "has_key",
    "hist",
    "is_array",
    "is_err",
    "is_integer",
    "is_literal",
    "is_ptr",
    "is_str",
    "is_unsigned_integer",
    "jiffies",
    "join",
    "kaddr",
    "kfunc_allowed",
    "kfunc_exist",
    "kptr",
    "kstack",
    "ksym",
    "leader_comm",
    "leader_tid",
    "len",
    "lhist",
    "macaddr",
    "max",
    "memcmp",
    "min",
    "ncpus",
    "nsecs",
    "ntop",
    "override",
    "path",
    "pcomm",
    "percpu_kaddr",
    "pid",
    "ppid",
    "print",
    "printf",
    "probe",
    "pton",
    "rand",
    "reg",
    "retval",
    "signal",
    "signal_name",
    "signal_thread",
    "skboutput",
    "socket_cookie",
    "static_assert",
    "stats",
    "str",
    "str_concat",
    "strcap",
    "strcontains",
    "strerror",
    "strftime",
    "strlen",
    "strncmp",
    "strstr",
    "sum",
    "syscall_name",
    "system",
    "tid",
    "time",
    "tseries",
    "uaddr",
    "uid",
    "unwatch",
    "uptr",
    "usermode",
    "username",
    "ustack",
    "usym",
    "warnf",
    "write_user",
    "zero",
    "by_name",
    "by_ref",
    "by_map",
    "f",
    "__builtin_len",
    "__builtin_signal",
    "__builtin_task_release",
];

const OPERATORS: &[&str] = &[
    "+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>", "==", "!=", "<", ">=", "&&", "||",
];

fn expr() -> impl Strategy<Value = String> {
    let leaf = select(LEAVES).prop_map(str::to_owned);
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            4 => (select(FUNCTIONS), vec(inner.clone(), 0..4))
                .prop_map(|(name, args)| format!("{name}({})", args.join(", "))),
            2 => (inner.clone(), select(OPERATORS), inner.clone())
                .prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            1 => (select(&["!", "-", "~", "*", "(uint8)", "(int64)", "(bool)", "comptime "][..]), inner.clone())
                .prop_map(|(op, a)| format!("{op}({a})")),
            1 => (inner.clone(), select(&[".comm", ".0", "[1]", ".a", "[$a]"][..])).prop_map(|(a, at)| format!("({a}){at}")),
            1 => (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{{ $a = {a}; {b} }}")),
            1 => (inner.clone(), inner.clone(), inner)
                .prop_map(|(a, b, c)| format!("if comptime ({a}) {{ {b} }} else {{ {c} }}")),
        ]
    })
}

fn stmt() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => expr().prop_map(|e| format!("{e};")),
        2 => (select(&["$a", "$b", "@s", "@k[1]", "@h", "@c"][..]), expr()).prop_map(|(to, e)| format!("{to} = {e};")),
        1 => (select(&["$a", "@s", "@k[1]"][..]), expr()).prop_map(|(to, e)| format!("{to} += {e};")),
        1 => (expr(), expr()).prop_map(|(c, e)| format!("if ({c}) {{ {e}; }}")),
        1 => (expr(), expr()).prop_map(|(n, e)| format!("for $i : 0..({n}) {{ {e}; break; }}")),
        1 => expr().prop_map(|e| format!("for ($kv : @k) {{ {e}; print($kv.1); }}")),
        1 => expr().prop_map(|e| format!("@k[{e}] = {e};")),
        1 => expr().prop_map(|e| format!("return {e};")),
        1 => expr().prop_map(|e| format!("let $c : typeof({e}) = {e};")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    /// F019, F043, F044, F225.
    #[test]
    fn scripts_end_in_a_program_or_an_error(
        probe in select(PROBES),
        stmts in vec(stmt(), 1..6),
        unsafe_mode in any::<bool>(),
    ) {
        let text = format!(
            "config = {{ unstable_typeinfo = enable }}\n\
             macro by_name(x) {{ x }} macro by_ref($x) {{ $x = 1; }} macro by_map(@m) {{ @m[1] = 2; }}\n\
             {probe} {{ $a = 1; {} }}\n",
            stmts.join("\n")
        );
        let mut sources = SourceMap::new();
        let id = sources.add("t.bt", text.as_str());
        let (tree, mistakes) = bpftrace_ast::parse(id, &sources);
        prop_assume!(!has_errors(&mistakes));
        let mut options = SemaOptions::safe();
        options.unsafe_mode = unsafe_mode;
        let (program, found) =
            analyze(&tree, &mut sources, &support::Fixture::new(), &NoTexts, &options);
        let shown = render_all(&found, &sources, Color::Never);
        prop_assert!(program.is_some() || has_errors(&found), "nothing says why:\n{text}");
        prop_assert!(found.iter().all(|diag| diag.code.name() != "internal"), "{shown}\n{text}");
        if let Some(program) = program {
            let _ = dump(&program);
        }
    }
}
