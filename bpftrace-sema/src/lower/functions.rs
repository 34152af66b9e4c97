//! Functions of the script: their bodies, and calls of them.

use std::collections::hash_map::Entry;

use bpftrace_ast::diag::Diagnostic;
use bpftrace_ast::node::{self, Subprog, TypeSpecKind};
use bpftrace_ast::source::Span;

use super::stmt::flatten;
use super::{Lowerer, Session, Val, stmt};
use crate::cycles::find_cycles;
use crate::env::Locals;
use crate::pass::units::{Code, Unit};
use crate::walk::{Node, walk};
use crate::{Body, Expr, ExprKind, FunctionIdx, IntTy, Mem, Stmt, StmtKind, Ty, codes};

/// What callers of a function have to know.
#[derive(Clone, Debug)]
pub(crate) struct Signature {
    pub(crate) name: String,
    /// Names and types.
    pub(crate) params: Vec<(String, Ty)>,
    pub(crate) ret: Ty,
    pub(crate) span: Span,
}

/// Most parameters: those that are not in registers take stack of the caller.
const MAX_PARAMS: usize = 16;

/// Most parameters of functions that somebody else compiled: theirs are all in registers.
pub(super) const MAX_IMPORTED_PARAMS: usize = 5;

/// Finds out what the functions of the script take and return.
pub(crate) fn read_signatures<'a>(
    session: &mut Session<'a>,
    units: &[Unit<'a>],
    diags: &mut Vec<Diagnostic>,
) {
    let mut again = Vec::new();
    for unit in units {
        let Code::Function(function) = unit.code else {
            continue;
        };
        let mut locals = Locals::default();
        let mut lowerer = Lowerer::new(session, unit, &mut locals);
        let signature = lowerer.signature(function);
        diags.append(&mut session.diags);
        let number = session.functions.len();
        match session.function_numbers.entry(signature.name.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(number);
            }
            Entry::Occupied(entry) => {
                let first = session.functions[*entry.get()].span;
                again.push(
                    Diagnostic::error(
                        codes::REDECLARED,
                        signature.span,
                        format!("Redefinition of function: {}", signature.name),
                    )
                    .with_context(first, "This is the original definition."),
                );
            }
        }
        session.functions.push(signature);
    }
    diags.append(&mut again);
}

/// Points at functions that call themselves, directly or through others: BPF has no stack for that.
pub(crate) fn refuse_recursion(
    functions: &[Signature],
    bodies: &[Body],
    diags: &mut Vec<Diagnostic>,
) {
    let calls: Vec<Vec<usize>> = bodies
        .iter()
        .map(|body| {
            let mut called = Vec::new();
            walk(&body.stmts, &mut |node| {
                if let Node::Expr(expr) = node
                    && let ExprKind::CallFunction(idx, _) = expr.kind
                {
                    called.push(idx.0 as usize);
                }
            });
            called
        })
        .collect();
    for chain in find_cycles(&calls) {
        let names: Vec<&str> = chain.iter().map(|&i| functions[i].name.as_str()).collect();
        diags.push(Diagnostic::error(
            codes::LIMIT,
            functions[chain[0]].span,
            format!(
                "Recursive function call detected. Call chain: {}",
                names.join(" > ")
            ),
        ));
    }
}

impl Lowerer<'_, '_> {
    fn signature(&mut self, function: &Subprog) -> Signature {
        if function.params.len() > MAX_PARAMS {
            self.error(
                codes::ARGUMENT_COUNT,
                function.name.span,
                format!("functions take at most {MAX_PARAMS} arguments"),
            );
        }
        // Types may be those of other parameters, wherever these are.
        let is_typeof =
            |param: &node::SubprogParam| matches!(param.ty.kind, TypeSpecKind::Typeof(_));
        let (derived, plain): (Vec<_>, Vec<_>) = function
            .params
            .iter()
            .enumerate()
            .partition(|(_, param)| is_typeof(param));
        let mut params = vec![(String::new(), Ty::Void); function.params.len()];
        for (at, param) in plain.into_iter().chain(derived) {
            let ty = self.passed_type(&param.ty);
            params[at] = (param.var.name.clone(), ty.clone());
            if !self.visible.contains_key(&param.var.name) {
                let idx = self.declare(&param.var.name, param.var.span);
                let local = self.locals.get_mut(idx);
                local.assigned = true;
                local.state.ty = Some(ty);
                local.state.fixed = true;
            }
        }
        let is_void =
            matches!(&function.return_type.kind, TypeSpecKind::Named(name) if name == "void");
        let ret = if is_void {
            Ty::Void
        } else {
            self.passed_type(&function.return_type)
        };
        Signature {
            name: function.name.name.clone(),
            params,
            ret,
            span: function.name.span,
        }
    }

    /// A type of what functions take and return.
    fn passed_type(&mut self, spec: &node::TypeSpec) -> Ty {
        let max = self.s.settings.max_strlen;
        let ty = match self.type_spec(spec) {
            Some(Ty::Str(0)) => Ty::Str(max),
            Some(Ty::Buf(0)) => Ty::Buf(max),
            Some(Ty::Ptr(pointee, _)) => Ty::Ptr(pointee, Mem::Kernel),
            Some(ty @ (Ty::Void | Ty::Agg(_))) => {
                let spelled = self.spell(&ty);
                self.error(
                    codes::TYPE_MISMATCH,
                    spec.span,
                    format!("Values of type {spelled} cannot be passed to or from functions"),
                );
                return Ty::Int(IntTy::I64);
            }
            Some(other) => self.storage_type(&other),
            None => return Ty::Int(IntTy::I64),
        };
        self.s.imported.complete_value(self.s.types, &ty);
        ty
    }

    /// The body of a function; its parameters are the first variables.
    pub(super) fn function_body(&mut self, function: &Subprog) -> Vec<Stmt> {
        let name = &function.name.name;
        let Some(&at) = self.s.function_numbers.get(name) else {
            return Vec::new();
        };
        let signature = self.s.functions[at].clone();
        for (param, (_, ty)) in function.params.iter().zip(&signature.params) {
            if self.visible.contains_key(&param.var.name) {
                self.error(
                    codes::REDECLARED,
                    param.var.span,
                    format!("Variable ${} was already declared.", param.var.name),
                );
                continue;
            }
            let idx = self.declare(&param.var.name, param.var.span);
            let local = self.locals.get_mut(idx);
            local.origin = "This is the function parameter.";
            local.assigned = true;
            local.n_assignments += 1;
            local.state.ty = Some(ty.clone());
            local.state.space = Mem::Kernel;
            local.state.fixed = true;
        }
        let body = self.block(&function.body);
        if signature.ret != Ty::Void && !self.diverges && signature.span == function.name.span {
            let ret = self.spell_return(&signature.ret);
            self.error(
                codes::TYPE_MISMATCH,
                function.name.span,
                format!("Function {name} is of type {ret}, but it can end without a return"),
            );
        }
        body
    }

    /// `return` in a function.
    pub(super) fn function_return(
        &mut self,
        span: Span,
        value: Option<&node::Expr>,
        out: &mut Vec<Stmt>,
    ) {
        let Code::Function(function) = self.unit.code else {
            return;
        };
        let name = &function.name.name;
        let number = self.s.function_numbers.get(name);
        let ret = number.map_or(Ty::Void, |&at| self.s.functions[at].ret.clone());
        let val = match value {
            Some(tree) => self.expr(tree),
            None => Val::void(span),
        };
        self.diverges = true;
        if !val.known {
            return;
        }
        if val.is_void() && ret == Ty::Void {
            flatten(val.expr, out);
            out.push(stmt(span, StmtKind::Return(None)));
            return;
        }
        let from = self.spell_val(&val);
        match self.coerce(val, &ret) {
            Some(value) => out.push(stmt(span, StmtKind::Return(Some(value)))),
            None => {
                let to = self.spell_return(&ret);
                self.error(
                    codes::TYPE_MISMATCH,
                    span,
                    format!("Function {name} is of type {to}, cannot return {from}"),
                );
            }
        }
    }

    /// What a function gives, as it is declared: text has no size there.
    fn spell_return(&self, ty: &Ty) -> String {
        match ty {
            Ty::Str(_) => "string".to_owned(),
            _ => self.spell(ty),
        }
    }

    /// A call of a function of the script; `None` when there is none of that name.
    pub(super) fn function_call(&mut self, span: Span, call: &node::Call) -> Option<Val> {
        let name = &call.name.name;
        let at = *self.s.function_numbers.get(name)?;
        let signature = self.s.functions[at].clone();
        let Some(args) = self.passed_args(span, call, &signature.params, Self::coerce) else {
            return Some(Val::unknown(span));
        };
        let idx = FunctionIdx(u32::try_from(at).unwrap_or(u32::MAX));
        Some(
            Val::new(signature.ret, span, ExprKind::CallFunction(idx, args))
                .with_space(Mem::Kernel),
        )
    }

    /// The arguments of a call of a function with these parameters, whose names may be empty; `None` when they do
    /// not fit.
    pub(super) fn passed_args(
        &mut self,
        span: Span,
        call: &node::Call,
        params: &[(String, Ty)],
        convert: fn(&mut Self, Val, &Ty) -> Option<Expr>,
    ) -> Option<Vec<Expr>> {
        if call.args.len() != params.len() {
            self.error(
                codes::ARGUMENT_COUNT,
                span,
                format!(
                    "Function `{}` requires {} arguments, got only {}",
                    call.name.name,
                    params.len(),
                    call.args.len()
                ),
            );
            return None;
        }
        let mut args = Vec::with_capacity(params.len());
        for (i, (param, ty)) in params.iter().enumerate() {
            let Some(val) = self.arg_val(call, i) else {
                continue;
            };
            let (from, place) = (self.spell_val(&val), val.span());
            match convert(self, val, ty) {
                Some(arg) => args.push(arg),
                None => {
                    let to = self.spell(ty);
                    let of = match param.as_str() {
                        "" => String::new(),
                        param => format!(" for argument `{param}`"),
                    };
                    self.error(
                        codes::TYPE_MISMATCH,
                        place,
                        format!("Expected {to}{of} got {from}"),
                    );
                }
            }
        }
        (args.len() == params.len()).then_some(args)
    }
}
