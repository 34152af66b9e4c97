//! Addition, subtraction, multiplication, division.

use cranelift_codegen::ir::{Inst, InstructionData, Opcode, Value, types};
use regalloc2::VReg;

use super::{Lower, Lowered};
use crate::bpf::insn::{AluOp, Width};
use crate::bpf::vcode::{VInsn, VSrc};

impl Lower<'_> {
    pub(super) fn arith(&mut self, inst: Inst) -> Lowered<()> {
        match self.func.dfg.insts[inst] {
            InstructionData::Binary {
                opcode,
                args: [lhs, rhs],
            } => match opcode {
                Opcode::Iadd => self.commutative(inst, AluOp::Add, lhs, rhs),
                Opcode::Imul => self.commutative(inst, AluOp::Mul, lhs, rhs),
                Opcode::Isub => self.binary(inst, AluOp::Sub, lhs, rhs),
                Opcode::Udiv | Opcode::Urem => self.unsigned_division(inst, opcode, lhs, rhs),
                Opcode::Sdiv | Opcode::Srem => self.signed_division(inst, opcode, lhs, rhs),
                _ => self.multiply_high(inst, opcode, lhs, rhs),
            },
            InstructionData::Unary {
                opcode: Opcode::Ineg,
                arg,
            } => {
                let (width, src) = (self.width(arg), self.use_reg(arg)?);
                let dst = self.def(inst);
                self.emit(VInsn::Neg { width, dst, src });
                Ok(())
            }
            InstructionData::Unary {
                opcode: Opcode::Iabs,
                arg,
            } => {
                let src = self.sext_reg(arg)?;
                let sign = self.alu_imm(AluOp::Arsh, Width::W64, src, 63);
                let flipped = self.alu(AluOp::Xor, Width::W64, src, VSrc::Reg(sign));
                let dst = self.def(inst);
                self.alu_to(dst, AluOp::Sub, Width::W64, flipped, VSrc::Reg(sign));
                Ok(())
            }
            _ => Err(self.unsupported(inst, "not arithmetic")),
        }
    }

    pub(super) fn alu_to(&mut self, dst: VReg, op: AluOp, width: Width, lhs: VReg, rhs: VSrc) {
        self.emit(VInsn::Alu {
            op,
            width,
            dst,
            lhs,
            rhs,
        });
    }

    /// One instruction of the type's width. The upper bits of the operands do not matter.
    pub(super) fn binary(&mut self, inst: Inst, op: AluOp, lhs: Value, rhs: Value) -> Lowered<()> {
        let width = self.width(lhs);
        let rhs = self.alu_src(rhs)?;
        let lhs = self.use_reg(lhs)?;
        let dst = self.def(inst);
        self.alu_to(dst, op, width, lhs, rhs);
        Ok(())
    }

    /// The same, with the operands in the order that saves a move: constants on the right, and on
    /// the left the one that is not needed any more.
    pub(super) fn commutative(
        &mut self,
        inst: Inst,
        op: AluOp,
        lhs: Value,
        rhs: Value,
    ) -> Lowered<()> {
        let folds =
            |lower: &Self, value| lower.constant(value).is_some() || lower.patch(value).is_some();
        let swap = if folds(self, rhs) {
            false
        } else {
            folds(self, lhs) || (self.is_used_later(lhs) && !self.is_used_later(rhs))
        };
        let (lhs, rhs) = if swap { (rhs, lhs) } else { (lhs, rhs) };
        self.binary(inst, op, lhs, rhs)
    }

    fn unsigned_division(
        &mut self,
        inst: Inst,
        opcode: Opcode,
        lhs: Value,
        rhs: Value,
    ) -> Lowered<()> {
        let op = if opcode == Opcode::Udiv {
            AluOp::Div
        } else {
            AluOp::Mod
        };
        let dividend = self.divisor_extended(lhs)?;
        if self.constant(rhs) == Some(0) {
            // The verifier refuses an immediate 0; the result is defined all the same.
            let dst = self.def(inst);
            if opcode == Opcode::Udiv {
                self.load_constant_to(dst, 0);
            } else {
                self.emit(VInsn::Mov {
                    width: Width::W64,
                    dst,
                    src: VSrc::Reg(dividend),
                });
            }
            return Ok(());
        }
        let width = self.width(lhs);
        let divisor = match self.cmp_src(rhs, width)? {
            VSrc::Reg(_) => VSrc::Reg(self.divisor_extended(rhs)?),
            imm => imm,
        };
        let dst = self.def(inst);
        self.alu_to(dst, op, width, dividend, divisor);
        Ok(())
    }

    /// 32-bit division ignores the upper half, so only narrower types need extension.
    fn divisor_extended(&mut self, value: Value) -> Lowered<VReg> {
        if self.ty(value) == types::I32 {
            self.use_reg(value)
        } else {
            self.zext_reg(value)
        }
    }

    /// Divides absolute values, and gives the result its sign: that of the dividend for a
    /// remainder, negative for a quotient if the operands' signs differ.
    fn signed_division(
        &mut self,
        inst: Inst,
        opcode: Opcode,
        lhs: Value,
        rhs: Value,
    ) -> Lowered<()> {
        let dividend = self.sext_reg(lhs)?;
        let sign = self.alu_imm(AluOp::Arsh, Width::W64, dividend, 63);
        let dividend = self.absolute(dividend, sign);
        let (divisor, sign) = match self.constant_signed(rhs) {
            Some(constant) => {
                let divisor = constant.unsigned_abs();
                let divisor = match i32::try_from(divisor) {
                    Ok(imm) if imm != 0 => VSrc::Imm(imm),
                    _ => VSrc::Reg(self.load_constant(divisor)),
                };
                let negative = opcode == Opcode::Sdiv && constant < 0;
                let sign = if negative {
                    self.alu_imm(AluOp::Xor, Width::W64, sign, -1)
                } else {
                    sign
                };
                (divisor, sign)
            }
            None => {
                let divisor = self.sext_reg(rhs)?;
                let divisor_sign = self.alu_imm(AluOp::Arsh, Width::W64, divisor, 63);
                let absolute = VSrc::Reg(self.absolute(divisor, divisor_sign));
                let sign = match opcode {
                    Opcode::Sdiv => self.alu(AluOp::Xor, Width::W64, sign, VSrc::Reg(divisor_sign)),
                    _ => sign,
                };
                (absolute, sign)
            }
        };
        let op = if opcode == Opcode::Sdiv {
            AluOp::Div
        } else {
            AluOp::Mod
        };
        let unsigned = self.alu(op, Width::W64, dividend, divisor);
        let flipped = self.alu(AluOp::Xor, Width::W64, unsigned, VSrc::Reg(sign));
        let dst = self.def(inst);
        self.alu_to(dst, AluOp::Sub, Width::W64, flipped, VSrc::Reg(sign));
        Ok(())
    }

    /// The absolute value, given the sign as 0 or -1.
    fn absolute(&mut self, value: VReg, sign: VReg) -> VReg {
        let flipped = self.alu(AluOp::Xor, Width::W64, value, VSrc::Reg(sign));
        self.alu(AluOp::Sub, Width::W64, flipped, VSrc::Reg(sign))
    }

    /// Upper half of the product. The mid-end makes it of divisions by what turned out to be a
    /// constant.
    fn multiply_high(&mut self, inst: Inst, opcode: Opcode, lhs: Value, rhs: Value) -> Lowered<()> {
        let ty = self.ty(lhs);
        if ty == types::I64 {
            return self.multiply_high_64(inst, opcode, lhs, rhs);
        }
        let (lhs, rhs) = match opcode {
            Opcode::Umulhi => (self.zext_reg(lhs)?, self.zext_reg(rhs)?),
            _ => (self.sext_reg(lhs)?, self.sext_reg(rhs)?),
        };
        let product = self.alu(AluOp::Mul, Width::W64, lhs, VSrc::Reg(rhs));
        let dst = self.def(inst);
        self.alu_to(
            dst,
            AluOp::Rsh,
            Width::W64,
            product,
            VSrc::Imm(ty.bits() as i32),
        );
        Ok(())
    }

    /// Four products of 32-bit halves, added up in columns of 32 bits.
    fn multiply_high_64(
        &mut self,
        inst: Inst,
        opcode: Opcode,
        lhs: Value,
        rhs: Value,
    ) -> Lowered<()> {
        let w = Width::W64;
        let (lhs, rhs) = (self.use_reg(lhs)?, self.use_reg(rhs)?);
        let (lhs_low, lhs_high) = (self.low_half(lhs), self.alu_imm(AluOp::Rsh, w, lhs, 32));
        let (rhs_low, rhs_high) = (self.low_half(rhs), self.alu_imm(AluOp::Rsh, w, rhs, 32));
        let low = self.alu(AluOp::Mul, w, lhs_low, VSrc::Reg(rhs_low));
        let carry = self.alu_imm(AluOp::Rsh, w, low, 32);
        let middle = self.alu(AluOp::Mul, w, lhs_high, VSrc::Reg(rhs_low));
        let middle = self.alu(AluOp::Add, w, middle, VSrc::Reg(carry));
        let middle_low = self.low_half(middle);
        let middle_high = self.alu_imm(AluOp::Rsh, w, middle, 32);
        let cross = self.alu(AluOp::Mul, w, lhs_low, VSrc::Reg(rhs_high));
        let cross = self.alu(AluOp::Add, w, cross, VSrc::Reg(middle_low));
        let cross_high = self.alu_imm(AluOp::Rsh, w, cross, 32);
        let high = self.alu(AluOp::Mul, w, lhs_high, VSrc::Reg(rhs_high));
        let high = self.alu(AluOp::Add, w, high, VSrc::Reg(middle_high));
        if opcode == Opcode::Umulhi {
            let dst = self.def(inst);
            self.alu_to(dst, AluOp::Add, w, high, VSrc::Reg(cross_high));
            return Ok(());
        }
        // A negative factor counted 2^64 too much: take the other factor off the upper half.
        let high = self.alu(AluOp::Add, w, high, VSrc::Reg(cross_high));
        let lhs_sign = self.alu_imm(AluOp::Arsh, w, lhs, 63);
        let surplus = self.alu(AluOp::And, w, lhs_sign, VSrc::Reg(rhs));
        let high = self.alu(AluOp::Sub, w, high, VSrc::Reg(surplus));
        let rhs_sign = self.alu_imm(AluOp::Arsh, w, rhs, 63);
        let surplus = self.alu(AluOp::And, w, rhs_sign, VSrc::Reg(lhs));
        let dst = self.def(inst);
        self.alu_to(dst, AluOp::Sub, w, high, VSrc::Reg(surplus));
        Ok(())
    }

    fn low_half(&mut self, value: VReg) -> VReg {
        let dst = self.fresh();
        self.zext_to(dst, value, types::I32);
        dst
    }
}
