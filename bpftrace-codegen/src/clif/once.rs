//! Calls whose result is the same as long as a program runs, are made once on every path.
//!
//! Such a call is dropped where one with the same arguments has been made on every way there. The process
//! and thread have a call of their own, [`PIDS`], which stands for a choice between two helpers; what is
//! left of it becomes that choice.
//!
//! The name of a process is read by a call of its own too, [`NAME`]. Where it has been read on every way, it is
//! copied from where the first call left it.

use std::collections::{HashMap, HashSet};

use bpftrace_meta::HostValue;
use cranelift_codegen::cursor::{Cursor, FuncCursor};
use cranelift_codegen::dominator_tree::DominatorTree;
use cranelift_codegen::flowgraph::ControlFlowGraph;
use cranelift_codegen::ir::{
    BlockArg, FuncRef, Function, GlobalValue, Inst, InstBuilder, InstructionData, StackSlotData,
    StackSlotKind, Value, ValueDef, types,
};

use super::R;
use super::func::{FnCx, own};
use super::helper::Helper;
use super::memory::{Addr, pieces};
use super::stack::StackArena;
use crate::symbols::Symbol;

/// The number of a helper that there is not: the process in the upper half and the thread in the lower,
/// of the pid namespace that bpftrace runs in.
pub(super) const PIDS: u32 = u32::MAX;

/// The number of a helper that there is not: the name of the process, put where the first argument says. The
/// second is what that is a multiple of, or 0 if the name may be anywhere; the result is where it is.
pub(super) const NAME: u32 = u32::MAX - 1;

/// Bytes of a name (`TASK_COMM_LEN`).
pub(super) const NAME_SIZE: u32 = 16;

/// What a call of [`PIDS`] is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pids {
    /// Whether bpftrace runs in another pid namespace than the initial one.
    is_inner: GlobalValue,
    device: GlobalValue,
    inode: GlobalValue,
    of_namespace: FuncRef,
    of_kernel: FuncRef,
}

impl FnCx<'_, '_> {
    /// The process and the thread, see [`PIDS`].
    pub(super) fn pids(&mut self) -> R<Value> {
        if self.pids.is_none() {
            let device = self.m.host_value(&HostValue::PidNamespaceDev)?;
            let inode = self.m.host_value(&HostValue::PidNamespaceIno)?;
            self.pids = Some(Pids {
                is_inner: self.truth_symbol(inode),
                device: self.number_symbol(device),
                inode: self.number_symbol(inode),
                of_namespace: self.func_ref(Symbol::Helper(Helper::GetNsCurrentPidTgid.id()), 4),
                of_kernel: self.func_ref(Symbol::Helper(Helper::GetCurrentPidTgid.id()), 0),
            });
        }
        let func = self.func_ref(Symbol::Helper(PIDS), 0);
        let call = self.b.ins().call(func, &[]);
        Ok(self.b.inst_results(call)[0])
    }
}

impl FnCx<'_, '_> {
    /// Puts the name of the process where it is wanted, [`NAME_SIZE`] bytes.
    pub(super) fn name_to(&mut self, dst: Addr) {
        self.name(dst, dst.alignment());
    }

    /// Where the name of the process is, for reading; `room` may be used for it.
    pub(super) fn name_at(&mut self, room: Addr) -> Addr {
        Addr::value(self.name(room, 0), 8)
    }

    fn name(&mut self, to: Addr, alignment: u32) -> Value {
        if self.read_name.is_none() {
            let helper = Symbol::Helper(Helper::GetCurrentComm.id());
            self.read_name = Some(self.func_ref(helper, 2));
        }
        let func = self.func_ref(Symbol::Helper(NAME), 2);
        let (to, alignment) = (self.addr_value(to), self.i64(i64::from(alignment)));
        let call = self.b.ins().call(func, &[to, alignment]);
        self.b.inst_results(call)[0]
    }
}

/// Whether calls of a helper with the same arguments give the same as long as a program runs.
fn is_constant(symbol: Symbol) -> bool {
    let constant = [
        Helper::GetCurrentPidTgid,
        Helper::GetCurrentUidGid,
        Helper::GetCurrentTask,
        Helper::GetCurrentCgroupId,
        Helper::GetFuncIp,
        Helper::GetAttachCookie,
        // Programs stay on their CPU.
        Helper::GetSmpProcessorId,
        Helper::GetNumaNodeId,
    ];
    matches!(symbol, Symbol::Helper(id) if id == PIDS || id == NAME || constant.iter().any(|it| it.id() == id))
}

/// What calls stand for that [`finish`] replaces, as far as there are any.
#[derive(Debug)]
pub(super) struct StandIns {
    /// [`PIDS`].
    pub(super) pids: Option<Pids>,
    /// The helper behind [`NAME`].
    pub(super) read_name: Option<FuncRef>,
    /// Where there may be room for a name, and the most bytes of stack that may be taken.
    pub(super) arena: StackArena,
    pub(super) budget: u32,
}

/// Drops calls that have been made already, and puts in what [`PIDS`] and [`NAME`] stand for.
pub(super) fn finish(func: &mut Function, stand_ins: StandIns) {
    let names = merge(func);
    if let Some(helper) = stand_ins.read_name {
        expand_names(func, helper, &names, stand_ins.arena, stand_ins.budget);
    }
    if let Some(pids) = &stand_ins.pids {
        expand(func, pids);
    }
}

/// A call that may be dropped: callee and arguments, of which those of [`NAME`] do not matter.
fn constant_call(func: &Function, inst: Inst) -> Option<(Symbol, Vec<Value>)> {
    let InstructionData::Call { func_ref, args, .. } = func.dfg.insts[inst] else {
        return None;
    };
    let symbol = Symbol::from_external(func, &func.dfg.ext_funcs[func_ref].name)?;
    if !is_constant(symbol) {
        return None;
    }
    if symbol == Symbol::Helper(NAME) {
        return Some((symbol, Vec::new()));
    }
    let args = args.as_slice(&func.dfg.value_lists).iter();
    let args = args.map(|&arg| func.dfg.resolve_aliases(arg)).collect();
    Some((symbol, args))
}

/// Calls of [`NAME`]: those behind another on every way there, and those others.
#[derive(Debug, Default)]
struct Names {
    later: HashSet<Inst>,
    first: HashSet<Inst>,
}

fn merge(func: &mut Function) -> Names {
    let mut names = Names::default();
    let any_twice = {
        let mut seen = HashMap::new();
        let insts = func
            .layout
            .blocks()
            .flat_map(|block| func.layout.block_insts(block));
        let mut calls = insts.filter_map(|inst| constant_call(func, inst));
        calls.any(|call| {
            let n_seen = seen.entry(call).or_insert(0);
            *n_seen += 1;
            *n_seen > 1
        })
    };
    if !any_twice {
        return names;
    }
    let cfg = ControlFlowGraph::with_function(func);
    let tree = DominatorTree::with_function(func, &cfg);
    let Some(entry) = func.layout.entry_block() else {
        return names;
    };
    // The calls made on every way to the block that is looked at, and for each block on the way how many
    // there were before it.
    let mut made: HashMap<(Symbol, Vec<Value>), Value> = HashMap::new();
    let mut order: Vec<(Symbol, Vec<Value>)> = Vec::new();
    let mut stack = vec![(entry, None)];
    while let Some((block, n_before)) = stack.pop() {
        if let Some(n_before) = n_before {
            for call in order.drain(n_before..) {
                made.remove(&call);
            }
            continue;
        }
        stack.push((block, Some(order.len())));
        let mut next = func.layout.first_inst(block);
        while let Some(inst) = next {
            next = func.layout.next_inst(inst);
            let Some(call) = constant_call(func, inst) else {
                continue;
            };
            let result = func.dfg.first_result(inst);
            match made.get(&call) {
                Some(&known) if call.0 == Symbol::Helper(NAME) => {
                    if let ValueDef::Result(first, _) = func.dfg.value_def(known) {
                        names.first.insert(first);
                        names.later.insert(inst);
                    }
                }
                Some(&known) => {
                    func.dfg.clear_results(inst);
                    func.dfg.change_to_alias(result, known);
                    func.layout.remove_inst(inst);
                }
                None => {
                    made.insert(call.clone(), result);
                    order.push(call);
                }
            }
        }
        stack.extend(tree.children(block).map(|child| (child, None)));
    }
    names
}

/// All calls of one of the numbers that stand for something.
fn calls_of(func: &Function, id: u32) -> Vec<Inst> {
    let insts = func
        .layout
        .blocks()
        .flat_map(|block| func.layout.block_insts(block));
    let is_it = |inst: &Inst| {
        constant_call(func, *inst).is_some_and(|(symbol, _)| symbol == Symbol::Helper(id))
    };
    insts.filter(is_it).collect()
}

fn expand_names(
    func: &mut Function,
    helper: FuncRef,
    names: &Names,
    mut arena: StackArena,
    budget: u32,
) {
    let mut slot = None;
    if !names.first.is_empty() && arena.book(NAME_SIZE, budget) {
        let data = StackSlotData::new(StackSlotKind::ExplicitSlot, NAME_SIZE, 3);
        slot = Some(func.create_sized_stack_slot(data));
    }
    for inst in calls_of(func, NAME) {
        let (to, alignment) = match func.dfg.inst_args(inst) {
            &[to, alignment] => (to, number(func, alignment)),
            _ => continue,
        };
        let (is_first, is_later) = (names.first.contains(&inst), names.later.contains(&inst));
        let result = func.dfg.first_result(inst);
        func.dfg.clear_results(inst);
        let mut cursor = FuncCursor::new(func).at_inst(inst);
        cursor.use_srcloc(inst);
        let kept = slot.filter(|_| is_first || is_later);
        let place = match kept {
            Some(slot) => cursor.ins().stack_addr(types::I64, slot, 0),
            None => to,
        };
        if kept.is_none() || is_first {
            let size = cursor.ins().iconst(types::I64, i64::from(NAME_SIZE));
            cursor.ins().call(helper, &[place, size]);
        }
        if kept.is_some() && alignment > 0 {
            for (at, ty) in pieces(u64::from(NAME_SIZE), alignment) {
                let piece = cursor.ins().load(ty, own(), place, at as i32);
                cursor.ins().store(own(), piece, to, at as i32);
            }
        }
        cursor.remove_inst();
        func.dfg.change_to_alias(result, place);
    }
}

/// A constant that is known to be one.
fn number(func: &Function, value: Value) -> u32 {
    let ValueDef::Result(inst, _) = func.dfg.value_def(value) else {
        return 0;
    };
    match func.dfg.insts[inst] {
        InstructionData::UnaryImm { imm, .. } => u32::try_from(imm.bits()).unwrap_or(0),
        _ => 0,
    }
}

fn expand(func: &mut Function, pids: &Pids) {
    // struct bpf_pidns_info { u32 pid; u32 tgid; }
    const INFO_SIZE: u32 = 8;
    let mut info = None;
    for inst in calls_of(func, PIDS) {
        let (Some(block), Some(behind)) =
            (func.layout.inst_block(inst), func.layout.next_inst(inst))
        else {
            continue;
        };
        let info = *info.get_or_insert_with(|| {
            let data = StackSlotData::new(StackSlotKind::ExplicitSlot, INFO_SIZE, 3);
            func.create_sized_stack_slot(data)
        });
        let (inner, initial, after) = (
            func.dfg.make_block(),
            func.dfg.make_block(),
            func.dfg.make_block(),
        );
        func.layout.split_block(after, behind);
        let result = func.dfg.first_result(inst);
        func.dfg.clear_results(inst);
        func.layout.remove_inst(inst);
        let both = func.dfg.append_block_param(after, types::I64);
        func.dfg.change_to_alias(result, both);
        let srcloc = func.srcloc(inst);
        let mut cursor = FuncCursor::new(func).at_bottom(block).with_srcloc(srcloc);
        let is_inner = cursor.ins().symbol_value(types::I64, pids.is_inner);
        cursor.ins().brif(is_inner, inner, &[], initial, &[]);
        cursor.insert_block(inner);
        let zero = cursor.ins().iconst(types::I64, 0);
        let to = cursor.ins().stack_addr(types::I64, info, 0);
        cursor.ins().store(own(), zero, to, 0);
        let device = cursor.ins().symbol_value(types::I64, pids.device);
        let inode = cursor.ins().symbol_value(types::I64, pids.inode);
        let size = cursor.ins().iconst(types::I64, i64::from(INFO_SIZE));
        cursor
            .ins()
            .call(pids.of_namespace, &[device, inode, to, size]);
        let found = cursor.ins().load(types::I64, own(), to, 0);
        cursor.ins().jump(after, &[BlockArg::Value(found)]);
        cursor.insert_block(initial);
        let call = cursor.ins().call(pids.of_kernel, &[]);
        let found = cursor.func.dfg.first_result(call);
        cursor.ins().jump(after, &[BlockArg::Value(found)]);
    }
}
