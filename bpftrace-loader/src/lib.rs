//! Runs a compiled script: bytes of an [`Artifact`](bpftrace_meta::Artifact) in, output of the script
//! out, and nothing left behind in the kernel.
//!
//! ```text
//! artifact bytes                                          Host: facts about this machine
//!      │ decode                                                 │
//!      ▼                                                        ▼
//!   Artifact ── bind ──▶ Bound ── load ──▶ Loaded ── attach ──▶ Attached ── run ──▶ Exit
//!                        slots, targets,   maps and programs    links       records ─▶ print ─▶ Sink
//!                        sizes: pure       in the kernel
//! ```
//!
//! [`start`] is the one way in, for scripts that were just compiled and for ahead-of-time executables
//! alike. Read it first, then [`Host`] (everything that is asked about the machine), [`RunOptions`]
//! (everything that is decided by who starts a session) and [`print::Sink`].
//!
//! This crate knows neither the language nor the compiler, and never writes an instruction. All
//! unsafe code is in its module `ffi`.
#![deny(unsafe_code)]

mod attach;
mod bind;
mod cmd;
mod error;
pub mod features;
mod ffi;
pub mod host;
mod link_objects;
mod load;
mod manifest_json;
pub mod number;
pub mod options;
pub mod print;
mod run;

use bpftrace_meta::{Artifact, ProbeTarget};

pub use cmd::find_process;
pub use error::{ErrorKind, LoadError};
pub use ffi::Mapping;
pub use host::{Host, LinuxHost};
pub use link_objects::{LinkError, link_objects};
pub use manifest_json::manifest_json;
pub use options::RunOptions;

use options::Mode;
use print::Sink;

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Exit status of the process.
    pub code: u8,
}

/// Runs a compiled script until it ends.
///
/// # Errors
/// What keeps the script from running: see [`LoadError`], which says the exit status too. Whatever
/// was attached is detached.
pub fn start(
    artifact: &[u8],
    host: &dyn Host,
    options: RunOptions,
    sink: &mut dyn Sink,
) -> Result<Exit, LoadError> {
    ffi::capture_log();
    let artifact = Artifact::decode(artifact)?;
    if let Some(message) = host.missing_privilege() {
        return Err(LoadError::usage(message));
    }
    if let Err(e) = ffi::unlimit_memlock() {
        limit_stays("RLIMIT_MEMLOCK", &e, &options, sink)?;
    }
    let mut traced = cmd::Traced::find(&options, host)?;
    if bind::unwinds(&artifact.manifest) {
        traced.run_to_entry()?;
    }
    let invocation = bind::Invocation {
        options: &options,
        child: traced.child(),
    };
    let bound = bind::bind(artifact, &invocation, host)?;
    for warning in &bound.warnings {
        run::warn(warning, &bound.manifest, sink)?;
    }
    if bound.targets.is_empty() {
        let names = |wanted: fn(&ProbeTarget) -> bool| {
            let mut targets = bound
                .manifest
                .probes
                .iter()
                .flat_map(|probe| &probe.targets);
            targets.any(wanted)
        };
        if options.mode == Mode::Trace && names(|t| matches!(t, ProbeTarget::Test(_))) {
            return Err(LoadError::host(
                "No probes attached; use --test to run test probes.",
            ));
        }
        if options.mode == Mode::Trace && names(|t| matches!(t, ProbeTarget::Bench(_))) {
            return Err(LoadError::host(
                "No probes attached; use --bench to run benchmark probes.",
            ));
        }
        if bound.any_refused {
            return Err(run::all_failed());
        }
        return Ok(run::nothing_to_attach(&options));
    }
    // A program, an event and a link for each target, the maps, and what else is open.
    let wanted = bound.targets.len() * 3 + bound.manifest.maps.len() + 64;
    if let Err(e) = ffi::raise_nofile_limit(wanted as u64) {
        limit_stays("RLIMIT_NOFILE", &e, &options, sink)?;
    }
    let loaded = load::load(bound, &options, host)?;
    run::run(loaded, &invocation, &mut traced, host, sink)
}

/// Says for `-v` that a limit is as low as it was: only what comes after it may fail, or not.
fn limit_stays(
    limit: &str,
    error: &std::io::Error,
    options: &RunOptions,
    sink: &mut dyn Sink,
) -> Result<(), LoadError> {
    let text = format!("Could not set {limit}: {}", error::describe_errno(error));
    run::say(options, sink, &text)
}
