//! All the tests: what CI runs.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::command;
use crate::guest::kernel::Kernel;
use crate::runtime::case::Mode;
use crate::runtime::{self, Selection, Totals};
use crate::setup;
use crate::static_build::{self, Quality};
use crate::workspace::Workspace;

/// Cold builds on two slow cores.
const CARGO_LIMIT: Duration = Duration::from_secs(1800);

/// Runs everything, prints the sum, and returns it. A stage that fails does not keep the next ones
/// from running, so that one run shows all that is wrong.
pub(crate) fn run(workspace: &Workspace, quality: Quality) -> Result<Totals> {
    setup::set_up()?;
    let mut sum = Totals::default();
    let stages: [(&str, &dyn Fn() -> Result<Totals>); 5] = [
        ("formatting", &|| {
            check(workspace, &["fmt", "--all", "--check"])
        }),
        ("lints", &|| {
            let words = ["clippy", "--quiet", "--workspace", "--all-targets"];
            check(workspace, &[&words[..], &["--", "-D", "warnings"]].concat())
        }),
        ("tests without a kernel", &|| cargo_test(workspace)),
        ("static build", &|| {
            static_build::build(workspace, quality).map(|_| Totals::PASS)
        }),
        ("runtime tests", &|| {
            let bpftrace = static_build::executables(workspace, quality).bpftrace;
            let selection = Selection {
                kernels: Kernel::ALL.to_vec(),
                modes: vec![Mode::Direct, Mode::Aot],
                filters: Vec::new(),
                verbose: false,
                with: None,
            };
            runtime::run(workspace, &bpftrace, &selection)
        }),
    ];
    for (name, stage) in stages {
        println!("== {name}");
        let start = Instant::now();
        let totals = stage().unwrap_or_else(|error| {
            eprintln!("xtask: {name}: {error:#}");
            Totals::FAIL
        });
        println!("== {name}: {totals} ({} s)", start.elapsed().as_secs());
        sum = sum.plus(totals);
    }
    Ok(sum)
}

fn check(workspace: &Workspace, words: &[&str]) -> Result<Totals> {
    workspace
        .run_cargo(words.iter().copied(), CARGO_LIMIT)
        .map(|()| Totals::PASS)
}

/// The workspace's own tests, counted.
fn cargo_test(workspace: &Workspace) -> Result<Totals> {
    let mut cargo = workspace.cargo(["test", "--quiet", "--workspace", "--no-fail-fast"]);
    let (status, text) = command::tee(&mut cargo, CARGO_LIMIT)?;
    let mut totals = Totals::default();
    for line in text.lines().filter(|line| line.starts_with("test result:")) {
        totals = totals.plus(count(line).with_context(|| format!("cannot read {line:?}"))?);
    }
    if !status.success() && totals.failed == 0 {
        // Something did not compile or crashed.
        totals = totals.plus(Totals::FAIL);
    }
    Ok(totals)
}

/// Reads `test result: ok. 3 passed; 0 failed; 0 ignored; …`.
fn count(line: &str) -> Option<Totals> {
    let number = |what: &str| {
        let before = line.split(what).next()?;
        before.split_whitespace().next_back()?.parse::<usize>().ok()
    };
    Some(Totals {
        passed: number(" passed")?,
        failed: number(" failed")?,
        skipped: number(" ignored")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_own_summary_is_understood() {
        let line =
            "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out";
        assert_eq!(
            count(line),
            Some(Totals {
                passed: 12,
                failed: 3,
                skipped: 1
            })
        );
        assert_eq!(count("test result: ?"), None);
    }
}
