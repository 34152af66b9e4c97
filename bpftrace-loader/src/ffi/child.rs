use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::{c_string, check};

/// A process that waits to become a command. Dropping it kills it.
pub(crate) struct Child {
    pid: i32,
    /// Writing a byte lets the child go on.
    go: Option<File>,
    /// Gives the errno of a failed `exec`, or nothing.
    failed: Option<File>,
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
    /// Makes a process that waits for [`Self::release`], then runs the program.
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
        Ok(Self {
            pid,
            go: Some(File::from(go_write)),
            failed: Some(File::from(failed_read)),
            gone: false,
        })
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
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
        Ok(())
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
