//! Does the running kernel take our objects, through libbpf alone?
//!
//! Needs the right to load BPF programs and a kernel with BTF. Where that is missing, every test is
//! reported as ignored, and the reason is printed. `LIBBPF_DEBUG=1` shows libbpf's own messages.

mod asm;
mod core;
mod kernel;
mod parts;

use libtest_mimic::{Arguments, Failed, Trial};

/// A test's name, and what it does.
type Test = (&'static str, fn() -> Result<(), String>);

fn main() {
    let mut arguments = Arguments::from_args();
    // libbpf's settings belong to the process.
    arguments.test_threads = Some(1);
    let unavailable = kernel::unavailable();
    if let Some(reason) = &unavailable {
        eprintln!("skipping all tests of loading: {reason}");
    }
    let tests: Vec<Test> = parts::TESTS.iter().chain(core::TESTS).copied().collect();
    let mut trials: Vec<Trial> = tests
        .into_iter()
        .map(|(name, test)| {
            Trial::test(name, move || test().map_err(Failed::from))
                .with_ignored_flag(unavailable.is_some())
        })
        .collect();
    let no_fentry = unavailable.or_else(kernel::fentry_unavailable);
    if let Some(reason) = &no_fentry {
        eprintln!("skipping function_entry_and_exit: {reason}");
    }
    trials.push(
        Trial::test("function_entry_and_exit", || {
            parts::function_entry_and_exit().map_err(Failed::from)
        })
        .with_ignored_flag(no_fentry.is_some()),
    );
    libtest_mimic::run(&arguments, trials).exit();
}
