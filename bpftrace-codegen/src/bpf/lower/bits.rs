//! Bitwise logic, shifts, counting, byte order, widening and narrowing.

use cranelift_codegen::ir::{Inst, InstructionData, Opcode, Value, types};
use regalloc2::VReg;

use super::{Lower, Lowered};
use crate::bpf::insn::{AluOp, Endian, Width};
use crate::bpf::vcode::{VInsn, VSrc};

impl Lower<'_> {
    pub(super) fn bits(&mut self, inst: Inst) -> Lowered<()> {
        match self.func.dfg.insts[inst] {
            InstructionData::Binary {
                opcode,
                args: [lhs, rhs],
            } => match opcode {
                Opcode::Band => self.and(inst, lhs, rhs),
                Opcode::Bor => self.commutative(inst, AluOp::Or, lhs, rhs),
                Opcode::Bxor => self.commutative(inst, AluOp::Xor, lhs, rhs),
                Opcode::Ishl | Opcode::Ushr | Opcode::Sshr => self.shift(inst, opcode, lhs, rhs),
                _ => self.rotate(inst, opcode, lhs, rhs),
            },
            InstructionData::Ternary {
                opcode: Opcode::Bitselect,
                args: [cond, lhs, rhs],
            } => {
                // ((lhs ^ rhs) & cond) ^ rhs
                let width = self.width(cond);
                let (cond, lhs, rhs) =
                    (self.use_reg(cond)?, self.use_reg(lhs)?, self.use_reg(rhs)?);
                let differ = self.alu(AluOp::Xor, width, lhs, VSrc::Reg(rhs));
                let chosen = self.alu(AluOp::And, width, differ, VSrc::Reg(cond));
                let dst = self.def(inst);
                self.alu_to(dst, AluOp::Xor, width, chosen, VSrc::Reg(rhs));
                Ok(())
            }
            InstructionData::Unary { opcode, arg } => self.unary_bits(inst, opcode, arg),
            InstructionData::LoadNoOffset {
                opcode: Opcode::Bitcast,
                arg,
                ..
            } => {
                let (src, dst) = (self.use_reg(arg)?, self.def(inst));
                self.emit(VInsn::Mov {
                    width: Width::W64,
                    dst,
                    src: VSrc::Reg(src),
                });
                Ok(())
            }
            _ => Err(self.unsupported(inst, "not a bit operation")),
        }
    }

    fn unary_bits(&mut self, inst: Inst, opcode: Opcode, arg: Value) -> Lowered<()> {
        let ty = self.ty(arg);
        let bits = ty.bits() as i32;
        match opcode {
            Opcode::Bnot => {
                let (width, src) = (self.width(arg), self.use_reg(arg)?);
                let dst = self.def(inst);
                self.alu_to(dst, AluOp::Xor, width, src, VSrc::Imm(-1));
            }
            Opcode::Uextend if ty == types::I32 && self.patch(arg).is_some() => {
                let src = self.alu_src(arg)?;
                let dst = self.def(inst);
                self.emit(VInsn::Mov {
                    width: Width::W32,
                    dst,
                    src,
                });
            }
            Opcode::Uextend => {
                let (src, dst) = (self.use_reg(arg)?, self.def(inst));
                self.zext_to(dst, src, ty);
            }
            Opcode::Sextend => {
                let (src, dst) = (self.use_reg(arg)?, self.def(inst));
                self.sext_to(dst, src, ty.bits());
            }
            Opcode::Ireduce => {
                // `resolve` looks through it, but its own register may be asked for.
                let (src, dst) = (self.use_reg(arg)?, self.def(inst));
                self.emit(VInsn::Mov {
                    width: Width::W64,
                    dst,
                    src: VSrc::Reg(src),
                });
            }
            Opcode::Bswap => {
                let (src, dst) = (self.use_reg(arg)?, self.def(inst));
                self.emit(VInsn::ByteOrder {
                    order: Endian::Big,
                    bits: bits as u8,
                    dst,
                    src,
                });
            }
            Opcode::Clz => {
                let src = self.zext_reg(arg)?;
                let length = self.bit_length(src, ty.bits());
                let total = self.load_constant(ty.bits().into());
                let dst = self.def(inst);
                self.alu_to(dst, AluOp::Sub, Width::W64, total, VSrc::Reg(length));
            }
            Opcode::Ctz => {
                // (x & -x) - 1 has as many ones as x has trailing zeros, all of them below.
                let src = self.use_reg(arg)?;
                let below = self.alu_imm(AluOp::Sub, Width::W64, src, 1);
                let flipped = self.alu_imm(AluOp::Xor, Width::W64, src, -1);
                let ones = self.alu(AluOp::And, Width::W64, flipped, VSrc::Reg(below));
                let ones = self.mask_to(ones, bits);
                let dst = self.def(inst);
                let length = self.bit_length(ones, ty.bits());
                self.emit(VInsn::Mov {
                    width: Width::W64,
                    dst,
                    src: VSrc::Reg(length),
                });
            }
            Opcode::Popcnt => {
                let src = self.zext_reg(arg)?;
                let dst = self.def(inst);
                self.popcount(dst, src);
            }
            Opcode::Cls => {
                // Copies of the sign after the sign itself: clz(x ^ sign) - 1.
                let src = self.sext_reg(arg)?;
                let sign = self.alu_imm(AluOp::Arsh, Width::W64, src, 63);
                let plain = self.alu(AluOp::Xor, Width::W64, src, VSrc::Reg(sign));
                let length = self.bit_length(plain, ty.bits());
                let total = self.load_constant(ty.bits() as u64 - 1);
                let dst = self.def(inst);
                self.alu_to(dst, AluOp::Sub, Width::W64, total, VSrc::Reg(length));
            }
            _ => return Err(self.unsupported(inst, format!("no instructions for {opcode}"))),
        }
        Ok(())
    }

    /// Clears all but the low `bits` bits.
    fn mask_to(&mut self, value: VReg, bits: i32) -> VReg {
        match bits {
            64 => value,
            32 => {
                let dst = self.fresh();
                self.emit(VInsn::Mov {
                    width: Width::W32,
                    dst,
                    src: VSrc::Reg(value),
                });
                dst
            }
            _ => self.alu_imm(AluOp::And, Width::W64, value, (1 << bits) - 1),
        }
    }

    /// Masks that select the low 32 bits are a 32-bit move, and masks of 32 bits on values of 32
    /// bits are 32-bit instructions: neither then needs the mask in a register.
    fn and(&mut self, inst: Inst, lhs: Value, rhs: Value) -> Lowered<()> {
        let (value, constant) = match (self.constant(lhs), self.constant(rhs)) {
            (_, Some(constant)) => (lhs, constant),
            (Some(constant), None) => (rhs, constant),
            (None, None) => return self.commutative(inst, AluOp::And, lhs, rhs),
        };
        let is_wide = self.ty(lhs) == types::I64;
        if is_wide && constant == u64::from(u32::MAX) {
            let (src, dst) = (self.use_reg(value)?, self.def(inst));
            self.zext_to(dst, src, types::I32);
            return Ok(());
        }
        let fits_only_32 =
            i32::try_from(constant as i64).is_err() && u32::try_from(constant).is_ok();
        if is_wide && fits_only_32 {
            // The upper half of the result is 0 either way.
            let (src, dst) = (self.use_reg(value)?, self.def(inst));
            let rhs = VSrc::Imm(constant as u32 as i32);
            self.alu_to(dst, AluOp::And, Width::W32, src, rhs);
            return Ok(());
        }
        self.commutative(inst, AluOp::And, lhs, rhs)
    }

    fn shift(&mut self, inst: Inst, opcode: Opcode, lhs: Value, rhs: Value) -> Lowered<()> {
        let ty = self.ty(lhs);
        let bits = ty.bits();
        let (op, width) = match opcode {
            Opcode::Ishl => (AluOp::Lsh, self.width(lhs)),
            Opcode::Ushr => (AluOp::Rsh, self.width(lhs)),
            _ => (AluOp::Arsh, self.width(lhs)),
        };
        if let Some(amount) = self.constant(rhs) {
            let amount = (amount % u64::from(bits)) as i32;
            let (src, amount) = match opcode {
                Opcode::Ushr if bits < 32 => (self.zext_reg(lhs)?, amount),
                Opcode::Sshr if bits < 32 => {
                    // The value's sign goes to bit 31 and the surplus is shifted out again.
                    let up = 32 - bits as i32;
                    let src = self.use_reg(lhs)?;
                    (self.alu_imm(AluOp::Lsh, Width::W32, src, up), amount + up)
                }
                _ => (self.use_reg(lhs)?, amount),
            };
            let dst = self.def(inst);
            self.alu_to(dst, op, width, src, VSrc::Imm(amount));
            return Ok(());
        }
        let amount = match self.patch(rhs) {
            Some(patch) => VSrc::Patch(patch),
            None => {
                let amount = self.use_reg(rhs)?;
                // BPF takes the amount modulo the instruction's width.
                VSrc::Reg(if bits < 32 {
                    self.alu_imm(AluOp::And, Width::W64, amount, bits as i32 - 1)
                } else {
                    amount
                })
            }
        };
        let src = match opcode {
            Opcode::Ushr if bits < 32 => self.zext_reg(lhs)?,
            Opcode::Sshr if bits < 32 => self.sext_reg(lhs)?,
            _ => self.use_reg(lhs)?,
        };
        let dst = self.def(inst);
        self.alu_to(dst, op, width, src, amount);
        Ok(())
    }

    /// `x << n | x >> (bits - n)`, with both amounts taken modulo the type's width.
    fn rotate(&mut self, inst: Inst, opcode: Opcode, lhs: Value, rhs: Value) -> Lowered<()> {
        let bits = self.ty(lhs).bits() as i32;
        let width = self.width(lhs);
        let src = self.zext_reg(lhs)?;
        let (left, right) = match self.constant(rhs) {
            Some(amount) => {
                let amount = (amount % bits as u64) as i32;
                let other = (bits - amount) % bits;
                if opcode == Opcode::Rotl {
                    (VSrc::Imm(amount), VSrc::Imm(other))
                } else {
                    (VSrc::Imm(other), VSrc::Imm(amount))
                }
            }
            None => {
                let amount = self.use_reg(rhs)?;
                let amount = self.alu_imm(AluOp::And, Width::W64, amount, bits - 1);
                let other = self.fresh();
                self.emit(VInsn::Neg {
                    width: Width::W64,
                    dst: other,
                    src: amount,
                });
                let other = self.alu_imm(AluOp::And, Width::W64, other, bits - 1);
                if opcode == Opcode::Rotl {
                    (VSrc::Reg(amount), VSrc::Reg(other))
                } else {
                    (VSrc::Reg(other), VSrc::Reg(amount))
                }
            }
        };
        let high = self.alu(AluOp::Lsh, width, src, left);
        let low = self.alu(AluOp::Rsh, width, src, right);
        let dst = self.def(inst);
        self.alu_to(dst, AluOp::Or, width, high, VSrc::Reg(low));
        Ok(())
    }

    /// How many bits the number takes: 0 for 0, `bits` at most. Without branches, which would
    /// double the verifier's work at each step. `value` is zero-extended.
    fn bit_length(&mut self, value: VReg, bits: u32) -> VReg {
        let mut rest = value;
        let mut total: Option<VReg> = None;
        // Halve the width down to 4 bits: if anything is in the upper half, go on with that.
        let mut half = bits / 2;
        while half >= 4 {
            let step = if half == 32 {
                // All ones above bit 31 if the upper half is not 0; its negative has the sign set.
                let upper = self.alu_imm(AluOp::Rsh, Width::W64, rest, 32);
                let sign = self.fresh();
                self.emit(VInsn::Neg {
                    width: Width::W64,
                    dst: sign,
                    src: upper,
                });
                sign
            } else {
                // Both are below 2^32, so the difference is negative exactly if rest is larger.
                let limit = self.load_constant((1 << half) - 1);
                self.alu(AluOp::Sub, Width::W64, limit, VSrc::Reg(rest))
            };
            let step = self.alu_imm(AluOp::Rsh, Width::W64, step, 63);
            let step = self.alu_imm(AluOp::Lsh, Width::W64, step, half.trailing_zeros() as i32);
            rest = self.alu(AluOp::Rsh, Width::W64, rest, VSrc::Reg(step));
            total = Some(match total {
                Some(total) => self.alu(AluOp::Add, Width::W64, total, VSrc::Reg(step)),
                None => step,
            });
            half /= 2;
        }
        // The lengths of 0 to 15, four bits each.
        let table = self.load_constant(0x4444_4444_3333_2210);
        let entry = self.alu_imm(AluOp::Lsh, Width::W64, rest, 2);
        let length = self.alu(AluOp::Rsh, Width::W64, table, VSrc::Reg(entry));
        let length = self.alu_imm(AluOp::And, Width::W64, length, 7);
        match total {
            Some(total) => self.alu(AluOp::Add, Width::W64, length, VSrc::Reg(total)),
            None => length,
        }
    }

    /// Sums in fields of 2, 4 and 8 bits, and then all bytes by one multiplication.
    fn popcount(&mut self, dst: VReg, value: VReg) {
        let w = Width::W64;
        let ones = self.load_constant(0x5555_5555_5555_5555);
        let odd = self.alu_imm(AluOp::Rsh, w, value, 1);
        let odd = self.alu(AluOp::And, w, odd, VSrc::Reg(ones));
        let pairs = self.alu(AluOp::Sub, w, value, VSrc::Reg(odd));
        let threes = self.load_constant(0x3333_3333_3333_3333);
        let high = self.alu_imm(AluOp::Rsh, w, pairs, 2);
        let high = self.alu(AluOp::And, w, high, VSrc::Reg(threes));
        let low = self.alu(AluOp::And, w, pairs, VSrc::Reg(threes));
        let nibbles = self.alu(AluOp::Add, w, low, VSrc::Reg(high));
        let high = self.alu_imm(AluOp::Rsh, w, nibbles, 4);
        let sums = self.alu(AluOp::Add, w, nibbles, VSrc::Reg(high));
        let low_nibbles = self.load_constant(0x0f0f_0f0f_0f0f_0f0f);
        let bytes = self.alu(AluOp::And, w, sums, VSrc::Reg(low_nibbles));
        let every_byte = self.load_constant(0x0101_0101_0101_0101);
        let product = self.alu(AluOp::Mul, w, bytes, VSrc::Reg(every_byte));
        self.alu_to(dst, AluOp::Rsh, w, product, VSrc::Imm(56));
    }
}
