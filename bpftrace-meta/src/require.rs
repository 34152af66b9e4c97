use serde::{Deserialize, Serialize};

/// A feature of the kernel that code is compiled for in two variants, or that a script cannot do
/// without. The loader finds out once which ones the target has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Feature {
    /// Type information of the kernel (`/sys/kernel/btf/vmlinux`).
    Btf,
    /// `bpf_for_each_map_elem`, 5.13.
    ForEachMapElem,
    /// `bpf_get_attach_cookie` for perf-event based probes, 5.15.
    AttachCookie,
    /// `bpf_get_attach_cookie` for fentry, fexit and raw tracepoints, 6.0 (`BPF_PROG_TYPE_TRACING`).
    TracingCookie,
    /// `bpf_get_func_ip` for kprobes, 5.15.
    FuncIpKprobe,
    /// `bpf_get_func_ip` for fentry and fexit, 5.15 (5.17 for all).
    FuncIpTracing,
    /// `bpf_loop`, 5.17.
    Loop,
    /// `bpf_strncmp`, 5.17.
    Strncmp,
    /// Attaching one kprobe program to many functions, 5.18 with `CONFIG_FPROBE`.
    KprobeMulti,
    /// Entry and return in one program, 6.10.
    KprobeSession,
    /// Attaching one uprobe program to many places, 6.6.
    UprobeMulti,
    /// `bpf_map_lookup_percpu_elem`, 5.19.
    MapLookupPercpuElem,
    /// `bpf_ktime_get_tai_ns`, 6.1.
    KtimeTai,
    /// `bpf_ktime_get_boot_ns`, 5.8.
    KtimeBoot,
    /// Open-coded iterators, 6.4.
    OpenCodedIterators,
    /// `bpf_get_ns_current_pid_tgid` for tracing programs, 5.7.
    NsPid,
    /// fentry and fexit, 5.5 with BTF.
    Fentry,
    /// BPF iterators, 5.8 with BTF.
    Iterators,
    /// `bpf_d_path`, 5.10.
    DPath,
    /// `bpf_override_return`, with `CONFIG_BPF_KPROBE_OVERRIDE`.
    Override,
    /// `bpf_map_sum_elem_count` kfunc, 6.6.
    MapSumElemCount,
    /// `bpf_task_from_pid` kfunc, 6.2.
    TaskFromPid,
    /// `bpf_jiffies64`, 5.5.
    Jiffies64,
    /// `bpf_get_socket_cookie` in tracing programs, 5.12.
    SocketCookie,
    /// Hash maps whose keys are larger than 512 bytes, 5.11.
    LargeMapKeys,
    /// `bpf_task_pt_regs`, 5.15.
    TaskPtRegs,
    /// Kernel functions about sessions (`bpf_session_is_return`) take the context, 7.0.
    SessionContext,
}

impl Feature {
    /// The first kernel version (major, minor) that has it, where one version can be named.
    #[must_use]
    pub fn since(self) -> (u32, u32) {
        match self {
            Self::Btf => (5, 2),
            Self::ForEachMapElem => (5, 13),
            Self::AttachCookie | Self::FuncIpKprobe | Self::TaskPtRegs => (5, 15),
            Self::TracingCookie => (6, 0),
            Self::FuncIpTracing | Self::Loop | Self::Strncmp => (5, 17),
            Self::KprobeMulti => (5, 18),
            Self::KprobeSession => (6, 10),
            Self::UprobeMulti | Self::MapSumElemCount => (6, 6),
            Self::MapLookupPercpuElem => (5, 19),
            Self::KtimeTai => (6, 1),
            Self::KtimeBoot | Self::Iterators => (5, 8),
            Self::OpenCodedIterators => (6, 4),
            Self::NsPid => (5, 7),
            Self::Fentry | Self::Jiffies64 => (5, 5),
            Self::DPath => (5, 10),
            Self::Override => (4, 16),
            Self::TaskFromPid => (6, 2),
            Self::SocketCookie => (5, 12),
            Self::LargeMapKeys => (5, 11),
            Self::SessionContext => (7, 0),
        }
    }
}

/// A feature that the script cannot do without, and what in the script needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    /// The feature.
    pub feature: Feature,
    /// What needs it, as the message says: "`for` over a map".
    pub what: String,
    /// Where.
    pub place: crate::SourceRange,
}
