//! The config block, and the overrides that win over it.

use bpftrace_ast::diag::Diagnostic;
use bpftrace_ast::node::{Config, ConfigEntry, ConfigValue};
use bpftrace_ast::source::Span;
use bpftrace_meta::{CacheUserSymbols, MissingProbes, RunConfig, StackMode};

use crate::{SemaOptions, codes, suggest};

/// Settings of the script.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// What only matters at run time.
    pub(crate) run: RunConfig,
    /// License of the programs.
    pub(crate) license: String,
    /// Bytes of a string whose length nothing says.
    pub(crate) max_strlen: u32,
    /// Bytes of the largest value on the BPF stack.
    pub(crate) on_stack_limit: u32,
    /// How stacks are rendered.
    pub(crate) stack_mode: StackMode,
    /// Most programs.
    pub(crate) max_bpf_progs: u64,
    /// `unstable_tseries`.
    pub(crate) tseries: Unstable,
    /// `unstable_typeinfo`.
    pub(crate) typeinfo: Unstable,
    /// `unstable_dw_ustack`.
    pub(crate) dw_ustack: Unstable,
    /// Scalar map, without its `@`, in which the script keeps the time (nanoseconds) that time series go
    /// by (`BPFTRACE_DUMMY_TS_MAP`); `None`: the clock. Makes what a series shows repeatable.
    pub(crate) time_map: Option<String>,
}

/// A value of a setting, for scripts to read.
pub(crate) enum SettingValue {
    Number(u64),
    Bool(bool),
    Text(String),
}

/// What to do about the use of an unstable feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unstable {
    Enable,
    Warn,
    Error,
}

const LICENSES: &[&str] = &[
    "Dual MIT/GPL",
    "Dual BSD/GPL",
    "Dual MPL/GPL",
    "GPL and additional rights",
    "GPL v2",
    "GPL",
];

/// Keys that a config block takes.
const KEYS: &[&str] = &[
    "cache_user_symbols",
    "cpp_demangle",
    "lazy_symbolication",
    "license",
    "log_size",
    "max_bpf_progs",
    "max_cat_bytes",
    "max_map_keys",
    "max_probes",
    "max_strlen",
    "missing_probes",
    "on_stack_limit",
    "perf_rb_pages",
    "print_maps_on_exit",
    "show_debug_info",
    "stack_mode",
    "str_trunc_trailer",
    "use_blazesym",
    "unstable_import_statement",
    "unstable_tseries",
    "unstable_typeinfo",
    "unstable_dw_ustack",
];

/// Keys without effect.
const RETIRED: &[&str] = &[
    "symbol_source",
    "max_type_res_iterations",
    "unstable_addr",
    "unstable_import",
    "unstable_macro",
    "unstable_map_decl",
];

/// Old names of keys.
const RENAMED: &[(&str, &str)] = &[
    ("strlen", "max_strlen"),
    ("no_cpp_demangle", "cpp_demangle"),
    ("cat_bytes_max", "max_cat_bytes"),
    ("map_keys_max", "max_map_keys"),
];

/// Variables of the environment that a config block cannot set.
const ENVIRONMENT_ONLY: &[&str] = &[
    "btf",
    "dummy_ts_map",
    "kernel_build",
    "kernel_source",
    "vmlinux",
];

/// Code that handles single values cannot be larger than this.
const MAX_STRLEN_LIMIT: u64 = 1 << 20;

/// Reads the config block.
pub(crate) fn read_config(
    block: Option<&Config>,
    options: &SemaOptions,
    diags: &mut Vec<Diagnostic>,
) -> Settings {
    let mut settings = Settings {
        run: RunConfig::default(),
        license: "GPL".to_owned(),
        max_strlen: 1024,
        on_stack_limit: 32,
        stack_mode: StackMode::Bpftrace,
        max_bpf_progs: 1024,
        tseries: Unstable::Warn,
        typeinfo: Unstable::Error,
        dw_ustack: Unstable::Warn,
        time_map: None,
    };
    for entry in block.iter().flat_map(|config| &config.entries) {
        read_entry(entry, &mut settings, diags);
    }
    for (key, value) in &options.overrides {
        let key = canonical(key);
        // What only matters at run time is read again on the target.
        let shapes_code = matches!(
            key.as_str(),
            "max_strlen"
                | "on_stack_limit"
                | "stack_mode"
                | "license"
                | "max_bpf_progs"
                | "dummy_ts_map"
        ) || key.starts_with("unstable_");
        if shapes_code && let Err(message) = set(&mut settings, &key, &key, &Word::Text(value)) {
            diags.push(Diagnostic::new(
                bpftrace_ast::diag::Severity::Error,
                codes::CONFIG,
                None,
                message,
            ));
        }
    }
    settings
}

impl Settings {
    /// What `config` reads: the keys that have values, as the script and the compiler's environment set them.
    pub(crate) fn values(&self) -> Vec<(&'static str, SettingValue)> {
        use SettingValue::{Bool, Number, Text};
        let run = &self.run;
        let cached = match run.cache_user_symbols {
            None | Some(CacheUserSymbols::PerPid) => "PER_PID",
            Some(CacheUserSymbols::PerProgram) => "PER_PROGRAM",
            Some(CacheUserSymbols::None) => "NONE",
        };
        let missing = match run.missing_probes {
            None | Some(MissingProbes::Error) => "error",
            Some(MissingProbes::Warn) => "warn",
            Some(MissingProbes::Ignore) => "ignore",
        };
        let stack_mode = match self.stack_mode {
            StackMode::Bpftrace => "bpftrace",
            StackMode::Perf => "perf",
            StackMode::Raw => "raw",
            StackMode::BuildId => "build_id",
        };
        let trailer = run.str_trunc_trailer.as_deref().unwrap_or("..");
        vec![
            ("cache_user_symbols", Text(cached.to_owned())),
            ("cpp_demangle", Bool(run.cpp_demangle.unwrap_or(true))),
            (
                "lazy_symbolication",
                Bool(run.lazy_symbolication.unwrap_or(true)),
            ),
            ("license", Text(self.license.clone())),
            ("log_size", Number(run.log_size.unwrap_or(1_000_000))),
            ("max_bpf_progs", Number(self.max_bpf_progs)),
            ("max_cat_bytes", Number(run.max_cat_bytes.unwrap_or(10_240))),
            ("max_map_keys", Number(run.max_map_keys.unwrap_or(4_096))),
            ("max_probes", Number(run.max_probes.unwrap_or(1_024))),
            ("max_strlen", Number(u64::from(self.max_strlen))),
            ("missing_probes", Text(missing.to_owned())),
            ("on_stack_limit", Number(u64::from(self.on_stack_limit))),
            ("perf_rb_pages", Number(run.perf_rb_pages.unwrap_or(0))),
            (
                "print_maps_on_exit",
                Bool(run.print_maps_on_exit.unwrap_or(true)),
            ),
            ("show_debug_info", Bool(run.show_debug_info.unwrap_or(true))),
            ("stack_mode", Text(stack_mode.to_owned())),
            ("str_trunc_trailer", Text(trailer.to_owned())),
            ("use_blazesym", Bool(true)),
        ]
    }
}

fn canonical(key: &str) -> String {
    let key = key.to_ascii_lowercase();
    key.strip_prefix("bpftrace_").unwrap_or(&key).to_owned()
}

fn read_entry(entry: &ConfigEntry, settings: &mut Settings, diags: &mut Vec<Diagnostic>) {
    let written = &entry.key.name;
    let mut key = canonical(written);
    let mut renamed = false;
    let warn = |diags: &mut Vec<Diagnostic>, span: Span, message: String| {
        diags.push(Diagnostic::warning(codes::CONFIG, span, message));
    };
    if RETIRED.contains(&key.as_str()) {
        warn(
            diags,
            entry.span,
            format!("{written} is deprecated and has no effect"),
        );
        return;
    }
    if ENVIRONMENT_ONLY.contains(&key.as_str()) {
        diags.push(Diagnostic::error(
            codes::CONFIG,
            entry.span,
            format!("{written}: can only be set as an environment variable"),
        ));
        return;
    }
    if let Some((_, new)) = RENAMED.iter().find(|(old, _)| *old == key) {
        warn(
            diags,
            entry.span,
            format!("{written} has been renamed, please use {new}"),
        );
        key = (*new).to_owned();
        renamed = true;
    }
    if !KEYS.contains(&key.as_str()) {
        let mut diag = Diagnostic::error(
            codes::CONFIG,
            entry.span,
            format!("{written}: not a known configuration option"),
        );
        if let Some(near) = suggest::nearest(&key, KEYS.iter().copied()) {
            diag = diag.with_hint(format!("Did you mean: {near}?"));
        }
        diags.push(diag);
        return;
    }
    let text;
    let word = match &entry.value {
        ConfigValue::String(lit) => {
            text = lit.to_text().into_owned();
            Word::Text(&text)
        }
        ConfigValue::Bool(b) => Word::Integer(u64::from(*b)),
        ConfigValue::Integer(lit) => Word::Integer(lit.value),
        ConfigValue::Word(word) => Word::Text(word),
    };
    let shown = if renamed { key.as_str() } else { written };
    if let Err(message) = set(settings, &key, shown, &word) {
        diags.push(Diagnostic::error(codes::CONFIG, entry.span, message));
    }
}

enum Word<'a> {
    Text(&'a str),
    Integer(u64),
}

impl Word<'_> {
    fn text(&self) -> String {
        match self {
            Word::Text(text) => (*text).to_owned(),
            Word::Integer(n) => n.to_string(),
        }
    }

    fn number(&self, key: &str) -> Result<u64, String> {
        match self {
            Word::Integer(n) => Ok(*n),
            Word::Text(text) => bpftrace_notation::parse_uint(text.trim())
                .map_err(|_| format!("{key}: expecting a number, got {text}")),
        }
    }

    fn boolean(&self, key: &str) -> Result<bool, String> {
        if let Word::Integer(n) = self {
            return Ok(*n != 0);
        }
        match self.text().to_ascii_lowercase().as_str() {
            "1" | "true" | "on" | "yes" => Ok(true),
            "0" | "false" | "off" | "no" => Ok(false),
            _ => Err(format!(
                "{key}: Invalid bool value: valid values are true, false, 1 or 0."
            )),
        }
    }

    fn unstable(&self, key: &str) -> Result<Unstable, String> {
        if let Word::Integer(n) = self {
            return Ok(if *n == 0 {
                Unstable::Error
            } else {
                Unstable::Enable
            });
        }
        match self.text().to_ascii_lowercase().as_str() {
            "enable" | "1" | "true" | "on" | "yes" => Ok(Unstable::Enable),
            "warn" => Ok(Unstable::Warn),
            "error" | "0" | "false" | "off" | "no" => Ok(Unstable::Error),
            _ => Err(format!(
                "{key}: Invalid value for unstable config: valid values are enable, warn, and error."
            )),
        }
    }
}

/// Sets what a key stands for; `written` is how the script has it.
fn set(settings: &mut Settings, key: &str, written: &str, word: &Word<'_>) -> Result<(), String> {
    let run = &mut settings.run;
    match key {
        "cache_user_symbols" => {
            run.cache_user_symbols = Some(match word.text().to_ascii_uppercase().as_str() {
                "PER_PID" => CacheUserSymbols::PerPid,
                "PER_PROGRAM" => CacheUserSymbols::PerProgram,
                "NONE" | "0" => CacheUserSymbols::None,
                "1" => return Ok(()),
                _ => {
                    return Err(format!(
                        "{written}: Invalid value for cache_user_symbols: valid values are PER_PID, \
                         PER_PROGRAM, and NONE."
                    ));
                }
            });
        }
        "cpp_demangle" => run.cpp_demangle = Some(word.boolean(written)?),
        "lazy_symbolication" => run.lazy_symbolication = Some(word.boolean(written)?),
        "license" => {
            let text = word.text();
            if !LICENSES.contains(&text.as_str()) {
                return Err(format!(
                    "Invalid value for license. Found: {text}. Valid values: {}. Read more about BPF \
                     programs and licensing: https://docs.kernel.org/bpf/bpf_licensing.html\
                     #using-bpf-programs-in-the-linux-kernel",
                    LICENSES.join(", ")
                ));
            }
            settings.license = text;
        }
        "log_size" => run.log_size = Some(word.number(written)?),
        "max_bpf_progs" => {
            settings.max_bpf_progs = word.number(written)?;
            run.max_bpf_progs = Some(settings.max_bpf_progs);
        }
        "max_cat_bytes" => run.max_cat_bytes = Some(word.number(written)?),
        "max_map_keys" => run.max_map_keys = Some(word.number(written)?),
        "max_probes" => run.max_probes = Some(word.number(written)?),
        "max_strlen" => {
            let n = word.number(written)?;
            if n == 0 || n > MAX_STRLEN_LIMIT {
                return Err(format!(
                    "{written}: must be 1 to {MAX_STRLEN_LIMIT}, got {n}"
                ));
            }
            settings.max_strlen = u32::try_from(n).unwrap_or(u32::MAX);
        }
        "missing_probes" => {
            run.missing_probes = Some(match word.text().to_ascii_lowercase().as_str() {
                "error" => MissingProbes::Error,
                "warn" => MissingProbes::Warn,
                "ignore" => MissingProbes::Ignore,
                _ => {
                    return Err(format!(
                        "{written}: Invalid value for missing_probes: valid values are ignore, warn, \
                         and error."
                    ));
                }
            });
        }
        "on_stack_limit" => {
            settings.on_stack_limit = u32::try_from(word.number(written)?.min(512)).unwrap_or(512);
        }
        "perf_rb_pages" => run.perf_rb_pages = Some(word.number(written)?),
        "print_maps_on_exit" => run.print_maps_on_exit = Some(word.boolean(written)?),
        "show_debug_info" => run.show_debug_info = Some(word.boolean(written)?),
        "stack_mode" => {
            settings.stack_mode = parse_stack_mode(&word.text()).ok_or_else(|| {
                format!(
                    "{written}: Invalid value for stack_mode: valid values are bpftrace, raw, perf, and \
                     build_id."
                )
            })?;
        }
        "str_trunc_trailer" => run.str_trunc_trailer = Some(word.text()),
        "dummy_ts_map" => {
            settings.time_map = Some(word.text().trim_start_matches('@').to_owned());
        }
        "use_blazesym" => {
            word.boolean(written)?;
        }
        "unstable_import_statement" => {
            word.unstable(written)?;
        }
        "unstable_tseries" => settings.tseries = word.unstable(written)?,
        "unstable_typeinfo" => settings.typeinfo = word.unstable(written)?,
        "unstable_dw_ustack" => settings.dw_ustack = word.unstable(written)?,
        // Overrides of keys that no config block knows.
        _ => {}
    }
    Ok(())
}

/// A stack mode by its name.
pub(crate) fn parse_stack_mode(text: &str) -> Option<StackMode> {
    Some(match text {
        "bpftrace" => StackMode::Bpftrace,
        "perf" => StackMode::Perf,
        "raw" => StackMode::Raw,
        "build_id" => StackMode::BuildId,
        _ => return None,
    })
}
