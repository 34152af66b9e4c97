//! `--explain`: what a kind of mistake means.

use std::process::ExitCode;

use bpftrace_sema::{explain, explained, nearest_code};

use super::{fail, say};

/// Shows the page about a code; `list` shows every code with one line about it.
pub(crate) fn page(code: &str) -> ExitCode {
    if let Some(page) = explain(code) {
        return say(page);
    }
    if code == "list" {
        let width = explained().map(|(code, _)| code.len()).max().unwrap_or(0);
        let lines = explained().map(|(code, summary)| format!("{code:width$}  {summary}\n"));
        return say(&lines.collect::<String>());
    }
    let hint = match nearest_code(code) {
        Some(near) => format!("Did you mean: {near}?"),
        None => "bpftrace --explain list shows all codes.".to_owned(),
    };
    fail(format!(
        "there is no diagnostic of the code '{code}'\nHINT: {hint}"
    ))
}
