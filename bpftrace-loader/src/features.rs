//! Names of kernel features, as people write and read them.

use bpftrace_meta::Feature;

/// Every feature with its name, in the order of `--info`.
pub const FEATURES: &[(Feature, &str)] = &[
    (Feature::Btf, "btf"),
    (Feature::Fentry, "fentry"),
    (Feature::KprobeMulti, "kprobe_multi"),
    (Feature::KprobeSession, "kprobe_session"),
    (Feature::UprobeMulti, "uprobe_multi"),
    (Feature::Iterators, "iter"),
    (Feature::AttachCookie, "attach_cookie"),
    (Feature::TracingCookie, "tracing_cookie"),
    (Feature::FuncIpKprobe, "get_func_ip"),
    (Feature::FuncIpTracing, "get_func_ip_tracing"),
    (Feature::DPath, "dpath"),
    (Feature::ForEachMapElem, "map_elem_loop"),
    (Feature::Loop, "loop"),
    (Feature::OpenCodedIterators, "open_coded_iterators"),
    (Feature::Strncmp, "strncmp"),
    (Feature::MapLookupPercpuElem, "lookup_percpu_elem"),
    (Feature::MapSumElemCount, "map_sum_elem_count"),
    (Feature::TaskFromPid, "task_from_pid"),
    (Feature::KtimeBoot, "get_boot_ns"),
    (Feature::KtimeTai, "get_tai_ns"),
    (Feature::Jiffies64, "jiffies64"),
    (Feature::NsPid, "get_ns_current_pid_tgid"),
    (Feature::Override, "override_return"),
    (Feature::SocketCookie, "socket_cookie"),
    (Feature::LargeMapKeys, "large_map_keys"),
    (Feature::TaskPtRegs, "task_pt_regs"),
    (Feature::SessionContext, "session_context"),
];

/// The name of a feature.
#[must_use]
pub fn name(feature: Feature) -> &'static str {
    FEATURES
        .iter()
        .find(|(known, _)| *known == feature)
        .map_or("unknown", |(_, name)| name)
}

/// The feature of a name.
#[must_use]
pub fn by_name(name: &str) -> Option<Feature> {
    FEATURES
        .iter()
        .find(|(_, known)| *known == name)
        .map(|(feature, _)| *feature)
}
