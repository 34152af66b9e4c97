//! Size and depth: no text makes the parser fail or slow down out of proportion.

mod check;

use bpftrace_ast::diag::{Code, Diagnostic};
use bpftrace_ast::source::SourceMap;
use check::{check, check_printing};

/// What is wrong with a text, without the checks that take long on big trees. Debug builds take a lot of stack for a
/// level.
fn errors(text: &str) -> Vec<Diagnostic> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(1 << 30);
        let thread = thread.spawn_scoped(scope, || {
            let mut map = SourceMap::new();
            let id = map.add("a.bt", text);
            bpftrace_ast::parse(id, &map).1
        });
        match thread.expect("spawned").join() {
            Ok(found) => found,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn probe(body: &str) -> String {
    format!("begin {{ {body} }}")
}

#[test]
fn a_thousand_terms_are_fine() {
    for operator in ["+", "-", "*", "&&", "||", "|", "==", "<<"] {
        let terms = vec!["$x"; 1000].join(&format!(" {operator} "));
        let checked = check(&probe(&format!("$y = {terms};")));
        assert!(
            checked.diagnostics.is_empty(),
            "{operator}: {:?}",
            checked.diagnostics
        );
        check_printing(&checked);
    }
}

#[test]
fn five_thousand_statements_are_fine() {
    let checked = check(&probe(
        &"@m[$x, \"a\"] = $x.y[1] + 2; if $x { f(1); }\n".repeat(5000),
    ));
    assert!(checked.diagnostics.is_empty());
    check_printing(&checked);
}

#[test]
fn nesting_is_limited_and_never_overflows_the_stack() {
    let forms = [
        ("(", "1", ")"),
        ("((", "1", ",))"),
        ("(a = ", "1", ")"),
        ("{", "1", "}"),
        ("f({", "1", "})"),
        ("-", "1", ""),
        ("!", "1", ""),
        ("*", "$x", ""),
        ("++", "$x", ""),
        ("(int8)", "1", ""),
        ("(int8)(", "1", ")"),
        ("(typeof(", "1", "))1"),
        ("comptime ", "1", ""),
        ("sizeof(", "1", ")"),
        ("sizeof(typeof(", "1", "))"),
        ("f(", "1", ")"),
        ("@a[", "1", "]"),
        ("$x[", "1", "]"),
        ("1 + (", "1", ")"),
        ("1 ? ", "1", " : 1"),
        ("1 ? 1 : ", "1", ""),
        ("1 ?: ", "1", ""),
        ("if 1 {", "1", "}"),
        ("if 1 {} else ", "if 1 {}", ""),
        ("if if 1 {} else {", "1", "} {}"),
        ("while 1 {", "1", "}"),
        ("for $x : 0..1 {", "1", "}"),
        ("for $x : (", "1", ")..1 {}"),
        ("unroll ({", "1", "}) {}"),
        ("$x = {", "1", "}"),
        ("_ = if 1 {", "1", "} else {}"),
    ];
    for (open, inner, close) in forms {
        for n in [30, 20_000] {
            let body = format!("{}{inner}{}", open.repeat(n), close.repeat(n));
            for text in [
                probe(&body),
                format!("begin / {body} / {{ }}"),
                format!("begin {{ {}", open.repeat(n)),
            ] {
                let found = errors(&text);
                let is_limited = found
                    .iter()
                    .any(|diagnostic| diagnostic.code == Code::LIMIT);
                assert!(n < 2_000 || !found.is_empty(), "{open} {n}");
                assert!(n > 30 || !is_limited, "{open}");
                assert!(found.len() < 10, "{open} {n}: {}", found.len());
            }
        }
    }
}

#[test]
fn long_chains_are_limited() {
    for link in [".a", "->a", "[1]", " + 1", " * 1 + 1", ".0", " && (1 + 1)"] {
        let chain = |n: usize| probe(&format!("$x = $x{};", link.repeat(n)));
        let found = errors(&chain(300));
        assert!(found.is_empty(), "{link}: {found:?}");
        let found = errors(&chain(20_000));
        assert_eq!(found.len(), 1, "{link}: {found:?}");
        assert_eq!(found[0].code, Code::LIMIT);
    }
    let pointers = |n: usize| probe(&format!("let $x : int8 {};", "*".repeat(n)));
    assert!(errors(&pointers(100)).is_empty());
    assert_eq!(errors(&pointers(20_000))[0].code, Code::LIMIT);
    let chains = "(1".to_owned() + &" + 1".repeat(900) + ")";
    let nested = probe(&format!("$x = {};", vec![chains; 50].join(" + ")));
    assert!(errors(&nested).is_empty());
}

/// Each of these would take minutes if reading it took time quadratic in its length.
#[test]
fn odd_texts_take_linear_time() {
    let patterns = [
        "struct ( } ",
        "struct (((",
        "struct a {} __attribute__(( ",
        "struct a [",
        "struct a ",
        "union {{{",
        "#define a\n",
        "# a\n#!\n",
        "begin {",
        "begin { $x = ; }",
        "begin }",
        "begin { \"a ",
        "begin { (a[ ",
        "begin { / / / ",
        "a:\"b, ",
        "/* ",
        "// \n",
        "begin { if x {} else ",
        "import \"a\"",
        "config = { a = ",
        "let @a = ",
        "macro a(",
        "fn f($a : ",
        "x, ",
        "\\",
        "é",
        "$",
        "begin { f(a, /* b */ ",
    ];
    for pattern in patterns {
        errors(&pattern.repeat((1 << 16) / pattern.len()));
    }
}

#[test]
fn many_mistakes_end_the_reading() {
    let found = errors(&"begin { $x = ; } y ".repeat(1000));
    assert_eq!(found.len(), 50);
    let found = errors(&format!("begin {{ {} }}", "$x = ; ".repeat(1000)));
    assert_eq!(found.len(), 50);
}
