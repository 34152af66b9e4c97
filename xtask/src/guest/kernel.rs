//! The kernels that the guests run: which there are, and how each is fetched.
//!
//! They are Debian's cloud kernels, fetched with apt from the mirror that this machine is set up
//! with, through a state directory and a source list of our own, one for each suite. Nothing of
//! the machine's own package set-up changes.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use regex::Regex;

use crate::command;
use crate::workspace::replace_file;

/// Where the key that signs Debian's archive is, on a Debian machine.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Package lists and packages are some tens of megabytes.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(600);

/// A kernel series that the tests run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kernel {
    /// Debian bullseye's; the oldest we support.
    V5_10,
    /// Debian bookworm's.
    V6_1,
    /// Debian trixie's.
    V6_12,
    /// The newest in Debian's backports for trixie.
    V7,
}

impl Kernel {
    /// All of them, oldest first.
    pub(crate) const ALL: [Kernel; 4] = [Kernel::V5_10, Kernel::V6_1, Kernel::V6_12, Kernel::V7];

    /// The one that is used where none is named.
    pub(crate) const DEFAULT: Kernel = Kernel::V6_12;

    /// The name on the command line and in results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kernel::V5_10 => "5.10",
            Kernel::V6_1 => "6.1",
            Kernel::V6_12 => "6.12",
            Kernel::V7 => "7.x",
        }
    }

    /// The Debian suites that hold it, the preferred one first.
    fn suites(self) -> &'static [&'static str] {
        match self {
            Kernel::V5_10 => &["bullseye"],
            Kernel::V6_1 => &["bookworm"],
            Kernel::V6_12 => &["trixie"],
            Kernel::V7 => &["trixie-backports", "sid"],
        }
    }

    /// What the version in the package name starts with.
    fn version_prefix(self) -> &'static str {
        match self {
            Kernel::V5_10 => "5.10.",
            Kernel::V6_1 => "6.1.",
            Kernel::V6_12 => "6.12.",
            Kernel::V7 => "7.",
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kernel {
    type Err = String;

    fn from_str(text: &str) -> Result<Kernel, String> {
        Kernel::ALL
            .into_iter()
            .find(|kernel| kernel.name() == text)
            .ok_or_else(|| format!("not one of {}", Kernel::ALL.map(Kernel::name).join(", ")))
    }
}

/// Where kernels and what is made for the guests stay between runs.
pub(crate) fn cache() -> Result<PathBuf> {
    let base = match (std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME")) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, Some(home)) => Path::new(&home).join(".cache"),
        (None, None) => bail!("neither XDG_CACHE_HOME nor HOME is set"),
    };
    let path = base.join("bpftrace-guests");
    fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(path)
}

/// Name of the module that guests load, without dependencies, on each kernel.
const MODULE: &str = "tun.ko";

/// What a guest needs of a kernel.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    /// The kernel itself.
    pub(crate) image: PathBuf,
    /// A module for it.
    pub(crate) module: PathBuf,
}

/// The kernel of a series, fetched if it is not in the cache.
pub(crate) fn files(kernel: Kernel) -> Result<Files> {
    let folder = cache()?.join(kernel.name());
    fs::create_dir_all(&folder)?;
    // Two runs at once must not both fetch.
    let lock = File::create(folder.join("lock"))?;
    lock.lock()?;
    let files = Files {
        image: folder.join("vmlinuz"),
        module: folder.join(MODULE),
    };
    if !files.image.exists() || !files.module.exists() {
        fetch(kernel, &folder, &files)
            .with_context(|| format!("cannot fetch a {kernel} kernel"))?;
    }
    Ok(files)
}

/// Where the types of a kernel are kept, once somebody has read them.
pub(crate) fn types(files: &Files) -> PathBuf {
    files.image.with_file_name("btf")
}

fn fetch(kernel: Kernel, folder: &Path, files: &Files) -> Result<()> {
    let mirror = mirror()?;
    for suite in kernel.suites() {
        let apt = Apt::new(folder.join(suite), &mirror, suite)?;
        let Some(package) = apt.newest(kernel)? else {
            continue;
        };
        eprintln!("xtask: fetching {package} from Debian {suite}");
        let unpacked = apt.unpack(&package)?;
        let vmlinuz = find(&unpacked, "vmlinuz")?
            .with_context(|| format!("{package} has no kernel image in it"))?;
        let module = match find(&unpacked, MODULE)? {
            Some(module) => module,
            None => {
                let modules = modules_package(&package);
                find(&apt.unpack(&modules)?, MODULE)?
                    .with_context(|| format!("neither {package} nor {modules} has {MODULE}"))?
            }
        };
        // They may be of another kernel than the one that was here.
        let types = types(files);
        if types.exists() {
            fs::remove_file(types)?;
        }
        replace_file(&files.module, |new| expand(&module, new))?;
        replace_file(&files.image, |new| Ok(fs::copy(vmlinuz, new).map(drop)?))?;
        fs::write(folder.join("package"), format!("{package}\n"))?;
        return Ok(fs::remove_dir_all(&apt.folder)?);
    }
    bail!("no such package in Debian {}", kernel.suites().join(", "))
}

/// Debian's archive, as this machine's own apt configuration names it.
fn mirror() -> Result<String> {
    let mut apt = Command::new("apt-get");
    apt.args([
        "indextargets",
        "--format",
        "$(REPO_URI)",
        "Created-By: Packages",
    ]);
    let uris = command::stdout(&mut apt)?;
    uris.lines()
        .find(|uri| uri.trim_end_matches('/').ends_with("/debian"))
        .map(str::to_owned)
        .context("this machine's apt configuration names no Debian archive")
}

/// apt with a state of its own.
struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// Makes the folders and reads the suite's package lists.
    fn new(folder: PathBuf, mirror: &str, suite: &str) -> Result<Apt> {
        for part in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(part))?;
        }
        let source = format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n");
        fs::write(folder.join("sources.list"), source)?;
        let apt = Apt { folder };
        let mut update = apt.command("apt-get");
        command::check(
            update.args(["-qq", "update"]).stdout(std::io::stderr()),
            DOWNLOAD_LIMIT,
        )?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let folder = self.folder.display();
        let mut command = Command::new(program);
        for option in [
            format!("Dir::Etc::sourcelist={folder}/sources.list"),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            format!("Dir::State={folder}/state"),
            "Dir::State::status=/dev/null".to_owned(),
            format!("Dir::Cache={folder}/cache"),
            "APT::Sandbox::User=root".to_owned(),
            // A mirror that stands still serves lists past their date.
            "Acquire::Check-Valid-Until=false".to_owned(),
            "Acquire::Languages=none".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command
    }

    /// The package that holds the newest kernel image of the series.
    fn newest(&self, kernel: Kernel) -> Result<Option<String>> {
        let names = command::stdout(self.command("apt-cache").args(["pkgnames", "linux-"]))?;
        Ok(newest_image(names.lines(), kernel.version_prefix()).map(str::to_owned))
    }

    /// Downloads a package and unpacks it.
    fn unpack(&self, package: &str) -> Result<PathBuf> {
        let download = self.folder.join("download");
        fs::create_dir_all(&download)?;
        let mut apt = self.command("apt-get");
        apt.current_dir(&download)
            .args(["-qq", "download", package])
            .stdout(std::io::stderr());
        command::check(&mut apt, DOWNLOAD_LIMIT)?;
        let unpacked = self.folder.join("unpacked");
        for file in fs::read_dir(&download)? {
            let mut dpkg = Command::new("dpkg-deb");
            dpkg.arg("-x").arg(file?.path()).arg(&unpacked);
            command::check(&mut dpkg, DOWNLOAD_LIMIT)?;
        }
        Ok(unpacked)
    }
}

/// Chooses among package names. The image is in `linux-image-*` up to 7.1 and in `linux-binary-*`
/// from 7.2 on, where `linux-image-*` only refers to it; unsigned packages exist for both.
fn newest_image<'a>(names: impl Iterator<Item = &'a str>, prefix: &str) -> Option<&'a str> {
    let pattern = Regex::new(
        r"^linux-(?<kind>image|binary)(?<u1>-unsigned)?-(?<version>\d[^-]*(-\d+)?)-cloud-amd64(?<u2>-unsigned)?$",
    )
    .expect("the pattern is constant");
    names
        .filter_map(|name| {
            let found = pattern.captures(name)?;
            let version = found["version"]
                .starts_with(prefix)
                .then(|| natural(&found["version"]))?;
            let unsigned = found.name("u1").is_some() || found.name("u2").is_some();
            Some(((version, &found["kind"] == "binary", unsigned), name))
        })
        .max()
        .map(|(_, name)| name)
}

/// The numbers in a version, for comparing.
fn natural(version: &str) -> Vec<u64> {
    version
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|part| part.parse().ok())
        .collect()
}

/// The package with the modules, for kernels that have them in another one than the image.
fn modules_package(image: &str) -> String {
    image
        .replacen("linux-binary-", "linux-modules-", 1)
        .replacen("-unsigned", "", 1)
}

/// A file by the start of its name. The image is under `boot` or, in newer packages, under `usr/lib/modules`.
fn find(folder: &Path, name: &str) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            if let Some(found) = find(&path, name)? {
                return Ok(Some(found));
            }
        } else if entry.file_name().to_string_lossy().starts_with(name) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Copies a module, without its compression.
fn expand(from: &Path, to: &Path) -> Result<()> {
    let program = match from.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return Ok(fs::copy(from, to).map(drop)?),
    };
    let mut expand = Command::new(program);
    expand.arg("-dc").arg(from).stdout(File::create(to)?);
    command::check(&mut expand, DOWNLOAD_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_package_that_holds_an_image_is_chosen() {
        let bullseye = [
            "linux-image-cloud-amd64",
            "linux-image-5.10.0-9-cloud-amd64-unsigned",
            "linux-image-5.10.0-32-cloud-amd64",
            "linux-image-5.10.0-32-cloud-amd64-unsigned",
            "linux-image-5.10.0-32-cloud-amd64-dbg",
        ];
        assert_eq!(
            newest_image(bullseye.into_iter(), "5.10."),
            Some(bullseye[3])
        );
        let backports = [
            "linux-image-7.1.13+deb13-cloud-amd64",
            "linux-image-7.3.4+deb13-cloud-amd64",
            "linux-binary-7.3.4+deb13-cloud-amd64",
            "linux-binary-unsigned-7.3.4+deb13-cloud-amd64",
            "linux-binary-7.2.12+deb13-cloud-amd64",
        ];
        assert_eq!(
            newest_image(backports.into_iter(), "7."),
            Some(backports[3])
        );
        assert_eq!(newest_image(backports.into_iter(), "6.12."), None);
        assert_eq!(
            modules_package("linux-binary-unsigned-7.3.4+deb13-cloud-amd64"),
            "linux-modules-7.3.4+deb13-cloud-amd64"
        );
    }
}
