//! Conditions: comparisons fused into their users, choices, minimum and maximum.

use cranelift_codegen::ir::condcodes::{CondCode, IntCC};
use cranelift_codegen::ir::{Inst, InstructionData, Opcode, Value, types};
use regalloc2::VReg;

use super::values::mask;
use super::{Lower, Lowered};
use crate::bpf::insn::{JmpOp, Width};
use crate::bpf::vcode::{Cond, VInsn, VSrc};

/// A test on a boolean. It holds when `cond` does, or when it does not if `negated`, which
/// is set only where no single jump tests the opposite.
#[derive(Clone, Copy)]
pub(super) struct Test {
    pub(super) cond: Cond,
    pub(super) negated: bool,
}

impl Test {
    fn plain(cond: Cond) -> Test {
        Test {
            cond,
            negated: false,
        }
    }

    pub(super) fn not(self) -> Test {
        match self.cond.op.inverse() {
            Some(op) => Test {
                cond: Cond { op, ..self.cond },
                negated: self.negated,
            },
            None => Test {
                negated: !self.negated,
                ..self
            },
        }
    }
}

impl Lower<'_> {
    pub(super) fn compare(&mut self, inst: Inst) -> Lowered<()> {
        match self.func.dfg.insts[inst] {
            InstructionData::IntCompare { cond, args, .. } => {
                let test = self.icmp_test(cond, args)?;
                self.select_constants(inst, test, 1, 0);
                Ok(())
            }
            InstructionData::Unary {
                opcode: Opcode::Bmask,
                arg,
            } => {
                let test = self.test(arg)?;
                let ones = mask(self.ty(self.result(inst)));
                self.select_constants(inst, test, ones, 0);
                Ok(())
            }
            InstructionData::Ternary {
                args: [cond, if_true, if_false],
                ..
            } => self.select(inst, cond, if_true, if_false),
            InstructionData::Binary { opcode, args } => self.min_max(inst, opcode, args),
            _ => Err(self.unsupported(inst, "not a comparison")),
        }
    }

    /// The test that `value` is not 0.
    pub(super) fn test(&mut self, value: Value) -> Lowered<Test> {
        let mut value = self.func.dfg.resolve_aliases(value);
        let mut negate = false;
        let test = loop {
            match self.def_data(value) {
                Some(&InstructionData::Unary {
                    opcode: Opcode::Uextend | Opcode::Sextend,
                    arg,
                }) => {
                    value = self.func.dfg.resolve_aliases(arg);
                }
                Some(&InstructionData::IntCompare {
                    cond,
                    args: [lhs, rhs],
                    ..
                }) => {
                    let is_equality = matches!(cond, IntCC::Equal | IntCC::NotEqual);
                    if is_equality && self.constant(rhs) == Some(0) && self.is_boolean(lhs) {
                        negate ^= cond == IntCC::Equal;
                        value = self.func.dfg.resolve_aliases(lhs);
                    } else {
                        break self.icmp_test(cond, [lhs, rhs])?;
                    }
                }
                Some(&InstructionData::Binary {
                    opcode: Opcode::Bxor,
                    args: [lhs, rhs],
                }) if self.constant(rhs) == Some(1) && self.is_boolean(lhs) => {
                    negate = !negate;
                    value = self.func.dfg.resolve_aliases(lhs);
                }
                _ => break self.not_zero(value)?,
            }
        };
        Ok(if negate { test.not() } else { test })
    }

    /// Whether the value is an `icmp`, perhaps widened.
    fn is_boolean(&self, value: Value) -> bool {
        match self.def_data(self.resolve(value)) {
            Some(InstructionData::IntCompare { .. }) => true,
            Some(&InstructionData::Binary {
                opcode: Opcode::Bxor,
                args: [lhs, rhs],
            }) => self.constant(rhs) == Some(1) && self.is_boolean(lhs),
            _ => false,
        }
    }

    fn not_zero(&mut self, value: Value) -> Lowered<Test> {
        if let Some(test) = self.bit_test(value)? {
            return Ok(test);
        }
        let ty = self.ty(value);
        let lhs = self.use_reg(value)?;
        let (op, width, rhs) = if self.is_zero_extended(value) {
            (JmpOp::Ne, Width::W64, 0)
        } else if ty == types::I32 {
            (JmpOp::Ne, Width::W32, 0)
        } else {
            (JmpOp::Set, Width::W64, mask(ty) as i32)
        };
        Ok(Test::plain(Cond {
            op,
            width,
            lhs,
            rhs: VSrc::Imm(rhs),
        }))
    }

    /// A test of `value`, which is compared with 0, as a test of bits if it is made by a mask that
    /// serves nothing else.
    fn bit_test(&mut self, value: Value) -> Lowered<Option<Test>> {
        let outer_bits = self.ty(value).bits();
        let value = self.resolve(value);
        let Some([lhs, rhs]) = self.as_binary(value, Opcode::Band) else {
            return Ok(None);
        };
        // What was cut off in between must not be tested.
        let is_cut = self.ty(value).bits() > outer_bits;
        if is_cut || self.n_uses[value] != 1 || self.used[value] {
            return Ok(None);
        }
        let (lhs, rhs) = if self.constant(lhs).is_some() {
            (rhs, lhs)
        } else {
            (lhs, rhs)
        };
        let width = match (self.ty(value), self.constant(rhs)) {
            (types::I64, _) | (_, Some(_)) => Width::W64,
            (types::I32, None) => Width::W32,
            _ => return Ok(None),
        };
        // A mask below 32 bits may look at undefined bits if its sign is extended.
        if let Some(constant) = self.constant(rhs)
            && self.ty(value) != types::I64
            && i32::try_from(constant).is_err()
        {
            return Ok(None);
        }
        let rhs = self.cmp_src(rhs, width)?;
        let lhs = self.use_reg(lhs)?;
        Ok(Some(Test::plain(Cond {
            op: JmpOp::Set,
            width,
            lhs,
            rhs,
        })))
    }

    pub(super) fn icmp_test(&mut self, cc: IntCC, [lhs, rhs]: [Value; 2]) -> Lowered<Test> {
        let (cc, lhs, rhs) = if self.constant(lhs).is_some() && self.constant(rhs).is_none() {
            (cc.swap_args(), rhs, lhs)
        } else {
            (cc, lhs, rhs)
        };
        if self.constant(rhs) == Some(0) && matches!(cc, IntCC::Equal | IntCC::NotEqual) {
            let test = self.not_zero(lhs)?;
            return Ok(if cc == IntCC::Equal { test.not() } else { test });
        }
        let (width, lhs, rhs) = self.compare_operands(is_signed(cc), lhs, rhs)?;
        Ok(Test::plain(Cond {
            op: jmp_op(cc),
            width,
            lhs,
            rhs,
        }))
    }

    /// The operands in the form that a comparison needs. Whatever is known to be zero-extended is
    /// compared in 64 bits, since verifiers before 5.13 learn little from 32-bit comparisons.
    fn compare_operands(
        &mut self,
        signed: bool,
        lhs: Value,
        rhs: Value,
    ) -> Lowered<(Width, VReg, VSrc)> {
        let ty = self.ty(lhs);
        let bits = ty.bits();
        let known = self.known_bits(lhs).max(self.known_bits(rhs));
        // Without the sign bit, signed and unsigned, narrow and wide are the same.
        let wide_as_is = ty == types::I64 || known < bits || (!signed && known <= bits);
        if wide_as_is {
            let rhs = self.cmp_src(rhs, Width::W64)?;
            return Ok((Width::W64, self.use_reg(lhs)?, rhs));
        }
        if ty == types::I32 {
            let rhs = self.cmp_src(rhs, Width::W32)?;
            return Ok((Width::W32, self.use_reg(lhs)?, rhs));
        }
        if !signed {
            let rhs = match self.constant(rhs) {
                Some(constant) => VSrc::Imm(constant as i32),
                None => VSrc::Reg(self.zext_reg(rhs)?),
            };
            return Ok((Width::W64, self.zext_reg(lhs)?, rhs));
        }
        let rhs = match self.constant_signed(rhs) {
            Some(constant) => VSrc::Imm(constant as i32),
            None => VSrc::Reg(self.sext_reg(rhs)?),
        };
        Ok((Width::W64, self.sext_reg(lhs)?, rhs))
    }

    fn select_constants(&mut self, inst: Inst, test: Test, if_true: u64, if_false: u64) {
        let (if_true, if_false) = if test.negated {
            (if_false, if_true)
        } else {
            (if_true, if_false)
        };
        let if_true = self.load_constant(if_true);
        let (if_false, mov_width) = match mov_imm(if_false) {
            Some(imm) => imm,
            None => (VSrc::Reg(self.load_constant(if_false)), Width::W64),
        };
        let dst = self.def(inst);
        self.emit(VInsn::Select {
            cond: test.cond,
            dst,
            if_true,
            if_false,
            mov_width,
        });
    }

    fn select(&mut self, inst: Inst, cond: Value, if_true: Value, if_false: Value) -> Lowered<()> {
        let test = self.test(cond)?;
        // The value in `if_true`'s register is overwritten, `if_false` may be an immediate.
        let swap = self.constant(if_false).is_none()
            && (self.constant(if_true).is_some()
                || (self.is_used_later(if_true) && !self.is_used_later(if_false)));
        let mut cond = test.cond;
        let (if_true, if_false) = match (test.negated, swap, test.cond.op.inverse()) {
            (true, ..) => (if_false, if_true),
            (false, true, Some(op)) => {
                cond.op = op;
                (if_false, if_true)
            }
            _ => (if_true, if_false),
        };
        let (if_false, mov_width) = match self.constant(if_false).and_then(mov_imm) {
            Some(imm) => imm,
            None => (VSrc::Reg(self.use_reg(if_false)?), Width::W64),
        };
        let if_true = self.use_reg(if_true)?;
        let dst = self.def(inst);
        self.emit(VInsn::Select {
            cond,
            dst,
            if_true,
            if_false,
            mov_width,
        });
        Ok(())
    }

    fn min_max(&mut self, inst: Inst, opcode: Opcode, [lhs, rhs]: [Value; 2]) -> Lowered<()> {
        let (lhs, rhs) = if self.constant(lhs).is_some() {
            (rhs, lhs)
        } else {
            (lhs, rhs)
        };
        let (op, signed) = match opcode {
            Opcode::Umin => (JmpOp::Le, false),
            Opcode::Umax => (JmpOp::Ge, false),
            Opcode::Smin => (JmpOp::Sle, true),
            _ => (JmpOp::Sge, true),
        };
        let (width, if_true, if_false) = self.compare_operands(signed, lhs, rhs)?;
        let cond = Cond {
            op,
            width,
            lhs: if_true,
            rhs: if_false,
        };
        let dst = self.def(inst);
        self.emit(VInsn::Select {
            cond,
            dst,
            if_true,
            if_false,
            mov_width: width,
        });
        Ok(())
    }
}

/// The number as the immediate of a move, and the move's width.
fn mov_imm(constant: u64) -> Option<(VSrc, Width)> {
    if let Ok(imm) = i32::try_from(constant as i64) {
        return Some((VSrc::Imm(imm), Width::W64));
    }
    let imm = u32::try_from(constant).ok()?;
    Some((VSrc::Imm(imm as i32), Width::W32))
}

fn is_signed(cc: IntCC) -> bool {
    matches!(
        cc,
        IntCC::SignedGreaterThan
            | IntCC::SignedGreaterThanOrEqual
            | IntCC::SignedLessThan
            | IntCC::SignedLessThanOrEqual
    )
}

fn jmp_op(cc: IntCC) -> JmpOp {
    match cc {
        IntCC::Equal => JmpOp::Eq,
        IntCC::NotEqual => JmpOp::Ne,
        IntCC::SignedGreaterThan => JmpOp::Sgt,
        IntCC::SignedGreaterThanOrEqual => JmpOp::Sge,
        IntCC::SignedLessThan => JmpOp::Slt,
        IntCC::SignedLessThanOrEqual => JmpOp::Sle,
        IntCC::UnsignedGreaterThan => JmpOp::Gt,
        IntCC::UnsignedGreaterThanOrEqual => JmpOp::Ge,
        IntCC::UnsignedLessThan => JmpOp::Lt,
        IntCC::UnsignedLessThanOrEqual => JmpOp::Le,
    }
}
