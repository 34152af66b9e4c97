//! BPF helpers: ids of `enum bpf_func_id` (include/uapi/linux/bpf.h).

/// A helper of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub(super) enum Helper {
    MapLookupElem = 1,
    MapUpdateElem = 2,
    MapDeleteElem = 3,
    ProbeRead = 4,
    KtimeGetNs = 5,
    TracePrintk = 6,
    GetPrandomU32 = 7,
    GetSmpProcessorId = 8,
    GetCurrentPidTgid = 14,
    GetCurrentUidGid = 15,
    GetCurrentComm = 16,
    GetCurrentTask = 35,
    ProbeWriteUser = 36,
    GetNumaNodeId = 42,
    ProbeReadStr = 45,
    GetSocketCookie = 46,
    OverrideReturn = 58,
    GetStack = 67,
    GetCurrentCgroupId = 80,
    SendSignal = 109,
    SkbOutput = 111,
    ProbeReadUser = 112,
    ProbeReadKernel = 113,
    ProbeReadUserStr = 114,
    ProbeReadKernelStr = 115,
    SendSignalThread = 117,
    Jiffies64 = 118,
    GetNsCurrentPidTgid = 120,
    KtimeGetBootNs = 125,
    SeqPrintf = 126,
    RingbufReserve = 131,
    RingbufSubmit = 132,
    DPath = 147,
    GetCurrentTaskBtf = 158,
    ForEachMapElem = 164,
    GetFuncIp = 173,
    GetAttachCookie = 174,
    TaskPtRegs = 175,
    Loop = 181,
    MapLookupPercpuElem = 195,
    KtimeGetTaiNs = 208,
}

impl Helper {
    /// The number that a call instruction carries.
    pub(super) fn id(self) -> u32 {
        self as u32
    }

    /// The name without `bpf_`, as messages show it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::MapLookupElem => "map_lookup_elem",
            Self::MapUpdateElem => "map_update_elem",
            Self::MapDeleteElem => "map_delete_elem",
            Self::ProbeRead => "probe_read",
            Self::KtimeGetNs => "ktime_get_ns",
            Self::TracePrintk => "trace_printk",
            Self::GetPrandomU32 => "get_prandom_u32",
            Self::GetSmpProcessorId => "get_smp_processor_id",
            Self::GetCurrentPidTgid => "get_current_pid_tgid",
            Self::GetCurrentUidGid => "get_current_uid_gid",
            Self::GetCurrentComm => "get_current_comm",
            Self::GetCurrentTask => "get_current_task",
            Self::ProbeWriteUser => "probe_write_user",
            Self::GetNumaNodeId => "get_numa_node_id",
            Self::ProbeReadStr => "probe_read_str",
            Self::GetSocketCookie => "get_socket_cookie",
            Self::OverrideReturn => "override_return",
            Self::GetStack => "get_stack",
            Self::GetCurrentCgroupId => "get_current_cgroup_id",
            Self::SendSignal => "send_signal",
            Self::SkbOutput => "skb_output",
            Self::ProbeReadUser => "probe_read_user",
            Self::ProbeReadKernel => "probe_read_kernel",
            Self::ProbeReadUserStr => "probe_read_user_str",
            Self::ProbeReadKernelStr => "probe_read_kernel_str",
            Self::SendSignalThread => "send_signal_thread",
            Self::Jiffies64 => "jiffies64",
            Self::GetNsCurrentPidTgid => "get_ns_current_pid_tgid",
            Self::KtimeGetBootNs => "ktime_get_boot_ns",
            Self::SeqPrintf => "seq_printf",
            Self::RingbufReserve => "ringbuf_reserve",
            Self::RingbufSubmit => "ringbuf_submit",
            Self::DPath => "d_path",
            Self::GetCurrentTaskBtf => "get_current_task_btf",
            Self::ForEachMapElem => "for_each_map_elem",
            Self::GetFuncIp => "get_func_ip",
            Self::GetAttachCookie => "get_attach_cookie",
            Self::TaskPtRegs => "task_pt_regs",
            Self::Loop => "loop",
            Self::MapLookupPercpuElem => "map_lookup_percpu_elem",
            Self::KtimeGetTaiNs => "ktime_get_tai_ns",
        }
    }
}

/// `enum bpf_map_type`.
pub(super) mod map_type {
    pub(crate) const HASH: u32 = 1;
    pub(crate) const ARRAY: u32 = 2;
    pub(crate) const PERF_EVENT_ARRAY: u32 = 4;
    pub(crate) const PERCPU_HASH: u32 = 5;
    pub(crate) const PERCPU_ARRAY: u32 = 6;
    pub(crate) const LRU_HASH: u32 = 9;
    pub(crate) const LRU_PERCPU_HASH: u32 = 10;
    pub(crate) const RINGBUF: u32 = 27;
}

/// `BPF_F_USER_STACK` of `bpf_get_stack`.
pub(super) const F_USER_STACK: i64 = 1 << 8;
/// `BPF_F_USER_BUILD_ID` of `bpf_get_stack`.
pub(super) const F_USER_BUILD_ID: i64 = 1 << 11;
