use std::fmt;
use std::io;

use bpftrace_meta::{DecodeError, SourceMeta, SourceRange};

/// Whose mistake an error is, which decides the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The invocation, the compiled script or the user's privileges: exit status 1.
    Usage,
    /// The kernel or the machine said no while binding, loading, attaching or running: 255.
    Host,
}

/// A session could not be started, or could not go on: what we were doing, then why it failed.
///
/// `Display` gives the finished text, several lines where there is something to quote or to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError(Box<Details>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Details {
    kind: ErrorKind,
    /// What the text starts with.
    heading: &'static str,
    message: String,
    causes: Vec<String>,
    quote: Option<Quote>,
    notes: Vec<String>,
    hints: Vec<String>,
    /// Other errors that were found with this one; shown behind it.
    others: Vec<LoadError>,
}

/// A place in the script and its line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Quote {
    file: String,
    place: SourceRange,
    line: Option<String>,
}

impl LoadError {
    /// An error of the invocation (exit status 1).
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message.into())
    }

    /// An error of this machine (exit status 255).
    #[must_use]
    pub fn host(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Host, message.into())
    }

    /// A failed system call or file access (exit status 255).
    #[must_use]
    pub fn io(message: impl Into<String>, error: &io::Error) -> Self {
        Self::host(message).because(describe_errno(error))
    }

    fn new(kind: ErrorKind, message: String) -> Self {
        Self(Box::new(Details {
            kind,
            heading: "ERROR",
            message,
            causes: Vec::new(),
            quote: None,
            notes: Vec::new(),
            hints: Vec::new(),
            others: Vec::new(),
        }))
    }

    /// Adds the reason, behind the reasons there are.
    #[must_use]
    pub fn because(mut self, cause: impl Into<String>) -> Self {
        self.0.causes.push(cause.into());
        self
    }

    /// Adds a line of advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hints.push(hint.into());
        self
    }

    /// Adds text that is shown as it is behind the message, such as the verifier's log.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.0.notes.push(note.into());
        self
    }

    /// Adds an error that was found with this one; it is shown behind it.
    #[must_use]
    pub fn and(mut self, other: LoadError) -> Self {
        self.0.others.push(other);
        self
    }

    /// What is no error and was found with one; it is shown behind all errors.
    pub(crate) fn warning(message: impl Into<String>) -> Self {
        let mut warning = Self::usage(message);
        warning.0.heading = "WARNING";
        warning
    }

    /// The errors as one; `None` when there are none.
    pub(crate) fn all(errors: Vec<LoadError>) -> Option<LoadError> {
        let mut errors = errors.into_iter();
        let first = errors.next()?;
        Some(errors.fold(first, LoadError::and))
    }

    /// Points to a place in the script, quoting its line where the artifact has it.
    #[must_use]
    pub fn at(mut self, place: SourceRange, source: &SourceMeta) -> Self {
        if let Some(file) = source.files.get(place.file as usize)
            && place.line > 0
        {
            self.0.quote = Some(Quote {
                file: file.clone(),
                place,
                line: source.line(place.file, place.line).map(str::to_owned),
            });
        }
        self
    }

    /// Whose mistake it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Exit status of the process.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.0.kind {
            ErrorKind::Usage => 1,
            ErrorKind::Host => 255,
        }
    }

    /// The message with its reasons, on one line.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut text = self.0.message.clone();
        for cause in &self.0.causes {
            text.push_str(": ");
            text.push_str(cause);
        }
        text
    }
}

impl LoadError {
    /// The message with its reasons and what was added behind it, without a heading.
    pub(crate) fn with_notes(&self) -> String {
        let mut text = self.summary();
        for note in &self.0.notes {
            text.push('\n');
            text.push_str(note.trim_end());
        }
        text
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Quote { file, place, .. }) = &self.0.quote {
            let SourceRange {
                line,
                column,
                end_line,
                end_column,
                ..
            } = place;
            if line == end_line {
                write!(f, "{file}:{line}:{column}-{end_column}: ")?;
            } else {
                write!(f, "{file}:{line}-{end_line}: ")?;
            }
        }
        write!(f, "{}: {}", self.0.heading, self.summary())?;
        if let Some(Quote {
            place,
            line: Some(line),
            ..
        }) = &self.0.quote
        {
            write!(f, "\n{}", line.replace('\t', "    "))?;
            if place.line == place.end_line {
                let width = |column: u32| {
                    line.bytes()
                        .take((column.max(1) - 1) as usize)
                        .map(|b| if b == b'\t' { 4 } else { 1 })
                        .sum::<usize>()
                };
                let start = width(place.column);
                let marks = width(place.end_column).saturating_sub(start);
                write!(f, "\n{}{}", " ".repeat(start), "~".repeat(marks))?;
            }
        }
        for note in &self.0.notes {
            write!(f, "\n{}", note.trim_end())?;
        }
        for hint in &self.0.hints {
            write!(f, "\nHINT: {hint}")?;
        }
        for other in &self.0.others {
            write!(f, "\n{other}")?;
        }
        Ok(())
    }
}

impl std::error::Error for LoadError {}

impl From<DecodeError> for LoadError {
    fn from(error: DecodeError) -> Self {
        Self::usage(error.to_string())
    }
}

/// The reason of a failed call without Rust's "(os error 2)".
pub(crate) fn describe_errno(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(end) if text.ends_with(')') => text[..end].to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_the_place_and_chains_the_reasons() {
        let source = SourceMeta {
            files: vec!["stdin".into()],
            lines: vec![(0, 1, "\tkprobe:nope { }".into())],
        };
        let place = SourceRange {
            file: 0,
            line: 1,
            column: 2,
            end_line: 1,
            end_column: 13,
        };
        let error = LoadError::host("Unable to attach probe: kprobe:nope.")
            .because("No such file or directory")
            .at(place, &source)
            .hint("look elsewhere");
        assert_eq!(
            error.to_string(),
            "stdin:1:2-13: ERROR: Unable to attach probe: kprobe:nope.: No such file or directory\n\
             \u{20}   kprobe:nope { }\n    ~~~~~~~~~~~\nHINT: look elsewhere"
        );
        assert_eq!(error.exit_code(), 255);
    }

    #[test]
    fn errno_without_its_number() {
        assert_eq!(
            describe_errno(&io::Error::from_raw_os_error(libc::ENOENT)),
            "No such file or directory"
        );
    }
}
