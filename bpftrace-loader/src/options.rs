//! How a session is run: what was asked for on the command line, resolved.

mod args;

use std::io::IsTerminal as _;
use std::path::PathBuf;

use bpftrace_meta::Feature;

use crate::error::{LoadError, describe_errno};
use crate::host::Host;
use crate::print::{BufferMode, JsonSink, ScriptOutput, Sink, TextSink};

pub use args::{
    NamedParam, RUNTIME_HELP, Request, parse, parse_buffering, parse_directories, parse_features,
    parse_format, parse_params, parse_pid,
};

/// Which run-time warnings are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warnings {
    /// `--no-warnings`: none.
    Off,
    /// Those of map updates and the like.
    Default,
    /// `-k`: failed reads and map look-ups too.
    Extra,
}

/// What is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The probes.
    Trace,
    /// `--test`: the `test` probes.
    Test,
    /// `--bench`: the `bench` probes.
    Bench,
}

/// Stages whose inner workings are shown (`-d`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DebugStages {
    /// What libbpf says.
    pub libbpf: bool,
    /// The verifier's log of programs that load.
    pub verifier: bool,
}

/// Everything about an invocation that the loader has to know. There is no default: who starts a
/// session decides each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOptions {
    /// Positional parameters, `$1` first.
    pub params: Vec<String>,
    /// Named parameters, without dashes, and their values.
    pub named: Vec<(String, Option<String>)>,
    /// Process to trace (`-p`).
    pub pid: Option<i32>,
    /// Command to run and trace (`-c`).
    pub command: Option<String>,
    /// Do not say what was attached (`-q`).
    pub quiet: bool,
    /// Show the whole verifier log on failure (`-v`).
    pub verbose: bool,
    /// Load and attach, then end (`--dry-run`).
    pub dry_run: bool,
    /// Stages to show.
    pub debug: DebugStages,
    /// Run-time warnings.
    pub warnings: Warnings,
    /// Leave out safety checks of attach points (`--unsafe`).
    pub unsafe_mode: bool,
    /// What to run.
    pub mode: Mode,
    /// Regular expression that names of attached targets have to match (`--probe-filter`).
    pub probe_filter: Option<String>,
    /// Features to do without (`--no-feature`).
    pub no_features: Vec<Feature>,
    /// File in place of `available_filter_functions`.
    pub traceable_functions: Option<PathBuf>,
    /// Directories with split debug information (`--debuginfo`); empty: the usual ones.
    pub debug_dirs: Vec<PathBuf>,
    /// Processes, besides the traced one, whose stacks can be unwound (`--dwarf-pid`).
    pub dwarf_pids: Vec<i32>,
    /// Activate USDT semaphores through the files of running processes.
    pub usdt_file_activation: bool,
}

/// How output of the script looks (`-f`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where output of the script goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputOptions {
    /// File in place of standard output (`-o`).
    pub file: Option<PathBuf>,
    /// Format (`-f`).
    pub format: OutputFormat,
    /// Buffering (`-B`).
    pub buffering: BufferMode,
}

/// Opens the output of a session.
///
/// # Errors
/// When the file cannot be made.
pub fn open_sink(options: &OutputOptions, host: &dyn Host) -> Result<Box<dyn Sink>, LoadError> {
    let output = match &options.file {
        None => ScriptOutput::stdout(options.buffering),
        Some(path) => ScriptOutput::file(path, options.buffering).map_err(|e| {
            LoadError::usage(format!(
                "Failed to open output file: \"{}\": {}",
                path.display(),
                describe_errno(&e)
            ))
        })?,
    };
    Ok(match options.format {
        OutputFormat::Text => Box::new(TextSink::new(output, wants_color(host))),
        OutputFormat::Json => Box::new(JsonSink::new(output)),
    })
}

/// What is wrong with `BPFTRACE_COLOR`.
pub(crate) fn wrong_color(host: &dyn Host) -> Option<String> {
    let value = host.env("BPFTRACE_COLOR")?;
    (!matches!(value.as_str(), "auto" | "always" | "never")).then(|| {
        format!(
            "Invalid env value! The valid values of `BPFTRACE_COLOR` are [auto|always|never]. The current \
             value is {value}!"
        )
    })
}

/// Whether messages are coloured: as `BPFTRACE_COLOR` says, by default when standard output and
/// standard error are terminals.
#[must_use]
pub fn wants_color(host: &dyn Host) -> bool {
    match host.env("BPFTRACE_COLOR").as_deref() {
        Some("always") => true,
        Some("never") => false,
        _ => std::io::stdout().is_terminal() && std::io::stderr().is_terminal(),
    }
}
