//! Rules about what may depend on what, and that ARCHITECTURE.md names what exists.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The crates whose dependencies have rules; all of them are ours.
const OURS: [&str; 9] = [
    "bpftrace-ast",
    "bpftrace-sema",
    "bpftrace-meta",
    "bpftrace-notation",
    "bpftrace-debuginfo",
    "bpftrace-codegen",
    "bpftrace-loader",
    "bpftrace-aotrt",
    "bpftrace-cli",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Everything that ends up in a build of a crate: its normal dependencies, and theirs.
fn dependencies(package: &str) -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(root())
        .args([
            "tree", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{p}",
        ])
        .args(["--package", package])
        .output()
        .expect("cargo can be run");
    assert!(
        output.status.success(),
        "cargo tree: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("names are ASCII");
    let names = text
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    names
        .filter(|name| *name != package)
        .map(str::to_owned)
        .collect()
}

fn assert_none(package: &str, forbidden: impl Fn(&str) -> bool) {
    let found: Vec<String> = dependencies(package)
        .into_iter()
        .filter(|name| forbidden(name))
        .collect();
    assert!(
        found.is_empty(),
        "{package} must not depend on {}",
        found.join(", ")
    );
}

#[test]
fn the_shim_has_no_compiler_in_it() {
    let compiler = [
        "btf-rs",
        "regalloc2",
        "bpftrace-ast",
        "bpftrace-sema",
        "bpftrace-codegen",
    ];
    assert_none("bpftrace-aotrt", |name| {
        name.starts_with("cranelift") || compiler.contains(&name)
    });
}

#[test]
fn only_the_loader_has_libbpf() {
    for package in [
        "bpftrace-ast",
        "bpftrace-sema",
        "bpftrace-meta",
        "bpftrace-notation",
        "bpftrace-debuginfo",
        "bpftrace-codegen",
    ] {
        assert_none(package, |name| name.starts_with("libbpf"));
    }
}

#[test]
fn the_contract_knows_no_other_crate_of_ours() {
    assert_none("bpftrace-meta", |name| OURS.contains(&name));
}

#[test]
fn each_stage_knows_only_what_it_takes_and_gives() {
    // The contract, and what is read on both sides of it: text of attach points, files with DWARF.
    let shared = ["bpftrace-meta", "bpftrace-notation", "bpftrace-debuginfo"];
    for package in ["bpftrace-notation", "bpftrace-debuginfo"] {
        assert_none(package, |name| {
            OURS.contains(&name) && name != "bpftrace-meta"
        });
    }
    let may_know = [
        ("bpftrace-ast", &["bpftrace-meta", "bpftrace-notation"][..]),
        ("bpftrace-sema", &["bpftrace-ast"]),
        ("bpftrace-codegen", &["bpftrace-ast", "bpftrace-sema"]),
        ("bpftrace-loader", &[]),
        ("bpftrace-aotrt", &["bpftrace-loader"]),
    ];
    for (package, known) in may_know {
        let known = |name: &str| {
            known.contains(&name) || (package != "bpftrace-ast" && shared.contains(&name))
        };
        assert_none(package, |name| OURS.contains(&name) && !known(name));
    }
}

/// What stands between backticks in ARCHITECTURE.md and looks like a path: it has a slash or a
/// file's extension, and nothing that paths of ours do not have.
fn paths(text: &str) -> BTreeSet<String> {
    let is_path = |word: &str| {
        let has_form = word.contains('/') || word.ends_with(".rs") || word.ends_with(".md");
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        has_form && word.chars().all(plain) && !word.starts_with('/') && !word.ends_with("/...")
    };
    let mut paths = BTreeSet::new();
    let mut in_block = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            let spans = line.split('`').skip(1).step_by(2);
            paths.extend(spans.filter(|word| is_path(word)).map(str::to_owned));
        }
    }
    paths
}

#[test]
fn paths_are_found_in_backticks() {
    let text = "see `a/b.rs`, `x + y`, `/proc/self` and `Type`\n```\n`no/path`\n```\n`README.md`";
    assert_eq!(
        paths(text),
        ["README.md", "a/b.rs"].map(str::to_owned).into()
    );
}

#[test]
fn every_path_that_the_architecture_page_names_exists() {
    let page = root().join("ARCHITECTURE.md");
    let Ok(text) = std::fs::read_to_string(&page) else {
        println!("there is no {}", page.display());
        return;
    };
    let missing: Vec<String> = paths(&text)
        .into_iter()
        .filter(|path| !root().join(path).exists())
        .collect();
    assert!(
        missing.is_empty(),
        "ARCHITECTURE.md names what does not exist: {missing:?}"
    );
}
