//! The traced process: the command of `-c`, or the process of `-p`.

use std::path::PathBuf;

use crate::error::{LoadError, describe_errno};
use crate::ffi::{Child, PidFd};
use crate::host::Host;
use crate::options::RunOptions;

/// Whether there is a process to trace.
///
/// # Errors
/// Why it cannot be traced, as [`start`](crate::start) says it.
pub fn find_process(pid: i32) -> Result<(), LoadError> {
    open_process(pid).map(|_| ())
}

fn open_process(pid: i32) -> Result<PidFd, LoadError> {
    PidFd::open(pid).map_err(|e| {
        LoadError::usage(format!(
            "Failed to attach to pid: Unable to open pidfd ({})",
            describe_errno(&e)
        ))
    })
}

/// The process whose end is the session's.
pub(crate) enum Traced {
    /// Nobody in particular.
    All,
    /// `-p`.
    Process(PidFd),
    /// `-c`; killed when dropped.
    Command { child: Child, end: PidFd },
}

impl Traced {
    /// Looks for the process, or makes the one that will become the command.
    pub(crate) fn find(options: &RunOptions, host: &dyn Host) -> Result<Self, LoadError> {
        if let Some(command) = &options.command {
            return spawn(command, host);
        }
        let Some(pid) = options.pid else {
            return Ok(Self::All);
        };
        open_process(pid).map(Self::Process)
    }

    /// Pid of the command.
    pub(crate) fn child(&self) -> Option<i32> {
        match self {
            Self::Command { child, .. } => Some(child.pid()),
            _ => None,
        }
    }

    /// Pid of the command when it stands where its own code starts.
    pub(crate) fn at_entry(&self) -> Option<i32> {
        match self {
            Self::Command { child, .. } if child.is_held() => Some(child.pid()),
            _ => None,
        }
    }

    /// Readable when the process has ended.
    pub(crate) fn end(&self) -> Option<&PidFd> {
        match self {
            Self::All => None,
            Self::Process(end) | Self::Command { end, .. } => Some(end),
        }
    }

    /// Lets the command run until its libraries are loaded and its own code starts.
    pub(crate) fn run_to_entry(&mut self) -> Result<(), LoadError> {
        match self {
            Self::Command { child, .. } => child
                .run_to_entry()
                .map_err(|e| LoadError::io("Failed to run child to entry", &e)),
            _ => Ok(()),
        }
    }

    /// Lets the command run.
    pub(crate) fn release(&mut self) -> Result<(), LoadError> {
        match self {
            Self::Command { child, .. } => child
                .release()
                .map_err(|e| LoadError::io("Failed to run child", &e)),
            _ => Ok(()),
        }
    }
}

fn spawn(command: &str, host: &dyn Host) -> Result<Traced, LoadError> {
    let args: Vec<&str> = command.split(' ').filter(|word| !word.is_empty()).collect();
    let Some(name) = args.first() else {
        return Err(LoadError::usage("Failed to fork child: empty command"));
    };
    let program = find_program(name, host).ok_or_else(|| {
        LoadError::usage(format!(
            "Failed to fork child: Path '{name}' does not exist or is not executable (No such file \
             or directory)"
        ))
    })?;
    let failed = |e| LoadError::io("Failed to fork child", &e);
    let child = Child::fork(&program, &args).map_err(failed)?;
    let end = PidFd::open(child.pid()).map_err(failed)?;
    Ok(Traced::Command { child, end })
}

/// The program that a command runs.
pub(crate) fn find_program_of(command: &str, host: &dyn Host) -> Option<PathBuf> {
    let name = command.split(' ').find(|word| !word.is_empty())?;
    find_program(name, host)
}

/// The file that a command's first word names, through `$PATH` unless it has a slash.
fn find_program(name: &str, host: &dyn Host) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let usable = |path: &PathBuf| {
        std::fs::metadata(path)
            .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(usable);
    }
    let path = host.env("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(usable)
}
