//! Members, elements, and what pointers point to.

use std::rc::Rc;

use bpftrace_ast::diag::Diagnostic;
use bpftrace_ast::node;
use bpftrace_ast::source::Span;

use super::ops::untrusted;
use super::{Lowerer, Val};
use crate::join::{Literals, Range, element_range};
use crate::{Expr, ExprKind, IntTy, Mem, Origin, StructId, Ty, codes};

impl Lowerer<'_, '_> {
    pub(super) fn field(&mut self, span: Span, mut base: Val, field: &node::Ident) -> Val {
        if !base.known {
            return Val::unknown(span);
        }
        // Pointers to pointers are followed to the last one.
        while let Ty::Ptr(pointee, _) = base.ty()
            && matches!(**pointee, Ty::Ptr(..))
        {
            base = self.deref(span, base);
        }
        let (id, mem) = match base.ty() {
            Ty::Struct(id, mem) => (*id, *mem),
            Ty::Ptr(pointee, mem) => match &**pointee {
                Ty::Struct(id, _) => (*id, *mem),
                _ => return self.no_fields(span, &base, field),
            },
            Ty::Record(fields) => {
                let fields = fields.clone();
                let Some(at) = self.find_field(&fields, &field.name) else {
                    let near = self.nearest(&field.name, fields.iter().map(|(n, _)| n.as_str()));
                    let mut diag = Diagnostic::error(
                        codes::UNKNOWN_FIELD,
                        field.span,
                        format!("Record does not contain a field named '{}'", field.name),
                    );
                    if let Some(near) = near {
                        diag = diag.with_hint(format!("Did you mean: {near}?"));
                    }
                    self.s.diags.push(diag);
                    return Val::unknown(span);
                };
                let ty = fields[at].1.clone();
                return self.element_of(span, base, at, ty);
            }
            _ => return self.no_fields(span, &base, field),
        };
        let Some(path) = self.find_member(id, &field.name) else {
            self.no_such_field(id, field);
            return Val::unknown(span);
        };
        let mut current = base;
        let mut mem = mem;
        let mut own = false;
        for idx in path {
            let holder = match current.ty() {
                Ty::Struct(id, _) => *id,
                Ty::Ptr(pointee, _) => match &**pointee {
                    Ty::Struct(id, _) => *id,
                    _ => break,
                },
                _ => break,
            };
            self.complete(holder);
            self.s.imported.load_member(self.s.types, holder, idx);
            let def = self.s.imported.table.struct_def(holder);
            let member = def.members[idx as usize].clone();
            let origin = def.origin.clone();
            let in_memory = def.member_memory(&member, mem);
            if let Some(tag) = &member.tag
                && !matches!(tag.as_str(), "user" | "rcu")
                && matches!(member.ty, Ty::Ptr(..))
            {
                self.error(
                    codes::UNKNOWN_FIELD,
                    field.span,
                    format!(
                        "Attempting to access pointer field '{}' with unsupported tag attribute: {tag}",
                        field.name
                    ),
                );
                return Val::unknown(span);
            }
            let user = member.tag.as_deref() == Some("user");
            let points_to = self.member_space(mem, user, &origin, &member.ty);
            if matches!(member.ty, Ty::Struct(..) | Ty::Array(..)) {
                mem = in_memory;
            }
            let (ty, space) = match &member.ty {
                Ty::Struct(id, _) => (Ty::Struct(*id, mem), Mem::Unknown),
                Ty::Array(element, n, _) => (Ty::Array(element.clone(), *n, mem), Mem::Unknown),
                Ty::Ptr(pointee, _) => {
                    let trusted = points_to == Mem::Btf && !matches!(**pointee, Ty::Struct(..));
                    let to = if trusted { Mem::Kernel } else { points_to };
                    (Ty::Ptr(pointee.clone(), to), to)
                }
                Ty::Void => {
                    self.error(
                        codes::UNKNOWN_FIELD,
                        field.span,
                        format!("the type of field '{}' is not supported", field.name),
                    );
                    return Val::unknown(span);
                }
                other => (other.clone(), untrusted(points_to)),
            };
            if !matches!(ty, Ty::Struct(..) | Ty::Array(..)) {
                self.warn_if_space_unknown(mem, span);
            }
            let kind = ExprKind::Member(Box::new(current.expr), idx);
            current = Val::new(ty, span, kind).with_space(space);
            // Members of a member are in the same memory.
            if let Ty::Struct(_, inner) = current.ty() {
                mem = *inner;
            }
            own = origin == Origin::Script;
        }
        match *current.ty() {
            // A text of the script's own struct may fill its array. The kernel's ones end in a NUL
            // unless they were cut, which is to be seen.
            Ty::Str(n) if own => {
                let to = Ty::Str(n.saturating_add(1));
                let (span, space) = (current.span(), current.space);
                match self.coerce(current, &to) {
                    Some(expr) => Val::from_expr(expr).with_space(space),
                    None => Val::unknown(span),
                }
            }
            _ => current,
        }
    }

    /// What an address read from a member points to.
    fn member_space(&self, mem: Mem, user: bool, origin: &Origin, ty: &Ty) -> Mem {
        if user {
            return Mem::User;
        }
        match (mem, origin) {
            (Mem::Ctx, Origin::Registers) | (Mem::Bpf, Origin::User) => Mem::User,
            (Mem::Ctx, Origin::Arguments) => match ty {
                Ty::Ptr(pointee, _) if matches!(**pointee, Ty::Struct(..)) => Mem::Btf,
                _ => Mem::Kernel,
            },
            // Registers hold what the probed code works on.
            (Mem::Ctx, Origin::Context) if !matches!(ty, Ty::Ptr(..)) => {
                crate::pass::attach::address_space(self.unit.provider)
            }
            (Mem::Ctx, _) => Mem::Kernel,
            (Mem::Btf, _) => Mem::Btf,
            (Mem::Bpf, _) => Mem::Kernel,
            (Mem::Kernel | Mem::User | Mem::Unknown, _) => mem,
        }
    }

    pub(super) fn no_such_field(&mut self, id: StructId, field: &node::Ident) {
        let def = self.s.imported.table.struct_def(id);
        if matches!(def.origin, Origin::Tracepoint { .. }) && field.name.starts_with("common_") {
            self.error(
                codes::UNKNOWN_FIELD,
                field.span,
                "BPF does not support accessing common tracepoint fields",
            );
            return;
        }
        let is_parameter = matches!(def.origin, Origin::Registers | Origin::Arguments);
        let near = self.nearest(
            &field.name,
            def.members
                .iter()
                .map(|m| m.name.as_str())
                .filter(|name| !name.is_empty()),
        );
        let spelled = self.spell(&Ty::Struct(id, Mem::Unknown));
        let mut diag = Diagnostic::error(
            codes::UNKNOWN_FIELD,
            field.span,
            if is_parameter {
                format!("Can't find function parameter {}", field.name)
            } else {
                format!(
                    "Struct/union of type '{spelled}' does not contain a field named '{}'",
                    field.name
                )
            },
        );
        if let Some(near) = near {
            diag = diag.with_hint(format!("Did you mean: {near}?"));
        }
        self.s.diags.push(diag);
    }

    fn no_fields(&mut self, span: Span, base: &Val, field: &node::Ident) -> Val {
        if matches!(base.ty(), Ty::Ptr(pointee, _) if **pointee == Ty::Void)
            && !self.s.types.has_kernel_types()
        {
            self.error(
                codes::NO_TYPES,
                span,
                format!(
                    "Can not access field '{}': that needs kernel BTF, and there is none",
                    field.name
                ),
            );
            return Val::unknown(span);
        }
        let spelled = self.spell_val(base);
        self.error(
            codes::UNKNOWN_FIELD,
            span,
            format!(
                "Can not access field '{}' on expression of type '{spelled}'",
                field.name
            ),
        );
        Val::unknown(span)
    }

    /// An element of a tuple or record.
    fn element_of(&mut self, span: Span, base: Val, at: usize, ty: Ty) -> Val {
        // Of a literal the element is a literal.
        if super::control::is_literal(&base)
            && let ExprKind::Tuple(elements) = &base.expr.kind
            && let Some(element) = elements.get(at)
        {
            return Val::from_expr(Expr {
                span,
                ..element.clone()
            });
        }
        let idx = u32::try_from(at).unwrap_or(u32::MAX);
        Val::new(ty, span, ExprKind::TupleField(Box::new(base.expr), idx))
    }

    pub(super) fn tuple_index(
        &mut self,
        span: Span,
        base: Val,
        index: u64,
        index_span: Span,
    ) -> Val {
        if !base.known {
            return Val::unknown(span);
        }
        let Ty::Tuple(elements) = base.ty() else {
            let spelled = self.spell_val(&base);
            self.error(
                codes::INDEX,
                index_span,
                format!("Can not access index '{index}' on expression of type '{spelled}'"),
            );
            return Val::unknown(span);
        };
        let n = elements.len();
        match usize::try_from(index).ok().filter(|at| *at < n) {
            Some(at) => {
                let ty = elements[at].clone();
                self.element_of(span, base, at, ty)
            }
            None => {
                self.error(
                    codes::INDEX,
                    index_span,
                    format!("Invalid tuple index: {index}. Found {n} elements in tuple."),
                );
                Val::unknown(span)
            }
        }
    }

    /// `*p`.
    pub(super) fn deref(&mut self, span: Span, val: Val) -> Val {
        if !val.known {
            return Val::unknown(span);
        }
        let (pointee, mem) = match val.ty() {
            Ty::Ptr(pointee, mem) => (pointee.clone(), *mem),
            // A number is the address of eight bytes.
            Ty::Int(_) if val.agg.is_none() => {
                let space = val.space;
                let pointee = Rc::new(Ty::Int(IntTy::U64));
                let ty = Ty::Ptr(pointee.clone(), space);
                let ptr = self.cast_to(val.expr, ty, crate::CastKind::Int);
                self.warn_if_space_unknown(space, span);
                return Val::new((*pointee).clone(), span, ExprKind::Deref(Box::new(ptr)))
                    .with_space(space);
            }
            Ty::Array(element, n, mem) if *n > 0 => {
                let element = element.clone();
                let mem = *mem;
                let zero = super::expr::constant(Ty::Int(IntTy::U64), span, 0);
                return self.element_at(span, val, zero, &element, mem);
            }
            _ => {
                let spelled = self.spell_val(&val);
                self.error(
                    codes::OPERATOR,
                    span,
                    format!("The * operator can not be used on expressions of type '{spelled}'"),
                );
                return Val::unknown(span);
            }
        };
        if *pointee == Ty::Void {
            self.error(codes::OPERATOR, span, "Can not dereference type 'void *'");
            return Val::unknown(span);
        }
        // Casts of numbers to pointers are what is dereferenced most, and no doubt meant.
        let (ty, space) = self.read_type(&pointee, mem);
        if !matches!(
            ty,
            Ty::Struct(..) | Ty::Array(..) | Ty::Int(_) | Ty::Enum(..) | Ty::Bool | Ty::Ptr(..)
        ) {
            self.warn_if_space_unknown(mem, span);
        }
        Val::new(ty, span, ExprKind::Deref(Box::new(val.expr))).with_space(space)
    }

    /// The type of something in memory once it is read (or, by address, looked at), and the memory
    /// that addresses in it point to.
    fn read_type(&mut self, ty: &Ty, mem: Mem) -> (Ty, Mem) {
        let to = match mem {
            Mem::Ctx | Mem::Bpf | Mem::Btf => Mem::Kernel,
            other => other,
        };
        match ty {
            Ty::Struct(id, _) => (Ty::Struct(*id, mem), Mem::Unknown),
            Ty::Array(element, n, _) => (Ty::Array(element.clone(), *n, mem), Mem::Unknown),
            Ty::Ptr(pointee, own) => {
                // A pointer that was stored keeps what was known about it.
                let to = if *own == Mem::Unknown {
                    to
                } else {
                    untrusted(*own)
                };
                (Ty::Ptr(pointee.clone(), to), to)
            }
            other => (other.clone(), to),
        }
    }

    pub(super) fn index(&mut self, span: Span, base: Val, index: Val) -> Val {
        if !base.known || !index.known {
            return Val::unknown(span);
        }
        if matches!(base.ty(), Ty::Tuple(_)) {
            return match index
                .as_literal()
                .and_then(|value| u64::try_from(value).ok())
            {
                Some(at) => self.tuple_index(span, base, at, index.span()),
                None => {
                    self.error(
                        codes::INDEX,
                        index.span(),
                        "Tuples can only be indexed with literals",
                    );
                    Val::unknown(span)
                }
            };
        }
        if let (Some(text), Some(at)) = (base.as_str_literal(), index.as_literal()) {
            let byte = usize::try_from(at).ok().filter(|at| *at <= text.len());
            return match byte {
                Some(at) => {
                    Val::literal(span, i128::from(text.get(at).copied().unwrap_or(0) as i8))
                }
                None => self.out_of_bounds(span, at, text.len() as u64 + 1),
            };
        }
        let (element, count, mem) = match base.ty() {
            Ty::Array(element, n, mem) => (element.clone(), Some(u64::from(*n)), *mem),
            Ty::Str(n) => (Rc::new(Ty::Int(IntTy::I8)), Some(u64::from(*n)), Mem::Bpf),
            Ty::Ptr(pointee, mem) => {
                if **pointee == Ty::Void {
                    self.error(
                        codes::INDEX,
                        span,
                        "The array index operator [] cannot be used on a pointer to an unsized type \
                         (void *).",
                    );
                    return Val::unknown(span);
                }
                (pointee.clone(), None, untrusted(*mem))
            }
            _ => {
                let spelled = self.spell_val(&base);
                self.error(
                    codes::INDEX,
                    span,
                    format!(
                        "The array index operator [] can only be used on arrays, pointers, and tuples, \
                         found {spelled}."
                    ),
                );
                return Val::unknown(span);
            }
        };
        let literal = index.as_literal();
        let may_index = match index.ty() {
            Ty::Int(int) => {
                !int.signed || self.literal_range(&index).is_some_and(|(min, _)| min >= 0)
            }
            Ty::Enum(..) => true,
            _ => false,
        };
        if !may_index || index.agg.is_some() {
            let spelled = self.spell_val(&index);
            self.error(
                codes::INDEX,
                span,
                format!(
                    "The array index operator [] only accepts non-negative integer indices. Got: \
                     {spelled}"
                ),
            );
            return Val::unknown(span);
        }
        // What has no elements is a flexible array, whose size nobody knows.
        if let (Some(at), Some(n)) = (literal, count)
            && n > 0
            && at >= i128::from(n)
        {
            return self.out_of_bounds(span, at, n);
        }
        let index = self.int_of(index, IntTy::U64);
        self.element_at(span, base, index, &element, mem)
    }

    /// The range of an integer that came of literals alone, by way of variables and maps too.
    pub(super) fn literal_range(&self, val: &Val) -> Option<Range> {
        val.range.or_else(|| self.literals_in(&val.expr).range())
    }

    fn literals_in(&self, expr: &Expr) -> Literals {
        match &expr.kind {
            ExprKind::Local(idx) => self.locals.get(*idx).state.literals.clone(),
            ExprKind::MapGet { map, .. } => {
                let name = self.s.map_names.get(map.0 as usize);
                let state = name.and_then(|name| self.s.maps.get(name));
                state.map_or(Literals::None, |state| state.value.literals.clone())
            }
            ExprKind::TupleField(base, idx) => {
                self.literals_in(base).element(*idx as usize).clone()
            }
            ExprKind::Block(_, value) => self.literals_in(value),
            _ => Literals::of(expr, element_range(expr)),
        }
    }

    fn element_at(&mut self, span: Span, base: Val, index: Expr, element: &Ty, mem: Mem) -> Val {
        self.complete_if_by_address(element);
        let (ty, space) = self.read_type(element, mem);
        // A variable that nothing was assigned to is an array of its own.
        let unassigned =
            matches!(base.expr.kind, ExprKind::Local(idx) if !self.locals.get(idx).assigned);
        if !matches!(ty, Ty::Struct(..) | Ty::Array(..)) && !unassigned {
            self.warn_if_space_unknown(mem, span);
        }
        let base = match base.ty() {
            Ty::Ptr(pointee, m) if *m == Mem::Btf => {
                let ty = Ty::Ptr(pointee.clone(), Mem::Kernel);
                self.reinterpret(base.expr, &ty)
            }
            _ => base.expr,
        };
        Val::new(ty, span, ExprKind::Index(Box::new(base), Box::new(index))).with_space(space)
    }

    fn out_of_bounds(&mut self, span: Span, at: i128, n: u64) -> Val {
        self.error(
            codes::INDEX,
            span,
            format!("the index {at} is out of bounds for array of size {n}"),
        );
        Val::unknown(span)
    }

    /// Structs have to be completed where their size matters to the layout around them.
    pub(super) fn complete_if_by_address(&mut self, ty: &Ty) {
        if let Ty::Struct(id, _) = ty {
            self.complete(*id);
        }
    }

    /// Bytes from one element behind a pointer to the next.
    pub(super) fn pointee_size(&mut self, pointee: &Ty, _span: Span) -> u64 {
        match pointee {
            Ty::Void => 1,
            other => self.s.imported.table.size(other).max(1),
        }
    }
}
