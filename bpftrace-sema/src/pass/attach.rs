//! Attach points as written to what the loader attaches to. Wildcards stay in the texts; what has
//! positional parameters in it stays as written. Both are looked up where the program starts.

use bpftrace_ast::attach::{AttachPoint, ProviderKind, ProviderName, Wrong};
use bpftrace_ast::diag::Diagnostic;
use bpftrace_ast::source::Span;
use bpftrace_meta::{AttachText, ProbeTarget, ProgramKind, TextPart, wildcard_match};
use bpftrace_notation::{Piece, Reading};

use crate::{Mem, SemaOptions, codes};

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
    /// What the attach point says with the positional parameters that were given to the compiler,
    /// where the target is kept as written. The types of arguments may depend on it.
    pub(crate) filled: Option<Filled>,
    /// Whether it is one of several programs for one attach point, of which the loader takes those
    /// that the attach point turns out to name.
    pub(crate) is_alternative: bool,
    /// Whether it is one match of the pattern that was written.
    pub(crate) from_pattern: bool,
}

/// An attach point with its parameters put in.
#[derive(Clone, Debug)]
pub(crate) struct Filled {
    /// What to attach to.
    pub(crate) target: ProbeTarget,
    /// The parameters that were put in, with their numbers.
    pub(crate) params: Vec<(u32, String)>,
}

/// Resolves one attach point, into one for each provider that it may turn out to name. When there
/// is none, the diagnostics say why.
pub(crate) fn resolve(
    point: &AttachPoint,
    options: &SemaOptions,
    diags: &mut Vec<Diagnostic>,
) -> Vec<Point> {
    let written = &point.written;
    let how = Reading {
        // Known at start only; the loader complains when it needs one.
        process_given: true,
        unsafe_mode: options.unsafe_mode,
    };
    let mut report = |wrong: Vec<Wrong>| {
        diags.extend(wrong.into_iter().map(|wrong| {
            let code = if wrong.needs_unsafe {
                codes::UNSAFE
            } else {
                codes::ATTACH_POINT
            };
            let diag = Diagnostic::error(code, point.span, wrong.message);
            match wrong.hint {
                Some(hint) => diag.with_hint(hint),
                None => diag,
            }
        }));
        Vec::new()
    };
    let resolved = |provider: ProviderKind, target, filled| Point {
        span: point.span,
        target,
        kind: provider.program_kind(),
        provider,
        name: written.name.clone(),
        filled,
        is_alternative: false,
        from_pattern: false,
    };
    if let ProviderName::Known(provider) = written.provider_name()
        && !written.has_hole()
    {
        return match written.read(provider, how) {
            Ok(target) => vec![resolved(provider, target, None)],
            Err(wrong) => report(wrong),
        };
    }

    // What the parameters make of it, if the compiler was given them.
    let mut params: Vec<(u32, String)> = Vec::new();
    let mut all_given = true;
    let (filled, _) = written.fill(&mut |number| {
        let given = (number as usize).checked_sub(1);
        let given = given.and_then(|at| options.params.get(at));
        all_given &= given.is_some();
        let text = given.cloned().unwrap_or_default();
        params.push((u32::try_from(number).unwrap_or(u32::MAX), text.clone()));
        text
    });
    let filled = all_given.then_some(filled);
    let candidates: Vec<ProviderKind> = match (&filled, written.provider_name()) {
        (Some(filled), _) => match filled.provider_name() {
            ProviderName::Wildcard => of_pattern(filled),
            _ => match filled.known_provider() {
                Ok(provider) => vec![provider],
                Err(wrong) => return report(vec![wrong]),
            },
        },
        (None, ProviderName::Known(provider)) => vec![provider],
        (None, ProviderName::Wildcard) => of_pattern(written),
        (None, ProviderName::Hole) => ProviderKind::all().collect(),
        (None, ProviderName::Unknown) => {
            let wrong = written.known_provider().err();
            return report(wrong.into_iter().collect());
        }
    };
    let is_pattern = filled
        .as_ref()
        .is_some_and(|filled| filled.provider_name() == ProviderName::Wildcard);
    let mut points = Vec::new();
    for provider in candidates {
        let target = ProbeTarget::Written {
            provider,
            text: written.unnamed().to_owned(),
        };
        let filled = match filled.as_ref().map(|filled| filled.read(provider, how)) {
            None => None,
            Some(Ok(target)) => Some(Filled {
                target,
                params: params.clone(),
            }),
            // A pattern stands for the providers that can make something of the rest.
            Some(Err(_)) if is_pattern => continue,
            Some(Err(wrong)) => return report(wrong),
        };
        points.push(resolved(provider, target, filled));
    }
    if points.is_empty() {
        let name = filled.as_ref().unwrap_or(written).provider.to_display();
        return report(vec![format!("No probe type matched for {name}").into()]);
    }
    let is_alternative = points.len() > 1;
    for point in &mut points {
        point.is_alternative = is_alternative;
    }
    points
}

/// The providers that a pattern stands for. An iterator is the only probe of its script, so that it
/// is not meant by patterns of several providers.
fn of_pattern(point: &bpftrace_notation::AttachPoint) -> Vec<ProviderKind> {
    let pattern = point.provider.to_display();
    let matching = |user: bool| {
        ProviderKind::of_pattern(user)
            .iter()
            .copied()
            .filter(|provider| wildcard_match(&pattern, provider.as_str()))
    };
    let names_file = point
        .parts
        .first()
        .is_some_and(|part| part.to_display().contains('/'));
    // Whether a process is traced is known at start: without a file it may be either.
    let mut providers: Vec<ProviderKind> = if names_file {
        matching(true).collect()
    } else {
        matching(false).chain(matching(true)).collect()
    };
    if providers.len() > 1 {
        providers.retain(|provider| *provider != ProviderKind::Iter);
    }
    providers
}

/// The file that a user probe is in, as far as the script says.
pub(crate) fn user_path(target: &ProbeTarget) -> Option<AttachText> {
    match target {
        ProbeTarget::Uprobe { path, .. } | ProbeTarget::Usdt { path, .. } => {
            path.as_deref().map(AttachText::literal)
        }
        ProbeTarget::Written {
            provider: ProviderKind::Uprobe | ProviderKind::Uretprobe | ProviderKind::Usdt,
            text,
        } => {
            let (point, _) = bpftrace_notation::AttachPoint::parse(text);
            let pieces = point.parts.first()?.pieces.iter().map(|piece| match piece {
                Piece::Literal(literal) => TextPart::Literal(literal.clone()),
                Piece::Param(n) => TextPart::Param(u32::try_from(*n).unwrap_or(u32::MAX)),
            });
            Some(AttachText(pieces.collect()))
        }
        _ => None,
    }
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
