//! Words of a command line as run-time options. The compiler's command line and ahead-of-time
//! executables share what each option means; the latter are parsed here whole.

use std::path::PathBuf;

use bpftrace_meta::Feature;

use super::{DebugStages, Mode, OutputFormat, OutputOptions, RunOptions, Warnings};
use crate::error::LoadError;
use crate::features;
use crate::print::BufferMode;

/// Highest pid that is looked for.
const MAX_PID: u64 = 0x40_0000;

/// What the user of an ahead-of-time executable wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Run the script.
    Run(Box<RunOptions>, OutputOptions),
    /// Show how the executable is used.
    Help,
    /// Show the version.
    Version,
    /// Show what is in the executable.
    Manifest,
}

/// The run-time options, for `--help`.
pub const RUNTIME_HELP: &str = "\
    -B MODE          output buffering mode ('line', 'full' or 'none')
    -c 'CMD'         run CMD and trace it
    -d STAGE         show debug information ('libbpf', 'verifier', 'all')
    -f FORMAT        output format ('text' or 'json')
    -h, --help       show this help
    -k               report failed reads and map look-ups (of a script compiled with -k)
    -o FILE          write the script's output to FILE
    -p PID           trace the process PID
    -q               say nothing about what was attached
    -v               show the whole kernel log on failure
    -V, --version    show the version
    --manifest       show what the executable contains, as JSON
    --bench          run the benchmark probes
    --debuginfo DIRS directories with split debug information
    --dry-run        load and attach, then end
    --dwarf-pid PID  let dw_ustack unwind stacks of the process PID too
    --no-feature LIST  features to do without, separated by commas
    --no-warnings    report no warnings
    --probe-filter REGEX  only probes whose name matches
    --test           run the test probes
    --traceable-functions FILE  list of functions that can be traced
    --unsafe         leave out safety checks of attach points
    --usdt-file-activation  accepted; USDT semaphores always go by file
";

/// A pid as `-p` takes it.
pub fn parse_pid(text: &str) -> Result<i32, LoadError> {
    match bpftrace_notation::parse_uint(text) {
        Ok(pid) if pid > MAX_PID => Err(LoadError::usage(format!("Pid out of range: {text}"))),
        Ok(pid) => Ok(pid as i32),
        Err(error) => Err(LoadError::usage(format!("Failed to parse pid: {error}"))),
    }
}

/// An output format as `-f` takes it.
pub fn parse_format(text: &str) -> Result<OutputFormat, LoadError> {
    match text {
        "text" => Ok(OutputFormat::Text),
        "json" => Ok(OutputFormat::Json),
        _ => Err(
            LoadError::usage(format!("Invalid output format \"{text}\""))
                .note("Valid formats: 'text', 'json'"),
        ),
    }
}

/// A buffering mode as `-B` takes it.
pub fn parse_buffering(text: &str) -> Result<BufferMode, LoadError> {
    match text {
        "line" => Ok(BufferMode::Line),
        "full" => Ok(BufferMode::Full),
        "none" => Ok(BufferMode::None),
        _ => Err(LoadError::usage(format!(
            "USAGE: -B must be either 'line', 'full', or 'none'. Got: {text}"
        ))),
    }
}

/// Features as `--no-feature` takes them.
pub fn parse_features(text: &str) -> Result<Vec<Feature>, LoadError> {
    text.split(',')
        .filter(|name| !name.is_empty())
        .map(|name| {
            features::by_name(name).ok_or_else(|| {
                LoadError::usage(format!(
                    "USAGE: --no-feature can only have values 'kprobe_multi,kprobe_session,\
                     uprobe_multi' and other names that --info shows. Got: {name}"
                ))
            })
        })
        .collect()
}

/// Directories as `--debuginfo` takes them.
#[must_use]
pub fn parse_directories(text: &str) -> Vec<PathBuf> {
    text.split(':')
        .filter(|directory| !directory.is_empty())
        .map(PathBuf::from)
        .collect()
}

/// Positional and named parameters of a script, out of the words behind it.
pub fn parse_params(words: impl IntoIterator<Item = String>) -> (Vec<String>, Vec<NamedParam>) {
    let (mut positional, mut named) = (Vec::new(), Vec::new());
    for word in words {
        match word.strip_prefix("--") {
            Some(param) if !param.is_empty() => named.push(split_named(param)),
            _ => positional.push(word),
        }
    }
    (positional, named)
}

/// Name, without dashes, and value of a named parameter.
pub type NamedParam = (String, Option<String>);

fn split_named(param: &str) -> NamedParam {
    match param.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (param.to_owned(), None),
    }
}

/// Reads the command line of an ahead-of-time executable, its own name left out.
///
/// Options and parameters come in any order until `--`, behind which there are only parameters. A
/// long option that is not one of the runtime's is a named parameter of the script.
pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Request, LoadError> {
    let mut words = words.into_iter();
    let mut run = RunOptions {
        params: Vec::new(),
        named: Vec::new(),
        pid: None,
        command: None,
        quiet: false,
        verbose: false,
        dry_run: false,
        debug: DebugStages {
            libbpf: false,
            verifier: false,
        },
        warnings: Warnings::Default,
        unsafe_mode: false,
        mode: Mode::Trace,
        probe_filter: None,
        no_features: Vec::new(),
        traceable_functions: None,
        debug_dirs: Vec::new(),
        dwarf_pids: Vec::new(),
        usdt_file_activation: false,
    };
    let mut output = OutputOptions {
        file: None,
        format: OutputFormat::Text,
        buffering: BufferMode::Line,
    };
    while let Some(word) = words.next() {
        if word == "--" {
            let (params, named) = parse_params(words);
            run.params.extend(params);
            run.named.extend(named);
            break;
        }
        if let Some(long) = word.strip_prefix("--") {
            let (name, value) = split_named(long);
            match short_of(&name) {
                Some(letter) if takes_value(letter) => {
                    let value = value.or_else(|| words.next());
                    let value = value.ok_or_else(|| missing_value(&word))?;
                    set_value(&mut run, &mut output, letter, value)?;
                }
                Some(letter) if value.is_none() => {
                    if let Some(request) = set_flag(&mut run, letter) {
                        return Ok(request);
                    }
                }
                Some(_) => {
                    return Err(LoadError::usage(format!(
                        "option '--{name}' does not take a value"
                    )));
                }
                None => run.named.push((name, value)),
            }
            continue;
        }
        let letters = match word.strip_prefix('-') {
            Some(letters) if !letters.is_empty() => letters,
            _ => {
                run.params.push(word);
                continue;
            }
        };
        let mut rest = letters.chars();
        while let Some(letter) = rest.next() {
            if !is_short(letter) {
                return Err(LoadError::usage(format!("invalid option -- '{letter}'"))
                    .hint("parameters of the script that start with '-' go behind '--'"));
            }
            if takes_value(letter) {
                let value = rest.as_str();
                let value = if value.is_empty() {
                    words.next().ok_or_else(|| missing_value(&word))?
                } else {
                    value.to_owned()
                };
                set_value(&mut run, &mut output, letter, value)?;
                break;
            }
            if let Some(request) = set_flag(&mut run, letter) {
                return Ok(request);
            }
        }
    }
    if run.pid.is_some() && run.command.is_some() {
        return Err(LoadError::usage("USAGE: Cannot use both -c and -p."));
    }
    Ok(Request::Run(Box::new(run), output))
}

fn missing_value(word: &str) -> LoadError {
    LoadError::usage(format!("option requires an argument -- '{word}'"))
}

/// The letter of a long option; those without one have an upper-case letter that is not an option.
fn short_of(name: &str) -> Option<char> {
    Some(match name {
        "help" => 'h',
        "version" => 'V',
        "output" => 'o',
        "quiet" => 'q',
        "verbose" => 'v',
        "debug" => 'd',
        "pid" => 'p',
        "cmd" => 'c',
        "warnings" => 'k',
        "manifest" => 'M',
        "bench" => 'N',
        "test" => 'T',
        "debuginfo" => 'D',
        "dry-run" => 'R',
        "dwarf-pid" => 'Y',
        "no-feature" => 'F',
        "no-warnings" => 'W',
        "probe-filter" => 'P',
        "traceable-functions" => 'A',
        "unsafe" => 'U',
        "usdt-file-activation" => 'S',
        _ => return None,
    })
}

fn is_short(letter: char) -> bool {
    "hVoqvdpckfB".contains(letter)
}

fn takes_value(letter: char) -> bool {
    "odpcfBDFPAY".contains(letter)
}

fn set_flag(run: &mut RunOptions, letter: char) -> Option<Request> {
    match letter {
        'h' => return Some(Request::Help),
        'V' => return Some(Request::Version),
        'M' => return Some(Request::Manifest),
        'q' => run.quiet = true,
        'v' => run.verbose = true,
        'k' => run.warnings = Warnings::Extra,
        'W' => run.warnings = Warnings::Off,
        'N' => run.mode = Mode::Bench,
        'T' => run.mode = Mode::Test,
        'R' => run.dry_run = true,
        'U' => run.unsafe_mode = true,
        'S' => run.usdt_file_activation = true,
        _ => {}
    }
    None
}

fn set_value(
    run: &mut RunOptions,
    output: &mut OutputOptions,
    letter: char,
    value: String,
) -> Result<(), LoadError> {
    match letter {
        'o' => output.file = Some(value.into()),
        'f' => output.format = parse_format(&value)?,
        'B' => output.buffering = parse_buffering(&value)?,
        'p' => run.pid = Some(parse_pid(&value)?),
        'c' => run.command = Some(value),
        'd' => {
            for stage in value.split(',') {
                match stage {
                    "libbpf" => run.debug.libbpf = true,
                    "verifier" => run.debug.verifier = true,
                    "all" => {
                        run.debug = DebugStages {
                            libbpf: true,
                            verifier: true,
                        }
                    }
                    _ => {
                        return Err(LoadError::usage(format!(
                            "USAGE: invalid option for -d: {stage}"
                        )));
                    }
                }
            }
        }
        'D' => run.debug_dirs = parse_directories(&value),
        'F' => run.no_features = parse_features(&value)?,
        'P' => run.probe_filter = Some(value),
        'Y' => run.dwarf_pids.push(parse_pid(&value)?),
        'A' => run.traceable_functions = Some(value.into()),
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(words: &[&str]) -> (RunOptions, OutputOptions) {
        match parse(words.iter().map(|word| (*word).to_owned())).unwrap() {
            Request::Run(run, output) => (*run, output),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_and_parameters_mix_until_two_dashes() {
        let (options, output) = run(&[
            "one", "-qp", "7", "--aa", "-fjson", "two", "--bb=3", "--", "--quiet", "-x", "--",
        ]);
        assert_eq!(options.params, ["one", "two", "-x", "--"]);
        assert_eq!(
            options.named,
            [
                ("aa".to_owned(), None),
                ("bb".to_owned(), Some("3".to_owned())),
                ("quiet".to_owned(), None),
            ]
        );
        assert_eq!(options.pid, Some(7));
        assert!(options.quiet);
        assert_eq!(output.format, OutputFormat::Json);
    }

    #[test]
    fn values_stand_apart_or_behind() {
        let (options, output) = run(&["--pid=1", "-o", "f", "-Bnone", "-d", "libbpf,verifier"]);
        assert_eq!(options.pid, Some(1));
        assert_eq!(output.file, Some("f".into()));
        assert_eq!(output.buffering, BufferMode::None);
        assert!(options.debug.libbpf && options.debug.verifier);
    }

    #[test]
    fn mistakes_are_named() {
        let refused = |words: &[&str]| {
            parse(words.iter().map(|word| (*word).to_owned()))
                .unwrap_err()
                .summary()
        };
        assert_eq!(
            refused(&["-p", "abc"]),
            "Failed to parse pid: invalid integer: abc"
        );
        assert_eq!(refused(&["-p", "0x400001"]), "Pid out of range: 0x400001");
        assert_eq!(
            refused(&["-p1", "-c", "true"]),
            "USAGE: Cannot use both -c and -p."
        );
        assert_eq!(refused(&["-z"]), "invalid option -- 'z'");
        assert_eq!(refused(&["-f", "xml"]), "Invalid output format \"xml\"");
        assert_eq!(refused(&["-o"]), "option requires an argument -- '-o'");
    }
}
