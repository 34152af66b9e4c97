//! Expressions: scalars as values, everything else as places in memory.

use bpftrace_sema::{Builtin, Call, Expr, ExprKind, LocalIdx, SlotIdx, StepTarget, Ty};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{Value, types};

use super::R;
use super::func::FnCx;
use super::memory::{Access, Addr, Fill};
use super::once::NAME_SIZE;
use super::place::{EntryValue, is_by_address, is_in_memory, scalar_type};
use super::program::MAX_REGISTERS;
use crate::meta_out::stored_size;
use crate::object::{CoreKind, CoreReloc};
use crate::symbols::Symbol;

impl FnCx<'_, '_> {
    /// Evaluates an expression whose value nobody wants.
    pub(super) fn effect(&mut self, expr: &Expr) -> R<()> {
        match &expr.kind {
            ExprKind::Block(stmts, value) => {
                self.scoped(stmts, |cx| cx.effect(value))?;
            }
            ExprKind::Cond(cond, then, otherwise) if expr.ty == Ty::Void => {
                self.void_cond(cond, then, otherwise)?;
            }
            ExprKind::Call(Call::Delete(map, key)) => {
                self.delete(*map, key.as_deref(), true)?;
            }
            ExprKind::Call(call) if expr.ty == Ty::Void => self.void_call(call)?,
            ExprKind::Step {
                target: StepTarget::Map { map, key },
                decrement,
                by,
                ..
            } => {
                let by = signed_step(*decrement, *by);
                self.map_step_effect(*map, key.as_deref(), by)?;
            }
            ExprKind::Step {
                target,
                decrement,
                by,
                ..
            } => {
                self.step(target, &expr.ty, *decrement, true, *by)?;
            }
            ExprKind::CallFunction(function, args) if expr.ty == Ty::Void => {
                self.call_function(*function, args, None)?;
            }
            ExprKind::CallImported(function, args) if expr.ty == Ty::Void => {
                self.call_imported(*function, args)?;
            }
            // Its numbers are nowhere together, and nobody asks for them.
            ExprKind::MapGet { map, key } if matches!(self.map_value(*map)?, Ty::Agg(_)) => {
                if let Some(key) = key {
                    self.effect(key)?;
                }
            }
            // A constant, such as what an empty block is worth.
            _ if expr.ty == Ty::Void => {}
            _ if scalar_type(&expr.ty).is_some() => {
                self.scalar(expr)?;
            }
            _ => {
                self.mem(expr)?;
            }
        }
        Ok(())
    }

    fn void_cond(&mut self, cond: &Expr, then: &Expr, otherwise: &Expr) -> R<()> {
        let (then_block, else_block, after) = (
            self.b.create_block(),
            self.b.create_block(),
            self.b.create_block(),
        );
        self.condition(cond, then_block, else_block)?;
        self.enter(then_block);
        self.effect(then)?;
        self.jump(after, &[]);
        self.enter(else_block);
        self.effect(otherwise)?;
        self.jump(after, &[]);
        self.enter(after);
        Ok(())
    }

    /// The value of a scalar expression, in the width of its type. For structs and arrays the address.
    pub(super) fn scalar(&mut self, expr: &Expr) -> R<Value> {
        let outer = self.span;
        self.set_span(expr.span);
        let value = self.scalar_inner(expr)?;
        self.set_span(outer);
        let expected = scalar_type(&expr.ty);
        if expected != Some(self.ty(value)) {
            return self.internal(format!(
                "{:?} gave {} for type {:?}",
                std::mem::discriminant(&expr.kind),
                self.ty(value),
                expr.ty
            ));
        }
        Ok(value)
    }

    fn scalar_inner(&mut self, expr: &Expr) -> R<Value> {
        let Some(ty) = scalar_type(&expr.ty) else {
            return self.internal(format!("a value of type {:?} as a scalar", expr.ty));
        };
        match &expr.kind {
            ExprKind::Const(bits) => Ok(self.int(ty, *bits as i64)),
            ExprKind::Bytes(bytes) => {
                let addr = self.constant_bytes(bytes)?;
                Ok(self.addr_value(addr))
            }
            ExprKind::KernelEnumerator { name, value } => {
                let value = self.enumerator(&expr.ty, name, *value);
                Ok(self.resize_int(value, ty, true))
            }
            ExprKind::KernelSizeof(id) => {
                let size = self.kernel_sizeof(*id);
                Ok(self.resize_int(size, ty, false))
            }
            ExprKind::KernelOffsetof(id, members) => {
                let root = self.m.core.struct_ref(*id);
                let offset = self.core_constant(CoreReloc {
                    root,
                    access: members.clone(),
                    kind: CoreKind::FieldByteOffset,
                });
                Ok(self.resize_int(offset, ty, false))
            }
            ExprKind::Slot(slot) => {
                let value = self.slot_value(*slot)?;
                Ok(self.resize_int(value, ty, false))
            }
            ExprKind::Local(local) => self.get_local(*local),
            ExprKind::LocalAddr(local) => self.local_address(*local),
            ExprKind::Builtin(builtin) => self.scalar_builtin(*builtin, &expr.ty),
            ExprKind::Unary(op, operand) => self.unary(*op, operand),
            ExprKind::Binary(op, lhs, rhs) => self.binary(*op, lhs, rhs),
            ExprKind::PtrAdd {
                ptr,
                index,
                negative,
            } => self.ptr_add(ptr, index, *negative),
            ExprKind::Compare(op, lhs, rhs) => self.compare(*op, lhs, rhs),
            ExprKind::Logical(op, lhs, rhs) => self.logical(*op, lhs, rhs),
            ExprKind::Cond(cond, then, otherwise) => {
                let (then_block, else_block, after) = (
                    self.b.create_block(),
                    self.b.create_block(),
                    self.b.create_block(),
                );
                let result = self.b.append_block_param(after, ty);
                self.condition(cond, then_block, else_block)?;
                for (block, value) in [(then_block, then), (else_block, otherwise)] {
                    self.enter(block);
                    let value = self.scalar(value)?;
                    self.jump(after, &[value]);
                }
                self.enter(after);
                Ok(result)
            }
            ExprKind::Block(stmts, value) => self.scoped(stmts, |cx| cx.scalar(value)),
            ExprKind::Cast(kind, operand) => self.scalar_cast(*kind, operand, &expr.ty),
            ExprKind::TupleField(base, index) => {
                let addr = match self.tuple_field(base, *index)? {
                    EntryValue::Number(number) => return Ok(self.resize_int(number, ty, false)),
                    EntryValue::Memory(addr) => addr,
                };
                if is_by_address(&expr.ty) {
                    Ok(self.addr_value(addr))
                } else {
                    Ok(self.load(ty, addr, Access::Shared))
                }
            }
            ExprKind::Member(..) | ExprKind::Deref(_) | ExprKind::Index(..) => {
                self.read_scalar(expr)
            }
            ExprKind::MapGet { map, key } => self.map_get_scalar(*map, key.as_deref(), &expr.ty),
            ExprKind::MapAddr(map) => self.map_address(*map),
            ExprKind::Step {
                target,
                decrement,
                post,
                by,
            } => self.step(target, &expr.ty, *decrement, *post, *by),
            ExprKind::Call(call) => self.scalar_call(call, &expr.ty),
            ExprKind::CallFunction(function, args) if is_by_address(&expr.ty) => {
                let size = self.size_of(&expr.ty)?;
                let result = self.permanent(size);
                self.call_for_result(*function, args, result, size)?;
                Ok(self.addr_value(result))
            }
            ExprKind::CallFunction(function, args) => {
                let value = self.call_function(*function, args, None)?;
                Ok(self.resize_int(value, ty, false))
            }
            ExprKind::CallImported(function, args) => {
                let value = self.call_imported(*function, args)?;
                Ok(self.resize_int(value, ty, false))
            }
            ExprKind::Str(_) | ExprKind::Tuple(_) => self.internal("a value in memory as a scalar"),
        }
    }

    /// Where the value of an expression that lives in memory is: a variable, a map value, a constant or
    /// a temporary. It is valid until the end of the statement.
    pub(super) fn mem(&mut self, expr: &Expr) -> R<(Addr, Fill)> {
        let outer = self.span;
        self.set_span(expr.span);
        let place = self.mem_inner(expr)?;
        self.set_span(outer);
        Ok(place)
    }

    fn mem_inner(&mut self, expr: &Expr) -> R<(Addr, Fill)> {
        match &expr.kind {
            ExprKind::Str(bytes) => {
                let size = self.size_of(&expr.ty)? as usize;
                let mut padded = bytes.clone();
                padded.resize(size, 0);
                Ok((self.constant_bytes(&padded)?, Fill::Exact))
            }
            ExprKind::Slot(slot) => Ok((self.slot_addr(*slot)?, Fill::Exact)),
            ExprKind::Local(local) => self.local_memory(*local),
            ExprKind::MapGet { map, key } if matches!(self.map_value(*map)?, Ty::Agg(_)) => {
                let _ = key;
                self.internal("an aggregation as a value in memory")
            }
            ExprKind::MapGet { map, key } => {
                let addr = self.map_get_mem(*map, key.as_deref(), &expr.ty)?;
                Ok((addr, Fill::Exact))
            }
            ExprKind::TupleField(base, index) => match self.tuple_field(base, *index)? {
                EntryValue::Memory(addr) => Ok((addr, Fill::Exact)),
                EntryValue::Number(_) => self.internal("a number as a value in memory"),
            },
            ExprKind::Builtin(Builtin::Comm) if expr.ty == Ty::Str(NAME_SIZE) => {
                let room = self.temp(NAME_SIZE);
                Ok((self.name_at(room), Fill::Exact))
            }
            ExprKind::Cast(bpftrace_sema::CastKind::Reinterpret, inner)
                if scalar_type(&inner.ty).is_none() =>
            {
                self.mem(inner)
            }
            ExprKind::Block(stmts, value) => {
                // The value may be in a variable of the block, so it is copied out of it.
                let fill = self.temp_fill(&expr.ty);
                let dst = self.temp_for(&expr.ty)?;
                self.scoped(stmts, |cx| cx.store_expr(value, dst, fill))?;
                Ok((dst, fill))
            }
            _ => {
                let fill = self.temp_fill(&expr.ty);
                let dst = self.temp_for(&expr.ty)?;
                self.store_inner(expr, dst, fill)?;
                Ok((dst, fill))
            }
        }
    }

    fn temp_for(&mut self, ty: &Ty) -> R<Addr> {
        let size = self.size_of(ty)?;
        Ok(self.temp(size))
    }

    fn temp_fill(&self, ty: &Ty) -> Fill {
        match ty {
            Ty::Str(n) if *n > super::place::SMALL_STRING => Fill::Loose,
            _ => Fill::Exact,
        }
    }

    /// Evaluates an expression and stores its value, of whatever type, at a place of its own.
    pub(super) fn store_expr(&mut self, expr: &Expr, dst: Addr, fill: Fill) -> R<()> {
        let outer = self.span;
        self.set_span(expr.span);
        if is_by_address(&expr.ty) {
            self.copy_object(expr, dst)?;
        } else if scalar_type(&expr.ty).is_some() {
            let value = self.scalar(expr)?;
            self.store(value, dst);
        } else {
            self.store_inner(expr, dst, fill)?;
        }
        self.set_span(outer);
        Ok(())
    }

    fn store_inner(&mut self, expr: &Expr, dst: Addr, fill: Fill) -> R<()> {
        match &expr.kind {
            ExprKind::Str(bytes) => self.store_str(bytes, &expr.ty, dst, fill),
            ExprKind::Slot(_) | ExprKind::Local(_) | ExprKind::TupleField(..) => {
                let (src, src_fill) = self.mem_inner(expr)?;
                self.copy_value(&expr.ty, dst, fill, src, src_fill)
            }
            ExprKind::MapGet { .. } => {
                let (src, src_fill) = self.mem_inner(expr)?;
                self.copy_value(&expr.ty, dst, fill, src, src_fill)
            }
            ExprKind::Tuple(elements) => {
                let (offsets, size) = self.m.program.types.tuple_layout(&expr.ty);
                // The padding behind each element ends where the next one starts.
                let ends = offsets.iter().skip(1).chain([&size]);
                for ((element, &offset), &end) in elements.iter().zip(offsets.iter()).zip(ends) {
                    let used = offset + stored_size(&self.m.program.types, &element.ty);
                    if used < end {
                        self.zero(dst.at(used), end - used);
                    }
                }
                for (element, offset) in elements.iter().zip(offsets.iter().copied()) {
                    self.store_expr(element, dst.at(offset), Fill::Exact)?;
                }
                Ok(())
            }
            ExprKind::Cond(cond, then, otherwise) => {
                let (then_block, else_block, after) = (
                    self.b.create_block(),
                    self.b.create_block(),
                    self.b.create_block(),
                );
                self.condition(cond, then_block, else_block)?;
                self.enter(then_block);
                self.store_expr(then, dst, fill)?;
                self.jump(after, &[]);
                self.enter(else_block);
                self.store_expr(otherwise, dst, fill)?;
                self.jump(after, &[]);
                self.enter(after);
                Ok(())
            }
            ExprKind::Block(stmts, value) => {
                self.scoped(stmts, |cx| cx.store_expr(value, dst, fill))
            }
            ExprKind::Cast(kind, operand) => self.store_cast(*kind, operand, &expr.ty, dst, fill),
            ExprKind::Member(..) | ExprKind::Deref(_) | ExprKind::Index(..) => {
                self.read_to_memory(expr, dst, fill)
            }
            ExprKind::Builtin(builtin) => self.store_builtin(*builtin, &expr.ty, dst, fill),
            ExprKind::Call(call) => self.store_call(call, &expr.ty, dst, fill),
            ExprKind::CallFunction(function, args) => {
                let size = self.size_of(&expr.ty)?;
                if dst.alignment() == 8 {
                    return self.call_for_result(*function, args, dst, size);
                }
                let result = self.temp(size);
                self.call_for_result(*function, args, result, size)?;
                self.copy_value(&expr.ty, dst, fill, result, Fill::Exact)
            }
            ExprKind::CallImported(..) => {
                self.internal("an imported function that returns a value in memory")
            }
            _ if expr.ty == Ty::Void => Ok(()),
            _ => self.internal(format!("no way to store a value of type {:?}", expr.ty)),
        }
    }

    /// Copies a value between two places of the program's own memory.
    pub(super) fn copy_value(
        &mut self,
        ty: &Ty,
        dst: Addr,
        fill: Fill,
        src: Addr,
        src_fill: Fill,
    ) -> R<()> {
        match ty {
            Ty::Str(n) => {
                let (n, exact) = (*n, src_fill == Fill::Exact);
                self.copy_str(dst, n, fill, src, n, exact);
                Ok(())
            }
            _ => {
                let size = self.size_of(ty)?;
                self.copy(dst, src, u64::from(size));
                Ok(())
            }
        }
    }

    /// An element of a tuple or record.
    fn tuple_field(&mut self, base: &Expr, index: u32) -> R<EntryValue> {
        if let ExprKind::Local(local) = base.kind
            && let Some((key, value)) = self.local_entry(local)
        {
            return Ok(if index == 0 {
                EntryValue::Memory(key)
            } else {
                value
            });
        }
        let (addr, _) = self.mem(base)?;
        let (offsets, _) = match &base.ty {
            Ty::Tuple(_) | Ty::Record(_) => self.m.program.types.tuple_layout(&base.ty),
            _ => return self.internal("an element of something that is no tuple"),
        };
        match offsets.get(index as usize) {
            Some(&offset) => Ok(EntryValue::Memory(addr.at(offset))),
            None => self.internal(format!("no element {index}")),
        }
    }

    /// Statements in a scope of their own, then something that may use its variables.
    pub(super) fn scoped<T>(
        &mut self,
        stmts: &[bpftrace_sema::Stmt],
        then: impl FnOnce(&mut Self) -> R<T>,
    ) -> R<T> {
        let declared = self.scope_stmts(stmts)?;
        let value = then(self)?;
        for local in declared {
            self.drop_local(local);
        }
        Ok(value)
    }

    /// A slot that is a number or a bool.
    pub(super) fn slot_value(&mut self, slot: SlotIdx) -> R<Value> {
        match self.m.program.slots.get(slot.0 as usize) {
            Some(def) if def.ty == Ty::Bool => {
                let truth = self.slot_truth(slot.0);
                Ok(self.cmp_imm(IntCC::NotEqual, truth, 0))
            }
            Some(_) => Ok(self.slot_number(slot.0)),
            None => self.internal(format!("no slot {}", slot.0)),
        }
    }

    fn slot_addr(&mut self, slot: SlotIdx) -> R<Addr> {
        match self.m.slot_offset(slot) {
            Some(offset) => Ok(Addr::rodata(offset)),
            None => self.internal(format!("no slot {}", slot.0)),
        }
    }

    /// An enumerator of the kernel, with the value it has on the target.
    fn enumerator(&mut self, ty: &Ty, name: &str, value: i64) -> Value {
        let enum_name = match ty {
            Ty::Enum(id, _) => self.m.program.types.enum_def(*id).name.as_str(),
            _ => "",
        };
        if enum_name.is_empty() {
            // libbpf finds enumerators through the name of their enum.
            return self.i64(value);
        }
        let root = self.m.core.enum_ref(enum_name, name, value);
        let patch = self.m.core_patch(CoreReloc {
            root,
            access: vec![0],
            kind: CoreKind::EnumeratorValue,
        });
        self.symbol(Symbol::PatchWide(patch), 0)
    }

    /// A relocated number of 32 bits.
    pub(super) fn core_constant(&mut self, reloc: CoreReloc) -> Value {
        let patch = self.m.core_patch(reloc);
        self.symbol(Symbol::Patch(patch), 0)
    }

    /// The size of a struct on the target.
    pub(super) fn kernel_sizeof(&mut self, id: bpftrace_sema::StructId) -> Value {
        if !self.m.core.is_root(id) {
            let size = self.m.program.types.struct_def(id).size;
            return self.i64(size as i64);
        }
        let root = self.m.core.struct_ref(id);
        self.core_constant(CoreReloc {
            root,
            access: Vec::new(),
            kind: CoreKind::TypeSize,
        })
    }

    /// `++` and `--`.
    fn step(
        &mut self,
        target: &StepTarget,
        ty: &Ty,
        decrement: bool,
        post: bool,
        by: u64,
    ) -> R<Value> {
        let by = signed_step(decrement, by);
        match target {
            StepTarget::Local(local) => {
                let old = self.get_local(*local)?;
                let new = self.add_imm(old, by);
                self.set_local(*local, new)?;
                self.step_result(if post { old } else { new }, ty)
            }
            StepTarget::Map { map, key } => {
                let (old, new) = self.map_step(*map, key.as_deref(), by)?;
                self.step_result(if post { old } else { new }, ty)
            }
        }
    }

    fn step_result(&mut self, value: Value, ty: &Ty) -> R<Value> {
        let signed = matches!(ty, Ty::Int(int) if int.signed);
        match scalar_type(ty) {
            Some(clif) => Ok(self.resize_int(value, clif, signed)),
            None => self.internal("a step of something that is no scalar"),
        }
    }

    /// Calls a subprogram of the script.
    /// Calls a function of the script; `result` is where it leaves a value that is not returned in a register.
    fn call_function(
        &mut self,
        function: bpftrace_sema::FunctionIdx,
        args: &[Expr],
        result: Option<Addr>,
    ) -> R<Value> {
        let args = self.passed(args)?;
        let mut words = vec![self.ctx()];
        words.extend(result.map(|result| self.addr_value(result)));
        words.extend(args);
        if words.len() > MAX_REGISTERS {
            let rest = words.split_off(MAX_REGISTERS - 1);
            let block = self.temp_stack(8 * rest.len() as u32);
            for (i, word) in rest.into_iter().enumerate() {
                self.store(word, block.at(8 * i as u64));
            }
            words.push(self.addr_value(block));
        }
        Ok(self.call_subprog(function.0, &words))
    }

    /// Calls a function of the script for a value of so many bytes in memory.
    fn call_for_result(
        &mut self,
        function: bpftrace_sema::FunctionIdx,
        args: &[Expr],
        result: Addr,
        size: u32,
    ) -> R<()> {
        // A function that ends early leaves nothing there, and the verifier wants to see something.
        if result.is_stack() {
            self.zero(result, u64::from(size));
        }
        self.call_function(function, args, Some(result))?;
        Ok(())
    }

    fn call_imported(
        &mut self,
        function: bpftrace_sema::ImportedFunctionIdx,
        args: &[Expr],
    ) -> R<Value> {
        if args.len() > MAX_REGISTERS {
            return self.unsupported("a function with more than five parameters");
        }
        let values = self.passed(args)?;
        let program = self.m.program;
        let Some(function) = program.imported_functions.get(function.0 as usize) else {
            return self.internal("an imported function that is not there");
        };
        let row = self.m.imported_function(function);
        Ok(self.call_kfunc(row, &values))
    }

    /// Arguments as they are in registers: of what is in memory, its address.
    fn passed(&mut self, args: &[Expr]) -> R<Vec<Value>> {
        let mut values = Vec::with_capacity(args.len());
        for arg in args {
            if is_in_memory(&arg.ty) {
                let addr = match arg.kind {
                    ExprKind::Str(_) => self.mem(arg)?.0,
                    _ => {
                        let size = self.size_of(&arg.ty)?;
                        let copy = self.temp(size);
                        self.store_expr(arg, copy, Fill::Exact)?;
                        copy
                    }
                };
                values.push(self.addr_value(addr));
                continue;
            }
            let signed = matches!(&arg.ty, Ty::Int(int) if int.signed);
            let value = self.scalar(arg)?;
            values.push(self.resize_int(value, types::I64, signed));
        }
        Ok(values)
    }

    /// Whether a variable can be assigned to directly although the expression may read it.
    pub(super) fn aliases(expr: &Expr, local: LocalIdx) -> bool {
        super::capture::mentions(expr, local)
    }

    /// `a == 0` for any scalar, as a bool.
    pub(super) fn is_zero(&mut self, value: Value) -> Value {
        self.cmp_imm(IntCC::Equal, value, 0)
    }
}

fn signed_step(decrement: bool, by: u64) -> i64 {
    if decrement {
        (by as i64).wrapping_neg()
    } else {
        by as i64
    }
}
