use bpftrace_meta::Period;

use super::{AttachError, Attaching};
use crate::ffi::{Link, PerfEvent, PerfSpec};

const PERF_TYPE_SOFTWARE: u32 = 1;
const PERF_TYPE_TRACEPOINT: u32 = 2;
const PERF_COUNT_SW_CPU_CLOCK: u64 = 0;

/// The CPU that events which fire everywhere are opened on.
pub(super) fn first_cpu(attaching: &Attaching<'_>) -> i32 {
    let cpus = attaching.host.online_cpus().unwrap_or_default();
    cpus.first().map_or(0, |cpu| *cpu as i32)
}

/// Opens an event and attaches the program to it.
pub(super) fn attach_event(
    attaching: &Attaching<'_>,
    number: u64,
    spec: &PerfSpec,
    pid: i32,
    cpu: i32,
) -> Result<Link, AttachError> {
    let event = PerfEvent::open(spec, pid, cpu)?;
    Ok(Link::perf_event(
        attaching.program,
        event,
        attaching.cookie(number),
    )?)
}

/// On every CPU, for the traced process or for all.
fn on_every_cpu(
    attaching: &Attaching<'_>,
    number: u64,
    spec: &PerfSpec,
) -> Result<Vec<Link>, AttachError> {
    let pid = attaching.pid.unwrap_or(-1);
    attaching
        .host
        .online_cpus()?
        .into_iter()
        .map(|cpu| attach_event(attaching, number, spec, pid, cpu as i32))
        .collect()
}

pub(super) fn attach_timer(
    attaching: &Attaching<'_>,
    number: u64,
    period: Period,
    every_cpu: bool,
) -> Result<Vec<Link>, AttachError> {
    let (kind, config) = (PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK);
    let spec = match period {
        Period::Hertz(hertz) => PerfSpec::Frequency {
            kind,
            config,
            hertz,
        },
        period => PerfSpec::Counter {
            kind,
            config,
            period: period.nanoseconds().unwrap_or(u64::MAX),
        },
    };
    if every_cpu {
        on_every_cpu(attaching, number, &spec)
    } else {
        let cpu = first_cpu(attaching);
        Ok(vec![attach_event(attaching, number, &spec, -1, cpu)?])
    }
}

pub(super) fn attach_counter(
    attaching: &Attaching<'_>,
    number: u64,
    kind: u32,
    config: u64,
    period: u64,
) -> Result<Vec<Link>, AttachError> {
    on_every_cpu(
        attaching,
        number,
        &PerfSpec::Counter {
            kind,
            config,
            period,
        },
    )
}

pub(super) fn attach_watchpoint(
    attaching: &Attaching<'_>,
    number: u64,
    address: u64,
    length: u64,
    access: u32,
) -> Result<Vec<Link>, AttachError> {
    let spec = PerfSpec::Breakpoint {
        access,
        address,
        length,
    };
    match attaching.pid {
        // A breakpoint is in one thread.
        Some(pid) => attaching
            .host
            .threads(pid)?
            .into_iter()
            .map(|thread| attach_event(attaching, number, &spec, thread, -1))
            .filter(|link| !is_gone(link))
            .collect(),
        None => on_every_cpu(attaching, number, &spec),
    }
}

/// Whether the thread ended before we came.
fn is_gone(link: &Result<Link, AttachError>) -> bool {
    matches!(link, Err(AttachError::Refused(e)) if e.raw_os_error() == Some(libc::ESRCH))
}

/// The filter for one process is in the program: the event fires for all.
pub(super) fn attach_tracepoint(
    attaching: &Attaching<'_>,
    number: u64,
    category: &str,
    event: &str,
) -> Result<Link, AttachError> {
    let id = attaching
        .host
        .tracepoint_id(category, event)?
        .ok_or_else(|| {
            AttachError::Explained(format!(
                "there is no tracepoint {category}:{event} any more"
            ))
        })?;
    let spec = PerfSpec::Counter {
        kind: PERF_TYPE_TRACEPOINT,
        config: id,
        period: 1,
    };
    attach_event(attaching, number, &spec, -1, first_cpu(attaching))
}
