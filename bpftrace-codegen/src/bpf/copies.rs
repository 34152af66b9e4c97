//! Fewer moves between registers, within blocks, after register allocation.
//!
//! - [`propagate`] lets instructions read a value where it came from, as long as it is still there,
//!   and takes a register's copy instead of reading a spill slot again. The move or reload then
//!   often turns out to be dead. It also keeps what the verifier knows: a reload from the stack has
//!   forgotten the bounds of a number on kernels before 5.16.
//! - [`coalesce`] computes a value in the register that it would be moved to.

use regalloc2::{Allocation as Loc, Operand, OperandConstraint, OperandKind};

use super::cleanup::{Code, Item, Live};
use super::insn::Width;
use super::vcode::VInsn;

/// How many instructions back the computation of a value may start.
const COALESCE_WINDOW: usize = 64;

fn reg_idx(loc: Loc) -> Option<usize> {
    loc.as_reg().map(|preg| preg.hw_enc())
}

fn is_def(operand: &Operand) -> bool {
    operand.kind() == OperandKind::Def
}

/// Which operand the instruction's result shares its register with.
fn tied_use(operands: &[Operand]) -> Option<usize> {
    operands
        .iter()
        .find_map(|operand| match operand.constraint() {
            OperandConstraint::Reuse(nth) => Some(nth),
            _ => None,
        })
}

fn is_free(operand: &Operand) -> bool {
    operand.constraint() == OperandConstraint::Reg
}

/// For each register, where else its value can be found.
#[derive(Default)]
struct Copies {
    regs: [Option<Loc>; 10],
    /// For spill slots by number, the register that holds the same.
    slots: Vec<Option<Loc>>,
}

impl Copies {
    /// The oldest register with the same contents.
    fn origin(&self, loc: Loc) -> Loc {
        let known = match (reg_idx(loc), loc.as_stack()) {
            (Some(idx), _) => self.regs[idx],
            (_, Some(slot)) => self.slots.get(slot.index()).copied().flatten(),
            _ => None,
        };
        known.unwrap_or(loc)
    }

    fn forget(&mut self, loc: Loc) {
        if let Some(slot) = loc.as_stack() {
            if let Some(known) = self.slots.get_mut(slot.index()) {
                *known = None;
            }
            return;
        }
        if let Some(idx) = reg_idx(loc) {
            self.regs[idx] = None;
        }
        for known in self.regs.iter_mut().chain(&mut self.slots) {
            if *known == Some(loc) {
                *known = None;
            }
        }
    }

    fn learn(&mut self, to: Loc, from: Loc) {
        if to == from || from.as_reg().is_none() {
            return;
        }
        if let Some(idx) = reg_idx(to) {
            self.regs[idx] = Some(from);
        } else if let Some(slot) = to.as_stack() {
            if self.slots.len() <= slot.index() {
                self.slots.resize(slot.index() + 1, None);
            }
            self.slots[slot.index()] = Some(from);
        }
    }

    /// After `to = from`.
    fn moved(&mut self, to: Loc, from: Loc) {
        let origin = self.origin(from);
        if origin == to {
            return;
        }
        self.forget(to);
        if origin.as_reg().is_some() {
            self.learn(to, origin);
        } else {
            // A reload: the slot's contents are in the register now.
            self.learn(origin, to);
        }
    }
}

/// Reads values where they came from.
pub(super) fn propagate(code: &mut Code<'_>) {
    for block in 0..code.blocks.len() {
        let mut copies = Copies::default();
        for at in 0..code.blocks[block].len() {
            match code.blocks[block][at] {
                Item::Move { from, to } => {
                    let origin = copies.origin(from);
                    if origin != from && (origin.as_reg().is_some()) {
                        code.blocks[block][at] = Item::Move { from: origin, to };
                    }
                    copies.moved(to, from);
                }
                Item::Insn { inst, nth } => {
                    let operands = code.operands(inst);
                    let tied = tied_use(operands);
                    for (idx, operand) in operands.iter().enumerate() {
                        if !is_def(operand) && is_free(operand) && tied != Some(idx) {
                            let alloc = code.alloc(inst, idx);
                            code.set_alloc(inst, idx, copies.origin(alloc));
                        }
                    }
                    let mov = match code.insn(block, nth) {
                        VInsn::Mov {
                            width: Width::W64, ..
                        } if operands.len() == 2 => {
                            Some((code.alloc(inst, 1), code.alloc(inst, 0)))
                        }
                        _ => None,
                    };
                    if let Some((to, from)) = mov {
                        copies.moved(to, from);
                        continue;
                    }
                    for (idx, operand) in operands.iter().enumerate() {
                        if is_def(operand) {
                            copies.forget(code.alloc(inst, idx));
                        }
                    }
                    for preg in code.clobbers(inst) {
                        copies.forget(Loc::reg(preg));
                    }
                }
            }
        }
    }
}

/// Computes values where they are needed. `live_out` is what is live at the end of each block.
pub(super) fn coalesce(code: &mut Code<'_>, live_out: &[Live]) {
    for (block, &live_out) in live_out.iter().enumerate() {
        let mut live = live_out;
        let mut at = code.blocks[block].len();
        while at > 0 {
            at -= 1;
            let item = code.blocks[block][at];
            if let Some((to, from)) = as_move(code, block, item)
                && !live.contains(from)
                && live.contains(to)
                && let Some(renames) = renames(code, block, at, from, to)
            {
                for rename in renames {
                    apply(code, block, rename, to);
                }
                // The item is the identity now; what is live before it is what was after it.
                code.blocks[block][at] = Item::Move { from: to, to };
                continue;
            }
            code.step(block, &item, &mut live);
        }
        code.blocks[block].retain(|item| !matches!(item, Item::Move { from, to } if from == to));
    }
}

/// The item as a move between registers: to, from.
fn as_move(code: &Code<'_>, block: usize, item: Item) -> Option<(Loc, Loc)> {
    match item {
        Item::Move { from, to } if from.is_reg() && to.is_reg() => Some((to, from)),
        Item::Insn { inst, nth } => match code.insn(block, nth) {
            VInsn::Mov {
                width: Width::W64, ..
            } if code.operands(inst).len() == 2 => Some((code.alloc(inst, 1), code.alloc(inst, 0))),
            _ => None,
        },
        Item::Move { .. } => None,
    }
}

/// A mention of a register to be replaced.
enum Rename {
    /// An operand of the instruction at this place of the block.
    Operand(usize, usize),
    /// The source, or destination, of the move at this place.
    MoveFrom(usize),
    MoveTo(usize),
}

fn apply(code: &mut Code<'_>, block: usize, rename: Rename, to: Loc) {
    match rename {
        Rename::Operand(at, idx) => {
            if let Item::Insn { inst, .. } = code.blocks[block][at] {
                code.set_alloc(inst, idx, to);
            }
        }
        Rename::MoveFrom(at) => {
            if let Item::Move { from, .. } = &mut code.blocks[block][at] {
                *from = to;
            }
        }
        Rename::MoveTo(at) => {
            if let Item::Move { to: dst, .. } = &mut code.blocks[block][at] {
                *dst = to;
            }
        }
    }
}

/// Every mention of `old` from where its value is made up to `end`, if `new` can take its place.
fn renames(code: &Code<'_>, block: usize, end: usize, old: Loc, new: Loc) -> Option<Vec<Rename>> {
    let mut renames = Vec::new();
    for at in (end.saturating_sub(COALESCE_WINDOW)..end).rev() {
        match code.blocks[block][at] {
            Item::Move { from, to } => {
                if to == old {
                    renames.push(Rename::MoveTo(at));
                    return Some(renames);
                }
                if from == new || to == new {
                    return None;
                }
                if from == old {
                    renames.push(Rename::MoveFrom(at));
                }
            }
            Item::Insn { inst, .. } => {
                let operands = code.operands(inst);
                let tied = tied_use(operands);
                let mut is_made_here = false;
                let mut reads_new = false;
                for (idx, operand) in operands.iter().enumerate() {
                    let loc = code.alloc(inst, idx);
                    if loc == new {
                        if is_def(operand) {
                            return None;
                        }
                        reads_new = true;
                    }
                    if loc != old {
                        continue;
                    }
                    let is_tied_def = matches!(operand.constraint(), OperandConstraint::Reuse(_));
                    if !is_free(operand) && !is_tied_def {
                        return None;
                    }
                    is_made_here |= is_def(operand) && !is_tied_def;
                    renames.push(Rename::Operand(at, idx));
                }
                let clobbers = code.clobbers(inst);
                let is_clobbered =
                    |loc: Loc| loc.as_reg().is_some_and(|reg| clobbers.contains(reg));
                if is_clobbered(new) || is_clobbered(old) {
                    return None;
                }
                if is_made_here {
                    // Uses are read before the result is written, so `new` may be among them; but
                    // a use of `old` here is of its previous value, which is not to be renamed.
                    renames.retain(|rename| match rename {
                        Rename::Operand(place, idx) => *place != at || is_def(&operands[*idx]),
                        _ => true,
                    });
                    return (tied.is_none()).then_some(renames);
                }
                if reads_new {
                    return None;
                }
            }
        }
    }
    None
}
