//! Executables that are compiled here with the types of one kernel, to be run on all of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, bail};

use super::plan::Plan;
use crate::command;
use crate::guest::kernel::{self, Kernel};
use crate::guest::machine::Guest;
use crate::guest::protocol::{Report, Task};
use crate::guest::rootfs::GuestFile;
use crate::workspace::{Workspace, replace_file};

/// The kernel's own file with its types.
const TYPES: &str = "/sys/kernel/btf/vmlinux";

const COMPILE_LIMIT: Duration = Duration::from_secs(60);

/// Compiles what the plan's cases with `build_on` need, and makes their steps run the results. A
/// program that does not compile here fails in the guest, by a script that shows the messages.
pub(crate) fn build(
    workspace: &Workspace,
    bpftrace: &Path,
    plan: &mut Plan<'_>,
) -> Result<Vec<GuestFile>> {
    let folder = workspace.target.join("guest-portable");
    fs::create_dir_all(&folder)?;
    let mut files: Vec<GuestFile> = Vec::new();
    for step in &mut plan.steps {
        let Some(kernel) = step.loaded.build_kernel() else {
            continue;
        };
        let Some(mut words) = step.task.build.take() else {
            continue;
        };
        let name: String = step
            .loaded
            .full_name()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        let to = format!("/portable/{name}");
        if !files.iter().any(|file| file.to == to) {
            let path = folder.join(&name);
            words[0] = bpftrace.display().to_string();
            let written = step.task.run[0].clone();
            for word in &mut words {
                if *word == written {
                    *word = path.display().to_string();
                }
            }
            compile(&words, &types(kernel)?, &path)?;
            files.push(GuestFile {
                from: path,
                to: to.clone(),
            });
        }
        step.task.run[0] = to;
    }
    Ok(files)
}

fn compile(words: &[String], types: &Path, path: &Path) -> Result<()> {
    if path.exists() {
        fs::remove_file(path)?;
    }
    let mut bpftrace = Command::new(&words[0]);
    bpftrace
        .args(&words[1..])
        .env("BPFTRACE_BTF", types)
        .stdin(Stdio::null());
    let log = path.with_extension("log");
    bpftrace
        .stdout(fs::File::create(&log)?)
        .stderr(fs::File::options().append(true).open(&log)?);
    let status = command::status(&mut bpftrace, COMPILE_LIMIT)?;
    if !status.success() || !path.exists() {
        let text = fs::read_to_string(&log)?;
        let script = format!(
            "#!/bin/sh\ncat >&2 <<'END-OF-MESSAGES'\ncompiling on the host: {status}\n{text}\nEND-OF-MESSAGES\nexit 125\n"
        );
        fs::write(path, script)?;
    }
    Ok(())
}

/// The types of a guest's kernel, as a file here.
fn types(kernel: Kernel) -> Result<PathBuf> {
    let path = kernel::types(&kernel::files(kernel)?);
    if path.exists() {
        return Ok(path);
    }
    let mut guest = Guest::boot(
        kernel,
        &[Task::File {
            path: TYPES.to_owned(),
        }],
        &[],
    )?;
    let mut bytes = Vec::new();
    loop {
        match guest.next() {
            Ok((Report::Stdout, payload)) => bytes.extend(payload),
            Ok((Report::Status(0), _)) => break,
            Ok((Report::Status(_) | Report::End, _)) => bail!("kernel {kernel} has no {TYPES}"),
            Ok(_) => {}
            Err(gone) => bail!("reading the types of kernel {kernel}: {}", gone.why),
        }
    }
    replace_file(&path, |new| Ok(fs::write(new, &bytes)?))?;
    Ok(path)
}
