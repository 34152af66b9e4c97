//! Attach points as written to what the loader attaches to. Wildcards and positional parameters
//! stay in the texts: they are looked up where the program starts.

use bpftrace_ast::attach::{
    AttachPoint, AttachSyntax, Location, Number, Piece, ProviderKind, ProviderName, Text, TimeUnit,
    Timer,
};
use bpftrace_ast::diag::Diagnostic;
use bpftrace_ast::source::Span;
use bpftrace_meta::{AttachText, Period, ProbeTarget, ProgramKind, TextPart, UprobePlace};

use crate::{Mem, codes};

/// One attach point, resolved as far as the script alone allows.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    /// In the script.
    pub(crate) span: Span,
    /// What to attach to.
    pub(crate) target: ProbeTarget,
    /// What kind of program that takes.
    pub(crate) kind: ProgramKind,
    /// Who provides it.
    pub(crate) provider: ProviderKind,
    /// The user's name for the probe.
    pub(crate) name: Option<String>,
}

/// Names and aliases of software events.
const SOFTWARE_EVENTS: &[&str] = &[
    "alignment-faults",
    "bpf-output",
    "context-switches",
    "cs",
    "cpu-clock",
    "cpu",
    "cpu-migrations",
    "dummy",
    "emulation-faults",
    "major-faults",
    "minor-faults",
    "page-faults",
    "faults",
    "task-clock",
];

/// Names and aliases of hardware events.
const HARDWARE_EVENTS: &[&str] = &[
    "backend-stalls",
    "branch-instructions",
    "branches",
    "branch-misses",
    "bus-cycles",
    "cache-misses",
    "cache-references",
    "cpu-cycles",
    "cycles",
    "frontend-stalls",
    "instructions",
    "ref-cycles",
];

/// Resolves one attach point; `None` with diagnostics when that fails.
pub(crate) fn resolve(
    point: &AttachPoint,
    unsafe_mode: bool,
    diags: &mut Vec<Diagnostic>,
) -> Option<Point> {
    if point.provider.kind == ProviderName::Wildcard || point.provider.kind == ProviderName::Hole {
        diags.push(
            Diagnostic::error(
                codes::UNSUPPORTED,
                point.span,
                "patterns and parameters as probe type are not supported yet",
            )
            .with_hint("Write one attach point for each probe type."),
        );
        return None;
    }
    // Whether a process is given is known at start only; the loader complains when it needs one.
    let syntax = match point.syntax(true) {
        Ok(syntax) => syntax,
        Err(errors) => {
            diags.extend(errors);
            return None;
        }
    };
    let resolver = Resolver {
        span: point.span,
        unsafe_mode,
    };
    match resolver.target(&syntax) {
        Ok((target, kind, provider)) => Some(Point {
            span: point.span,
            target,
            kind,
            provider,
            name: point.name.clone(),
        }),
        Err(diag) => {
            diags.push(*diag);
            None
        }
    }
}

struct Resolver {
    span: Span,
    unsafe_mode: bool,
}

type Resolved<T> = Result<T, Box<Diagnostic>>;

impl Resolver {
    fn error<T>(&self, message: impl Into<String>) -> Resolved<T> {
        Err(Box::new(Diagnostic::error(
            codes::ATTACH_POINT,
            self.span,
            message,
        )))
    }

    /// A number that must be known now.
    fn number(&self, number: &Number) -> Resolved<u64> {
        match number {
            Number::Known(n) => Ok(*n),
            Number::Hole(text) => Err(Box::new(Diagnostic::error(
                codes::UNSUPPORTED,
                self.span,
                format!(
                    "a positional parameter as a number of an attach point is not supported yet: {}",
                    text.to_display()
                ),
            ))),
        }
    }

    /// A text that must be known now.
    fn word<'a>(&self, text: &'a Text) -> Resolved<&'a str> {
        match text.as_str() {
            Some(word) => Ok(word),
            None => Err(Box::new(Diagnostic::error(
                codes::UNSUPPORTED,
                self.span,
                format!(
                    "a positional parameter is not supported here yet: {}",
                    text.to_display()
                ),
            ))),
        }
    }

    fn target(&self, syntax: &AttachSyntax) -> Resolved<(ProbeTarget, ProgramKind, ProviderKind)> {
        use ProgramKind as K;
        use ProviderKind as P;
        Ok(match syntax {
            AttachSyntax::Begin => (ProbeTarget::Begin, K::RawTracepointRun, P::Begin),
            AttachSyntax::End => (ProbeTarget::End, K::RawTracepointRun, P::End),
            AttachSyntax::SelfSignal { signal } => (
                ProbeTarget::SelfSignal(self.word(signal)?.to_owned()),
                K::RawTracepointRun,
                P::SelfProbe,
            ),
            AttachSyntax::Test { name } => (
                ProbeTarget::Test(self.word(name)?.to_owned()),
                K::Xdp,
                P::Test,
            ),
            AttachSyntax::Bench { name } => (
                ProbeTarget::Bench(self.word(name)?.to_owned()),
                K::Xdp,
                P::Bench,
            ),
            AttachSyntax::Interval(timer) => (
                ProbeTarget::Interval(self.period(timer)?),
                K::PerfEvent,
                P::Interval,
            ),
            AttachSyntax::Profile(timer) => (
                ProbeTarget::Profile(self.period(timer)?),
                K::PerfEvent,
                P::Profile,
            ),
            AttachSyntax::Software { event, count } => {
                let event = self.word(event)?;
                if !SOFTWARE_EVENTS.contains(&event) {
                    return self.error(format!("{event} is not a software probe"));
                }
                let count = count.as_ref().map_or(Ok(0), |count| self.number(count))?;
                let event = event.to_owned();
                (
                    ProbeTarget::Software { event, count },
                    K::PerfEvent,
                    P::Software,
                )
            }
            AttachSyntax::Hardware { event, count } => {
                let event = self.word(event)?;
                if !HARDWARE_EVENTS.contains(&event) {
                    return self.error(format!("{event} is not a hardware probe"));
                }
                let count = count.as_ref().map_or(Ok(0), |count| self.number(count))?;
                let event = event.to_owned();
                (
                    ProbeTarget::Hardware { event, count },
                    K::PerfEvent,
                    P::Hardware,
                )
            }
            AttachSyntax::Tracepoint { category, event } => (
                ProbeTarget::Tracepoint {
                    category: attach_text(category),
                    event: attach_text(event),
                },
                K::Tracepoint,
                P::Tracepoint,
            ),
            AttachSyntax::Rawtracepoint { module, name } => (
                ProbeTarget::RawTracepoint {
                    module: module.as_ref().map(attach_text),
                    name: attach_text(name),
                },
                K::TpBtf,
                P::Rawtracepoint,
            ),
            AttachSyntax::Kprobe {
                is_return,
                module,
                location,
            } => {
                let provider = if *is_return { P::Kretprobe } else { P::Kprobe };
                let target = match location {
                    Location::Function { func, offset } => ProbeTarget::Kprobe {
                        ret: *is_return,
                        module: module.as_ref().map(attach_text),
                        function: attach_text(func),
                        offset: offset
                            .as_ref()
                            .map_or(Ok(0), |offset| self.number(offset))?,
                    },
                    Location::Address(_) if !self.unsafe_mode => {
                        return Err(Box::new(Diagnostic::error(
                            codes::UNSAFE,
                            self.span,
                            "Probing by address requires --unsafe",
                        )));
                    }
                    Location::Address(address) => ProbeTarget::KprobeAddress(*address),
                    Location::Source { .. } => {
                        return self.error("kprobes have no source locations");
                    }
                };
                (target, K::Kprobe, provider)
            }
            AttachSyntax::Uprobe {
                is_return,
                path,
                lang,
                location,
            } => {
                let provider = if *is_return { P::Uretprobe } else { P::Uprobe };
                let place = match location {
                    Location::Function { func, offset } => {
                        let offset = offset
                            .as_ref()
                            .map_or(Ok(0), |offset| self.number(offset))?;
                        if *is_return && offset != 0 {
                            return self
                                .error("uretprobes can not be attached to a function offset");
                        }
                        let language = lang.as_ref().map(|lang| self.word(lang)).transpose()?;
                        UprobePlace::Function {
                            name: attach_text(func),
                            language: language.map(str::to_owned),
                            offset,
                        }
                    }
                    Location::Address(address) => UprobePlace::Address(*address),
                    Location::Source { file, line, col } => UprobePlace::SourceLine {
                        file: self.word(file)?.to_owned(),
                        line: self.small(line)?,
                        column: col.as_ref().map(|col| self.small(col)).transpose()?,
                    },
                };
                let path = path.as_ref().map(attach_text);
                (
                    ProbeTarget::Uprobe {
                        ret: *is_return,
                        path,
                        place,
                    },
                    K::Uprobe,
                    provider,
                )
            }
            AttachSyntax::Usdt {
                path,
                namespace,
                name,
            } => (
                ProbeTarget::Usdt {
                    path: path.as_ref().map(attach_text),
                    provider: namespace.as_ref().map(attach_text),
                    name: attach_text(name),
                },
                K::Uprobe,
                P::Usdt,
            ),
            AttachSyntax::Fentry {
                is_return,
                module,
                func,
            } => {
                let target = ProbeTarget::Fentry {
                    exit: *is_return,
                    module: module.as_ref().map(attach_text),
                    function: attach_text(func),
                };
                if *is_return {
                    (target, K::Fexit, P::Fexit)
                } else {
                    (target, K::Fentry, P::Fentry)
                }
            }
            AttachSyntax::FentryBpf {
                is_return,
                prog_id,
                prog_name,
            } => {
                let prog_id = prog_id.as_ref().map(|id| self.small(id)).transpose()?;
                let name = attach_text(prog_name);
                let target = ProbeTarget::FentryBpf {
                    exit: *is_return,
                    prog_id,
                    name,
                };
                if *is_return {
                    (target, K::Fexit, P::Fexit)
                } else {
                    (target, K::Fentry, P::Fentry)
                }
            }
            AttachSyntax::Iter { kind, pin } => (
                ProbeTarget::Iter {
                    name: self.word(kind)?.to_owned(),
                    pin: pin
                        .as_ref()
                        .map(|pin| self.word(pin))
                        .transpose()?
                        .map(str::to_owned),
                },
                K::Iter,
                P::Iter,
            ),
            AttachSyntax::Watchpoint {
                address,
                length,
                mode,
            } => {
                let address = self.number(address)?;
                let length = self.number(length)?;
                let mode = self.word(mode)?;
                let mut letters: Vec<char> = mode.chars().collect();
                letters.sort_unstable();
                if !matches!(letters.as_slice(), ['w'] | ['r', 'w'] | ['x']) {
                    return Err(Box::new(
                        Diagnostic::error(
                            codes::ATTACH_POINT,
                            self.span,
                            format!("invalid watchpoint mode: {mode}"),
                        )
                        .with_hint("supported modes: x,w,rw"),
                    ));
                }
                let target = ProbeTarget::Watchpoint {
                    address,
                    length: u8::try_from(length).unwrap_or(8),
                    mode: mode.to_owned(),
                };
                (target, K::PerfEvent, P::Watchpoint)
            }
        })
    }

    fn small(&self, number: &Number) -> Resolved<u32> {
        let n = self.number(number)?;
        match u32::try_from(n) {
            Ok(n) => Ok(n),
            Err(_) => self.error(format!("number too large: {n}")),
        }
    }

    fn period(&self, timer: &Timer) -> Resolved<Period> {
        let (count, unit) = match timer {
            Timer::Period(period) => (self.number(period)?, 1),
            Timer::Rate { unit, count } => {
                let count = self.number(count)?;
                match unit {
                    TimeUnit::Hz => return Ok(Period::Hertz(count)),
                    TimeUnit::S => (count, 1_000_000_000),
                    TimeUnit::Ms => (count, 1_000_000),
                    TimeUnit::Us => (count, 1_000),
                }
            }
        };
        match count.checked_mul(unit) {
            Some(nanoseconds) => Ok(Period::Nanoseconds(nanoseconds)),
            None => self.error("the period does not fit in 64 bits of nanoseconds"),
        }
    }
}

fn attach_text(text: &Text) -> AttachText {
    AttachText(
        text.pieces
            .iter()
            .map(|piece| match piece {
                Piece::Literal(literal) => TextPart::Literal(literal.clone()),
                Piece::Param(n) => TextPart::Param(u32::try_from(*n).unwrap_or(u32::MAX)),
            })
            .collect(),
    )
}

/// The memory that the numbers and pointers of a probe's context point to (L2.14).
pub(crate) fn address_space(provider: ProviderKind) -> Mem {
    use ProviderKind as P;
    match provider {
        P::Kprobe
        | P::Kretprobe
        | P::Fentry
        | P::Fexit
        | P::Tracepoint
        | P::Rawtracepoint
        | P::Iter => Mem::Kernel,
        P::Uprobe | P::Uretprobe | P::Usdt => Mem::User,
        _ => Mem::Unknown,
    }
}

/// Whether events of other processes have to be filtered out in the program when one process is
/// traced; the other kinds are attached to the process, or fire regardless.
pub(crate) fn needs_pid_filter(provider: ProviderKind) -> bool {
    use ProviderKind as P;
    matches!(
        provider,
        P::Kprobe | P::Kretprobe | P::Fentry | P::Fexit | P::Tracepoint | P::Rawtracepoint
    )
}

/// What `probetype` gives.
pub(crate) fn probe_type(provider: ProviderKind) -> &'static str {
    match provider {
        ProviderKind::Begin | ProviderKind::End | ProviderKind::SelfProbe => "special",
        other => other.as_str(),
    }
}

/// How a probe kind is called in messages about what it cannot do.
pub(crate) fn probe_label(provider: ProviderKind) -> &'static str {
    provider.as_str()
}
