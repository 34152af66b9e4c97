//! Compiles the C programs under `tests/runtime/programs`, which cases trace.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command;
use crate::guest::rootfs::GuestFile;
use crate::workspace::Workspace;

const LIMIT: Duration = Duration::from_secs(60);

/// Every program, as `/programs/NAME`, and linked statically as `/programs/NAME-static`.
pub(crate) fn build(workspace: &Workspace) -> Result<Vec<GuestFile>> {
    let out = workspace.target.join("guest-programs");
    fs::create_dir_all(&out)?;
    let folder = workspace.root.join("tests/runtime/programs");
    let mut files = Vec::new();
    let entries =
        fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let source = entry?.path();
        if source.extension().is_none_or(|extension| extension != "c") {
            continue;
        }
        let name = source
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        for (suffix, link) in [("", "-pie"), ("-static", "-static")] {
            let program = format!("{name}{suffix}");
            let path = out.join(&program);
            let mut gcc = Command::new("gcc");
            gcc.args([
                "-g",
                "-O1",
                "-fno-omit-frame-pointer",
                "-Wall",
                "-Werror",
                link,
                "-o",
            ]);
            gcc.arg(&path).arg(&source);
            command::check(gcc.stdout(std::io::stderr()), LIMIT)?;
            files.push(GuestFile {
                from: path,
                to: format!("/programs/{program}"),
            });
        }
    }
    Ok(files)
}
