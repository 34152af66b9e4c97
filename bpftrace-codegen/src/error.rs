//! Why a typed program could not be compiled.

use bpftrace_ast::source::Span;

use crate::bpf::BackendError;
use crate::object::ObjectError;

/// Why a typed program could not be compiled.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CodegenError {
    /// A part of the language that cannot be compiled, or not yet.
    #[error("{what} is not supported")]
    Unsupported {
        /// Where it is in the script.
        span: Span,
        /// What it is, as a noun: "`skboutput`".
        what: String,
    },
    /// The typed program contradicts itself, or code generation does: a bug in the compiler, never a
    /// mistake in the script.
    #[error("internal error: {what}")]
    Internal {
        /// The statement or expression at hand; `None` when it belongs to the script as a whole.
        span: Option<Span>,
        /// What is wrong.
        what: String,
    },
    /// A program does not fit the machine: stack or jump distance.
    #[error("{source}")]
    TooLarge {
        /// The probe.
        span: Span,
        /// What does not fit.
        source: BackendError,
    },
    /// The back end refused the code: a bug in the compiler.
    #[error("internal error: {source}")]
    Backend {
        /// The probe, or the statement when it is known.
        span: Span,
        /// Why.
        source: BackendError,
    },
    /// The object could not be written.
    #[error("cannot write the BPF object: {0}")]
    Object(#[from] ObjectError),
}

impl CodegenError {
    /// The place in the script that the error is about, when it is about one.
    #[must_use]
    pub fn span(&self) -> Option<Span> {
        match self {
            Self::Unsupported { span, .. }
            | Self::TooLarge { span, .. }
            | Self::Backend { span, .. } => Some(*span),
            Self::Internal { span, .. } => *span,
            Self::Object(_) => None,
        }
    }

    /// Whether the compiler is to blame and not the script.
    #[must_use]
    pub fn is_bug(&self) -> bool {
        matches!(
            self,
            Self::Internal { .. } | Self::Backend { .. } | Self::Object(_)
        )
    }
}
