//! What every test of the crate asks of a parsed text.

use bpftrace_ast::diag::Diagnostic;
use bpftrace_ast::dump::{Spans, dump};
use bpftrace_ast::node::Script;
use bpftrace_ast::source::SourceMap;

/// A parsed text.
pub(crate) struct Checked {
    /// The map with the text alone.
    pub(crate) map: SourceMap,
    /// The tree.
    pub(crate) script: Script,
    /// What was wrong with it.
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// Parses a text and checks what must hold for any text.
pub(crate) fn check(text: &str) -> Checked {
    let mut map = SourceMap::new();
    let id = map.add("a.bt", text);
    let (script, diagnostics) = bpftrace_ast::parse(id, &map);
    assert_spans_nest(&dump(&script, Spans::Shown), text);
    for diagnostic in &diagnostics {
        let span = diagnostic.span.expect("a syntax error has a place");
        assert!(script.span.contains(span), "{diagnostic:?}");
    }
    let comments: Vec<&str> = script.comments.iter().map(|&span| map.text(span)).collect();
    assert!(
        comments
            .iter()
            .all(|comment| comment.starts_with("//") || comment.starts_with("/*"))
    );
    Checked {
        map,
        script,
        diagnostics,
    }
}

/// Checks that printing a text without errors keeps its tree and all its comments, and that what is printed stays
/// the same when it is printed again. Gives the printed text.
pub(crate) fn check_printing(checked: &Checked) -> String {
    let printed = bpftrace_ast::print::print(&checked.script, &checked.map);
    let again = check(&printed);
    assert!(
        again.diagnostics.is_empty(),
        "{:?} in\n{printed}",
        again.diagnostics
    );
    let (before, after) = (
        dump(&checked.script, Spans::Hidden),
        dump(&again.script, Spans::Hidden),
    );
    assert_eq!(before, after, "printing changed the tree:\n{printed}");
    assert_eq!(
        words(checked),
        words(&again),
        "printing lost comments:\n{printed}"
    );
    let twice = bpftrace_ast::print::print(&again.script, &again.map);
    assert_eq!(printed, twice, "printing twice differs");
    printed
}

/// All words of all comments, sorted: comments may move, and two of them may end up in one line.
fn words(checked: &Checked) -> Vec<String> {
    let texts = checked
        .script
        .comments
        .iter()
        .map(|&span| checked.map.text(span));
    let mut words: Vec<String> = texts
        .flat_map(|text| text.split(|c: char| c.is_whitespace() || c == '/' || c == '*'))
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    words.sort();
    words
}

/// Checks on a dump with spans that every node lies within the one it is indented under.
fn assert_spans_nest(dump: &str, text: &str) {
    let mut open: Vec<(usize, u32, u32)> = Vec::new();
    for line in dump.lines() {
        let indent = line.len() - line.trim_start().len();
        let span = line
            .rsplit_once(" [")
            .and_then(|(_, span)| span.strip_suffix(']'));
        let (start, end) = span
            .and_then(|span| span.split_once(".."))
            .expect("every node shows its span");
        let (start, end): (u32, u32) = (start.parse().unwrap(), end.parse().unwrap());
        assert!(start <= end && end as usize <= text.len(), "{line}");
        assert!(
            text.is_char_boundary(start as usize) && text.is_char_boundary(end as usize),
            "{line}"
        );
        open.retain(|&(outer, ..)| outer < indent);
        if let Some(&(_, outer_start, outer_end)) = open.last() {
            assert!(
                outer_start <= start && end <= outer_end,
                "{line} is not inside its parent in\n{dump}\nof {text:?}"
            );
        }
        open.push((indent, start, end));
    }
}
