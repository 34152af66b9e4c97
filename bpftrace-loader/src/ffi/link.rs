use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use libbpf_sys as sys;

use super::{PerfEvent, Program, c_string, check, check_fd};

const BPF_F_KPROBE_MULTI_RETURN: u32 = 1;
const BPF_F_UPROBE_MULTI_RETURN: u32 = 1;

/// An attached program; dropping it detaches.
#[derive(Debug)]
pub(crate) struct Link {
    /// Dropped before the event: the order in which libbpf takes them down.
    link: Option<OwnedFd>,
    _event: Option<PerfEvent>,
}

/// How a tracing program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TracingTarget {
    /// fentry, fexit: the function it was loaded for.
    Function(u32),
    /// A raw tracepoint with BTF, the one it was loaded for.
    RawTracepoint,
}

/// Many places of one file.
#[derive(Clone, Debug, Default)]
pub(crate) struct UprobeMulti {
    pub(crate) path: PathBuf,
    /// Offsets in the file.
    pub(crate) offsets: Vec<u64>,
    /// File offset of each one's semaphore; 0: none.
    pub(crate) semaphores: Vec<u64>,
    pub(crate) cookies: Vec<u64>,
    /// Whether they fire when the function returns.
    pub(crate) ret: bool,
    /// Only in this process.
    pub(crate) pid: Option<i32>,
}

fn link_opts() -> sys::bpf_link_create_opts {
    sys::bpf_link_create_opts {
        sz: size_of::<sys::bpf_link_create_opts>() as u64,
        ..Default::default()
    }
}

fn create(
    program: &Program,
    target: i32,
    attach_type: u32,
    opts: &sys::bpf_link_create_opts,
) -> io::Result<OwnedFd> {
    // SAFETY: the options are initialised, and what they point to outlives the call.
    check_fd(unsafe {
        sys::bpf_link_create(program.as_fd().as_raw_fd(), target, attach_type, opts)
    })
}

impl Link {
    /// Attaches to a perf event and starts it; `cookie`: through a BPF link that carries it (5.15).
    pub(crate) fn perf_event(
        program: &Program,
        event: PerfEvent,
        cookie: Option<u64>,
    ) -> io::Result<Self> {
        let link = match cookie {
            Some(bpf_cookie) => {
                let mut opts = link_opts();
                opts.__bindgen_anon_1.perf_event =
                    sys::bpf_link_create_opts__bindgen_ty_1__bindgen_ty_1 { bpf_cookie };
                Some(create(
                    program,
                    event.as_fd().as_raw_fd(),
                    sys::BPF_PERF_EVENT,
                    &opts,
                )?)
            }
            None => {
                event.set_program(program.as_fd())?;
                None
            }
        };
        event.enable()?;
        Ok(Self {
            link,
            _event: Some(event),
        })
    }

    /// Attaches to many kernel functions at once (5.18), as a session to their entry and return (6.10):
    /// by name, or by address where names are not
    /// unique and all addresses are known. The addresses that tracefs shows are those of the call to
    /// ftrace, which is not the function's first instruction on kernels with indirect branch tracking;
    /// the kernel looks cookies up by the latter, so that by address it finds none.
    pub(crate) fn kprobe_multi(
        program: &Program,
        attach_type: u32,
        functions: &[(String, Option<u64>)],
        cookies: &[u64],
        ret: bool,
    ) -> io::Result<Self> {
        if functions.len() != cookies.len() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let distinct: HashSet<&str> = functions.iter().map(|(name, _)| name.as_str()).collect();
        let addresses: Option<Vec<u64>> = (distinct.len() < functions.len())
            .then(|| functions.iter().map(|(_, address)| *address).collect())
            .flatten();
        let names = functions
            .iter()
            .map(|(name, _)| c_string(name))
            .collect::<io::Result<Vec<_>>>()?;
        let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
        let mut opts = link_opts();
        opts.__bindgen_anon_1.kprobe_multi =
            sys::bpf_link_create_opts__bindgen_ty_1__bindgen_ty_2 {
                flags: if ret { BPF_F_KPROBE_MULTI_RETURN } else { 0 },
                cnt: functions.len() as u32,
                syms: if addresses.is_some() {
                    std::ptr::null_mut()
                } else {
                    pointers.as_mut_ptr()
                },
                addrs: addresses
                    .as_ref()
                    .map_or(std::ptr::null(), |addresses| addresses.as_ptr()),
                cookies: cookies.as_ptr(),
            };
        let link = create(program, 0, attach_type, &opts)?;
        Ok(Self {
            link: Some(link),
            _event: None,
        })
    }

    /// Whether the kernel makes such links. Asks for a function that does not exist: a kernel with
    /// fprobes looks for it (`ESRCH`), one without says `EOPNOTSUPP` or `EINVAL`.
    pub(crate) fn kprobe_multi_probe(program: &Program, attach_type: u32) -> bool {
        let name = c"bpftrace_no_such_function";
        let mut pointers = [name.as_ptr()];
        let mut opts = link_opts();
        opts.__bindgen_anon_1.kprobe_multi =
            sys::bpf_link_create_opts__bindgen_ty_1__bindgen_ty_2 {
                cnt: 1,
                syms: pointers.as_mut_ptr(),
                ..Default::default()
            };
        create(program, 0, attach_type, &opts).is_err_and(|e| e.raw_os_error() == Some(libc::ESRCH))
    }

    /// Attaches to many offsets of a file at once (6.6).
    pub(crate) fn uprobe_multi(program: &Program, places: &UprobeMulti) -> io::Result<Self> {
        let UprobeMulti {
            path,
            offsets,
            semaphores,
            cookies,
            ret,
            pid,
        } = places;
        if offsets.len() != cookies.len() || offsets.len() != semaphores.len() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let path = c_string(&path.to_string_lossy())?;
        let mut opts = link_opts();
        opts.__bindgen_anon_1.uprobe_multi =
            sys::bpf_link_create_opts__bindgen_ty_1__bindgen_ty_3 {
                flags: if *ret { BPF_F_UPROBE_MULTI_RETURN } else { 0 },
                cnt: offsets.len() as u32,
                path: path.as_ptr(),
                offsets: offsets.as_ptr(),
                ref_ctr_offsets: semaphores.as_ptr(),
                cookies: cookies.as_ptr(),
                pid: pid.unwrap_or(0) as u32,
                ..Default::default()
            };
        let link = create(program, 0, sys::BPF_TRACE_UPROBE_MULTI, &opts)?;
        Ok(Self {
            link: Some(link),
            _event: None,
        })
    }

    /// Attaches a tracing program to what it was loaded for; a cookie needs 6.0.
    pub(crate) fn tracing(
        program: &Program,
        target: TracingTarget,
        cookie: Option<u64>,
    ) -> io::Result<Self> {
        let link = match (target, cookie) {
            (TracingTarget::Function(attach_type), Some(cookie)) => {
                let mut opts = link_opts();
                opts.__bindgen_anon_1.tracing =
                    sys::bpf_link_create_opts__bindgen_ty_1__bindgen_ty_4 { cookie };
                create(program, 0, attach_type, &opts)?
            }
            (TracingTarget::RawTracepoint, Some(cookie)) => {
                let mut opts = link_opts();
                opts.__bindgen_anon_1.tracing =
                    sys::bpf_link_create_opts__bindgen_ty_1__bindgen_ty_4 { cookie };
                create(program, 0, sys::BPF_TRACE_RAW_TP, &opts)?
            }
            // SAFETY: the kernel takes the target from the program when the name is null.
            (_, None) => check_fd(unsafe {
                sys::bpf_raw_tracepoint_open(std::ptr::null(), program.as_fd().as_raw_fd())
            })?,
        };
        Ok(Self {
            link: Some(link),
            _event: None,
        })
    }

    /// Attaches a BPF iterator; `pid`: only for that process.
    pub(crate) fn iterator(program: &Program, pid: Option<i32>) -> io::Result<Self> {
        let mut info = sys::bpf_iter_link_info {
            task: sys::bpf_iter_link_info__bindgen_ty_3 {
                pid: pid.unwrap_or(0) as u32,
                ..Default::default()
            },
        };
        let mut opts = link_opts();
        if pid.is_some() {
            opts.iter_info = &raw mut info;
            opts.iter_info_len = size_of::<sys::bpf_iter_link_info>() as u32;
        }
        let link = create(program, 0, sys::BPF_TRACE_ITER, &opts)?;
        Ok(Self {
            link: Some(link),
            _event: None,
        })
    }

    /// A file that runs the attached iterator while it is read.
    pub(crate) fn open_iterator(&self) -> io::Result<std::fs::File> {
        let Some(link) = &self.link else {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        };
        // SAFETY: takes a descriptor.
        check_fd(unsafe { sys::bpf_iter_create(link.as_raw_fd()) }).map(Into::into)
    }

    /// Pins the link at a path of the BPF file system.
    pub(crate) fn pin(&self, path: &str) -> io::Result<()> {
        let Some(link) = &self.link else {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        };
        let path = c_string(path)?;
        // SAFETY: a descriptor and a NUL-terminated path.
        check(i64::from(unsafe {
            sys::bpf_obj_pin(link.as_raw_fd(), path.as_ptr())
        }))?;
        Ok(())
    }
}
