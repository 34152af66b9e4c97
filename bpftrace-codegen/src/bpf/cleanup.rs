//! After register allocation: the instructions and moves of each block in order, without dead ones.
//!
//! regalloc2 saves a register it borrows for a move between two stack slots, whether or not the
//! register holds anything; the verifier refuses to read a register that was never written. What is
//! saved so is never needed again, and so is dead. The same goes for values that are handed from
//! block to block and used by none.
//!
//! Liveness is that of registers and spill slots, and optimistic: what an instruction reads is live
//! only if the instruction is needed itself, so that values that only keep themselves alive around a
//! loop go too.

use regalloc2::{Allocation as Loc, Edit, Inst, Operand, OperandKind, PRegSet, ProgPoint};

use super::copies;
use super::regalloc::Allocation;
use super::vcode::{VCode, VInsn};

/// An instruction or a move that register allocation asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// The `nth` instruction of the block.
    Insn { inst: Inst, nth: usize },
    /// A move, spill or reload.
    Move { from: Loc, to: Loc },
}

/// The function after register allocation: what is left to do, block by block, and where.
pub(super) struct Code<'a> {
    vcode: &'a VCode,
    allocation: &'a Allocation,
    pub(super) blocks: Vec<Vec<Item>>,
    /// regalloc2's allocations, as far as they were not changed.
    allocs: Vec<Loc>,
    /// For each spill slot that regalloc2 numbered, its number among those still used.
    spill_numbers: Vec<Option<usize>>,
    /// Spill slots still used.
    pub(super) n_spills: usize,
}

impl<'a> Code<'a> {
    /// The new number of a spill slot.
    pub(super) fn spill_number(&self, slot: usize) -> Option<usize> {
        self.spill_numbers.get(slot).copied().flatten()
    }

    pub(super) fn insn(&self, block: usize, nth: usize) -> &'a VInsn {
        &self.vcode.blocks[block].insns[nth].0
    }

    pub(super) fn operands(&self, inst: Inst) -> &'a [Operand] {
        self.allocation.operands(inst)
    }

    pub(super) fn clobbers(&self, inst: Inst) -> PRegSet {
        self.allocation.clobbers(inst)
    }

    /// Where the operands of an instruction are, in their order.
    pub(super) fn allocs(&self, inst: Inst) -> &[Loc] {
        let start = self.allocation.output.inst_alloc_offsets[inst.index()] as usize;
        &self.allocs[start..start + self.operands(inst).len()]
    }

    pub(super) fn alloc(&self, inst: Inst, operand: usize) -> Loc {
        self.allocs(inst)[operand]
    }

    pub(super) fn set_alloc(&mut self, inst: Inst, operand: usize, loc: Loc) {
        let start = self.allocation.output.inst_alloc_offsets[inst.index()] as usize;
        self.allocs[start + operand] = loc;
    }
}

/// Bit of r0 to r9, and of the first spill slot. Everything together fits 128 bits as far as the
/// stack has room for it; what is beyond counts as always live.
const FIRST_SPILL_BIT: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Live(u128);

impl Live {
    fn bit(loc: Loc) -> Option<u128> {
        let bit = match (loc.as_reg(), loc.as_stack()) {
            (Some(preg), _) => preg.hw_enc(),
            (_, Some(slot)) => FIRST_SPILL_BIT + slot.index(),
            _ => return None,
        };
        1u128.checked_shl(bit as u32)
    }

    pub(super) fn contains(self, loc: Loc) -> bool {
        Live::bit(loc).is_none_or(|bit| self.0 & bit != 0)
    }

    fn insert(&mut self, loc: Loc) {
        self.0 |= Live::bit(loc).unwrap_or(0);
    }

    fn remove(&mut self, loc: Loc) {
        self.0 &= !Live::bit(loc).unwrap_or(0);
    }
}

/// Whether the instruction is only there for its result.
fn is_pure(insn: &VInsn) -> bool {
    matches!(
        insn,
        VInsn::Alu { .. }
            | VInsn::Mov { .. }
            | VInsn::Neg { .. }
            | VInsn::ByteOrder { .. }
            | VInsn::LdImm64 { .. }
            | VInsn::SlotAddr { .. }
            | VInsn::Load { .. }
            | VInsn::Select { .. }
    )
}

/// Merges instructions and moves, and drops what is dead or moves in vain.
pub(super) fn clean<'a>(vcode: &'a VCode, allocation: &'a Allocation) -> Code<'a> {
    let mut code = Code {
        vcode,
        allocation,
        blocks: items(vcode, allocation),
        allocs: allocation.output.allocs.clone(),
        spill_numbers: Vec::new(),
        n_spills: 0,
    };
    copies::propagate(&mut code);
    code.drop_dead();
    let live_in = code.liveness();
    let live_out: Vec<Live> = (0..code.blocks.len())
        .map(|block| code.live_out(block, &live_in))
        .collect();
    copies::coalesce(&mut code, &live_out);
    code.number_spills();
    code
}

fn items(vcode: &VCode, allocation: &Allocation) -> Vec<Vec<Item>> {
    let mut edits = allocation.output.edits.iter().peekable();
    let mut blocks = Vec::with_capacity(vcode.blocks.len());
    for (idx, block) in vcode.blocks.iter().enumerate() {
        let mut items = Vec::with_capacity(block.insns.len());
        for nth in 0..block.insns.len() {
            let inst = Inst::new(allocation.starts[idx] + nth);
            let point = ProgPoint::before(inst);
            while let Some((_, Edit::Move { from, to })) = edits.next_if(|(at, _)| *at <= point) {
                if from != to {
                    items.push(Item::Move {
                        from: *from,
                        to: *to,
                    });
                }
            }
            if let VInsn::CopyIn { .. } | VInsn::CopyOut { .. } = block.insns[nth].0
                && let &[from, to] = allocation.output.inst_allocs(inst)
            {
                items.push(Item::Move { from, to });
            } else {
                items.push(Item::Insn { inst, nth });
            }
        }
        blocks.push(items);
    }
    blocks
}

impl Code<'_> {
    fn drop_dead(&mut self) {
        let live_in = self.liveness();
        for block in 0..self.blocks.len() {
            let mut live = self.live_out(block, &live_in);
            let mut items = std::mem::take(&mut self.blocks[block]);
            items.reverse();
            items.retain(|item| self.step(block, item, &mut live));
            items.reverse();
            self.blocks[block] = items;
        }
    }

    fn number_spills(&mut self) {
        self.spill_numbers = vec![None; self.allocation.output.num_spillslots];
        for item in self.blocks.iter().flatten() {
            let Item::Move { from, to } = item else {
                continue;
            };
            for slot in [from.as_stack(), to.as_stack()].into_iter().flatten() {
                let number = &mut self.spill_numbers[slot.index()];
                if number.is_none() {
                    *number = Some(self.n_spills);
                    self.n_spills += 1;
                }
            }
        }
    }

    /// What is live at the start of each block.
    fn liveness(&self) -> Vec<Live> {
        let n_blocks = self.blocks.len();
        let mut live_in = vec![Live::default(); n_blocks];
        let mut preds: Vec<Vec<usize>> = vec![Vec::new(); n_blocks];
        for (idx, block) in self.vcode.blocks.iter().enumerate() {
            for edge in &block.succs {
                preds[edge.target as usize].push(idx);
            }
        }
        // Popped from the end, that is backwards, so that without loops each block is done once.
        let mut is_queued = vec![true; n_blocks];
        let mut queue: Vec<usize> = (0..n_blocks).collect();
        while let Some(idx) = queue.pop() {
            is_queued[idx] = false;
            let mut live = self.live_out(idx, &live_in);
            for item in self.blocks[idx].iter().rev() {
                self.step(idx, item, &mut live);
            }
            if live_in[idx] != live {
                live_in[idx] = live;
                for &pred in &preds[idx] {
                    if !is_queued[pred] {
                        is_queued[pred] = true;
                        queue.push(pred);
                    }
                }
            }
        }
        live_in
    }

    fn live_out(&self, block: usize, live_in: &[Live]) -> Live {
        let succs = self.vcode.blocks[block].succs.iter();
        Live(succs.fold(0, |live, edge| live | live_in[edge.target as usize].0))
    }

    /// Goes backwards over one item; returns whether it is needed.
    pub(super) fn step(&self, block: usize, item: &Item, live: &mut Live) -> bool {
        match *item {
            Item::Move { from, to } => {
                if from == to || !live.contains(to) {
                    return false;
                }
                live.remove(to);
                live.insert(from);
            }
            Item::Insn { inst, nth } => {
                let operands = || self.operands(inst).iter().zip(self.allocs(inst));
                let is_def = |operand: &Operand| operand.kind() == OperandKind::Def;
                if is_pure(self.insn(block, nth))
                    && !operands().any(|(operand, loc)| is_def(operand) && live.contains(*loc))
                {
                    return false;
                }
                for (operand, loc) in operands() {
                    if is_def(operand) {
                        live.remove(*loc);
                    }
                }
                for preg in self.clobbers(inst) {
                    live.remove(Loc::reg(preg));
                }
                for (operand, loc) in operands() {
                    if !is_def(operand) {
                        live.insert(*loc);
                    }
                }
            }
        }
        true
    }
}
