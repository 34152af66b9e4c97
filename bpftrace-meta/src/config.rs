use serde::{Deserialize, Serialize};

/// How the frames of a stack are rendered (config key `stack_mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StackMode {
    /// Indented `symbol+offset`, one a line.
    Bpftrace,
    /// As `perf script` prints stacks.
    Perf,
    /// Hexadecimal addresses.
    Raw,
    /// Build id and offset in the file, for user stacks.
    BuildId,
}

/// What to do about attach points that do not exist or fail to attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MissingProbes {
    /// End with an error.
    Error,
    /// Warn and go on with the others.
    Warn,
    /// Go on silently.
    Ignore,
}

/// How user symbol tables are cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CacheUserSymbols {
    /// One table per process.
    PerPid,
    /// One table per executable file.
    PerProgram,
    /// No cache.
    None,
}

/// Configuration that is only looked at while running. `None`: not set by the script, so that the
/// environment of the target or the default decides.
///
/// The environment variables `BPFTRACE_<KEY>` of the target override what the script set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunConfig {
    /// `cache_user_symbols`.
    pub cache_user_symbols: Option<CacheUserSymbols>,
    /// `cpp_demangle`; default true.
    pub cpp_demangle: Option<bool>,
    /// `lazy_symbolication`; default true.
    pub lazy_symbolication: Option<bool>,
    /// `log_size`: bytes of the verifier's log; default 1,000,000.
    pub log_size: Option<u64>,
    /// `max_bpf_progs`; default 1,024.
    pub max_bpf_progs: Option<u64>,
    /// `max_cat_bytes`; default 10,240.
    pub max_cat_bytes: Option<u64>,
    /// `max_map_keys`: entries of a map without a declared size; default 4,096.
    pub max_map_keys: Option<u64>,
    /// `max_probes`; default 1,024.
    pub max_probes: Option<u64>,
    /// `missing_probes`; default error.
    pub missing_probes: Option<MissingProbes>,
    /// `perf_rb_pages`: pages of the ring buffer; 0 or unset: chosen by the loader.
    pub perf_rb_pages: Option<u64>,
    /// `print_maps_on_exit`; default true.
    pub print_maps_on_exit: Option<bool>,
    /// `show_debug_info`; default true.
    pub show_debug_info: Option<bool>,
    /// `str_trunc_trailer`; default `..`.
    pub str_trunc_trailer: Option<String>,
}
