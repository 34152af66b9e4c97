//! Loads, stores and atomics, and the folding of addresses into them.

use cranelift_codegen::ir::{
    AtomicRmwOp, Endianness, Inst, InstructionData, MemFlags, Opcode, Type, Value, types,
};
use regalloc2::VReg;

use super::{Lower, Lowered};
use crate::bpf::insn::{AluOp, AtomicOp, Size, Width};
use crate::bpf::vcode::{Addr, Base, Offset, VInsn, VSrc};

impl Lower<'_> {
    pub(super) fn memory(&mut self, inst: Inst) -> Lowered<()> {
        let func = self.func;
        match func.dfg.insts[inst] {
            InstructionData::Load {
                opcode,
                arg,
                flags,
                offset,
            } => {
                self.check_flags(inst, flags)?;
                let (ty, signed) = match opcode {
                    Opcode::Load => (self.ty(self.result(inst)), false),
                    Opcode::Uload8 => (types::I8, false),
                    Opcode::Sload8 => (types::I8, true),
                    Opcode::Uload16 => (types::I16, false),
                    Opcode::Sload16 => (types::I16, true),
                    Opcode::Uload32 => (types::I32, false),
                    _ => (types::I32, true),
                };
                self.load(inst, ty, signed, arg, i64::from(i32::from(offset)))
            }
            InstructionData::LoadNoOffset {
                opcode: Opcode::AtomicLoad,
                arg,
                flags,
            } => {
                self.check_flags(inst, flags)?;
                self.load(inst, self.ty(self.result(inst)), false, arg, 0)
            }
            InstructionData::Store {
                opcode,
                args: [value, base],
                flags,
                offset,
            } => {
                self.check_flags(inst, flags)?;
                let ty = match opcode {
                    Opcode::Store => self.ty(value),
                    Opcode::Istore8 => types::I8,
                    Opcode::Istore16 => types::I16,
                    _ => types::I32,
                };
                self.store(inst, ty, value, base, i64::from(i32::from(offset)))
            }
            InstructionData::StoreNoOffset {
                args: [value, base],
                flags,
                ..
            } => {
                self.check_flags(inst, flags)?;
                self.store(inst, self.ty(value), value, base, 0)
            }
            InstructionData::AtomicRmw {
                args: [base, operand],
                flags,
                op,
                ..
            } => {
                self.check_flags(inst, flags)?;
                self.atomic_rmw(inst, op, base, operand)
            }
            InstructionData::AtomicCas {
                args: [base, expected, value],
                flags,
                ..
            } => {
                self.check_flags(inst, flags)?;
                let width = self.atomic_width(inst, value)?;
                let (expected, src) = (self.use_reg(expected)?, self.use_reg(value)?);
                let addr = self.address(base, 0)?;
                let dst = self.def(inst);
                self.emit(VInsn::CmpXchg {
                    width,
                    dst,
                    addr,
                    expected,
                    src,
                });
                Ok(())
            }
            _ => Err(self.unsupported(inst, "not a memory access")),
        }
    }

    fn check_flags(&self, inst: Inst, flags: MemFlags) -> Lowered<()> {
        match self.func.dfg.mem_flags[flags].explicit_endianness() {
            Some(Endianness::Big) => Err(self.unsupported(inst, "big-endian memory access")),
            _ => Ok(()),
        }
    }

    fn size(&self, inst: Inst, ty: Type) -> Lowered<Size> {
        match ty {
            types::I8 => Ok(Size::B),
            types::I16 => Ok(Size::H),
            types::I32 => Ok(Size::W),
            types::I64 => Ok(Size::Dw),
            _ => Err(self.unsupported(inst, format!("memory access of type {ty}"))),
        }
    }

    fn load(
        &mut self,
        inst: Inst,
        ty: Type,
        signed: bool,
        base: Value,
        offset: i64,
    ) -> Lowered<()> {
        let dst = self.def(inst);
        if signed {
            let loaded = self.fresh();
            self.load_to(inst, loaded, ty, base, offset)?;
            self.sext_to(dst, loaded, ty.bits());
            return Ok(());
        }
        self.load_to(inst, dst, ty, base, offset)
    }

    pub(super) fn load_to(
        &mut self,
        inst: Inst,
        dst: VReg,
        ty: Type,
        base: Value,
        offset: i64,
    ) -> Lowered<()> {
        let size = self.size(inst, ty)?;
        let addr = self.address(base, offset)?;
        self.emit(VInsn::Load { size, dst, addr });
        Ok(())
    }

    fn store(
        &mut self,
        inst: Inst,
        ty: Type,
        value: Value,
        base: Value,
        offset: i64,
    ) -> Lowered<()> {
        let size = self.size(inst, ty)?;
        let imm = self.constant(value).and_then(|constant| match size {
            Size::Dw => i32::try_from(constant as i64).ok(),
            _ => Some(constant as u32 as i32),
        });
        let src = match imm {
            Some(imm) => VSrc::Imm(imm),
            None => VSrc::Reg(self.use_reg(value)?),
        };
        let addr = self.address(base, offset)?;
        self.emit(VInsn::Store { size, addr, src });
        Ok(())
    }

    fn atomic_width(&self, inst: Inst, value: Value) -> Lowered<Width> {
        match self.ty(value) {
            types::I32 => Ok(Width::W32),
            types::I64 => Ok(Width::W64),
            ty => Err(self.unsupported(inst, format!("atomic operation of type {ty}"))),
        }
    }

    fn atomic_rmw(
        &mut self,
        inst: Inst,
        op: AtomicRmwOp,
        base: Value,
        operand: Value,
    ) -> Lowered<()> {
        let width = self.atomic_width(inst, operand)?;
        let mut src = self.use_reg(operand)?;
        let (plain, fetching) = match op {
            AtomicRmwOp::Add => (Some(AtomicOp::Add), AtomicOp::FetchAdd),
            AtomicRmwOp::Sub => {
                let dst = self.fresh();
                self.emit(VInsn::Neg { width, dst, src });
                src = dst;
                (Some(AtomicOp::Add), AtomicOp::FetchAdd)
            }
            AtomicRmwOp::And => (Some(AtomicOp::And), AtomicOp::FetchAnd),
            AtomicRmwOp::Or => (Some(AtomicOp::Or), AtomicOp::FetchOr),
            AtomicRmwOp::Xor => (Some(AtomicOp::Xor), AtomicOp::FetchXor),
            AtomicRmwOp::Xchg => (None, AtomicOp::Xchg),
            _ => return Err(self.unsupported(inst, format!("atomic {op}"))),
        };
        let addr = self.address(base, 0)?;
        let result = self.result(inst);
        match plain {
            Some(op) if !self.used[result] => self.emit(VInsn::Atomic {
                op,
                width,
                addr,
                src,
            }),
            _ => {
                let dst = self.def(inst);
                self.emit(VInsn::AtomicFetch {
                    op: fetching,
                    width,
                    dst,
                    addr,
                    src,
                });
            }
        }
        Ok(())
    }

    /// The address `base + offset`, with constant additions, stack slots and one patched constant
    /// folded in.
    fn address(&mut self, base: Value, offset: i64) -> Lowered<Addr> {
        let mut base = self.resolve(base);
        let mut offset = offset;
        let mut patched: Option<u32> = None;
        while let Some([lhs, rhs]) = self.as_binary(base, Opcode::Iadd) {
            // A narrower sum wraps around at its own width, even if it was widened then.
            if self.ty(base) != types::I64 {
                break;
            }
            let (next, addend) = match (self.constant_signed(lhs), self.constant_signed(rhs)) {
                (_, Some(addend)) => (lhs, addend),
                (Some(addend), None) => (rhs, addend),
                (None, None) => match (self.patch(lhs), self.patch(rhs)) {
                    (_, Some(patch)) if patched.is_none() => {
                        patched = Some(patch);
                        (lhs, 0)
                    }
                    (Some(patch), _) if patched.is_none() => {
                        patched = Some(patch);
                        (rhs, 0)
                    }
                    _ => break,
                },
            };
            let Some(sum) = offset.checked_add(addend) else {
                break;
            };
            if patched.is_none() && i16::try_from(sum).is_err() && self.symbol(base).is_none() {
                // Too far for the instruction; the sum may serve several of them.
                break;
            }
            if self.symbol(base).is_some() {
                // The symbol's own offset is free.
                break;
            }
            offset = sum;
            base = self.resolve(next);
        }
        let slot = match self.def_data(base) {
            Some(&InstructionData::StackAddr {
                stack_slot,
                offset: start,
                ..
            }) => Some((stack_slot, i64::from(i32::from(start)))),
            _ => None,
        };
        match (slot, patched) {
            (Some((slot, start)), None) => {
                if let Ok(offset) = i16::try_from(offset + start) {
                    return Ok(Addr {
                        base: Base::Slot(slot),
                        offset: Offset::Const(offset),
                    });
                }
            }
            (None, Some(patch)) if offset == 0 => {
                let base = Base::Reg(self.use_reg(base)?);
                return Ok(Addr {
                    base,
                    offset: Offset::Patch(patch),
                });
            }
            _ => {}
        }
        let mut reg = self.use_reg(base)?;
        if let Some(patch) = patched {
            reg = self.alu(AluOp::Add, Width::W64, reg, VSrc::Patch(patch));
        }
        let offset = match i16::try_from(offset) {
            Ok(offset) => offset,
            Err(_) => {
                let addend = match i32::try_from(offset) {
                    Ok(imm) => VSrc::Imm(imm),
                    Err(_) => VSrc::Reg(self.load_constant(offset as u64)),
                };
                reg = self.alu(AluOp::Add, Width::W64, reg, addend);
                0
            }
        };
        Ok(Addr {
            base: Base::Reg(reg),
            offset: Offset::Const(offset),
        })
    }
}
