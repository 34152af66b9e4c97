//! `--fmt`.

use std::{fs, path::Path, process::ExitCode};

use bpftrace_ast::source::SourceMap;

use super::{fail, read, reason, say, show};
use crate::args::Script;

/// Prints a script in canonical form, or replaces a file by it.
pub(crate) fn format(script: &Script, output: Option<&Path>) -> ExitCode {
    let mut sources = SourceMap::new();
    let source = match read(script, &mut sources) {
        Ok(source) => source,
        Err(message) => return fail(message),
    };
    let (parsed, diagnostics) = bpftrace_ast::parse(source, &sources);
    if show(&diagnostics, &sources, true) {
        return ExitCode::FAILURE;
    }
    let text = bpftrace_ast::print::print(&parsed, &sources);
    match output {
        None => say(&text),
        Some(path) => match replace(path, text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(format!(
                "cannot write '{}': {}",
                path.display(),
                reason(&error)
            )),
        },
    }
}

/// Replaces a file's content at once: readers see the old text or the new one.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    fs::write(&temporary, bytes)?;
    if let Ok(meta) = fs::metadata(path) {
        fs::set_permissions(&temporary, meta.permissions())?;
    }
    fs::rename(&temporary, path).inspect_err(|_| drop(fs::remove_file(&temporary)))
}
