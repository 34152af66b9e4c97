use super::{AttachError, Attaching};
use crate::ffi::{Link, TracingTarget, attach_type};

/// Attaches an fentry or fexit program to the function that it was loaded for.
pub(super) fn attach_function(
    attaching: &Attaching<'_>,
    number: u64,
    exit: bool,
) -> Result<Link, AttachError> {
    let attach_type = if exit {
        attach_type::TRACE_FEXIT
    } else {
        attach_type::TRACE_FENTRY
    };
    Ok(Link::tracing(
        attaching.program,
        TracingTarget::Function(attach_type),
        attaching.cookie(number),
    )?)
}

/// Attaches a program to the raw tracepoint that it was loaded for.
pub(super) fn attach_raw_tracepoint(
    attaching: &Attaching<'_>,
    number: u64,
) -> Result<Link, AttachError> {
    Ok(Link::tracing(
        attaching.program,
        TracingTarget::RawTracepoint,
        attaching.cookie(number),
    )?)
}

/// Attaches an iterator; it runs when its file is read.
pub(super) fn attach_iterator(attaching: &Attaching<'_>) -> Result<Link, AttachError> {
    Ok(Link::iterator(attaching.program, attaching.pid)?)
}
