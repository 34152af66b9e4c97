//! Register allocation: [`VCode`] as regalloc2 wants to see it.

use regalloc2::{
    Algorithm, Block, Function, Inst, InstRange, Operand, Output, PRegSet, RegClass,
    RegallocOptions, VReg,
};

use super::BackendError;
use super::regs::{Reg, call_clobbers, machine_env};
use super::vcode::{Addr, Base, VCode, VInsn, VSrc};

/// Operands of all instructions, in the order in which emission reads the allocations.
struct AllocView<'a> {
    vcode: &'a VCode,
    /// First instruction of each block, and the end of the last.
    starts: Vec<usize>,
    operands: Vec<Operand>,
    /// Start in `operands` of each instruction's, and the end of the last.
    operand_starts: Vec<u32>,
    /// For each instruction: calls clobber registers.
    clobbers: Vec<PRegSet>,
    succs: Vec<Vec<Block>>,
    preds: Vec<Vec<Block>>,
}

/// Collects the operands of one instruction.
struct Operands<'a>(&'a mut Vec<Operand>);

impl Operands<'_> {
    fn reg(&mut self, vreg: VReg) {
        self.0.push(Operand::reg_use(vreg));
    }

    fn src(&mut self, src: VSrc) {
        if let VSrc::Reg(vreg) = src {
            self.reg(vreg);
        }
    }

    fn addr(&mut self, addr: &Addr) {
        if let Base::Reg(vreg) = addr.base {
            self.reg(vreg);
        }
    }

    fn def(&mut self, vreg: VReg) {
        self.0.push(Operand::reg_def(vreg));
    }

    /// A result in the register of the operand that is the `nth` of this instruction.
    fn reuse(&mut self, vreg: VReg, nth: usize) {
        self.0.push(Operand::reg_reuse_def(vreg, nth));
    }

    fn fixed_use(&mut self, vreg: VReg, reg: Reg) {
        self.0.push(Operand::reg_fixed_use(vreg, reg.preg()));
    }

    fn fixed_def(&mut self, vreg: VReg, reg: Reg) {
        self.0.push(Operand::reg_fixed_def(vreg, reg.preg()));
    }

    /// Registers in the order: uses as the variant lists them, then the result.
    fn collect(&mut self, insn: &VInsn) -> Result<(), BackendError> {
        match insn {
            VInsn::Args { defs } => {
                for (idx, &def) in defs.iter().enumerate() {
                    self.fixed_def(def, argument(idx)?);
                }
            }
            VInsn::Alu { dst, lhs, rhs, .. } => {
                self.reg(*lhs);
                self.src(*rhs);
                self.reuse(*dst, 0);
            }
            VInsn::CopyIn { dst, src } => {
                self.reg(*src);
                self.0.push(Operand::any_def(*dst));
            }
            VInsn::CopyOut { dst, src } => {
                self.0.push(Operand::any_use(*src));
                self.def(*dst);
            }
            VInsn::Mov { dst, src, .. } => {
                self.src(*src);
                self.def(*dst);
            }
            VInsn::Neg { dst, src, .. } | VInsn::ByteOrder { dst, src, .. } => {
                self.reg(*src);
                self.reuse(*dst, 0);
            }
            VInsn::LdImm64 { dst, .. } | VInsn::SlotAddr { dst, .. } => self.def(*dst),
            VInsn::Load { dst, addr, .. } => {
                self.addr(addr);
                self.def(*dst);
            }
            VInsn::Store { addr, src, .. } => {
                self.addr(addr);
                self.src(*src);
            }
            VInsn::Atomic { addr, src, .. } => {
                self.addr(addr);
                self.reg(*src);
            }
            VInsn::AtomicFetch { dst, addr, src, .. } => {
                self.reg(*src);
                self.addr(addr);
                self.reuse(*dst, 0);
            }
            VInsn::CmpXchg {
                dst,
                addr,
                expected,
                src,
                ..
            } => {
                self.fixed_use(*expected, Reg::R0);
                self.addr(addr);
                self.reg(*src);
                self.fixed_def(*dst, Reg::R0);
            }
            VInsn::Select {
                cond,
                dst,
                if_true,
                if_false,
                ..
            } => {
                self.reg(*if_true);
                if cond.lhs != *if_true {
                    self.reg(cond.lhs);
                }
                self.src(cond.rhs);
                self.src(*if_false);
                self.reuse(*dst, 0);
            }
            VInsn::Call { args, result, .. } => {
                for (idx, &arg) in args.iter().enumerate() {
                    self.fixed_use(arg, argument(idx)?);
                }
                if let Some(result) = result {
                    self.fixed_def(*result, Reg::R0);
                }
            }
            VInsn::TrapIf { cond } | VInsn::Branch { cond } => {
                self.reg(cond.lhs);
                self.src(cond.rhs);
            }
            VInsn::Ret { value } => self.fixed_use(*value, Reg::R0),
            VInsn::Jump | VInsn::Trap => {}
        }
        Ok(())
    }
}

fn argument(idx: usize) -> Result<Reg, BackendError> {
    Reg::argument(idx)
        .ok_or_else(|| BackendError::Regalloc(format!("no register for argument {idx}")))
}

impl<'a> AllocView<'a> {
    fn new(vcode: &'a VCode) -> Result<AllocView<'a>, BackendError> {
        let n_blocks = vcode.blocks.len();
        let mut view = AllocView {
            vcode,
            starts: vec![0],
            operands: Vec::new(),
            operand_starts: vec![0],
            clobbers: Vec::new(),
            succs: Vec::with_capacity(n_blocks),
            preds: vec![Vec::new(); n_blocks],
        };
        for (idx, block) in vcode.blocks.iter().enumerate() {
            for (insn, _) in &block.insns {
                Operands(&mut view.operands).collect(insn)?;
                view.operand_starts.push(view.operands.len() as u32);
                view.clobbers.push(match insn {
                    VInsn::Call {
                        result: Some(_), ..
                    } => call_clobbers(),
                    VInsn::Call { result: None, .. } => call_clobbers().with(Reg::R0.preg()),
                    _ => PRegSet::empty(),
                });
            }
            view.starts.push(view.clobbers.len());
            for edge in &block.succs {
                view.preds[edge.target as usize].push(Block::new(idx));
            }
            let succs = block
                .succs
                .iter()
                .map(|edge| Block::new(edge.target as usize));
            view.succs.push(succs.collect());
        }
        Ok(view)
    }

    fn insn(&self, inst: Inst) -> &VInsn {
        let idx = inst.index();
        let block = self.starts.partition_point(|&start| start <= idx) - 1;
        &self.vcode.blocks[block].insns[idx - self.starts[block]].0
    }
}

impl Function for AllocView<'_> {
    fn num_insts(&self) -> usize {
        self.clobbers.len()
    }

    fn num_blocks(&self) -> usize {
        self.vcode.blocks.len()
    }

    fn entry_block(&self) -> Block {
        Block::new(0)
    }

    fn block_insns(&self, block: Block) -> InstRange {
        let idx = block.index();
        InstRange::new(Inst::new(self.starts[idx]), Inst::new(self.starts[idx + 1]))
    }

    fn block_succs(&self, block: Block) -> &[Block] {
        &self.succs[block.index()]
    }

    fn block_preds(&self, block: Block) -> &[Block] {
        &self.preds[block.index()]
    }

    fn block_params(&self, block: Block) -> &[VReg] {
        &self.vcode.blocks[block.index()].params
    }

    fn is_ret(&self, insn: Inst) -> bool {
        matches!(self.insn(insn), VInsn::Ret { .. } | VInsn::Trap)
    }

    fn is_branch(&self, insn: Inst) -> bool {
        matches!(self.insn(insn), VInsn::Jump | VInsn::Branch { .. })
    }

    fn branch_blockparams(&self, block: Block, _insn: Inst, succ_idx: usize) -> &[VReg] {
        &self.vcode.blocks[block.index()].succs[succ_idx].args
    }

    fn inst_operands(&self, insn: Inst) -> &[Operand] {
        let idx = insn.index();
        &self.operands[self.operand_starts[idx] as usize..self.operand_starts[idx + 1] as usize]
    }

    fn inst_clobbers(&self, insn: Inst) -> PRegSet {
        self.clobbers[insn.index()]
    }

    fn num_vregs(&self) -> usize {
        self.vcode.n_vregs
    }

    fn spillslot_size(&self, _regclass: RegClass) -> usize {
        1
    }
}

/// Registers for everything, and the moves, spills and reloads that this takes.
pub(super) struct Allocation {
    pub(super) output: Output,
    /// First instruction of each block, counted over the whole function.
    pub(super) starts: Vec<usize>,
    operands: Vec<Operand>,
    operand_starts: Vec<u32>,
    clobbers: Vec<PRegSet>,
}

impl Allocation {
    /// What the instruction reads and writes, in the order of its allocations.
    pub(super) fn operands(&self, inst: Inst) -> &[Operand] {
        let idx = inst.index();
        &self.operands[self.operand_starts[idx] as usize..self.operand_starts[idx + 1] as usize]
    }

    /// The registers that lose their contents.
    pub(super) fn clobbers(&self, inst: Inst) -> PRegSet {
        self.clobbers[inst.index()]
    }
}

/// Allocates registers; with `verify`, proves the result with regalloc2's checker.
pub(super) fn allocate(vcode: &VCode, verify: bool) -> Result<Allocation, BackendError> {
    let view = AllocView::new(vcode)?;
    let env = machine_env();
    // The faster one keeps values on the stack that there is no room for.
    let algorithm = Algorithm::Ion;
    let options = RegallocOptions {
        verbose_log: false,
        validate_ssa: verify,
        algorithm,
    };
    let output = regalloc2::run(&view, &env, &options)
        .map_err(|error| BackendError::Regalloc(format!("{error:?}")))?;
    if verify {
        let mut checker = regalloc2::checker::Checker::new(&view, &env);
        checker.prepare(&output);
        checker
            .run()
            .map_err(|errors| BackendError::Regalloc(format!("checker: {errors:?}")))?;
    }
    let AllocView {
        starts,
        operands,
        operand_starts,
        clobbers,
        ..
    } = view;
    Ok(Allocation {
        output,
        starts,
        operands,
        operand_starts,
        clobbers,
    })
}
