//! Functions on maps, and aggregations.

use bpftrace_ast::diag::{Diagnostic, Severity};
use bpftrace_ast::node::{self, Arg, ExprKind as Ast, Place};
use bpftrace_ast::source::Span;
use bpftrace_meta::TseriesAgg;

use super::call::call_val;
use super::{Lowerer, Val, stmt};
use crate::builtin::{Func, count_error, find_function};
use crate::env::KeyState;
use crate::join::Literals;
use crate::pass::config::Unstable;
use crate::{AggTy, Call, Event, Expr, ExprKind, IntTy, LocalIdx, Stmt, StmtKind, Ty, codes};

/// Whether a function is an aggregation, which stands only at the right of `@m =`.
pub(super) fn is_aggregation(name: &str) -> bool {
    matches!(
        name,
        "count" | "sum" | "min" | "max" | "avg" | "stats" | "hist" | "lhist" | "tseries"
    )
}

/// What is wrong with two aggregations of one kind in one map.
fn different_shape(old: &AggTy, new: &AggTy) -> Option<&'static str> {
    match (old, new) {
        (AggTy::Hist { .. }, AggTy::Hist { .. }) if old != new => {
            Some("Different bits in a single hist unsupported")
        }
        (AggTy::Lhist { .. }, AggTy::Lhist { .. }) if old != new => {
            Some("Different lhist bounds in a single map unsupported")
        }
        (
            AggTy::Tseries {
                interval,
                count,
                agg,
                ..
            },
            AggTy::Tseries {
                interval: interval_2,
                count: count_2,
                agg: agg_2,
                ..
            },
        ) if (interval, count, agg) != (interval_2, count_2, agg_2) => {
            Some("Different tseries bounds in a single map unsupported")
        }
        _ => None,
    }
}

impl Lowerer<'_, '_> {
    /// `@m = count()` and the like.
    pub(super) fn aggregate(
        &mut self,
        span: Span,
        target: &Place,
        call_span: Span,
        call: &node::Call,
        out: &mut Vec<Stmt>,
    ) {
        let (map, access) = match target {
            Place::Map(ident) => (ident, None),
            Place::MapAccess(access) => (&access.map, Some(access)),
            Place::Variable(_) => return,
        };
        let name = &map.name;
        let key = self.access_key(target.span(), name, access);
        if let Some(state) = self.s.maps.get_mut(name) {
            state.written = true;
        }
        let Some(entry) = find_function(&call.name.name) else {
            return;
        };
        if let Some(message) = count_error(entry, call.args.len()) {
            self.error(codes::ARGUMENT_COUNT, call_span, message);
            return;
        }
        let Some((agg, value)) = self.aggregation(call_span, call, entry.func) else {
            return;
        };
        let range = value.as_ref().and_then(|val| val.range);
        if !self.merge_aggregation(name, &agg, range, span) {
            return;
        }
        // What the map came to: signed when one of the calls is.
        let merged = self
            .s
            .maps
            .get(name)
            .and_then(|state| state.value.ty.clone());
        let signed = match &merged {
            Some(Ty::Agg(agg)) => is_signed(agg),
            _ => true,
        };
        let wide = if signed { IntTy::I64 } else { IntTy::U64 };
        let value = value.map(|val| self.int_of(val, wide));
        let time = match merged {
            Some(Ty::Agg(AggTy::Tseries { .. })) => self.time_of_series(call_span),
            _ => None,
        };
        let Ok(key) = key else { return };
        let map = self.map_number(name);
        let kind = StmtKind::Aggregate {
            map,
            key,
            value,
            time,
        };
        // A full map is told at the call.
        out.push(stmt(call_span, kind));
    }

    /// The time that time series go by if not by the clock.
    fn time_of_series(&mut self, span: Span) -> Option<Expr> {
        let name = self.s.settings.time_map.clone()?;
        let time = self.expr(&node::Expr {
            span,
            kind: Ast::Map(name),
        });
        if !time.known {
            return None;
        }
        if self.as_int(&time).is_none() {
            self.wrong_kind(&time, "BPFTRACE_DUMMY_TS_MAP has to be a map of integers");
            return None;
        }
        Some(self.int_of(time, IntTy::U64))
    }

    /// Takes over the aggregation of a map. Literals have no signedness of their own here either.
    fn merge_aggregation(
        &mut self,
        name: &str,
        agg: &AggTy,
        range: Option<crate::join::Range>,
        span: Span,
    ) -> bool {
        let Some(state) = self.s.maps.get_mut(name) else {
            return false;
        };
        match &state.value.ty {
            Some(Ty::Agg(old)) => {
                let same_kind = std::mem::discriminant(old) == std::mem::discriminant(agg);
                if let Some(message) = different_shape(old, agg) {
                    self.error(codes::MAP_VALUE, span, message);
                    return false;
                }
                if same_kind && is_signed(old) != is_signed(agg) {
                    // A literal follows what is there; what is there follows if it came of literals.
                    let adopts = range.is_some_and(|(min, _)| min >= 0) && !is_signed(old);
                    let adopted = state
                        .value
                        .literals
                        .range()
                        .is_some_and(|(min, _)| min >= 0)
                        && range.is_none()
                        && !is_signed(agg);
                    if adopts {
                        return true;
                    }
                    if adopted {
                        state.value.ty = Some(Ty::Agg(agg.clone()));
                        state.value.literals = Literals::None;
                        self.s.changed = true;
                        return true;
                    }
                }
            }
            Some(_) => {}
            None => {
                state.value.ty = Some(Ty::Agg(agg.clone()));
                state.value.literals = range.map_or(Literals::None, Literals::Int);
                self.s.changed = true;
                return true;
            }
        }
        let both = match (state.value.literals.range(), range) {
            (Some(a), Some(b)) => Literals::Int((a.0.min(b.0), a.1.max(b.1))),
            _ => Literals::None,
        };
        let ty = Ty::Agg(agg.clone());
        if state.value.ty.as_ref() == Some(&ty) {
            if state.value.literals != both {
                state.value.literals = both;
                self.s.changed = true;
            }
            return true;
        }
        state.value.literals = Literals::None;
        self.merge_map_value(name, &ty, &Literals::None, crate::Mem::Unknown, span)
            .is_some()
    }

    fn aggregation(
        &mut self,
        span: Span,
        call: &node::Call,
        func: Func,
    ) -> Option<(AggTy, Option<Val>)> {
        if func == Func::Count {
            return Some((AggTy::Count, None));
        }
        let val = self.int_arg(call, 0)?;
        let signed = self.as_int(&val).is_some_and(|int| int.signed);
        let agg = match func {
            Func::Sum => AggTy::Sum { signed },
            Func::Min => AggTy::Min { signed },
            Func::Max => AggTy::Max { signed },
            Func::Avg => AggTy::Avg { signed },
            Func::Stats => AggTy::Stats { signed },
            Func::Hist => {
                let bits = match call.args.get(1) {
                    None => 0,
                    Some(_) => self.literal_int(call, 1)?,
                };
                if !(0..=5).contains(&bits) {
                    self.error(
                        codes::ARGUMENT_KIND,
                        span,
                        format!("hist: bits {bits} must be 0..5"),
                    );
                    return None;
                }
                AggTy::Hist {
                    bits: u8::try_from(bits).unwrap_or(0),
                }
            }
            Func::Lhist => self.lhist(span, call)?,
            _ => self.tseries(span, call, signed)?,
        };
        Some((agg, Some(val)))
    }

    fn lhist(&mut self, span: Span, call: &node::Call) -> Option<AggTy> {
        let mut numbers = [0u64; 3];
        for (i, what) in ["min", "max", "step"].iter().enumerate() {
            let value = self.literal_int(call, i + 1)?;
            numbers[i] = match u64::try_from(value) {
                Ok(n) => n,
                Err(_) => {
                    self.error(
                        codes::ARGUMENT_KIND,
                        call.args[i + 1].span(),
                        format!("lhist: invalid {what} value (must be non-negative literal)"),
                    );
                    return None;
                }
            };
        }
        let [min, max, step] = numbers;
        let complaint = if step == 0 {
            Some(format!("lhist() step must be >= 1 ({step} provided)"))
        } else if min >= max {
            Some(format!(
                "lhist() min must be less than max (provided min {min} and max {max})"
            ))
        } else if (max - min) / step > 1000 {
            let need = (max - min) / step;
            Some(format!(
                "lhist() too many buckets, must be <= 1000 (would need {need})"
            ))
        } else if max - min < step {
            let range = max - min;
            Some(format!(
                "lhist() step is too large for the given range (provided step {step} for range \
                 {range})"
            ))
        } else {
            None
        };
        match complaint {
            Some(message) => {
                self.error(codes::ARGUMENT_KIND, span, message);
                None
            }
            None => Some(AggTy::Lhist { min, max, step }),
        }
    }

    fn tseries(&mut self, span: Span, call: &node::Call, signed: bool) -> Option<AggTy> {
        self.unstable(span, self.s.settings.tseries, "tseries", "unstable_tseries");
        let interval = self.literal_int(call, 1)?;
        let count = self.literal_int(call, 2)?;
        let complaint = if interval < 1 {
            Some(format!(
                "tseries() interval_ns must be >= 1 ({interval} provided)"
            ))
        } else if !(1..=1_000_000).contains(&count) {
            Some(format!(
                "tseries() num_intervals must be {} ({count} provided)",
                if count < 1 { ">= 1" } else { "<= 1000000" }
            ))
        } else {
            None
        };
        if let Some(message) = complaint {
            self.error(codes::ARGUMENT_KIND, span, message);
            return None;
        }
        let agg = match call.args.get(3) {
            None => TseriesAgg::Last,
            Some(_) => {
                let word = self.literal_arg(call, 3)?;
                match word.as_str() {
                    "avg" => TseriesAgg::Avg,
                    "max" => TseriesAgg::Max,
                    "min" => TseriesAgg::Min,
                    "sum" => TseriesAgg::Sum,
                    other => {
                        self.error(
                            codes::ARGUMENT_KIND,
                            call.args[3].span(),
                            format!(
                                "tseries() expects one of the following aggregation functions: avg, \
                                 max, min, sum (\"{other}\" provided)"
                            ),
                        );
                        return None;
                    }
                }
            }
        };
        Some(AggTy::Tseries {
            interval: u64::try_from(interval).ok()?,
            count: u64::try_from(count).ok()?,
            agg,
            signed,
        })
    }

    /// Says what is to be said about an unstable feature.
    pub(super) fn unstable(&mut self, span: Span, state: Unstable, feature: &str, key: &str) {
        match state {
            Unstable::Enable => {}
            // Once a script, and no place: nothing is wrong there.
            Unstable::Warn => self.s.diags.push(Diagnostic::new(
                Severity::Warning,
                codes::UNSTABLE,
                None,
                format!(
                    "Script is using an unstable feature: {feature}. To prevent this warning you must \
                     explicitly enable it in the config e.g. {key}=enable"
                ),
            )),
            Unstable::Error => self.error(
                codes::UNSTABLE,
                span,
                format!(
                    "{feature} feature is not enabled by default. To enable this unstable feature, set \
                     the config flag to enable. {key}=enable"
                ),
            ),
        }
    }

    pub(super) fn map_call(&mut self, span: Span, call: &node::Call, func: Func) -> Val {
        match func {
            Func::Delete => self.delete(span, call),
            Func::HasKey => {
                let Some((name, key)) = self.keyed_call(call) else {
                    return Val::unknown(span);
                };
                let map = self.map_number(&name);
                call_val(span, Ty::Bool, Call::HasKey(map, Box::new(key)))
            }
            Func::Find => self.find(span, call),
            Func::MapLen => {
                let Some((name, at)) = self.map_arg(call, 0) else {
                    return Val::unknown(span);
                };
                let name = name.to_owned();
                if !self.touch_map(at, &name) {
                    return Val::unknown(span);
                }
                let map = self.map_number(&name);
                call_val(span, Ty::Int(IntTy::I64), Call::MapLen(map))
            }
            Func::StackLen => self.stack_len(span, call),
            Func::IsKeyed | Func::IsScalar => {
                let Some((name, at)) = self.map_arg(call, 0) else {
                    return Val::unknown(span);
                };
                self.note_map(at, name);
                let key = self.s.maps.get(name).map(|state| &state.key);
                Val::boolean(
                    span,
                    match func {
                        Func::IsKeyed => matches!(key, Some(KeyState::Keyed(_))),
                        _ => matches!(key, Some(KeyState::Scalar)),
                    },
                )
            }
            _ => {
                let Some((name, at)) = self.map_arg(call, 0) else {
                    return Val::unknown(span);
                };
                let name = name.to_owned();
                if !self.touch_map(at, &name) {
                    return Val::unknown(span);
                }
                let map = self.map_number(&name);
                let event = if func == Func::Clear {
                    Event::ClearMap(map)
                } else {
                    Event::ZeroMap(map)
                };
                let kind = StmtKind::Event {
                    event,
                    args: Vec::new(),
                    expanded_from: self.expanded_from(),
                };
                Val::stmts(span, vec![stmt(span, kind)])
            }
        }
    }

    fn delete(&mut self, span: Span, call: &node::Call) -> Val {
        // The old form has the key inside: `delete(@m[key])`.
        if let [
            Arg::Expr(node::Expr {
                kind: Ast::MapAccess(access),
                span: at,
            }),
        ] = call.args.as_slice()
        {
            let name = access.map.name.clone();
            return match self.access_key(*at, &name, Some(access)) {
                Ok(key) => {
                    self.ask_map(access.map.span, &name);
                    let map = self.map_number(&name);
                    call_val(span, Ty::Bool, Call::Delete(map, key.map(Box::new)))
                }
                Err(()) => Val::unknown(span),
            };
        }
        if call.args.len() == 2 {
            let Some((name, key)) = self.keyed_call(call) else {
                return Val::unknown(span);
            };
            let map = self.map_number(&name);
            return call_val(span, Ty::Bool, Call::Delete(map, Some(Box::new(key))));
        }
        let Some((name, at)) = self.map_arg(call, 0) else {
            return Val::unknown(span);
        };
        let name = name.to_owned();
        if !self.use_map(at, &name, false) {
            return Val::unknown(span);
        }
        self.ask_map(at, &name);
        let map = self.map_number(&name);
        call_val(span, Ty::Bool, Call::Delete(map, None))
    }

    /// Map and key of `f(@map, key)`.
    fn keyed_call(&mut self, call: &node::Call) -> Option<(String, Expr)> {
        let (name, at) = self.map_arg(call, 0)?;
        let name = name.to_owned();
        let key = self.arg_val(call, 1);
        if !self.use_map(at, &name, true) {
            return None;
        }
        self.ask_map(at, &name);
        let key = self.map_key(&name, key?)?;
        Some((name, key))
    }

    fn find(&mut self, span: Span, call: &node::Call) -> Val {
        let keyed = self.keyed_call(call);
        let Some(Arg::Expr(node::Expr {
            kind: Ast::Variable(var),
            span: at,
        })) = call.args.get(2)
        else {
            self.error(
                codes::ARGUMENT_KIND,
                span,
                "find() expects a variable as third argument",
            );
            return Val::unknown(span);
        };
        let idx = match self.visible.get(var) {
            Some(&idx) => idx,
            None => self.declare_for_caller(var, *at),
        };
        let local = self.locals.get_mut(idx);
        local.assigned = true;
        local.n_assignments += 1;
        let Some((name, key)) = keyed else {
            return Val::unknown(span);
        };
        let Some(value) = self
            .s
            .maps
            .get(&name)
            .and_then(|state| state.value.ty.clone())
        else {
            return Val::unknown(span);
        };
        let ty = match &value {
            Ty::Agg(agg) if crate::is_castable(agg) => Ty::Int(super::maps::merged_int(agg)),
            Ty::Agg(_) => {
                let spelled = self.spell(&value);
                self.error(
                    codes::MAP_VALUE,
                    span,
                    format!("Value '{spelled}' cannot be assigned to a scratch variable."),
                );
                return Val::unknown(span);
            }
            other => other.clone(),
        };
        let space = self.s.maps[&name].value.space;
        let merged = self.merge_local(idx, &ty, &Literals::None, space);
        let to = self.locals.get(idx).state.ty.clone().unwrap_or(Ty::Void);
        let map = self.map_number(&name);
        if merged && to != ty {
            let found = self.hidden_local(" found", span, ty.clone());
            let value = Val::new(ty.clone(), span, ExprKind::Local(found)).with_space(space);
            if let Some(value) = self.coerce(value, &to) {
                let assign = stmt(span, StmtKind::AssignLocal(idx, value));
                let find = call_val(span, Ty::Bool, Call::Find(map, Box::new(key), found));
                return self.then_also(find, found, assign);
            }
        }
        if !merged || to != ty {
            let (from, to) = (self.spell(&ty), self.spell(&to));
            self.error(
                codes::TYPE_MISMATCH,
                *at,
                format!(
                    "Type mismatch for ${var}: trying to assign value of type '{from}' when variable \
                     already has a type '{to}'"
                ),
            );
            return Val::unknown(span);
        }
        call_val(span, Ty::Bool, Call::Find(map, Box::new(key), idx))
    }

    /// A variable that the script cannot name.
    fn hidden_local(&mut self, name: &str, span: Span, ty: Ty) -> LocalIdx {
        let idx = self.locals.declare(name, span);
        let local = self.locals.get_mut(idx);
        local.state.ty = Some(ty);
        local.used = true;
        local.assigned = true;
        local.n_assignments += 1;
        idx
    }

    /// A condition, and a statement that is done where it holds. `found` is a variable that the
    /// condition may set.
    fn then_also(&mut self, cond: Val, found: LocalIdx, also: Stmt) -> Val {
        let span = cond.span();
        let holds = self.hidden_local(" holds", span, Ty::Bool);
        let whether = || Expr {
            ty: Ty::Bool,
            span,
            kind: ExprKind::Local(holds),
        };
        let stmts = vec![
            stmt(span, StmtKind::Declare(found)),
            stmt(span, StmtKind::Declare(holds)),
            stmt(span, StmtKind::AssignLocal(holds, cond.expr)),
            stmt(
                span,
                StmtKind::If {
                    cond: whether(),
                    then: vec![also],
                    otherwise: Vec::new(),
                },
            ),
        ];
        let block = ExprKind::Block(stmts, Box::new(whether()));
        Val::new(Ty::Bool, span, block)
    }

    fn stack_len(&mut self, span: Span, call: &node::Call) -> Val {
        let Some(val) = self.arg_val(call, 0) else {
            return Val::unknown(span);
        };
        match val.ty() {
            Ty::KStack(_) | Ty::UStack(_) => call_val(
                span,
                Ty::Int(IntTy::I64),
                Call::StackLen(Box::new(val.expr)),
            ),
            _ => {
                let kind = self.kind_word(&val);
                self.error(
                    codes::ARGUMENT_KIND,
                    val.span(),
                    format!("call to len() expects a map, ustack, or kstack ({kind} provided)"),
                );
                Val::unknown(span)
            }
        }
    }
}

fn is_signed(agg: &AggTy) -> bool {
    match agg {
        AggTy::Sum { signed }
        | AggTy::Min { signed }
        | AggTy::Max { signed }
        | AggTy::Avg { signed }
        | AggTy::Stats { signed }
        | AggTy::Tseries { signed, .. } => *signed,
        // Buckets are compared as signed numbers.
        AggTy::Count | AggTy::Hist { .. } | AggTy::Lhist { .. } => true,
    }
}
