use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::{c_string, check};

/// A process that waits to become a command. Dropping it kills it.
pub(crate) struct Child {
    pid: i32,
    /// Writing a byte lets the child go on.
    go: Option<File>,
    /// Gives the errno of a failed `exec`, or nothing.
    failed: Option<File>,
    /// Whether it stands where its own code starts, traced by us.
    held: bool,
    gone: bool,
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: the kernel writes two descriptors, which are ours.
    unsafe {
        check(i64::from(libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC)))?;
        Ok((OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])))
    }
}

impl Child {
    /// Makes a process that waits for [`Self::release`], then runs the program. What it does before it waits
    /// is done when this returns, so that no probe sees it.
    pub(crate) fn fork(program: &Path, args: &[&str]) -> io::Result<Self> {
        let path = CString::new(program.as_os_str().as_bytes())
            .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        let args = args
            .iter()
            .map(|arg| c_string(arg))
            .collect::<io::Result<Vec<_>>>()?;
        let mut argv: Vec<_> = args.iter().map(|arg| arg.as_ptr()).collect();
        argv.push(std::ptr::null());
        let (go_read, go_write) = pipe()?;
        let (failed_read, failed_write) = pipe()?;
        let parent = std::process::id();
        // SAFETY: between fork and exec the child makes system calls only, on memory that was
        // prepared before; it never returns from this block.
        let pid = unsafe {
            let pid = libc::fork();
            if pid == 0 {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
                // The parent may have died before the request.
                if libc::getppid() != parent as i32 {
                    libc::_exit(1);
                }
                libc::signal(libc::SIGPIPE, libc::SIG_DFL);
                libc::close(go_write.as_raw_fd());
                let mut byte = 0u8;
                libc::write(failed_write.as_raw_fd(), (&raw const byte).cast(), 1);
                let n = libc::read(go_read.as_raw_fd(), (&raw mut byte).cast(), 1);
                if n != 1 {
                    libc::_exit(1);
                }
                libc::execv(path.as_ptr(), argv.as_ptr());
                let errno = *libc::__errno_location();
                libc::write(failed_write.as_raw_fd(), (&raw const errno).cast(), 4);
                libc::_exit(127);
            }
            pid
        };
        check(i64::from(pid))?;
        drop(failed_write);
        let mut failed = File::from(failed_read);
        // Without the byte it has ended, which is found out later.
        let _ = failed.read_exact(&mut [0]);
        Ok(Self {
            pid,
            go: Some(File::from(go_write)),
            failed: Some(failed),
            held: false,
            gone: false,
        })
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether the child stands where its own code starts.
    pub(crate) fn is_held(&self) -> bool {
        self.held
    }

    /// Lets the child run its program.
    pub(crate) fn release(&mut self) -> io::Result<()> {
        if let Some(mut go) = self.go.take() {
            go.write_all(&[1])?;
        }
        if let Some(mut failed) = self.failed.take() {
            let mut errno = [0u8; 4];
            if failed.read(&mut errno)? == 4 {
                return Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno)));
            }
        }
        if self.held {
            self.held = false;
            // SAFETY: the process is our child, and stopped by us.
            check(unsafe { libc::ptrace(libc::PTRACE_DETACH, self.pid, 0, 0) })?;
        }
        Ok(())
    }

    /// Lets the child run its program until the libraries are loaded and its own code starts; from there,
    /// [`Self::release`] lets it go on.
    pub(crate) fn run_to_entry(&mut self) -> io::Result<()> {
        const BREAKPOINT: [u8; 1] = [0xcc];
        let options = libc::PTRACE_O_TRACEEXEC | libc::PTRACE_O_EXITKILL;
        // SAFETY: the process is our child.
        check(unsafe { libc::ptrace(libc::PTRACE_SEIZE, self.pid, 0, options) })?;
        self.release()?;
        self.wait_for_trap(libc::PTRACE_EVENT_EXEC)?;
        let auxv = std::fs::read(format!("/proc/{}/auxv", self.pid))?;
        let entry = auxv
            .chunks_exact(16)
            .map(|pair| {
                let word =
                    |at: usize| u64::from_ne_bytes(pair[at..at + 8].try_into().expect("8 bytes"));
                (word(0), word(8))
            })
            .find(|(kind, _)| *kind == libc::AT_ENTRY)
            .map(|(_, entry)| entry)
            .ok_or(io::ErrorKind::NotFound)?;
        let memory = File::options()
            .read(true)
            .write(true)
            .open(format!("/proc/{}/mem", self.pid))?;
        let mut code = [0u8; 1];
        memory.read_exact_at(&mut code, entry)?;
        memory.write_all_at(&BREAKPOINT, entry)?;
        self.go_on(0)?;
        self.wait_for_trap(0)?;
        memory.write_all_at(&code, entry)?;
        // SAFETY: zeros are a valid value; the kernel fills it in for our child, which is stopped, and
        // reads it back.
        unsafe {
            let mut regs: libc::user_regs_struct = std::mem::zeroed();
            check(libc::ptrace(
                libc::PTRACE_GETREGS,
                self.pid,
                0,
                &raw mut regs,
            ))?;
            regs.rip = entry;
            check(libc::ptrace(
                libc::PTRACE_SETREGS,
                self.pid,
                0,
                &raw const regs,
            ))?;
        }
        self.held = true;
        Ok(())
    }

    fn go_on(&self, signal: i32) -> io::Result<()> {
        // SAFETY: the process is our child, and stopped by us.
        check(unsafe { libc::ptrace(libc::PTRACE_CONT, self.pid, 0, signal) })?;
        Ok(())
    }

    /// Waits until the traced child stops by a trap, which an event of tracing may be.
    fn wait_for_trap(&mut self, event: i32) -> io::Result<()> {
        loop {
            let mut status = 0;
            // SAFETY: the kernel writes the status of our child.
            let pid = unsafe { libc::waitpid(self.pid, &mut status, libc::__WALL) };
            match check(i64::from(pid)) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            };
            if !libc::WIFSTOPPED(status) {
                self.gone = true;
                return Err(io::Error::other("the process ended"));
            }
            if status >> 8 == (libc::SIGTRAP | (event << 8)) {
                return Ok(());
            }
            let is_event = status >> 16 != 0;
            self.go_on(if is_event { 0 } else { libc::WSTOPSIG(status) })?;
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.gone {
            self.gone = true;
            // SAFETY: the pid is our child's: nobody has waited for it before.
            unsafe {
                libc::kill(self.pid, libc::SIGKILL);
                libc::waitpid(self.pid, std::ptr::null_mut(), 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Programs like this one ignore SIGPIPE, and their children should not: the last thing that a child sees to
    // before it waits.
    #[test]
    fn a_child_has_nothing_to_do_but_wait() {
        for _ in 0..20 {
            let child = Child::fork(Path::new("/bin/true"), &["true"]).expect("forked");
            let status = std::fs::read_to_string(format!("/proc/{}/status", child.pid()));
            let status = status.expect("read");
            let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
            let ignored = u64::from_str_radix(ignored.expect("there").trim(), 16);
            assert_eq!(ignored.expect("a number") & 1 << (libc::SIGPIPE - 1), 0);
        }
    }
}
