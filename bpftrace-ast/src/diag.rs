//! Diagnostics as data. [`render`] turns them into text and is the only place that knows how they look.

pub mod render;

use crate::source::Span;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The script cannot run.
    Error,
    /// The script can run, but probably not as meant.
    Warning,
}

/// The stable name of one kind of mistake, in kebab case. Tests and tools match it, not the wording.
///
/// Every stage declares its own codes as constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(&'static str);

impl Code {
    /// The text does not follow the grammar.
    pub const SYNTAX: Code = Code::new("syntax");
    /// A literal whose value or spelling is not allowed.
    pub const LITERAL: Code = Code::new("literal");
    /// Something stands before or after what it must follow or precede.
    pub const ORDER: Code = Code::new("order");
    /// Nested too deeply, or a text that is too long.
    pub const LIMIT: Code = Code::new("limit");
    /// An attach point that its provider does not understand.
    pub const ATTACH_POINT: Code = Code::new("attach-point");

    /// A code of the given name.
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// The name.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

/// A second place that belongs to a diagnostic, shown after it with its own source line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// Where.
    pub span: Span,
    /// What about it.
    pub message: String,
}

/// One finding about a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// Which kind of mistake.
    pub code: Code,
    /// The headline, without severity and position.
    pub message: String,
    /// Where; absent for findings about no place in particular.
    pub span: Option<Span>,
    /// Further places, in the order to show.
    pub contexts: Vec<Context>,
    /// Advice, one line each, in the order to show.
    pub hints: Vec<String>,
    /// The macro calls that led here, innermost first.
    pub expanded_from: Vec<Span>,
    /// A line to show first, as it is: the same in words that other programs look for.
    pub preface: Option<String>,
}

impl Diagnostic {
    /// An error at a place.
    pub fn error(code: Code, span: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, Some(span), message)
    }

    /// A warning at a place.
    pub fn warning(code: Code, span: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, Some(span), message)
    }

    /// A finding with or without a place.
    pub fn new(
        severity: Severity,
        code: Code,
        span: Option<Span>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            code,
            message: message.into(),
            span,
            contexts: Vec::new(),
            hints: Vec::new(),
            expanded_from: Vec::new(),
            preface: None,
        }
    }

    /// Adds a further place.
    pub fn with_context(mut self, span: Span, message: impl Into<String>) -> Self {
        self.contexts.push(Context {
            span,
            message: message.into(),
        });
        self
    }

    /// Adds a line of advice.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Adds the macro call that contains everything said so far; call it for the innermost expansion first.
    pub fn with_expansion(mut self, call: Span) -> Self {
        self.expanded_from.push(call);
        self
    }

    /// Puts a line before everything.
    pub fn with_preface(mut self, line: impl Into<String>) -> Self {
        self.preface = Some(line.into());
        self
    }

    /// Whether this is an error.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// Whether any of the findings is an error.
pub fn has_errors(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(Diagnostic::is_error)
}
