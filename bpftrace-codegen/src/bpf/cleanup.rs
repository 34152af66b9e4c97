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

use regalloc2::{Allocation as Loc, Edit, Inst, OperandKind, ProgPoint};

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

/// What remains, block by block.
pub(super) struct Cleaned {
    pub(super) blocks: Vec<Vec<Item>>,
    /// For each spill slot that regalloc2 numbered, its number among those still used.
    spill_numbers: Vec<Option<usize>>,
    /// Spill slots still used.
    pub(super) n_spills: usize,
}

impl Cleaned {
    /// The new number of a spill slot.
    pub(super) fn spill_number(&self, slot: usize) -> Option<usize> {
        self.spill_numbers.get(slot).copied().flatten()
    }
}

/// Bit of r0 to r9, and of the first spill slot. Everything together fits 128 bits as far as the
/// stack has room for it; what is beyond counts as always live.
const FIRST_SPILL_BIT: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Live(u128);

impl Live {
    fn bit(loc: Loc) -> Option<u128> {
        let bit = match (loc.as_reg(), loc.as_stack()) {
            (Some(preg), _) => preg.hw_enc(),
            (_, Some(slot)) => FIRST_SPILL_BIT + slot.index(),
            _ => return None,
        };
        1u128.checked_shl(bit as u32)
    }

    fn contains(self, loc: Loc) -> bool {
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

/// Merges instructions and moves, and drops what is dead.
pub(super) fn clean(vcode: &VCode, allocation: &Allocation) -> Cleaned {
    let blocks = items(vcode, allocation);
    let live_in = liveness(vcode, allocation, &blocks);
    let mut kept = Vec::with_capacity(blocks.len());
    for (idx, items) in blocks.iter().enumerate() {
        let mut live = live_out(vcode, idx, &live_in);
        let mut block: Vec<Item> = items
            .iter()
            .rev()
            .filter(|item| step(vcode, allocation, idx, item, &mut live))
            .copied()
            .collect();
        block.reverse();
        kept.push(block);
    }
    let mut spill_numbers = vec![None; allocation.output.num_spillslots];
    let mut n_spills = 0;
    for item in kept.iter().flatten() {
        let Item::Move { from, to } = item else {
            continue;
        };
        for slot in [from.as_stack(), to.as_stack()].into_iter().flatten() {
            let number = &mut spill_numbers[slot.index()];
            if number.is_none() {
                *number = Some(n_spills);
                n_spills += 1;
            }
        }
    }
    Cleaned {
        blocks: kept,
        spill_numbers,
        n_spills,
    }
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
            items.push(Item::Insn { inst, nth });
        }
        blocks.push(items);
    }
    blocks
}

/// What is live at the start of each block.
fn liveness(vcode: &VCode, allocation: &Allocation, blocks: &[Vec<Item>]) -> Vec<Live> {
    let mut live_in = vec![Live::default(); blocks.len()];
    let mut preds: Vec<Vec<usize>> = vec![Vec::new(); blocks.len()];
    for (idx, block) in vcode.blocks.iter().enumerate() {
        for edge in &block.succs {
            preds[edge.target as usize].push(idx);
        }
    }
    // Popped from the end, that is backwards, so that without loops each block is done once.
    let mut is_queued = vec![true; blocks.len()];
    let mut queue: Vec<usize> = (0..blocks.len()).collect();
    while let Some(idx) = queue.pop() {
        is_queued[idx] = false;
        let mut live = live_out(vcode, idx, &live_in);
        for item in blocks[idx].iter().rev() {
            step(vcode, allocation, idx, item, &mut live);
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

fn live_out(vcode: &VCode, block: usize, live_in: &[Live]) -> Live {
    let succs = vcode.blocks[block].succs.iter();
    Live(succs.fold(0, |live, edge| live | live_in[edge.target as usize].0))
}

/// Goes backwards over one item; returns whether it is needed.
fn step(
    vcode: &VCode,
    allocation: &Allocation,
    block: usize,
    item: &Item,
    live: &mut Live,
) -> bool {
    match *item {
        Item::Move { from, to } => {
            if !live.contains(to) {
                return false;
            }
            live.remove(to);
            live.insert(from);
        }
        Item::Insn { inst, nth } => {
            let insn = &vcode.blocks[block].insns[nth].0;
            let operands = || {
                let operands = allocation.operands(inst).iter();
                operands.zip(allocation.output.inst_allocs(inst))
            };
            let is_def = |kind| kind == OperandKind::Def;
            if is_pure(insn)
                && !operands().any(|(operand, loc)| is_def(operand.kind()) && live.contains(*loc))
            {
                return false;
            }
            for (operand, loc) in operands() {
                if is_def(operand.kind()) {
                    live.remove(*loc);
                }
            }
            for preg in allocation.clobbers(inst) {
                live.remove(Loc::reg(preg));
            }
            for (operand, loc) in operands() {
                if !is_def(operand.kind()) {
                    live.insert(*loc);
                }
            }
        }
    }
    true
}
