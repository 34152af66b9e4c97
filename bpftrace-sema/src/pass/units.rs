//! Probes of the script to units of code: attach points that can share one program do, and those
//! whose types differ do not.

use std::collections::{BTreeMap, HashMap, HashSet};

use bpftrace_ast::attach::ProviderKind;
use bpftrace_ast::diag::Diagnostic;
use bpftrace_ast::node::{Probe, Subprog};
use bpftrace_ast::source::Span;
use bpftrace_meta::{MissingProbes, ProbeTarget, ProgramKind, UprobePlace};

use super::attach::{self, Point};
use super::macros::Macros;
use super::mentions::mentioned_names;
use crate::builtin::INTERNAL;
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
    /// Where each of them is written.
    pub(crate) target_spans: Vec<Span>,
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
    /// The executable or library that all attach points are in, if the script names one.
    pub(crate) path: Option<String>,
    /// Whether the loader takes it only if an attach point turns out to name its provider.
    pub(crate) is_alternative: bool,
    /// Whether the attach point is one match of the pattern that was written.
    pub(crate) from_pattern: bool,
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
            target_spans: Vec::new(),
            kind: ProgramKind::Kprobe,
            provider: ProviderKind::Kprobe,
            name: None,
            args: ArgsOf::Nothing,
            path: None,
            span: function.name.span,
            is_alternative: false,
            from_pattern: false,
        }
    }

    /// Whether it is an iterator that stands beside other attach points. The first of a probe is none if a later
    /// one is.
    fn is_iterator_too_many(&self, units: &[Unit<'_>]) -> bool {
        let Code::Probe(probe) = self.code else {
            return false;
        };
        let is_iterator = |unit: &Unit<'_>| matches!(*unit.targets, [ProbeTarget::Iter { .. }]);
        let is_later_one = |unit: &Unit<'_>| {
            matches!(unit.code, Code::Probe(other) if std::ptr::eq(other, probe))
                && unit.span != self.span
                && is_iterator(unit)
        };
        match &*probe.attach_points {
            [] | [_] => false,
            [first, ..] if first.span == self.span => !units.iter().any(is_later_one),
            _ => true,
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
    /// A function of a user program, by its symbol.
    Program {
        /// Object of its types.
        program: u32,
        /// Symbol.
        function: String,
    },
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

/// The units of a script.
#[derive(Debug, Default)]
pub(crate) struct Units<'a> {
    /// Probes first, in the order of the script.
    pub(crate) units: Vec<Unit<'a>>,
    /// Positional parameters, by number, whose values the types of arguments come from.
    pub(crate) typed_params: BTreeMap<u32, String>,
}

/// Alternatives of attach points that the body is not possible for: where, and which provider.
pub(crate) type Impossible = HashSet<(Span, ProviderKind)>;

/// Splits the script's probes into units.
pub(crate) fn split_probes<'a>(
    probes: &[&'a Probe],
    macros: &Macros<'a>,
    types: &dyn TypeSource,
    settings: &Settings,
    options: &SemaOptions,
    impossible: &Impossible,
    diags: &mut Vec<Diagnostic>,
) -> Units<'a> {
    let mut units = Vec::new();
    let mut typed_params = BTreeMap::new();
    let mut n_matches = 0;
    for &probe in probes {
        let mut names = mentioned_names(probe.predicate.as_ref(), &probe.body, macros);
        // What the library's macros stand on means the same.
        let internal: Vec<&str> = names
            .iter()
            .filter_map(|name| name.strip_prefix(INTERNAL))
            .collect();
        names.extend(internal);
        let needs_args = names.contains("args") || names.contains("retval");
        let mut expander = Expander {
            needs_args,
            names: &names,
            types,
            settings,
            diags,
            typed_params: &mut typed_params,
            n_matches: &mut n_matches,
            untyped: None,
            out: Vec::new(),
        };
        for written in &probe.attach_points {
            let mut points = attach::resolve(written, options, expander.diags);
            let Some(last) = points.last().cloned() else {
                continue;
            };
            points.retain(|point| {
                !point.is_alternative || !impossible.contains(&(point.span, point.provider))
            });
            if points.is_empty() {
                // The mistakes of each were reported when it was found to be impossible.
                expander.diags.push(Diagnostic::error(
                    codes::ATTACH_POINT,
                    last.span,
                    "the body is not possible for any of the providers",
                ));
                continue;
            }
            let n_before = expander.out.len();
            for point in points {
                expander.expand(point);
            }
            // Of several providers, one match is enough.
            let untyped = expander.untyped.take();
            if expander.out.len() == n_before
                && let Some(untyped) = untyped
            {
                expander.diags.push(untyped);
            } else if last.is_alternative && expander.out.len() == n_before {
                expander.no_match(&last, written.written.unnamed());
            }
        }
        let points = expander.out;
        group(probe, points, &names, &mut units);
    }
    check_iterators_and_tests(&units, diags);
    Units {
        units,
        typed_params,
    }
}

/// Gives attach points the types of their arguments.
struct Expander<'e> {
    needs_args: bool,
    names: &'e HashSet<&'e str>,
    types: &'e dyn TypeSource,
    settings: &'e Settings,
    diags: &'e mut Vec<Diagnostic>,
    typed_params: &'e mut BTreeMap<u32, String>,
    /// Of patterns, each of which is a program of its own.
    n_matches: &'e mut u64,
    /// What to say if the types of arguments are unknown for all alternatives.
    untyped: Option<Diagnostic>,
    out: Vec<(Point, ArgsOf)>,
}

impl Expander<'_> {
    /// Gives an attach point the types of its arguments, where the body asks for them; an attach
    /// point with wildcards becomes one for each match then.
    fn expand(&mut self, mut point: Point) {
        let wants = match point.kind {
            ProgramKind::Tracepoint | ProgramKind::Fentry | ProgramKind::TpBtf => {
                self.names.contains("args")
            }
            ProgramKind::Uprobe => {
                point.provider == ProviderKind::Uprobe && self.names.contains("args")
            }
            ProgramKind::Fexit => self.needs_args,
            _ => false,
        };
        if !wants {
            self.out.push((point, ArgsOf::Nothing));
            return;
        }
        if let ProbeTarget::Written { text, .. } = &point.target {
            let Some(filled) = point.filled.take() else {
                self.untyped = Some(
                    Diagnostic::error(
                        codes::ATTACH_POINT,
                        point.span,
                        format!(
                            "the types of the arguments of '{text}' are not known without its \
                             positional parameters"
                        ),
                    )
                    .with_hint("Give the parameters to the compiler, too."),
                );
                return;
            };
            point.target = filled.target;
            self.typed_params.extend(filled.params);
        }
        let matches: Option<Vec<(ProbeTarget, ArgsOf)>> = match &point.target {
            ProbeTarget::Tracepoint { category, event } => Some(self.tracepoints(category, event)),
            ProbeTarget::RawTracepoint { module, name } => {
                Some(self.raw_tracepoints(module.as_deref(), name))
            }
            ProbeTarget::Fentry {
                exit,
                module,
                function,
            } => match self.functions(&point, *exit, module.as_deref(), function) {
                Some(matches) => Some(matches),
                None => return,
            },
            ProbeTarget::Uprobe { path, place, .. } => {
                match self.program_functions(&point, path.as_deref(), place) {
                    Some(matches) => Some(matches),
                    None => return,
                }
            }
            _ => None,
        };
        match matches {
            None => self.out.push((point, ArgsOf::Nothing)),
            Some(matches) if matches.is_empty() && point.is_alternative => {}
            Some(matches) if matches.is_empty() => {
                self.no_match(&point, &target_text(&point.target));
            }
            Some(matches) => {
                if is_pattern(&target_text(&point.target)) {
                    point.from_pattern = true;
                    *self.n_matches += matches.len() as u64;
                    if *self.n_matches > self.settings.max_bpf_progs {
                        self.too_many(point.span);
                        return;
                    }
                }
                self.out.extend(matches.into_iter().map(|(target, args)| {
                    (
                        Point {
                            target,
                            ..point.clone()
                        },
                        args,
                    )
                }));
            }
        }
    }

    fn too_many(&mut self, span: Span) {
        self.diags.push(
            Diagnostic::error(
                codes::LIMIT,
                span,
                format!(
                    "Your program is trying to generate more than {} BPF programs, which exceeds the \
                     current limit of {}",
                    self.n_matches, self.settings.max_bpf_progs
                ),
            )
            .with_hint(
                "You can increase the limit through the BPFTRACE_MAX_BPF_PROGS environment variable.",
            ),
        );
    }

    fn tracepoints(&self, category: &str, event: &str) -> Vec<(ProbeTarget, ArgsOf)> {
        let one = |category: String, event: String| {
            let target = ProbeTarget::Tracepoint {
                category: category.clone(),
                event: event.clone(),
            };
            (target, ArgsOf::Tracepoint { category, event })
        };
        if !is_pattern(category) && !is_pattern(event) {
            let exists = self.types.tracepoint_format(category, event).is_some();
            let found = exists.then(|| one(category.to_owned(), event.to_owned()));
            return found.into_iter().collect();
        }
        let found = self.types.find_tracepoints(category, event);
        found.into_iter().map(|(c, e)| one(c, e)).collect()
    }

    fn raw_tracepoints(&self, module: Option<&str>, name: &str) -> Vec<(ProbeTarget, ArgsOf)> {
        let wild = is_pattern(name) || module.is_some_and(is_pattern);
        self.types
            .find_raw_tracepoints(module, name)
            .into_iter()
            .take(if wild { usize::MAX } else { 1 })
            .map(|info| {
                let target = ProbeTarget::RawTracepoint {
                    module: module.map(|_| info.module.clone()),
                    name: info.name.clone(),
                };
                (target, ArgsOf::Function(info))
            })
            .collect()
    }

    /// Functions with BTF; nothing when it is an error, which is reported.
    fn functions(
        &mut self,
        point: &Point,
        exit: bool,
        module: Option<&str>,
        function: &str,
    ) -> Option<Vec<(ProbeTarget, ArgsOf)>> {
        let found = self.types.find_functions(module, function);
        let wild = is_pattern(function) || module.is_some_and(is_pattern);
        if !wild
            && found.len() > 1
            && module.is_none()
            && found.iter().all(|info| info.module != "vmlinux")
        {
            self.diags.push(Diagnostic::error(
                codes::ATTACH_POINT,
                point.span,
                format!(
                    "ambiguous attach point, please specify module containing the function \
                     '{function}'"
                ),
            ));
            return None;
        }
        let targets = found
            .into_iter()
            .take(if wild { usize::MAX } else { 1 })
            .map(|info| {
                // A pattern stands for single functions from here on; modules are named so that the
                // loader finds the same ones.
                let target = ProbeTarget::Fentry {
                    exit,
                    module: if wild {
                        Some(info.module.clone())
                    } else {
                        module.map(str::to_owned)
                    },
                    function: info.name.clone(),
                };
                (target, ArgsOf::Function(info))
            });
        Some(targets.collect())
    }

    /// Functions of a user program with debug information; nothing when it is an error, which is reported.
    fn program_functions(
        &mut self,
        point: &Point,
        path: Option<&str>,
        place: &UprobePlace,
    ) -> Option<Vec<(ProbeTarget, ArgsOf)>> {
        let mut wrong = |message: String| {
            self.diags
                .push(Diagnostic::error(codes::NO_TYPES, point.span, message));
            None
        };
        let UprobePlace::Function {
            name,
            language,
            offset,
        } = place
        else {
            return wrong(
                "'args' builtin is only supported for probes at functions by their names."
                    .to_owned(),
            );
        };
        let written = path.unwrap_or_default();
        let paths = if is_pattern(written) {
            self.types.find_programs(written, name, language.as_deref())
        } else {
            vec![written.to_owned()]
        };
        let mut targets = Vec::new();
        for path in paths {
            let Some(program) = self.types.program(&path) else {
                return wrong(match path.as_str() {
                    "" => "'args' builtin is only supported for probes that name an executable or library."
                        .to_owned(),
                    path => format!("no debuginfo found for {path}"),
                });
            };
            let functions = if is_pattern(name) || language.is_some() {
                self.types
                    .program_functions(program, name, language.is_some())
            } else {
                let known = self.types.program_params(program, name).is_some();
                known.then(|| name.clone()).into_iter().collect()
            };
            let path = Some(path).filter(|path| !path.is_empty());
            targets.extend(functions.into_iter().map(|function| {
                let target = ProbeTarget::Uprobe {
                    ret: false,
                    path: path.clone(),
                    place: UprobePlace::Function {
                        name: function.clone(),
                        language: language.clone(),
                        offset: *offset,
                    },
                };
                (target, ArgsOf::Program { program, function })
            }));
        }
        Some(targets)
    }

    /// Reports that nothing matches, as the settings ask for.
    fn no_match(&mut self, point: &Point, what: &str) {
        let in_program = point.provider == ProviderKind::Uprobe;
        if !in_program && !self.types.has_kernel_types() {
            self.diags.push(Diagnostic::error(
                codes::NO_TYPES,
                point.span,
                "the types of arguments need kernel BTF, and there is none",
            ));
            return;
        }
        let what = if point.is_alternative {
            what.to_owned()
        } else {
            format!("{} {what}", point.provider.as_str())
        };
        let policy = self.settings.run.missing_probes;
        match policy.unwrap_or(MissingProbes::Error) {
            MissingProbes::Error => self.diags.push(
                Diagnostic::error(
                    codes::ATTACH_POINT,
                    point.span,
                    format!("No matches for {what}."),
                )
                .with_hint(
                    "If this is expected, set the 'missing_probes' config variable to 'warn'.",
                ),
            ),
            MissingProbes::Warn => self.diags.push(Diagnostic::warning(
                codes::ATTACH_POINT,
                point.span,
                format!("No matches for {what}. Skipping."),
            )),
            MissingProbes::Ignore => {}
        }
    }
}

/// The one file that a `uprobe` or `uretprobe` is in.
fn program_path(target: &ProbeTarget) -> Option<String> {
    match target {
        // Without a path it is the executable of the process.
        ProbeTarget::Uprobe { path, .. } => {
            Some(path.clone().unwrap_or_default()).filter(|path| !is_pattern(path))
        }
        _ => None,
    }
}

fn is_pattern(text: &str) -> bool {
    text.contains('*')
}

/// What messages call a target, without its provider.
fn target_text(target: &ProbeTarget) -> String {
    let with_module = |module: &Option<String>, name: &str| match module {
        Some(module) => format!("{module}:{name}"),
        None => name.to_owned(),
    };
    match target {
        ProbeTarget::Tracepoint { category, event } => format!("{category}:{event}"),
        ProbeTarget::RawTracepoint { module, name } => with_module(module, name),
        ProbeTarget::Fentry {
            module, function, ..
        } => with_module(module, function),
        ProbeTarget::Uprobe {
            path,
            place: UprobePlace::Function { name, .. },
            ..
        } => with_module(path, name),
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
    path: Option<String>,
    is_alternative: bool,
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
            // Addresses mean something else to other providers, and USDT probes know their names in
            // another way.
            provider: (by_provider || point.is_alternative || point.provider == ProviderKind::Usdt)
                .then_some(point.provider),
            pid_filter: attach::needs_pid_filter(point.provider),
            name: point.name.clone(),
            args: (args != ArgsOf::Nothing).then_some(i),
            // Types of the script may be those of the program.
            path: program_path(&point.target),
            is_alternative: point.is_alternative,
        };
        // Tests, benchmarks and iterators are programs of their own by nature.
        let own = matches!(point.kind, ProgramKind::Xdp | ProgramKind::Iter);
        match seen.get(&key) {
            Some(&unit) if !own => {
                units[unit].targets.push(point.target);
                units[unit].target_spans.push(point.span);
            }
            _ => {
                let path = key.path.clone();
                seen.insert(key, units.len());
                units.push(Unit {
                    code: Code::Probe(probe),
                    targets: vec![point.target],
                    target_spans: vec![point.span],
                    kind: point.kind,
                    provider: point.provider,
                    name: point.name,
                    path,
                    args,
                    span: point.span,
                    is_alternative: point.is_alternative,
                    from_pattern: point.from_pattern,
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
                ProbeTarget::Iter { .. } if unit.is_iterator_too_many(units) => {
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
