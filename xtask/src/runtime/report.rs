//! Collects verdicts: prints them as they come, and writes them as JSON at the end.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Mutex;

use anyhow::Result;
use serde::Serialize;

use super::case::Mode;
use super::plan::Step;
use crate::guest::kernel::Kernel;

/// A verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// As expected.
    Pass,
    /// Not as expected.
    Fail,
    /// Not run.
    Skip,
}

/// Counts of verdicts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// As expected.
    pub(crate) passed: usize,
    /// Not as expected.
    pub(crate) failed: usize,
    /// Not run.
    pub(crate) skipped: usize,
}

impl Totals {
    /// One that passed.
    pub(crate) const PASS: Totals = Totals {
        passed: 1,
        failed: 0,
        skipped: 0,
    };
    /// One that failed.
    pub(crate) const FAIL: Totals = Totals {
        passed: 0,
        failed: 1,
        skipped: 0,
    };

    fn count(&mut self, status: Status) {
        match status {
            Status::Pass => self.passed += 1,
            Status::Fail => self.failed += 1,
            Status::Skip => self.skipped += 1,
        }
    }

    /// The sum.
    pub(crate) fn plus(self, other: Totals) -> Totals {
        Totals {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
        }
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals {
            passed,
            failed,
            skipped,
        } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

#[derive(Debug, Serialize)]
struct Row {
    file: String,
    name: String,
    status: Status,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    seconds: f64,
    features: Vec<String>,
}

/// Verdicts so far; shared by the threads that follow guests.
#[derive(Debug)]
pub(crate) struct Results {
    rows: Mutex<BTreeMap<(Kernel, Mode), Vec<Row>>>,
    verbose: bool,
}

impl Results {
    /// None yet.
    pub(crate) fn new(verbose: bool) -> Results {
        Results {
            rows: Mutex::new(BTreeMap::new()),
            verbose,
        }
    }

    /// Adds a verdict, and prints it if it is a failure or all are to be printed. `took` is in
    /// milliseconds.
    pub(crate) fn add(&self, step: &Step<'_>, status: Status, reason: &str, took: u64) {
        let seconds = took as f64 / 1000.0;
        let name = step.loaded.full_name();
        let place = format!("{} {}", step.kernel, step.mode.name());
        let mut rows = self.rows.lock().expect("no thread panics while it adds");
        match status {
            Status::Fail => println!("FAIL {place} {name} ({seconds:.1} s)\n{}", indent(reason)),
            Status::Pass if self.verbose => println!("pass {place} {name} ({seconds:.1} s)"),
            Status::Skip if self.verbose => println!("skip {place} {name}: {reason}"),
            Status::Pass | Status::Skip => {}
        }
        rows.entry((step.kernel, step.mode)).or_default().push(Row {
            file: step.loaded.file.clone(),
            name: step.case.name.clone(),
            status,
            reason: reason.to_owned(),
            seconds,
            features: step.case.features.clone(),
        });
    }

    /// Says that a case is tried again, since it failed or its guest did not last.
    pub(crate) fn again(&self, step: &Step<'_>, reason: &str) {
        let place = format!("{} {}", step.kernel, step.mode.name());
        println!(
            "AGAIN {place} {}\n{}",
            step.loaded.full_name(),
            indent(reason)
        );
    }

    /// Prints a line for each kernel and mode, and writes `KERNEL-MODE.json` files.
    pub(crate) fn write(self, folder: &Path, modes: &[Mode]) -> Result<Totals> {
        fs::create_dir_all(folder)?;
        let mut sum = Totals::default();
        let rows = self
            .rows
            .into_inner()
            .expect("no thread panics while it adds");
        for ((kernel, mode), rows) in rows {
            debug_assert!(modes.contains(&mode));
            let mut totals = Totals::default();
            for row in &rows {
                totals.count(row.status);
            }
            sum = sum.plus(totals);
            println!("kernel {kernel}, {}: {totals}", mode.name());
            let path = folder.join(format!("{kernel}-{}.json", mode.name()));
            fs::write(path, serde_json::to_vec_pretty(&rows)?)?;
        }
        Ok(sum)
    }
}

fn indent(text: &str) -> String {
    text.lines()
        .map(|line| format!("     {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}
