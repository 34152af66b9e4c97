//! Emission: allocated [`VCode`] to instructions, relocations and source positions.
//!
//! Blocks keep their order. A block that turned out to hold nothing but a jump is skipped, and
//! everybody jumps to where it leads; a jump to what comes next is left out. So no instruction is
//! emitted that cannot be reached, which the verifier would refuse.

use std::collections::BTreeMap;

use cranelift_codegen::ir::StackSlot;
use regalloc2::{Allocation as Loc, Inst};

use super::cleanup::{Code, Item};
use super::frame::Frame;
use super::insn::{AluOp, AtomicOp, Insn, PSEUDO_CALL, PSEUDO_FUNC, PSEUDO_NONE, Size, Src, Width};
use super::islands::{self, Cut, Jump};
use super::regs::Reg;
use super::vcode::{Addr, Base, BlockIdx, Callee, Cond, Offset, VCode, VInsn, VSrc, Wide};
use super::{BackendError, PatchField, Reloc, RelocKind};

/// How many instructions a way out of the function may have to be shared.
const MAX_SHARED_EXIT: usize = 4;

/// What emission yields.
#[derive(Default)]
pub(super) struct Emitted {
    pub(super) code: Vec<u8>,
    pub(super) relocs: Vec<Reloc>,
    pub(super) lines: Vec<(u32, u32)>,
}

/// Whether the code refers to a stack slot.
pub(super) fn used_slots(vcode: &VCode) -> Vec<StackSlot> {
    let mut slots = Vec::new();
    for (insn, _) in vcode.blocks.iter().flat_map(|block| &block.insns) {
        match insn {
            VInsn::SlotAddr { slot, .. }
            | VInsn::Load {
                addr:
                    Addr {
                        base: Base::Slot(slot),
                        ..
                    },
                ..
            }
            | VInsn::Store {
                addr:
                    Addr {
                        base: Base::Slot(slot),
                        ..
                    },
                ..
            }
            | VInsn::Atomic {
                addr:
                    Addr {
                        base: Base::Slot(slot),
                        ..
                    },
                ..
            }
            | VInsn::AtomicFetch {
                addr:
                    Addr {
                        base: Base::Slot(slot),
                        ..
                    },
                ..
            }
            | VInsn::CmpXchg {
                addr:
                    Addr {
                        base: Base::Slot(slot),
                        ..
                    },
                ..
            } => slots.push(*slot),
            _ => {}
        }
    }
    slots.sort_unstable();
    slots.dedup();
    slots
}

/// Emits a whole function.
pub(super) fn emit(
    vcode: &VCode,
    cleaned: &Code<'_>,
    frame: &Frame,
    max_jump: u32,
) -> Result<Emitted, BackendError> {
    let n_blocks = vcode.blocks.len();
    let mut emitter = Emitter {
        vcode,
        cleaned,
        frame,
        out: Emitted::default(),
        labels: vec![None; n_blocks],
        fixups: Vec::new(),
        cuts: Vec::new(),
        spacing: islands::spacing(max_jump),
        is_passed: true,
        forward: Vec::new(),
        srcloc: !0,
    };
    emitter.forward = emitter.jump_targets();
    emitter.share_exits()?;
    let order = emitter.order();
    for (nth, &block) in order.iter().enumerate() {
        emitter.block(block, order.get(nth + 1).copied())?;
    }
    let jumps = emitter.jumps()?;
    islands::link(emitter.out, &jumps, &emitter.cuts, max_jump)
}

struct Emitter<'a> {
    vcode: &'a VCode,
    cleaned: &'a Code<'a>,
    frame: &'a Frame,
    out: Emitted,
    /// Where each block starts, in slots.
    labels: Vec<Option<u32>>,
    /// Jumps whose offset is still to be filled in: their slot, and where they lead.
    fixups: Vec<(u32, BlockIdx)>,
    /// Where islands may be.
    cuts: Vec<Cut>,
    /// Instructions between them.
    spacing: u32,
    /// Whether the last instruction goes on to the next.
    is_passed: bool,
    /// For each block the one to jump to in its place.
    forward: Vec<BlockIdx>,
    srcloc: u32,
}

/// The allocations of one instruction, read in the order in which they were declared.
struct Regs<'a>(std::slice::Iter<'a, Loc>);

impl Regs<'_> {
    fn next(&mut self) -> Result<Reg, BackendError> {
        self.0
            .next()
            .and_then(|alloc| alloc.as_reg())
            .map(Reg::from_preg)
            .ok_or_else(|| BackendError::Regalloc("an operand has no register".to_owned()))
    }
}

impl Emitter<'_> {
    fn slot_idx(&self) -> u32 {
        (self.out.code.len() / 8) as u32
    }

    /// For each block, the block that it amounts to: itself unless it does nothing but jump.
    fn jump_targets(&self) -> Vec<BlockIdx> {
        let n_blocks = self.vcode.blocks.len();
        let mut forward: Vec<BlockIdx> = (0..n_blocks as BlockIdx).collect();
        for block in (1..n_blocks).rev() {
            let is_jump = matches!(
                self.vcode.blocks[block].insns.last(),
                Some((VInsn::Jump, _))
            );
            if !is_jump || self.cleaned.blocks[block].len() != 1 {
                continue;
            }
            let target = forward[self.vcode.blocks[block].succs[0].target as usize];
            if target as usize != block {
                forward[block] = target;
            }
        }
        // A backward jump may lead to a block that was forwarded after it. There are no rings: the
        // first block of one was the last to be looked at, and stayed.
        for block in 0..n_blocks {
            let mut target = forward[block];
            while forward[target as usize] != target {
                target = forward[target as usize];
            }
            forward[block] = target;
        }
        forward
    }

    /// The blocks to emit.
    fn order(&self) -> Vec<BlockIdx> {
        let blocks = 0..self.forward.len() as BlockIdx;
        blocks
            .filter(|&block| self.forward[block as usize] == block)
            .collect()
    }

    /// Lets blocks that leave the function in the same way share one copy, if nobody would have to
    /// jump there who has it coming next now.
    fn share_exits(&mut self) -> Result<(), BackendError> {
        let mut exits: BTreeMap<Vec<u8>, BlockIdx> = BTreeMap::new();
        let order = self.order();
        for (nth, &block) in order.iter().enumerate() {
            let idx = block as usize;
            if !self.vcode.blocks[idx].succs.is_empty()
                || self.cleaned.blocks[idx].len() > MAX_SHARED_EXIT
            {
                continue;
            }
            let mut scratch = Emitter {
                out: Emitted::default(),
                labels: Vec::new(),
                fixups: Vec::new(),
                cuts: Vec::new(),
                forward: Vec::new(),
                ..*self
            };
            scratch.body(block, None)?;
            if !scratch.out.relocs.is_empty() {
                continue;
            }
            let first = *exits.entry(scratch.out.code).or_insert(block);
            let is_next = nth > 0
                && self.vcode.blocks[order[nth - 1] as usize]
                    .succs
                    .iter()
                    .any(|edge| self.forward[edge.target as usize] == block);
            if first != block && !is_next {
                self.forward[idx] = first;
            }
        }
        for block in 0..self.forward.len() {
            let target = self.forward[block] as usize;
            self.forward[block] = self.forward[target];
        }
        Ok(())
    }

    fn block(&mut self, block: BlockIdx, next: Option<BlockIdx>) -> Result<(), BackendError> {
        // A label comes after the island at its place.
        self.cut();
        self.labels[block as usize] = Some(self.slot_idx());
        self.body(block, next)
    }

    fn body(&mut self, block: BlockIdx, next: Option<BlockIdx>) -> Result<(), BackendError> {
        let (vcode, cleaned) = (self.vcode, self.cleaned);
        for item in &cleaned.blocks[block as usize] {
            self.cut();
            match *item {
                Item::Move { from, to } => self.edit(from, to)?,
                Item::Insn { inst, nth } => {
                    let (insn, srcloc) = &vcode.blocks[block as usize].insns[nth];
                    self.srcloc = *srcloc;
                    self.insn(block, insn, inst, next)?;
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, insn: Insn) {
        let idx = self.slot_idx();
        if self
            .out
            .lines
            .last()
            .is_none_or(|&(_, srcloc)| srcloc != self.srcloc)
            && self.srcloc != !0
        {
            self.out
                .lines
                .push((if self.out.lines.is_empty() { 0 } else { idx }, self.srcloc));
        }
        insn.encode(&mut self.out.code);
        self.is_passed = !matches!(insn, Insn::Jump { .. } | Insn::Exit);
    }

    /// Notes that an island may be here, between two instructions before register allocation, if
    /// the last such place is far enough away.
    fn cut(&mut self) {
        let before = self.slot_idx();
        let last = self.cuts.last().map_or(0, |cut| cut.before);
        if before >= last + self.spacing {
            self.cuts.push(Cut {
                before,
                is_passed: self.is_passed,
            });
        }
    }

    fn reloc(&mut self, kind: RelocKind) {
        let insn_idx = self.slot_idx();
        self.out.relocs.push(Reloc { insn_idx, kind });
    }

    fn patch(&mut self, patch: u32, field: PatchField) {
        self.reloc(RelocKind::Patch { patch, field });
    }

    /// A move, spill or reload that register allocation asked for.
    fn edit(&mut self, from: Loc, to: Loc) -> Result<(), BackendError> {
        let size = Size::Dw;
        let insn = match (from.as_reg(), to.as_reg(), self.spill(from), self.spill(to)) {
            (Some(from), Some(to), ..) => mov(Reg::from_preg(to), Reg::from_preg(from)),
            (Some(from), _, _, Some(off)) => {
                let src = Src::Reg(Reg::from_preg(from));
                Insn::Store {
                    size,
                    base: Reg::FP,
                    off,
                    src,
                }
            }
            (_, Some(to), Some(off), _) => Insn::Load {
                size,
                dst: Reg::from_preg(to),
                base: Reg::FP,
                off,
            },
            _ => return Err(BackendError::Regalloc(format!("move from {from} to {to}"))),
        };
        self.push(insn);
        Ok(())
    }

    /// Offset of a spill slot from r10.
    fn spill(&self, loc: Loc) -> Option<i16> {
        let number = self.cleaned.spill_number(loc.as_stack()?.index())?;
        Some(self.frame.spill(number))
    }

    /// A right operand; a patched constant becomes a relocation of the instruction about to be
    /// pushed.
    fn src(&mut self, src: VSrc, regs: &mut Regs<'_>) -> Result<Src, BackendError> {
        Ok(match src {
            VSrc::Reg(_) => Src::Reg(regs.next()?),
            VSrc::Imm(imm) => Src::Imm(imm),
            VSrc::Patch(patch) => {
                self.patch(patch, PatchField::Imm32);
                Src::Imm(0)
            }
        })
    }

    fn addr(&mut self, addr: &Addr, regs: &mut Regs<'_>) -> Result<(Reg, i16), BackendError> {
        let (base, start) = match addr.base {
            Base::Reg(_) => (regs.next()?, 0),
            Base::Slot(slot) => (Reg::FP, self.frame.slot(slot, 0)),
        };
        let offset = match addr.offset {
            Offset::Const(offset) => i32::from(offset),
            Offset::Patch(patch) => {
                self.patch(patch, PatchField::Offset);
                0
            }
        };
        let sum = start + offset;
        match i16::try_from(sum) {
            Ok(offset) => Ok((base, offset)),
            Err(_) => Err(BackendError::Unsupported {
                what: "an access far outside of a stack slot".to_owned(),
                insn: format!("r10 {sum:+}"),
                srcloc: (self.srcloc != !0).then_some(self.srcloc),
            }),
        }
    }

    fn insn(
        &mut self,
        block: BlockIdx,
        insn: &VInsn,
        inst: Inst,
        next: Option<BlockIdx>,
    ) -> Result<(), BackendError> {
        let cleaned = self.cleaned;
        let mut regs = Regs(cleaned.allocs(inst).iter());
        match insn {
            // Copies have become moves.
            VInsn::Args { .. } | VInsn::CopyIn { .. } | VInsn::CopyOut { .. } => {}
            VInsn::Alu { op, width, rhs, .. } => {
                let dst = regs.next()?;
                let src = self.src(*rhs, &mut regs)?;
                self.push(Insn::Alu {
                    op: *op,
                    width: *width,
                    dst,
                    src,
                });
            }
            VInsn::Mov { width, src, .. } => {
                let src = self.src(*src, &mut regs)?;
                let dst = regs.next()?;
                if *width == Width::W32 || src != Src::Reg(dst) {
                    self.push(Insn::Alu {
                        op: AluOp::Mov,
                        width: *width,
                        dst,
                        src,
                    });
                }
            }
            VInsn::Neg { width, .. } => {
                let dst = regs.next()?;
                self.push(Insn::Neg { width: *width, dst });
            }
            VInsn::ByteOrder { order, bits, .. } => {
                let dst = regs.next()?;
                self.push(Insn::ByteOrder {
                    order: *order,
                    bits: *bits,
                    dst,
                });
            }
            VInsn::LdImm64 { value, .. } => {
                let dst = regs.next()?;
                self.ld_imm64(dst, *value);
            }
            VInsn::SlotAddr { slot, offset, .. } => {
                let dst = regs.next()?;
                let imm = self.frame.slot(*slot, *offset);
                self.push(mov(dst, Reg::FP));
                let src = Src::Imm(imm);
                self.push(Insn::Alu {
                    op: AluOp::Add,
                    width: Width::W64,
                    dst,
                    src,
                });
            }
            VInsn::Load { size, addr, .. } => {
                let (base, off) = self.addr(addr, &mut regs)?;
                let dst = regs.next()?;
                self.push(Insn::Load {
                    size: *size,
                    dst,
                    base,
                    off,
                });
            }
            VInsn::Store { size, addr, src } => {
                let (base, off) = self.addr(addr, &mut regs)?;
                let src = self.src(*src, &mut regs)?;
                self.push(Insn::Store {
                    size: *size,
                    base,
                    off,
                    src,
                });
            }
            VInsn::Atomic {
                op, width, addr, ..
            } => {
                let (base, off) = self.addr(addr, &mut regs)?;
                let src = regs.next()?;
                self.push(Insn::Atomic {
                    op: *op,
                    width: *width,
                    base,
                    off,
                    src,
                });
            }
            VInsn::AtomicFetch {
                op, width, addr, ..
            } => {
                let src = regs.next()?;
                let (base, off) = self.addr(addr, &mut regs)?;
                self.push(Insn::Atomic {
                    op: *op,
                    width: *width,
                    base,
                    off,
                    src,
                });
            }
            VInsn::CmpXchg { width, addr, .. } => {
                let _expected = regs.next()?;
                let (base, off) = self.addr(addr, &mut regs)?;
                let src = regs.next()?;
                self.push(Insn::Atomic {
                    op: AtomicOp::CmpXchg,
                    width: *width,
                    base,
                    off,
                    src,
                });
            }
            VInsn::Select {
                cond,
                if_true,
                if_false,
                mov_width,
                ..
            } => {
                let dst = regs.next()?;
                let lhs = if cond.lhs == *if_true {
                    dst
                } else {
                    regs.next()?
                };
                let rhs = self.src(cond.rhs, &mut regs)?;
                let src = self.src(*if_false, &mut regs)?;
                self.push(Insn::JumpIf {
                    op: cond.op,
                    width: cond.width,
                    lhs,
                    rhs,
                    off: 1,
                });
                self.push(Insn::Alu {
                    op: AluOp::Mov,
                    width: *mov_width,
                    dst,
                    src,
                });
            }
            VInsn::Call { callee, .. } => self.call(*callee),
            VInsn::TrapIf { cond } => {
                let (lhs, rhs) = (regs.next()?, self.src(cond.rhs, &mut regs)?);
                let Cond { op, width, .. } = *cond;
                match op.inverse() {
                    Some(op) => self.push(Insn::JumpIf {
                        op,
                        width,
                        lhs,
                        rhs,
                        off: 2,
                    }),
                    None => {
                        self.push(Insn::JumpIf {
                            op,
                            width,
                            lhs,
                            rhs,
                            off: 1,
                        });
                        self.push(Insn::Jump { off: 2 });
                    }
                }
                self.trap();
            }
            VInsn::Jump => self.jump(self.succ(block, 0), next),
            VInsn::Branch { cond } => {
                let (lhs, rhs) = (regs.next()?, self.src(cond.rhs, &mut regs)?);
                self.branch(block, cond, lhs, rhs, next);
            }
            VInsn::Ret { .. } => self.push(Insn::Exit),
            VInsn::Trap => self.trap(),
        }
        Ok(())
    }

    fn trap(&mut self) {
        let src = Src::Imm(0);
        self.push(Insn::Alu {
            op: AluOp::Mov,
            width: Width::W32,
            dst: Reg::R0,
            src,
        });
        self.push(Insn::Exit);
    }

    fn ld_imm64(&mut self, dst: Reg, value: Wide) {
        let (pseudo, value) = match value {
            Wide::Const(value) => (PSEUDO_NONE, value),
            Wide::SubprogAddr(func) => {
                self.reloc(RelocKind::SubprogAddr(func));
                (PSEUDO_FUNC, 0)
            }
            Wide::KfuncAddr(func) => {
                self.reloc(RelocKind::KfuncAddr(func));
                (PSEUDO_NONE, 0)
            }
            Wide::Map(map) => {
                self.reloc(RelocKind::Map(map));
                (PSEUDO_NONE, 0)
            }
            Wide::Data { section, offset } => {
                self.reloc(RelocKind::Data { section, offset });
                (PSEUDO_NONE, u64::from(offset))
            }
            Wide::Patch(patch) => {
                self.patch(patch, PatchField::Imm64);
                (PSEUDO_NONE, 0)
            }
        };
        self.push(Insn::LdImm64 { dst, pseudo, value });
    }

    fn call(&mut self, callee: Callee) {
        let (pseudo, imm) = match callee {
            Callee::Helper(id) => (PSEUDO_NONE, id as i32),
            Callee::Kfunc(func) => {
                self.reloc(RelocKind::KfuncCall(func));
                (PSEUDO_CALL, -1)
            }
            Callee::Subprog(func) => {
                self.reloc(RelocKind::SubprogCall(func));
                (PSEUDO_CALL, -1)
            }
        };
        self.push(Insn::Call { pseudo, imm });
    }

    fn succ(&self, block: BlockIdx, nth: usize) -> BlockIdx {
        self.forward[self.vcode.blocks[block as usize].succs[nth].target as usize]
    }

    fn jump(&mut self, target: BlockIdx, next: Option<BlockIdx>) {
        if next != Some(target) {
            self.fixups.push((self.slot_idx(), target));
            self.push(Insn::Jump { off: 0 });
        }
    }

    fn branch(&mut self, block: BlockIdx, cond: &Cond, lhs: Reg, rhs: Src, next: Option<BlockIdx>) {
        let (then, otherwise) = (self.succ(block, 0), self.succ(block, 1));
        if then == otherwise {
            self.jump(then, next);
            return;
        }
        let Cond { op, width, .. } = *cond;
        let (op, target, rest) = match op.inverse() {
            Some(inverse) if next == Some(then) => (inverse, otherwise, then),
            _ => (op, then, otherwise),
        };
        self.fixups.push((self.slot_idx(), target));
        self.push(Insn::JumpIf {
            op,
            width,
            lhs,
            rhs,
            off: 0,
        });
        self.jump(rest, next);
    }

    /// All jumps between blocks.
    fn jumps(&self) -> Result<Vec<Jump>, BackendError> {
        let resolve = |&(at, target): &(u32, BlockIdx)| match self.labels[target as usize] {
            Some(target) => Ok(Jump { at, target }),
            None => Err(BackendError::Regalloc(format!(
                "block {target} was not emitted"
            ))),
        };
        self.fixups.iter().map(resolve).collect()
    }
}

fn mov(dst: Reg, src: Reg) -> Insn {
    Insn::Alu {
        op: AluOp::Mov,
        width: Width::W64,
        dst,
        src: Src::Reg(src),
    }
}
