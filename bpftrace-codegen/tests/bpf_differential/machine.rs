//! A strict BPF machine for tests: what RFC 9669 says, and a stop where the verifier would refuse.
//!
//! It stops at reads of registers that hold nothing (never written, or lost in a call), at accesses
//! outside of the stack, at jumps out of the program, and when it runs for too long.

use std::collections::HashMap;

use bpftrace_codegen::bpf::{AluOp, AtomicOp, Endian, Insn, JmpOp, Reg, Src, Width};

/// A helper function.
pub(crate) type Helper = fn([u64; 5]) -> u64;

/// Address of the lowest byte of the stack, far from anything that arithmetic yields by accident.
const STACK_BASE: u64 = 0x7f3a_5000_0000;
const STACK_SIZE: usize = 512;
const MAX_STEPS: u32 = 1_000_000;

/// Registers, stack and helpers of one run.
pub(crate) struct Machine {
    regs: [Option<u64>; 11],
    stack: [u8; STACK_SIZE],
    helpers: HashMap<i32, (Helper, usize)>,
}

impl Machine {
    /// A machine that starts with these arguments in r1, r2, ...
    pub(crate) fn new(args: &[u64]) -> Machine {
        let mut regs = [None; 11];
        for (idx, &arg) in args.iter().enumerate() {
            regs[idx + 1] = Some(arg);
        }
        regs[10] = Some(STACK_BASE + STACK_SIZE as u64);
        Machine {
            regs,
            stack: [0xa5; STACK_SIZE],
            helpers: HashMap::new(),
        }
    }

    /// Adds a helper with a number of arguments that must hold something.
    pub(crate) fn helper(&mut self, id: i32, n_args: usize, helper: Helper) {
        self.helpers.insert(id, (helper, n_args));
    }

    fn get(&self, reg: Reg) -> Result<u64, String> {
        self.regs[usize::from(reg.number())].ok_or_else(|| format!("{reg} holds nothing"))
    }

    fn set(&mut self, reg: Reg, value: u64) -> Result<(), String> {
        if reg == Reg::FP {
            return Err("r10 is read only".to_owned());
        }
        self.regs[usize::from(reg.number())] = Some(value);
        Ok(())
    }

    fn src(&self, src: Src) -> Result<u64, String> {
        match src {
            Src::Reg(reg) => self.get(reg),
            Src::Imm(imm) => Ok(i64::from(imm) as u64),
        }
    }

    fn place(&self, base: Reg, off: i16, len: usize) -> Result<std::ops::Range<usize>, String> {
        let addr = self.get(base)?.wrapping_add(i64::from(off) as u64);
        let start = addr.wrapping_sub(STACK_BASE) as usize;
        match start.checked_add(len) {
            Some(end) if end <= STACK_SIZE => Ok(start..end),
            _ => Err(format!(
                "access of {len} bytes at {addr:#x}, outside of the stack"
            )),
        }
    }

    fn read(&self, base: Reg, off: i16, len: usize) -> Result<u64, String> {
        let mut bytes = [0; 8];
        bytes[..len].copy_from_slice(&self.stack[self.place(base, off, len)?]);
        Ok(u64::from_le_bytes(bytes))
    }

    fn write(&mut self, base: Reg, off: i16, len: usize, value: u64) -> Result<(), String> {
        let place = self.place(base, off, len)?;
        self.stack[place].copy_from_slice(&value.to_le_bytes()[..len]);
        Ok(())
    }

    /// Runs a program to its exit and returns r0.
    pub(crate) fn run(&mut self, code: &[u8]) -> Result<u64, String> {
        let n_slots = code.len() as i64 / 8;
        let mut pc = 0i64;
        for _ in 0..MAX_STEPS {
            if !(0..n_slots).contains(&pc) {
                return Err(format!("jump to {pc}, outside of the program"));
            }
            let insn = Insn::decode(&code[pc as usize * 8..]).ok_or(format!("no insn at {pc}"))?;
            let at = pc;
            pc += i64::from(insn.slots());
            match self.step(insn) {
                Ok(Some(jump)) => pc += jump,
                Ok(None) if insn == Insn::Exit => return self.get(Reg::R0),
                Ok(None) => {}
                Err(error) => return Err(format!("{at}: {insn}: {error}")),
            }
        }
        Err("too many steps".to_owned())
    }

    fn step(&mut self, insn: Insn) -> Result<Option<i64>, String> {
        match insn {
            Insn::Alu {
                op,
                width,
                dst,
                src,
            } => {
                let rhs = self.src(src)?;
                let lhs = if op == AluOp::Mov { 0 } else { self.get(dst)? };
                let result = match width {
                    Width::W64 => alu64(op, lhs, rhs),
                    Width::W32 => u64::from(alu32(op, lhs as u32, rhs as u32)),
                };
                self.set(dst, result)?;
            }
            Insn::Neg { width, dst } => {
                let value = self.get(dst)?.wrapping_neg();
                self.set(
                    dst,
                    if width == Width::W32 {
                        u64::from(value as u32)
                    } else {
                        value
                    },
                )?;
            }
            Insn::ByteOrder { order, bits, dst } => {
                let value = self.get(dst)?;
                let value = match (order, bits) {
                    (Endian::Little, 16) => u64::from(value as u16),
                    (Endian::Little, 32) => u64::from(value as u32),
                    (Endian::Big, 16) => u64::from((value as u16).swap_bytes()),
                    (Endian::Big, 32) => u64::from((value as u32).swap_bytes()),
                    (Endian::Big, 64) => value.swap_bytes(),
                    _ => value,
                };
                self.set(dst, value)?;
            }
            Insn::LdImm64 { dst, value, .. } => self.set(dst, value)?,
            Insn::Load {
                size,
                dst,
                base,
                off,
            } => {
                let value = self.read(base, off, size.bytes() as usize)?;
                self.set(dst, value)?;
            }
            Insn::Store {
                size,
                base,
                off,
                src,
            } => {
                let value = self.src(src)?;
                self.write(base, off, size.bytes() as usize, value)?;
            }
            Insn::Atomic {
                op,
                width,
                base,
                off,
                src,
            } => self.atomic(op, width, base, off, src)?,
            Insn::Jump { off } => return Ok(Some(off.into())),
            Insn::JumpIf {
                op,
                width,
                lhs,
                rhs,
                off,
            } => {
                let (lhs, rhs) = (self.get(lhs)?, self.src(rhs)?);
                let holds = match width {
                    Width::W64 => condition(op, lhs, rhs),
                    Width::W32 if is_signed(op) => {
                        condition(op, lhs as i32 as i64 as u64, rhs as i32 as i64 as u64)
                    }
                    Width::W32 => condition(op, u64::from(lhs as u32), u64::from(rhs as u32)),
                };
                return Ok(holds.then_some(off.into()));
            }
            Insn::Call { pseudo: _, imm } => {
                let &(helper, n_args) = self.helpers.get(&imm).ok_or("no such helper")?;
                let mut args = [0; 5];
                for (idx, arg) in args.iter_mut().enumerate().take(n_args) {
                    *arg = self.regs[idx + 1].ok_or(format!("argument {idx} holds nothing"))?;
                }
                self.regs[..6].fill(None);
                self.regs[0] = Some(helper(args));
            }
            Insn::Exit => {}
        }
        Ok(None)
    }

    fn atomic(
        &mut self,
        op: AtomicOp,
        width: Width,
        base: Reg,
        off: i16,
        src: Reg,
    ) -> Result<(), String> {
        let len = if width == Width::W32 { 4 } else { 8 };
        let old = self.read(base, off, len)?;
        let operand = self.get(src)?;
        let new = match op {
            AtomicOp::Add | AtomicOp::FetchAdd => old.wrapping_add(operand),
            AtomicOp::Or | AtomicOp::FetchOr => old | operand,
            AtomicOp::And | AtomicOp::FetchAnd => old & operand,
            AtomicOp::Xor | AtomicOp::FetchXor => old ^ operand,
            AtomicOp::Xchg => operand,
            AtomicOp::CmpXchg => {
                let expected = self.get(Reg::R0)?;
                let expected = if len == 4 {
                    u64::from(expected as u32)
                } else {
                    expected
                };
                self.set(Reg::R0, old)?;
                if expected == old { operand } else { old }
            }
        };
        self.write(base, off, len, new)?;
        match op {
            AtomicOp::Add | AtomicOp::Or | AtomicOp::And | AtomicOp::Xor | AtomicOp::CmpXchg => {
                Ok(())
            }
            _ => self.set(src, old),
        }
    }
}

fn is_signed(op: JmpOp) -> bool {
    matches!(op, JmpOp::Sgt | JmpOp::Sge | JmpOp::Slt | JmpOp::Sle)
}

fn condition(op: JmpOp, lhs: u64, rhs: u64) -> bool {
    let (slhs, srhs) = (lhs as i64, rhs as i64);
    match op {
        JmpOp::Eq => lhs == rhs,
        JmpOp::Ne => lhs != rhs,
        JmpOp::Gt => lhs > rhs,
        JmpOp::Ge => lhs >= rhs,
        JmpOp::Lt => lhs < rhs,
        JmpOp::Le => lhs <= rhs,
        JmpOp::Set => lhs & rhs != 0,
        JmpOp::Sgt => slhs > srhs,
        JmpOp::Sge => slhs >= srhs,
        JmpOp::Slt => slhs < srhs,
        JmpOp::Sle => slhs <= srhs,
    }
}

fn alu64(op: AluOp, lhs: u64, rhs: u64) -> u64 {
    match op {
        AluOp::Add => lhs.wrapping_add(rhs),
        AluOp::Sub => lhs.wrapping_sub(rhs),
        AluOp::Mul => lhs.wrapping_mul(rhs),
        AluOp::Div => lhs.checked_div(rhs).unwrap_or(0),
        AluOp::Mod => lhs.checked_rem(rhs).unwrap_or(lhs),
        AluOp::Or => lhs | rhs,
        AluOp::And => lhs & rhs,
        AluOp::Xor => lhs ^ rhs,
        AluOp::Lsh => lhs << (rhs & 63),
        AluOp::Rsh => lhs >> (rhs & 63),
        AluOp::Arsh => ((lhs as i64) >> (rhs & 63)) as u64,
        AluOp::Mov => rhs,
    }
}

fn alu32(op: AluOp, lhs: u32, rhs: u32) -> u32 {
    match op {
        AluOp::Lsh => lhs << (rhs & 31),
        AluOp::Rsh => lhs >> (rhs & 31),
        AluOp::Arsh => ((lhs as i32) >> (rhs & 31)) as u32,
        AluOp::Mod => lhs.checked_rem(rhs).unwrap_or(lhs),
        AluOp::Div => lhs.checked_div(rhs).unwrap_or(0),
        _ => alu64(op, u64::from(lhs), u64::from(rhs)) as u32,
    }
}
