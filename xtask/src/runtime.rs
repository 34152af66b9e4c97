//! Runtime tests: cases as data, run in guests, each directly and ahead-of-time compiled.
//!
//! ```text
//!   tests/runtime/*.toml ─▶ case ─▶ plan (what to run, what to skip and why)
//!                                     │ tasks
//!                                   guest ─▶ outcomes ─▶ expect (verdicts) ─▶ report
//! ```
//!
//! The form of a case file is described in `tests/runtime/README.md`.

pub(crate) mod case;
mod expect;
mod plan;
mod portable;
pub(crate) mod programs;
mod report;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result};

use crate::guest::kernel::Kernel;
use crate::guest::machine::Guest;
use crate::guest::protocol::{Report, Task};
use crate::guest::rootfs::GuestFile;
use crate::workspace::Workspace;
use case::Mode;
use plan::{Plan, Step};
pub(crate) use report::Totals;
use report::{Results, Status};

/// How many guests run at a time: each has two processors, which are emulated by two threads.
const GUESTS: usize = 2;

/// What to run.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    /// The kernels.
    pub(crate) kernels: Vec<Kernel>,
    /// The ways to run each case.
    pub(crate) modes: Vec<Mode>,
    /// Only cases in whose `file.name` one of these occurs; all cases if there are none.
    pub(crate) filters: Vec<String>,
    /// Also say what passed and what was skipped.
    pub(crate) verbose: bool,
    /// A folder whose contents are put under the guests' root as well.
    pub(crate) with: Option<PathBuf>,
}

/// Runs what is selected with this executable; prints failures and a summary for each kernel,
/// and leaves results in the target directory.
pub(crate) fn run(workspace: &Workspace, bpftrace: &Path, selection: &Selection) -> Result<Totals> {
    let cases = case::load_all(&workspace.root.join("tests/runtime"))?;
    let mut files = programs::build(workspace)?;
    files.push(GuestFile {
        from: bpftrace.to_owned(),
        to: plan::BPFTRACE.to_owned(),
    });
    if let Some(folder) = &selection.with {
        files.extend(GuestFile::tree(folder)?);
    }
    let mut plan = Plan::new(&cases, selection);
    files.extend(portable::build(workspace, bpftrace, &mut plan)?);

    let results = Results::new(selection.verbose);
    let kernels = Mutex::new(VecDeque::from(selection.kernels.clone()));
    let next_kernel = || kernels.lock().ok()?.pop_front();
    let outcome: Result<Vec<()>> = thread::scope(|scope| {
        let work = || {
            while let Some(kernel) = next_kernel() {
                run_on(kernel, &plan, &files, &results)
                    .with_context(|| format!("kernel {kernel}"))?;
            }
            anyhow::Ok(())
        };
        let workers: Vec<_> = (0..GUESTS).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().expect("a worker does not panic"))
            .collect()
    });
    outcome?;
    results.write(&workspace.target.join("runtime-results"), &selection.modes)
}

/// How often a case is tried whose guest dies or hangs: emulated machines do now and then, and what a
/// case brings about itself comes again.
const TRIES: u32 = 2;

/// How many cases that failed are tried once more for each kernel, in a guest of their own. Some cases depend
/// on what an emulated machine does at the same time; when more fail than these, it is not that.
const MOST_AGAIN: usize = 8;

/// Runs all steps for one kernel. A case that fails is tried once more, and the report says so.
fn run_on(kernel: Kernel, plan: &Plan<'_>, files: &[GuestFile], results: &Results) -> Result<()> {
    let mut steps: VecDeque<&Step<'_>> = VecDeque::new();
    for step in plan.steps.iter().filter(|step| step.kernel == kernel) {
        match &step.skip {
            Some(why) => results.add(step, Status::Skip, why, 0),
            None => steps.push_back(step),
        }
    }
    let mut again = Vec::new();
    run_steps(kernel, steps, files, results, &mut |step, why, took| {
        if again.len() < MOST_AGAIN {
            results.again(step, why);
            again.push(step);
        } else {
            results.add(step, Status::Fail, why, took);
        }
    })?;
    run_steps(
        kernel,
        again.into(),
        files,
        results,
        &mut |step, why, took| {
            results.add(step, Status::Fail, why, took);
        },
    )
}

/// Told of a case that failed: why, and how many milliseconds it took.
type Failed<'f, 'p> = dyn FnMut(&'p Step<'p>, &str, u64) + 'f;

/// Runs steps in as many guests as it takes: when a guest dies or hangs, another one tries the case under way
/// again, and takes up the rest.
fn run_steps<'p>(
    kernel: Kernel,
    mut steps: VecDeque<&'p Step<'p>>,
    files: &[GuestFile],
    results: &Results,
    failed: &mut Failed<'_, 'p>,
) -> Result<()> {
    let mut tries = 0;
    while !steps.is_empty() {
        let before = steps.len();
        let job: Vec<Task> = steps
            .iter()
            .map(|step| Task::Case(Box::new(step.task.clone())))
            .collect();
        let end = run_guest(kernel, &job, files, &mut steps, results, failed)?;
        let End::Died { why, started } = end else {
            break;
        };
        tries = if steps.len() < before { 1 } else { tries + 1 };
        if tries < TRIES {
            if let Some(step) = steps.front() {
                results.again(step, &why);
            }
            continue;
        }
        tries = 0;
        if let Some(step) = steps.pop_front() {
            results.add(step, Status::Fail, &why, 0);
        }
        if !started {
            for step in steps.drain(..) {
                results.add(step, Status::Fail, "the guest did not start", 0);
            }
        }
    }
    Ok(())
}

/// How a guest ended.
enum End {
    /// It did its whole job.
    Finished,
    /// It died or hung; `started` if that was after the start of a case.
    Died { why: String, started: bool },
}

fn run_guest<'p>(
    kernel: Kernel,
    job: &[Task],
    files: &[GuestFile],
    steps: &mut VecDeque<&'p Step<'p>>,
    results: &Results,
    failed: &mut Failed<'_, 'p>,
) -> Result<End> {
    let mut guest = Guest::boot(kernel, job, files)?;
    let mut started = false;
    loop {
        match guest.next() {
            Ok((Report::Started { .. }, _)) => started = true,
            Ok((Report::Outcome(outcome), _)) => {
                if let Some(step) = steps.pop_front() {
                    match expect::judge(step.case, &outcome) {
                        Ok(()) => results.add(step, Status::Pass, "", outcome.took),
                        Err(why) => failed(step, &why, outcome.took),
                    }
                }
            }
            Ok((Report::End, _)) => return Ok(End::Finished),
            Ok(_) => {}
            Err(gone) => {
                return Ok(End::Died {
                    why: gone.why,
                    started,
                });
            }
        }
    }
}
