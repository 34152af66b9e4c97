//! The executables and libraries that the path of a `uprobe` or `usdt` attach point stands for.

use std::path::PathBuf;
use std::rc::Rc;

use super::Invocation;
use super::expand::is_pattern;
use crate::error::LoadError;
use crate::host::{self, ElfFile, Host};

/// The files of an attach point.
pub(super) struct UserFiles {
    pub(super) paths: Vec<PathBuf>,
    /// Whether the attach point leaves open which files: those that are not for us are passed over.
    pub(super) open: bool,
}

/// Finds the files that a path stands for. Without a path a `uprobe` is in the traced program itself, and
/// `usdt` in any of its files.
pub(super) fn find(
    provider: &str,
    path: Option<&str>,
    invocation: &Invocation<'_>,
    warnings: &mut Vec<String>,
    host: &dyn Host,
) -> Result<UserFiles, LoadError> {
    let pid = invocation.options.pid;
    let Some(path) = path.filter(|path| !path.is_empty()) else {
        let mut paths = of_process(provider, invocation, host)?;
        let open = provider == "usdt";
        if !open {
            paths.truncate(1);
        }
        return Ok(UserFiles { paths, open });
    };
    if is_pattern(path) {
        let mut paths = host::files_matching(provider, path, pid, host)
            .map_err(|e| LoadError::io(format!("Failed to look for '{path}'"), &e))?;
        // A file with several names is attached to once.
        host::each_once(&mut paths, host);
        if paths.is_empty() && path != "*" {
            return Err(unusable(kind(provider), path));
        }
        return Ok(UserFiles { paths, open: true });
    }
    let mut paths = host
        .executables(path, pid)
        .map_err(|e| LoadError::io(format!("Failed to look for '{path}'"), &e))?;
    let kind = kind(provider);
    if paths.is_empty() {
        return Err(unusable(kind, path));
    }
    if paths.len() > 1 {
        warnings.push(format!(
            "attaching to {kind} target file '{}' but matched {} binaries",
            paths[0].display(),
            paths.len()
        ));
        paths.truncate(1);
    }
    Ok(UserFiles { paths, open: false })
}

fn of_process(
    provider: &str,
    invocation: &Invocation<'_>,
    host: &dyn Host,
) -> Result<Vec<PathBuf>, LoadError> {
    if let Some(pid) = invocation.options.pid {
        return host
            .mapped_files(pid)
            .map_err(|e| LoadError::io(format!("Failed to read the files of process {pid}"), &e));
    }
    if let Some(command) = &invocation.options.command {
        // It has not started, so that the libraries it is going to load are found by their names.
        let program = crate::cmd::find_program_of(command, host);
        return Ok(program.map_or_else(Vec::new, |program| host.needed_files(&program)));
    }
    if provider == "usdt" {
        return Err(LoadError::usage(
            "usdt probe must specify at least path or pid to probe. To target all paths/pids set \
             the path to '*'.",
        ));
    }
    Err(no_path(provider))
}

impl UserFiles {
    /// Reads a file; `None` when it is not for us, and that is no mistake. One that is no executable is
    /// taken for plain code if that is allowed.
    pub(super) fn read(
        &self,
        provider: &str,
        index: usize,
        plain: bool,
        host: &dyn Host,
    ) -> Result<Option<Rc<ElfFile>>, LoadError> {
        let path = &self.paths[index];
        match host.elf_file(path) {
            Ok(Some(elf)) => Ok(Some(elf)),
            // Among many files some are not for us.
            Ok(None) | Err(_) if self.open => Ok(None),
            Ok(None) if plain => Ok(Some(Rc::new(ElfFile::plain()))),
            Ok(None) => Err(unusable(kind(provider), &path.display().to_string())
                .hint("it is no ELF executable or shared object that can be read")),
            Err(e) => Err(LoadError::io(
                format!("Failed to read '{}'", path.display()),
                &e,
            )),
        }
    }
}

/// What is said of an attach point that is only a name, where no process is given.
pub(super) fn no_path(provider: &str) -> LoadError {
    LoadError::usage(format!(
        "{provider} probe type requires 2 or 3 arguments, found 1"
    ))
}

/// What files are for; `uretprobe` is called by the same name as `uprobe`.
fn kind(provider: &str) -> &'static str {
    match provider {
        "usdt" => "usdt",
        _ => "uprobe",
    }
}

fn unusable(kind: &str, path: &str) -> LoadError {
    LoadError::usage(format!(
        "{kind} target file '{path}' does not exist or is not executable"
    ))
}
