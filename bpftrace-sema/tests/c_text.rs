//! What must hold for any C text: no panic, time in proportion to its length, and limits that say so.

mod support;

use std::time::{Duration, Instant};

use bpftrace_ast::diag::{Diagnostic, has_errors};
use bpftrace_ast::source::SourceMap;
use bpftrace_sema::{
    Header, HeaderQuery, ImportError, ImportedFile, SemaOptions, TextSource, TypedProgram, analyze,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// One header, whatever its name: the script's own, or the system's in angle brackets.
struct OneText(String);

impl TextSource for OneText {
    fn header(&self, query: &HeaderQuery<'_>) -> Option<Header> {
        let system = query.form == bpftrace_sema::IncludeForm::Angle;
        Some(Header {
            path: if system { "system.h" } else { "own.h" }.to_owned(),
            text: self.0.clone(),
            system,
        })
    }

    fn import(&self, _: &str, _: &str) -> Result<Vec<ImportedFile>, ImportError> {
        Err(ImportError::NotFound(Vec::new()))
    }
}

fn run(script: &str, header: &str) -> (Option<TypedProgram>, Vec<Diagnostic>) {
    let mut sources = SourceMap::new();
    let id = sources.add("t.bt", script);
    let (script, _) = bpftrace_ast::parse(id, &sources);
    let (program, diags) = analyze(
        &script,
        &mut sources,
        &support::Fixture::new(),
        &OneText(header.to_owned()),
        &SemaOptions::safe(),
    );
    assert!(program.is_some() || has_errors(&diags));
    for diag in &diags {
        assert_ne!(diag.code.name(), "internal", "{}", diag.message);
        if let Some(span) = diag.span {
            let len = sources.file(span.source).text().len();
            assert!(
                span.start <= span.end && span.end as usize <= len,
                "{diag:?}"
            );
        }
    }
    (program, diags)
}

/// Pieces of C, whole and broken.
const PIECES: &[&str] = &[
    "#define ",
    "#define F(a, b...) a##b #a ",
    "#if ",
    "#ifdef A\n",
    "#else\n",
    "#endif\n",
    "#elif ",
    "#undef A\n",
    "#include <x.h>\n",
    "#include \"x.h\"\n",
    "#pragma once\n",
    "#",
    "##",
    "\n",
    "\\\n",
    " ",
    "A",
    "B",
    "F",
    "F(",
    "defined",
    "sizeof",
    "struct",
    "union",
    "enum",
    "typedef",
    "s",
    "t",
    "int",
    "unsigned",
    "char",
    "long",
    "void",
    "task_struct",
    "u32",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    ";",
    ",",
    ":",
    "*",
    "=",
    "+",
    "-",
    "/",
    "%",
    "<<",
    "&&",
    "||",
    "?",
    "!",
    "~",
    "...",
    "0",
    "1",
    "3",
    "0x7fffffffffffffff",
    "18446744073709551615ull",
    "'a'",
    "'",
    "\"x\"",
    "\"",
    "__attribute__",
    "((packed))",
    "((aligned(8)))",
    "((",
    "/*",
    "*/",
    "//",
    "__VA_ARGS__",
    "typeof",
    "const",
    "inline",
    "static",
    "extern",
    "_Static_assert",
    "_Alignas",
    "\u{e9}",
    "\0",
    "$",
    "@",
];

const PROBE: &str = "\nbegin { print(A); print(sizeof(struct s)); print((t)1); print(sizeof(enum t)); print(B); }\n";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_pieces_of_c_are_read(pieces in vec(select(PIECES), 0..80), spaces in any::<bool>()) {
        let text = pieces.join(if spaces { " " } else { "" });
        // As a header of the system, as one of the script's own, and in the script itself.
        run(&format!("#include <x.h>{PROBE}"), &text);
        run(&format!("#include \"x.h\"{PROBE}"), &text);
        run(&format!("{text}{PROBE}"), "struct s { int x; };");
    }

    #[test]
    fn any_text_is_read(text in "\\PC{0,200}") {
        run(&format!("#include \"x.h\"{PROBE}"), &text);
        run(&format!("#include <x.h>{PROBE}"), &text);
    }
}

/// Generous for debug builds on a busy machine; what is quadratic takes minutes.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn large_texts_take_time_in_proportion() {
    let start = Instant::now();
    let n = 100_000;
    let many = |f: &dyn Fn(usize) -> String| (0..n / 10).map(f).collect::<String>();
    for text in [
        "(".repeat(n),
        "{".repeat(n),
        "struct s {".repeat(n),
        "#if 1\n".repeat(n),
        format!("#if {}\n#endif\n", "(".repeat(n)),
        format!("#if {}1\n#endif\n", "!".repeat(n)),
        format!(
            "#define F(a) a\nstruct s {{ int x[{}1; }};\n",
            "F(".repeat(n)
        ),
        format!(
            "#define F(a) a\nstruct s {{ int x[{}1{}]; }};\n",
            "F(".repeat(1_000),
            ")".repeat(1_000)
        ),
        format!("struct s {{ int {}x; }};\n", "*".repeat(n)),
        format!(
            "struct s {{ int {}x{}; }};\n",
            "(*".repeat(n / 2),
            ")".repeat(n / 2)
        ),
        format!("struct s {{ int x{}; }};\n", "[1]".repeat(n)),
        format!("struct s {{ int x[{}1]; }};\n", "1+".repeat(n)),
        format!("enum e {{ {} }};\n", many(&|i| format!("E{i} = {i}, "))),
        format!("struct s {{ {} }};\n", many(&|i| format!("int m{i} : 3; "))),
        many(&|i| format!("#define A{i} A{}\n", i + 1)) + "struct s { int x[A0]; };\n",
        many(&|i| format!("struct s{i} {{ struct s{} *p; }};\n", i + 1)),
        many(&|i| format!("typedef int t{i};\n")),
        "typedef int t0;\n".to_owned() + &many(&|i| format!("typedef t{i} *t{};\n", i + 1)),
        many(&|i| format!("int f{i}(int x) {{ return x; }}\n")),
    ] {
        for form in ["\"x.h\"", "<x.h>"] {
            run(&format!("#include {form}{PROBE}"), &text);
        }
    }
    assert!(start.elapsed() < LONG, "{:?}", start.elapsed());
}

fn messages(diags: &[Diagnostic]) -> Vec<&str> {
    diags.iter().map(|diag| diag.message.as_str()).collect()
}

#[test]
fn limits_are_errors_that_say_so() {
    let start = Instant::now();
    let doubling: String = (0..64)
        .map(|i| format!("#define D{i} D{} D{}\n", i + 1, i + 1))
        .collect();
    let (_, diags) = run(&format!("{doubling}struct s {{ int x[D0]; }};{PROBE}"), "");
    assert!(
        messages(&diags).contains(&"C macros expand to too much text"),
        "{diags:?}"
    );
    let (_, diags) = run(&format!("#include \"x.h\"{PROBE}"), "#include \"x.h\"\n");
    assert!(
        messages(&diags).contains(&"#include nested too deeply"),
        "{diags:?}"
    );
    let deep = format!("{}int x;{}", "struct {".repeat(100), "};".repeat(100));
    let (_, diags) = run(&format!("struct s {{ {deep} }};{PROBE}"), "");
    assert!(
        messages(&diags).contains(&"C definitions are nested too deeply"),
        "{diags:?}"
    );
    assert!(start.elapsed() < LONG, "{:?}", start.elapsed());
}
