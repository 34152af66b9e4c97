//! Arguments, calls, and the ways out of a block.

use cranelift_codegen::ir::{
    Block, BlockArg, BlockCall, Inst, InstructionData, JumpTable, Opcode, Type, Value, types,
};

use regalloc2::VReg;

use super::values::mask;
use super::{Lower, Lowered};
use crate::bpf::BackendError;
use crate::bpf::insn::{AluOp, JmpOp, Width};
use crate::bpf::vcode::{BlockIdx, Callee, Cond, Edge, VInsn, VSrc};
use crate::symbols::Symbol;

/// Arguments that a BPF function takes at most.
const MAX_ARGS: usize = 5;

fn is_integer(ty: Type) -> bool {
    matches!(ty, types::I8 | types::I16 | types::I32 | types::I64)
}

impl Lower<'_> {
    pub(super) fn check_signature(&self) -> Lowered<()> {
        let signature = &self.func.signature;
        let what = if signature.params.len() > MAX_ARGS {
            "more than five parameters"
        } else if signature.returns.len() > 1 {
            "more than one result"
        } else if !signature
            .params
            .iter()
            .chain(&signature.returns)
            .all(|param| is_integer(param.value_type))
        {
            "a parameter or result that is not an integer of up to 64 bits"
        } else {
            return Ok(());
        };
        Err(BackendError::Unsupported {
            what: what.to_owned(),
            insn: format!("function {}", self.func.name),
            srcloc: None,
        })
    }

    /// Takes the parameters of the entry block from their registers.
    pub(super) fn arguments(&mut self, entry: Block) {
        let params = self.func.dfg.block_params(entry);
        let Some(last) = params.iter().rposition(|&param| self.used[param]) else {
            return;
        };
        let mut defs = Vec::new();
        let mut copies = Vec::new();
        for &param in &params[..=last] {
            let vreg = self.vreg(param);
            if self.crosses_call(param) {
                let src = self.fresh();
                copies.push(VInsn::CopyIn { dst: vreg, src });
                defs.push(src);
            } else {
                defs.push(vreg);
            }
        }
        self.srcloc = !0;
        self.emit(VInsn::Args { defs });
        self.seq.extend(copies);
        self.flush();
    }

    pub(super) fn call(&mut self, inst: Inst) -> Lowered<()> {
        let func = self.func;
        let InstructionData::Call { func_ref, .. } = func.dfg.insts[inst] else {
            return Err(self.unsupported(inst, "not a call"));
        };
        let callee = match Symbol::from_external(func, &func.dfg.ext_funcs[func_ref].name) {
            Some(Symbol::Helper(id)) => Callee::Helper(id),
            Some(Symbol::Kfunc(idx)) => Callee::Kfunc(idx),
            Some(Symbol::Subprog(idx)) => Callee::Subprog(idx),
            _ => return Err(self.unsupported(inst, "a callee that is no function")),
        };
        let values = func.dfg.inst_args(inst);
        let results = func.dfg.inst_results(inst);
        if values.len() > MAX_ARGS {
            return Err(self.unsupported(inst, "more than five arguments"));
        }
        if results.len() > 1 {
            return Err(self.unsupported(inst, "more than one result"));
        }
        let mut args = Vec::with_capacity(values.len());
        for &value in values {
            args.push(self.argument(value)?);
        }
        let used_result = results.first().copied().filter(|&result| self.used[result]);
        let Some(value) = used_result else {
            let result = None;
            self.emit(VInsn::Call {
                callee,
                args,
                result,
            });
            return Ok(());
        };
        let dst = self.vreg(value);
        if self.crosses_call(value) {
            let src = self.fresh();
            let result = Some(src);
            self.emit(VInsn::Call {
                callee,
                args,
                result,
            });
            self.emit(VInsn::CopyIn { dst, src });
        } else {
            let result = Some(dst);
            self.emit(VInsn::Call {
                callee,
                args,
                result,
            });
        }
        Ok(())
    }

    /// The register of an argument, which the call is going to lose.
    fn argument(&mut self, value: Value) -> Lowered<VReg> {
        let src = self.use_reg(value)?;
        let value = self.resolve(value);
        if self.vregs[value] != Some(src) || !self.crosses_call(value) {
            return Ok(src);
        }
        let dst = self.fresh();
        self.emit(VInsn::CopyOut { dst, src });
        Ok(dst)
    }

    pub(super) fn conditional_trap(&mut self, inst: Inst) -> Lowered<()> {
        let InstructionData::CondTrap { opcode, arg, .. } = self.func.dfg.insts[inst] else {
            return Err(self.unsupported(inst, "not a conditional trap"));
        };
        let mut test = self.test(arg)?;
        if opcode == Opcode::Trapz {
            test = test.not();
        }
        if test.negated {
            // Only bit tests have no opposite: make the bits, and compare them with 0.
            let Cond {
                width, lhs, rhs, ..
            } = test.cond;
            let lhs = self.alu(AluOp::And, width, lhs, rhs);
            test.cond = Cond {
                op: JmpOp::Eq,
                width,
                lhs,
                rhs: VSrc::Imm(0),
            };
        }
        self.emit(VInsn::TrapIf { cond: test.cond });
        Ok(())
    }

    pub(super) fn terminator(&mut self, inst: Inst) -> Lowered<()> {
        let func = self.func;
        match func.dfg.insts[inst] {
            InstructionData::Jump { destination, .. } => self.jump(destination),
            InstructionData::Brif {
                arg,
                blocks: [then, otherwise],
                ..
            } => self.branch(arg, then, otherwise),
            InstructionData::BranchTable { arg, table, .. } => self.branch_table(arg, table),
            InstructionData::MultiAry {
                opcode: Opcode::Return,
                ..
            } => {
                match func.dfg.inst_args(inst) {
                    [] => self.emit(VInsn::Trap),
                    [value] => {
                        let value = self.use_reg(*value)?;
                        self.emit(VInsn::Ret { value });
                    }
                    _ => return Err(self.unsupported(inst, "more than one result")),
                }
                Ok(())
            }
            InstructionData::Trap {
                opcode: Opcode::Trap,
                ..
            } => {
                self.emit(VInsn::Trap);
                Ok(())
            }
            _ => Err(self.unsupported(inst, "a way out of a block that BPF does not have")),
        }
    }

    fn jump(&mut self, destination: BlockCall) -> Lowered<()> {
        let lists = &self.func.dfg.value_lists;
        let block = destination.block(lists);
        let mut args = Vec::new();
        for arg in destination.args(lists) {
            let BlockArg::Value(value) = arg else {
                return Err(BackendError::Unsupported {
                    what: "a branch argument that is no value".to_owned(),
                    insn: format!("{block}"),
                    srcloc: None,
                });
            };
            args.push(self.use_reg(value)?);
        }
        self.emit(VInsn::Jump);
        let target = self.block_idx[block];
        self.set_succs(vec![Edge { target, args }]);
        Ok(())
    }

    /// Where a branch with several targets has to go for this one: to the block itself, or to a
    /// new block with the moves of block arguments, if there are any or if other branches lead there.
    fn edge(&mut self, destination: BlockCall) -> Lowered<BlockIdx> {
        let lists = &self.func.dfg.value_lists;
        let block = destination.block(lists);
        if destination.len(lists) == 0 && self.n_preds[block] == 1 {
            return Ok(self.block_idx[block]);
        }
        let edge = self.new_block();
        let outer = std::mem::replace(&mut self.current, edge);
        let outer_seq = std::mem::take(&mut self.seq);
        let result = self.jump(destination);
        self.flush();
        self.seq = outer_seq;
        self.current = outer;
        result.map(|()| edge)
    }

    fn branch(&mut self, value: Value, then: BlockCall, otherwise: BlockCall) -> Lowered<()> {
        if let Some(constant) = self.constant(value) {
            return self.jump(if constant != 0 { then } else { otherwise });
        }
        let (then, otherwise) = (self.edge(then)?, self.edge(otherwise)?);
        let test = self.test(value)?;
        let (then, otherwise) = if test.negated {
            (otherwise, then)
        } else {
            (then, otherwise)
        };
        self.emit_branch(test.cond, then, otherwise);
        Ok(())
    }

    fn emit_branch(&mut self, cond: Cond, then: BlockIdx, otherwise: BlockIdx) {
        self.emit(VInsn::Branch { cond });
        let edge = |target| Edge {
            target,
            args: Vec::new(),
        };
        self.set_succs(vec![edge(then), edge(otherwise)]);
    }

    /// A chain of comparisons.
    fn branch_table(&mut self, value: Value, table: JumpTable) -> Lowered<()> {
        let table = &self.func.dfg.jump_tables[table];
        let entries: Vec<BlockCall> = table.as_slice().to_vec();
        let default = table.default_block();
        if entries.is_empty() {
            return self.jump(default);
        }
        let mut targets = Vec::with_capacity(entries.len());
        for &entry in &entries {
            targets.push(self.edge(entry)?);
        }
        let mut otherwise = self.edge(default)?;
        let lhs = self.zext_reg(value)?;
        let first = self.current;
        let mut setup = std::mem::take(&mut self.seq);
        for (idx, &target) in targets.iter().enumerate().rev() {
            self.current = if idx == 0 { first } else { self.new_block() };
            let imm = (idx as u64 & mask(self.ty(value))) as i32;
            let cond = Cond {
                op: JmpOp::Eq,
                width: Width::W64,
                lhs,
                rhs: VSrc::Imm(imm),
            };
            if idx == 0 {
                self.seq = std::mem::take(&mut setup);
            }
            self.emit_branch(cond, target, otherwise);
            if idx != 0 {
                self.flush();
            }
            otherwise = self.current;
        }
        Ok(())
    }
}
