//! What is in a guest: a root file system in memory, unpacked by the kernel from one archive.
//!
//! There is busybox for a user land, the agent (this executable), the C library of this machine
//! for dynamic executables, and what the caller adds: the bpftrace under test, test programs, the
//! job.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::cpio::Archive;
use super::protocol::{JOB, Task};
use crate::command;

/// The user and group id of the guest's one ordinary user, `tester`.
pub(crate) const ORDINARY_USER: u32 = 1000;

const INIT: &str = include_str!("init.sh");

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\ntester:x:1000:1000:tester:/tmp:/bin/sh\n";
const GROUP: &str = "root:x:0:\ntester:x:1000:\n";

/// Files of the machine that dynamic executables need, and the tool that indexes them. They are
/// at the same paths in the guest.
const LIBRARIES: [&str; 3] = [
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/x86_64-linux-gnu/libc.so.6",
    "/sbin/ldconfig",
];

/// Empty folders, with their permissions.
const FOLDERS: [(&str, u32); 9] = [
    ("dev", 0o755),
    ("proc", 0o555),
    ("sys", 0o555),
    ("run", 0o755),
    ("root", 0o700),
    ("tmp", 0o1777),
    ("etc", 0o755),
    ("var/cache/ldconfig", 0o755),
    ("usr", 0o755),
];

/// A file for the guest.
#[derive(Debug, Clone)]
pub(crate) struct GuestFile {
    /// Where it is here.
    pub(crate) from: PathBuf,
    /// Where it is in the guest, with a leading slash.
    pub(crate) to: String,
}

impl GuestFile {
    /// An executable that is found by name in the guest.
    pub(crate) fn command(from: &Path) -> GuestFile {
        let name = from.file_name().unwrap_or_default().to_string_lossy();
        GuestFile {
            from: from.to_owned(),
            to: format!("/bin/{name}"),
        }
    }
}

impl GuestFile {
    /// Everything under a folder, at the same places under the guest's root.
    pub(crate) fn tree(folder: &Path) -> Result<Vec<GuestFile>> {
        let mut files = Vec::new();
        let mut folders = vec![PathBuf::new()];
        while let Some(inner) = folders.pop() {
            let path = folder.join(&inner);
            let entries = fs::read_dir(&path).with_context(|| path.display().to_string())?;
            for entry in entries {
                let entry = entry?;
                let inner = inner.join(entry.file_name());
                if entry.file_type()?.is_dir() {
                    folders.push(inner);
                } else {
                    files.push(GuestFile {
                        from: entry.path(),
                        to: format!("/{}", inner.display()),
                    });
                }
            }
        }
        Ok(files)
    }
}

/// Writes the archive. The agent is a stripped copy of this executable, made beside it.
pub(crate) fn write(path: &Path, job: &[Task], files: &[GuestFile]) -> Result<()> {
    let agent = path.with_extension("agent");
    // Through the process: the tests may have built this executable anew, and then its path names
    // nothing any more.
    let this = format!("/proc/{}/exe", std::process::id());
    command::stdout(Command::new("strip").arg("-o").arg(&agent).arg(&this))?;

    let out = BufWriter::new(File::create(path)?);
    let mut archive = Archive::new(out);
    for (folder, mode) in FOLDERS {
        archive.folder(folder, mode)?;
    }
    // The kernel opens it for process 1 before anything is mounted.
    archive.device("dev/console", 5, 1)?;
    archive.file("init", 0o755, INIT.as_bytes())?;
    archive.file("agent", 0o755, &read(&agent)?)?;
    archive.file("etc/passwd", 0o644, PASSWD.as_bytes())?;
    archive.file("etc/group", 0o644, GROUP.as_bytes())?;
    archive.file("etc/ld.so.conf", 0o644, b"/lib/x86_64-linux-gnu\n")?;
    archive.symlink("usr/bin", "../bin")?;
    archive.symlink("usr/sbin", "../sbin")?;

    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .map(Path::new)
        .find(|path| path.exists())
        .context("busybox is not installed; cargo xtask set-up installs it")?;
    archive.file("bin/busybox", 0o755, &read(busybox)?)?;
    let replaced: Vec<&str> = files
        .iter()
        .filter_map(|file| file.to.strip_prefix("/bin/"))
        .collect();
    for applet in command::stdout(Command::new(busybox).arg("--list"))?.lines() {
        if applet != "busybox" && !replaced.contains(&applet) {
            archive.symlink(&format!("bin/{applet}"), "busybox")?;
        }
    }
    for library in LIBRARIES {
        archive.file(
            library.trim_start_matches('/'),
            0o755,
            &read(Path::new(library))?,
        )?;
    }
    for file in files {
        archive.file(file.to.trim_start_matches('/'), 0o755, &read(&file.from)?)?;
    }
    archive.file(JOB, 0o644, &serde_json::to_vec(job)?)?;
    archive.finish()?;
    Ok(fs::remove_file(agent)?)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
