use std::path::Path;

use bpftrace_meta::{Feature, ProgramKind};
use libbpf_sys as sys;

use super::LinuxHost;
use crate::ffi::{self, LoadRequest, ProgramType, attach_type, helper_exists, load_program};
use crate::host::{BtfEntryKind, Host as _};

/// Bytes of the largest key before [`Feature::LargeMapKeys`] (`MAX_BPF_STACK`).
const MAX_OLD_KEY: u32 = 512;

/// `r0 = 0; exit`.
const RETURN_ZERO: [ffi::Insn; 2] = [[0xb7, 0, 0, 0, 0, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];

/// Finds out by trying: a version number says little on kernels with backports.
pub(super) fn probe(feature: Feature, host: &LinuxHost) -> bool {
    let helper = |program_type, number| helper_exists(program_type, number);
    match feature {
        Feature::Btf => {
            Path::new("/sys/kernel/btf/vmlinux").exists() || host.env("BPFTRACE_BTF").is_some()
        }
        Feature::ForEachMapElem => {
            helper(ProgramType::RawTracepoint, sys::BPF_FUNC_for_each_map_elem)
        }
        // The helper came together with the links that set the cookie.
        Feature::AttachCookie => helper(ProgramType::Kprobe, sys::BPF_FUNC_get_attach_cookie),
        Feature::TracingCookie => helper_in_fentry(host, sys::BPF_FUNC_get_attach_cookie),
        Feature::FuncIpKprobe => helper(ProgramType::Kprobe, sys::BPF_FUNC_get_func_ip),
        Feature::FuncIpTracing => helper_in_fentry(host, sys::BPF_FUNC_get_func_ip),
        Feature::Loop => helper(ProgramType::RawTracepoint, sys::BPF_FUNC_loop),
        Feature::Strncmp => helper(ProgramType::RawTracepoint, sys::BPF_FUNC_strncmp),
        Feature::KprobeMulti => kprobe_multi(sys::BPF_TRACE_KPROBE_MULTI),
        Feature::KprobeSession => kprobe_multi(sys::BPF_TRACE_KPROBE_SESSION),
        Feature::UprobeMulti => uprobe_multi(),
        Feature::MapLookupPercpuElem => helper(
            ProgramType::RawTracepoint,
            sys::BPF_FUNC_map_lookup_percpu_elem,
        ),
        Feature::KtimeTai => helper(ProgramType::RawTracepoint, sys::BPF_FUNC_ktime_get_tai_ns),
        Feature::KtimeBoot => helper(ProgramType::RawTracepoint, sys::BPF_FUNC_ktime_get_boot_ns),
        Feature::OpenCodedIterators => kfunc(host, "bpf_iter_num_new"),
        Feature::NsPid => helper(ProgramType::Kprobe, sys::BPF_FUNC_get_ns_current_pid_tgid),
        Feature::Fentry => fentry_loads(host, &RETURN_ZERO),
        Feature::Iterators => host
            .btf_entries(BtfEntryKind::Iterator, Some("vmlinux"), "task")
            .is_ok_and(|entries| !entries.is_empty()),
        // For a list of functions only: others are told that it is not allowed here.
        Feature::DPath => helper_in_fentry_exists(host, sys::BPF_FUNC_d_path),
        Feature::Override => helper(ProgramType::Kprobe, sys::BPF_FUNC_override_return),
        Feature::MapSumElemCount => kfunc(host, "bpf_map_sum_elem_count"),
        Feature::TaskFromPid => kfunc(host, "bpf_task_from_pid"),
        Feature::Jiffies64 => helper(ProgramType::RawTracepoint, sys::BPF_FUNC_jiffies64),
        Feature::SocketCookie => helper_in_fentry_exists(host, sys::BPF_FUNC_get_socket_cookie),
        Feature::TaskPtRegs => helper(ProgramType::RawTracepoint, sys::BPF_FUNC_task_pt_regs),
        Feature::SessionContext => {
            let path = host.env("BPFTRACE_BTF");
            host.btf
                .n_parameters(path.as_deref().map(Path::new), "bpf_session_is_return")
                .is_some_and(|n| n > 0)
        }
        Feature::LargeMapKeys => ffi::hash_map_takes_keys_of(MAX_OLD_KEY + 8),
    }
}

/// Whether the kernel has a function that BPF may call.
fn kfunc(host: &LinuxHost, name: &str) -> bool {
    host.btf_entries(BtfEntryKind::Function, Some("vmlinux"), name)
        .is_ok_and(|entries| !entries.is_empty())
}

/// Whether the kernel has a function, and lets programs of a kind call it. A program that does nothing
/// but call it is loaded: the arguments are wrong, which the verifier sees only after it has seen that
/// the function may be called.
pub(super) fn has_kernel_function(
    host: &LinuxHost,
    name: &str,
    caller: Option<ProgramKind>,
) -> bool {
    let found = host.btf_entries(BtfEntryKind::Function, Some("vmlinux"), name);
    let Some(id) = found.ok().and_then(|mut found| Some(found.pop()?.id)) else {
        return false;
    };
    let Some(caller) = caller else {
        return true;
    };
    let id = id.to_le_bytes();
    let [zero, exit] = RETURN_ZERO;
    // The register fields say that the number is that of a function of the kernel.
    let insns = [
        [
            0x85,
            (sys::BPF_PSEUDO_KFUNC_CALL as u8) << 4,
            0,
            0,
            id[0],
            id[1],
            id[2],
            id[3],
        ],
        zero,
        exit,
    ];
    let program_type = match caller {
        ProgramKind::Fentry | ProgramKind::Fexit | ProgramKind::TpBtf | ProgramKind::Iter => {
            return is_permission(&fentry_log(host, &insns));
        }
        ProgramKind::Tracepoint => ProgramType::Tracepoint,
        ProgramKind::PerfEvent => ProgramType::PerfEvent,
        ProgramKind::Kprobe | ProgramKind::Uprobe => ProgramType::Kprobe,
        ProgramKind::RawTracepointRun => ProgramType::RawTracepoint,
        ProgramKind::Xdp => ProgramType::Xdp,
    };
    let loaded = load_program(&LoadRequest {
        name: "probe_kfunc",
        program_type,
        expected_attach_type: 0,
        license: "GPL",
        insns: &insns,
        func_info: &[],
        line_info: &[],
        btf: None,
        attach_btf_id: 0,
        attach_btf: None,
        attach_program: None,
        log_level: 1,
        log_size: 4096,
    });
    is_permission(&loaded.map(drop).map_err(|failure| failure.log))
}

/// Whether what came of loading a call says that the call as such is fine.
fn is_permission(loaded: &Result<(), String>) -> bool {
    let Err(log) = loaded else {
        return true;
    };
    // Refusals come before anything is said about registers.
    !log.is_empty()
        && ![
            "not allowed",
            "reserved fields",
            "not supported",
            "is not a kernel function",
            "non-GPL",
        ]
        .iter()
        .any(|refusal| log.contains(refusal))
}

/// Whether a program for fentry of some function loads.
fn fentry_loads(host: &LinuxHost, insns: &[ffi::Insn]) -> bool {
    fentry_log(host, insns).is_ok()
}

/// Loads a program for fentry of a function that every kernel can trace; the verifier's log if it
/// does not.
fn fentry_log(host: &LinuxHost, insns: &[ffi::Insn]) -> Result<(), String> {
    let target = host
        .btf_entries(BtfEntryKind::Function, Some("vmlinux"), "vfs_read")
        .ok()
        .and_then(|mut entries| entries.pop())
        .ok_or_else(String::new)?;
    load_program(&LoadRequest {
        name: "probe_fentry",
        program_type: ProgramType::Tracing,
        expected_attach_type: attach_type::TRACE_FENTRY,
        license: "GPL",
        insns,
        func_info: &[],
        line_info: &[],
        btf: None,
        attach_btf_id: target.id,
        attach_btf: None,
        attach_program: None,
        log_level: 1,
        log_size: 4096,
    })
    .map(drop)
    .map_err(|failure| failure.log)
}

/// `call HELPER; r0 = 0; exit`.
fn call(helper: u32) -> [ffi::Insn; 3] {
    let imm = helper.to_le_bytes();
    let [zero, exit] = RETURN_ZERO;
    [[0x85, 0, 0, 0, imm[0], imm[1], imm[2], imm[3]], zero, exit]
}

/// Whether a fentry program may call a helper that takes only the context.
fn helper_in_fentry(host: &LinuxHost, helper: u32) -> bool {
    fentry_loads(host, &call(helper))
}

/// Whether a fentry program may call a helper whose arguments we do not have: the verifier then
/// complains about something else than the helper.
fn helper_in_fentry_exists(host: &LinuxHost, helper: u32) -> bool {
    match fentry_log(host, &call(helper)) {
        Ok(()) => true,
        Err(log) => {
            !log.is_empty()
                && !log.contains("invalid func ")
                && !log.contains("unknown func ")
                && !log.contains("program of this type cannot use helper ")
        }
    }
}

/// Whether kprobe programs may be attached to many functions. The attach type is known to every
/// kernel that has the code, but only those with `CONFIG_FPROBE` make the link.
fn kprobe_multi(expected_attach_type: u32) -> bool {
    let Ok((program, _)) = load_program(&LoadRequest {
        name: "probe_kmulti",
        program_type: ProgramType::Kprobe,
        expected_attach_type,
        license: "GPL",
        insns: &RETURN_ZERO,
        func_info: &[],
        line_info: &[],
        btf: None,
        attach_btf_id: 0,
        attach_btf: None,
        attach_program: None,
        log_level: 0,
        log_size: 0,
    }) else {
        return false;
    };
    ffi::Link::kprobe_multi_probe(&program, expected_attach_type)
}

/// Whether uprobe programs may be attached to many places.
fn uprobe_multi() -> bool {
    let Ok((program, _)) = load_program(&LoadRequest {
        name: "probe_umulti",
        program_type: ProgramType::Kprobe,
        expected_attach_type: attach_type::UPROBE_MULTI,
        license: "GPL",
        insns: &RETURN_ZERO,
        func_info: &[],
        line_info: &[],
        btf: None,
        attach_btf_id: 0,
        attach_btf: None,
        attach_program: None,
        log_level: 0,
        log_size: 0,
    }) else {
        return false;
    };
    // A directory cannot be probed. A kernel that knows the link says so (EBADF); one that does
    // not looks no further than the link type (EINVAL).
    let places = ffi::UprobeMulti {
        path: "/".into(),
        offsets: vec![0],
        semaphores: vec![0],
        cookies: vec![0],
        ret: false,
        pid: None,
    };
    ffi::Link::uprobe_multi(&program, &places).is_err_and(|e| e.raw_os_error() == Some(libc::EBADF))
}
