//! The command line: `low` is what was typed, this module what it means.

mod low;

use std::path::PathBuf;

use bpftrace_loader::LoadError;
use bpftrace_loader::options::{
    self, DebugStages, Mode, OutputFormat, OutputOptions, RunOptions, Warnings,
};
use bpftrace_loader::print::BufferMode;

pub(crate) use low::{Low, USAGE};

/// What to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// `-h`.
    Help,
    /// `-V`.
    Version,
    /// `--info`.
    Info,
    /// `--explain CODE`.
    Explain(String),
    /// `-l`.
    List(List),
    /// `--fmt`.
    Fmt(Script, Option<PathBuf>),
    /// Compile; then run, or write an executable or an object.
    Compile(Box<Compile>),
}

/// Where the script is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Script {
    /// A file.
    File(PathBuf),
    /// Standard input (`-`).
    Stdin,
    /// `-e`.
    Text(String),
}

/// What to list.
#[derive(Debug)]
pub(crate) struct List {
    /// Patterns; empty: everything.
    pub(crate) pattern: Option<String>,
    /// Attach points of a script.
    pub(crate) script: Option<Script>,
    /// With parameters.
    pub(crate) verbose: bool,
    /// `-p`.
    pub(crate) pid: Option<i32>,
    /// Positional parameters of the script.
    pub(crate) params: Vec<String>,
    /// `--traceable-functions`.
    pub(crate) traceable_functions: Option<PathBuf>,
    /// Directories with debug information (`--debuginfo`).
    pub(crate) debug_dirs: Vec<PathBuf>,
}

/// Stages of the compiler that are shown (`-d`).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ShowStages {
    pub(crate) ast: bool,
    pub(crate) types: bool,
    pub(crate) clif: bool,
    pub(crate) clif_opt: bool,
    pub(crate) vcode: bool,
    pub(crate) bpf: bool,
}

/// What to do with the compiled script.
#[derive(Debug)]
pub(crate) enum Then {
    /// Run it.
    Run,
    /// Write an executable (`--aot`).
    WriteExecutable(PathBuf),
    /// Nothing (`--mode codegen`).
    Nothing,
}

/// A compilation.
#[derive(Debug)]
pub(crate) struct Compile {
    pub(crate) script: Script,
    pub(crate) then: Then,
    /// Also write the BPF object (`--emit-elf`).
    pub(crate) emit_elf: Option<PathBuf>,
    pub(crate) show: ShowStages,
    /// Directories of headers (`-I`).
    pub(crate) include_dirs: Vec<PathBuf>,
    /// Headers that are read first (`--include`).
    pub(crate) includes: Vec<String>,
    pub(crate) run: RunOptions,
    pub(crate) output: OutputOptions,
}

/// A mistake in the command line.
#[derive(Debug)]
pub(crate) struct UsageError {
    pub(crate) message: String,
    /// Whether the list of options follows the message.
    pub(crate) show_usage: bool,
}

impl UsageError {
    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            show_usage: false,
        }
    }

    fn with_usage(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            show_usage: true,
        }
    }
}

impl From<LoadError> for UsageError {
    fn from(error: LoadError) -> Self {
        let text = error.to_string();
        // `main` says that it is an error.
        Self::new(text.strip_prefix("ERROR: ").unwrap_or(&text))
    }
}

/// Makes sense of what was typed.
pub(crate) fn resolve(low: Low) -> Result<Command, UsageError> {
    if low.help {
        return Ok(Command::Help);
    }
    if low.version {
        return Ok(Command::Version);
    }
    if low.info {
        return Ok(Command::Info);
    }
    if let Some(code) = low.explain {
        return Ok(Command::Explain(code));
    }
    if low.pid.is_some() && low.command.is_some() {
        return Err(UsageError::with_usage("USAGE: Cannot use both -c and -p."));
    }
    if low.no_warnings && low.extra_warnings {
        return Err(UsageError::new(
            "USAGE: -k, --warnings conflicts with --no-warnings",
        ));
    }
    let pid = low.pid.as_deref().map(options::parse_pid).transpose()?;
    let dwarf_pids = low.dwarf_pids.iter().map(|pid| options::parse_pid(pid));
    let dwarf_pids = dwarf_pids.collect::<Result<_, _>>()?;
    let mut words = low.words.into_iter();
    if low.list {
        let (pattern, script) = match low.program {
            Some(text) => (None, Some(Script::Text(text))),
            None => {
                let pattern = words.next();
                let file = pattern.as_ref().map(PathBuf::from);
                (pattern, file.filter(|p| p.is_file()).map(Script::File))
            }
        };
        let params: Vec<String> = words.collect();
        if script.is_none() && !params.is_empty() {
            return Err(UsageError::with_usage(
                "USAGE: -l takes one pattern; several are separated by commas.",
            ));
        }
        return Ok(Command::List(List {
            pattern,
            script,
            verbose: low.verbose,
            pid,
            params,
            traceable_functions: low.traceable_functions,
            debug_dirs: low.debug_dirs,
        }));
    }
    let script = match low.program {
        Some(text) => Script::Text(text),
        None => match words.next() {
            Some(word) if word == "-" => Script::Stdin,
            Some(word) => Script::File(PathBuf::from(word)),
            None => {
                return Err(UsageError::with_usage(
                    "USAGE: filename or -e 'program' required.",
                ));
            }
        },
    };
    let mode = low.mode.as_deref();
    if mode == Some("format") {
        return Ok(Command::Fmt(script, low.output));
    }
    let (show, debug) = stages(&low.debug)?;
    let output = OutputOptions {
        file: low.output,
        format: low
            .format
            .as_deref()
            .map_or(Ok(OutputFormat::Text), options::parse_format)?,
        buffering: low
            .buffering
            .as_deref()
            .map_or(Ok(BufferMode::Line), options::parse_buffering)?,
    };
    let run_mode = match mode {
        None | Some("codegen") => Mode::Trace,
        Some("test") => Mode::Test,
        Some("bench") => Mode::Bench,
        Some(other) => {
            return Err(UsageError::new(format!(
                "USAGE: --mode can only be 'codegen', 'bench', 'test' or 'format'. Got: {other}"
            )));
        }
    };
    let no_features = options::parse_features(&low.no_feature.join(","))?;
    let run = RunOptions {
        params: words.collect(),
        named: low.named,
        pid,
        command: low.command,
        quiet: low.quiet,
        verbose: low.verbose,
        dry_run: low.dry_run,
        debug,
        warnings: if low.no_warnings {
            Warnings::Off
        } else if low.extra_warnings {
            Warnings::Extra
        } else {
            Warnings::Default
        },
        unsafe_mode: low.unsafe_mode,
        mode: run_mode,
        probe_filter: low.probe_filter,
        no_features,
        traceable_functions: low.traceable_functions,
        debug_dirs: low.debug_dirs,
        dwarf_pids,
        usdt_file_activation: low.usdt_file_activation,
    };
    let then = match (low.aot, mode) {
        (Some(path), _) => Then::WriteExecutable(path),
        (None, Some("codegen")) => Then::Nothing,
        (None, _) => Then::Run,
    };
    Ok(Command::Compile(Box::new(Compile {
        script,
        then,
        emit_elf: low.emit_elf,
        show,
        include_dirs: low.include_dirs,
        includes: low.includes,
        run,
        output,
    })))
}

/// `-d`: stages separated by commas.
fn stages(lists: &[String]) -> Result<(ShowStages, DebugStages), UsageError> {
    let mut show = ShowStages::default();
    let mut debug = DebugStages {
        libbpf: false,
        verifier: false,
    };
    for name in lists.iter().flat_map(|list| list.split(',')) {
        match name {
            "all" => {
                show = ShowStages {
                    ast: true,
                    types: true,
                    clif: true,
                    clif_opt: true,
                    vcode: true,
                    bpf: true,
                };
                debug = DebugStages {
                    libbpf: true,
                    verifier: true,
                };
            }
            "ast" | "parse" => show.ast = true,
            "types" => show.types = true,
            // Upstream's names of the stages where its code is LLVM's.
            "clif" | "codegen" => show.clif = true,
            "clif-opt" | "codegen-opt" => show.clif_opt = true,
            "vcode" => show.vcode = true,
            "bpf" | "dis" => show.bpf = true,
            "libbpf" => debug.libbpf = true,
            "verifier" => debug.verifier = true,
            other => {
                return Err(UsageError::new(format!(
                    "USAGE: invalid option for -d: {other}\n\
                     Valid stages: all, ast, types, clif, clif-opt, vcode, bpf, libbpf, verifier"
                )));
            }
        }
    }
    Ok((show, debug))
}
