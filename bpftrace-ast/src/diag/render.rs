//! Diagnostics to text, in the format of bpftrace. Pure: nothing is printed here.

use std::fmt::Write;

use super::{Diagnostic, Severity};
use crate::source::{SourceMap, Span};

/// Whether the severity is shown in colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Color {
    /// Plain text.
    Never,
    /// ANSI escapes around headlines: red for errors, yellow for warnings.
    Always,
}

/// How many columns a tab takes in a quoted source line.
const TAB: &str = "    ";

/// Longer lines are not quoted whole.
const MAX_LINE: usize = 4096;

/// How much of such a line is quoted on each side of what is marked.
const AROUND: usize = 120;

/// What stands for the rest of it.
const CUT: &str = "...";

/// All diagnostics: errors first, then warnings, each group in the given order.
pub fn render_all(diagnostics: &[Diagnostic], map: &SourceMap, color: Color) -> String {
    let mut out = String::new();
    for severity in [Severity::Error, Severity::Warning] {
        for diagnostic in diagnostics
            .iter()
            .filter(|diagnostic| diagnostic.severity == severity)
        {
            out.push_str(&render(diagnostic, map, color));
        }
    }
    out
}

/// One diagnostic, with the line end of its last line.
pub fn render(diagnostic: &Diagnostic, map: &SourceMap, color: Color) -> String {
    let mut out = String::new();
    let severity = diagnostic.severity;
    if let Some(preface) = &diagnostic.preface {
        let _ = writeln!(out, "{preface}");
    }
    headline(
        &mut out,
        map,
        color,
        severity,
        diagnostic.span,
        &diagnostic.message,
    );
    for context in &diagnostic.contexts {
        headline(
            &mut out,
            map,
            color,
            severity,
            Some(context.span),
            &context.message,
        );
    }
    for hint in &diagnostic.hints {
        let _ = writeln!(out, "HINT: {hint}");
    }
    for &call in &diagnostic.expanded_from {
        headline(&mut out, map, color, severity, Some(call), "expanded from");
    }
    out
}

fn headline(
    out: &mut String,
    map: &SourceMap,
    color: Color,
    severity: Severity,
    span: Option<Span>,
    text: &str,
) {
    let (begin, end) = match (color, severity) {
        (Color::Never, _) => ("", ""),
        (Color::Always, Severity::Error) => ("\x1b[31m", "\x1b[0m"),
        (Color::Always, Severity::Warning) => ("\x1b[33m", "\x1b[0m"),
    };
    let word = match severity {
        Severity::Error => "ERROR",
        Severity::Warning => "WARNING",
    };
    out.push_str(begin);
    if let Some(span) = span {
        let (first, last) = (map.start(span), map.end(span));
        let name = map.file(span.source).name();
        let _ = if first.line == last.line {
            write!(out, "{name}:{}:{}-{}: ", first.line, first.col, last.col)
        } else {
            write!(out, "{name}:{}-{}: ", first.line, last.line)
        };
    }
    let _ = writeln!(out, "{word}: {text}{end}");
    if let Some(span) = span {
        source_lines(out, map, span);
    }
}

/// The line of a span with a marker line under it, or all lines of a span over several lines.
fn source_lines(out: &mut String, map: &SourceMap, span: Span) {
    let file = map.file(span.source);
    let (first, last) = (map.start(span), map.end(span));
    if first.line != last.line {
        let lines = first.line..=last.line;
        for line in lines.filter(|&line| !file.is_past_last_line(line)) {
            let _ = writeln!(out, "{}", file.line(line));
        }
        return;
    }
    if file.is_past_last_line(first.line) {
        return;
    }
    let line = file.line(first.line);
    let (from, to) = shown(line, first.col, last.col);
    let mut marker = String::new();
    if from > 0 {
        marker.push_str(&" ".repeat(CUT.len()));
    }
    for (offset, character) in line[from..to].char_indices() {
        let col = (from + offset) as u32 + 1;
        if col >= last.col {
            break;
        }
        let mark = if col < first.col { ' ' } else { '~' };
        let width = if character == '\t' { TAB.len() } else { 1 };
        marker.extend(std::iter::repeat_n(mark, width));
    }
    let before = if from > 0 { CUT } else { "" };
    let after = if to < line.len() { CUT } else { "" };
    let text = line[from..to].replace('\t', TAB);
    let _ = writeln!(out, "{before}{text}{after}\n{marker}");
}

/// Which bytes of a line are quoted: all of them, or what is around the marked ones if it is a very long line.
/// With whole lines, the mistakes of a script that is one line would take space with the square of its length.
fn shown(line: &str, first_col: u32, last_col: u32) -> (usize, usize) {
    if line.len() <= MAX_LINE {
        return (0, line.len());
    }
    let marked = (first_col as usize).saturating_sub(1);
    let end = (last_col as usize).saturating_sub(1).max(marked);
    let from = marked.saturating_sub(AROUND);
    let to = end.min(marked + MAX_LINE).saturating_add(AROUND);
    (
        line.floor_char_boundary(from),
        line.ceil_char_boundary(to.min(line.len())),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::Code;

    fn map(text: &str) -> (SourceMap, crate::source::SourceId) {
        let mut map = SourceMap::new();
        let id = map.add("a.bt", text);
        (map, id)
    }

    #[test]
    fn one_line_gets_a_marker_and_tabs_are_four_columns() {
        let (map, id) = map("begin {\n\tfoo(1);\n}");
        let diagnostic =
            Diagnostic::error(Code::SYNTAX, Span::new(id, 9, 12), "no foo").with_hint("try bar");
        assert_eq!(
            render(&diagnostic, &map, Color::Never),
            "a.bt:2:2-5: ERROR: no foo\n    foo(1);\n    ~~~\nHINT: try bar\n"
        );
    }

    #[test]
    fn very_long_lines_are_quoted_around_the_mark() {
        let (map, id) = map(&format!(
            "{}\tfoo\u{e9}{}",
            "a".repeat(3000),
            "b".repeat(3000)
        ));
        let diagnostic = Diagnostic::error(Code::SYNTAX, Span::new(id, 3001, 3004), "no foo");
        assert_eq!(
            render(&diagnostic, &map, Color::Never),
            format!(
                "a.bt:1:3002-3005: ERROR: no foo\n...{}    foo\u{e9}{}...\n{}~~~\n",
                "a".repeat(119),
                "b".repeat(118),
                " ".repeat(3 + 119 + 4),
            )
        );
    }

    #[test]
    fn several_lines_are_quoted_whole() {
        let (map, id) = map("begin {\n1\n}");
        let diagnostic = Diagnostic::warning(Code::SYNTAX, Span::new(id, 6, 11), "odd");
        assert_eq!(
            render(&diagnostic, &map, Color::Never),
            "a.bt:1-3: WARNING: odd\nbegin {\n1\n}\n"
        );
    }

    #[test]
    fn an_empty_span_has_an_empty_marker_and_no_place_has_no_quote() {
        let (map, id) = map("x");
        let at_start = Diagnostic::error(Code::SYNTAX, Span::new(id, 0, 0), "a");
        let nowhere = Diagnostic::new(Severity::Warning, Code::SYNTAX, None, "b");
        assert_eq!(
            render_all(&[nowhere, at_start], &map, Color::Never),
            "a.bt:1:1-1: ERROR: a\nx\n\nWARNING: b\n"
        );
    }

    #[test]
    fn after_the_last_line_there_is_nothing_to_quote() {
        let (map, id) = map("x\n");
        let diagnostic = Diagnostic::error(Code::SYNTAX, Span::new(id, 2, 2), "a");
        assert_eq!(
            render(&diagnostic, &map, Color::Never),
            "a.bt:2:1-1: ERROR: a\n"
        );
    }

    #[test]
    fn contexts_come_before_hints_and_expansions_after() {
        let (map, id) = map("abc");
        let diagnostic = Diagnostic::error(Code::SYNTAX, Span::new(id, 0, 1), "a")
            .with_context(Span::new(id, 1, 2), "b")
            .with_hint("h")
            .with_expansion(Span::new(id, 2, 3));
        assert_eq!(
            render(&diagnostic, &map, Color::Always),
            "\x1b[31ma.bt:1:1-2: ERROR: a\x1b[0m\nabc\n~\n\x1b[31ma.bt:1:2-3: ERROR: b\x1b[0m\nabc\n ~\nHINT: h\n\
             \x1b[31ma.bt:1:3-4: ERROR: expanded from\x1b[0m\nabc\n  ~\n"
        );
    }
}
