//! Does the running kernel take our objects, through libbpf alone?
//!
//! Needs the right to load BPF programs and a kernel with BTF. Where that is missing, every test is
//! reported as ignored, and the reason is printed. `LIBBPF_DEBUG=1` shows libbpf's own messages.

mod asm;
mod core;
mod kernel;
mod parts;

use libtest_mimic::{Arguments, Failed, Trial};

/// A test.
#[derive(Clone, Copy)]
struct Test {
    name: &'static str,
    /// The first kernel version that has what the test uses.
    since: (u32, u32),
    run: fn() -> Result<(), String>,
}

/// What every kernel that we support has.
const FLOOR: (u32, u32) = (5, 10);

fn main() {
    let mut arguments = Arguments::from_args();
    // libbpf's settings belong to the process.
    arguments.test_threads = Some(1);
    let unavailable = kernel::unavailable();
    if let Some(reason) = &unavailable {
        eprintln!("skipping all tests of loading: {reason}");
    }
    let version = kernel::version();
    let mut trials: Vec<Trial> = parts::TESTS
        .iter()
        .chain(core::TESTS)
        .map(|&Test { name, since, run }| {
            let is_too_old = version < since;
            if is_too_old {
                let (major, minor) = since;
                eprintln!("skipping {name}: it needs Linux {major}.{minor}");
            }
            Trial::test(name, move || run().map_err(Failed::from))
                .with_ignored_flag(unavailable.is_some() || is_too_old)
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
