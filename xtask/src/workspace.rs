//! Where the workspace is, and where what is built from it goes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::command;

/// The target that `.cargo/config.toml` names: its flags make every executable static.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The folders that the tasks read and write.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    /// The repository.
    pub(crate) root: PathBuf,
    /// Cargo's target directory, `CARGO_TARGET_DIR` honoured.
    pub(crate) target: PathBuf,
}

impl Workspace {
    /// Asks cargo. This does not build anything.
    pub(crate) fn find() -> Result<Workspace> {
        #[derive(Deserialize)]
        struct Metadata {
            workspace_root: PathBuf,
            target_directory: PathBuf,
        }
        let mut cargo = Command::new(cargo());
        cargo.args(["metadata", "--no-deps", "--format-version=1"]);
        // `cargo xtask` names the package folder; the working directory may be anywhere.
        if let Some(package) = std::env::var_os("CARGO_MANIFEST_DIR") {
            cargo.current_dir(package);
        }
        let metadata: Metadata =
            serde_json::from_str(&command::stdout(&mut cargo)?).context("cargo metadata")?;
        Ok(Workspace {
            root: metadata.workspace_root,
            target: metadata.target_directory,
        })
    }

    /// A cargo command that runs at the root of the workspace.
    pub(crate) fn cargo<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(cargo());
        command.current_dir(&self.root).args(args);
        command
    }

    /// Runs cargo with its standard output sent to standard error, so that a task's own output
    /// is all that a reader of standard output sees.
    pub(crate) fn run_cargo<'a>(
        &self,
        args: impl IntoIterator<Item = &'a str>,
        limit: Duration,
    ) -> Result<()> {
        command::check(self.cargo(args).stdout(std::io::stderr()), limit)
    }

    /// Where cargo puts the executables of a profile.
    pub(crate) fn built(&self, profile: &str) -> PathBuf {
        self.target.join(TARGET).join(profile)
    }
}

fn cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

/// Writes a file by way of a new name beside it, so that readers see the old or the new one whole.
pub(crate) fn replace_file(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.{}", std::process::id()));
    write(&new)?;
    std::fs::rename(&new, path).with_context(|| format!("cannot write {}", path.display()))
}
