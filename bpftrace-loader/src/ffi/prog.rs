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
    pub(crate) const KPROBE_SESSION: u32 = sys::BPF_TRACE_KPROBE_SESSION;
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

/// A function of a loaded program that other programs can be attached to.
pub(crate) struct ProgramFunction {
    /// Id of the program.
    pub(crate) program: u32,
    /// Name of the function.
    pub(crate) name: String,
    /// Number of its type in the program's BTF.
    pub(crate) type_id: u32,
}

/// The functions of all loaded programs that have BTF.
pub(crate) fn program_functions() -> io::Result<Vec<ProgramFunction>> {
    let mut functions = Vec::new();
    let mut id = 0;
    loop {
        let mut next = 0;
        // SAFETY: writes one number.
        match check(i64::from(unsafe {
            sys::bpf_prog_get_next_id(id, &raw mut next)
        })) {
            Ok(_) => id = next,
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok(functions),
            Err(e) => return Err(e),
        }
        let program = match open_program(id) {
            Ok(program) => program,
            // Unloaded between the two calls.
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => continue,
            Err(e) => return Err(e),
        };
        let (btf_id, types) = function_types(&program)?;
        if types.is_empty() {
            continue;
        }
        let Ok(btf) = super::Btf::of_program(btf_id) else {
            continue;
        };
        functions.extend(types.into_iter().filter_map(|type_id| {
            let name = btf.function_name(type_id)?;
            Some(ProgramFunction {
                program: id,
                name,
                type_id,
            })
        }));
    }
}

/// Opens a loaded program by its id.
pub(crate) fn open_program(id: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes a plain number.
    check_fd(unsafe { sys::bpf_prog_get_fd_by_id(id) })
}

/// Id of a program's BTF, and the numbers of its functions' types in it.
fn function_types(program: &OwnedFd) -> io::Result<(u32, Vec<u32>)> {
    let ask = |info: &mut sys::bpf_prog_info| {
        let mut size = size_of::<sys::bpf_prog_info>() as u32;
        // SAFETY: the structure is as long as `size` says; what it points to is as long as it says.
        check(i64::from(unsafe {
            sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), info, &raw mut size)
        }))
    };
    let mut info = sys::bpf_prog_info::default();
    ask(&mut info)?;
    let n_functions = info.nr_func_info;
    if info.btf_id == 0 || n_functions == 0 {
        return Ok((0, Vec::new()));
    }
    let mut records = vec![sys::bpf_func_info::default(); n_functions as usize];
    let mut info = sys::bpf_prog_info {
        nr_func_info: n_functions,
        func_info_rec_size: size_of::<sys::bpf_func_info>() as u32,
        func_info: records.as_mut_ptr() as u64,
        ..Default::default()
    };
    ask(&mut info)?;
    records.truncate(info.nr_func_info as usize);
    let types = records.iter().map(|record| record.type_id);
    Ok((info.btf_id, types.collect()))
}

/// Whether programs of a type may call a helper, by loading a program that does.
pub(crate) fn helper_exists(program_type: ProgramType, helper: u32) -> bool {
    // SAFETY: plain numbers and no options.
    let answer =
        unsafe { sys::libbpf_probe_bpf_helper(program_type.number(), helper, std::ptr::null()) };
    answer == 1
}

const _: () = assert!(size_of::<Insn>() == size_of::<sys::bpf_insn>());
