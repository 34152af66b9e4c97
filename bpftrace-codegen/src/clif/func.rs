//! One CLIF function under construction.

use std::collections::BTreeMap;

use bpftrace_ast::source::Span;
use bpftrace_meta::{HostValue, SlotForm};
use cranelift_codegen::flowgraph::ControlFlowGraph;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AbiParam, Block, BlockArg, ExtFuncData, ExternalName, FuncRef, Function, GlobalValue,
    GlobalValueData, InstBuilder, MemFlagsData, Signature, SourceLoc, StackSlot, StackSlotData,
    StackSlotKind, Type, UserFuncName, Value, types,
};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};

use super::helper::Helper;
use super::module::{ClifFunction, FunctionRole, Module, RODATA, Shared, SpecialMap};
use super::once;
use super::place::{Temp, Variables};
use super::program::Program;
use super::stack::StackArena;
use super::{Addr, R};
use crate::error::CodegenError;
use crate::symbols::Symbol;

/// What a function is to its probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The program itself: one parameter, the context.
    Main,
    /// The body of a loop: the last parameter is the address of the frame.
    Callback,
    /// A subprogram, with a frame and scratch values of its own.
    Subprogram,
    /// A program that does what two probes do, when a function is entered and when it returns.
    Session {
        /// Index of the kprobe.
        entry: usize,
        /// Index of the kretprobe.
        ret: usize,
    },
}

/// A CLIF function under construction.
pub(super) struct FnCx<'a, 'p> {
    pub(super) m: &'a mut Module<'p>,
    pub(super) p: &'a mut Program<'p>,
    pub(super) b: FunctionBuilder<'a>,
    pub(super) role: Role,
    pub(super) params: Vec<Value>,
    entry: Block,
    body: Block,
    scratch: Variable,
    scratch_used: bool,
    ctx: Variable,
    ctx_used: bool,
    frame_slot: Option<StackSlot>,
    funcs: BTreeMap<Symbol, FuncRef>,
    globals: BTreeMap<(Symbol, u32), GlobalValue>,
    pub(super) arena: StackArena,
    pub(super) temps: Vec<Temp>,
    pub(super) variables: Variables,
    pub(super) loops: Vec<LoopExit>,
    /// Where the access being lowered goes when a pointer on its way is null.
    pub(super) null_exit: Option<Block>,
    pub(super) span: Span,
    /// Bytes of the ring buffer that all places in the function take together, if that is known.
    sent: Option<u64>,
    /// What [`once::PIDS`] is made of, once that is called.
    pub(super) pids: Option<once::Pids>,
    /// The helper behind [`once::NAME`], once that is called.
    pub(super) read_name: Option<FuncRef>,
}

/// Where `break` and `continue` lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoopExit {
    /// A loop in this function.
    Blocks {
        /// Behind the loop.
        after: Block,
        /// The next iteration.
        next: Block,
    },
    /// The function is the loop's body: return 1 or 0.
    Callback,
}

/// Flags of the program's own memory.
pub(super) fn own() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

/// Flags of memory that never changes while the program runs: `.rodata`, fields of the context.
pub(super) fn constant() -> MemFlagsData {
    MemFlagsData::new()
        .with_notrap()
        .with_readonly()
        .with_can_move()
}

/// What a function is made from.
pub(super) struct FunctionSpec {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) n_params: u32,
    pub(super) span: Span,
    /// Whether the place in the script goes with the function (shared subprograms have none).
    pub(super) has_span: bool,
}

/// Builds a function: `lower` fills its body, and must leave the current block finished.
pub(super) fn build<'p>(
    m: &mut Module<'p>,
    p: &mut Program<'p>,
    spec: FunctionSpec,
    lower: impl FnOnce(&mut FnCx<'_, 'p>) -> R<()>,
) -> R<()> {
    let signature = signature(spec.n_params);
    let mut func = Function::with_name_signature(UserFuncName::user(0, spec.index), signature);
    let mut context = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(&mut func, &mut context);
    let (entry, body) = (b.create_block(), b.create_block());
    // The entry block comes first, but is filled last, when it is known what the body needs.
    b.func.layout.append_block(entry);
    b.append_block_params_for_function_params(entry);
    let params = b.block_params(entry).to_vec();
    b.switch_to_block(body);
    let (scratch, ctx) = (b.declare_var(types::I64), b.declare_var(types::I64));
    let mut cx = FnCx {
        m: &mut *m,
        p: &mut *p,
        b,
        role: spec.role,
        params,
        entry,
        body,
        scratch,
        scratch_used: false,
        ctx,
        ctx_used: false,
        frame_slot: None,
        funcs: BTreeMap::new(),
        globals: BTreeMap::new(),
        arena: StackArena::default(),
        temps: Vec::new(),
        variables: Variables::default(),
        loops: Vec::new(),
        null_exit: None,
        span: spec.span,
        sent: Some(0),
        pids: None,
        read_name: None,
    };
    cx.set_span(spec.span);
    lower(&mut cx)?;
    cx.finish()?;
    let stand_ins = once::StandIns {
        pids: cx.pids,
        read_name: cx.read_name,
        arena: std::mem::take(&mut cx.arena),
        budget: cx.m.stack_budget,
    };
    let sent = match cx.sent {
        Some(1..) if spec.role == Role::Callback || has_loop(cx.b.func) => None,
        sent => sent,
    };
    once::finish(&mut func, stand_ins);
    let role = match spec.role {
        Role::Main => FunctionRole::Probe {
            index: p.probe_index,
            uses_target_number: p.uses_target_number,
        },
        Role::Session { entry, ret } => FunctionRole::Session { entry, ret },
        Role::Callback | Role::Subprogram => FunctionRole::Subprogram {
            n_params: spec.n_params,
            alone: false,
        },
    };
    m.set_function(
        spec.index,
        ClifFunction {
            name: spec.name,
            func,
            role,
            span: spec.has_span.then_some(spec.span),
            sent,
        },
    );
    Ok(())
}

/// Whether any path leads back to where it came from.
fn has_loop(func: &Function) -> bool {
    let cfg = ControlFlowGraph::with_function(func);
    // Blocks leave once nothing leads to them any more; what stays is on a loop or behind one.
    let mut n_before: BTreeMap<Block, usize> = func
        .layout
        .blocks()
        .map(|block| (block, cfg.pred_iter(block).count()))
        .collect();
    let mut free: Vec<Block> = n_before
        .iter()
        .filter(|(_, n)| **n == 0)
        .map(|(block, _)| *block)
        .collect();
    let mut n_left = n_before.len();
    while let Some(block) = free.pop() {
        n_left -= 1;
        for next in cfg.succ_iter(block) {
            if let Some(n) = n_before.get_mut(&next) {
                *n -= 1;
                if *n == 0 {
                    free.push(next);
                }
            }
        }
    }
    n_left > 0
}

fn signature(n_params: u32) -> Signature {
    let mut signature = Signature::new(CallConv::SystemV);
    for _ in 0..n_params {
        signature.params.push(AbiParam::new(types::I64));
    }
    signature.returns.push(AbiParam::new(types::I64));
    signature
}

impl<'p> FnCx<'_, 'p> {
    /// Fills the entry block and closes the function.
    fn finish(&mut self) -> R<()> {
        self.b.switch_to_block(self.entry);
        let loc = self.m.source_loc(self.span);
        self.b.set_srcloc(SourceLoc::new(loc));
        let frame_scratch = self.p.frame.scratch;
        let frame_ctx = self.p.frame.ctx;
        match self.role {
            Role::Main | Role::Subprogram | Role::Session { .. } => {
                if self.scratch_used || frame_scratch.is_some() {
                    let base = self.look_up_scratch();
                    self.b.def_var(self.scratch, base);
                    if let Some(offset) = frame_scratch {
                        let frame = self.frame_base();
                        self.b.ins().store(own(), base, frame, offset as i32);
                    }
                }
                if let Some(&ctx) = self.params.first() {
                    self.b.def_var(self.ctx, ctx);
                    if let Some(offset) = frame_ctx {
                        let frame = self.frame_base();
                        self.b.ins().store(own(), ctx, frame, offset as i32);
                    }
                }
                let zero = self.i64(0);
                for offset in self.p.frame.zeroed.clone() {
                    let frame = self.frame_base();
                    self.b.ins().store(own(), zero, frame, offset as i32);
                }
            }
            Role::Callback => {
                let frame = self.frame_base();
                if let (true, Some(offset)) = (self.scratch_used, frame_scratch) {
                    let base = self.b.ins().load(types::I64, own(), frame, offset as i32);
                    self.b.def_var(self.scratch, base);
                }
                if let (true, Some(offset)) = (self.ctx_used, frame_ctx) {
                    let ctx = self.b.ins().load(types::I64, own(), frame, offset as i32);
                    self.b.def_var(self.ctx, ctx);
                }
            }
        }
        self.b.ins().jump(self.body, &[]);
        self.b.seal_all_blocks();
        if let Some(slot) = self.frame_slot {
            let size = self.p.frame.size().max(8);
            self.b.func.sized_stack_slots[slot].size = size;
        }
        if self.scratch_used && self.role != Role::Callback {
            self.p.scratch_used = true;
        }
        Ok(())
    }

    /// Looks the program's entry of the scratch map up; without one, the program ends.
    fn look_up_scratch(&mut self) -> Value {
        let map = self.m.special_map(SpecialMap::Scratch);
        let slot = self.new_slot(4);
        let entry = self.int(types::I32, i64::from(self.p.scratch_entry));
        let key = self.b.ins().stack_addr(types::I64, slot, 0);
        self.b.ins().store(own(), entry, key, 0);
        let map = self.map_ptr(map);
        let base = self.call(Helper::MapLookupElem, &[map, key]);
        let (found, missing) = (self.b.create_block(), self.b.create_block());
        self.b.ins().brif(base, found, &[], missing, &[]);
        self.b.set_cold_block(missing);
        self.b.switch_to_block(missing);
        let ret = self.i64(self.p.default_return);
        self.b.ins().return_(&[ret]);
        self.b.switch_to_block(found);
        base
    }

    // The function's own memory.

    /// The address of the program's scratch values.
    pub(super) fn scratch_base(&mut self) -> Value {
        self.scratch_used = true;
        if self.role == Role::Callback && self.p.frame.scratch.is_none() {
            let offset = self.p.frame.alloc(8);
            self.p.frame.scratch = Some(offset);
        }
        self.b.use_var(self.scratch)
    }

    /// The context of the program.
    pub(super) fn ctx(&mut self) -> Value {
        self.ctx_used = true;
        if self.role == Role::Callback && self.p.frame.ctx.is_none() {
            let offset = self.p.frame.alloc(8);
            self.p.frame.ctx = Some(offset);
        }
        self.b.use_var(self.ctx)
    }

    /// The address of the frame.
    pub(super) fn frame_base(&mut self) -> Value {
        match self.role {
            Role::Callback => self.params[self.params.len() - 1],
            Role::Main | Role::Subprogram | Role::Session { .. } => {
                let slot = match self.frame_slot {
                    Some(slot) => slot,
                    None => {
                        let slot = self.new_slot(8);
                        self.frame_slot = Some(slot);
                        slot
                    }
                };
                self.b.ins().stack_addr(types::I64, slot, 0)
            }
        }
    }

    pub(super) fn new_slot(&mut self, size: u32) -> StackSlot {
        self.b.create_sized_stack_slot(StackSlotData::new(
            StackSlotKind::ExplicitSlot,
            size.next_multiple_of(8),
            3,
        ))
    }

    // Places in the script.

    pub(super) fn set_span(&mut self, span: Span) {
        self.span = span;
        let loc = self.m.source_loc(span);
        self.b.set_srcloc(SourceLoc::new(loc));
    }

    pub(super) fn internal<T>(&self, what: impl Into<String>) -> R<T> {
        Err(CodegenError::Internal {
            span: Some(self.span),
            what: what.into(),
        })
    }

    pub(super) fn unsupported<T>(&self, what: impl Into<String>) -> R<T> {
        Err(CodegenError::Unsupported {
            span: self.span,
            what: what.into(),
        })
    }

    // Constants and arithmetic.

    /// A constant of a type; of `value` only the low bits count.
    pub(super) fn int(&mut self, ty: Type, value: i64) -> Value {
        let mask = if ty.bits() == 64 {
            -1
        } else {
            (1i64 << ty.bits()) - 1
        };
        self.b.ins().iconst(ty, value & mask)
    }

    pub(super) fn i64(&mut self, value: i64) -> Value {
        self.b.ins().iconst(types::I64, value)
    }

    pub(super) fn ty(&self, value: Value) -> Type {
        self.b.func.dfg.value_type(value)
    }

    /// Truncates or extends to a type.
    pub(super) fn resize_int(&mut self, value: Value, to: Type, signed: bool) -> Value {
        let from = self.ty(value);
        match from.bits().cmp(&to.bits()) {
            std::cmp::Ordering::Equal => value,
            std::cmp::Ordering::Greater => self.b.ins().ireduce(to, value),
            std::cmp::Ordering::Less if signed => self.b.ins().sextend(to, value),
            std::cmp::Ordering::Less => self.b.ins().uextend(to, value),
        }
    }

    pub(super) fn zext64(&mut self, value: Value) -> Value {
        self.resize_int(value, types::I64, false)
    }

    pub(super) fn add_imm(&mut self, value: Value, imm: i64) -> Value {
        if imm == 0 {
            return value;
        }
        let imm = self.int(self.ty(value), imm);
        self.b.ins().iadd(value, imm)
    }

    pub(super) fn cmp_imm(&mut self, cc: IntCC, value: Value, imm: i64) -> Value {
        let imm = self.int(self.ty(value), imm);
        self.b.ins().icmp(cc, value, imm)
    }

    /// Adds a mere number to an address. Cranelift would fold `address + 0`; the back end folds others.
    pub(super) fn offset(&mut self, base: Value, offset: i64) -> Value {
        self.add_imm(base, offset)
    }

    // Blocks.

    /// Goes on in another block, whose predecessors are all known.
    pub(super) fn enter(&mut self, block: Block) {
        self.b.switch_to_block(block);
        self.b.seal_block(block);
    }

    /// Goes on where no path leads, after a jump away.
    pub(super) fn enter_unreachable(&mut self) {
        let block = self.b.create_block();
        self.enter(block);
    }

    pub(super) fn jump(&mut self, block: Block, args: &[Value]) {
        let args: Vec<BlockArg> = args.iter().map(|&v| BlockArg::Value(v)).collect();
        self.b.ins().jump(block, &args);
    }

    pub(super) fn brif(&mut self, cond: Value, then: Block, otherwise: Block) {
        self.b.ins().brif(cond, then, &[], otherwise, &[]);
    }

    /// Runs `body` only if the condition holds.
    pub(super) fn when(
        &mut self,
        cond: Value,
        cold: bool,
        body: impl FnOnce(&mut Self) -> R<()>,
    ) -> R<()> {
        let (then, after) = (self.b.create_block(), self.b.create_block());
        if cold {
            self.b.set_cold_block(then);
        }
        self.brif(cond, then, after);
        self.enter(then);
        body(self)?;
        self.jump(after, &[]);
        self.enter(after);
        Ok(())
    }

    /// The value of one of two branches.
    pub(super) fn choose(
        &mut self,
        cond: Value,
        ty: Type,
        then: impl FnOnce(&mut Self) -> R<Value>,
        otherwise: impl FnOnce(&mut Self) -> R<Value>,
    ) -> R<Value> {
        let (then_block, else_block, after) = (
            self.b.create_block(),
            self.b.create_block(),
            self.b.create_block(),
        );
        let result = self.b.append_block_param(after, ty);
        self.brif(cond, then_block, else_block);
        self.enter(then_block);
        let value = then(self)?;
        self.jump(after, &[value]);
        self.enter(else_block);
        let value = otherwise(self)?;
        self.jump(after, &[value]);
        self.enter(after);
        Ok(result)
    }

    /// Takes note of what is sent at this place, in bytes of the ring buffer.
    pub(super) fn note_sent(&mut self, bytes: Option<u64>) {
        self.sent = self
            .sent
            .zip(bytes)
            .and_then(|(sent, bytes)| sent.checked_add(bytes));
    }

    // Calls and symbols.

    pub(super) fn func_ref(&mut self, symbol: Symbol, n_params: u32) -> FuncRef {
        if let Some(&known) = self.funcs.get(&symbol) {
            return known;
        }
        let name = self.b.func.declare_imported_user_function(symbol.name());
        let signature = self.b.import_signature(signature(n_params));
        let func = self.b.import_function(ExtFuncData {
            name: ExternalName::user(name),
            signature,
            colocated: true,
            patchable: false,
        });
        self.funcs.insert(symbol, func);
        func
    }

    /// Calls a helper; all arguments and the result have 64 bits.
    pub(super) fn call(&mut self, helper: Helper, args: &[Value]) -> Value {
        let func = self.func_ref(Symbol::Helper(helper.id()), args.len() as u32);
        let call = self.b.ins().call(func, args);
        self.b.inst_results(call)[0]
    }

    /// Calls a function of the kernel; all arguments and the result have 64 bits.
    pub(super) fn call_kfunc(&mut self, row: u32, args: &[Value]) -> Value {
        let func = self.func_ref(Symbol::Kfunc(row), args.len() as u32);
        let call = self.b.ins().call(func, args);
        self.b.inst_results(call)[0]
    }

    /// Calls a function of the object.
    pub(super) fn call_subprog(&mut self, index: u32, args: &[Value]) -> Value {
        self.note_sent(self.m.sent_by(index));
        let func = self.func_ref(Symbol::Subprog(index), args.len() as u32);
        let call = self.b.ins().call(func, args);
        self.b.inst_results(call)[0]
    }

    /// Calls a subprogram that all probes share.
    pub(super) fn call_shared(&mut self, which: Shared, args: &[Value]) -> R<Value> {
        let index = self.m.shared(which)?;
        Ok(self.call_subprog(index, args))
    }

    /// The address of a function of the object, for a helper that calls back.
    pub(super) fn subprog_addr(&mut self, index: u32, n_params: u32) -> Value {
        // It is called any number of times.
        self.note_sent(self.m.sent_by(index).filter(|&bytes| bytes == 0));
        let func = self.func_ref(Symbol::Subprog(index), n_params);
        self.b.ins().func_addr(types::I64, func)
    }

    pub(super) fn symbol(&mut self, symbol: Symbol, offset: u32) -> Value {
        let global = self.global(symbol, offset);
        self.b.ins().symbol_value(types::I64, global)
    }

    /// A patched constant of 32 bits whose uses share a register.
    pub(super) fn shared_symbol(&mut self, symbol: Symbol) -> Value {
        let global = self.global(symbol, 0);
        let value = self.b.ins().symbol_value(types::I32, global);
        self.zext64(value)
    }

    fn global(&mut self, symbol: Symbol, offset: u32) -> GlobalValue {
        match self.globals.get(&(symbol, offset)) {
            Some(&known) => known,
            None => {
                let name = self.b.func.declare_imported_user_function(symbol.name());
                let global = self.b.create_global_value(GlobalValueData::Symbol {
                    name: ExternalName::user(name),
                    offset: i64::from(offset).into(),
                    colocated: true,
                    tls: false,
                });
                self.globals.insert((symbol, offset), global);
                global
            }
        }
    }

    pub(super) fn map_ptr(&mut self, row: u32) -> Value {
        self.symbol(Symbol::Map(row), 0)
    }

    /// The address of a byte of `.rodata`.
    pub(super) fn rodata(&mut self, offset: u32) -> Value {
        self.symbol(Symbol::Data(RODATA), offset)
    }

    /// Constant bytes.
    pub(super) fn constant_bytes(&mut self, bytes: &[u8]) -> R<Addr> {
        let offset = self.m.constant(bytes)?;
        Ok(Addr::rodata(offset))
    }

    /// A fact that the loader writes into instructions, as a number of 64 bits.
    pub(super) fn host_value(&mut self, value: &HostValue) -> R<Value> {
        let row = self.m.host_value(value)?;
        Ok(self.slot_number(row))
    }

    /// Whether such a fact holds, or such a number is not 0; to be branched on, so that the verifier drops
    /// what does not happen.
    pub(super) fn host_truth(&mut self, value: &HostValue) -> R<Value> {
        let row = self.m.host_value(value)?;
        Ok(self.slot_truth(row))
    }

    /// The number in a slot.
    pub(super) fn slot_number(&mut self, row: u32) -> Value {
        let global = self.number_symbol(row);
        self.b.ins().symbol_value(types::I64, global)
    }

    /// Whether the number in a slot is not 0, in 64 bits.
    pub(super) fn slot_truth(&mut self, row: u32) -> Value {
        let global = self.truth_symbol(row);
        self.b.ins().symbol_value(types::I64, global)
    }

    /// The symbol of the number in a slot.
    pub(super) fn number_symbol(&mut self, row: u32) -> GlobalValue {
        let patch = self.m.slot_patch(row, SlotForm::Number);
        self.global(Symbol::PatchWide(patch), 0)
    }

    /// The symbol of whether the number in a slot is not 0.
    pub(super) fn truth_symbol(&mut self, row: u32) -> GlobalValue {
        let patch = self.m.slot_patch(row, SlotForm::Truth);
        self.global(Symbol::Patch(patch), 0)
    }

    /// Whether the kernel has a feature.
    pub(super) fn feature(&mut self, feature: bpftrace_meta::Feature) -> R<Value> {
        self.host_truth(&HostValue::Feature(feature))
    }
}
