//! Casts that the script writes.

use std::rc::Rc;

use bpftrace_ast::node;
use bpftrace_ast::source::Span;

use super::ops::untrusted;
use super::{Lowerer, Val};
use crate::{CastKind, Expr, ExprKind, IntTy, Mem, Ty, codes};

impl Lowerer<'_, '_> {
    /// A cast at `span`, of which `head_span` is the type in parentheses.
    pub(super) fn cast(
        &mut self,
        span: Span,
        head_span: Span,
        spec: &node::TypeSpec,
        operand: &node::Expr,
    ) -> Val {
        let to = self.type_spec(spec);
        let val = self.expr(operand);
        let Some(to) = to else {
            return Val::unknown(span);
        };
        if !val.known {
            return Val::unknown(span);
        }
        let space = val.space;
        let from = val.ty().clone();
        let expr = match (&from, &to) {
            (_, Ty::Int(int)) => match &from {
                Ty::Int(have)
                    if have == int
                        && val.agg.is_none()
                        && (val.range.is_none() || val.as_literal().is_some()) =>
                {
                    self.unnecessary(head_span, &to);
                    // What was cast is no literal any more.
                    if val.as_literal().is_some() {
                        self.cast_to(val.expr, to, CastKind::Int)
                    } else {
                        val.expr
                    }
                }
                Ty::Int(_) | Ty::Enum(..) | Ty::Bool | Ty::Ptr(..) => {
                    self.cast_to(val.expr, to, CastKind::Int)
                }
                Ty::KSym | Ty::Username => {
                    let wide = self.reinterpret(val.expr, &Ty::Int(IntTy::U64));
                    if *int == IntTy::U64 {
                        wide
                    } else {
                        self.cast_to(wide, to, CastKind::Int)
                    }
                }
                Ty::Array(..) | Ty::Str(_)
                    if self.s.imported.table.size(&from) == u64::from(int.size)
                        && matches!(from, Ty::Array(..)) =>
                {
                    self.cast_to(val.expr, to, CastKind::FromArray)
                }
                _ => return self.no_cast(span, &val, &to),
            },
            (Ty::Bool, Ty::Bool) => {
                if val.as_bool_literal().is_none() {
                    self.unnecessary(head_span, &to);
                }
                val.expr
            }
            (Ty::Int(_) | Ty::Ptr(..) | Ty::Str(_) | Ty::Enum(..), Ty::Bool) => {
                self.cast_to(val.expr, to, CastKind::Truth)
            }
            (Ty::Int(_) | Ty::Enum(..), Ty::Enum(id, _)) => {
                if let Some(value) = val.as_literal() {
                    let def = self.s.imported.table.enum_def(*id);
                    if !def
                        .values
                        .iter()
                        .any(|(known, _)| i128::from(*known) == value)
                    {
                        let name = def.name.clone();
                        self.error(
                            codes::CAST,
                            span,
                            format!("Enum: {name} doesn't contain a variant value of {value}"),
                        );
                        return Val::unknown(span);
                    }
                }
                self.cast_to(val.expr, to, CastKind::Int)
            }
            (Ty::Int(_) | Ty::Enum(..) | Ty::Bool, Ty::Ptr(pointee, _)) => {
                let ty = Ty::Ptr(pointee.clone(), self.space_or_own(space));
                self.cast_to(val.expr, ty, CastKind::Int)
            }
            (Ty::Ptr(have, mem), Ty::Ptr(pointee, _)) => {
                let types = &self.s.imported.table;
                let same = crate::join::same_pointee(have, pointee, types);
                if same {
                    self.unnecessary(head_span, &to);
                }
                let mem = if same { *mem } else { untrusted(*mem) };
                let mem = self.space_or_own(mem);
                self.reinterpret(val.expr, &Ty::Ptr(pointee.clone(), mem))
            }
            // The address of what is in memory.
            (Ty::Array(_, _, mem), Ty::Ptr(pointee, _)) => {
                let ty = Ty::Ptr(pointee.clone(), untrusted(*mem));
                self.reinterpret(val.expr, &ty)
            }
            // So is that of text in a struct, such as room for what others keep there.
            (Ty::Str(_), Ty::Ptr(pointee, _)) => match text_in_place(val.expr.clone()) {
                Some((text, mem)) => self.reinterpret(text, &Ty::Ptr(pointee.clone(), mem)),
                // Other text is put where it has one.
                None => {
                    let Ok(n) = u32::try_from(self.s.imported.table.size(&from)) else {
                        return self.no_cast(span, &val, &to);
                    };
                    let bytes = Ty::Array(Rc::new(Ty::Int(IntTy::I8)), n, Mem::Bpf);
                    let placed = self.cast_to(val.expr, bytes, CastKind::ToArray);
                    self.reinterpret(placed, &Ty::Ptr(pointee.clone(), Mem::Bpf))
                }
            },
            // `sizeof(((struct t)0).member)`: nothing is there, and nothing looks.
            (Ty::Int(_), Ty::Struct(id, _)) if self.unevaluated > 0 => {
                self.reinterpret(val.expr, &Ty::Struct(*id, Mem::Bpf))
            }
            (Ty::Str(n), Ty::Str(0)) => {
                let ty = Ty::Str(*n);
                self.unnecessary(head_span, &ty);
                val.expr
            }
            (Ty::Str(n), Ty::Str(m)) if n <= m => {
                if n == m {
                    self.unnecessary(head_span, &to);
                    val.expr
                } else {
                    match self.coerce(val, &to) {
                        Some(expr) => expr,
                        None => return Val::unknown(span),
                    }
                }
            }
            (Ty::Int(int), Ty::Username) => {
                let wide = if *int == IntTy::U64 {
                    val.expr
                } else {
                    self.int_of(val, IntTy::U64)
                };
                self.reinterpret(wide, &to)
            }
            (Ty::Int(_) | Ty::Bool | Ty::Str(_), Ty::Array(element, n, _)) => {
                match self.array_cast(span, val, element, *n, &to) {
                    Some(val) => return val,
                    None => return Val::unknown(span),
                }
            }
            (Ty::Array(have, n, mem), Ty::Array(element, m, _))
                if have == element && (n == m || *m == 0) =>
            {
                let ty = Ty::Array(element.clone(), *n, *mem);
                self.unnecessary(head_span, &ty);
                val.expr
            }
            (Ty::Struct(..), _) => {
                let spelled = self.spell(&from);
                self.error(
                    codes::CAST,
                    span,
                    format!("Cannot cast from C type \"{spelled}\""),
                );
                return Val::unknown(span);
            }
            _ => return self.no_cast(span, &val, &to),
        };
        let ty = expr.ty.clone();
        Val::new(ty, span, expr.kind).with_space(space)
    }

    /// An address of which nothing says whose it is, is one of what is probed.
    fn space_or_own(&self, space: Mem) -> Mem {
        match space {
            Mem::Unknown if self.unit.is_function() => Mem::Kernel,
            Mem::Unknown => crate::pass::attach::address_space(self.unit.provider),
            known => known,
        }
    }

    fn array_cast(
        &mut self,
        span: Span,
        val: Val,
        element: &Rc<Ty>,
        n: u32,
        to: &Ty,
    ) -> Option<Val> {
        let size = self.s.imported.table.size(element).max(1);
        let have = self.s.imported.table.size(val.ty());
        let count = if n == 0 {
            if !have.is_multiple_of(size) {
                self.no_cast(span, &val, to);
                return None;
            }
            u32::try_from(have / size).unwrap_or(u32::MAX)
        } else {
            n
        };
        let want = size * u64::from(count);
        let is_int = !matches!(val.ty(), Ty::Str(_)) && !matches!(**element, Ty::Struct(..));
        if want != have && !(is_int && have <= want && want <= 8) {
            self.no_cast(span, &val, to);
            return None;
        }
        let ty = Ty::Array(element.clone(), count, Mem::Bpf);
        let kind = ExprKind::Cast(CastKind::ToArray, Box::new(val.expr));
        Some(Val::new(ty, span, kind))
    }

    fn unnecessary(&mut self, head_span: Span, ty: &Ty) {
        if self.unevaluated > 0 {
            return;
        }
        let spelled = self.spell(ty);
        self.warn(
            codes::UNNECESSARY_CAST,
            head_span,
            format!("Unnecessary cast: expression is already of type {spelled}"),
        );
    }

    fn no_cast(&mut self, span: Span, val: &Val, to: &Ty) -> Val {
        let from = self.spell_val(val);
        let to = match to {
            Ty::Str(0) => "string".to_owned(),
            to => self.spell(to),
        };
        self.error(
            codes::CAST,
            span,
            format!("Cannot cast from \"{from}\" to \"{to}\""),
        );
        Val::unknown(span)
    }
}

/// Text that is part of a struct, and the kind of memory it is in: it has an address.
fn text_in_place(text: Expr) -> Option<(Expr, Mem)> {
    let text = match text.kind {
        ExprKind::Cast(CastKind::Resize, inner) => *inner,
        _ => text,
    };
    let (ExprKind::Member(base, _) | ExprKind::Deref(base)) = &text.kind else {
        return None;
    };
    match &base.ty {
        // The verifier lets nobody read the context through a pointer into it.
        Ty::Struct(_, Mem::Ctx) | Ty::Ptr(_, Mem::Ctx) => Some((text, Mem::Kernel)),
        Ty::Struct(_, mem) | Ty::Ptr(_, mem) => {
            let mem = untrusted(*mem);
            Some((text, mem))
        }
        _ => None,
    }
}
