//! `dw_ustack`: stacks of processes by unwinding. What the files of the processes say about it is known on
//! the target only, so the loader makes tables of it: see [`bpftrace_meta::unwind`].
//!
//! The program copies the registers of the process into a state of its CPU and calls a subprogram, which
//! writes the frames into the state. It, the one for a frame and the one for a return address are functions
//! that the verifier looks at once. What loops change is kept in the state instead of in registers: of memory the verifier knows
//! nothing, so it need not follow each way through a loop.

use bpftrace_meta::unwind::{
    CFA, How, IP, MAX_FRAMES, PT_REGS_WORDS, ProcessRows, Row, Rule, SEARCH_STEPS, SP, Step, WORDS,
};
use bpftrace_meta::{Feature, ProgramKind, RuntimeError, UnwindTable};
use bpftrace_sema::StackTy;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::R;
use super::func::FnCx;
use super::helper::Helper;
use super::memory::{Access, Addr, Fill};
use super::module::{Shared, SpecialMap};
use crate::object::{CoreKind, CoreReloc, TypeRef};
use crate::symbols::Symbol;

const WORDS_SIZE: u32 = WORDS as u32 * 8;
/// Offset in the state of the registers of the frame that was found last; with those of unwinding behind
/// them, they are [`WORDS`] words.
const OLD: u32 = 0;
/// Offset of the same for its caller.
const NEW: u32 = OLD + WORDS_SIZE;
/// Offset of the number of the process's first row, `u32`.
const FIRST: u32 = NEW + WORDS_SIZE;
/// Offset of the number of its rows, `u32`.
const COUNT: u32 = FIRST + 4;
/// Offset of the first row that may be the wanted one, `u32`.
const LOW: u32 = COUNT + 4;
/// Offset of the first row that is certainly not the wanted one, `u32`.
const HIGH: u32 = LOW + 4;
/// Offset of what was found in the memory of the process.
const FOUND: u32 = HIGH + 4;
/// Offset of the address that functions return to when somebody waits for that (a `uretprobe`), instead of
/// to their callers; 0 when nobody does.
const TRAMPOLINE: u32 = FOUND + 8;
/// Offset of the kernel's record of the innermost of those functions whose frame was not found yet.
const WAITING: u32 = TRAMPOLINE + 8;
/// Offset of the frames. A register's number has 8 bits, so that any of them is in front of here or at
/// least in the state.
const FRAMES: u32 = WAITING + 8;
/// Bytes of the state.
pub(super) const STATE_SIZE: u32 = FRAMES + 8 * MAX_FRAMES;

/// There are no tables for the process.
const NO_TABLES: i64 = -2;
/// Nobody knows how to go on; stacks have this as their last frame.
const FAILED: i64 = -1;
/// There is no caller.
const LAST: i64 = 1;

/// Most functions that the kernel waits for in a task (MAX_URETPROBE_DEPTH in include/linux/uprobes.h).
const MAX_WAITING: i64 = 64;

impl FnCx<'_, '_> {
    /// The stack of the current process, by unwinding.
    pub(super) fn unwound_stack(&mut self, stack: StackTy, dst: Addr, fill: Fill) -> R<()> {
        let size = u64::from(stack.limit) * 8;
        if self.p.kind == Some(ProgramKind::Xdp) {
            return self.unsupported("a stack in a `test` or `bench` probe");
        }
        self.store_process(dst)?;
        self.store_imm(types::I64, 0, dst.at(8));
        if fill == Fill::Exact {
            self.zero(dst.at(16), size);
        }
        let state = self.unwind_state()?;
        self.when(state, false, |cx| {
            let regs = if cx.p.kind == Some(ProgramKind::Uprobe) {
                cx.ctx()
            } else {
                cx.m.require(
                    Feature::TaskPtRegs,
                    "`dw_ustack` outside of probes in processes",
                    cx.span,
                );
                let task = cx.call(Helper::GetCurrentTaskBtf, &[]);
                cx.call(Helper::TaskPtRegs, &[task])
            };
            let state = Addr::value(state, 8);
            cx.zero(state.at(u64::from(FRAMES)), size);
            let (to, length) = (cx.addr_value(state), cx.i64(i64::from(PT_REGS_WORDS) * 8));
            cx.call(Helper::ProbeReadKernel, &[to, length, regs]);
            let pid = cx.pid_or_tid(super::builtin::PidPart::Pid, false)?;
            let limit = cx.i64(i64::from(stack.limit));
            let n = cx.call_shared(Shared::Unwind, &[pid, limit])?;
            let good = cx.cmp_imm(IntCC::SignedGreaterThan, n, 0);
            cx.when(good, false, |cx| {
                cx.store(n, dst.at(8));
                cx.copy(dst.at(16), state.at(u64::from(FRAMES)), size);
                Ok(())
            })?;
            let unknown = cx.cmp_imm(IntCC::Equal, n, NO_TABLES);
            cx.when(unknown, true, |cx| {
                cx.runtime_error(RuntimeError::NoUnwindTables)
            })
        })
    }

    fn unwind_state(&mut self) -> R<Value> {
        let map = self.m.special_map(SpecialMap::UnwindState);
        let key = self.m.zeros(8)?;
        let (map, key) = (self.map_ptr(map), self.rodata(key));
        Ok(self.call(Helper::MapLookupElem, &[map, key]))
    }

    fn unwind_lookup(&mut self, table: UnwindTable, key: Addr) -> Value {
        let map = self.m.special_map(SpecialMap::Unwind(table));
        let (map, key) = (self.map_ptr(map), self.addr_value(key));
        self.call(Helper::MapLookupElem, &[map, key])
    }

    /// Ends the subprogram unless the condition holds.
    fn or_return(&mut self, cond: Value, result: i64) -> R<()> {
        let (go_on, stop) = (self.b.create_block(), self.b.create_block());
        self.brif(cond, go_on, stop);
        self.enter(stop);
        let result = self.i64(result);
        self.b.ins().return_(&[result]);
        self.enter(go_on);
        Ok(())
    }

    /// Counts from `first` up to `end` (a constant); the body gets the number, and the block behind.
    fn counted(
        &mut self,
        first: i64,
        end: i64,
        body: impl FnOnce(&mut Self, Value, cranelift_codegen::ir::Block) -> R<()>,
    ) -> R<()> {
        let (head, inside, after) = (
            self.b.create_block(),
            self.b.create_block(),
            self.b.create_block(),
        );
        let counter = self.temp_var(types::I64);
        let start = self.i64(first);
        self.b.def_var(counter, start);
        self.jump(head, &[]);
        self.b.switch_to_block(head);
        let i = self.b.use_var(counter);
        let more = self.cmp_imm(IntCC::UnsignedLessThan, i, end);
        self.brif(more, inside, after);
        self.enter(inside);
        body(self, i, after)?;
        let next = self.add_imm(i, 1);
        self.b.def_var(counter, next);
        self.jump(head, &[]);
        self.b.seal_block(head);
        self.enter(after);
        Ok(())
    }

    /// The subprogram for a stack: takes the pid and the most frames that are wanted.
    pub(super) fn unwind_body(&mut self) -> R<()> {
        let (pid, limit) = (self.params[0], self.params[1]);
        let state = self.unwind_state()?;
        self.or_return(state, 0)?;
        let state = Addr::value(state, 8);
        let at = |offset: u32| state.at(u64::from(offset));
        let key = self.temp_word();
        let pid = self.resize_int(pid, types::I32, false);
        self.store(pid, key);
        let process = self.unwind_lookup(UnwindTable::Processes, key);
        self.or_return(process, NO_TABLES)?;
        self.copy(at(FIRST), Addr::value(process, 8), ProcessRows::SIZE as u64);
        self.find_waiting(state)?;
        let ip = self.load(types::I64, at(u32::from(IP) * 8), Access::Shared);
        self.store(ip, at(FRAMES));
        let (n, done) = (self.temp_var(types::I64), self.b.create_block());
        let one = self.i64(1);
        self.b.def_var(n, one);
        self.counted(1, i64::from(MAX_FRAMES), |cx, i, after| {
            cx.b.def_var(n, i);
            let wanted = cx.b.ins().icmp(IntCC::UnsignedLessThan, i, limit);
            let step = cx.b.create_block();
            cx.brif(wanted, step, after);
            cx.enter(step);
            let result = cx.call_shared(Shared::UnwindFrame, &[])?;
            let (found, stop) = (cx.b.create_block(), cx.b.create_block());
            let none = cx.cmp_imm(IntCC::NotEqual, result, 0);
            cx.brif(none, stop, found);
            cx.enter(stop);
            let last = cx.cmp_imm(IntCC::Equal, result, LAST);
            let failed = cx.b.create_block();
            cx.brif(last, after, failed);
            cx.enter(failed);
            let frame = cx.frame_at(at(FRAMES), i);
            cx.store_imm(types::I64, FAILED, frame);
            let next = cx.add_imm(i, 1);
            cx.b.ins().return_(&[next]);
            cx.enter(found);
            let ip = cx.load(types::I64, at(u32::from(IP) * 8), Access::Shared);
            let frame = cx.frame_at(at(FRAMES), i);
            cx.store(ip, frame);
            let next = cx.add_imm(i, 1);
            cx.b.def_var(n, next);
            Ok(())
        })?;
        self.jump(done, &[]);
        self.enter(done);
        let n = self.b.use_var(n);
        self.b.ins().return_(&[n]);
        Ok(())
    }

    /// The subprogram for a frame: from the registers in the state to those of the caller.
    pub(super) fn unwind_frame_body(&mut self) -> R<()> {
        let base = self.unwind_state()?;
        self.or_return(base, FAILED)?;
        let state = Addr::value(base, 8);
        let at = |offset: u32| state.at(u64::from(offset));
        self.find_row(state)?;
        // The last row at or below the address.
        let low = self.load(types::I32, at(LOW), Access::Shared);
        let first = self.load(types::I32, at(FIRST), Access::Shared);
        let some = self.b.ins().icmp(IntCC::NotEqual, low, first);
        self.or_return(some, FAILED)?;
        let key = self.temp_word();
        let row = self.add_imm(low, -1);
        self.store(row, key);
        let row = self.unwind_lookup(UnwindTable::Rows, key);
        self.or_return(row, FAILED)?;
        let rule = self.load(
            types::I32,
            Addr::value(row, 8).at(Row::RULE as u64),
            Access::Shared,
        );
        self.or_return(rule, FAILED)?;
        self.store(rule, key);
        let rule = self.unwind_lookup(UnwindTable::Rules, key);
        self.or_return(rule, FAILED)?;

        // The frame address.
        let zero = self.i64(0);
        self.store(zero, at(u32::from(WORDS - 1) * 8));
        let step = Addr::value(rule, 8);
        let how = self.load(types::I8, step, Access::Shared);
        let stub = self.cmp_imm(IntCC::Equal, how, How::Stub as i64);
        let cfa = self.choose(
            stub,
            types::I64,
            |cx| {
                let sp = cx.load(types::I64, at(u32::from(SP) * 8), Access::Shared);
                let ip = cx.load(types::I64, at(u32::from(IP) * 8), Access::Shared);
                let mask = cx.i64(15);
                let place = cx.b.ins().band(ip, mask);
                let pushed = cx.load(types::I32, step.at(Step::OFFSET as u64), Access::Shared);
                let pushed = cx.zext64(pushed);
                let pushed =
                    cx.b.ins()
                        .icmp(IntCC::UnsignedGreaterThanOrEqual, place, pushed);
                cx.choose(
                    pushed,
                    types::I64,
                    |cx| Ok(cx.add_imm(sp, 16)),
                    |cx| Ok(cx.add_imm(sp, 8)),
                )
            },
            |cx| cx.unwind_value(base, step),
        )?;
        self.store(cfa, at(u32::from(CFA) * 8));

        // Registers stay as they are where nothing is said about them.
        self.copy(at(NEW), state, u64::from(WORDS_SIZE));
        self.store(cfa, at(NEW + u32::from(SP) * 8));
        self.counted(1, Rule::STEPS as i64, |cx, i, after| {
            let shift = cx.i64(Step::SIZE.trailing_zeros().into());
            let offset = cx.b.ins().ishl(i, shift);
            let step = cx.b.ins().iadd(rule, offset);
            let step = Addr::value(step, 8);
            let how = cx.load(types::I8, step, Access::Shared);
            let inside = cx.b.create_block();
            cx.brif(how, inside, after);
            cx.enter(inside);
            let value = cx.unwind_value(base, step)?;
            let to = cx.load(types::I8, step.at(Step::TO as u64), Access::Shared);
            let to = cx.unwind_word(base, to);
            cx.store(value, Addr::value(to, 8).at(u64::from(NEW)));
            Ok(())
        })?;

        let ip = self.load(types::I64, at(NEW + u32::from(IP) * 8), Access::Shared);
        self.or_return(ip, LAST)?;
        let trampoline = self.load(types::I64, at(TRAMPOLINE), Access::Shared);
        let waiting = self.b.ins().icmp(IntCC::Equal, ip, trampoline);
        self.when(waiting, true, |cx| {
            cx.call_shared(Shared::UnwindReturn, &[]).map(|_| ())
        })?;
        let ip = self.load(types::I64, at(NEW + u32::from(IP) * 8), Access::Shared);
        // The place of the call is in front of the address that it returns to.
        let ip = self.add_imm(ip, -1);
        self.store(ip, at(NEW + u32::from(IP) * 8));
        self.copy(state, at(NEW), u64::from(WORDS_SIZE));
        let zero = self.i64(0);
        self.b.ins().return_(&[zero]);
        Ok(())
    }

    /// Asks the kernel for which functions of the current task a `uretprobe` waits, and where they return to
    /// (kernel/events/uprobes.c).
    fn find_waiting(&mut self, state: Addr) -> R<()> {
        let trampoline = state.at(u64::from(TRAMPOLINE));
        self.store_imm(types::I64, 0, trampoline);
        let (pointer, word) = (self.m.core.pointer(), self.m.core.word());
        let task = self.call(Helper::GetCurrentTask, &[]);
        let uprobes = self.kernel_word(state, task, &["task_struct", "utask"], pointer)?;
        let path = ["uprobe_task", "return_instances"];
        let waiting = self.kernel_word(state, uprobes, &path, pointer)?;
        self.store(waiting, state.at(u64::from(WAITING)));
        self.when(waiting, true, |cx| {
            let mm = cx.kernel_word(state, task, &["task_struct", "mm"], pointer)?;
            let path = ["mm_struct", "uprobes_state", "xol_area"];
            let area = cx.kernel_word(state, mm, &path, pointer)?;
            // The trampoline is the first thing in the page.
            let page = cx.kernel_word(state, area, &["xol_area", "vaddr"], word)?;
            cx.store(page, trampoline);
            Ok(())
        })
    }

    /// The subprogram for a function that returns to the trampoline: from that to where it is going to
    /// return in the end. Records are told apart by where on the stack the return address is, because some
    /// are of functions that were left in another way, and several may be of one frame (a tail call).
    pub(super) fn unwind_return_body(&mut self) -> R<()> {
        let state = self.unwind_state()?;
        self.or_return(state, 0)?;
        let state = Addr::value(state, 8);
        let at = |offset: u32| state.at(u64::from(offset));
        self.counted(0, MAX_WAITING, |cx, _, after| {
            let waiting = cx.load(types::I64, at(WAITING), Access::Shared);
            let some = cx.b.create_block();
            cx.brif(waiting, some, after);
            cx.enter(some);
            let (pointer, word) = (cx.m.core.pointer(), cx.m.core.word());
            let mut member =
                |name, ty| cx.kernel_word(state, waiting, &["return_instance", name], ty);
            let next = member("next", pointer)?;
            let (place, ip) = (member("stack", word)?, member("orig_ret_vaddr", word)?);
            cx.store(next, at(WAITING));
            let sp = cx.load(types::I64, at(NEW + u32::from(SP) * 8), Access::Shared);
            let place = cx.add_imm(place, 8);
            let other = cx.b.ins().icmp(IntCC::NotEqual, place, sp);
            let (found, go_on) = (cx.b.create_block(), cx.b.create_block());
            cx.brif(other, go_on, found);
            cx.enter(found);
            cx.store(ip, at(NEW + u32::from(IP) * 8));
            cx.jump(after, &[]);
            cx.enter(go_on);
            Ok(())
        })?;
        let zero = self.i64(0);
        self.b.ins().return_(&[zero]);
        Ok(())
    }

    /// A word in a struct of the kernel: the struct, members of it (structs inside are called as the members
    /// are), and the type of the last one. 0 where it cannot be read or there is none.
    fn kernel_word(&mut self, state: Addr, base: Value, path: &[&str], ty: TypeRef) -> R<Value> {
        let root = path.windows(2).rev().fold(ty, |ty, names| {
            self.m.core.struct_with(names[0], names[1], ty)
        });
        let mut patch = |kind| {
            self.m.core_patch(CoreReloc {
                root,
                access: vec![0; path.len() - 1],
                kind,
            })
        };
        let (exists, offset) = (
            patch(CoreKind::FieldExists),
            patch(CoreKind::FieldByteOffset),
        );
        let exists = self.symbol(Symbol::Patch(exists), 0);
        self.choose(
            exists,
            types::I64,
            |cx| {
                let offset = cx.symbol(Symbol::Patch(offset), 0);
                let address = cx.b.ins().iadd(base, offset);
                let found = state.at(u64::from(FOUND));
                let (to, size) = (cx.addr_value(found), cx.i64(8));
                cx.call(Helper::ProbeReadKernel, &[to, size, address]);
                Ok(cx.load(types::I64, found, Access::Shared))
            },
            |cx| Ok(cx.i64(0)),
        )
    }

    /// Looks for the first row above the instruction pointer.
    fn find_row(&mut self, state: Addr) -> R<()> {
        let at = |offset: u32| state.at(u64::from(offset));
        let first = self.load(types::I32, at(FIRST), Access::Shared);
        let count = self.load(types::I32, at(COUNT), Access::Shared);
        let end = self.b.ins().iadd(first, count);
        self.store(first, at(LOW));
        self.store(end, at(HIGH));
        let key = self.temp_word();
        self.counted(0, i64::from(SEARCH_STEPS), |cx, _, after| {
            let low = cx.load(types::I32, at(LOW), Access::Shared);
            let high = cx.load(types::I32, at(HIGH), Access::Shared);
            let more = cx.b.ins().icmp(IntCC::UnsignedLessThan, low, high);
            let inside = cx.b.create_block();
            cx.brif(more, inside, after);
            cx.enter(inside);
            let sum = cx.b.ins().iadd(low, high);
            let one = cx.int(types::I32, 1);
            let middle = cx.b.ins().ushr(sum, one);
            cx.store(middle, key);
            let row = cx.unwind_lookup(UnwindTable::Rows, key);
            cx.or_return(row, FAILED)?;
            let address = cx.load(types::I64, Addr::value(row, 8), Access::Shared);
            let ip = cx.load(types::I64, at(u32::from(IP) * 8), Access::Shared);
            let middle = cx.load(types::I32, key, Access::Shared);
            let (up, down, next) = (
                cx.b.create_block(),
                cx.b.create_block(),
                cx.b.create_block(),
            );
            let above = cx.b.ins().icmp(IntCC::UnsignedGreaterThan, address, ip);
            cx.brif(above, down, up);
            cx.enter(up);
            let low = cx.add_imm(middle, 1);
            cx.store(low, at(LOW));
            cx.jump(next, &[]);
            cx.enter(down);
            cx.store(middle, at(HIGH));
            cx.jump(next, &[]);
            cx.enter(next);
            Ok(())
        })
    }

    /// The address of a word of the state by its number, 8 bits.
    fn unwind_word(&mut self, state: Value, number: Value) -> Value {
        let number = self.zext64(number);
        let shift = self.i64(3);
        let offset = self.b.ins().ishl(number, shift);
        self.b.ins().iadd(state, offset)
    }

    /// The value that a step finds; ends the subprogram when it cannot be read.
    fn unwind_value(&mut self, state: Value, step: Addr) -> R<Value> {
        let from = self.load(types::I8, step.at(Step::FROM as u64), Access::Shared);
        let from = self.unwind_word(state, from);
        let from = self.load(types::I64, Addr::value(from, 8), Access::Shared);
        let offset = self.load(types::I32, step.at(Step::OFFSET as u64), Access::Shared);
        let offset = self.resize_int(offset, types::I64, true);
        let value = self.b.ins().iadd(from, offset);
        let found = Addr::value(state, 8).at(u64::from(FOUND));
        self.store(value, found);
        let how = self.load(types::I8, step, Access::Shared);
        let read = self.cmp_imm(IntCC::Equal, how, How::Memory as i64);
        self.when(read, false, |cx| {
            let (to, size) = (cx.addr_value(found), cx.i64(8));
            let result = cx.call(Helper::ProbeReadUser, &[to, size, value]);
            let good = cx.is_zero(result);
            cx.or_return(good, FAILED)
        })?;
        Ok(self.load(types::I64, found, Access::Shared))
    }

    /// Where frame `i` goes.
    fn frame_at(&mut self, frames: Addr, i: Value) -> Addr {
        let shift = self.i64(3);
        let offset = self.b.ins().ishl(i, shift);
        let base = self.addr_value(frames);
        Addr::value(self.b.ins().iadd(base, offset), 8)
    }
}
