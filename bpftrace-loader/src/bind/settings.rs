use bpftrace_meta::{CacheUserSymbols, Manifest, MissingProbes, RunConfig};

use crate::error::LoadError;
use crate::host::Host;
use crate::number::{parse_bool, parse_unsigned};

/// Default of `max_map_keys`.
const MAX_MAP_KEYS: u64 = 4096;
/// Default of `max_probes` and `max_bpf_progs`.
const MAX_PROBES: u64 = 1024;
/// Default of `log_size`, bytes.
const LOG_SIZE: u64 = 1_000_000;

/// The script's run-time configuration with the environment of this machine on top of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings(pub(crate) RunConfig);

impl Settings {
    pub(crate) fn max_map_keys(&self) -> u64 {
        self.0.max_map_keys.unwrap_or(MAX_MAP_KEYS)
    }

    pub(crate) fn max_probes(&self) -> u64 {
        self.0.max_probes.unwrap_or(MAX_PROBES)
    }

    pub(crate) fn max_bpf_progs(&self) -> u64 {
        self.0.max_bpf_progs.unwrap_or(MAX_PROBES)
    }

    pub(crate) fn log_size(&self) -> u32 {
        // The kernel takes logs of 128 bytes to 1 GiB.
        self.0.log_size.unwrap_or(LOG_SIZE).clamp(128, 1 << 30) as u32
    }

    /// The size of the log that was asked for, as messages give it.
    pub(crate) fn wanted_log_size(&self) -> u64 {
        self.0.log_size.unwrap_or(LOG_SIZE)
    }

    /// Whether the size of the log was asked for: then the log is wanted from the start, by those who
    /// want to read it (`-v`).
    pub(crate) fn wants_log(&self) -> bool {
        self.0.log_size.is_some()
    }

    pub(crate) fn missing_probes(&self) -> MissingProbes {
        self.0.missing_probes.unwrap_or(MissingProbes::Error)
    }

    pub(crate) fn perf_rb_pages(&self) -> u64 {
        self.0.perf_rb_pages.unwrap_or(0)
    }
}

/// Reads the environment.
pub(super) fn resolve(manifest: &Manifest, host: &dyn Host) -> Result<Settings, LoadError> {
    let mut config = manifest.config.clone();
    number(host, "max_map_keys", &mut config.max_map_keys)?;
    number(host, "max_probes", &mut config.max_probes)?;
    number(host, "max_bpf_progs", &mut config.max_bpf_progs)?;
    number(host, "log_size", &mut config.log_size)?;
    number(host, "max_cat_bytes", &mut config.max_cat_bytes)?;
    number(host, "perf_rb_pages", &mut config.perf_rb_pages)?;
    boolean(host, "cpp_demangle", &mut config.cpp_demangle)?;
    boolean(host, "lazy_symbolication", &mut config.lazy_symbolication)?;
    boolean(host, "print_maps_on_exit", &mut config.print_maps_on_exit)?;
    boolean(host, "show_debug_info", &mut config.show_debug_info)?;
    // Chooses nothing here, but what it is set to is read.
    boolean(host, "use_blazesym", &mut None)?;
    if let Some(text) = read(host, "str_trunc_trailer") {
        config.str_trunc_trailer = Some(text);
    }
    if let Some(text) = read(host, "missing_probes") {
        config.missing_probes = Some(match text.to_ascii_lowercase().as_str() {
            "error" => MissingProbes::Error,
            "warn" => MissingProbes::Warn,
            "ignore" => MissingProbes::Ignore,
            _ => {
                return Err(LoadError::usage(
                    "missing_probes: Invalid value for missing_probes: valid values are ignore, \
                     warn, and error.",
                ));
            }
        });
    }
    if let Some(text) = read(host, "cache_user_symbols") {
        config.cache_user_symbols = Some(match text.to_ascii_uppercase().as_str() {
            "PER_PID" => CacheUserSymbols::PerPid,
            "PER_PROGRAM" => CacheUserSymbols::PerProgram,
            "NONE" | "0" => CacheUserSymbols::None,
            "1" => return checked(manifest, host, config),
            _ => {
                return Err(LoadError::usage(
                    "cache_user_symbols: Invalid value for cache_user_symbols: valid values are \
                     PER_PID, PER_PROGRAM, and NONE.",
                ));
            }
        });
    }
    checked(manifest, host, config)
}

/// Refuses changes of what was compiled in.
fn checked(manifest: &Manifest, host: &dyn Host, config: RunConfig) -> Result<Settings, LoadError> {
    for (key, compiled) in [
        ("max_strlen", manifest.options.max_strlen),
        ("on_stack_limit", manifest.options.on_stack_limit),
    ] {
        let mut wanted = None;
        number(host, key, &mut wanted)?;
        if let Some(wanted) = wanted
            && wanted != compiled
        {
            return Err(LoadError::usage(format!(
                "{key} cannot be set to {wanted}: the script was compiled with {compiled}"
            ))
            .hint(format!(
                "compile the script again with {} set",
                variable(key)
            )));
        }
    }
    Ok(Settings(config))
}

fn variable(key: &str) -> String {
    format!("BPFTRACE_{}", key.to_ascii_uppercase())
}

fn read(host: &dyn Host, key: &str) -> Option<String> {
    host.env(&variable(key))
}

/// Only the names of today count: variables that old releases read (`BPFTRACE_STRLEN`) are set in many
/// places still, and mean nothing any more.
fn number(host: &dyn Host, key: &str, value: &mut Option<u64>) -> Result<(), LoadError> {
    if let Some(text) = read(host, key) {
        let parsed = parse_unsigned(text.trim())
            .map_err(|_| LoadError::usage(format!("{key}: expecting a number, got {text}")))?;
        *value = Some(parsed);
    }
    Ok(())
}

fn boolean(host: &dyn Host, key: &str, value: &mut Option<bool>) -> Result<(), LoadError> {
    if let Some(text) = read(host, key) {
        let parsed = parse_bool(text.trim()).ok_or_else(|| {
            LoadError::usage(format!(
                "{key}: Invalid bool value: valid values are true, false, 1 or 0."
            ))
        })?;
        *value = Some(parsed);
    }
    Ok(())
}
