//! Arithmetic and comparisons.

use bpftrace_meta::{HostValue, RuntimeError};
use bpftrace_sema::{ArithmeticOp, CompareOp, Expr, Ty, UnaryOp};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::R;
use super::capture;
use super::condition::Verdict;
use super::func::FnCx;
use super::memory::{Access, Addr};
use super::place::{is_by_address, scalar_type};

impl FnCx<'_, '_> {
    pub(super) fn unary(&mut self, op: UnaryOp, operand: &Expr) -> R<Value> {
        let value = self.scalar(operand)?;
        Ok(match op {
            UnaryOp::Neg => self.b.ins().ineg(value),
            UnaryOp::BitNot => self.b.ins().bnot(value),
            UnaryOp::Not => self.is_zero(value),
        })
    }

    pub(super) fn binary(&mut self, op: ArithmeticOp, lhs: &Expr, rhs: &Expr) -> R<Value> {
        let a = self.scalar(lhs)?;
        let b = self.scalar(rhs)?;
        if matches!(op, ArithmeticOp::Div | ArithmeticOp::Mod) {
            return self.divide(op, a, b, rhs);
        }
        let ins = self.b.ins();
        Ok(match op {
            ArithmeticOp::Add => ins.iadd(a, b),
            ArithmeticOp::Sub => ins.isub(a, b),
            ArithmeticOp::Mul => ins.imul(a, b),
            ArithmeticOp::BitAnd => ins.band(a, b),
            ArithmeticOp::BitOr => ins.bor(a, b),
            ArithmeticOp::BitXor => ins.bxor(a, b),
            ArithmeticOp::Shl => ins.ishl(a, b),
            // The language's right shift is logical for every type.
            ArithmeticOp::Shr => ins.ushr(a, b),
            ArithmeticOp::Div => ins.udiv(a, b),
            ArithmeticOp::Mod => ins.urem(a, b),
        })
    }

    /// Unsigned division and modulo; 1 and a warning when the divisor is 0.
    fn divide(&mut self, op: ArithmeticOp, a: Value, b: Value, rhs: &Expr) -> R<Value> {
        if capture::constant(rhs).is_some_and(|divisor| divisor != 0) {
            return Ok(self.quotient(op, a, b));
        }
        let ty = self.ty(a);
        let is_zero = self.is_zero(b);
        let (zero, fine, after) = (
            self.b.create_block(),
            self.b.create_block(),
            self.b.create_block(),
        );
        let result = self.b.append_block_param(after, ty);
        self.b.set_cold_block(zero);
        self.brif(is_zero, zero, fine);
        self.enter(zero);
        self.runtime_error(RuntimeError::DivideByZero)?;
        let one = self.int(ty, 1);
        self.jump(after, &[one]);
        self.enter(fine);
        let value = self.quotient(op, a, b);
        self.jump(after, &[value]);
        self.enter(after);
        Ok(result)
    }

    fn quotient(&mut self, op: ArithmeticOp, a: Value, b: Value) -> Value {
        match op {
            ArithmeticOp::Div => self.b.ins().udiv(a, b),
            _ => self.b.ins().urem(a, b),
        }
    }

    /// Pointer plus or minus elements.
    pub(super) fn ptr_add(&mut self, ptr: &Expr, index: &Expr, negative: bool) -> R<Value> {
        let Ty::Ptr(pointee, _) = &ptr.ty else {
            return self.internal("arithmetic on something that is no pointer");
        };
        let pointee = pointee.clone();
        let base = self.scalar(ptr)?;
        let count = self.scalar(index)?;
        let offset = self.scale(count, capture::constant(index), &pointee)?;
        Ok(if negative {
            self.b.ins().isub(base, offset)
        } else {
            self.b.ins().iadd(base, offset)
        })
    }

    /// A number of elements in bytes. The size of a kernel struct is that on the target.
    pub(super) fn scale(&mut self, count: Value, known: Option<i64>, element: &Ty) -> R<Value> {
        if let Ty::Struct(id, _) = element
            && self.m.core.is_root(*id)
        {
            if known == Some(0) {
                return Ok(self.i64(0));
            }
            let size = self.kernel_sizeof(*id);
            return Ok(self.b.ins().imul(count, size));
        }
        let size = match element {
            // void * counts bytes.
            Ty::Void => 1,
            _ => self.m.program.types.size(element).max(1),
        };
        if let Some(known) = known {
            return Ok(self.i64(known.wrapping_mul(size as i64)));
        }
        if size == 1 {
            return Ok(count);
        }
        let size = self.i64(size as i64);
        Ok(self.b.ins().imul(count, size))
    }

    pub(super) fn compare(&mut self, op: CompareOp, lhs: &Expr, rhs: &Expr) -> R<Value> {
        match (op, &lhs.ty) {
            (_, ty) if scalar_type(ty).is_some() && !is_by_address(ty) => {
                let a = self.scalar(lhs)?;
                let b = self.scalar(rhs)?;
                let signed = matches!(ty, Ty::Int(int) | Ty::Enum(_, int) if int.signed);
                Ok(self.b.ins().icmp(condition(op, signed), a, b))
            }
            (CompareOp::Eq, _) => self.decided(|cx, equal, unequal| {
                cx.compare_memory(lhs, rhs, Verdict { equal, unequal })
            }),
            (CompareOp::Ne, _) => self.decided(|cx, unequal, equal| {
                cx.compare_memory(lhs, rhs, Verdict { equal, unequal })
            }),
            _ => self.internal("an ordering of values that have none"),
        }
    }

    /// Compares two values in memory.
    pub(super) fn compare_memory(&mut self, lhs: &Expr, rhs: &Expr, verdict: Verdict) -> R<()> {
        if let (Ty::Str(_), Ty::Str(_)) = (&lhs.ty, &rhs.ty) {
            return self.strings_equal(lhs, rhs, verdict);
        }
        let size = self.size_of(&lhs.ty)?;
        let [a, b] = if is_by_address(&lhs.ty) {
            [
                self.object_in_own_memory(lhs)?,
                self.object_in_own_memory(rhs)?,
            ]
        } else {
            [self.mem(lhs)?.0, self.mem(rhs)?.0]
        };
        self.bytes_equal(a, b, u64::from(size), verdict);
        Ok(())
    }

    /// Whether two places hold the same bytes.
    fn bytes_equal(&mut self, a: Addr, b: Addr, size: u64, verdict: Verdict) {
        let pieces = self.common_pieces(a, b, size);
        if pieces.len() > 24 {
            return self.bytes_equal_loop(a, b, size, verdict);
        }
        let mut difference = None;
        for (at, ty) in pieces {
            let x = self.load(ty, a.at(at), Access::Own);
            let y = self.load(ty, b.at(at), Access::Own);
            let bits = self.b.ins().bxor(x, y);
            let bits = self.zext64(bits);
            difference = Some(match difference {
                None => bits,
                Some(others) => self.b.ins().bor(others, bits),
            });
        }
        match difference {
            Some(bits) => self.brif(bits, verdict.unequal, verdict.equal),
            None => self.jump(verdict.equal, &[]),
        }
    }

    /// The same with a loop, that ends at the first difference.
    fn bytes_equal_loop(&mut self, a: Addr, b: Addr, size: u64, verdict: Verdict) {
        let ty = match self.common_pieces(a, b, size).first() {
            Some(&(_, ty)) if size.is_multiple_of(u64::from(ty.bytes())) => ty,
            _ => types::I8,
        };
        let (a, b) = (self.addr_value(a), self.addr_value(b));
        let (head, next, again) = (
            self.b.create_block(),
            self.b.create_block(),
            self.b.create_block(),
        );
        let at = self.b.append_block_param(head, types::I64);
        let zero = self.i64(0);
        self.jump(head, &[zero]);
        self.b.switch_to_block(head);
        let (x, y) = (self.b.ins().iadd(a, at), self.b.ins().iadd(b, at));
        let x = self.load(ty, Addr::value(x, ty.bytes()), Access::Own);
        let y = self.load(ty, Addr::value(y, ty.bytes()), Access::Own);
        let same = self.b.ins().icmp(IntCC::Equal, x, y);
        self.brif(same, next, verdict.unequal);
        self.enter(next);
        let at = self.add_imm(at, i64::from(ty.bytes()));
        let more = self.cmp_imm(IntCC::UnsignedLessThan, at, size as i64);
        self.brif(more, again, verdict.equal);
        self.enter(again);
        self.jump(head, &[at]);
        self.b.seal_block(head);
    }

    /// Whether run-time warnings are wanted.
    pub(super) fn warnings_on(&mut self) -> R<Value> {
        self.host_truth(&HostValue::WarningsOn)
    }
}

fn condition(op: CompareOp, signed: bool) -> IntCC {
    match (op, signed) {
        (CompareOp::Eq, _) => IntCC::Equal,
        (CompareOp::Ne, _) => IntCC::NotEqual,
        (CompareOp::Lt, true) => IntCC::SignedLessThan,
        (CompareOp::Le, true) => IntCC::SignedLessThanOrEqual,
        (CompareOp::Gt, true) => IntCC::SignedGreaterThan,
        (CompareOp::Ge, true) => IntCC::SignedGreaterThanOrEqual,
        (CompareOp::Lt, false) => IntCC::UnsignedLessThan,
        (CompareOp::Le, false) => IntCC::UnsignedLessThanOrEqual,
        (CompareOp::Gt, false) => IntCC::UnsignedGreaterThan,
        (CompareOp::Ge, false) => IntCC::UnsignedGreaterThanOrEqual,
    }
}
