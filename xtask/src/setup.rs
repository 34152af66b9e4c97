//! Debian packages that the tasks need.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};
use rustix::process::geteuid;

use crate::command;

/// What each is for: libelf and zlib are linked into every executable; the rest makes guests and
/// the test programs in them.
const PACKAGES: [&str; 8] = [
    "libelf-dev",
    "zlib1g-dev",
    "gcc",
    "libc6-dev",
    "binutils",
    "busybox-static",
    "xz-utils",
    "qemu-system-x86",
];

const INSTALL_LIMIT: Duration = Duration::from_secs(900);

/// Installs what is missing, or says how to.
pub(crate) fn set_up() -> Result<()> {
    install(&PACKAGES)
}

/// Installs those of the packages that are missing, or says how to.
pub(crate) fn install(packages: &[&'static str]) -> Result<()> {
    let mut missing = Vec::new();
    for &package in packages {
        if !is_installed(package)? {
            missing.push(package);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    if !geteuid().is_root() {
        bail!(
            "packages are missing; as root, run\n    apt-get install --no-install-recommends {}",
            missing.join(" ")
        );
    }
    eprintln!("xtask: installing {}", missing.join(" "));
    apt_get(&["-qq", "update"])?;
    let mut words = vec!["-qq", "install", "--yes", "--no-install-recommends"];
    words.extend(missing);
    apt_get(&words)
}

fn is_installed(package: &str) -> Result<bool> {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${db:Status-Status}", package]);
    let output = command::output(&mut query)?;
    Ok(output.status.success() && output.stdout == b"installed")
}

fn apt_get(words: &[&str]) -> Result<()> {
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive");
    apt.args(["-o", "Acquire::Check-Valid-Until=false"])
        .args(words)
        .stdout(std::io::stderr());
    command::check(&mut apt, INSTALL_LIMIT)
}
