//! Builds `bpftrace` and runs it, here or in a guest.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use rustix::process::geteuid;

use crate::guest::kernel::Kernel;
use crate::guest::machine;
use crate::guest::rootfs::GuestFile;
use crate::runtime::programs;
use crate::setup;
use crate::static_build::{self, Executables, Quality};
use crate::workspace::Workspace;

/// Runs `bpftrace` with these words and returns its exit status. It runs on this machine's own
/// kernel if that is possible and no guest is asked for.
pub(crate) fn run(workspace: &Workspace, guest: Option<Kernel>, words: &[String]) -> Result<i32> {
    setup::set_up()?;
    let executables = static_build::build(workspace, Quality::Fast)?;
    let kernel = match guest {
        Some(kernel) => kernel,
        None => match why_not_here() {
            None => {
                let error = Command::new(&executables.bpftrace).args(words).exec();
                return Err(error).context("cannot start bpftrace");
            }
            Some(why) => {
                eprintln!(
                    "xtask: running in a guest with kernel {}: {why}",
                    Kernel::DEFAULT
                );
                Kernel::DEFAULT
            }
        },
    };
    let mut files = vec![GuestFile::command(&executables.bpftrace)];
    for word in words {
        files.extend(input_file(word));
    }
    let line: Vec<String> = std::iter::once("bpftrace")
        .chain(words.iter().map(String::as_str))
        .map(quote)
        .collect();
    machine::run_line(kernel, &line.join(" "), &files, true)
}

/// A shell line in a guest that has the test programs in it, and the executables if they are built.
pub(crate) fn guest_line(workspace: &Workspace, kernel: Kernel, line: &str) -> Result<i32> {
    let candidates = [Quality::Full, Quality::Fast]
        .map(|quality| static_build::executables(workspace, quality))
        .into_iter()
        .filter(|executables| executables.bpftrace.exists());
    let newest = candidates.max_by_key(|Executables { bpftrace, .. }| {
        fs::metadata(bpftrace)
            .and_then(|metadata| metadata.modified())
            .ok()
    });
    let mut files = programs::build(workspace)?;
    if let Some(Executables { bpftrace, aotrt }) = newest {
        files.extend([GuestFile::command(&bpftrace), GuestFile::command(&aotrt)]);
    }
    machine::run_line(kernel, line, &files, true)
}

/// Why programs cannot be loaded into this machine's own kernel by this process.
fn why_not_here() -> Option<String> {
    if !geteuid().is_root() {
        return Some("not root".to_owned());
    }
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Some("this kernel has no type information".to_owned());
    }
    // Root in a container may lack these: CAP_SYS_ADMIN is 21, CAP_PERFMON 38, CAP_BPF 39.
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let capabilities = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    let has = |bit: u32| capabilities & (1 << bit) != 0;
    let may_use_bpf = has(21) || (has(38) && has(39));
    if !may_use_bpf {
        return Some("CAP_BPF and CAP_PERFMON are missing".to_owned());
    }
    None
}

/// A word that names a script here goes along into the guest, under the same name.
fn input_file(word: &str) -> Option<GuestFile> {
    let path = Path::new(word);
    let of_the_guest = [
        "/bin", "/sbin", "/usr", "/lib", "/lib64", "/proc", "/sys", "/dev", "/etc",
    ];
    if !path.is_file() || of_the_guest.iter().any(|folder| path.starts_with(folder)) {
        return None;
    }
    let to = if path.is_absolute() {
        word.to_owned()
    } else {
        format!("/root/{word}")
    };
    Some(GuestFile {
        from: path.to_owned(),
        to,
    })
}

/// One word for a shell.
pub(crate) fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
