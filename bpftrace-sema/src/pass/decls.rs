//! Declarations at the top level.

use bpftrace_ast::diag::Diagnostic;
use bpftrace_ast::node::{Item, MapDecl, Script};

use crate::env::{KeyState, MapState, Maps, TyState};
use crate::{DeclaredMap, MapKind, Ty, codes, suggest};

const KINDS: &[(&str, MapKind)] = &[
    ("percpulruhash", MapKind::PercpuLruHash),
    ("percpuhash", MapKind::PercpuHash),
    ("lruhash", MapKind::LruHash),
    ("hash", MapKind::Hash),
];

fn kind_name(kind: MapKind) -> &'static str {
    KINDS
        .iter()
        .find(|(_, known)| *known == kind)
        .map_or("hash", |(name, _)| name)
}

/// Takes over `let @m = kind(n)`.
pub(crate) fn declare_maps(script: &Script, maps: &mut Maps, diags: &mut Vec<Diagnostic>) {
    for item in &script.items {
        if let Item::MapDecl(decl) = item {
            declare_map(decl, maps, diags);
        }
    }
}

fn declare_map(decl: &MapDecl, maps: &mut Maps, diags: &mut Vec<Diagnostic>) {
    let Some((_, kind)) = KINDS.iter().find(|(name, _)| *name == decl.kind.name) else {
        let names: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
        let mut diag = Diagnostic::error(
            codes::MAP_DECLARATION,
            decl.kind.span,
            format!("Invalid bpf map type: {}", decl.kind.name),
        )
        .with_hint(format!("Valid map types: {}", names.join(", ")));
        if let Some(near) = suggest::nearest(&decl.kind.name, names) {
            diag = diag.with_hint(format!("Did you mean: {near}?"));
        }
        diags.push(diag);
        return;
    };
    let max_entries = match u32::try_from(decl.max_entries.value) {
        Ok(n) if n > 0 => n,
        _ => {
            diags.push(Diagnostic::error(
                codes::MAP_DECLARATION,
                decl.max_entries_span,
                format!("Invalid number of map entries: {}", decl.max_entries.value),
            ));
            return;
        }
    };
    if let Some(first) = maps.get(&decl.map.name) {
        diags.push(
            Diagnostic::error(
                codes::REDECLARED,
                decl.map.span,
                format!("Map @{} was already declared.", decl.map.name),
            )
            .with_context(first.span, "This is the initial declaration."),
        );
        return;
    }
    maps.insert(
        decl.map.name.clone(),
        MapState {
            key: KeyState::Unused,
            value: TyState::default(),
            span: decl.map.span,
            declared: Some(DeclaredMap {
                kind: *kind,
                max_entries,
            }),
            used: false,
            written: false,
            assumed: false,
            asked: None,
            stepped: false,
        },
    );
}

/// What can be said about maps once all of their uses are known.
pub(crate) fn check_maps(maps: &Maps, diags: &mut Vec<Diagnostic>) {
    for (name, state) in maps {
        if !state.used {
            diags.push(Diagnostic::warning(
                codes::UNUSED,
                state.span,
                format!("Unused map: @{name}"),
            ));
            continue;
        }
        let assigned = state.value.ty.is_some() && (state.written || !state.assumed);
        let has_values = assigned || state.declared.is_some();
        let asked = state.asked.filter(|_| !has_values);
        if state.key == KeyState::Unused || asked.is_some() {
            let mut diag = Diagnostic::error(
                codes::UNDEFINED_MAP,
                asked.unwrap_or(state.span),
                format!("Undefined map: @{name}"),
            );
            let others = maps
                .iter()
                .filter(|(_, other)| other.written)
                .map(|(n, _)| n.as_str());
            if diags.len() < suggest::ENOUGH
                && let Some(near) = suggest::nearest(name, others)
            {
                diag = diag.with_hint(format!("Did you mean: @{near}?"));
            }
            diags.push(diag);
            continue;
        }
        let (Some(declared), Some(ty)) = (&state.declared, &state.value.ty) else {
            continue;
        };
        let per_cpu = matches!(ty, Ty::Agg(_));
        let declared_per_cpu =
            matches!(declared.kind, MapKind::PercpuHash | MapKind::PercpuLruHash);
        if per_cpu != declared_per_cpu {
            diags.push(Diagnostic::error(
                codes::MAP_DECLARATION,
                state.span,
                format!(
                    "Incompatible map types. Type from declaration: {}. Type from value/key type: {}",
                    kind_name(declared.kind),
                    if per_cpu { "percpuhash" } else { "hash" }
                ),
            ));
        }
    }
}
