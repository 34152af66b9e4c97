//! Probes of the script to units of code: attach points that can share one program do, and those
//! whose types differ do not.

use std::collections::{HashMap, HashSet};

use bpftrace_ast::attach::ProviderKind;
use bpftrace_ast::diag::Diagnostic;
use bpftrace_ast::node::{Probe, Subprog};
use bpftrace_ast::source::Span;
use bpftrace_meta::{AttachText, MissingProbes, ProbeTarget, ProgramKind};

use super::attach::{self, Point};
use super::macros::Macros;
use super::mentions::mentioned_names;
use crate::typeinfo::{FunctionInfo, TypeSource};
use crate::{SemaOptions, codes};

use super::config::Settings;

/// A probe, as far as its attach points go.
#[derive(Clone, Debug)]
pub(crate) struct Unit<'a> {
    /// What the code is.
    pub(crate) code: Code<'a>,
    /// The attach points that share the program.
    pub(crate) targets: Vec<ProbeTarget>,
    /// Kind of program.
    pub(crate) kind: ProgramKind,
    /// Provider of the attach points. Where it makes a difference to the body, all have this one.
    pub(crate) provider: ProviderKind,
    /// The user's name for the probe.
    pub(crate) name: Option<String>,
    /// What the types of the arguments are.
    pub(crate) args: ArgsOf,
    /// The attach points.
    pub(crate) span: Span,
}

/// Code of the script that becomes a program or subprogram.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Code<'a> {
    /// A probe.
    Probe(&'a Probe),
    /// A function.
    Function(&'a Subprog),
}

impl<'a> Unit<'a> {
    /// A function, which knows nothing about what calls it. Addresses are the kernel's in it.
    pub(crate) fn of_function(function: &'a Subprog) -> Self {
        Self {
            code: Code::Function(function),
            targets: Vec::new(),
            kind: ProgramKind::Kprobe,
            provider: ProviderKind::Kprobe,
            name: None,
            args: ArgsOf::Nothing,
            span: function.name.span,
        }
    }

    /// Whether it is a function.
    pub(crate) fn is_function(&self) -> bool {
        matches!(self.code, Code::Function(_))
    }
}

/// What says which types the arguments of a probe have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ArgsOf {
    /// Nothing: the body does not ask, or there are none.
    Nothing,
    /// The format of a tracepoint.
    Tracepoint { category: String, event: String },
    /// The prototype of a function, or of a raw tracepoint's handler.
    Function(FunctionInfo),
}

/// Names whose meaning depends on who provides the event.
const PROVIDER_DEPENDENT: &[&str] = &[
    "args",
    "retval",
    "func",
    "probetype",
    "ctx",
    "reg",
    "usermode",
    "override",
    "signal",
    "signal_thread",
    "uaddr",
    "path",
    "skboutput",
    "socket_cookie",
    "ustack",
    "kstack",
];

/// Splits the script's probes into units.
pub(crate) fn split_probes<'a>(
    probes: &[&'a Probe],
    macros: &Macros<'a>,
    types: &dyn TypeSource,
    settings: &Settings,
    options: &SemaOptions,
    diags: &mut Vec<Diagnostic>,
) -> Vec<Unit<'a>> {
    let mut units = Vec::new();
    for &probe in probes {
        let names = mentioned_names(probe.predicate.as_ref(), &probe.body, macros);
        let needs_args = names.contains("args") || names.contains("retval");
        let mut points = Vec::new();
        for point in &probe.attach_points {
            let Some(point) = attach::resolve(point, options.unsafe_mode, diags) else {
                continue;
            };
            expand(
                point,
                needs_args,
                &names,
                types,
                settings,
                diags,
                &mut points,
            );
        }
        group(probe, points, &names, &mut units);
    }
    if units.len() as u64 > settings.max_bpf_progs {
        diags.push(
            Diagnostic::new(
                bpftrace_ast::diag::Severity::Error,
                codes::LIMIT,
                None,
                format!(
                    "Your program is trying to generate more than {} BPF programs, which exceeds the \
                     current limit of {}",
                    settings.max_bpf_progs, settings.max_bpf_progs
                ),
            )
            .with_hint(
                "You can increase the limit through the BPFTRACE_MAX_BPF_PROGS environment variable.",
            ),
        );
        units.clear();
    }
    check_iterators_and_tests(&units, diags);
    units
}

/// Gives an attach point the types of its arguments, where the body asks for them; an attach point
/// with wildcards becomes one for each match then.
fn expand(
    point: Point,
    needs_args: bool,
    names: &HashSet<&str>,
    types: &dyn TypeSource,
    settings: &Settings,
    diags: &mut Vec<Diagnostic>,
    out: &mut Vec<(Point, ArgsOf)>,
) {
    let wants = match point.kind {
        ProgramKind::Tracepoint | ProgramKind::Fentry | ProgramKind::TpBtf => {
            names.contains("args")
        }
        ProgramKind::Fexit => needs_args,
        _ => false,
    };
    if !wants {
        out.push((point, ArgsOf::Nothing));
        return;
    }
    let matches: Option<Vec<(ProbeTarget, ArgsOf)>> = match &point.target {
        ProbeTarget::Tracepoint { category, event } => {
            let (Some(c), Some(e)) = (category.as_literal(), event.as_literal()) else {
                out.push(hole(point, diags));
                return;
            };
            if category.has_wildcard() || event.has_wildcard() {
                Some(
                    types
                        .find_tracepoints(c, e)
                        .into_iter()
                        .map(|(category, event)| {
                            let target = ProbeTarget::Tracepoint {
                                category: AttachText::literal(&category),
                                event: AttachText::literal(&event),
                            };
                            (target, ArgsOf::Tracepoint { category, event })
                        })
                        .collect(),
                )
            } else {
                // Whether it exists is found out when its format is asked for.
                let args = ArgsOf::Tracepoint {
                    category: c.to_owned(),
                    event: e.to_owned(),
                };
                Some(vec![(point.target.clone(), args)])
            }
        }
        ProbeTarget::RawTracepoint { module, name } => {
            let module_text = module.as_ref().map(|m| m.as_literal());
            let (Some(n), Some(m)) = (
                name.as_literal(),
                module_text.map_or(Some(None), |m| m.map(Some)),
            ) else {
                out.push(hole(point, diags));
                return;
            };
            let found = types.find_raw_tracepoints(m, n);
            let wild = name.has_wildcard() || module.as_ref().is_some_and(AttachText::has_wildcard);
            Some(
                found
                    .into_iter()
                    .take(if wild { usize::MAX } else { 1 })
                    .map(|info| {
                        let target = ProbeTarget::RawTracepoint {
                            module: module.as_ref().map(|_| AttachText::literal(&info.module)),
                            name: AttachText::literal(&info.name),
                        };
                        (target, ArgsOf::Function(info))
                    })
                    .collect(),
            )
        }
        ProbeTarget::Fentry {
            exit,
            module,
            function,
        } => {
            let module_text = module.as_ref().map(|m| m.as_literal());
            let (Some(f), Some(m)) = (
                function.as_literal(),
                module_text.map_or(Some(None), |m| m.map(Some)),
            ) else {
                out.push(hole(point, diags));
                return;
            };
            let found = types.find_functions(m, f);
            let wild =
                function.has_wildcard() || module.as_ref().is_some_and(AttachText::has_wildcard);
            if !wild
                && found.len() > 1
                && m.is_none()
                && found.iter().all(|i| i.module != "vmlinux")
            {
                diags.push(Diagnostic::error(
                    codes::ATTACH_POINT,
                    point.span,
                    format!(
                        "ambiguous attach point, please specify module containing the function '{f}'"
                    ),
                ));
                return;
            }
            let exit = *exit;
            Some(
                found
                    .into_iter()
                    .take(if wild { usize::MAX } else { 1 })
                    .map(|info| {
                        // A pattern stands for single functions from here on; modules are named so
                        // that the loader finds the same ones.
                        let target = ProbeTarget::Fentry {
                            exit,
                            module: if wild {
                                Some(AttachText::literal(&info.module))
                            } else {
                                module.clone()
                            },
                            function: AttachText::literal(&info.name),
                        };
                        (target, ArgsOf::Function(info))
                    })
                    .collect(),
            )
        }
        ProbeTarget::FentryBpf { .. } => None,
        _ => None,
    };
    match matches {
        None => out.push((point, ArgsOf::Nothing)),
        Some(matches) if matches.is_empty() => no_match(&point, types, settings, diags),
        Some(matches) => out.extend(matches.into_iter().map(|(target, args)| {
            (
                Point {
                    target,
                    ..point.clone()
                },
                args,
            )
        })),
    }
}

/// An attach point that is only known at start has arguments of unknown types.
fn hole(point: Point, diags: &mut Vec<Diagnostic>) -> (Point, ArgsOf) {
    diags.push(Diagnostic::error(
        codes::UNSUPPORTED,
        point.span,
        "typed arguments of an attach point with a positional parameter are not supported yet",
    ));
    (point, ArgsOf::Nothing)
}

fn no_match(
    point: &Point,
    types: &dyn TypeSource,
    settings: &Settings,
    diags: &mut Vec<Diagnostic>,
) {
    if !types.has_kernel_types() {
        diags.push(Diagnostic::error(
            codes::NO_TYPES,
            point.span,
            "the types of arguments need kernel BTF, and there is none",
        ));
        return;
    }
    let what = target_text(&point.target);
    let provider = point.provider.as_str();
    match settings.run.missing_probes.unwrap_or(MissingProbes::Error) {
        MissingProbes::Error => diags.push(
            Diagnostic::error(
                codes::ATTACH_POINT,
                point.span,
                format!("No matches for {provider} {what}."),
            )
            .with_hint("If this is expected, set the 'missing_probes' config variable to 'warn'."),
        ),
        MissingProbes::Warn => diags.push(Diagnostic::warning(
            codes::ATTACH_POINT,
            point.span,
            format!("No matches for {provider} {what}. Skipping."),
        )),
        MissingProbes::Ignore => {}
    }
}

/// What messages call a target, without its provider.
fn target_text(target: &ProbeTarget) -> String {
    let text = |text: &AttachText| text.as_literal().unwrap_or("").to_owned();
    let with_module = |module: &Option<AttachText>, name: &AttachText| match module {
        Some(module) => format!("{}:{}", text(module), text(name)),
        None => text(name),
    };
    match target {
        ProbeTarget::Tracepoint { category, event } => {
            format!("{}:{}", text(category), text(event))
        }
        ProbeTarget::RawTracepoint { module, name } => with_module(module, name),
        ProbeTarget::Fentry {
            module, function, ..
        } => with_module(module, function),
        _ => String::new(),
    }
}

/// What attach points that share a program have in common.
#[derive(PartialEq, Eq, Hash)]
struct GroupKey {
    kind: ProgramKind,
    provider: Option<ProviderKind>,
    pid_filter: bool,
    name: Option<String>,
    args: Option<usize>,
}

fn group<'a>(
    probe: &'a Probe,
    points: Vec<(Point, ArgsOf)>,
    names: &HashSet<&str>,
    units: &mut Vec<Unit<'a>>,
) {
    let by_provider = names.iter().any(|name| {
        PROVIDER_DEPENDENT.contains(name)
            || name
                .strip_prefix("arg")
                .is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
    });
    let mut seen: HashMap<GroupKey, usize> = HashMap::new();
    for (i, (point, args)) in points.into_iter().enumerate() {
        let key = GroupKey {
            kind: point.kind,
            // Addresses mean something else to other providers.
            provider: by_provider.then_some(point.provider),
            pid_filter: attach::needs_pid_filter(point.provider),
            name: point.name.clone(),
            args: (args != ArgsOf::Nothing).then_some(i),
        };
        // Tests, benchmarks and iterators are programs of their own by nature.
        let own = matches!(point.kind, ProgramKind::Xdp | ProgramKind::Iter);
        match seen.get(&key) {
            Some(&unit) if !own => units[unit].targets.push(point.target),
            _ => {
                seen.insert(key, units.len());
                units.push(Unit {
                    code: Code::Probe(probe),
                    targets: vec![point.target],
                    kind: point.kind,
                    provider: point.provider,
                    name: point.name,
                    args,
                    span: point.span,
                });
            }
        }
    }
}

fn check_iterators_and_tests(units: &[Unit<'_>], diags: &mut Vec<Diagnostic>) {
    let mut names: HashMap<(bool, &str), Span> = HashMap::new();
    for unit in units {
        for target in &unit.targets {
            let (is_test, name) = match target {
                ProbeTarget::Test(name) => (true, name),
                ProbeTarget::Bench(name) => (false, name),
                ProbeTarget::Iter { .. } if units.len() > 1 || unit.targets.len() > 1 => {
                    diags.push(Diagnostic::error(
                        codes::ATTACH_POINT,
                        unit.span,
                        "iter probe only supports one attach point.",
                    ));
                    continue;
                }
                _ => continue,
            };
            if names.insert((is_test, name), unit.span).is_some() {
                let kind = if is_test { "TEST" } else { "BENCH" };
                diags.push(Diagnostic::error(
                    codes::ATTACH_POINT,
                    unit.span,
                    format!("\"{name}\" was used as the name for more than one {kind} probe"),
                ));
            }
        }
    }
}
