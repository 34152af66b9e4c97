//! Branches, loops and jumps.

use bpftrace_ast::diag::Diagnostic;
use bpftrace_ast::node::{self, Else, ExprKind as Ast, ForOver};
use bpftrace_ast::source::Span;

use super::stmt::{flatten, wrap};
use super::{LoopKind, Lowerer, Val, stmt};
use crate::env::KeyState;
use crate::join::Literals;
use crate::{
    Expr, ExprKind, IntTy, Mem, Stmt, StmtKind, Ty, UnrollCount, codes, is_castable, join,
};

/// Most rounds of `unroll`.
const MAX_UNROLL: i128 = 100;

impl Lowerer<'_, '_> {
    pub(super) fn if_stmt(&mut self, branch: &node::If, out: &mut Vec<Stmt>) {
        if let Some(taken) = self.comptime_branch(branch) {
            match taken {
                Taken::Block(block) => {
                    let body = self.block(block);
                    out.push(stmt(branch.span, StmtKind::Block(body)));
                }
                Taken::If(branch) => self.if_stmt(branch, out),
                Taken::Nothing => {}
            }
            return;
        }
        if !self.descend(branch.span) {
            return;
        }
        let cond = self.condition(&branch.cond);
        let then = self.block(&branch.then);
        let then_diverges = self.diverges;
        self.diverges = false;
        let mut otherwise = Vec::new();
        match &branch.otherwise {
            Some(Else::Block(block)) => otherwise = self.block(block),
            Some(Else::If(next)) => self.if_stmt(next, &mut otherwise),
            None => {}
        }
        self.diverges &= then_diverges;
        self.depth -= 1;
        out.push(stmt(
            branch.span,
            StmtKind::If {
                cond,
                then,
                otherwise,
            },
        ));
    }

    /// `if` for its value.
    pub(super) fn if_value(&mut self, branch: &node::If) -> Val {
        if let Some(taken) = self.comptime_branch(branch) {
            return match taken {
                Taken::Block(block) => self.block_value(block),
                Taken::If(branch) => self.if_value(branch),
                Taken::Nothing => Val::void(branch.span),
            };
        }
        if !self.descend(branch.span) {
            return Val::unknown(branch.span);
        }
        let cond = self.expr(&branch.cond);
        let known = cond.known;
        let cond = self.truth(cond);
        let (stmts, value) = self.block_parts(&branch.then);
        let then = (branch.then.span, stmts, value);
        let otherwise = match &branch.otherwise {
            Some(Else::Block(block)) => {
                let (stmts, value) = self.block_parts(block);
                (block.span, stmts, value)
            }
            Some(Else::If(next)) => {
                let value = self.if_value(next);
                (next.span, Vec::new(), value)
            }
            None => (branch.span, Vec::new(), Val::void(branch.span)),
        };
        self.depth -= 1;
        self.diverges = false;
        let val = self.select(branch.span, cond, then, otherwise);
        if known {
            val
        } else {
            Val::unknown(branch.span)
        }
    }

    pub(super) fn ternary(
        &mut self,
        span: Span,
        cond: &node::Expr,
        then: Option<&node::Expr>,
        otherwise: &node::Expr,
    ) -> Val {
        // `a ?: b`: the condition is the value as well, and evaluated again.
        let then = then.unwrap_or(cond);
        if let Ast::Comptime(inner) = &cond.kind {
            return match self.comptime_bool(cond.span, inner) {
                Some(true) => self.expr(then),
                Some(false) => self.expr(otherwise),
                None => Val::unknown(span),
            };
        }
        let cond = self.expr(cond);
        let known = cond.known;
        let cond = self.truth(cond);
        let then = self.expr(then);
        let otherwise = self.expr(otherwise);
        let val = self.select(
            span,
            cond,
            (then.span(), Vec::new(), then),
            (otherwise.span(), Vec::new(), otherwise),
        );
        if known { val } else { Val::unknown(span) }
    }

    fn select(&mut self, span: Span, cond: Expr, then: Arm, otherwise: Arm) -> Val {
        let (then_span, then_stmts, then) = then;
        let (else_span, else_stmts, otherwise) = otherwise;
        if !then.known || !otherwise.known {
            // What one arm tells about types is enough to go on.
            return Val::unknown(span);
        }
        // Literals in both arms of a literal condition are chosen from now.
        if let ExprKind::Const(bits) = cond.kind
            && then_stmts.is_empty()
            && else_stmts.is_empty()
            && is_literal(&then)
            && is_literal(&otherwise)
        {
            return if bits != 0 { then } else { otherwise };
        }
        let types = &self.s.imported.table;
        let joined = join::join_with_literals(
            (then.ty(), &then.literals()),
            (otherwise.ty(), &otherwise.literals()),
            types,
        )
        .map(|(ty, _)| ty);
        let space = join::join_mem(then.space, otherwise.space);
        let (a, b) = (self.spell_val(&then), self.spell_val(&otherwise));
        let range = match (then.range, otherwise.range) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            _ => None,
        };
        let arms = joined.and_then(|ty| {
            let then = self.coerce(then, &ty)?;
            let otherwise = self.coerce(otherwise, &ty)?;
            Some((then, otherwise, ty))
        });
        let Some((then, otherwise, ty)) = arms else {
            self.error(
                codes::TYPE_MISMATCH,
                span,
                format!(
                    "Branches must return the same type or compatible types: have '{a}' and '{b}'"
                ),
            );
            return Val::unknown(span);
        };
        let then = wrap(then_span, then_stmts, Val::from_expr(then)).expr;
        let otherwise = wrap(else_span, else_stmts, Val::from_expr(otherwise)).expr;
        let kind = ExprKind::Cond(Box::new(cond), Box::new(then), Box::new(otherwise));
        let mut val = Val::new(ty, span, kind).with_space(space);
        val.range = range;
        val
    }

    /// What `if comptime ...` takes; `None`: not decided while compiling.
    fn comptime_branch<'t>(&mut self, branch: &'t node::If) -> Option<Taken<'t>> {
        let Ast::Comptime(inner) = &branch.cond.kind else {
            return None;
        };
        Some(match self.comptime_bool(branch.cond.span, inner) {
            Some(true) => Taken::Block(&branch.then),
            Some(false) => match &branch.otherwise {
                Some(Else::Block(block)) => Taken::Block(block),
                Some(Else::If(next)) => Taken::If(next),
                None => Taken::Nothing,
            },
            None => Taken::Nothing,
        })
    }

    fn comptime_bool(&mut self, span: Span, inner: &node::Expr) -> Option<bool> {
        let val = self.comptime(span, inner);
        if !val.known {
            return None;
        }
        match self.truth(val).kind {
            ExprKind::Const(bits) => Some(bits != 0),
            _ => None,
        }
    }

    /// `comptime x`: the value must be a literal.
    pub(super) fn comptime(&mut self, span: Span, inner: &node::Expr) -> Val {
        let val = match &inner.kind {
            Ast::If(branch) => {
                let taken = match self.comptime_bool(span, &branch.cond) {
                    Some(true) => Some(&branch.then),
                    Some(false) => match &branch.otherwise {
                        Some(Else::Block(block)) => Some(block),
                        Some(Else::If(next)) => {
                            let next = node::Expr {
                                span: next.span,
                                kind: Ast::If(next.clone()),
                            };
                            return self.comptime(span, &next);
                        }
                        None => None,
                    },
                    None => return Val::unknown(span),
                };
                return taken.map_or_else(|| Val::void(span), |block| self.block_value(block));
            }
            _ => {
                self.comptime_depth += 1;
                let val = self.literal_expr(inner);
                self.comptime_depth -= 1;
                val
            }
        };
        if val.known && !is_literal(&val) {
            self.error(
                codes::COMPTIME,
                span,
                "Unable to resolve comptime expression",
            );
            return Val::unknown(span);
        }
        val
    }

    pub(super) fn while_stmt(
        &mut self,
        span: Span,
        cond: &node::Expr,
        body: &node::Block,
        out: &mut Vec<Stmt>,
    ) {
        // Once for what is in the loop too.
        if !self.loops.contains(&LoopKind::While) {
            self.s.diags.push(
                Diagnostic::warning(
                    codes::DEPRECATED,
                    span.start_with(5),
                    "While loops are deprecated and may be removed in the future.",
                )
                .with_hint("Use a for loop over a range, for example: for $i : 0..10 { ... }"),
            );
        }
        let cond = self.condition(cond);
        self.loops.push(LoopKind::While);
        let body = self.block(body);
        self.loops.pop();
        self.diverges = false;
        out.push(stmt(span, StmtKind::While { cond, body }));
    }

    pub(super) fn unroll_stmt(
        &mut self,
        span: Span,
        count: &node::Expr,
        body: &node::Block,
        out: &mut Vec<Stmt>,
    ) {
        let val = self.expr(count);
        let count = match (val.as_literal(), &val.expr.kind) {
            _ if !val.known => None,
            (Some(n), _) if n < 1 => {
                self.error(codes::LOOP, count.span, "unroll minimum value is 1");
                None
            }
            (Some(n), _) if n > MAX_UNROLL => {
                self.error(codes::LOOP, count.span, "unroll maximum value is 100");
                None
            }
            (Some(n), _) => Some(UnrollCount::Const(u32::try_from(n).unwrap_or(1))),
            (None, ExprKind::Slot(slot)) if matches!(val.ty(), Ty::Int(_)) => {
                Some(UnrollCount::Slot(*slot))
            }
            _ => {
                self.error(codes::LOOP, count.span, "invalid unroll value");
                None
            }
        };
        self.loops.push(LoopKind::Unroll);
        let body = self.block(body);
        self.loops.pop();
        self.diverges = false;
        if let Some(count) = count {
            out.push(stmt(span, StmtKind::Unroll { count, body }));
        }
    }

    pub(super) fn for_stmt(
        &mut self,
        span: Span,
        var: &node::Ident,
        over: &ForOver,
        body: &node::Block,
        out: &mut Vec<Stmt>,
    ) {
        let shadows = self.visible.get(&var.name).copied();
        let iterated = match over {
            ForOver::Range { start, end } => self.range(start, end),
            ForOver::Map(map) => self.iterated_map(map),
        };
        if let Some(first) = shadows {
            let local = self.locals.get(first);
            let (first, origin) = (local.span, local.origin);
            self.s.diags.push(
                Diagnostic::error(
                    codes::REDECLARED,
                    var.span,
                    format!("Loop declaration shadows existing variable: ${}", var.name),
                )
                .with_context(first, origin),
            );
            return;
        }
        self.open_scope();
        let idx = self.declare(&var.name, var.span);
        let local = self.locals.get_mut(idx);
        local.origin = "This is the loop variable.";
        local.assigned = true;
        local.n_assignments += 1;
        if let Some(iterated) = &iterated {
            let (ty, literals) = iterated.var_type();
            if !self.merge_local(idx, &ty, &literals, Mem::Unknown) {
                self.locals.get_mut(idx).state.ty = Some(ty);
                self.s.changed = true;
            }
        }
        self.loops.push(LoopKind::Callback);
        let body = self.block(body);
        self.loops.pop();
        self.close_scope();
        self.diverges = false;
        match iterated {
            Some(Iterated::Range(start, end, _)) => {
                out.push(stmt(
                    span,
                    StmtKind::ForRange {
                        var: idx,
                        start,
                        end,
                        body,
                    },
                ));
            }
            Some(Iterated::Map(map, ..)) => {
                out.push(stmt(
                    span,
                    StmtKind::ForMap {
                        var: idx,
                        map,
                        body,
                    },
                ));
            }
            None => {}
        }
    }

    fn range(&mut self, start: &node::Expr, end: &node::Expr) -> Option<Iterated> {
        let (start, end) = (self.expr(start), self.expr(end));
        if !start.known || !end.known {
            return None;
        }
        let mut ints = Vec::new();
        for (val, which) in [(&start, "start"), (&end, "end")] {
            match val.ty() {
                Ty::Int(int) if val.agg.is_none() => ints.push(*int),
                Ty::Enum(_, int) => ints.push(*int),
                _ => {
                    let spelled = self.spell_val(val);
                    self.error(
                        codes::LOOP,
                        val.span(),
                        format!(
                            "Loop range requires an integer for the {which} value, found \
                             '{spelled}'"
                        ),
                    );
                }
            }
        }
        let &[a, b] = ints.as_slice() else {
            return None;
        };
        let int = join::join_ints(a, start.range, b, end.range);
        let literals = match (self.literal_range(&start), self.literal_range(&end)) {
            (Some(a), Some(b)) => Literals::Int((a.0.min(b.0), a.1.max(b.1))),
            _ => Literals::None,
        };
        let (start, end) = (self.int_of_warned(start, int), self.int_of_warned(end, int));
        Some(Iterated::Range(start, end, literals))
    }

    fn iterated_map(&mut self, map: &node::Ident) -> Option<Iterated> {
        let known = self.s.maps.get(&map.name);
        if let Some((first, KeyState::Scalar)) = known.map(|known| (known.span, &known.key)) {
            self.s.diags.push(
                Diagnostic::error(
                    codes::MAP_SCALAR,
                    map.span,
                    format!(
                        "@{} has no explicit keys (scalar map), and cannot be used for iteration",
                        map.name
                    ),
                )
                .with_context(first, "first used here"),
            );
            return None;
        }
        if !self.use_map(map.span, &map.name, true) {
            return None;
        }
        self.ask_map(map.span, &map.name);
        let state = &self.s.maps[&map.name];
        let KeyState::Keyed(key) = &state.key else {
            return None;
        };
        let literals = [key.literals.clone(), state.value.literals.clone()];
        let (key, value) = (key.ty.clone()?, state.value.ty.clone()?);
        let value = match &value {
            Ty::Agg(agg) if is_castable(agg) => Ty::Int(super::maps::merged_int(agg)),
            Ty::Agg(agg) => {
                let spelled = crate::spell::spell_agg(agg);
                self.error(
                    codes::LOOP,
                    map.span,
                    format!("Loop expression does not support type: {spelled}"),
                );
                return None;
            }
            other => other.clone(),
        };
        let number = self.map_number(&map.name);
        Some(Iterated::Map(
            number,
            Ty::Tuple([key, value].into()),
            Literals::Elements(literals.into()),
        ))
    }

    pub(super) fn jump(&mut self, span: Span, word: &str, kind: StmtKind, out: &mut Vec<Stmt>) {
        if self.loops.len() <= self.n_outer_loops {
            let place = match (self.expansions.is_empty(), self.unit.is_function()) {
                (false, _) => "macro",
                (true, true) => "function",
                (true, false) => "probe",
            };
            self.error(
                codes::JUMP,
                span,
                format!("'{word}' statement is not allowed in a {place}"),
            );
            return;
        }
        out.push(stmt(span, kind));
        self.diverges = true;
    }

    pub(super) fn return_stmt(
        &mut self,
        span: Span,
        value: Option<&node::Expr>,
        out: &mut Vec<Stmt>,
    ) {
        if !self.expansions.is_empty() {
            self.error(
                codes::JUMP,
                span,
                "'return' statement is not allowed in a macro",
            );
            return;
        }
        if self.unit.is_function() {
            return self.function_return(span, value, out);
        }
        let value = match value {
            None => None,
            Some(tree) => {
                let val = self.expr(tree);
                if !val.known {
                    return;
                }
                match val.ty() {
                    Ty::Int(_) | Ty::Enum(..) if val.agg.is_none() => {
                        Some(self.int_of(val, IntTy::I64))
                    }
                    Ty::Void => {
                        // `return f();` of something without value.
                        flatten(val.expr, out);
                        None
                    }
                    _ => {
                        let spelled = self.spell_val(&val);
                        self.error(
                            codes::JUMP,
                            span,
                            format!("Probe return values can only be integers. Found {spelled}"),
                        );
                        return;
                    }
                }
            }
        };
        out.push(stmt(span, StmtKind::Return(value)));
        self.diverges = true;
    }

    /// Whether the code runs an unknown number of times.
    pub(super) fn in_loop(&self) -> bool {
        self.loops.iter().any(|kind| *kind != LoopKind::Unroll)
    }

    /// Whether the code is the body of a `for` loop, which is a function of its own.
    pub(super) fn in_for(&self) -> bool {
        self.loops.contains(&LoopKind::Callback)
    }
}

/// Place, statements and value of an arm.
type Arm = (Span, Vec<Stmt>, Val);

enum Taken<'t> {
    Block(&'t node::Block),
    If(&'t node::If),
    Nothing,
}

/// What a loop goes through.
enum Iterated {
    Range(Expr, Expr, Literals),
    Map(crate::MapIdx, Ty, Literals),
}

impl Iterated {
    /// The type of the variable, and where literals are in it.
    fn var_type(&self) -> (Ty, Literals) {
        match self {
            Iterated::Range(start, _, literals) => (start.ty.clone(), literals.clone()),
            Iterated::Map(_, entry, literals) => (entry.clone(), literals.clone()),
        }
    }
}

/// Whether a value is known while compiling.
pub(super) fn is_literal(val: &Val) -> bool {
    match &val.expr.kind {
        ExprKind::Const(_) | ExprKind::Str(_) => !val.is_void(),
        ExprKind::Tuple(elements) => elements
            .iter()
            .all(|element| matches!(element.kind, ExprKind::Const(_) | ExprKind::Str(_))),
        _ => false,
    }
}

/// The first bytes of a span.
trait StartWith {
    fn start_with(self, len: u32) -> Span;
}

impl StartWith for Span {
    fn start_with(self, len: u32) -> Span {
        Span {
            end: (self.start + len).min(self.end),
            ..self
        }
    }
}
