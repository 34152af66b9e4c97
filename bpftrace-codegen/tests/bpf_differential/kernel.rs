//! Runs compiled functions in the running kernel: the verifier judges them, and what executes them is
//! what will execute the users' programs. All unsafe code of these tests is here.

use std::ffi::c_int;

use bpftrace_codegen::bpf::{CompiledFunction, Insn, Reg, RelocKind, Size};
use libbpf_sys as sys;

const E2BIG: c_int = 7;

unsafe extern "C" {
    fn close(fd: c_int) -> c_int;
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The low half of r0.
    Returned(u32),
    /// The verifier gave up after a million instructions.
    TooComplex,
    /// The verifier's log.
    Refused(String),
}

/// Why programs cannot be run here, if they cannot.
pub(crate) fn unavailable() -> Option<String> {
    let mut code = Vec::new();
    Insn::LdImm64 {
        dst: Reg::R0,
        pseudo: 0,
        value: 42,
    }
    .encode(&mut code);
    Insn::Exit.encode(&mut code);
    match run_code(&code, [0; 5]) {
        Outcome::Returned(42) => None,
        other => Some(format!(
            "a two-instruction BPF program does not run: {other:?}"
        )),
    }
}

/// Links `main` with the subprogram it calls, and runs it with these arguments.
pub(crate) fn run(main: &CompiledFunction, subprog: &CompiledFunction, args: [u64; 5]) -> Outcome {
    let mut code = Vec::new();
    // The arguments come from the context, the one that is overwritten last.
    let ctx = Reg::argument(0).expect("r1");
    for idx in (0..args.len()).rev() {
        let dst = Reg::argument(idx).expect("five arguments");
        Insn::Load {
            size: Size::Dw,
            dst,
            base: ctx,
            off: idx as i16 * 8,
        }
        .encode(&mut code);
    }
    let start = (code.len() / 8) as u32;
    code.extend(&main.code);
    let target = (code.len() / 8) as u32;
    if !main.relocs.is_empty() {
        code.extend(&subprog.code);
    }
    for reloc in &main.relocs {
        assert!(matches!(reloc.kind, RelocKind::SubprogCall(0)), "{reloc:?}");
        let at = start + reloc.insn_idx;
        let distance = (target - at - 1) as i32;
        code[at as usize * 8 + 4..][..4].copy_from_slice(&distance.to_le_bytes());
    }
    run_code(&code, args)
}

fn run_code(code: &[u8], args: [u64; 5]) -> Outcome {
    // The kernel wants instructions aligned.
    let insns: Vec<u64> = code
        .chunks_exact(8)
        .map(|bytes| u64::from_le_bytes(bytes.try_into().expect("eight bytes")))
        .collect();
    let mut log = vec![0u8; 1 << 20];
    let mut opts = sys::bpf_prog_load_opts {
        sz: size_of::<sys::bpf_prog_load_opts>() as sys::size_t,
        log_buf: log.as_mut_ptr().cast(),
        log_size: log.len() as u32,
        log_level: 0,
        ..Default::default()
    };
    // SAFETY: all pointers are valid for the call, with the lengths given.
    let fd = unsafe {
        sys::bpf_prog_load(
            sys::BPF_PROG_TYPE_RAW_TRACEPOINT,
            c"generated".as_ptr(),
            c"GPL".as_ptr(),
            insns.as_ptr().cast(),
            insns.len() as sys::size_t,
            &mut opts,
        )
    };
    if fd == -E2BIG {
        return Outcome::TooComplex;
    }
    if fd < 0 {
        let error = std::io::Error::from_raw_os_error(-fd);
        let text = String::from_utf8_lossy(&log);
        let text = text.trim_end_matches('\0');
        return Outcome::Refused(format!("{error}\n{text}"));
    }
    let mut opts = sys::bpf_test_run_opts {
        sz: size_of::<sys::bpf_test_run_opts>() as sys::size_t,
        ctx_in: args.as_ptr().cast(),
        ctx_size_in: size_of_val(&args) as u32,
        ..Default::default()
    };
    // SAFETY: the context lives during the call; the descriptor is ours and is closed once.
    let result = unsafe {
        let result = sys::bpf_prog_test_run_opts(fd, &mut opts);
        close(fd);
        result
    };
    if result < 0 {
        return Outcome::Refused(std::io::Error::from_raw_os_error(-result).to_string());
    }
    Outcome::Returned(opts.retval)
}
