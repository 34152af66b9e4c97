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

/// How well the executables are optimised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quality {
    /// As users get them: profile `static`.
    Full,
    /// Profile `static-fast`: quick to build, larger.
    Fast,
}

impl Quality {
    /// The profile, and the folder of the target directory where the results go.
    fn profile(self) -> &'static str {
        match self {
            Quality::Full => "static",
            Quality::Fast => "static-fast",
        }
    }

    /// What makes executables smaller without making them slower, said to cargo in its own notation:
    /// functions that are equal are there once, relocations are packed, and nothing is kept for
    /// unwinding because a panic ends the process. The linker is the toolchain's own (lld).
    fn options(self, workspace: &Workspace) -> Vec<String> {
        if self == Quality::Fast {
            return Vec::new();
        }
        let script = workspace.root.join("xtask/discard-unwinding.ld");
        let mut flags = vec![
            "-Cforce-unwind-tables=no".to_owned(),
            // A hash of some kilobytes at start: its rounds as a loop.
            "--cfg=sha2_backend_soft=\"compact\"".to_owned(),
            // Read by `no_unwinding` of bpftrace-loader.
            "--cfg=unwind_tables_discarded".to_owned(),
            "-Clink-arg=-Wl,-O2,--icf=all".to_owned(),
            "-Clink-arg=-Wl,-z,pack-relative-relocs".to_owned(),
            "-Clink-arg=-Wl,--no-eh-frame-hdr".to_owned(),
            format!("-Clink-arg=-Wl,-T,{}", script.display()),
        ];
        // Nor do executables say, for each file that may panic, where the builder keeps its sources.
        flags.extend(
            sources_of_dependencies()
                .iter()
                .map(|folder| format!("--remap-path-prefix={}=", folder.display())),
        );
        // Rust writes strings in quotes as TOML does.
        vec![
            "--config".to_owned(),
            format!("target.'cfg(all())'.rustflags = {flags:?}"),
        ]
    }
}

/// The folders, one for each registry, that cargo has unpacked dependencies in.
fn sources_of_dependencies() -> Vec<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    let registries = home.and_then(|home| fs::read_dir(home.join("registry/src")).ok());
    let mut folders: Vec<PathBuf> = registries
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    // Other flags would have everything built again.
    folders.sort();
    folders
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
    let folder = workspace.target.join(quality.profile());
    Executables {
        bpftrace: folder.join("bpftrace"),
        aotrt: folder.join("bpftrace-aotrt"),
    }
}

/// Builds both.
pub(crate) fn build(workspace: &Workspace, quality: Quality) -> Result<Executables> {
    let results = executables(workspace, quality);
    if let Some(folder) = results.bpftrace.parent() {
        fs::create_dir_all(folder)?;
    }
    let options = quality.options(workspace);
    let cargo = |package: &str| {
        let words = ["rustc", "--quiet", "--package", package, "--profile"];
        let mut cargo = workspace.cargo(words);
        cargo
            .arg(quality.profile())
            .args(&options)
            .stdout(std::io::stderr());
        cargo
    };
    let built = workspace.built(quality.profile());
    let mut shim = cargo("bpftrace-aotrt");
    if quality == Quality::Full {
        // Sequences of instructions that repeat become functions. Not in the compiler, which they slow
        // down.
        shim.args(["--", "-Cllvm-args=-enable-machine-outliner"]);
    }
    command::check(&mut shim, BUILD_LIMIT)?;
    // A copy, so that the name given to the build script does not depend on the profile, and the
    // file only changes when it differs.
    install(&built.join("bpftrace-aotrt"), &results.aotrt)?;
    let mut compiler = cargo("bpftrace-cli");
    compiler.env(SHIM_VARIABLE, &results.aotrt);
    command::check(&mut compiler, BUILD_LIMIT)?;
    install(&built.join("bpftrace"), &results.bpftrace)?;
    Ok(results)
}

fn install(from: &PathBuf, to: &PathBuf) -> Result<()> {
    let new = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    replace_file(to, |path| Ok(fs::copy(from, path).map(drop)?))
}
