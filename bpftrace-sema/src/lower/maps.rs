//! Maps: their keys, and reading and writing entries.

use bpftrace_ast::diag::Diagnostic;
use bpftrace_ast::node::{self, MapAccess};
use bpftrace_ast::source::Span;

use super::{Lowerer, Val, stmt};
use crate::env::{KeyState, MapState, Merged, TyState};
use crate::join::Literals;
use crate::{AggTy, Expr, ExprKind, IntTy, MapIdx, Mem, Stmt, StmtKind, Ty, codes, is_castable};

impl Lowerer<'_, '_> {
    /// Notes a use of a map with or without key; `false` (and an error) when others use it the other
    /// way.
    pub(super) fn use_map(&mut self, span: Span, name: &str, keyed: bool) -> bool {
        if !self.s.maps.contains_key(name) {
            self.s.changed = true;
        }
        let state = self
            .s
            .maps
            .entry(name.to_owned())
            .or_insert_with(|| MapState {
                key: KeyState::Unused,
                value: TyState::default(),
                span,
                declared: None,
                used: false,
                written: false,
                assumed: false,
                asked: None,
                stepped: false,
            });
        state.used = true;
        match (&state.key, keyed) {
            (KeyState::Unused, true) => {
                state.key = KeyState::Keyed(TyState::default());
                self.s.changed = true;
            }
            (KeyState::Unused, false) => {
                state.key = KeyState::Scalar;
                self.s.changed = true;
            }
            (KeyState::Scalar, false) | (KeyState::Keyed(_), true) => {}
            (KeyState::Scalar, true) => {
                let first = state.span;
                self.s.diags.push(
                    Diagnostic::error(
                        codes::MAP_SCALAR,
                        span,
                        format!(
                            "@{name} used as a map with an explicit key (non-scalar map), previously \
                             used without an explicit key (scalar map)"
                        ),
                    )
                    .with_context(first, "first used here"),
                );
                return false;
            }
            (KeyState::Keyed(_), false) => {
                let first = state.span;
                self.s.diags.push(
                    Diagnostic::error(
                        codes::MAP_SCALAR,
                        span,
                        format!(
                            "@{name} used as a map without an explicit key (scalar map), previously \
                             used with an explicit key (non-scalar map)"
                        ),
                    )
                    .with_context(first, "first used here"),
                );
                return false;
            }
        }
        true
    }

    /// Notes that a map is named, without saying whether it has keys.
    pub(super) fn note_map(&mut self, span: Span, name: &str) {
        if !self.s.maps.contains_key(name) {
            self.s.changed = true;
        }
        let state = self
            .s
            .maps
            .entry(name.to_owned())
            .or_insert_with(|| MapState {
                key: KeyState::Unused,
                value: TyState::default(),
                span,
                declared: None,
                used: true,
                written: false,
                assumed: false,
                asked: None,
                stepped: false,
            });
        state.used = true;
    }

    /// Notes that a map is asked for its values, which something has to assign.
    pub(super) fn ask_map(&mut self, span: Span, name: &str) {
        if let Some(state) = self.s.maps.get_mut(name) {
            state.asked.get_or_insert(span);
        }
    }

    pub(super) fn map_number(&self, name: &str) -> MapIdx {
        self.s.map_numbers.get(name).copied().unwrap_or(MapIdx(0))
    }

    /// The value of several key expressions: `@m[1, 2]` is `@m[(1, 2)]`.
    fn key_val(&mut self, keys: &[node::Expr]) -> Val {
        match keys {
            [one] => self.expr(one),
            several => {
                let vals: Vec<Val> = several.iter().map(|key| self.expr(key)).collect();
                let span = several[0].span.to(several[several.len() - 1].span);
                self.tuple_of(span, vals)
            }
        }
    }

    /// Takes over the type of a key of a keyed map, and converts it to what the map has. `None`: not
    /// known, or an error that has been reported.
    pub(super) fn map_key(&mut self, name: &str, key: Val) -> Option<Expr> {
        if !key.known {
            return None;
        }
        let span = key.span();
        if let Some(message) = self.not_a_key(&key) {
            self.error(codes::MAP_KEY, span, message);
            return None;
        }
        let key = self.stored(key);
        let types = &self.s.imported.table;
        let Some(MapState {
            key: KeyState::Keyed(state),
            ..
        }) = self.s.maps.get_mut(name)
        else {
            return None;
        };
        let merged = state.merge(key.ty(), &key.literals(), key.space, types);
        if merged == Merged::Changed {
            self.s.changed = true;
        }
        let to = state.ty.clone();
        let from = key.ty().clone();
        if merged != Merged::Mismatch
            && let Some(to) = &to
            && let Some(expr) = self.coerce(key, to)
        {
            return Some(expr);
        }
        let from = self.spell(&from);
        let to = to.map_or_else(String::new, |to| self.spell(&to));
        self.error(
            codes::TYPE_MISMATCH,
            span,
            format!(
                "Argument mismatch for @{name}: trying to access with arguments: '{from}' when map \
                 expects arguments: '{to}'"
            ),
        );
        None
    }

    fn not_a_key(&self, key: &Val) -> Option<String> {
        match key.ty() {
            Ty::Agg(_) => Some(format!(
                "Value '{}' cannot be used as a map key.",
                self.spell_val(key)
            )),
            Ty::Void => Some("Value 'void' cannot be used as a map key.".to_owned()),
            Ty::Ptr(_, Mem::Ctx) => Some("context cannot be part of a map key".to_owned()),
            _ => None,
        }
    }

    /// The key of an access to a map, by whatever form it was written in. `Err`: not known.
    pub(super) fn access_key(
        &mut self,
        span: Span,
        name: &str,
        access: Option<&MapAccess>,
    ) -> Result<Option<Expr>, ()> {
        let key = access.map(|access| self.key_val(&access.keys));
        if !self.use_map(span, name, key.is_some()) {
            return Err(());
        }
        match key {
            None => Ok(None),
            Some(key) => self.map_key(name, key).map(Some).ok_or(()),
        }
    }

    /// `@m`, `@m[key]` as a value.
    pub(super) fn map_read(&mut self, span: Span, name: &str, access: Option<&MapAccess>) -> Val {
        let Ok(key) = self.access_key(span, name, access) else {
            return Val::unknown(span);
        };
        let state = &self.s.maps[name];
        let space = state.value.space;
        let Some(ty) = state.value.ty.clone() else {
            return Val::unknown(span);
        };
        let map = self.map_number(name);
        let kind = ExprKind::MapGet {
            map,
            key: key.map(Box::new),
        };
        match ty {
            Ty::Agg(agg) if is_castable(&agg) => {
                let mut val = Val::new(Ty::Int(merged_int(&agg)), span, kind);
                val.agg = Some(agg);
                val
            }
            ty => Val::new(ty, span, kind).with_space(space),
        }
    }

    /// Takes over the type of a value of a map.
    pub(super) fn merge_map_value(
        &mut self,
        name: &str,
        ty: &Ty,
        literals: &Literals,
        space: Mem,
        span: Span,
    ) -> Option<()> {
        let types = &self.s.imported.table;
        let state = self.s.maps.get_mut(name)?;
        match state.value.merge(ty, literals, space, types) {
            Merged::Same => Some(()),
            Merged::Changed => {
                self.s.changed = true;
                Some(())
            }
            Merged::Mismatch => {
                self.map_mismatch(name, ty, span);
                None
            }
        }
    }

    /// Notes where values of a map are assigned to another as they are.
    pub(super) fn note_copy(&mut self, value: &node::Expr, target: &node::Place) {
        let from = match &value.kind {
            node::ExprKind::Map(name) => name,
            node::ExprKind::MapAccess(access) => &access.map.name,
            _ => return,
        };
        let to = match target {
            node::Place::Map(map) => &map.name,
            node::Place::MapAccess(access) => &access.map.name,
            node::Place::Variable(_) => return,
        };
        if self.operand_of.is_none() && self.unevaluated == 0 {
            self.s.copies.push((from.clone(), to.clone()));
        }
    }

    fn map_mismatch(&mut self, name: &str, from: &Ty, span: Span) {
        let to = self
            .s
            .maps
            .get(name)
            .and_then(|state| state.value.ty.clone());
        let from = self.spell(from);
        let to = to.map_or_else(String::new, |to| self.spell(&to));
        self.error(
            codes::TYPE_MISMATCH,
            span,
            format!(
                "Type mismatch for @{name}: trying to assign value of type '{from}' when map already \
                 has a type '{to}'"
            ),
        );
    }

    pub(super) fn assign_map(
        &mut self,
        span: Span,
        map: &node::Ident,
        access: Option<&MapAccess>,
        mut val: Val,
        out: &mut Vec<Stmt>,
    ) {
        if let Some(what) = self.operand_of {
            self.error(
                codes::MAP_VALUE,
                span,
                format!("Map assignments not allowed inside of {what}"),
            );
            return;
        }
        let name = &map.name;
        let key = self.access_key(access.map_or(map.span, |access| access.span), name, access);
        if let Some(state) = self.s.maps.get_mut(name) {
            state.written = true;
        }
        if !val.known {
            self.lose(span);
            return;
        }
        // A map of integers takes what an aggregation has come to.
        let takes_integers = self
            .s
            .maps
            .get(name)
            .is_some_and(|state| matches!(state.value.ty, Some(Ty::Int(_))) && !state.assumed);
        if takes_integers && matches!(val.ty(), Ty::Int(_)) {
            val.agg = None;
        }
        let aggregation = match (val.ty(), &val.agg) {
            (Ty::Agg(agg), _) => Some(agg.clone()),
            (_, agg) => agg.clone(),
        };
        if let Some(agg) = aggregation {
            let spelled = crate::spell::spell_agg(&agg);
            let call = spelled
                .trim_end_matches("_t")
                .trim_start_matches("us")
                .trim_start_matches('u');
            let call = if spelled.starts_with("us") {
                format!("s{call}")
            } else {
                call.to_owned()
            };
            let args = match call.as_str() {
                "count" => "",
                "stats" => "arg2",
                "lhist" => "rand % 10, 0, 10, 1",
                "tseries" => "rand % 10, 10s, 1",
                _ => "retval",
            };
            let mut diag = Diagnostic::error(
                codes::MAP_VALUE,
                val.span(),
                format!(
                    "Map value '{spelled}' cannot be assigned from one map to another. The function \
                     that returns this type must be called directly e.g. `@{name} = {call}({args});`."
                ),
            );
            if is_castable(&agg) {
                let from = match &val.expr.kind {
                    ExprKind::MapGet { map, .. } => self.map_name(*map),
                    _ => String::new(),
                };
                diag = diag.with_hint(format!(
                    "Add a cast to integer if you want the value of the aggregate, e.g. `@{name} = \
                     (int64){from};`."
                ));
            }
            self.s.diags.push(diag);
            return;
        }
        if val.is_void() {
            self.map_mismatch_void(val.span());
            return;
        }
        if matches!(val.ty(), Ty::Ptr(_, Mem::Ctx)) && matches!(val.expr.kind, ExprKind::Builtin(_))
        {
            let spelled = self.spell_val(&val);
            self.error(
                codes::MAP_VALUE,
                val.span(),
                format!("Value '{spelled}' cannot be assigned to a map."),
            );
            return;
        }
        let val = self.stored(val);
        let from = val.ty().clone();
        if self
            .merge_map_value(name, &from, &val.literals(), val.space, span)
            .is_none()
        {
            return;
        }
        let Some(to) = self
            .s
            .maps
            .get(name)
            .and_then(|state| state.value.ty.clone())
        else {
            return;
        };
        let Some(value) = self.coerce(val, &to) else {
            self.map_mismatch(name, &from, span);
            return;
        };
        let Ok(key) = key else { return };
        let map = self.map_number(name);
        out.push(stmt(span, StmtKind::AssignMap { map, key, value }));
    }

    fn map_mismatch_void(&mut self, span: Span) {
        self.error(
            codes::MAP_VALUE,
            span,
            "Value 'void' cannot be assigned to a map.",
        );
    }

    fn map_name(&self, map: MapIdx) -> String {
        let name = self.s.map_names.get(map.0 as usize);
        name.map_or_else(String::new, |name| format!("@{name}"))
    }
}

/// The integer that an aggregation is merged to.
pub(crate) fn merged_int(agg: &AggTy) -> IntTy {
    match agg {
        AggTy::Sum { signed: false }
        | AggTy::Min { signed: false }
        | AggTy::Max { signed: false }
        | AggTy::Avg { signed: false } => IntTy::U64,
        _ => IntTy::I64,
    }
}
