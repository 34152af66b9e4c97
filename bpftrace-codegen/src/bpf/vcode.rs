//! Instructions with virtual registers: what lowering makes and register allocation reads.
//!
//! Blocks are in their final order, block 0 is the entry, every block ends in exactly one
//! terminator, and no edge leads from a block with several successors to one with several
//! predecessors. Every virtual register has one definition.

use cranelift_codegen::ir::StackSlot;
use regalloc2::VReg;
use std::fmt;

use super::disasm::{jmp_symbol, size_name};
use super::insn::{AluOp, AtomicOp, Endian, JmpOp, Size, Width};

/// Index of a block in [`VCode::blocks`].
pub(super) type BlockIdx = u32;

/// Right operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VSrc {
    Reg(VReg),
    Imm(i32),
    /// A 32-bit immediate that the loader fills in.
    Patch(u32),
}

/// What a [`VInsn::LdImm64`] loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wide {
    Const(u64),
    SubprogAddr(u32),
    KfuncAddr(u32),
    Map(u32),
    Data { section: u32, offset: u32 },
    Patch(u32),
}

/// What an address starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    Reg(VReg),
    /// A CLIF stack slot; becomes r10 and the slot's place in the frame.
    Slot(StackSlot),
}

/// What is added to the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offset {
    Const(i16),
    /// Filled in by the loader.
    Patch(u32),
}

/// Address of a memory access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Addr {
    pub(super) base: Base,
    pub(super) offset: Offset,
}

/// A condition that one BPF jump can test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cond {
    pub(super) op: JmpOp,
    pub(super) width: Width,
    pub(super) lhs: VReg,
    pub(super) rhs: VSrc,
}

/// Callee of a [`VInsn::Call`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Callee {
    Helper(u32),
    Kfunc(u32),
    Subprog(u32),
}

/// One instruction before register allocation; most become one BPF instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum VInsn {
    /// The function's arguments arrive in r1 to r5. First instruction of the entry block.
    Args {
        defs: Vec<VReg>,
    },
    /// `dst = lhs op rhs`; never `Mov`. `dst` shares the register of `lhs`.
    Alu {
        op: AluOp,
        width: Width,
        dst: VReg,
        lhs: VReg,
        rhs: VSrc,
    },
    /// `dst = src`, where `dst` may be a spill slot. Becomes a move like those of regalloc2.
    CopyIn {
        dst: VReg,
        src: VReg,
    },
    /// `dst = src`, where `src` may be a spill slot.
    CopyOut {
        dst: VReg,
        src: VReg,
    },
    /// `dst = src`.
    Mov {
        width: Width,
        dst: VReg,
        src: VSrc,
    },
    /// `dst = -src`, in one register.
    Neg {
        width: Width,
        dst: VReg,
        src: VReg,
    },
    /// Byte order conversion, in one register.
    ByteOrder {
        order: Endian,
        bits: u8,
        dst: VReg,
        src: VReg,
    },
    LdImm64 {
        dst: VReg,
        value: Wide,
    },
    /// Address of a byte in a stack slot; two BPF instructions.
    SlotAddr {
        dst: VReg,
        slot: StackSlot,
        offset: i32,
    },
    Load {
        size: Size,
        dst: VReg,
        addr: Addr,
    },
    Store {
        size: Size,
        addr: Addr,
        src: VSrc,
    },
    /// Atomic without result.
    Atomic {
        op: AtomicOp,
        width: Width,
        addr: Addr,
        src: VReg,
    },
    /// Atomic whose result, the old value, shares the register of `src`.
    AtomicFetch {
        op: AtomicOp,
        width: Width,
        dst: VReg,
        addr: Addr,
        src: VReg,
    },
    /// Compare and exchange; `expected` and the result are in r0.
    CmpXchg {
        width: Width,
        dst: VReg,
        addr: Addr,
        expected: VReg,
        src: VReg,
    },
    /// `dst = cond ? if_true : if_false`: `dst` shares the register of `if_true`, and a move is
    /// jumped over. A condition on `if_true` itself is tested on `dst`.
    Select {
        cond: Cond,
        dst: VReg,
        if_true: VReg,
        if_false: VSrc,
        mov_width: Width,
    },
    Call {
        callee: Callee,
        args: Vec<VReg>,
        result: Option<VReg>,
    },
    /// Leaves the function with 0 if the condition holds; three BPF instructions.
    TrapIf {
        cond: Cond,
    },
    /// Terminator.
    Jump,
    /// Terminator; successor 0 if the condition holds, else successor 1.
    Branch {
        cond: Cond,
    },
    /// Terminator.
    Ret {
        value: VReg,
    },
    /// Terminator: leaves the function with 0.
    Trap,
}

impl VInsn {
    pub(super) fn is_terminator(&self) -> bool {
        matches!(
            self,
            VInsn::Jump | VInsn::Branch { .. } | VInsn::Ret { .. } | VInsn::Trap
        )
    }
}

/// A way out of a block, with the values for the target's parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Edge {
    pub(super) target: BlockIdx,
    pub(super) args: Vec<VReg>,
}

/// A basic block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct VBlock {
    pub(super) params: Vec<VReg>,
    /// Each with its `SourceLoc`.
    pub(super) insns: Vec<(VInsn, u32)>,
    pub(super) succs: Vec<Edge>,
}

/// A function before register allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct VCode {
    pub(super) blocks: Vec<VBlock>,
    /// Virtual registers are numbered below this.
    pub(super) n_vregs: usize,
}

impl VCode {
    /// Puts the blocks in reverse postorder and drops those that cannot be reached. Where a block
    /// branches, its second successor comes next if possible, so that the jump is the exception.
    pub(super) fn order_blocks(self) -> VCode {
        const UNSEEN: BlockIdx = BlockIdx::MAX;
        let n_blocks = self.blocks.len();
        let mut postorder: Vec<BlockIdx> = Vec::with_capacity(n_blocks);
        let mut seen = vec![false; n_blocks];
        let mut stack: Vec<(BlockIdx, usize)> = vec![(0, 0)];
        seen[0] = true;
        while let Some((block, next)) = stack.last_mut() {
            match self.blocks[*block as usize].succs.get(*next) {
                Some(edge) => {
                    *next += 1;
                    if !seen[edge.target as usize] {
                        seen[edge.target as usize] = true;
                        stack.push((edge.target, 0));
                    }
                }
                None => {
                    postorder.push(*block);
                    stack.pop();
                }
            }
        }
        let mut new_idx = vec![UNSEEN; n_blocks];
        for (idx, &block) in postorder.iter().rev().enumerate() {
            new_idx[block as usize] = idx as BlockIdx;
        }
        let mut old: Vec<Option<VBlock>> = self.blocks.into_iter().map(Some).collect();
        let mut blocks = Vec::with_capacity(postorder.len());
        for &block in postorder.iter().rev() {
            let mut block = old[block as usize].take().unwrap_or_default();
            for edge in &mut block.succs {
                edge.target = new_idx[edge.target as usize];
            }
            blocks.push(block);
        }
        VCode {
            blocks,
            n_vregs: self.n_vregs,
        }
    }
}

struct R(VReg);

impl fmt::Display for R {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0.vreg())
    }
}

impl fmt::Display for VSrc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VSrc::Reg(reg) => R(*reg).fmt(f),
            VSrc::Imm(imm) => imm.fmt(f),
            VSrc::Patch(patch) => write!(f, "patch{patch}"),
        }
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.base {
            Base::Reg(reg) => R(reg).fmt(f)?,
            Base::Slot(slot) => slot.fmt(f)?,
        }
        match self.offset {
            Offset::Const(offset) => write!(f, " {offset:+}"),
            Offset::Patch(patch) => write!(f, " +patch{patch}"),
        }
    }
}

impl fmt::Display for Cond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}{} {} {}",
            R(self.lhs),
            width_suffix(self.width),
            jmp_symbol(self.op),
            self.rhs
        )
    }
}

fn width_suffix(width: Width) -> &'static str {
    match width {
        Width::W32 => ".w",
        Width::W64 => "",
    }
}

impl fmt::Display for VInsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VInsn::Args { defs } => {
                for (idx, def) in defs.iter().enumerate() {
                    let sep = if idx == 0 { "" } else { ", " };
                    write!(f, "{sep}{} = arg{idx}", R(*def))?;
                }
                Ok(())
            }
            VInsn::Alu {
                op,
                width,
                dst,
                lhs,
                rhs,
            } => {
                let op = format!("{op:?}").to_lowercase();
                write!(
                    f,
                    "{} = {op}{} {}, {rhs}",
                    R(*dst),
                    width_suffix(*width),
                    R(*lhs)
                )
            }
            VInsn::CopyIn { dst, src } | VInsn::CopyOut { dst, src } => {
                write!(f, "{} = copy {}", R(*dst), R(*src))
            }
            VInsn::Mov { width, dst, src } => {
                write!(f, "{} = mov{} {src}", R(*dst), width_suffix(*width))
            }
            VInsn::Neg { width, dst, src } => {
                write!(f, "{} = neg{} {}", R(*dst), width_suffix(*width), R(*src))
            }
            VInsn::ByteOrder {
                order,
                bits,
                dst,
                src,
            } => {
                write!(f, "{} = to_{order:?}{bits} {}", R(*dst), R(*src))
            }
            VInsn::LdImm64 {
                dst,
                value: Wide::Const(value),
            } => {
                write!(f, "{} = imm64 {value:#x}", R(*dst))
            }
            VInsn::LdImm64 { dst, value } => write!(f, "{} = imm64 {value:?}", R(*dst)),
            VInsn::SlotAddr { dst, slot, offset } => {
                write!(f, "{} = addr {slot} {offset:+}", R(*dst))
            }
            VInsn::Load { size, dst, addr } => {
                write!(f, "{} = load.{} [{addr}]", R(*dst), size_name(*size))
            }
            VInsn::Store { size, addr, src } => {
                write!(f, "store.{} [{addr}], {src}", size_name(*size))
            }
            VInsn::Atomic {
                op,
                width,
                addr,
                src,
            } => {
                write!(
                    f,
                    "atomic {op:?}{} [{addr}], {}",
                    width_suffix(*width),
                    R(*src)
                )
            }
            VInsn::AtomicFetch {
                op,
                width,
                dst,
                addr,
                src,
            } => {
                let width = width_suffix(*width);
                write!(
                    f,
                    "{} = atomic {op:?}{width} [{addr}], {}",
                    R(*dst),
                    R(*src)
                )
            }
            VInsn::CmpXchg {
                width,
                dst,
                addr,
                expected,
                src,
            } => {
                let (width, expected) = (width_suffix(*width), R(*expected));
                write!(
                    f,
                    "{} = cmpxchg{width} [{addr}], {expected}, {}",
                    R(*dst),
                    R(*src)
                )
            }
            VInsn::Select {
                cond,
                dst,
                if_true,
                if_false,
                ..
            } => {
                write!(
                    f,
                    "{} = if {cond} then {} else {if_false}",
                    R(*dst),
                    R(*if_true)
                )
            }
            VInsn::Call {
                callee,
                args,
                result,
            } => {
                if let Some(result) = result {
                    write!(f, "{} = ", R(*result))?;
                }
                write!(f, "call {callee:?}")?;
                for arg in args {
                    write!(f, " {}", R(*arg))?;
                }
                Ok(())
            }
            VInsn::TrapIf { cond } => write!(f, "trap if {cond}"),
            VInsn::Jump => write!(f, "jump"),
            VInsn::Branch { cond } => write!(f, "if {cond}"),
            VInsn::Ret { value } => write!(f, "ret {}", R(*value)),
            VInsn::Trap => write!(f, "trap"),
        }
    }
}

fn write_list(f: &mut fmt::Formatter<'_>, regs: &[VReg]) -> fmt::Result {
    if regs.is_empty() {
        return Ok(());
    }
    let regs: Vec<String> = regs.iter().map(|&reg| R(reg).to_string()).collect();
    write!(f, "({})", regs.join(", "))
}

impl fmt::Display for VCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (idx, block) in self.blocks.iter().enumerate() {
            write!(f, "b{idx}")?;
            write_list(f, &block.params)?;
            writeln!(f, ":")?;
            for (insn, _) in &block.insns {
                write!(f, "    {insn}")?;
                if insn.is_terminator() {
                    for (nth, edge) in block.succs.iter().enumerate() {
                        write!(f, "{} b{}", if nth == 0 { " ->" } else { "," }, edge.target)?;
                        write_list(f, &edge.args)?;
                    }
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}
