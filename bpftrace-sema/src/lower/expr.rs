//! Expressions.

use bpftrace_ast::node::{self, ExprKind as Ast, Fixity, IncDecOp, TypeOrExpr};
use bpftrace_ast::source::Span;
use bpftrace_meta::{HostValue, ParamKind};

use super::{Lowerer, MAX_CHAIN, Val, int_value};
use crate::env::{KeyState, Merged};
use crate::join::Literals;
use crate::{Expr, ExprKind, IntTy, LocalIdx, Mem, StepTarget, StructId, Ty, codes};

impl Lowerer<'_, '_> {
    /// An expression, of whatever type it has.
    pub(super) fn expr(&mut self, expr: &node::Expr) -> Val {
        if !self.descend(expr.span) {
            return Val::unknown(expr.span);
        }
        let val = self.expr_inner(expr);
        self.depth -= 1;
        val
    }

    fn expr_inner(&mut self, expr: &node::Expr) -> Val {
        let span = expr.span;
        match &expr.kind {
            Ast::Integer(lit) => Val::literal(span, i128::from(lit.value)),
            Ast::String(lit) => self.string_literal(span, &lit.value),
            Ast::Bool(value) => Val::boolean(span, *value),
            Ast::Ident(name) => self.ident(span, name),
            Ast::Variable(name) => self.variable(span, name),
            Ast::Map(name) => self.map_read(span, name, None),
            Ast::MapAccess(access) => self.map_read(span, &access.map.name, Some(access)),
            Ast::PositionalParam(n) => self.positional(span, *n, None),
            Ast::PositionalCount if self.literal_depth > 0 => {
                let count = self.s.options.params.len();
                self.s.tables.fixed_params.insert(0, count.to_string());
                Val::literal(span, count as i128)
            }
            Ast::PositionalCount => self
                .slot(HostValue::ParamCount, Ty::Int(IntTy::U64), span)
                .with_range((0, i128::from(i64::MAX))),
            Ast::Unary { op, operand } => self.unary(span, *op, operand),
            Ast::IncDec { op, fixity, target } => self.step(span, *op, *fixity, target),
            Ast::AddressOfVariable(ident) => self.address_of_variable(span, ident),
            Ast::AddressOfMap(ident) => self.address_of_map(span, ident),
            Ast::Binary { .. } => self.binary_chain(expr),
            Ast::Ternary {
                cond,
                then,
                otherwise,
            } => self.ternary(span, cond, then.as_deref(), otherwise),
            Ast::If(branch) => self.if_value(branch),
            Ast::Block(block) => self.block_value(block),
            Ast::Tuple(elements) => self.tuple(span, elements),
            Ast::Record(fields) => self.record(span, fields),
            Ast::Cast {
                ty,
                head_span,
                operand,
            } => self.cast(span, *head_span, ty, operand),
            Ast::Sizeof(of) => self.sizeof(span, of),
            Ast::Offsetof { of, fields } => self.offsetof(span, of, fields),
            Ast::Typeinfo(of) => self.typeinfo(span, of),
            Ast::Comptime(inner) => self.comptime(span, inner),
            Ast::Call(call) => self.call(span, call),
            Ast::Field { base, field, .. } => {
                let base = self.expr(base);
                self.field(span, base, field)
            }
            Ast::TupleIndex {
                base,
                index,
                index_span,
            } => {
                let base = self.expr(base);
                self.tuple_index(span, base, *index, *index_span)
            }
            Ast::Index { base, index } => {
                let base = self.expr(base);
                let index = self.expr(index);
                self.index(span, base, index)
            }
            Ast::Error => Val::unknown(span),
        }
    }

    fn string_literal(&mut self, span: Span, bytes: &[u8]) -> Val {
        let max = self.s.settings.max_strlen;
        if bytes.len() >= max as usize {
            self.error_hint(
                codes::STRING_LENGTH,
                span,
                format!(
                    "String is too long (over {} bytes): {}",
                    max - 1,
                    String::from_utf8_lossy(bytes)
                ),
                "Increase BPFTRACE_MAX_STRLEN.",
            );
            return Val::unknown(span);
        }
        Val::string(span, bytes.to_vec())
    }

    /// Left associative operators one after the other, without recursion on the left side.
    fn binary_chain(&mut self, expr: &node::Expr) -> Val {
        let before = self.slots_so_far();
        let mut chain = Vec::new();
        let mut leftmost = expr;
        while let Ast::Binary {
            op,
            op_span,
            left,
            right,
        } = &leftmost.kind
        {
            chain.push((*op, *op_span, right, leftmost.span));
            leftmost = left;
        }
        let mut n_operators = 0;
        let mut left = None;
        while let Some((op, op_span, right, span)) = chain.pop() {
            let val = match left.take() {
                None => self.binary(span, op, op_span, before, Operand::Tree(leftmost), right),
                Some(done) => self.binary(span, op, op_span, before, Operand::Done(done), right),
            };
            if matches!(val.expr.kind, ExprKind::Const(_) | ExprKind::Str(_)) {
                n_operators = 0;
            } else {
                n_operators += 1;
            }
            if n_operators > MAX_CHAIN {
                self.error(codes::LIMIT, span, "nested too deeply");
                return Val::unknown(span);
            }
            left = Some(val);
        }
        left.unwrap_or_else(|| Val::unknown(expr.span))
    }

    fn variable(&mut self, span: Span, name: &str) -> Val {
        let Some(&idx) = self.visible.get(name) else {
            let near = self.nearest(name, self.visible.keys().map(String::as_str));
            let mut diag = bpftrace_ast::diag::Diagnostic::error(
                codes::UNDEFINED_VARIABLE,
                span,
                format!("Undefined or undeclared variable: ${name}"),
            );
            if let Some(near) = near {
                diag = diag.with_hint(format!("Did you mean: ${near}?"));
            }
            self.s.diags.push(diag);
            return Val::unknown(span);
        };
        let local = self.locals.get_mut(idx);
        local.used = true;
        let assigned = local.assigned;
        let state = local.state.clone();
        if !assigned && self.unevaluated == 0 {
            self.warn(
                codes::UNUSED,
                span,
                format!("Variable used before it was assigned: ${name}"),
            );
        }
        let Some(ty) = state.ty else {
            return Val::unknown(span);
        };
        Val::new(ty, span, ExprKind::Local(idx)).with_space(state.space)
    }

    fn address_of_variable(&mut self, span: Span, ident: &node::Ident) -> Val {
        let Some(&idx) = self.visible.get(&ident.name) else {
            return self.variable(ident.span, &ident.name);
        };
        let local = self.locals.get_mut(idx);
        local.assigned = true;
        local.used = true;
        local.address_taken = true;
        local.n_assignments += 1;
        match local.state.ty.clone() {
            // The variable holds the address of what it stands for.
            Some(ty @ (Ty::Struct(_, mem) | Ty::Array(_, _, mem))) if mem != Mem::Unknown => {
                let pointer = Ty::Ptr(std::rc::Rc::new(ty.clone()), mem);
                let kind = ExprKind::Local(idx);
                let value = self.reinterpret(Expr { ty, span, kind }, &pointer);
                Val::new(pointer, span, value.kind)
            }
            Some(ty) => {
                let ty = Ty::Ptr(std::rc::Rc::new(ty), Mem::Bpf);
                Val::new(ty, span, ExprKind::LocalAddr(idx))
            }
            None => Val::unknown(span),
        }
    }

    fn address_of_map(&mut self, span: Span, ident: &node::Ident) -> Val {
        let name = &ident.name;
        // Whether it has keys is for others to say.
        self.note_map(span, name);
        self.ask_map(ident.span, name);
        let state = &self.s.maps[name];
        let mem = match &state.key {
            KeyState::Unused => return Val::unknown(span),
            KeyState::Scalar => Mem::Bpf,
            // The map itself, not one of its values.
            KeyState::Keyed(_) => Mem::Kernel,
        };
        match state.value.ty.clone() {
            Some(ty) => {
                let map = self.map_number(name);
                let ty = Ty::Ptr(std::rc::Rc::new(ty), mem);
                Val::new(ty, span, ExprKind::MapAddr(map))
            }
            None => Val::unknown(span),
        }
    }

    /// `$n`; `kind` is how the place it stands in wants it.
    pub(super) fn positional(&mut self, span: Span, n: u64, kind: Option<ParamKind>) -> Val {
        let index = u32::try_from(n).unwrap_or(u32::MAX);
        if index == 0 || index > 1_000_000 {
            self.error(
                codes::ARGUMENT_KIND,
                span,
                format!("positional parameter out of range: ${n}"),
            );
            return Val::unknown(span);
        }
        self.s.tables.n_params = self.s.tables.n_params.max(index);
        let given = self.s.options.param_kinds.get(index as usize - 1).copied();
        let kind = kind.or(given).unwrap_or(ParamKind::Int);
        if self.literal_depth > 0 {
            return self.positional_literal(span, index, kind);
        }
        match kind {
            ParamKind::Int => self
                .slot(HostValue::Param { index, kind }, Ty::Int(IntTy::I64), span)
                // Takes the signedness of what it meets; negative ones keep their bits.
                .with_range((0, i128::from(i64::MAX))),
            ParamKind::Str => {
                let ty = Ty::Str(self.s.settings.max_strlen);
                self.slot(HostValue::Param { index, kind }, ty, span)
            }
        }
    }

    /// `$n` as the compiler was given it. The program is for that value only.
    fn positional_literal(&mut self, span: Span, index: u32, kind: ParamKind) -> Val {
        let params = &self.s.options.params;
        let text = params.get(index as usize - 1).cloned().unwrap_or_default();
        let val = match kind {
            ParamKind::Str => Val::string(span, text.clone().into_bytes()),
            ParamKind::Int if text.is_empty() => Val::literal(span, 0),
            ParamKind::Int => {
                let (magnitude, negative) = match text.strip_prefix('-') {
                    Some(magnitude) => (magnitude, true),
                    None => (text.as_str(), false),
                };
                match bpftrace_notation::parse_uint(magnitude).map(i128::from) {
                    Ok(value) => Val::literal(span, if negative { -value } else { value }),
                    Err(error) => {
                        self.error(codes::ARGUMENT_KIND, span, error.to_string());
                        return Val::unknown(span);
                    }
                }
            }
        };
        self.s.tables.fixed_params.insert(index, text);
        val
    }

    /// An expression that has to be a literal.
    pub(super) fn literal_expr(&mut self, expr: &node::Expr) -> Val {
        self.literal_depth += 1;
        let val = self.expr(expr);
        self.literal_depth -= 1;
        val
    }

    fn tuple(&mut self, span: Span, elements: &[node::Expr]) -> Val {
        let vals: Vec<Val> = elements.iter().map(|element| self.expr(element)).collect();
        if vals.is_empty() {
            return Val::void(span);
        }
        self.tuple_of(span, vals)
    }

    /// A tuple of values; by-address ones are copied.
    pub(super) fn tuple_of(&mut self, span: Span, vals: Vec<Val>) -> Val {
        let mut exprs = Vec::with_capacity(vals.len());
        let mut known = true;
        for val in vals {
            known &= self.is_element(&val, "tuple");
            exprs.push(self.stored(val).expr);
        }
        if !known {
            return Val::unknown(span);
        }
        let ty = Ty::Tuple(exprs.iter().map(|expr| expr.ty.clone()).collect());
        Val::new(ty, span, ExprKind::Tuple(exprs))
    }

    fn record(&mut self, span: Span, fields: &[node::RecordField]) -> Val {
        let mut exprs = Vec::with_capacity(fields.len());
        let mut names = Vec::with_capacity(fields.len());
        let mut known = true;
        for field in fields {
            let val = self.expr(&field.value);
            known &= self.is_element(&val, "record");
            let stored = self.stored(val).expr;
            names.push((field.name.name.clone(), stored.ty.clone()));
            exprs.push(stored);
        }
        if !known {
            return Val::unknown(span);
        }
        Val::new(Ty::Record(names.into()), span, ExprKind::Tuple(exprs))
    }

    /// Whether a value can be part of a tuple or record.
    fn is_element(&mut self, val: &Val, whole: &str) -> bool {
        if !val.known {
            return false;
        }
        match val.ty() {
            Ty::Agg(agg) => {
                let agg = crate::spell::spell_agg(agg);
                self.error(
                    codes::MAP_VALUE,
                    val.span(),
                    format!("Map type {agg} cannot exist inside a {whole}."),
                );
                false
            }
            Ty::Void => {
                self.error(
                    codes::TYPE_MISMATCH,
                    val.span(),
                    format!("a value of type none cannot exist inside a {whole}."),
                );
                false
            }
            _ => true,
        }
    }

    fn step(&mut self, span: Span, op: IncDecOp, fixity: Fixity, target: &node::Place) -> Val {
        let decrement = op == IncDecOp::Dec;
        let post = fixity == Fixity::Postfix;
        let (ty, place) = match target {
            node::Place::Variable(ident) => {
                let val = self.variable(ident.span, &ident.name);
                let ExprKind::Local(idx) = val.expr.kind else {
                    return Val::unknown(span);
                };
                let Some(ty) = self.stepped_type(&val, decrement, op) else {
                    return Val::unknown(span);
                };
                self.merge_local(idx, &ty, &Literals::None, val.space);
                let local = self.locals.get_mut(idx);
                local.n_assignments += 1;
                local.n_steps += 1;
                let ty = self.locals.get(idx).state.ty.clone().unwrap_or(ty);
                (ty, StepTarget::Local(idx))
            }
            node::Place::Map(ident) => {
                let val = self.map_read(ident.span, &ident.name, None);
                match self.step_map(&ident.name, val, decrement, op) {
                    Some(done) => done,
                    None => return Val::unknown(span),
                }
            }
            node::Place::MapAccess(access) => {
                let val = self.map_read(access.span, &access.map.name, Some(access));
                match self.step_map(&access.map.name, val, decrement, op) {
                    Some(done) => done,
                    None => return Val::unknown(span),
                }
            }
        };
        let by = match &ty {
            Ty::Ptr(pointee, _) => self.pointee_size(pointee, span),
            _ => 1,
        };
        Val::new(
            ty,
            span,
            ExprKind::Step {
                target: place,
                decrement,
                post,
                by,
            },
        )
    }

    fn step_map(
        &mut self,
        name: &str,
        val: Val,
        decrement: bool,
        op: IncDecOp,
    ) -> Option<(Ty, StepTarget)> {
        if let Some(state) = self.s.maps.get_mut(name) {
            state.written = true;
            state.stepped |= !val.known;
        }
        if !val.known {
            return None;
        }
        let ty = self.stepped_type(&val, decrement, op)?;
        self.merge_map_value(name, &ty, &Literals::None, val.space, val.span())?;
        let ty = self.s.maps[name].value.ty.clone().unwrap_or(ty);
        let ExprKind::MapGet { map, key } = val.expr.kind else {
            return None;
        };
        Some((ty, StepTarget::Map { map, key }))
    }

    /// The type that a variable or map entry has to have to be stepped.
    fn stepped_type(&mut self, val: &Val, decrement: bool, op: IncDecOp) -> Option<Ty> {
        if !val.known {
            return None;
        }
        let sign = if op == IncDecOp::Inc { "++" } else { "--" };
        match val.ty() {
            _ if val.agg.is_some() => {}
            Ty::Int(int) => {
                return Some(Ty::Int(if int.signed || decrement {
                    IntTy::I64
                } else {
                    IntTy::U64
                }));
            }
            Ty::Ptr(..) => return Some(val.ty().clone()),
            _ => {}
        }
        let spelled = self.spell_val(val);
        self.error(
            codes::OPERATOR,
            val.span(),
            format!("The {sign} operator can not be used on expressions of type '{spelled}'"),
        );
        None
    }

    fn sizeof(&mut self, span: Span, of: &TypeOrExpr) -> Val {
        let Some(ty) = self.type_of_operand("sizeof", of) else {
            return Val::unknown(span);
        };
        if let Ty::Struct(id, _) = &ty
            && self.s.imported.table.struct_def(*id).origin == crate::Origin::Kernel
            && !self.s.imported.table.struct_def(*id).name.is_empty()
        {
            // Another kernel has another size.
            return Val::new(Ty::Int(IntTy::U64), span, ExprKind::KernelSizeof(*id))
                .with_range((0, i128::from(u32::MAX)));
        }
        let size = self.s.imported.table.size(&ty);
        unsigned_literal(span, size)
    }

    /// `typeinfo(x)`: a record of literals. For a map with keys it is about the keys.
    fn typeinfo(&mut self, span: Span, of: &TypeOrExpr) -> Val {
        // What a macro asks of its arguments is its own business, the script's or the library's.
        if span.expansion.is_none() {
            self.unstable(
                span,
                self.s.settings.typeinfo,
                "typeinfo",
                "unstable_typeinfo",
            );
            if self.s.settings.typeinfo == crate::pass::config::Unstable::Error {
                return Val::unknown(span);
            }
        }
        let Some(ty) = self.type_of_operand("typeof or typeinfo", of) else {
            return Val::unknown(span);
        };
        let full = self.spell(&ty);
        let fields = [
            ("btf_id", Val::literal(span, 0)),
            (
                "base_type",
                Val::string(span, crate::spell::base_type(&ty).as_bytes().to_vec()),
            ),
            ("full_type", Val::string(span, full.into_bytes())),
        ];
        let names = fields
            .iter()
            .map(|(name, val)| ((*name).to_owned(), val.ty().clone()))
            .collect::<Vec<_>>();
        let values = fields.into_iter().map(|(_, val)| val.expr).collect();
        Val::new(Ty::Record(names.into()), span, ExprKind::Tuple(values))
    }

    fn offsetof(&mut self, span: Span, of: &TypeOrExpr, fields: &[node::Ident]) -> Val {
        let Some(ty) = self.type_of_operand("offsetof", of) else {
            return Val::unknown(span);
        };
        let Ty::Struct(first, _) = ty else {
            let spelled = self.spell(&ty);
            self.error(
                codes::UNKNOWN_FIELD,
                span,
                format!("'{spelled}' is not a struct or union, so it has no offsets"),
            );
            return Val::unknown(span);
        };
        let mut path = Vec::new();
        let mut bits = 0;
        let mut current = first;
        for (i, field) in fields.iter().enumerate() {
            let Some(found) = self.find_member(current, &field.name) else {
                self.no_such_field(current, field);
                return Val::unknown(span);
            };
            let mut ty = Ty::Struct(current, Mem::Unknown);
            for &idx in &found {
                let Ty::Struct(id, _) = ty else { break };
                self.s.imported.load_member(self.s.types, id, idx);
                let member = &self.s.imported.table.struct_def(id).members[idx as usize];
                bits += member.bit_offset;
                ty = member.ty.clone();
                self.complete_if_struct(&ty);
            }
            path.extend(found);
            match ty {
                Ty::Struct(id, _) => current = id,
                _ if i + 1 < fields.len() => {
                    let spelled = self.spell(&ty);
                    self.error(
                        codes::UNKNOWN_FIELD,
                        fields[i + 1].span,
                        format!(
                            "Can not access field '{}' on expression of type '{spelled}'",
                            fields[i + 1].name
                        ),
                    );
                    return Val::unknown(span);
                }
                _ => {}
            }
        }
        let offset = bits / 8;
        if self.s.imported.table.struct_def(first).origin == crate::Origin::Kernel {
            return Val::new(
                Ty::Int(IntTy::U64),
                span,
                ExprKind::KernelOffsetof(first, path),
            )
            .with_range((0, i128::from(u32::MAX)));
        }
        unsigned_literal(span, offset)
    }

    fn complete_if_struct(&mut self, ty: &Ty) {
        if let Ty::Struct(id, _) = ty {
            self.complete(*id);
        }
    }

    pub(super) fn complete(&mut self, id: StructId) {
        self.s.imported.complete(self.s.types, id);
    }

    /// Merges a type into a variable; `false` when they have nothing in common.
    pub(super) fn merge_local(
        &mut self,
        idx: LocalIdx,
        ty: &Ty,
        literals: &Literals,
        space: Mem,
    ) -> bool {
        let types = &self.s.imported.table;
        let learnt = self.locals.merge(idx, ty, literals, space, types);
        self.note_learnt(learnt) != Merged::Mismatch
    }

    /// Takes note of what came of a change to the type of a variable.
    pub(super) fn note_learnt(&mut self, (merged, widened): (Merged, Option<Ty>)) -> Merged {
        self.s.changed |= merged == Merged::Changed;
        self.s.widened.extend(widened);
        merged
    }
}

/// A literal of the smallest unsigned type.
fn unsigned_literal(span: Span, value: u64) -> Val {
    let size = [1u8, 2, 4]
        .into_iter()
        .find(|size| value >> (u32::from(*size) * 8) == 0)
        .unwrap_or(8);
    let int = IntTy {
        size,
        signed: false,
    };
    debug_assert_eq!(int_value(value, int), i128::from(value));
    let mut val = Val::new(Ty::Int(int), span, ExprKind::Const(value));
    val.range = Some((i128::from(value), i128::from(value)));
    val
}

/// The left side of a binary operator.
pub(super) enum Operand<'t> {
    /// Not looked at yet.
    Tree(&'t node::Expr),
    /// Lowered already.
    Done(Val),
}

/// Something of a type that later passes rely on.
pub(super) fn constant(ty: Ty, span: Span, bits: u64) -> Expr {
    Expr {
        ty,
        span,
        kind: ExprKind::Const(bits),
    }
}
