//! Turns cases into tasks for guests: which case runs where and how, and which does not and why.

use super::Selection;
use super::case::{Case, KernelName, Loaded, Mode, Needs};
use crate::guest::kernel::Kernel;
use crate::guest::protocol::CaseTask;

/// Where `bpftrace` is in a guest.
pub(super) const BPFTRACE: &str = "/bin/bpftrace";
/// The executable that `bpftrace` writes in a guest.
const WRITTEN: &str = "/tmp/case/aot-executable";

/// One case on one kernel in one mode.
#[derive(Debug)]
pub(crate) struct Step<'a> {
    /// The case.
    pub(crate) loaded: &'a Loaded,
    /// The same, without where it came from.
    pub(crate) case: &'a Case,
    /// The kernel.
    pub(crate) kernel: Kernel,
    /// How it is run.
    pub(crate) mode: Mode,
    /// Why it is not run.
    pub(crate) skip: Option<String>,
    /// What the guest does for it.
    pub(crate) task: CaseTask,
}

/// All steps, in the order in which they run.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    /// The steps.
    pub(crate) steps: Vec<Step<'a>>,
}

impl<'a> Plan<'a> {
    /// Plans what is selected.
    pub(crate) fn new(cases: &'a [Loaded], selection: &Selection) -> Plan<'a> {
        let chosen = |loaded: &&Loaded| {
            let name = loaded.full_name();
            let filters = &selection.filters;
            filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()))
        };
        let mut steps = Vec::new();
        for kernel in &selection.kernels {
            for mode in &selection.modes {
                for loaded in cases.iter().filter(chosen) {
                    steps.extend(step(loaded, *kernel, *mode));
                }
            }
        }
        Plan { steps }
    }
}

/// Nothing if the case is not run in that mode by its nature, as a command line is not compiled
/// ahead of time.
fn step(loaded: &Loaded, kernel: Kernel, mode: Mode) -> Option<Step<'_>> {
    let case = &loaded.case;
    let applies = match (&case.modes, &case.build_on, &case.command) {
        (Some(modes), _, _) => modes.contains(&mode),
        (None, Some(_), _) => mode == Mode::Aot,
        (None, None, Some(_)) => mode == Mode::Direct,
        (None, None, None) => true,
    };
    applies.then(|| Step {
        loaded,
        case,
        kernel,
        mode,
        skip: case.needs.as_ref().and_then(|needs| lacking(needs, kernel)),
        task: task(loaded, mode),
    })
}

fn lacking(needs: &Needs, kernel: Kernel) -> Option<String> {
    let version = KernelName::of(kernel);
    let too_old = needs.from.is_some_and(|from| version < from);
    let too_new = needs.before.is_some_and(|before| version >= before);
    (too_old || too_new).then(|| needs.reason.clone())
}

fn task(loaded: &Loaded, mode: Mode) -> CaseTask {
    let case = &loaded.case;
    let mut files = case.files.clone();
    let words = |parts: &[&[String]]| parts.concat();
    let bpftrace = [BPFTRACE.to_owned()];
    let (build, run) = match (&case.program, &case.command) {
        (Some(program), _) => {
            let source = match &case.file {
                Some(name) => {
                    files.insert(name.clone(), program.clone());
                    vec![name.clone()]
                }
                None => vec!["-e".to_owned(), program.clone()],
            };
            match mode {
                Mode::Direct => (
                    None,
                    words(&[
                        &bpftrace,
                        &case.compile_options,
                        &case.options,
                        &source,
                        &case.args,
                    ]),
                ),
                Mode::Aot => {
                    let run = words(&[&[WRITTEN.to_owned()], &case.options, &case.args]);
                    let output = ["--aot".to_owned(), WRITTEN.to_owned()];
                    (
                        Some(words(&[&bpftrace, &case.compile_options, &output, &source])),
                        run,
                    )
                }
            }
        }
        (None, command) => {
            let line = command
                .as_deref()
                .unwrap_or_default()
                .replace("{{bpftrace}}", BPFTRACE);
            (None, vec!["/bin/sh".to_owned(), "-c".to_owned(), line])
        }
    };
    CaseTask {
        files,
        background: case.background.clone(),
        build,
        run,
        env: case.env.clone(),
        ordinary_user: case.ordinary_user,
        stimulus: case.stimulus.clone(),
        interrupt: case.interrupt,
        limit: case.timeout * 1000,
    }
}
