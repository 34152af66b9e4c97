//! Instruction selection: optimised CLIF to [`VCode`].
//!
//! Blocks are visited in postorder and instructions backwards, so that when an instruction is
//! reached all its uses are known: one that nobody asked for in a register is not emitted at all,
//! and addresses, conditions and constants fold into their users.
//!
//! # What a register holds
//!
//! The register of an `i8`, `i16` or `i32` value has the value in its low bits; the bits above are
//! undefined. Whoever needs them (comparisons, right shifts, divisions, widening) extends first,
//! unless [`values`] can show that they are 0: loads, comparisons, masks and all 32-bit
//! arithmetic leave them so.
//!
//! Constants, symbols and stack addresses have no register. They are made afresh before each
//! instruction that needs them in one.

mod arith;
mod bits;
mod compare;
mod control;
mod crossing;
mod memory;
mod values;

use cranelift_codegen::Context;
use cranelift_codegen::entity::SecondaryMap;
use cranelift_codegen::ir::{Block, Function, Inst, Opcode, Value};
use regalloc2::{RegClass, VReg};

use super::BackendError;
use super::insn::{AluOp, Width};
use super::vcode::{BlockIdx, Edge, VBlock, VCode, VInsn, VSrc};

type Lowered<T> = Result<T, BackendError>;

struct Lower<'f> {
    func: &'f Function,
    /// Register of each value that has one.
    vregs: SecondaryMap<Value, Option<VReg>>,
    /// Whether something later in the program reads the value's register.
    used: SecondaryMap<Value, bool>,
    /// How many instructions (and branch arguments) name the value.
    n_uses: SecondaryMap<Value, u32>,
    /// How many branches lead to the block.
    n_preds: SecondaryMap<Block, u32>,
    block_idx: SecondaryMap<Block, BlockIdx>,
    crossing: crossing::Crossing,
    /// Instructions of blocks under construction are in reverse order.
    blocks: Vec<VBlock>,
    current: BlockIdx,
    /// Instructions for the CLIF instruction at hand, in forward order.
    seq: Vec<VInsn>,
    srcloc: u32,
    n_vregs: usize,
}

/// Selects instructions for a whole function.
pub(super) fn lower(context: &Context) -> Lowered<VCode> {
    let func = &context.func;
    let mut lower = Lower {
        func,
        vregs: SecondaryMap::new(),
        used: SecondaryMap::new(),
        n_uses: SecondaryMap::new(),
        n_preds: SecondaryMap::new(),
        block_idx: SecondaryMap::new(),
        crossing: crossing::Crossing::default(),
        blocks: Vec::new(),
        current: 0,
        seq: Vec::new(),
        srcloc: !0,
        n_vregs: 0,
    };
    lower.check_signature()?;
    lower.number_blocks();
    lower.note_calls_and_uses(context);
    for &block in context.domtree.cfg_postorder() {
        lower.block(block)?;
    }
    for block in &mut lower.blocks {
        block.insns.reverse();
    }
    Ok(VCode {
        blocks: lower.blocks,
        n_vregs: lower.n_vregs,
    }
    .order_blocks())
}

impl Lower<'_> {
    /// Gives every CLIF block its place and its parameters their registers, and counts uses.
    fn number_blocks(&mut self) {
        let func = self.func;
        for block in func.layout.blocks() {
            self.block_idx[block] = self.blocks.len() as BlockIdx;
            let is_entry = self.blocks.is_empty();
            let mut params = Vec::new();
            if !is_entry {
                for &param in func.dfg.block_params(block) {
                    let vreg = self.fresh();
                    self.vregs[param] = Some(vreg);
                    params.push(vreg);
                }
            }
            self.blocks.push(VBlock {
                params,
                ..VBlock::default()
            });
            for inst in func.layout.block_insts(block) {
                for value in func.dfg.inst_values(inst) {
                    self.n_uses[func.dfg.resolve_aliases(value)] += 1;
                }
                for dest in func.dfg.insts[inst]
                    .branch_destination(&func.dfg.jump_tables, &func.dfg.exception_tables)
                {
                    self.n_preds[dest.block(&func.dfg.value_lists)] += 1;
                }
            }
        }
    }

    fn block(&mut self, block: Block) -> Lowered<()> {
        self.current = self.block_idx[block];
        let func = self.func;
        for inst in func.layout.block_insts(block).rev() {
            self.srcloc = func.srcloc(inst).bits();
            if func.dfg.insts[inst].opcode().is_terminator() {
                self.terminator(inst)?;
            } else if self.is_needed(inst) {
                self.inst(inst)?;
            }
            self.flush();
        }
        if self.current == 0 {
            self.arguments(block);
        }
        Ok(())
    }

    /// Whether the instruction does something besides computing results nobody asked for.
    fn is_needed(&self, inst: Inst) -> bool {
        let opcode = self.func.dfg.insts[inst].opcode();
        let pure = !opcode.can_store()
            && !opcode.is_call()
            && !matches!(
                opcode,
                Opcode::Trapz
                    | Opcode::Trapnz
                    | Opcode::UaddOverflowTrap
                    | Opcode::AtomicRmw
                    | Opcode::AtomicCas
            );
        !pure
            || self
                .func
                .dfg
                .inst_results(inst)
                .iter()
                .any(|&value| self.used[value])
    }

    fn inst(&mut self, inst: Inst) -> Lowered<()> {
        let opcode = self.func.dfg.insts[inst].opcode();
        match opcode {
            Opcode::Iconst | Opcode::SymbolValue | Opcode::FuncAddr | Opcode::StackAddr => {
                // Made afresh where they are used; see `use_reg`.
                Ok(())
            }
            Opcode::Nop | Opcode::Fence => Ok(()),
            Opcode::Iadd
            | Opcode::Isub
            | Opcode::Imul
            | Opcode::Ineg
            | Opcode::Iabs
            | Opcode::Udiv
            | Opcode::Urem
            | Opcode::Sdiv
            | Opcode::Srem
            | Opcode::Umulhi
            | Opcode::Smulhi => self.arith(inst),
            Opcode::Band
            | Opcode::Bor
            | Opcode::Bxor
            | Opcode::Bnot
            | Opcode::Bitselect
            | Opcode::Ishl
            | Opcode::Ushr
            | Opcode::Sshr
            | Opcode::Rotl
            | Opcode::Rotr
            | Opcode::Clz
            | Opcode::Cls
            | Opcode::Ctz
            | Opcode::Popcnt
            | Opcode::Bswap
            | Opcode::Bitrev
            | Opcode::Uextend
            | Opcode::Sextend
            | Opcode::Ireduce
            | Opcode::Bitcast => self.bits(inst),
            Opcode::Icmp
            | Opcode::Select
            | Opcode::SelectSpectreGuard
            | Opcode::Bmask
            | Opcode::Umin
            | Opcode::Umax
            | Opcode::Smin
            | Opcode::Smax => self.compare(inst),
            Opcode::Load
            | Opcode::Uload8
            | Opcode::Sload8
            | Opcode::Uload16
            | Opcode::Sload16
            | Opcode::Uload32
            | Opcode::Sload32
            | Opcode::Store
            | Opcode::Istore8
            | Opcode::Istore16
            | Opcode::Istore32
            | Opcode::AtomicLoad
            | Opcode::AtomicStore
            | Opcode::AtomicRmw
            | Opcode::AtomicCas => self.memory(inst),
            Opcode::Call => self.call(inst),
            Opcode::Trapz | Opcode::Trapnz => self.conditional_trap(inst),
            _ => Err(self.unsupported(inst, format!("no instructions for {opcode}"))),
        }
    }

    /// Appends what was emitted for one CLIF instruction to the (reversed) block.
    fn flush(&mut self) {
        let block = &mut self.blocks[self.current as usize];
        while let Some(insn) = self.seq.pop() {
            block.insns.push((insn, self.srcloc));
        }
    }

    fn new_block(&mut self) -> BlockIdx {
        self.blocks.push(VBlock::default());
        (self.blocks.len() - 1) as BlockIdx
    }

    /// Finishes the block that `seq` belongs to with its ways out.
    fn set_succs(&mut self, succs: Vec<Edge>) {
        self.blocks[self.current as usize].succs = succs;
    }

    fn fresh(&mut self) -> VReg {
        let vreg = VReg::new(self.n_vregs, RegClass::Int);
        self.n_vregs += 1;
        vreg
    }

    fn emit(&mut self, insn: VInsn) {
        self.seq.push(insn);
    }

    /// `lhs op rhs` in a new register.
    fn alu(&mut self, op: AluOp, width: Width, lhs: VReg, rhs: VSrc) -> VReg {
        let dst = self.fresh();
        self.emit(VInsn::Alu {
            op,
            width,
            dst,
            lhs,
            rhs,
        });
        dst
    }

    fn alu_imm(&mut self, op: AluOp, width: Width, lhs: VReg, imm: i32) -> VReg {
        self.alu(op, width, lhs, VSrc::Imm(imm))
    }

    fn unsupported(&self, inst: Inst, what: impl Into<String>) -> BackendError {
        let srcloc = self.func.srcloc(inst);
        BackendError::Unsupported {
            what: what.into(),
            insn: self.func.dfg.display_inst(inst).to_string(),
            srcloc: (!srcloc.is_default()).then(|| srcloc.bits()),
        }
    }
}
