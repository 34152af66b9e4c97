//! What must hold for any text, and for any script.

mod check;

use check::{check, check_printing};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Pieces of text that scripts are made of, and some that they are not.
const PIECES: &[&str] = &[
    "begin",
    "kprobe:f",
    "uprobe:/bin/sh:f",
    "a=b:$1",
    "config",
    "=",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    ";",
    ",",
    ":",
    "?",
    "..",
    ".",
    "->",
    "/",
    "//",
    "/*",
    "*/",
    "*",
    "+",
    "++",
    "-",
    "--",
    "&",
    "&&",
    "|",
    "!",
    "~",
    "<<=",
    ">=",
    "==",
    "$x",
    "@m",
    "@",
    "$1",
    "$#",
    "$",
    "\"a\\n\"",
    "\"",
    "\\",
    "1",
    "0x1f",
    "5ms",
    "1e6",
    "08",
    "if",
    "else",
    "while",
    "for",
    "unroll",
    "let",
    "return",
    "break",
    "import",
    "macro",
    "fn",
    "sizeof",
    "offsetof",
    "typeof",
    "typeinfo",
    "comptime",
    "struct",
    "int32",
    "x",
    "pid",
    "_",
    "true",
    "\n",
    "#",
    "#!",
    "é",
    "\0",
    "\t",
];

fn soup() -> impl Strategy<Value = String> {
    let separator = select(vec![" ", " ", "", "\n", "/**/"]);
    vec((select(PIECES), separator), 0..60).prop_map(|pieces| {
        pieces
            .into_iter()
            .flat_map(|(piece, separator)| [piece, separator])
            .collect()
    })
}

/// The tokens of part of a script. Layout goes in between later.
type Tokens = Vec<String>;

fn tokens(words: &str) -> Tokens {
    words.split_whitespace().map(str::to_owned).collect()
}

fn join(parts: impl IntoIterator<Item = Tokens>) -> Tokens {
    parts.into_iter().flatten().collect()
}

fn around(open: &str, inner: Tokens, close: &str) -> Tokens {
    join([tokens(open), inner, tokens(close)])
}

/// An expression in parentheses that are not read as those of a cast, whatever follows.
fn parens(inner: Tokens) -> Tokens {
    let is_name = |token: &String| token.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let is_suffix = |token: &String| matches!(token.as_str(), "*" | "[" | "]" | "1");
    let is_type = inner.first().is_some_and(is_name) && inner[1..].iter().all(is_suffix);
    let is_typeof = inner.first().is_some_and(|token| token == "typeof");
    around(if is_type || is_typeof { "( 0 +" } else { "(" }, inner, ")")
}

fn ty() -> impl Strategy<Value = Tokens> {
    let name = select(vec!["int8", "struct s", "enum e", "x", "union u"]);
    let suffix = select(vec!["*", "[ 4 ]", "[ ]"]);
    (name, vec(suffix, 0..3))
        .prop_map(|(name, suffixes)| join([tokens(name), tokens(&suffixes.join(" "))]))
}

fn leaf() -> impl Strategy<Value = Tokens> {
    select(vec![
        "1",
        "0x1f",
        "5ms",
        "\"a\\x01\"",
        "\"\"",
        "true",
        "$x",
        "@m",
        "@",
        "$1",
        "$#",
        "pid",
        "x",
        "&$x",
        "&@m",
        "$x++",
        "--@m",
        "++$x",
        "()",
        "f()",
        "while",
        "typeof ( x )",
        "sizeof ( struct s )",
        "sizeof ( x )",
        "x [ 1 ]",
        "sizeof ( ( x ) )",
        "offsetof ( struct s , a . b )",
        "typeinfo ( x * )",
    ])
    .prop_map(tokens)
}

fn expr() -> impl Strategy<Value = Tokens> {
    leaf().prop_recursive(5, 40, 4, |inner| {
        let binary = select(vec![
            "||", "&&", "|", "^", "&", "==", "!=", "<", ">=", "<<", ">>", "+", "-", "*", "/", "%",
        ]);
        let postfix = select(vec![". a", "-> a", ". 0", "[ 1 ]"]);
        let prefix = select(vec![
            "-",
            "!",
            "~",
            "*",
            "comptime",
            "( int8 )",
            "( struct s * )",
        ]);
        prop_oneof![
            (inner.clone(), binary, inner.clone()).prop_map(|(a, op, b)| {
                // Before a brace it would close a predicate.
                let b = if op == "/" && b[0] == "{" {
                    parens(b)
                } else {
                    b
                };
                join([a, tokens(op), b])
            }),
            inner.clone().prop_map(parens),
            (inner.clone(), postfix).prop_map(move |(a, op)| join([parens(a), tokens(op)])),
            (prefix, inner.clone()).prop_map(move |(op, a)| join([tokens(op), parens(a)])),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(move |(a, b, c)| {
                join([parens(a), tokens("?"), b, tokens(":"), parens(c)])
            }),
            (inner.clone(), inner.clone()).prop_map(move |(a, b)| join([
                parens(a),
                tokens("?:"),
                parens(b)
            ])),
            vec(inner.clone(), 1..4).prop_map(|args| {
                around(
                    "f (",
                    join(
                        args.into_iter()
                            .flat_map(|tree| [as_arg(tree), tokens(",")]),
                    ),
                    "1 )",
                )
            }),
            vec(inner.clone(), 1..4).prop_map(|args| {
                around(
                    "(",
                    join(args.into_iter().flat_map(|arg| [arg, tokens(",")])),
                    ")",
                )
            }),
            inner.clone().prop_map(|key| around("@m [ 1 ,", key, "]")),
            inner
                .clone()
                .prop_map(|value| around("( a = 1 , b =", value, ")")),
            inner
                .clone()
                .prop_map(|operand| around("sizeof (", as_arg(operand), ")")),
            (ty(), inner.clone()).prop_map(move |(ty, a)| join([around("(", ty, ")"), parens(a)])),
            (
                vec(stmt(inner.clone()), 0..3),
                proptest::option::of(inner.clone())
            )
                .prop_map(block),
            (
                inner.clone(),
                vec(stmt(inner.clone()), 0..2),
                proptest::option::of(inner.clone())
            )
                .prop_map(move |(cond, stmts, value)| {
                    join([
                        tokens("if"),
                        parens(cond),
                        block((stmts, value.clone())),
                        tokens("else"),
                        block((vec![], value)),
                    ])
                }),
        ]
    })
}

/// An expression as an argument: there what starts with `typeof` is a type and nothing else.
fn as_arg(expr: Tokens) -> Tokens {
    if expr[0] == "typeof" && expr.len() > 4 {
        parens(expr)
    } else {
        expr
    }
}

/// An expression as it may stand at the start of a statement: there `while` is not a name.
fn at_start(expr: Tokens) -> Tokens {
    if expr[0] == "while" {
        parens(expr)
    } else {
        expr
    }
}

fn block((stmts, value): (Vec<Tokens>, Option<Tokens>)) -> Tokens {
    let value = value.map(at_start);
    around("{", join(stmts.into_iter().chain(value)), "}")
}

fn stmt(expr: impl Strategy<Value = Tokens> + Clone + 'static) -> impl Strategy<Value = Tokens> {
    let body = (
        vec(
            expr.clone()
                .prop_map(|expr| around("", at_start(expr), ";")),
            0..3,
        ),
        proptest::option::of(expr.clone()),
    );
    prop_oneof![
        expr.clone()
            .prop_map(|expr| join([parens(expr), tokens(";")])),
        expr.clone().prop_map(|expr| around("$x =", expr, ";")),
        expr.clone()
            .prop_map(|expr| around("@m [ 1 ] +=", expr, ";")),
        expr.clone().prop_map(|expr| around("_ =", expr, ";")),
        expr.clone().prop_map(|expr| around("return", expr, ";")),
        (ty(), expr.clone()).prop_map(|(ty, expr)| join([
            around("let $y :", ty, "="),
            expr,
            tokens(";")
        ])),
        select(vec![
            "break ;",
            "continue ;",
            "return ;",
            "let $z ;",
            "import \"a\" ;"
        ])
        .prop_map(tokens),
        (expr.clone(), body.clone())
            .prop_map(|(cond, body)| join([around("while (", cond, ")"), block(body)])),
        (expr.clone(), body.clone())
            .prop_map(|(cond, body)| join([around("if (", cond, ")"), block(body)])),
        (expr.clone(), body.clone()).prop_map(|(cond, body)| join([
            around("if (", cond, ")"),
            block(body),
            tokens(";")
        ])),
        (expr, body.clone())
            .prop_map(|(end, body)| join([around("for $x : 0 .. (", end, ")"), block(body)])),
        body.prop_map(block),
    ]
}

fn item() -> impl Strategy<Value = Tokens> {
    let stmts = vec(stmt(expr().boxed()), 0..4);
    let body = (stmts, proptest::option::of(expr()))
        .prop_map(block)
        .boxed();
    prop_oneof![
        body.clone().prop_map(|body| join([tokens("begin"), body])),
        (expr(), body.clone()).prop_map(|(cond, body)| join([
            tokens("kprobe:f , a=t:b:\"c\"d /"),
            cond,
            tokens("/"),
            body
        ])),
        body.clone()
            .prop_map(|body| join([tokens("macro m ( $a , @b , c )"), body])),
        (ty(), body).prop_map(|(ty, body)| join([around("fn f ( $a : int8 ) :", ty, ""), body])),
        Just(tokens("let @m = hash ( 10 ) ;")),
    ]
}

/// A script, with layout and comments anywhere between its tokens.
fn script() -> impl Strategy<Value = String> {
    let head = select(vec![
        "",
        "#include <a>\nstruct s { int a; // b\n }\n",
        "#!/bin/x\n\nimport \"a\"; config = { a = 1; b = c }",
        "enum e { A } __attribute__((a)); union { int x; }\n\n\n",
    ]);
    let layout = select(vec![
        " ",
        " ",
        " ",
        " ",
        "\n",
        "\n\n\n",
        " /* c */ ",
        " // d\n",
        "\n// e\n",
        " /* f\n g */\n",
    ]);
    (head, vec(item(), 0..3), vec(layout, 1..40)).prop_map(|(head, items, layouts)| {
        let mut text = head.to_owned();
        for (token, layout) in join(items).iter().zip(layouts.iter().cycle()) {
            text.push_str(layout);
            text.push_str(token);
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_parse(bytes in vec(any::<u8>(), 0..300)) {
        check(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_tokens_parse(text in soup()) {
        let checked = check(&text);
        if checked.diagnostics.is_empty() {
            check_printing(&checked);
        }
    }

    #[test]
    fn broken_scripts_parse(text in script(), from in any::<prop::sample::Index>(), len in 0..20usize, with in select(PIECES)) {
        let characters: Vec<char> = text.chars().collect();
        let from = from.index(characters.len() + 1);
        let to = (from + len).min(characters.len());
        let text: String =
            characters[..from].iter().copied().chain(with.chars()).chain(characters[to..].iter().copied()).collect();
        let checked = check(&text);
        if checked.diagnostics.is_empty() {
            check_printing(&checked);
        }
    }

    #[test]
    fn scripts_survive_printing(text in script()) {
        let checked = check(&text);
        prop_assert!(checked.diagnostics.is_empty(), "{:?} in {text}", checked.diagnostics);
        check_printing(&checked);
    }

    #[test]
    fn an_expression_alone_parses_as_in_a_script(tokens in expr()) {
        let text = tokens.join(" ");
        let mut map = bpftrace_ast::source::SourceMap::new();
        let id = map.add("macro", text.clone());
        let (expr, diagnostics) = bpftrace_ast::parse_expr(id, &map);
        prop_assert!(diagnostics.is_empty(), "{diagnostics:?} in {text}");
        let in_script = check(&format!("begin {{ $x = {text}; }}"));
        let alone = bpftrace_ast::dump::dump_expr(&expr.unwrap(), bpftrace_ast::dump::Spans::Hidden);
        let whole = bpftrace_ast::dump::dump(&in_script.script, bpftrace_ast::dump::Spans::Hidden);
        let indented: String = alone.lines().map(|line| format!("        {line}\n")).collect();
        prop_assert!(whole.ends_with(&indented), "{whole}\nand\n{indented}");
    }
}
