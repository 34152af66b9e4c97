//! The `bpftrace` command: options, and which passes they call for.
//!
//! Everything that is decided about a script is decided elsewhere: this crate opens files, composes
//! `ast`, `sema`, `codegen` and `loader`, and turns what they say into text and an exit status.
#![forbid(unsafe_code)]

mod args;
mod cmd;
mod shim;
mod texts_in;
mod types_in;

use std::process::ExitCode;

use args::{Command, Low, USAGE, UsageError};

/// The version that `--version` shows: upstream's form, so that scripts which parse it go on
/// working.
const VERSION: &str = concat!("bpftrace v", env!("CARGO_PKG_VERSION"));

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).peekable();
    if args.peek().is_none() {
        eprint!("{USAGE}");
        return ExitCode::FAILURE;
    }
    let command = match Low::parse(args).and_then(args::resolve) {
        Ok(command) => command,
        Err(UsageError {
            message,
            show_usage,
        }) => {
            eprintln!("ERROR: {message}");
            if show_usage {
                eprint!("{USAGE}");
            }
            return ExitCode::FAILURE;
        }
    };
    match command {
        Command::Help => cmd::say(USAGE),
        Command::Version => cmd::say(&format!("{VERSION}\n")),
        Command::Info => cmd::info::info(),
        Command::Explain(code) => cmd::explain::page(&code),
        Command::List(list) => cmd::on_large_stack(|| cmd::list::list(&list)),
        Command::Fmt(script, output) => {
            cmd::on_large_stack(|| cmd::format::format(&script, output.as_deref()))
        }
        Command::Compile(compile) => cmd::compile::compile(&compile),
    }
}
