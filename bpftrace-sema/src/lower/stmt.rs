//! Statements.

use bpftrace_ast::diag::Diagnostic;
use bpftrace_ast::node::{self, ExprKind as Ast, Place, StmtKind as S};
use bpftrace_ast::source::Span;

use super::expr::Operand;
use super::{Lowerer, Val, stmt};
use crate::pass::units::Code;
use crate::{Expr, ExprKind, LocalIdx, Mem, Stmt, StmtKind, Ty, codes};

impl Lowerer<'_, '_> {
    /// The body of a probe, with its predicate around it, or of a function.
    pub(super) fn unit_body(&mut self) -> Vec<Stmt> {
        let probe = match self.unit.code {
            Code::Probe(probe) => probe,
            Code::Function(function) => return self.function_body(function),
        };
        let Some(predicate) = &probe.predicate else {
            return self.block(&probe.body);
        };
        let cond = self.condition(&predicate.expr);
        let then = self.block(&probe.body);
        vec![stmt(
            predicate.span,
            StmtKind::If {
                cond,
                then,
                otherwise: Vec::new(),
            },
        )]
    }

    /// A block that has no value, with a scope of its own.
    pub(super) fn block(&mut self, block: &node::Block) -> Vec<Stmt> {
        if !self.descend(block.span) {
            return Vec::new();
        }
        self.open_scope();
        let mut out = self.stmts(&block.stmts);
        if let Some(value) = &block.value {
            self.unasked_value(value, &mut out);
        }
        self.close_scope();
        self.depth -= 1;
        out
    }

    /// A value that nothing asks for. Those of a choice need not go together.
    fn unasked_value(&mut self, value: &node::Expr, out: &mut Vec<Stmt>) {
        let Ast::Ternary {
            cond,
            then: Some(then),
            otherwise,
        } = &value.kind
        else {
            self.expr_stmt(value.span, value, out);
            return;
        };
        if matches!(cond.kind, Ast::Comptime(_)) || !self.descend(value.span) {
            self.expr_stmt(value.span, value, out);
            return;
        }
        let cond = self.condition(cond);
        let mut arms = [Vec::new(), Vec::new()];
        let mut diverges = true;
        for (arm, stmts) in [then, otherwise].into_iter().zip(&mut arms) {
            self.diverges = false;
            self.unasked_value(arm, stmts);
            diverges &= self.diverges;
        }
        self.diverges = diverges;
        self.depth -= 1;
        let [then, otherwise] = arms;
        out.push(stmt(
            value.span,
            StmtKind::If {
                cond,
                then,
                otherwise,
            },
        ));
    }

    /// Statements in the scope that is open.
    pub(super) fn stmts(&mut self, stmts: &[node::Stmt]) -> Vec<Stmt> {
        let mut out = Vec::with_capacity(stmts.len());
        self.diverges = false;
        let mut warned = false;
        let mut dead = false;
        for one in stmts {
            if dead && !warned {
                self.warn(codes::UNREACHABLE, one.span, "Unreachable statement.");
                warned = true;
            }
            if dead {
                // Checked, but not compiled.
                let mut unused = Vec::new();
                self.stmt(one, &mut unused);
                continue;
            }
            self.diverges = false;
            self.stmt(one, &mut out);
            dead = self.diverges;
        }
        self.diverges = dead;
        out
    }

    fn stmt(&mut self, one: &node::Stmt, out: &mut Vec<Stmt>) {
        self.s.n_lowered += 1;
        let span = one.span;
        match &one.kind {
            // Without a semicolon it is what a block ends in.
            S::Expr(expr) if span == expr.span => self.unasked_value(expr, out),
            S::Expr(expr) => self.expr_stmt(span, expr, out),
            S::Import(_) => {
                self.error(
                    codes::UNSUPPORTED,
                    span,
                    "Import statements that are not at the top level are for the standard library",
                );
            }
            S::Let { var, ty, value } => self.let_stmt(span, var, ty.as_ref(), value.as_ref(), out),
            S::Assign { target, value } => self.assign(span, target, value, out),
            S::CompoundAssign {
                target,
                op,
                op_span,
                value,
            } => {
                let old = target.to_expr();
                let before = self.slots_so_far();
                let new = self.binary(span, *op, *op_span, before, Operand::Tree(&old), value);
                self.assign_val(span, target, new, out);
            }
            S::Discard(value) => {
                let val = self.expr(value);
                if val.known {
                    flatten(val.expr, out);
                } else {
                    self.lose(span);
                }
            }
            S::While { cond, body } => self.while_stmt(span, cond, body, out),
            S::Unroll { count, body } => self.unroll_stmt(span, count, body, out),
            S::For { var, over, body } => self.for_stmt(span, var, over, body, out),
            S::Break => self.jump(span, "break", StmtKind::Break, out),
            S::Continue => self.jump(span, "continue", StmtKind::Continue, out),
            S::Return(value) => self.return_stmt(span, value.as_ref(), out),
        }
    }

    /// An expression for its effect.
    pub(super) fn expr_stmt(&mut self, span: Span, expr: &node::Expr, out: &mut Vec<Stmt>) {
        match &expr.kind {
            Ast::If(branch) => self.if_stmt(branch, out),
            Ast::Block(block) => {
                let body = self.block(block);
                out.push(stmt(span, StmtKind::Block(body)));
            }
            _ => {
                let val = self.expr(expr);
                if !val.known {
                    self.lose(span);
                    return;
                }
                // `delete` gives a truth value that hardly anybody looks at.
                let exempt = match &expr.kind {
                    Ast::IncDec { .. } => true,
                    Ast::Call(call) => call.name.name == "delete",
                    _ => false,
                };
                if !exempt && !val.is_void() {
                    self.warn(codes::DISCARDED, span, "Return value discarded.");
                }
                flatten(val.expr, out);
            }
        }
    }

    fn let_stmt(
        &mut self,
        span: Span,
        var: &node::Ident,
        ty: Option<&node::TypeSpec>,
        value: Option<&node::Expr>,
        out: &mut Vec<Stmt>,
    ) {
        let declared_ty = ty.and_then(|ty| self.type_spec(ty));
        let val = value.map(|value| self.expr(value));
        if self.visible.contains_key(&var.name) {
            self.redeclared(var);
            return;
        }
        let idx = self.declare(&var.name, var.span);
        let local = self.locals.get_mut(idx);
        local.declared = true;
        local.origin = "This is the initial declaration.";
        if let Some(ty) = declared_ty {
            // A string without a size takes that of what is assigned.
            if !matches!(ty, Ty::Str(0)) {
                let learnt = self.locals.declare_type(idx, ty);
                self.note_learnt(learnt);
            }
        } else if ty.is_some() {
            // The type was not found, which has been reported.
            return;
        }
        match val {
            Some(val) => self.assign_local(span, idx, var, val, true, out),
            None => out.push(stmt(span, StmtKind::Declare(idx))),
        }
    }

    fn redeclared(&mut self, var: &node::Ident) {
        let first = self
            .visible
            .get(&var.name)
            .map(|idx| self.locals.get(*idx))
            .map(|local| (local.span, local.origin));
        let mut diag = Diagnostic::error(
            codes::REDECLARED,
            var.span,
            format!(
                "Variable ${} was already declared. Variable shadowing is not allowed.",
                var.name
            ),
        );
        if let Some((first, origin)) = first {
            diag = diag.with_context(first, origin);
        }
        self.s.diags.push(diag);
    }

    fn assign(&mut self, span: Span, target: &Place, value: &node::Expr, out: &mut Vec<Stmt>) {
        // Aggregations are functions only here.
        if let (Place::Map(_) | Place::MapAccess(_), Ast::Call(call)) = (target, &value.kind)
            && super::call_map::is_aggregation(&call.name.name)
        {
            self.aggregate(span, target, value.span, call, out);
            return;
        }
        if let (Place::Map(_) | Place::MapAccess(_), Ast::Block(block)) = (target, &value.kind)
            && let Some(value) = &block.value
            && ends_in_aggregation(value)
        {
            if !self.descend(block.span) {
                return;
            }
            self.open_scope();
            let mut stmts = self.stmts(&block.stmts);
            self.assign(span, target, value, &mut stmts);
            self.close_scope();
            self.depth -= 1;
            out.push(stmt(block.span, StmtKind::Block(stmts)));
            return;
        }
        self.note_copy(value, target);
        let val = self.expr(value);
        self.assign_val(span, target, val, out);
    }

    fn assign_val(&mut self, span: Span, target: &Place, val: Val, out: &mut Vec<Stmt>) {
        match target {
            Place::Variable(var) => {
                let (idx, first) = match self.visible.get(&var.name) {
                    Some(&idx) => (idx, false),
                    None => (self.declare(&var.name, var.span), true),
                };
                self.assign_local(span, idx, var, val, first, out);
            }
            Place::Map(ident) => self.assign_map(span, ident, None, val, out),
            Place::MapAccess(access) => {
                self.assign_map(span, &access.map, Some(access), val, out);
            }
        }
    }

    fn assign_local(
        &mut self,
        span: Span,
        idx: LocalIdx,
        var: &node::Ident,
        val: Val,
        first: bool,
        out: &mut Vec<Stmt>,
    ) {
        let local = self.locals.get_mut(idx);
        local.assigned = true;
        local.n_assignments += 1;
        let several = local.several;
        if first {
            out.push(stmt(span, StmtKind::Declare(idx)));
        }
        if !val.known {
            self.lose(span);
            return;
        }
        if matches!(val.ty(), Ty::Agg(_) | Ty::Void) {
            let spelled = self.spell_val(&val);
            self.error(
                codes::MAP_VALUE,
                val.span(),
                format!("Value '{spelled}' cannot be assigned to a scratch variable."),
            );
            return;
        }
        // The verifier knows what a pointer is only as long as there is one place that sets it.
        let ty = match val.ty() {
            Ty::Ptr(pointee, Mem::Btf) if several => Ty::Ptr(pointee.clone(), Mem::Kernel),
            Ty::Struct(id, Mem::Btf) if several => Ty::Struct(*id, Mem::Kernel),
            other => other.clone(),
        };
        self.complete_if_by_address(&ty);
        let fixed = self.locals.get(idx).state.fixed;
        let space = val.space;
        let merged = self.merge_local(idx, &ty, &val.literals(), space);
        let to = self.locals.get(idx).state.ty.clone();
        let mut coerced = None;
        if merged && let Some(to) = &to {
            let val = if ty != *val.ty() {
                let expr = self.reinterpret(val.expr.clone(), &ty);
                Val {
                    expr,
                    ..val.clone()
                }
            } else {
                val.clone()
            };
            coerced = self.coerce(val, to);
        }
        match coerced {
            Some(expr) => out.push(stmt(span, StmtKind::AssignLocal(idx, expr))),
            None => {
                let from = self.spell_val(&val);
                let to = to.map_or_else(String::new, |to| self.spell(&to));
                let first = self.locals.get(idx).span;
                let mut diag = Diagnostic::error(
                    codes::TYPE_MISMATCH,
                    span,
                    format!(
                        "Type mismatch for ${}: trying to assign value of type '{from}' when variable \
                         already has a type '{to}'",
                        var.name
                    ),
                );
                if first != var.span || fixed {
                    diag = diag.with_context(first, format!("${} is set first here", var.name));
                }
                self.s.diags.push(diag);
            }
        }
    }

    /// A block's statements and its value. The scope of the block is closed again.
    pub(super) fn block_parts(&mut self, block: &node::Block) -> (Vec<Stmt>, Val) {
        if !self.descend(block.span) {
            return (Vec::new(), Val::unknown(block.span));
        }
        self.open_scope();
        let stmts = self.stmts(&block.stmts);
        let value = match &block.value {
            Some(value) => self.expr(value),
            None => Val::void(block.span),
        };
        self.close_scope();
        self.depth -= 1;
        (stmts, value)
    }

    pub(super) fn block_value(&mut self, block: &node::Block) -> Val {
        let (stmts, val) = self.block_parts(block);
        wrap(block.span, stmts, val)
    }
}

/// Whether the value of an expression, perhaps behind the statements of a block, is an aggregation.
fn ends_in_aggregation(expr: &node::Expr) -> bool {
    match &expr.kind {
        Ast::Call(call) => super::call_map::is_aggregation(&call.name.name),
        Ast::Block(block) => block.value.as_deref().is_some_and(ends_in_aggregation),
        _ => false,
    }
}

/// Statements in front of a value.
pub(super) fn wrap(span: Span, stmts: Vec<Stmt>, val: Val) -> Val {
    if stmts.is_empty() || !val.known {
        return val;
    }
    let ty = val.expr.ty.clone();
    let kind = ExprKind::Block(stmts, Box::new(val.expr));
    // A value behind statements is no literal.
    Val {
        expr: Expr { ty, span, kind },
        range: None,
        ..val
    }
}

/// An expression as statements: what only has effects becomes the statements it consists of.
pub(super) fn flatten(expr: Expr, out: &mut Vec<Stmt>) {
    let span = expr.span;
    match expr.kind {
        ExprKind::Block(stmts, value) if value.ty == Ty::Void => {
            out.extend(stmts);
            flatten(*value, out);
        }
        ExprKind::Cond(cond, then, otherwise) if expr.ty == Ty::Void => {
            let (mut yes, mut no) = (Vec::new(), Vec::new());
            flatten(*then, &mut yes);
            flatten(*otherwise, &mut no);
            out.push(stmt(
                span,
                StmtKind::If {
                    cond: *cond,
                    then: yes,
                    otherwise: no,
                },
            ));
        }
        ExprKind::Const(_) => {}
        kind => out.push(stmt(span, StmtKind::Expr(Expr { kind, ..expr }))),
    }
}
