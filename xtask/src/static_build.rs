//! Builds what users get: one static `bpftrace` that carries the runtime shim inside itself.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command;
use crate::workspace::{Workspace, replace_file};

/// A cold build on two slow cores.
const BUILD_LIMIT: Duration = Duration::from_secs(1800);

/// Names the file with the shim to the build script of `bpftrace-cli`.
const SHIM_VARIABLE: &str = "BPFTRACE_AOTRT";

/// What makes executables smaller without making them slower, said to cargo in its own notation:
/// functions that are equal are there once, relocations are packed, and nothing is kept for unwinding
/// because a panic ends the process. The linker is the toolchain's own (lld).
const SMALL: &str = concat!(
    "target.'cfg(all())'.rustflags = [",
    "'-Cforce-unwind-tables=no', '-Clink-arg=-Wl,--icf=all', ",
    "'-Clink-arg=-Wl,-z,pack-relative-relocs']"
);

/// How well the executables are optimised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quality {
    /// As users get them: profiles `static` and `static-small`.
    Full,
    /// Profile `static-fast`: quick to build, larger.
    Fast,
}

impl Quality {
    /// More options for cargo.
    fn options(self) -> &'static [&'static str] {
        match self {
            Quality::Full => &["--config", SMALL],
            Quality::Fast => &[],
        }
    }

    fn profiles(self) -> Profiles {
        match self {
            Quality::Full => Profiles {
                shim: "static-small",
                bpftrace: "static",
                folder: "static",
            },
            Quality::Fast => Profiles {
                shim: "static-fast",
                bpftrace: "static-fast",
                folder: "static-fast",
            },
        }
    }
}

struct Profiles {
    shim: &'static str,
    bpftrace: &'static str,
    /// Where the results go, in the target directory.
    folder: &'static str,
}

/// The finished executables.
#[derive(Debug, Clone)]
pub(crate) struct Executables {
    /// The compiler, which can also run what it compiles.
    pub(crate) bpftrace: PathBuf,
    /// The shim alone.
    pub(crate) aotrt: PathBuf,
}

/// Where a build of that quality is, whether or not it has been made.
pub(crate) fn executables(workspace: &Workspace, quality: Quality) -> Executables {
    let folder = workspace.target.join(quality.profiles().folder);
    Executables {
        bpftrace: folder.join("bpftrace"),
        aotrt: folder.join("bpftrace-aotrt"),
    }
}

/// Builds both.
pub(crate) fn build(workspace: &Workspace, quality: Quality) -> Result<Executables> {
    let profiles = quality.profiles();
    let results = executables(workspace, quality);
    if let Some(folder) = results.bpftrace.parent() {
        fs::create_dir_all(folder)?;
    }
    let words = [
        "build",
        "--quiet",
        "--package",
        "bpftrace-aotrt",
        "--profile",
        profiles.shim,
    ];
    let words = words.iter().chain(quality.options()).copied();
    workspace.run_cargo(words, BUILD_LIMIT)?;
    // A copy, so that the name given to the build script does not depend on the profile, and the
    // file only changes when it differs.
    install(
        &workspace.built(profiles.shim).join("bpftrace-aotrt"),
        &results.aotrt,
    )?;

    let mut cargo = workspace.cargo([
        "build",
        "--quiet",
        "--package",
        "bpftrace-cli",
        "--profile",
        profiles.bpftrace,
    ]);
    cargo
        .args(quality.options())
        .env(SHIM_VARIABLE, &results.aotrt)
        .stdout(std::io::stderr());
    command::check(&mut cargo, BUILD_LIMIT)?;
    install(
        &workspace.built(profiles.bpftrace).join("bpftrace"),
        &results.bpftrace,
    )?;
    Ok(results)
}

fn install(from: &PathBuf, to: &PathBuf) -> Result<()> {
    let new = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    replace_file(to, |path| Ok(fs::copy(from, path).map(drop)?))
}
