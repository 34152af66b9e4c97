use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::{check, check_fd};

/// `struct perf_event_attr`, first published size that has `config2` (72 bytes, since 2.6.33).
#[repr(C)]
#[derive(Default)]
struct PerfEventAttr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period_or_freq: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    config1: u64,
    config2: u64,
}

const FLAG_DISABLED: u64 = 1 << 0;
const FLAG_INHERIT: u64 = 1 << 1;
const FLAG_FREQ: u64 = 1 << 10;
const PERF_FLAG_FD_CLOEXEC: u64 = 1 << 3;
const PERF_TYPE_BREAKPOINT: u32 = 5;
const PERF_EVENT_IOC_ENABLE: u64 = 0x2400;
const PERF_EVENT_IOC_SET_BPF: u64 = 0x4004_2408;

/// What a perf event counts or samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PerfSpec {
    /// A software, hardware or tracepoint event: type, number, and a sample after so many.
    Counter { kind: u32, config: u64, period: u64 },
    /// As `Counter`, so many samples a second.
    Frequency { kind: u32, config: u64, hertz: u64 },
    /// A probe of the `kprobe` device: function and byte offset, or an address.
    Kprobe {
        kind: u32,
        config: u64,
        function: Option<String>,
        offset_or_address: u64,
    },
    /// A probe of the `uprobe` device: file and byte offset in it. The semaphore at byte
    /// `ref_ctr_offset` of the file is counted up while the probe is there; 0: none.
    Uprobe {
        kind: u32,
        config: u64,
        path: String,
        offset: u64,
        ref_ctr_offset: u64,
    },
    /// A hardware breakpoint: `HW_BREAKPOINT_*` bits, address, length in bytes. In a thread it is in
    /// those that the thread starts too.
    Breakpoint {
        access: u32,
        address: u64,
        length: u64,
    },
}

/// An open perf event. It fires until it is dropped.
#[derive(Debug)]
pub(crate) struct PerfEvent(OwnedFd);

impl PerfEvent {
    /// Opens an event for a process (-1: all) on a CPU (-1: all), not yet enabled.
    pub(crate) fn open(spec: &PerfSpec, pid: i32, cpu: i32) -> io::Result<Self> {
        let mut attr = PerfEventAttr {
            size: size_of::<PerfEventAttr>() as u32,
            flags: FLAG_DISABLED,
            ..PerfEventAttr::default()
        };
        // Keeps the text that config1 points to alive until the call is over.
        let mut text = CString::default();
        match spec {
            PerfSpec::Counter {
                kind,
                config,
                period,
            } => {
                attr.kind = *kind;
                attr.config = *config;
                attr.sample_period_or_freq = *period;
                attr.wakeup_events = 1;
            }
            PerfSpec::Frequency {
                kind,
                config,
                hertz,
            } => {
                attr.kind = *kind;
                attr.config = *config;
                attr.sample_period_or_freq = *hertz;
                attr.flags |= FLAG_FREQ;
                attr.wakeup_events = 1;
            }
            PerfSpec::Kprobe {
                kind,
                config,
                function,
                offset_or_address,
            } => {
                attr.kind = *kind;
                attr.config = *config;
                if let Some(function) = function {
                    text = super::c_string(function)?;
                    attr.config1 = text.as_ptr() as u64;
                }
                attr.config2 = *offset_or_address;
            }
            PerfSpec::Uprobe {
                kind,
                config,
                path,
                offset,
                ref_ctr_offset,
            } => {
                attr.kind = *kind;
                attr.config = config | (ref_ctr_offset << 32);
                text = super::c_string(path)?;
                attr.config1 = text.as_ptr() as u64;
                attr.config2 = *offset;
            }
            PerfSpec::Breakpoint {
                access,
                address,
                length,
            } => {
                attr.kind = PERF_TYPE_BREAKPOINT;
                if pid != -1 {
                    attr.flags |= FLAG_INHERIT;
                }
                attr.bp_type = *access;
                attr.config1 = *address;
                attr.config2 = *length;
                attr.sample_period_or_freq = 1;
                attr.wakeup_events = 1;
            }
        }
        // SAFETY: the attributes are as long as they say; config1 is null or text that outlives the
        // call.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                &raw const attr,
                pid,
                cpu,
                -1,
                PERF_FLAG_FD_CLOEXEC,
            )
        };
        drop(text);
        check_fd(fd as i32).map(Self)
    }

    /// Starts it.
    pub(crate) fn enable(&self) -> io::Result<()> {
        // SAFETY: the descriptor is a perf event, the request takes no argument.
        check(i64::from(unsafe {
            libc::ioctl(self.0.as_raw_fd(), PERF_EVENT_IOC_ENABLE, 0)
        }))?;
        Ok(())
    }

    /// Attaches a program the way that kernels before 5.15 know; it stays until the event closes.
    pub(crate) fn set_program(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        // SAFETY: the descriptor is a perf event, the argument a descriptor.
        check(i64::from(unsafe {
            libc::ioctl(
                self.0.as_raw_fd(),
                PERF_EVENT_IOC_SET_BPF,
                program.as_raw_fd(),
            )
        }))?;
        Ok(())
    }
}

impl AsFd for PerfEvent {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
