//! Statements.

use bpftrace_sema::{Expr, LocalIdx, Stmt, StmtKind, Ty, UnrollCount};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, types};

use super::R;
use super::capture;
use super::func::{FnCx, LoopExit};
use super::memory::Fill;
use super::place::{is_in_memory, scalar_type};
use crate::bpf::BackendError;
use crate::error::CodegenError;

/// No program that the kernel takes has as many instructions as are written for a larger one; `unroll` in
/// `unroll` would fill the memory.
const MAX_INSTS: usize = 500_000;

/// Whether the statements behind can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Falls,
    Leaves,
}

impl FnCx<'_, '_> {
    /// Statements in a scope of their own.
    pub(super) fn stmts(&mut self, stmts: &[Stmt]) -> R<()> {
        let declared = self.scope_stmts(stmts)?;
        for local in declared {
            self.drop_local(local);
        }
        Ok(())
    }

    /// Statements whose variables stay; the caller drops them.
    pub(super) fn scope_stmts(&mut self, stmts: &[Stmt]) -> R<Vec<LocalIdx>> {
        let mut declared = Vec::new();
        for (index, stmt) in stmts.iter().enumerate() {
            if let StmtKind::Declare(local) = stmt.kind {
                declared.push(local);
                let assigned = match stmts.get(index + 1).map(|next| &next.kind) {
                    Some(StmtKind::AssignLocal(other, value)) => {
                        *other == local && !capture::mentions(value, local)
                    }
                    _ => false,
                };
                self.set_span(stmt.span);
                self.declare_local(local, assigned)?;
                continue;
            }
            if self.stmt(stmt)? == Flow::Leaves {
                break;
            }
        }
        Ok(declared)
    }

    fn stmt(&mut self, stmt: &Stmt) -> R<Flow> {
        self.set_span(stmt.span);
        let mark = self.temps.len();
        let flow = self.stmt_inner(stmt)?;
        self.release_temps(mark);
        if flow == Flow::Leaves {
            self.enter_unreachable();
        }
        Ok(flow)
    }

    fn stmt_inner(&mut self, stmt: &Stmt) -> R<Flow> {
        match &stmt.kind {
            StmtKind::Expr(expr) => self.effect(expr)?,
            StmtKind::Declare(local) => self.declare_local(*local, false)?,
            StmtKind::AssignLocal(local, value) => self.assign_local(*local, value)?,
            StmtKind::AssignMap { map, key, value } => {
                self.assign_map(*map, key.as_ref(), value)?;
            }
            StmtKind::Aggregate {
                map,
                key,
                value,
                time,
            } => {
                self.aggregate(*map, key.as_ref(), value.as_ref(), time.as_ref())?;
            }
            StmtKind::If {
                cond,
                then,
                otherwise,
            } => self.if_stmt(cond, then, otherwise)?,
            StmtKind::While { cond, body } => self.while_stmt(cond, body)?,
            StmtKind::Unroll { count, body } => self.unroll(*count, body)?,
            StmtKind::ForRange {
                var,
                start,
                end,
                body,
            } => self.for_range(*var, start, end, body)?,
            StmtKind::ForMap { var, map, body } => self.for_map(*var, *map, body)?,
            StmtKind::Break => return self.leave_loop(true),
            StmtKind::Continue => return self.leave_loop(false),
            StmtKind::Return(value) => {
                self.return_stmt(value.as_ref())?;
                return Ok(Flow::Leaves);
            }
            StmtKind::Event {
                event,
                args,
                expanded_from,
            } => self.event(event, args, expanded_from)?,
            StmtKind::Block(stmts) => self.stmts(stmts)?,
            StmtKind::TracePrintk { format, args } => self.trace_printk(format, args)?,
        }
        Ok(Flow::Falls)
    }

    fn assign_local(&mut self, local: LocalIdx, value: &Expr) -> R<()> {
        if scalar_type(&value.ty).is_some() {
            let value = self.scalar(value)?;
            return self.set_local(local, value);
        }
        if value.ty == Ty::Void {
            return self.effect(value);
        }
        let (dst, fill) = self.local_destination(local)?;
        if Self::aliases(value, local) {
            let size = self.size_of(&value.ty)?;
            let temp = self.temp(size);
            self.store_expr(value, temp, fill)?;
            self.copy_value(&value.ty, dst, fill, temp, fill)
        } else {
            self.store_expr(value, dst, fill)
        }
    }

    fn if_stmt(&mut self, cond: &Expr, then: &[Stmt], otherwise: &[Stmt]) -> R<()> {
        let (then_block, after) = (self.b.create_block(), self.b.create_block());
        let else_block = if otherwise.is_empty() {
            after
        } else {
            self.b.create_block()
        };
        let mark = self.temps.len();
        self.condition(cond, then_block, else_block)?;
        self.release_temps(mark);
        self.enter(then_block);
        self.stmts(then)?;
        self.jump(after, &[]);
        if !otherwise.is_empty() {
            self.enter(else_block);
            self.stmts(otherwise)?;
            self.jump(after, &[]);
        }
        self.enter(after);
        Ok(())
    }

    /// A loop that the verifier walks through: it has to end within the verifier's patience.
    fn while_stmt(&mut self, cond: &Expr, body: &[Stmt]) -> R<()> {
        let (head, inside, after) = (
            self.b.create_block(),
            self.b.create_block(),
            self.b.create_block(),
        );
        self.jump(head, &[]);
        self.b.switch_to_block(head);
        let mark = self.temps.len();
        self.condition(cond, inside, after)?;
        self.release_temps(mark);
        self.enter(inside);
        self.loops.push(LoopExit::Blocks { after, next: head });
        self.stmts(body)?;
        self.loops.pop();
        self.jump(head, &[]);
        self.b.seal_block(head);
        self.enter(after);
        Ok(())
    }

    fn unroll(&mut self, count: UnrollCount, body: &[Stmt]) -> R<()> {
        let (times, limit) = match count {
            UnrollCount::Const(n) => (n, None),
            UnrollCount::Slot(slot) => (100, Some(self.slot_value(slot)?)),
        };
        let after = self.b.create_block();
        if let Some(limit) = limit {
            // A loop over a number that the verifier knows: unrolled there, and not in the object.
            let (head, inside, next) = (
                self.b.create_block(),
                self.b.create_block(),
                self.b.create_block(),
            );
            let counter = self.temp_var(types::I64);
            let zero = self.i64(0);
            self.b.def_var(counter, zero);
            self.jump(head, &[]);
            self.b.switch_to_block(head);
            let i = self.b.use_var(counter);
            let below = self.b.ins().icmp(IntCC::UnsignedLessThan, i, limit);
            let bounded = self.b.create_block();
            self.brif(below, bounded, after);
            self.enter(bounded);
            let sane = self.cmp_imm(IntCC::UnsignedLessThan, i, i64::from(times));
            self.brif(sane, inside, after);
            self.enter(inside);
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
        } else {
            for _ in 0..times {
                if self.b.func.dfg.num_insts() > MAX_INSTS {
                    return Err(CodegenError::TooLarge {
                        span: self.span,
                        source: BackendError::TooLong { limit: MAX_INSTS },
                    });
                }
                let next = self.b.create_block();
                self.loops.push(LoopExit::Blocks { after, next });
                self.stmts(body)?;
                self.loops.pop();
                self.jump(next, &[]);
                self.enter(next);
            }
            self.jump(after, &[]);
        }
        self.enter(after);
        Ok(())
    }

    /// `break` and `continue`.
    fn leave_loop(&mut self, finish: bool) -> R<Flow> {
        match self.loops.last() {
            Some(LoopExit::Blocks { after, next }) => {
                let target = if finish { *after } else { *next };
                self.jump(target, &[]);
            }
            Some(LoopExit::Callback) => {
                let code = self.i64(i64::from(finish));
                self.b.ins().return_(&[code]);
            }
            None => return self.internal("a jump out of a loop where there is none"),
        }
        Ok(Flow::Leaves)
    }

    fn return_stmt(&mut self, value: Option<&Expr>) -> R<()> {
        let value = match value {
            Some(value) if value.ty == Ty::Void => {
                self.effect(value)?;
                None
            }
            Some(value) if is_in_memory(&value.ty) => {
                let result = self.result_place()?;
                self.store_expr(value, result, Fill::Exact)?;
                None
            }
            Some(value) => {
                let signed = matches!(&value.ty, Ty::Int(int) if int.signed);
                let value = self.scalar(value)?;
                Some(self.resize_int(value, types::I64, signed))
            }
            None => None,
        };
        if self.is_callback() {
            return self.return_from_callback(value);
        }
        match value {
            // The verifier insists on 0.
            Some(_) if self.must_return_zero() => self.return_default(),
            Some(value) => {
                self.b.ins().return_(&[value]);
            }
            None => self.return_default(),
        }
        Ok(())
    }
}
