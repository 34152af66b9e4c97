//! The passes of the analysis, in order.

use std::collections::{HashMap, HashSet, VecDeque};

use bpftrace_ast::diag::{Diagnostic, has_errors};
use bpftrace_ast::node::{Item, Probe as AstProbe, Script};
use bpftrace_ast::source::{SourceMap, Span};
use bpftrace_meta::{HostValue, ProgramKind, UserLayout};

use crate::cached::Cached;
use crate::cdef::{CText, read_c};
use crate::env::{KeyState, Locals, MapState, Merged};
use crate::join::Literals;
use crate::lower::{Session, lower_unit, read_imported, read_signatures, refuse_recursion};
use crate::pass::attach::needs_pid_filter;
use crate::pass::macros::Macros;
use crate::pass::{config, decls, imports, units};
use crate::require::find_requirements;
use crate::stdlib::Library;
use crate::texts::TextSource;
use crate::typed::{expanded_from, outside_library};
use crate::typeinfo::{TypeSource, WithObjects};
use crate::{
    Body, CodeOptions, Function, ImportedObject, IntTy, MapDef, MapIdx, Probe, SemaOptions, Ty,
    TypedProgram, codes,
};

/// Rounds of type inference in which nothing gets its first type. Types only get wider, so scripts that people write
/// need three or four.
const MAX_ROUNDS: u32 = 50;

/// Statements that are looked at in further rounds than these. Where each of many maps gets its type from one that is
/// assigned later, and not just by a copy, each round knows one more.
const MAX_LOWERED: usize = 2_000_000;

/// Analyses a script: names, types, checks. The program is there when there is no error among the
/// diagnostics. Texts that the script names, and those of the library that it needs, are added to `sources`.
pub fn analyze(
    script: &Script,
    sources: &mut SourceMap,
    types: &dyn TypeSource,
    texts: &dyn TextSource,
    options: &SemaOptions,
) -> (Option<TypedProgram>, Vec<Diagnostic>) {
    let mut import_diags = Vec::new();
    let merged = imports::merge(script, sources, texts, &mut import_diags);
    // Most of what could be said about a script without what it imports follows from that.
    if has_errors(&import_diags) {
        return (None, import_diags);
    }
    let btf = merged.objects.iter().map(|object| &*object.file.btf);
    let objects = WithObjects::new(types, btf);
    let types = Cached::new(&objects);
    let library = Library::load(&merged.script, sources);
    let mut impossible = units::Impossible::new();
    let mut first = None;
    loop {
        let mut wrong = units::Impossible::new();
        let diags = import_diags.clone();
        let result = analyze_without(
            &impossible,
            &merged,
            &library,
            diags,
            sources,
            &types,
            &objects,
            texts,
            options,
            &mut wrong,
        );
        let n_before = impossible.len();
        impossible.extend(wrong);
        if impossible.len() == n_before {
            return match result {
                // What is left may be nothing; then the mistake is why.
                (None, _) if first.is_some() => (None, first.unwrap_or_default()),
                result => result,
            };
        }
        first.get_or_insert(result.1);
    }
}

/// One attempt, without those alternatives of attach points that are known to be impossible. Those
/// found to have mistakes in it are added to `wrong`.
#[expect(
    clippy::too_many_arguments,
    reason = "the inputs of the analysis, one by one"
)]
fn analyze_without(
    impossible: &units::Impossible,
    merged: &imports::Merged,
    library: &Library,
    mut diags: Vec<Diagnostic>,
    sources: &mut SourceMap,
    types: &Cached<'_>,
    objects: &WithObjects<'_>,
    texts: &dyn TextSource,
    options: &SemaOptions,
    wrong: &mut units::Impossible,
) -> (Option<TypedProgram>, Vec<Diagnostic>) {
    let script = &merged.script;

    // 1. Settings.
    let settings = config::read_config(script.config.as_ref(), options, &mut diags);
    let macros = Macros::of(script, library, &mut diags);

    // 2. Attach points: which probes share a program.
    let probes: Vec<&AstProbe> = script
        .items
        .iter()
        .filter_map(|item| match item {
            Item::Probe(probe) => Some(probe),
            _ => None,
        })
        .collect();
    let units::Units {
        mut units,
        typed_params,
    } = units::split_probes(
        &probes, &macros, types, &settings, options, impossible, &mut diags,
    );
    let n_probes = units.len();
    let has_all_probes = !has_errors(&diags);
    units.extend(script.items.iter().filter_map(|item| match item {
        Item::Subprog(function) => Some(units::Unit::of_function(function)),
        _ => None,
    }));

    // 3. Names and types, until nothing changes; checks and lowering come of the last round.
    let mut session = Session::new(types, options, settings, macros, library);
    let c_text = CText {
        includes: &options.includes,
        headers: &merged.headers,
        statements: &script.c_statements,
    };
    session.c = read_c(
        &c_text,
        texts,
        sources,
        types,
        &mut session.imported,
        &mut diags,
    );
    read_signatures(&mut session, &units, &mut diags);
    let n_before = diags.len();
    read_imported(&mut session, &merged.objects, objects, &mut diags);
    if has_errors(&diags[n_before..]) {
        return (None, diags);
    }
    decls::declare_maps(script, &mut session.maps, &mut diags);
    let (bodies, layouts) = infer(&mut session, &units, &mut diags, wrong);
    refuse_recursion(&session.functions, &bodies[n_probes..], &mut diags);
    // A probe that is missing may be what gives a map its type.
    if has_all_probes {
        decls::check_maps(&session.maps, &mut diags);
    }
    // What comes from a map that is not there has no type either.
    if diags.iter().any(|diag| diag.code == codes::UNDEFINED_MAP) {
        diags.retain(|diag| diag.code != codes::UNRESOLVED_TYPE);
    }

    for diag in &mut diags {
        point_outside_library(diag, &session.expansions, sources);
    }
    let mut diags = without_repetitions(diags);
    if let Some(span) = session.lost
        && !has_errors(&diags)
    {
        diags.push(Diagnostic::error(
            codes::INTERNAL,
            span,
            "the compiler does not know what to make of this, which is a mistake of the compiler",
        ));
    }
    if has_errors(&diags) {
        return (None, diags);
    }

    // 4. The program, and what the kernel must be able to do for it.
    let mut program = assemble(session, &units, bodies, layouts, n_probes);
    let object = |object: &imports::ImportedObject| ImportedObject {
        path: object.path.clone(),
        span: object.import.span,
        bytes: object.file.bytes.clone(),
    };
    program.objects = merged.objects.iter().map(object).collect();
    program.typed_params.extend(typed_params);
    program.typed_params.sort_unstable();
    program.typed_params.dedup();
    program.requirements = find_requirements(&program, sources);
    if cfg!(debug_assertions)
        && let Err(message) = crate::verify::verify(&program)
    {
        diags.push(Diagnostic::new(
            bpftrace_ast::diag::Severity::Error,
            codes::INTERNAL,
            None,
            format!("the typed program is wrong, which is a mistake of the compiler: {message}"),
        ));
        return (None, diags);
    }
    (Some(program), diags)
}

/// Types of variables and maps to a fixpoint, and the bodies that result.
fn infer<'a>(
    session: &mut Session<'a>,
    units: &[units::Unit<'a>],
    diags: &mut Vec<Diagnostic>,
    wrong: &mut units::Impossible,
) -> (Vec<Body>, Vec<Option<UserLayout>>) {
    let mut locals: Vec<Locals> = units.iter().map(|_| Locals::default()).collect();
    let mut bodies = Vec::new();
    let mut layouts = Vec::new();
    let mut settled = false;
    let (mut n_rounds, mut n_idle, mut n_known) = (0, 0, 0);
    while n_idle < MAX_ROUNDS && (n_rounds < MAX_ROUNDS || session.n_lowered < MAX_LOWERED) {
        n_rounds += 1;
        n_idle += 1;
        session.start_round();
        forget_stale_pointers(session, &mut locals);
        number_maps(session);
        wrong.clear();
        layouts.clear();
        bodies = units
            .iter()
            .zip(&mut locals)
            .map(|(unit, locals)| {
                let n_before = session.diags.len();
                let lost = session.lost;
                session.program_used = None;
                let body = lower_unit(session, unit, locals);
                if unit.is_alternative && has_errors(&session.diags[n_before..]) {
                    wrong.insert((unit.span, unit.provider));
                    session.lost = lost;
                }
                let build = session.program_used.take();
                let build = build.and_then(|program| session.types.program_build(program));
                layouts.push(
                    unit.path
                        .clone()
                        .zip(build)
                        .map(|(path, build)| UserLayout { path, build }),
                );
                body
            })
            .collect();
        if session.changed {
            copy_types(session);
            let n = count_known(session, &locals);
            if n > n_known {
                (n_idle, n_known) = (0, n);
            }
            continue;
        }
        settled = !assume_integers(session);
        if settled {
            break;
        }
    }
    diags.append(&mut session.diags);
    if !settled && !has_errors(diags) {
        diags.push(Diagnostic::new(
            bpftrace_ast::diag::Severity::Error,
            codes::UNRESOLVED_TYPE,
            None,
            format!("types of variables and maps do not settle after {n_rounds} rounds"),
        ));
    }
    (bodies, layouts)
}

/// Takes types of maps over to those that their values are assigned to, however many there are in a row: a round knows
/// only what is known where it comes by.
fn copy_types(session: &mut Session<'_>) {
    let copies = std::mem::take(&mut session.copies);
    let mut targets: HashMap<&str, Vec<&str>> = HashMap::new();
    for (from, to) in &copies {
        targets.entry(from).or_default().push(to);
    }
    let types = &session.imported.table;
    let mut todo: VecDeque<&str> = copies.iter().map(|(from, _)| from.as_str()).collect();
    let mut waiting: HashSet<&str> = todo.iter().copied().collect();
    while let Some(from) = todo.pop_front() {
        if !waiting.remove(from) {
            continue;
        }
        let Some(state) = session.maps.get(from) else {
            continue;
        };
        let (value, is_guess) = (state.value.clone(), state.assumed);
        let Some(ty) = value.ty.filter(|ty| !matches!(ty, Ty::Agg(_)) && !is_guess) else {
            continue;
        };
        for &to in targets.get(from).into_iter().flatten() {
            let Some(state) = session.maps.get_mut(to) else {
                continue;
            };
            let merged = state.value.merge(&ty, &Literals::None, value.space, types);
            if merged == Merged::Changed && waiting.insert(to) {
                todo.push_back(to);
            }
        }
    }
}

/// How many variables, keys and values have a type.
fn count_known(session: &Session<'_>, locals: &[Locals]) -> usize {
    let of_maps = session.maps.values().map(|state| {
        let key = matches!(&state.key, KeyState::Keyed(key) if key.ty.is_some());
        1 + usize::from(key) + usize::from(state.value.ty.is_some())
    });
    let locals = locals.iter().flat_map(|locals| locals.all());
    of_maps.sum::<usize>() + locals.filter(|local| local.state.ty.is_some()).count()
}

/// Where a variable was widened, what was thought of its addresses is wrong. This ends, because variables only
/// widen so often.
fn forget_stale_pointers(session: &mut Session<'_>, locals: &mut [Locals]) {
    let old = std::mem::take(&mut session.widened);
    if old.is_empty() {
        return;
    }
    for locals in &mut *locals {
        locals.forget_pointers_to(&old);
    }
    for state in session.maps.values_mut() {
        state.value.forget_pointers_to(&old);
        if let KeyState::Keyed(key) = &mut state.key {
            key.forget_pointers_to(&old);
        }
    }
}

/// Says that a map whose values nothing gives a type holds integers: one that is never assigned, else one
/// that is only counted up or down, else any. The others may get their types from it, in the next
/// round. `false`: all are known.
fn assume_integers(session: &mut Session<'_>) -> bool {
    let assumptions: [fn(&MapState) -> bool; 3] =
        [|state| !state.written, |state| state.stepped, |_| true];
    assumptions.iter().any(|assume| {
        let mut any = false;
        for state in session.maps.values_mut() {
            if state.value.ty.is_none()
                && state.used
                && state.key != KeyState::Unused
                && assume(state)
            {
                state.value.ty = Some(Ty::Int(IntTy::I64));
                state.assumed = true;
                any = true;
            }
        }
        any
    })
}

fn number_maps(session: &mut Session<'_>) {
    let used = session.maps.iter();
    let used = used.filter(|(_, state)| state.key != KeyState::Unused);
    session.map_names = used.map(|(name, _)| name.clone()).collect();
    let numbers = (0..).map(MapIdx);
    session.map_numbers = session.map_names.iter().cloned().zip(numbers).collect();
}

/// What is found inside the library is a mistake of the text that calls it.
fn point_outside_library(diag: &mut Diagnostic, expansions: &[Span], sources: &SourceMap) {
    let Some(place) = diag.span else {
        return;
    };
    if diag.expanded_from.is_empty() {
        diag.expanded_from = expanded_from(expansions, place);
    }
    let own = outside_library(place, &diag.expanded_from, sources);
    if own != place {
        let inside = diag.expanded_from.iter().position(|&call| call == own);
        diag.expanded_from.drain(..=inside.unwrap_or_default());
        diag.span = Some(own);
    }
}

/// The same mistake, found once for each attach point of a probe, is one mistake.
fn without_repetitions(diags: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut seen = HashSet::new();
    diags
        .into_iter()
        .filter(|diag| {
            seen.insert((
                diag.code,
                diag.span.map(Span::as_written),
                diag.message.clone(),
            ))
        })
        .collect()
}

fn assemble(
    mut session: Session<'_>,
    units: &[units::Unit<'_>],
    mut bodies: Vec<Body>,
    layouts: Vec<Option<UserLayout>>,
    n_probes: usize,
) -> TypedProgram {
    let functions = session
        .functions
        .iter()
        .zip(bodies.split_off(n_probes))
        .map(|(signature, body)| Function {
            name: signature.name.clone(),
            n_params: u32::try_from(signature.params.len()).unwrap_or(u32::MAX),
            ret: signature.ret.clone(),
            body,
            span: signature.span,
        })
        .collect();
    let probes = units[..n_probes]
        .iter()
        .zip(bodies)
        .zip(layouts)
        .map(|((unit, body), layout)| {
            let pid_filter = needs_pid_filter(unit.provider).then(|| {
                session
                    .tables
                    .slot(HostValue::TargetPid, Ty::Int(IntTy::U64), None)
            });
            Probe {
                kind: unit.kind,
                targets: unit.targets.clone(),
                target_spans: unit.target_spans.clone(),
                name: unit.name.clone(),
                span: unit.span,
                body,
                // Zero would keep the event from other listeners.
                default_return: i64::from(unit.kind == ProgramKind::Tracepoint),
                pid_filter,
                layout,
                from_pattern: unit.from_pattern,
            }
        })
        .collect();
    let maps: Vec<MapDef> = session
        .maps
        .iter()
        .filter_map(|(name, state)| {
            let key = match &state.key {
                KeyState::Unused => return None,
                KeyState::Scalar => None,
                KeyState::Keyed(key) => Some(key.ty.clone().unwrap_or(Ty::Int(IntTy::I64))),
            };
            Some(MapDef {
                name: format!("@{name}"),
                key,
                value: state.value.ty.clone().unwrap_or(Ty::Int(IntTy::I64)),
                declared: state.declared,
                span: state.span,
            })
        })
        .collect();
    let Session {
        settings,
        imported,
        tables,
        options,
        expansions,
        imported_functions,
        ..
    } = session;
    TypedProgram {
        types: imported.table,
        maps,
        probes,
        functions,
        objects: Vec::new(),
        imported_functions,
        slots: tables.slots,
        time_formats: tables.time_formats.list,
        cgroup_filters: tables.cgroup_filters.list,
        named_params: tables.named_params,
        n_params: tables.n_params,
        typed_params: tables.fixed_params.into_iter().collect(),
        config: settings.run,
        license: settings.license,
        requirements: Vec::new(),
        expansions,
        options: CodeOptions {
            max_strlen: settings.max_strlen,
            on_stack_limit: settings.on_stack_limit,
            unsafe_mode: options.unsafe_mode,
            extra_warnings: options.extra_warnings,
        },
    }
}
