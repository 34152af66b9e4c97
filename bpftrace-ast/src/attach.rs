//! Attach points in a script: their text, split as [`bpftrace_notation`] says, and where it stands.

pub use bpftrace_meta::ProviderKind;
pub use bpftrace_notation::{Piece, ProviderName, Text, Wrong};

use crate::diag::{Code, Diagnostic};
use crate::source::Span;

/// One attach point of a probe.
#[derive(Clone, Debug, PartialEq)]
pub struct AttachPoint {
    /// The whole text.
    pub span: Span,
    /// What it says.
    pub written: bpftrace_notation::AttachPoint,
}

impl AttachPoint {
    /// Splits the text of an attach point that stands at `span`. Positional parameters become holes.
    pub fn parse(raw: &str, span: Span) -> (AttachPoint, Vec<Diagnostic>) {
        let (written, wrong) = bpftrace_notation::AttachPoint::parse(raw);
        let at = |message| Diagnostic::error(Code::ATTACH_POINT, span, message);
        (
            AttachPoint { span, written },
            wrong.into_iter().map(at).collect(),
        )
    }
}
