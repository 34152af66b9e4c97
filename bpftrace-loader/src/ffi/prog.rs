use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use libbpf_sys as sys;

use super::{c_string, check, check_fd};

/// One instruction, 8 bytes: opcode, registers, `off` (16 bits), `imm` (32 bits), little-endian.
pub(crate) type Insn = [u8; 8];

/// Kinds of programs that the loader loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ProgramType {
    Kprobe,
    Tracepoint,
    RawTracepoint,
    PerfEvent,
    Tracing,
    Xdp,
}

impl ProgramType {
    fn number(self) -> u32 {
        match self {
            Self::Kprobe => sys::BPF_PROG_TYPE_KPROBE,
            Self::Tracepoint => sys::BPF_PROG_TYPE_TRACEPOINT,
            Self::RawTracepoint => sys::BPF_PROG_TYPE_RAW_TRACEPOINT,
            Self::PerfEvent => sys::BPF_PROG_TYPE_PERF_EVENT,
            Self::Tracing => sys::BPF_PROG_TYPE_TRACING,
            Self::Xdp => sys::BPF_PROG_TYPE_XDP,
        }
    }
}

/// Expected attach types, where a program needs one (values of `enum bpf_attach_type`).
pub(crate) mod attach_type {
    use libbpf_sys as sys;

    pub(crate) const NONE: u32 = 0;
    pub(crate) const TRACE_RAW_TP: u32 = sys::BPF_TRACE_RAW_TP;
    pub(crate) const TRACE_FENTRY: u32 = sys::BPF_TRACE_FENTRY;
    pub(crate) const TRACE_FEXIT: u32 = sys::BPF_TRACE_FEXIT;
    pub(crate) const TRACE_ITER: u32 = sys::BPF_TRACE_ITER;
    pub(crate) const KPROBE_MULTI: u32 = sys::BPF_TRACE_KPROBE_MULTI;
    pub(crate) const UPROBE_MULTI: u32 = sys::BPF_TRACE_UPROBE_MULTI;
}

/// A program to load.
pub(crate) struct LoadRequest<'a> {
    pub(crate) name: &'a str,
    pub(crate) program_type: ProgramType,
    pub(crate) expected_attach_type: u32,
    pub(crate) license: &'a str,
    pub(crate) insns: &'a [Insn],
    pub(crate) func_info: &'a [u8],
    pub(crate) line_info: &'a [u8],
    pub(crate) btf: Option<BorrowedFd<'a>>,
    /// Type number of the attach target, 0 for none.
    pub(crate) attach_btf_id: u32,
    /// The module's BTF that the number is in; `None` for the kernel proper.
    pub(crate) attach_btf: Option<BorrowedFd<'a>>,
    /// The BPF program that is traced, in place of a kernel function.
    pub(crate) attach_program: Option<BorrowedFd<'a>>,
    /// Verifier log level; 0: no log.
    pub(crate) log_level: u32,
    /// Bytes of the verifier's log.
    pub(crate) log_size: u32,
}

/// A loaded program.
#[derive(Debug)]
pub(crate) struct Program(OwnedFd);

/// Why a program was not loaded.
pub(crate) struct LoadFailure {
    pub(crate) error: io::Error,
    /// The verifier's log, empty without one.
    pub(crate) log: String,
    /// Whether the log is larger than its buffer.
    pub(crate) log_trimmed: bool,
}

/// Loads a program. The verifier's log comes with failures, and with success when it was asked for.
pub(crate) fn load_program(request: &LoadRequest<'_>) -> Result<(Program, String), LoadFailure> {
    let fail = |error| LoadFailure {
        error,
        log: String::new(),
        log_trimmed: false,
    };
    let name = c_string(request.name).map_err(fail)?;
    let license = c_string(request.license).map_err(fail)?;
    let mut log = vec![
        0u8;
        if request.log_level == 0 {
            0
        } else {
            request.log_size as usize
        }
    ];
    let fd = |fd: Option<BorrowedFd<'_>>| fd.map_or(0, |fd| fd.as_raw_fd() as u32);
    let func_info_rec_size = size_of::<sys::bpf_func_info>();
    let line_info_rec_size = size_of::<sys::bpf_line_info>();
    let mut opts = sys::bpf_prog_load_opts {
        sz: size_of::<sys::bpf_prog_load_opts>() as u64,
        expected_attach_type: request.expected_attach_type,
        attach_btf_id: request.attach_btf_id,
        attach_btf_obj_fd: fd(request.attach_btf),
        attach_prog_fd: fd(request.attach_program),
        log_level: request.log_level,
        log_size: log.len() as u32,
        log_buf: if log.is_empty() {
            std::ptr::null_mut()
        } else {
            log.as_mut_ptr().cast()
        },
        ..Default::default()
    };
    if let Some(btf) = request.btf {
        opts.prog_btf_fd = btf.as_raw_fd() as u32;
        if !request.func_info.is_empty() {
            opts.func_info = request.func_info.as_ptr().cast();
            opts.func_info_rec_size = func_info_rec_size as u32;
            opts.func_info_cnt = (request.func_info.len() / func_info_rec_size) as u32;
        }
        if !request.line_info.is_empty() {
            opts.line_info = request.line_info.as_ptr().cast();
            opts.line_info_rec_size = line_info_rec_size as u32;
            opts.line_info_cnt = (request.line_info.len() / line_info_rec_size) as u32;
        }
    }
    // SAFETY: every pointer in the call and in its options is to a live buffer of the size given
    // beside it; libbpf only writes to the log buffer and the options.
    let result = unsafe {
        sys::bpf_prog_load(
            request.program_type.number(),
            name.as_ptr(),
            license.as_ptr(),
            request.insns.as_ptr().cast(),
            request.insns.len() as u64,
            &mut opts,
        )
    };
    let end = log.iter().position(|&b| b == 0).unwrap_or(log.len());
    let log_trimmed = end + 1 >= log.len() && !log.is_empty();
    log.truncate(end);
    let log = String::from_utf8_lossy(&log).into_owned();
    match check_fd(result) {
        Ok(fd) => Ok((Program(fd), log)),
        Err(error) => Err(LoadFailure {
            error,
            log,
            log_trimmed,
        }),
    }
}

impl Program {
    /// Runs the program once, on this CPU, without input (`BPF_PROG_TEST_RUN`).
    pub(crate) fn run(&self) -> io::Result<()> {
        let mut opts = sys::bpf_test_run_opts {
            sz: size_of::<sys::bpf_test_run_opts>() as u64,
            ..Default::default()
        };
        // SAFETY: the descriptor is a program, the options say that there are no buffers.
        check(i64::from(unsafe {
            sys::bpf_prog_test_run_opts(self.0.as_raw_fd(), &mut opts)
        }))?;
        Ok(())
    }

    /// Runs the program on a packet `repeat` times; gives its return value and the mean duration of
    /// a run in nanoseconds.
    pub(crate) fn run_on_packet(&self, packet: &[u8], repeat: u32) -> io::Result<(u32, u64)> {
        let mut opts = sys::bpf_test_run_opts {
            sz: size_of::<sys::bpf_test_run_opts>() as u64,
            data_in: packet.as_ptr().cast(),
            data_size_in: packet.len() as u32,
            repeat: repeat as i32,
            ..Default::default()
        };
        // SAFETY: the descriptor is a program, the input buffer is as long as the options say.
        check(i64::from(unsafe {
            sys::bpf_prog_test_run_opts(self.0.as_raw_fd(), &mut opts)
        }))?;
        Ok((opts.retval, u64::from(opts.duration)))
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether programs of a type may call a helper, by loading a program that does.
pub(crate) fn helper_exists(program_type: ProgramType, helper: u32) -> bool {
    // SAFETY: plain numbers and no options.
    let answer =
        unsafe { sys::libbpf_probe_bpf_helper(program_type.number(), helper, std::ptr::null()) };
    answer == 1
}

const _: () = assert!(size_of::<Insn>() == size_of::<sys::bpf_insn>());
