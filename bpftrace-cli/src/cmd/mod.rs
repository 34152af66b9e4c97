//! One module a verb.

pub(crate) mod compile;
pub(crate) mod explain;
pub(crate) mod format;
pub(crate) mod info;
pub(crate) mod list;

use std::{
    fs,
    io::{self, IsTerminal as _, Read as _, Write as _},
    process::ExitCode,
};

use bpftrace_ast::diag::{
    Diagnostic, Severity,
    render::{Color, render_all},
};
use bpftrace_ast::source::{SourceId, SourceMap};
use bpftrace_loader::{LinuxHost, options::wants_color};

use crate::args::Script;

/// Writes to standard output; nobody reading it is not an error.
pub(crate) fn say(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("ERROR: cannot write: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Runs what looks at a script on a thread whose stack is large enough for the deepest one that the parser lets
/// through. The script itself is run by the main thread, whose thread id is the process id.
pub(crate) fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    // Memory that nobody touches costs nothing.
    const BYTES: usize = if cfg!(debug_assertions) {
        1 << 30
    } else {
        128 << 20
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .stack_size(BYTES)
            .spawn_scoped(scope, work);
        match thread.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(error) => {
                eprintln!("ERROR: cannot start the compiler: {}", reason(&error));
                std::process::exit(1);
            }
        }
    })
}

/// Writes an error without a place in a script.
pub(crate) fn fail(message: impl std::fmt::Display) -> ExitCode {
    eprintln!("ERROR: {message}");
    ExitCode::FAILURE
}

/// Reads a script; its name in messages is `stdin` unless it is a file.
pub(crate) fn read(script: &Script, sources: &mut SourceMap) -> Result<SourceId, String> {
    match script {
        Script::Text(text) => Ok(sources.add("stdin", text.clone())),
        Script::Stdin => {
            let mut bytes = Vec::new();
            io::stdin()
                .read_to_end(&mut bytes)
                .map_err(|error| format!("cannot read the script from standard input: {error}"))?;
            Ok(sources.add("stdin", text(bytes, "standard input")?))
        }
        Script::File(path) => {
            let shown = path.display();
            let bytes = fs::read(path)
                .map_err(|error| format!("failed to open file '{shown}': {}", reason(&error)))?;
            Ok(sources.add(shown.to_string(), text(bytes, &shown.to_string())?))
        }
    }
}

fn text(bytes: Vec<u8>, what: &str) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|error| {
        format!(
            "{what} is not text: invalid UTF-8 at byte {}",
            error.utf8_error().valid_up_to()
        )
    })
}

/// The reason of a failed call without Rust's "(os error 2)".
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// The code of the first error.
fn code_of_first_error(shown: &[Diagnostic]) -> Option<&'static str> {
    let first = shown.iter().find(|d| d.severity == Severity::Error)?;
    Some(first.code.name())
}

/// Shows diagnostics on standard error, errors first. Returns whether there were errors.
pub(crate) fn show(diagnostics: &[Diagnostic], sources: &SourceMap, warnings: bool) -> bool {
    let shown: Vec<Diagnostic> = diagnostics
        .iter()
        .filter(|d| warnings || d.severity == Severity::Error)
        .cloned()
        .collect();
    let color = if wants_color(&LinuxHost::new()) {
        Color::Always
    } else {
        Color::Never
    };
    if !shown.is_empty() {
        eprint!("{}", render_all(&shown, sources, color));
    }
    // Somebody who reads this can ask further.
    if let Some(code) = code_of_first_error(&shown)
        && io::stderr().is_terminal()
    {
        eprintln!("For what this means: bpftrace --explain {code}");
    }
    shown.iter().any(|d| d.severity == Severity::Error)
}
