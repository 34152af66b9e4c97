use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};

use super::{c_string, check, check_fd};

/// Waits for several descriptors to become readable.
pub(crate) struct Epoll(OwnedFd);

impl Epoll {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: takes a flag.
        check_fd(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) }).map(Self)
    }

    /// Reports `fd` by the number `token` while it is readable.
    pub(crate) fn add(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: token,
        };
        // SAFETY: both descriptors are open, the event is initialised.
        check(i64::from(unsafe {
            libc::epoll_ctl(
                self.0.as_raw_fd(),
                libc::EPOLL_CTL_ADD,
                fd.as_raw_fd(),
                &raw mut event,
            )
        }))?;
        Ok(())
    }

    /// Tokens of what is readable; waits so many milliseconds for the first one, without end if `None`.
    pub(crate) fn wait(&self, milliseconds: Option<u16>) -> io::Result<Vec<u64>> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 8];
        // SAFETY: the buffer holds as many events as we say.
        let n = unsafe {
            libc::epoll_wait(
                self.0.as_raw_fd(),
                events.as_mut_ptr(),
                events.len() as i32,
                milliseconds.map_or(-1, i32::from),
            )
        };
        match check(i64::from(n)) {
            Ok(n) => Ok(events[..n as usize].iter().map(|e| e.u64).collect()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(Vec::new()),
            Err(e) => Err(e),
        }
    }
}

/// The end of the pipe that the signal handler writes to; -1 without one.
static SIGNAL_PIPE: AtomicI32 = AtomicI32::new(-1);

extern "C" fn on_signal(signal: libc::c_int) {
    let fd = SIGNAL_PIPE.load(Ordering::Relaxed);
    if fd >= 0 {
        let byte = signal as u8;
        // SAFETY: write and errno are async-signal-safe; a full pipe loses a signal that is
        // already there many times.
        unsafe {
            let errno = *libc::__errno_location();
            libc::write(fd, (&raw const byte).cast(), 1);
            *libc::__errno_location() = errno;
        }
    }
}

/// Signals as bytes in a pipe.
///
/// Not a signalfd: that needs the signals blocked, and commands that the script starts would
/// inherit the mask. Handlers do not survive `exec`.
pub(crate) struct SignalPipe {
    read: OwnedFd,
    _write: OwnedFd,
    signals: Vec<i32>,
}

impl SignalPipe {
    /// Catches the signals until dropped. There may be one such pipe at a time.
    pub(crate) fn new(signals: &[i32]) -> io::Result<Self> {
        let mut fds = [0; 2];
        // SAFETY: the kernel writes two descriptors, which are ours.
        let (read, write) = unsafe {
            check(i64::from(libc::pipe2(
                fds.as_mut_ptr(),
                libc::O_CLOEXEC | libc::O_NONBLOCK,
            )))?;
            (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1]))
        };
        SIGNAL_PIPE.store(write.as_raw_fd(), Ordering::Relaxed);
        let pipe = Self {
            read,
            _write: write,
            signals: signals.to_vec(),
        };
        for &signal in signals {
            let mut action = MaybeUninit::<libc::sigaction>::zeroed();
            // SAFETY: a zeroed sigaction is valid; the handler is async-signal-safe.
            check(i64::from(unsafe {
                (*action.as_mut_ptr()).sa_sigaction = on_signal as *const () as usize;
                (*action.as_mut_ptr()).sa_flags = libc::SA_RESTART;
                libc::sigaction(signal, action.as_ptr(), std::ptr::null_mut())
            }))?;
        }
        Ok(pipe)
    }

    /// What it catches.
    pub(crate) fn signals(&self) -> &[i32] {
        &self.signals
    }

    /// A signal that came, if there is one.
    pub(crate) fn take(&self) -> Option<i32> {
        let mut byte = 0u8;
        // SAFETY: reads one byte into one byte.
        let n = unsafe { libc::read(self.read.as_raw_fd(), (&raw mut byte).cast(), 1) };
        (n == 1).then_some(i32::from(byte))
    }
}

impl AsFd for SignalPipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }
}

impl Drop for SignalPipe {
    fn drop(&mut self) {
        for &signal in &self.signals {
            reset_signal(signal);
        }
        SIGNAL_PIPE.store(-1, Ordering::Relaxed);
    }
}

/// Gives a signal back its default action.
pub(crate) fn reset_signal(signal: i32) {
    // SAFETY: the default action is always valid.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// A process, whatever becomes of its number. Readable once it has ended.
pub(crate) struct PidFd(OwnedFd);

impl PidFd {
    pub(crate) fn open(pid: i32) -> io::Result<Self> {
        // SAFETY: takes plain numbers.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        check_fd(fd as i32).map(Self)
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A clock of the kernel, nanoseconds.
pub(crate) fn clock_nanoseconds(clock: i32) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes one timespec.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// `uname -r`.
pub(crate) fn kernel_release() -> String {
    let mut name = MaybeUninit::<libc::utsname>::zeroed();
    // SAFETY: the kernel fills the structure with NUL-terminated text; zeroes are valid too.
    unsafe {
        libc::uname(name.as_mut_ptr());
        std::ffi::CStr::from_ptr((*name.as_ptr()).release.as_ptr())
            .to_string_lossy()
            .into_owned()
    }
}

/// A file's bytes, mapped. The file is meant to stay as it is.
#[derive(Debug)]
pub struct Mapping {
    start: std::ptr::NonNull<libc::c_void>,
    len: usize,
}

impl Mapping {
    /// Maps a file. Not all files of sysfs can be mapped.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn of(file: &std::fs::File) -> io::Result<Self> {
        let len = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
        // SAFETY: a new mapping, at a place that the kernel chooses.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ,
                libc::MAP_PRIVATE,
                file.as_raw_fd(),
                0,
            )
        };
        match std::ptr::NonNull::new(start) {
            Some(start) if start.as_ptr() != libc::MAP_FAILED => Ok(Self { start, len }),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl std::ops::Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: so many bytes are mapped, readable, until this is dropped.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by `of`, and nothing borrows from it any more.
        unsafe { libc::munmap(self.start.as_ptr(), self.len) };
    }
}

/// Size of a memory page, bytes.
pub(crate) fn page_size() -> u64 {
    // SAFETY: takes a plain number.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// Whether the effective user is root.
pub(crate) fn is_root() -> bool {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Lets the process lock memory without limit: maps count against it before 5.11.
pub(crate) fn unlimit_memlock() -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: reads one structure.
    check(i64::from(unsafe {
        libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit)
    }))?;
    Ok(())
}

/// Lets the process have at least `wanted` open files, if it may.
pub(crate) fn raise_nofile_limit(wanted: u64) -> io::Result<()> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: writes and reads one structure.
    unsafe {
        check(i64::from(libc::getrlimit(
            libc::RLIMIT_NOFILE,
            &raw mut limit,
        )))?;
        if limit.rlim_cur >= wanted {
            return Ok(());
        }
        limit.rlim_cur = wanted;
        limit.rlim_max = limit.rlim_max.max(wanted);
        check(i64::from(libc::setrlimit(
            libc::RLIMIT_NOFILE,
            &raw const limit,
        )))?;
    }
    Ok(())
}

/// Id of a cgroup v2 directory: what `bpf_get_current_cgroup_id` gives.
pub(crate) fn cgroup_id(path: &Path) -> io::Result<u64> {
    #[repr(C)]
    struct Handle {
        header: libc::file_handle,
        id: [u8; 8],
    }
    let path = c_string(&path.to_string_lossy())?;
    let mut handle = MaybeUninit::<Handle>::zeroed();
    let mut mount = 0;
    // SAFETY: zeroes are a valid handle; the kernel writes at most the `handle_bytes` it is told
    // of, behind the header.
    unsafe {
        let header = &raw mut (*handle.as_mut_ptr()).header;
        (*header).handle_bytes = 8;
        check(i64::from(libc::name_to_handle_at(
            libc::AT_FDCWD,
            path.as_ptr(),
            header,
            &raw mut mount,
            0,
        )))?;
        let bytes = header.cast::<u8>().add(size_of::<libc::file_handle>());
        Ok(bytes.cast::<u64>().read_unaligned())
    }
}

/// Mounts a file system that needs no device where nobody but the holder of the descriptor, its root
/// directory, can see it (5.2).
pub(crate) fn mount_detached(file_system: &std::ffi::CStr) -> io::Result<OwnedFd> {
    const FSOPEN_CLOEXEC: u32 = 1;
    const FSCONFIG_CMD_CREATE: u32 = 6;
    const FSMOUNT_CLOEXEC: u32 = 1;
    // SAFETY: takes a NUL-terminated name.
    let context =
        check_fd(
            unsafe { libc::syscall(libc::SYS_fsopen, file_system.as_ptr(), FSOPEN_CLOEXEC) } as i32,
        )?;
    // SAFETY: the command takes neither key nor value.
    check(unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            FSCONFIG_CMD_CREATE,
            std::ptr::null::<libc::c_char>(),
            std::ptr::null::<libc::c_void>(),
            0,
        )
    })?;
    // SAFETY: takes a descriptor and flags.
    check_fd(
        unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, 0) } as i32,
    )
}
