//! `for` loops: over ranges in place or through `bpf_loop`, over maps through `bpf_for_each_map_elem`.

use bpftrace_meta::Feature;
use bpftrace_sema::{Expr, LocalIdx, MapIdx, Stmt, Ty};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{AtomicRmwOp, InstBuilder, MemFlagsData, Value, types};

use super::R;
use super::capture::{self, RangeLoop};
use super::func::{FnCx, FunctionSpec, LoopExit, Role, build, own};
use super::helper::Helper;
use super::memory::Addr;
use super::place::{Alloc, EntryValue, Place, scalar_type};

impl FnCx<'_, '_> {
    pub(super) fn for_range(
        &mut self,
        var: LocalIdx,
        start: &Expr,
        end: &Expr,
        body: &[Stmt],
    ) -> R<()> {
        match capture::range_loop(start, end, body) {
            RangeLoop::Inline => self.for_range_inline(var, start, end, body),
            RangeLoop::Callback => self.for_range_callback(var, start, end, body),
        }
    }

    fn is_signed(ty: &Ty) -> bool {
        matches!(ty, Ty::Int(int) if int.signed)
    }

    fn for_range_inline(
        &mut self,
        var: LocalIdx,
        start: &Expr,
        end: &Expr,
        body: &[Stmt],
    ) -> R<()> {
        let less = if Self::is_signed(&start.ty) {
            IntCC::SignedLessThan
        } else {
            IntCC::UnsignedLessThan
        };
        let first = self.scalar(start)?;
        let end = self.scalar(end)?;
        let (head, inside, next, after) = (
            self.b.create_block(),
            self.b.create_block(),
            self.b.create_block(),
            self.b.create_block(),
        );
        // The body may assign to the variable; the loop counts on its own.
        let counter = self.temp_var(self.ty(first));
        self.b.def_var(counter, first);
        self.jump(head, &[]);
        self.b.switch_to_block(head);
        let i = self.b.use_var(counter);
        let more = self.b.ins().icmp(less, i, end);
        self.brif(more, inside, after);
        self.enter(inside);
        self.declare_local(var, true)?;
        self.set_local(var, i)?;
        self.loops.push(LoopExit::Blocks { after, next });
        self.stmts(body)?;
        self.loops.pop();
        self.jump(next, &[]);
        self.enter(next);
        let i = self.b.use_var(counter);
        let i = self.add_imm(i, 1);
        self.b.def_var(counter, i);
        self.jump(head, &[]);
        self.b.seal_block(head);
        self.enter(after);
        self.drop_local(var);
        Ok(())
    }

    fn for_range_callback(
        &mut self,
        var: LocalIdx,
        start: &Expr,
        end: &Expr,
        body: &[Stmt],
    ) -> R<()> {
        self.m.require(Feature::Loop, "a `for` loop", self.span);
        let signed = Self::is_signed(&start.ty);
        let first = self.scalar(start)?;
        let last = self.scalar(end)?;
        let ty = self.ty(first);
        let first = self.resize_int(first, types::I64, signed);
        let last = self.resize_int(last, types::I64, signed);
        let greater = if signed {
            IntCC::SignedGreaterThan
        } else {
            IntCC::UnsignedGreaterThan
        };
        // The first value goes through the frame, where the callback finds it.
        let known = capture::constant(start);
        let first_at = match known {
            Some(_) => None,
            None => {
                let offset = self.p.frame.alloc(8);
                let frame = self.frame_base();
                self.b.ins().store(own(), first, frame, offset as i32);
                Some(offset)
            }
        };
        let span = self.span;
        let (callback, returns) = self.callback(2, body_span(body, span), |cx| {
            let index = cx.params[0];
            // The index has 32 bits in some kernels and 64 in others.
            let index = cx.resize_int(index, types::I32, false);
            let index = cx.zext64(index);
            let first = match (known, first_at) {
                (Some(first), _) => cx.i64(first),
                (None, Some(offset)) => {
                    let frame = cx.frame_base();
                    cx.b.ins().load(types::I64, own(), frame, offset as i32)
                }
                (None, None) => cx.i64(0),
            };
            let value = cx.b.ins().iadd(first, index);
            let value = cx.resize_int(value, ty, false);
            cx.declare_local(var, true)?;
            cx.set_local(var, value)?;
            cx.stmts(body)?;
            cx.drop_local(var);
            Ok(())
        })?;
        let some = self.b.ins().icmp(greater, last, first);
        self.when(some, false, |cx| {
            let count = cx.b.ins().isub(last, first);
            let count = cx.resize_int(count, types::I32, false);
            let count = cx.zext64(count);
            cx.forget_captured();
            let (address, frame, flags) =
                (cx.subprog_addr(callback, 2), cx.frame_base(), cx.i64(0));
            let result = cx.call(Helper::Loop, &[count, address, frame, flags]);
            cx.forget_captured();
            cx.check_helper(Helper::Loop, result)
        })?;
        if let Some(offset) = first_at {
            self.p.frame.release(offset, 8);
        }
        self.after_callback(returns)
    }

    pub(super) fn for_map(&mut self, var: LocalIdx, map: MapIdx, body: &[Stmt]) -> R<()> {
        self.m.require(
            Feature::ForEachMapElem,
            "a `for` loop over a map",
            self.span,
        );
        let value_ty = self.map_value(map)?.clone();
        if let Ty::Agg(_) = value_ty {
            self.require_percpu_lookup();
        }
        let span = self.span;
        let usage = self
            .p
            .usage
            .get(var.0 as usize)
            .copied()
            .unwrap_or_default();
        let (callback, returns) = self.callback(4, body_span(body, span), |cx| {
            let (key, value) = (cx.params[1], cx.params[2]);
            let key_addr = Addr::value(key, 8);
            let value = match &value_ty {
                Ty::Agg(agg) => EntryValue::Number(cx.merge_aggregate(map, agg, key)?),
                _ => EntryValue::Memory(Addr::value(value, 8)),
            };
            if usage.captured || usage.assigned {
                cx.copy_entry(var, key_addr, value)?;
            } else {
                cx.set_place(
                    var,
                    Place::Entry {
                        key: key_addr,
                        value,
                    },
                );
            }
            cx.stmts(body)?;
            cx.drop_local(var);
            Ok(())
        })?;
        let row = self.map_row(map)?;
        self.forget_captured();
        let (map, address, frame, flags) = (
            self.map_ptr(row),
            self.subprog_addr(callback, 4),
            self.frame_base(),
            self.i64(0),
        );
        let result = self.call(Helper::ForEachMapElem, &[map, address, frame, flags]);
        self.forget_captured();
        self.check_helper(Helper::ForEachMapElem, result)?;
        self.after_callback(returns)
    }

    /// Copies the entry into the loop's variable, because inner functions use it too.
    fn copy_entry(&mut self, var: LocalIdx, key: Addr, value: EntryValue) -> R<()> {
        self.declare_local(var, false)?;
        let (dst, _) = self.local_destination(var)?;
        let Some(local) = self.p.locals.get(var.0 as usize) else {
            return self.internal("no such variable");
        };
        let ty = local.ty.clone();
        let Ty::Tuple(elements) = &ty else {
            return self.internal("the variable of a loop over a map is no tuple");
        };
        let [key_ty, value_ty] = &elements[..] else {
            return self.internal("the variable of a loop over a map is no pair");
        };
        let (offsets, _) = self.m.program.types.tuple_layout(&ty);
        let key_size = self.size_of(key_ty)?;
        self.copy(dst.at(offsets[0]), key, u64::from(key_size));
        match value {
            EntryValue::Memory(addr) => {
                let size = self.size_of(value_ty)?;
                self.copy(dst.at(offsets[1]), addr, u64::from(size));
            }
            EntryValue::Number(number) => {
                let clif = scalar_type(value_ty).unwrap_or(types::I64);
                let number = self.resize_int(number, clif, false);
                self.store(number, dst.at(offsets[1]));
            }
        }
        Ok(())
    }

    /// Builds the body of a loop as a function of its own; gives its number, and whether it may end the
    /// probe.
    fn callback(
        &mut self,
        n_params: u32,
        span: bpftrace_ast::source::Span,
        lower: impl FnOnce(&mut FnCx<'_, '_>) -> R<()>,
    ) -> R<(u32, bool)> {
        // The frame must exist before anyone gets its address.
        self.frame_base();
        let index = self.m.reserve_function();
        self.p.n_callbacks += 1;
        let spec = FunctionSpec {
            index,
            name: format!("{}_loop_{}", self.p.name, self.p.n_callbacks),
            role: Role::Callback,
            n_params,
            span,
            has_span: true,
        };
        let outer = std::mem::replace(&mut self.p.callback_returns, false);
        build(&mut *self.m, &mut *self.p, spec, |cx| {
            cx.loops.push(LoopExit::Callback);
            lower(cx)?;
            cx.return_default();
            Ok(())
        })?;
        let returns = self.p.callback_returns;
        self.p.callback_returns |= outer;
        Ok((index, returns))
    }

    /// `return` in the body of a loop: leaves word in the frame, and ends the loop.
    pub(super) fn return_from_callback(&mut self, value: Option<Value>) -> R<()> {
        self.p.callback_returns = true;
        let (flag, result) = match self.p.frame.returned {
            Some(known) => known,
            None => {
                let known = (self.p.frame.alloc(8), self.p.frame.alloc(8));
                self.p.frame.returned = Some(known);
                self.p.frame.zeroed.push(known.0);
                self.p.frame.zeroed.push(known.1);
                known
            }
        };
        let value = match value {
            Some(value) => value,
            None => self.i64(self.p.default_return),
        };
        let (frame, one) = (self.frame_base(), self.i64(1));
        self.b.ins().store(own(), value, frame, result as i32);
        self.b.ins().store(own(), one, frame, flag as i32);
        self.b.ins().return_(&[one]);
        Ok(())
    }

    /// Has the verifier forget what it knows of the variables that callbacks assign to, in front of a loop and behind it.
    /// Before Linux 6.7 it walks through a callback once: what it sees there is all that happens for it, and code that
    /// only a second round reaches, or none, it takes for dead and removes (kernel/bpf/verifier.c; mended by "verify
    /// callbacks as if they are called unknown number of times").
    fn forget_captured(&mut self) {
        let mut places = Vec::new();
        for (usage, place) in self.p.usage.iter().zip(&self.p.places) {
            if usage.assigned_inside
                && let Some(Place::Memory(_, Alloc::Frame(offset, size))) = place
            {
                places.push((*offset, *size));
            }
        }
        for (offset, size) in places {
            self.forget(offset, size);
        }
    }

    /// Has the verifier forget what it knows of a part of the frame: atomic operations leave behind what it does not
    /// follow.
    fn forget(&mut self, offset: u32, size: u32) {
        for at in (0..size).step_by(8) {
            let word = self.addr_value(Addr::frame(offset + at));
            let zero = self.i64(0);
            let flags = MemFlagsData::new();
            self.b
                .ins()
                .atomic_rmw(types::I64, flags, AtomicRmwOp::Add, word, zero);
        }
    }

    /// Behind a loop whose body may have ended the probe.
    fn after_callback(&mut self, returns: bool) -> R<()> {
        let (true, Some((flag, result))) = (returns, self.p.frame.returned) else {
            return Ok(());
        };
        self.forget(flag, 8);
        let frame = self.frame_base();
        let flag = self.b.ins().load(types::I64, own(), frame, flag as i32);
        self.when(flag, false, |cx| {
            if cx.is_callback() {
                let one = cx.i64(1);
                cx.b.ins().return_(&[one]);
            } else if cx.must_return_zero() {
                cx.return_default();
            } else {
                let frame = cx.frame_base();
                let value = cx.b.ins().load(types::I64, own(), frame, result as i32);
                cx.b.ins().return_(&[value]);
            }
            cx.enter_unreachable();
            Ok(())
        })
    }
}

/// The place in the script that a loop's function belongs to.
fn body_span(body: &[Stmt], otherwise: bpftrace_ast::source::Span) -> bpftrace_ast::source::Span {
    body.first().map_or(otherwise, |stmt| stmt.span)
}
