//! Conversions: every one is a cast in the typed tree.

use std::collections::HashSet;
use std::rc::Rc;

use bpftrace_ast::source::Span;

use super::ops::untrusted;
use super::{Lowerer, Val, low_bits};
use crate::join::same_pointee;
use crate::{Builtin, CastKind, Expr, ExprKind, IntTy, Mem, Ty, codes};

impl Lowerer<'_, '_> {
    /// A cast node.
    pub(super) fn cast_to(&self, expr: Expr, ty: Ty, kind: CastKind) -> Expr {
        let span = expr.span;
        Expr {
            ty,
            span,
            kind: ExprKind::Cast(kind, Box::new(expr)),
        }
    }

    /// The same bits under another type.
    pub(super) fn reinterpret(&self, expr: Expr, ty: &Ty) -> Expr {
        if expr.ty == *ty {
            return expr;
        }
        self.cast_to(expr, ty.clone(), CastKind::Reinterpret)
    }

    /// Something integer-like as an integer of a type; silently.
    pub(super) fn int_of(&mut self, val: Val, int: IntTy) -> Expr {
        let ty = Ty::Int(int);
        if val.expr.ty == ty {
            return val.expr;
        }
        if let Some(value) = val.as_literal() {
            return Expr {
                ty,
                span: val.span(),
                kind: ExprKind::Const(low_bits(value, int)),
            };
        }
        if let Some(value) = val.as_bool_literal() {
            return Expr {
                ty,
                span: val.span(),
                kind: ExprKind::Const(u64::from(value)),
            };
        }
        self.cast_to(val.expr, ty, CastKind::Int)
    }

    /// As [`Self::int_of`]; warns when an unsigned value may come out negative.
    pub(super) fn int_of_warned(&mut self, val: Val, int: IntTy) -> Expr {
        if let Ty::Int(from) = *val.ty()
            && val.range.is_none()
            && val.as_literal().is_none()
            && val.agg.is_none()
            && loses(from, int)
        {
            self.warn_implicit_cast(&val, &Ty::Int(int));
        }
        self.int_of(val, int)
    }

    fn warn_implicit_cast(&mut self, val: &Val, to: &Ty) {
        let (from, to) = (self.spell_val(val), self.spell(to));
        self.warn(
            codes::IMPLICIT_CAST,
            val.span(),
            format!(
                "Expression of type: {from} being cast to type: {to}. This may cause unexpected \
                 results. Use an explicit cast to suppress this warning."
            ),
        );
    }

    /// The type that values of a type have where they are stored: in maps, tuples, events.
    pub(super) fn storage_type(&self, ty: &Ty) -> Ty {
        match ty {
            Ty::Struct(id, _) => Ty::Struct(*id, Mem::Bpf),
            Ty::Array(element, n, _) => Ty::Array(element.clone(), *n, Mem::Bpf),
            // The verifier does not follow addresses through what is stored.
            Ty::Ptr(pointee, Mem::Bpf) => Ty::Ptr(pointee.clone(), Mem::Kernel),
            Ty::Ptr(pointee, mem) => Ty::Ptr(pointee.clone(), untrusted(*mem)),
            Ty::Tuple(elements) => {
                Ty::Tuple(elements.iter().map(|ty| self.storage_type(ty)).collect())
            }
            Ty::Record(fields) => Ty::Record(
                fields
                    .iter()
                    .map(|(name, ty)| (name.clone(), self.storage_type(ty)))
                    .collect(),
            ),
            other => other.clone(),
        }
    }

    /// A value in the form in which it is stored: what is by address is copied.
    pub(super) fn stored(&mut self, mut val: Val) -> Val {
        if !val.known {
            return val;
        }
        if matches!(val.expr.kind, ExprKind::Builtin(Builtin::Args)) {
            val = self.args_record(val.span());
        }
        let ty = self.storage_type(val.ty());
        self.s.imported.complete_value(self.s.types, &ty);
        if ty != *val.ty() {
            val.expr = match val.ty() {
                Ty::Struct(..) | Ty::Array(..) => {
                    self.warn_if_space_unknown_of(&val);
                    self.cast_to(val.expr, ty, CastKind::Copy)
                }
                _ => self.reinterpret(val.expr, &ty),
            };
        }
        val
    }

    fn warn_if_space_unknown_of(&mut self, val: &Val) {
        if let Ty::Struct(_, mem) | Ty::Array(_, _, mem) = val.ty() {
            self.warn_if_space_unknown(*mem, val.span());
        }
    }

    /// Converts to a type that the value was joined into. `None`: there is no such conversion, and
    /// nothing has been reported.
    pub(super) fn coerce(&mut self, val: Val, to: &Ty) -> Option<Expr> {
        if val.ty() == to {
            return Some(val.expr);
        }
        let span = val.span();
        match (val.ty().clone(), to) {
            (Ty::Int(from), Ty::Int(int)) => {
                let literal = val.as_literal();
                let fits = literal.is_some_and(|value| crate::join::fits((value, value), *int));
                if literal.is_some() && !fits {
                    return None;
                }
                if literal.is_none() && val.range.is_none() && loses(from, *int) {
                    self.warn_implicit_cast(&val, to);
                }
                Some(self.int_of(val, *int))
            }
            (Ty::Enum(..), Ty::Int(int)) => Some(self.int_of(val, *int)),
            (Ty::Enum(a, _), Ty::Enum(b, int)) if a == *b => Some(match val.expr.kind {
                ExprKind::Const(_) if val.range.is_some() => Expr {
                    kind: ExprKind::Const(low_bits(val.as_literal().unwrap_or(0), *int)),
                    ty: to.clone(),
                    ..val.expr
                },
                _ => self.cast_to(val.expr, to.clone(), CastKind::Int),
            }),
            (Ty::Str(from), Ty::Str(n)) => {
                if from > *n {
                    return None;
                }
                Some(match val.expr.kind {
                    ExprKind::Str(_) => Expr {
                        ty: to.clone(),
                        ..val.expr
                    },
                    _ => self.cast_to(val.expr, to.clone(), CastKind::Resize),
                })
            }
            (Ty::ProbeName, Ty::Str(_)) => {
                let text = self.text_of(val.expr);
                self.coerce(Val::from_expr(text), to)
            }
            (Ty::Buf(from), Ty::Buf(n)) => {
                (from <= *n).then(|| self.cast_to(val.expr, to.clone(), CastKind::Resize))
            }
            (Ty::Ptr(from, _), Ty::Ptr(pointee, _)) => {
                let types = &self.s.imported.table;
                let ok = same_pointee(&from, pointee, types)
                    || *from == Ty::Void
                    || **pointee == Ty::Void;
                ok.then(|| self.reinterpret(val.expr, to))
            }
            (Ty::Struct(..), Ty::Struct(_, mem)) | (Ty::Array(..), Ty::Array(_, _, mem)) => {
                let types = &self.s.imported.table;
                if !same_pointee(val.ty(), to, types) {
                    return None;
                }
                Some(if *mem == Mem::Bpf && !is_bpf(val.ty()) {
                    self.cast_to(val.expr, to.clone(), CastKind::Copy)
                } else {
                    self.reinterpret(val.expr, to)
                })
            }
            (Ty::Tuple(from), Ty::Tuple(elements)) => {
                if from.len() != elements.len() {
                    return None;
                }
                self.coerce_elements(val.expr, &from, elements, to, span)
            }
            (Ty::Record(from), Ty::Record(fields)) => {
                let same_order = from.len() == fields.len()
                    && from
                        .iter()
                        .zip(fields.iter())
                        .all(|((a, _), (b, _))| a == b);
                if same_order {
                    let from: Rc<[Ty]> = from.iter().map(|(_, ty)| ty.clone()).collect();
                    let elements: Rc<[Ty]> = fields.iter().map(|(_, ty)| ty.clone()).collect();
                    return self.coerce_elements(val.expr, &from, &elements, to, span);
                }
                let names: HashSet<&str> = from.iter().map(|(name, _)| name.as_str()).collect();
                let compatible = from.len() == fields.len()
                    && fields.iter().all(|(name, _)| names.contains(name.as_str()));
                compatible.then(|| self.cast_to(val.expr, to.clone(), CastKind::Elements))
            }
            _ => None,
        }
    }

    fn coerce_elements(
        &mut self,
        expr: Expr,
        from: &Rc<[Ty]>,
        to: &Rc<[Ty]>,
        ty: &Ty,
        span: Span,
    ) -> Option<Expr> {
        // The elements of a literal are converted one by one, which needs no copy of the whole.
        if let ExprKind::Tuple(elements) = expr.kind {
            let mut converted = Vec::with_capacity(elements.len());
            for (element, to) in elements.into_iter().zip(to.iter()) {
                let mut val = Val::from_expr(element);
                val.range = crate::join::element_range(&val.expr);
                converted.push(self.coerce(val, to)?);
            }
            return Some(Expr {
                ty: ty.clone(),
                span,
                kind: ExprKind::Tuple(converted),
            });
        }
        let table = &self.s.imported.table;
        let all = from
            .iter()
            .zip(to.iter())
            // Records keep the order of the first one.
            .all(|(from, to)| crate::join::join(to, from, table).as_ref() == Some(to));
        all.then(|| self.cast_to(expr, ty.clone(), CastKind::Elements))
    }

    /// Warns about a read through an address of which nothing says whose it is.
    pub(super) fn warn_if_space_unknown(&mut self, mem: Mem, span: Span) {
        if mem == Mem::Unknown && self.unevaluated == 0 {
            self.warn(codes::ADDRESS_SPACE, span, "Addrspace is not set");
        }
    }
}

fn is_bpf(ty: &Ty) -> bool {
    matches!(ty, Ty::Struct(_, Mem::Bpf) | Ty::Array(_, _, Mem::Bpf))
}

/// Whether a conversion can change the value.
fn loses(from: IntTy, to: IntTy) -> bool {
    to.size < from.size
        || (!from.signed && to.signed && to.size <= from.size)
        || (from.signed && !to.signed)
}
