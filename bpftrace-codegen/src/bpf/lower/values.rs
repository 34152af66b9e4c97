//! Getting at values: constants, symbols, known upper bits, extension, right operands.

use cranelift_codegen::ir::{
    GlobalValueData, Inst, InstructionData, MemFlags, Opcode, Type, Value, ValueDef, types,
};
use regalloc2::VReg;

use super::{Lower, Lowered};
use crate::bpf::insn::{AluOp, Width};
use crate::bpf::vcode::{VInsn, VSrc, Wide};
use crate::midend::hidden_constant;
use crate::symbols::Symbol;

/// How far up the operands `known_bits` looks.
const KNOWN_BITS_DEPTH: u32 = 6;

impl<'f> Lower<'f> {
    pub(super) fn ty(&self, value: Value) -> Type {
        self.func.dfg.value_type(value)
    }

    /// 32-bit arithmetic for everything narrower than 64 bits.
    pub(super) fn width(&self, value: Value) -> Width {
        if self.ty(value) == types::I64 {
            Width::W64
        } else {
            Width::W32
        }
    }

    /// The only result of an instruction.
    pub(super) fn result(&self, inst: Inst) -> Value {
        self.func.dfg.first_result(inst)
    }

    /// The register that the instruction's only result goes to.
    pub(super) fn def(&mut self, inst: Inst) -> VReg {
        let value = self.result(inst);
        self.vreg(value)
    }

    pub(super) fn def_inst(&self, value: Value) -> Option<Inst> {
        match self.func.dfg.value_def(value) {
            ValueDef::Result(inst, 0) => Some(inst),
            _ => None,
        }
    }

    pub(super) fn def_data(&self, value: Value) -> Option<&'f InstructionData> {
        Some(&self.func.dfg.insts[self.def_inst(value)?])
    }

    /// The operands, if the value is made by this binary instruction.
    pub(super) fn as_binary(&self, value: Value, wanted: Opcode) -> Option<[Value; 2]> {
        match *self.def_data(value)? {
            InstructionData::Binary { opcode, args } if opcode == wanted => Some(args),
            _ => None,
        }
    }

    /// The value as a constant, zero-extended from its type.
    pub(super) fn constant(&self, value: Value) -> Option<u64> {
        let value = self.func.dfg.resolve_aliases(value);
        let bits = match *self.def_data(value)? {
            InstructionData::UnaryImm {
                opcode: Opcode::Iconst,
                imm,
            } => imm.bits(),
            InstructionData::UnaryGlobalValue {
                opcode: Opcode::SymbolValue,
                global_value,
            } => hidden_constant(self.func, &self.func.global_values[global_value])?,
            _ => return None,
        };
        Some(bits as u64 & mask(self.ty(value)))
    }

    /// The value as a constant, sign-extended from its type.
    pub(super) fn constant_signed(&self, value: Value) -> Option<i64> {
        let shift = 64 - self.ty(value).bits();
        Some((self.constant(value)? << shift) as i64 >> shift)
    }

    /// The symbol and offset, if the value is the address of one or a patched constant.
    pub(super) fn symbol(&self, value: Value) -> Option<(Symbol, i64)> {
        let value = self.func.dfg.resolve_aliases(value);
        match *self.def_data(value)? {
            InstructionData::UnaryGlobalValue {
                opcode: Opcode::SymbolValue,
                global_value,
            } => match &self.func.global_values[global_value] {
                GlobalValueData::Symbol { name, offset, .. } => {
                    Some((Symbol::from_external(self.func, name)?, offset.bits()))
                }
                _ => None,
            },
            InstructionData::FuncAddr { func_ref, .. } => {
                let name = &self.func.dfg.ext_funcs[func_ref].name;
                Some((Symbol::from_external(self.func, name)?, 0))
            }
            InstructionData::Binary {
                opcode: Opcode::Iadd,
                args: [base, offset],
            } => {
                // Only data addresses have room for an offset.
                let (symbol @ Symbol::Data(_), start) = self.symbol(base)? else {
                    return None;
                };
                let offset = start.checked_add(self.constant_signed(offset)?)?;
                u32::try_from(offset).ok()?;
                Some((symbol, offset))
            }
            _ => None,
        }
    }

    /// The patch that fits a 32-bit immediate, if the value is one.
    pub(super) fn patch(&self, value: Value) -> Option<u32> {
        match self.symbol(value)? {
            (Symbol::Patch(patch), _) => Some(patch),
            _ => None,
        }
    }

    /// Looks through instructions that change nothing in the register.
    pub(super) fn resolve(&self, value: Value) -> Value {
        let mut value = self.func.dfg.resolve_aliases(value);
        loop {
            let same = match self.def_data(value) {
                Some(&InstructionData::Unary { opcode, arg }) => match opcode {
                    Opcode::Ireduce => Some(arg),
                    Opcode::Uextend if self.is_zero_extended(arg) && self.patch(arg).is_none() => {
                        Some(arg)
                    }
                    _ => None,
                },
                Some(&InstructionData::Binary {
                    opcode: Opcode::Band,
                    args: [lhs, rhs],
                }) => match (self.constant(lhs), self.constant(rhs)) {
                    (None, Some(mask)) if self.mask_is_idle(lhs, mask) => Some(lhs),
                    (Some(mask), None) if self.mask_is_idle(rhs, mask) => Some(rhs),
                    _ => None,
                },
                _ => None,
            };
            match same {
                // A constant keeps the type it is used with.
                Some(inner) if self.constant(inner).is_none() => {
                    value = self.func.dfg.resolve_aliases(inner);
                }
                _ => return value,
            }
        }
    }

    fn mask_is_idle(&self, value: Value, mask: u64) -> bool {
        let bits = self.known_bits(value);
        bits < 64 && mask & ((1 << bits) - 1) == (1 << bits) - 1
    }

    /// The value in a register. What has no register of its own is made now.
    pub(super) fn use_reg(&mut self, value: Value) -> Lowered<VReg> {
        let value = self.resolve(value);
        if let Some(constant) = self.constant(value) {
            return Ok(self.load_constant(constant));
        }
        if let Some((symbol, offset)) = self.symbol(value) {
            return self.load_symbol(value, symbol, offset);
        }
        let Some(inst) = self.def_inst(value) else {
            return Ok(self.vreg(value));
        };
        match self.func.dfg.insts[inst] {
            InstructionData::StackAddr {
                stack_slot, offset, ..
            } => {
                let dst = self.fresh();
                self.emit(VInsn::SlotAddr {
                    dst,
                    slot: stack_slot,
                    offset: offset.into(),
                });
                Ok(dst)
            }
            InstructionData::Load {
                opcode: Opcode::Load,
                arg,
                flags,
                offset,
            } if self.is_frozen(arg, flags) => {
                let dst = self.fresh();
                self.load_to(inst, dst, self.ty(value), arg, i64::from(i32::from(offset)))?;
                Ok(dst)
            }
            InstructionData::UnaryGlobalValue { .. } | InstructionData::FuncAddr { .. } => {
                Err(self.unsupported(inst, "a name outside the contract's namespaces"))
            }
            _ => Ok(self.vreg(value)),
        }
    }

    /// Whether a load reads what never changes, at an address that is known when the program is
    /// loaded. The verifier knows the value then, and drops the branches that it rules out; so it is
    /// loaded afresh for each use, since a spilled register is forgotten by older kernels.
    pub(super) fn is_frozen(&self, address: Value, flags: MemFlags) -> bool {
        let flags = self.func.dfg.mem_flags[flags];
        let is_constant = flags.readonly() && flags.notrap() && flags.can_move();
        is_constant && matches!(self.symbol(address), Some((Symbol::Data(_), _)))
    }

    /// The value's own register.
    pub(super) fn vreg(&mut self, value: Value) -> VReg {
        self.used[value] = true;
        match self.vregs[value] {
            Some(vreg) => vreg,
            None => {
                let vreg = self.fresh();
                self.vregs[value] = Some(vreg);
                vreg
            }
        }
    }

    /// Whether something later reads the register, so that overwriting it costs a move.
    pub(super) fn is_used_later(&self, value: Value) -> bool {
        self.used[self.resolve(value)]
    }

    /// A number in a new register; 32 bits or fewer take one slot.
    pub(super) fn load_constant(&mut self, constant: u64) -> VReg {
        let dst = self.fresh();
        self.load_constant_to(dst, constant);
        dst
    }

    pub(super) fn load_constant_to(&mut self, dst: VReg, constant: u64) {
        let insn = if let Ok(imm) = i32::try_from(constant as i64) {
            VInsn::Mov {
                width: Width::W64,
                dst,
                src: VSrc::Imm(imm),
            }
        } else if let Ok(imm) = u32::try_from(constant) {
            VInsn::Mov {
                width: Width::W32,
                dst,
                src: VSrc::Imm(imm as i32),
            }
        } else {
            VInsn::LdImm64 {
                dst,
                value: Wide::Const(constant),
            }
        };
        self.emit(insn);
    }

    fn load_symbol(&mut self, value: Value, symbol: Symbol, offset: i64) -> Lowered<VReg> {
        let width = self.width(value);
        let dst = self.fresh();
        let wide = match symbol {
            Symbol::Map(map) => Wide::Map(map),
            Symbol::Subprog(func) => Wide::SubprogAddr(func),
            Symbol::Kfunc(func) => Wide::KfuncAddr(func),
            Symbol::Data(section) => {
                let offset = u32::try_from(offset).map_err(|_| self.bad_symbol(value))?;
                Wide::Data { section, offset }
            }
            Symbol::PatchWide(patch) => Wide::Patch(patch),
            Symbol::Patch(patch) => {
                self.emit(VInsn::Mov {
                    width,
                    dst,
                    src: VSrc::Patch(patch),
                });
                return Ok(dst);
            }
            Symbol::Helper(_) => return Err(self.bad_symbol(value)),
        };
        if offset != 0 && !matches!(symbol, Symbol::Data(_)) {
            return Err(self.bad_symbol(value));
        }
        self.emit(VInsn::LdImm64 { dst, value: wide });
        Ok(dst)
    }

    fn bad_symbol(&self, value: Value) -> crate::bpf::BackendError {
        match self.def_inst(value) {
            Some(inst) => self.unsupported(inst, "this symbol has no such address"),
            None => crate::bpf::BackendError::Unsupported {
                what: "a symbol that is a parameter".to_owned(),
                insn: value.to_string(),
                srcloc: None,
            },
        }
    }

    /// Right operand of an ALU instruction of the value's own width.
    pub(super) fn alu_src(&mut self, value: Value) -> Lowered<VSrc> {
        if let Some(patch) = self.patch(value) {
            return Ok(VSrc::Patch(patch));
        }
        self.cmp_src(value, self.width(value))
    }

    /// Right operand of a comparison of this width, where the constant is meant zero-extended.
    pub(super) fn cmp_src(&mut self, value: Value, width: Width) -> Lowered<VSrc> {
        if let Some(constant) = self.constant(value) {
            let imm = match width {
                Width::W32 => Some(constant as u32 as i32),
                Width::W64 => i32::try_from(constant as i64).ok(),
            };
            if let Some(imm) = imm {
                return Ok(VSrc::Imm(imm));
            }
        }
        Ok(VSrc::Reg(self.use_reg(value)?))
    }

    /// Whether the bits above the value's type are known to be 0 in its register.
    pub(super) fn is_zero_extended(&self, value: Value) -> bool {
        self.known_bits(value) <= self.ty(value).bits()
    }

    /// The register, with the bits above the value's type cleared.
    pub(super) fn zext_reg(&mut self, value: Value) -> Lowered<VReg> {
        let src = self.use_reg(value)?;
        if self.is_zero_extended(value) {
            return Ok(src);
        }
        let dst = self.fresh();
        self.zext_to(dst, src, self.ty(value));
        Ok(dst)
    }

    pub(super) fn zext_to(&mut self, dst: VReg, src: VReg, ty: Type) {
        let insn = match ty.bits() {
            64 => VInsn::Mov {
                width: Width::W64,
                dst,
                src: VSrc::Reg(src),
            },
            32 => VInsn::Mov {
                width: Width::W32,
                dst,
                src: VSrc::Reg(src),
            },
            _ => VInsn::Alu {
                op: AluOp::And,
                width: Width::W64,
                dst,
                lhs: src,
                rhs: VSrc::Imm(mask(ty) as i32),
            },
        };
        self.emit(insn);
    }

    /// The register, with the bits above the value's type made copies of its sign, up to 64.
    pub(super) fn sext_reg(&mut self, value: Value) -> Lowered<VReg> {
        if let Some(constant) = self.constant_signed(value) {
            return Ok(self.load_constant(constant as u64));
        }
        let src = self.use_reg(value)?;
        let bits = self.ty(value).bits();
        if bits == 64 || self.known_bits(value) < bits {
            return Ok(src);
        }
        let dst = self.fresh();
        self.sext_to(dst, src, bits);
        Ok(dst)
    }

    pub(super) fn sext_to(&mut self, dst: VReg, src: VReg, bits: u32) {
        let shift = 64 - bits as i32;
        let shifted = self.alu_imm(AluOp::Lsh, Width::W64, src, shift);
        let rhs = VSrc::Imm(shift);
        self.emit(VInsn::Alu {
            op: AluOp::Arsh,
            width: Width::W64,
            dst,
            lhs: shifted,
            rhs,
        });
    }

    /// An upper bound for the highest bit set in the value's register, counted from 1. It describes
    /// what the lowering of each opcode really emits, so it belongs to that code.
    pub(super) fn known_bits(&self, value: Value) -> u32 {
        self.known_bits_at(value, KNOWN_BITS_DEPTH)
    }

    fn known_bits_at(&self, value: Value, depth: u32) -> u32 {
        let value = self.func.dfg.resolve_aliases(value);
        if let Some(constant) = self.constant(value) {
            return 64 - constant.leading_zeros();
        }
        let Some(depth) = depth.checked_sub(1) else {
            return 64;
        };
        let Some(data) = self.def_data(value) else {
            return 64;
        };
        let ty_bits = self.ty(value).bits();
        // What 32-bit arithmetic leaves.
        let alu_bits = if ty_bits == 64 { 64 } else { 32 };
        let known = |value| self.known_bits_at(value, depth);
        match *data {
            InstructionData::Load { opcode, .. } => match opcode {
                Opcode::Load => ty_bits,
                Opcode::Uload8 => 8,
                Opcode::Uload16 => 16,
                Opcode::Uload32 => 32,
                _ => 64,
            },
            InstructionData::LoadNoOffset {
                opcode: Opcode::AtomicLoad,
                ..
            } => ty_bits,
            InstructionData::IntCompare { .. } => 1,
            InstructionData::UnaryGlobalValue { .. } => alu_bits,
            InstructionData::Unary { opcode, arg } => match opcode {
                Opcode::Uextend => known(arg).min(self.ty(arg).bits()),
                Opcode::Ireduce => known(arg),
                Opcode::Clz | Opcode::Ctz | Opcode::Popcnt => 7,
                Opcode::Bswap => ty_bits,
                Opcode::Bnot => alu_bits,
                _ => 64,
            },
            InstructionData::Binary {
                opcode,
                args: [lhs, rhs],
            } => match opcode {
                Opcode::Band => known(lhs).min(known(rhs)).min(alu_bits),
                Opcode::Bor | Opcode::Bxor => known(lhs).max(known(rhs)).min(alu_bits),
                Opcode::Iadd => (known(lhs).max(known(rhs)) + 1).min(alu_bits),
                Opcode::Imul => (known(lhs) + known(rhs)).min(alu_bits),
                Opcode::Isub | Opcode::Ishl => alu_bits,
                Opcode::Udiv => known(lhs).min(ty_bits),
                Opcode::Urem => match self.constant(rhs) {
                    Some(0) | None => known(lhs).min(ty_bits),
                    Some(rhs) => known(lhs).min(ty_bits).min(64 - (rhs - 1).leading_zeros()),
                },
                Opcode::Ushr => {
                    let bits = known(lhs).min(ty_bits);
                    match self.constant(rhs) {
                        Some(amount) => bits.saturating_sub(amount as u32 % ty_bits),
                        None => bits,
                    }
                }
                _ => 64,
            },
            InstructionData::Ternary {
                opcode: Opcode::Select,
                args: [_, lhs, rhs],
            } => known(lhs).max(known(rhs)),
            _ => 64,
        }
    }
}

/// All ones in the low bits of the type.
pub(super) fn mask(ty: Type) -> u64 {
    u64::MAX >> (64 - ty.bits())
}
