//! Scripts with the tree, the diagnostics or the canonical text they must give, side by side in folders:
//!
//! | folder | next to NAME.bt stands |
//! |---|---|
//! | `ast` | NAME.ast: the tree; the script has no errors |
//! | `errors` | NAME.txt: the diagnostics |
//! | `fmt` | NAME.fmt: the canonical text |
//!
//! `BLESS=1 cargo test -p bpftrace-ast` writes the files anew.

mod check;

use std::path::{Path, PathBuf};

use bpftrace_ast::diag::render::{Color, render_all};
use bpftrace_ast::dump::{Spans, dump};
use check::{Checked, check, check_printing};

fn scripts(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(folder);
    let entries =
        std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "bt"));
    paths.sort();
    assert!(!paths.is_empty());
    paths
}

fn compare(folder: &str, extension: &str, result: impl Fn(&Checked) -> String) {
    let bless = std::env::var_os("BLESS").is_some();
    let mut failures = Vec::new();
    for path in scripts(folder) {
        let found = result(&check(&std::fs::read_to_string(&path).unwrap()));
        let expected_path = path.with_extension(extension);
        if bless {
            std::fs::write(&expected_path, &found).unwrap();
        }
        let expected = std::fs::read_to_string(&expected_path).unwrap_or_default();
        if expected != found {
            failures.push(format!(
                "{}\nexpected:\n{expected}\nfound:\n{found}",
                expected_path.display()
            ));
        }
    }
    assert!(
        failures.is_empty(),
        "{}\nset BLESS=1 to accept what was found",
        failures.join("\n")
    );
}

fn rendered(checked: &Checked) -> String {
    render_all(&checked.diagnostics, &checked.map, Color::Never)
}

#[test]
fn trees() {
    compare("ast", "ast", |checked| {
        assert_eq!(rendered(checked), "");
        check_printing(checked);
        dump(&checked.script, Spans::Hidden)
    });
}

#[test]
fn errors() {
    compare("errors", "txt", |checked| {
        assert!(
            !checked.diagnostics.is_empty(),
            "no error in {}",
            checked.script.span.len()
        );
        rendered(checked)
    });
}

#[test]
fn canonical_texts() {
    compare("fmt", "fmt", |checked| {
        assert_eq!(rendered(checked), "");
        check_printing(checked)
    });
}
