//! Messages with their place in the script.

use bpftrace_meta::{SourceMeta, SourceRange};

use super::{Located, MessageKind, Severity};

const RED: &[u8] = b"\x1b[31m";
const YELLOW: &[u8] = b"\x1b[33m";
const RESET: &[u8] = b"\x1b[0m";

impl Located<'_> {
    /// Whether it is an error or a warning.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self.kind {
            MessageKind::Errorf => Severity::Error,
            MessageKind::Warnf
            | MessageKind::Start
            | MessageKind::Runtime
            | MessageKind::Helper { .. } => Severity::Warning,
        }
    }

    /// Appends the message as lines of text.
    pub fn write_text(&self, color: bool, out: &mut Vec<u8>) {
        let severity = self.severity();
        let text = self.text.strip_suffix(b"\n").unwrap_or(self.text);
        write_message(severity, color, out, |out| {
            write_range(self.source, self.place, severity, out);
            out.extend_from_slice(text);
            if let MessageKind::Helper { name, retcode } = self.kind {
                let info = format!("\nAdditional Info - helper: {name}, retcode: {retcode}");
                out.extend_from_slice(info.as_bytes());
            }
        });
        // The source of `errorf` and `warnf` is only the call itself.
        if !matches!(self.kind, MessageKind::Errorf | MessageKind::Warnf) {
            write_context(self.source, self.place, out);
        }
        for range in self.expanded_from {
            write_message(severity, color, out, |out| {
                write_range(self.source, *range, severity, out);
                out.extend_from_slice(b"expanded from");
            });
            write_context(self.source, *range, out);
        }
    }
}

impl Severity {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Error => b"ERROR: ",
            Self::Warning => b"WARNING: ",
        }
    }

    fn color(self) -> &'static [u8] {
        match self {
            Self::Error => RED,
            Self::Warning => YELLOW,
        }
    }
}

/// Appends a message about no place, as a line.
pub(super) fn write_plain(severity: Severity, text: &str, color: bool, out: &mut Vec<u8>) {
    write_message(severity, color, out, |out| {
        out.extend_from_slice(severity.label());
        out.extend_from_slice(text.strip_suffix('\n').unwrap_or(text).as_bytes());
    });
}

fn write_message(
    severity: Severity,
    color: bool,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>),
) {
    if color {
        out.extend_from_slice(severity.color());
    }
    write(out);
    if color {
        out.extend_from_slice(RESET);
    }
    out.push(b'\n');
}

/// Name of the file of a place.
pub(super) fn file_name(source: &SourceMeta, place: SourceRange) -> &str {
    source
        .files
        .get(place.file as usize)
        .map_or("", String::as_str)
}

fn write_range(source: &SourceMeta, place: SourceRange, severity: Severity, out: &mut Vec<u8>) {
    let file = file_name(source, place);
    let SourceRange {
        line,
        column,
        end_line,
        end_column,
        ..
    } = place;
    let text = if line == end_line {
        format!("{file}:{line}:{column}-{end_column}: ")
    } else {
        format!("{file}:{line}-{end_line}: ")
    };
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(severity.label());
}

/// Appends the source line with a marker below, or the lines of a longer range without one.
fn write_context(source: &SourceMeta, place: SourceRange, out: &mut Vec<u8>) {
    if place.line != place.end_line {
        for line in place.line..=place.end_line {
            let Some(text) = source.line(place.file, line) else {
                break;
            };
            out.extend_from_slice(text.as_bytes());
            out.push(b'\n');
        }
        return;
    }
    let Some(text) = source.line(place.file, place.line) else {
        return;
    };
    out.extend_from_slice(text.replace('\t', "    ").as_bytes());
    out.push(b'\n');
    let mut column = 1;
    for character in text.chars() {
        if column >= place.end_column {
            break;
        }
        let marker = if column < place.column { b' ' } else { b'~' };
        let width = if character == '\t' { 4 } else { 1 };
        out.resize(out.len() + width, marker);
        column += character.len_utf8() as u32;
    }
    out.push(b'\n');
}
