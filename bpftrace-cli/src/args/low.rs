//! What was typed, before it is known what it means.

use std::path::PathBuf;

use lexopt::{Arg, Parser, ValueExt as _};

use super::UsageError;

/// The text of `--help`.
pub(crate) const USAGE: &str = "\
USAGE:
    bpftrace [options] filename [parameter...]
    bpftrace [options] - <stdin input>
    bpftrace [options] -e 'program'
    parameters with names (--name=value) go behind --

OPTIONS:
    -e PROGRAM                execute this program
    -l, --list [PATTERN|FILE] list probes, with -v their parameters
    -p, --pid PID             trace this process only
    -c, --cmd COMMAND         run this command, and end when it does
    -o, --output FILE         write the script's output to a file
    -f FORMAT                 output format ('text', 'json')
    -B MODE                   output buffering ('line', 'full', 'none')
    -q, --quiet               do not say what was attached
    -v, --verbose             say more
    -k, --warnings            report failed reads and map look-ups
        --no-warnings         report no warnings at all
        --unsafe              allow unsafe functions and attach points
        --dry-run             load and attach, then end
        --probe-filter REGEX  attach only probes whose names match
    -I DIR                    look for C headers in this directory too
        --include FILE        read this C header before the script
        --usdt-file-activation
                              accepted; USDT semaphores always go by file
        --traceable-functions FILE
                              functions that can be traced, one a line
        --debuginfo DIR[:DIR] search these directories for debug information
        --dwarf-pid PID       let dw_ustack unwind stacks of this process too
        --no-feature LIST     do without kernel features
                              ('kprobe_multi', 'kprobe_session', 'uprobe_multi')
        --mode MODE           'codegen', 'test', 'bench' or 'format'
        --test, --bench, --fmt
                              the same as --mode test, bench, format
    -h, --help                show this help
    -V, --version             show the version
        --info                show what this machine has
        --explain CODE        say what a kind of mistake means ('list': which there are)

AHEAD-OF-TIME COMPILATION:
        --aot FILE            write an executable that runs without this program

DEVELOPMENT:
    -d, --debug STAGE         show a stage: ast, types, clif, clif-opt, vcode, bpf,
                              libbpf, verifier, all
        --emit-elf FILE       write the BPF object

ENVIRONMENT:
    BPFTRACE_<KEY>            configuration, as in a script's config block
    BPFTRACE_BTF              BTF file in place of the running kernel's
    BPFTRACE_KERNEL_SOURCE    directory of the kernel's source, for its headers
    BPFTRACE_KERNEL_BUILD     directory it was built in, when that is another
    BPFTRACE_COLOR            'auto', 'always' or 'never'

EXAMPLES:
    bpftrace -l '*sleep*'
        list probes with \"sleep\" in their names
    bpftrace -e 'kprobe:do_nanosleep { printf(\"PID %d sleeping\\n\", pid); }'
        trace processes that sleep
    bpftrace -e 'tracepoint:raw_syscalls:sys_enter { @[comm] = count(); }' --aot count
        write an executable that counts system calls by process name
";

/// The options as typed.
#[derive(Debug, Default)]
pub(crate) struct Low {
    pub(crate) help: bool,
    pub(crate) version: bool,
    pub(crate) info: bool,
    pub(crate) explain: Option<String>,
    pub(crate) list: bool,
    pub(crate) quiet: bool,
    pub(crate) verbose: bool,
    pub(crate) extra_warnings: bool,
    pub(crate) no_warnings: bool,
    pub(crate) unsafe_mode: bool,
    pub(crate) dry_run: bool,
    pub(crate) usdt_file_activation: bool,
    pub(crate) dwarf_pids: Vec<String>,
    pub(crate) program: Option<String>,
    pub(crate) pid: Option<String>,
    pub(crate) command: Option<String>,
    pub(crate) output: Option<PathBuf>,
    pub(crate) format: Option<String>,
    pub(crate) buffering: Option<String>,
    pub(crate) mode: Option<String>,
    pub(crate) probe_filter: Option<String>,
    pub(crate) traceable_functions: Option<PathBuf>,
    pub(crate) emit_elf: Option<PathBuf>,
    pub(crate) aot: Option<PathBuf>,
    pub(crate) no_feature: Vec<String>,
    pub(crate) include_dirs: Vec<PathBuf>,
    pub(crate) includes: Vec<String>,
    pub(crate) debug_dirs: Vec<PathBuf>,
    pub(crate) debug: Vec<String>,
    /// Words that are not options, in order.
    pub(crate) words: Vec<String>,
    /// Named parameters of the script: options behind a `--`.
    pub(crate) named: Vec<(String, Option<String>)>,
}

impl Low {
    /// Reads the command line. As with GNU `getopt`, options are taken behind the script too, up to
    /// a `--`; what starts with `--` behind that are named parameters of the script.
    pub(crate) fn parse(
        args: impl IntoIterator<Item = std::ffi::OsString>,
    ) -> Result<Self, UsageError> {
        let mut args: Vec<std::ffi::OsString> = args.into_iter().collect();
        let mut low = Self::default();
        let behind = args
            .iter()
            .position(|arg| arg == "--")
            .map(|at| args.split_off(at));
        let mut parser = Parser::from_args(args);
        while let Some(arg) = parser.next().map_err(bad)?.map(Taken::from) {
            low.take(&mut parser, &arg)?;
        }
        for arg in behind.unwrap_or_default().into_iter().skip(1) {
            let word = arg.string().map_err(bad)?;
            match word.strip_prefix("--") {
                Some(option) => {
                    let (name, value) = match option.split_once('=') {
                        Some((name, value)) => (name, Some(value.to_owned())),
                        None => (option, None),
                    };
                    low.named.push((name.to_owned(), value));
                }
                None => low.words.push(word),
            }
        }
        Ok(low)
    }

    fn take(&mut self, parser: &mut Parser, arg: &Taken) -> Result<(), UsageError> {
        let mut text = || parser.value().and_then(|v| v.string()).map_err(bad);
        match arg {
            Taken::Word(word) => self.words.push(word.clone()),
            Taken::Short(c) => match c {
                'h' => self.help = true,
                'V' => self.version = true,
                'l' => self.list = true,
                'q' => self.quiet = true,
                'v' => self.verbose = true,
                // Twice, it once said more.
                'k' if self.extra_warnings => {
                    return Err(UsageError::new(
                        "USAGE: -kk has been deprecated. Use a single -k for runtime warnings for errors in \
                         map lookups and probe reads.",
                    ));
                }
                'k' => self.extra_warnings = true,
                'b' => {}
                'e' => self.program = Some(text()?),
                'p' => self.pid = Some(text()?),
                'c' => self.command = Some(text()?),
                'o' => self.output = Some(text()?.into()),
                'f' => self.format = Some(text()?),
                'B' => self.buffering = Some(text()?),
                'd' => self.debug.push(text()?),
                'I' => self.include_dirs.push(text()?.into()),
                other => {
                    return Err(UsageError::with_usage(format!(
                        "invalid option -- '{other}'"
                    )));
                }
            },
            Taken::Long(name) => match whole_name(name)? {
                "help" => self.help = true,
                "version" => self.version = true,
                "info" => self.info = true,
                "explain" => self.explain = Some(text()?),
                "list" => self.list = true,
                "quiet" => self.quiet = true,
                "verbose" => self.verbose = true,
                "warnings" => self.extra_warnings = true,
                "no-warnings" => self.no_warnings = true,
                "unsafe" => self.unsafe_mode = true,
                "dry-run" => self.dry_run = true,
                "usdt-file-activation" => self.usdt_file_activation = true,
                // Accepted for the sake of scripts that call upstream's: they have no effect here.
                "btf" | "verify-llvm-ir" => {}
                "pid" => self.pid = Some(text()?),
                "cmd" => self.command = Some(text()?),
                "output" => self.output = Some(text()?.into()),
                "debug" => self.debug.push(text()?),
                "include" => self.includes.push(text()?),
                "probe-filter" => self.probe_filter = Some(text()?),
                "traceable-functions" => self.traceable_functions = Some(text()?.into()),
                "emit-elf" => self.emit_elf = Some(text()?.into()),
                "emit-llvm" => {
                    return Err(UsageError::new(
                        "--emit-llvm: there is no LLVM here; see -d clif and --emit-elf",
                    ));
                }
                "debuginfo" => {
                    let dirs = text()?;
                    self.debug_dirs.extend(dirs.split(':').map(PathBuf::from));
                }
                "dwarf-pid" => self.dwarf_pids.push(text()?),
                "aot" => self.aot = Some(text()?.into()),
                "no-feature" => self.no_feature.push(text()?),
                "mode" => {
                    let mode = text()?;
                    self.set_mode(&mode, "mode")?;
                }
                mode @ ("test" | "bench") => self.set_mode(mode, mode)?,
                "fmt" => self.set_mode("format", "fmt")?,
                other => {
                    return Err(UsageError::with_usage(format!(
                        "unrecognized option '--{other}'"
                    )));
                }
            },
        }
        Ok(())
    }

    fn set_mode(&mut self, mode: &str, option: &str) -> Result<(), UsageError> {
        if self.mode.as_deref().is_some_and(|old| old != mode) {
            return Err(UsageError::new(format!(
                "USAGE: --{option} conflicts with existing --mode"
            )));
        }
        self.mode = Some(mode.to_owned());
        Ok(())
    }
}

/// Long options.
const LONG: [&str; 31] = [
    "aot",
    "bench",
    "btf",
    "cmd",
    "debug",
    "debuginfo",
    "dry-run",
    "dwarf-pid",
    "emit-elf",
    "emit-llvm",
    "explain",
    "fmt",
    "help",
    "include",
    "info",
    "list",
    "mode",
    "no-feature",
    "no-warnings",
    "output",
    "pid",
    "probe-filter",
    "quiet",
    "test",
    "traceable-functions",
    "unsafe",
    "usdt-file-activation",
    "verbose",
    "verify-llvm-ir",
    "version",
    "warnings",
];

/// The long option that a word begins, as GNU `getopt` has it; a word that begins none is given back.
fn whole_name(word: &str) -> Result<&str, UsageError> {
    let found: Vec<&str> = LONG
        .into_iter()
        .filter(|name| name.starts_with(word))
        .collect();
    match found[..] {
        _ if found.contains(&word) => Ok(word),
        [] => Ok(word),
        [one] => Ok(one),
        _ => {
            let all: String = found.iter().map(|name| format!(" '--{name}'")).collect();
            Err(UsageError::with_usage(format!(
                "option '--{word}' is ambiguous; possibilities:{all}"
            )))
        }
    }
}

/// An argument that no longer borrows from the parser.
enum Taken {
    Short(char),
    Long(String),
    Word(String),
}

impl From<Arg<'_>> for Taken {
    fn from(arg: Arg<'_>) -> Self {
        match arg {
            Arg::Short(c) => Self::Short(c),
            Arg::Long(name) => Self::Long(name.to_owned()),
            Arg::Value(word) => Self::Word(word.to_string_lossy().into_owned()),
        }
    }
}

fn bad(error: lexopt::Error) -> UsageError {
    UsageError::with_usage(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Low {
        Low::parse(args.iter().map(Into::into)).unwrap_or_else(|e| panic!("{}", e.message))
    }

    #[test]
    fn options_are_taken_behind_the_script() {
        let low = parse(&["x.bt", "1", "-q", "two"]);
        assert!(low.quiet);
        assert_eq!(low.words, ["x.bt", "1", "two"]);
    }

    #[test]
    fn behind_two_dashes_are_the_scripts_own() {
        let low = parse(&["-e", "begin {}", "--", "-q", "--n=5", "--flag", "x"]);
        assert!(!low.quiet);
        assert_eq!(low.words, ["-q", "x"]);
        let named = [
            ("n".to_owned(), Some("5".to_owned())),
            ("flag".to_owned(), None),
        ];
        assert_eq!(low.named, named);
    }

    #[test]
    fn k_is_taken_once() {
        assert!(parse(&["-k", "-e", "a"]).extra_warnings);
        for args in [&["-kk"][..], &["-k", "-e", "a", "-k"]] {
            let error = Low::parse(args.iter().map(Into::into)).expect_err("twice");
            assert!(error.message.contains("-kk has been deprecated"));
            assert!(!error.show_usage);
        }
    }

    #[test]
    fn there_is_one_mode() {
        assert_eq!(
            parse(&["--fmt", "--mode", "format"]).mode.as_deref(),
            Some("format")
        );
        let error = Low::parse(["--test", "--bench"].iter().map(Into::into)).expect_err("two");
        assert_eq!(
            error.message,
            "USAGE: --bench conflicts with existing --mode"
        );
    }

    #[test]
    fn the_last_program_counts() {
        assert_eq!(parse(&["-e", "a", "-e", "b"]).program.as_deref(), Some("b"));
    }

    #[test]
    fn beginnings_of_long_options_are_enough() {
        assert!(parse(&["--verb", "-e", "a"]).verbose);
        assert_eq!(parse(&["--debug", "ast"]).debug, ["ast"]);
        let error = Low::parse(["--no"].iter().map(Into::into)).expect_err("ambiguous");
        assert_eq!(
            error.message,
            "option '--no' is ambiguous; possibilities: '--no-feature' '--no-warnings'"
        );
    }

    #[test]
    fn unknown_options_before_two_dashes_are_errors() {
        for args in [
            &["--zz"][..],
            &["-e", "begin {}", "--zz=1"],
            &["x.bt", "--zz"],
        ] {
            let error = Low::parse(args.iter().map(Into::into)).expect_err("unknown");
            assert!(error.show_usage);
            assert_eq!(error.message, "unrecognized option '--zz'");
        }
    }
}
