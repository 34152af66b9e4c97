//! Which values live across calls.
//!
//! A call's arguments and result are in fixed registers, and calls lose r0 to r5. regalloc2 wants to
//! keep a value in the fixed register of its neighbours for as long as possible, and splits it where
//! that conflicts with a call, once on every path. Where a value has to survive a call anyway, it is
//! better kept in one register of its own from the start, with copies in and out of the fixed ones.
//! The answer here only decides between those two ways, so it need not be exact.

use cranelift_codegen::Context;
use cranelift_codegen::entity::SecondaryMap;
use cranelift_codegen::ir::{Block, Value, ValueDef};

use super::Lower;

/// Blocks to look at for one value; what lives on longer is taken to cross a call.
const MAX_BLOCKS: usize = 64;

/// Positions of calls and of uses. Instructions are numbered from 1 in each block; 0 is its start.
#[derive(Default)]
pub(super) struct Crossing {
    calls: SecondaryMap<Block, Vec<u32>>,
    defs: SecondaryMap<Value, u32>,
    /// Sorted by value.
    uses: Vec<(Value, Block, u32)>,
    preds: SecondaryMap<Block, Vec<Block>>,
    known: SecondaryMap<Value, Option<bool>>,
}

impl Crossing {
    fn has_call_between(&self, block: Block, after: u32, before: u32) -> bool {
        let calls = &self.calls[block];
        let next = calls.partition_point(|&call| call <= after);
        calls.get(next).is_some_and(|&call| call < before)
    }
}

impl Lower<'_> {
    /// Collects what [`Lower::crosses_call`] needs to know.
    pub(super) fn note_calls_and_uses(&mut self, context: &Context) {
        let func = self.func;
        let mut crossing = Crossing::default();
        for block in func.layout.blocks() {
            for pred in context.cfg.pred_iter(block) {
                crossing.preds[block].push(pred.block);
            }
            for (inst, at) in func.layout.block_insts(block).zip(1..) {
                if func.dfg.insts[inst].opcode().is_call() {
                    crossing.calls[block].push(at);
                }
                for value in func.dfg.inst_values(inst) {
                    crossing.uses.push((self.resolve(value), block, at));
                }
                for &result in func.dfg.inst_results(inst) {
                    crossing.defs[result] = at;
                }
            }
        }
        crossing.uses.sort_unstable();
        self.crossing = crossing;
    }

    /// Whether the value is needed after a call that comes after its definition.
    pub(super) fn crosses_call(&mut self, value: Value) -> bool {
        if let Some(known) = self.crossing.known[value] {
            return known;
        }
        let crosses = self.find_crossed_call(value);
        self.crossing.known[value] = Some(crosses);
        crosses
    }

    fn find_crossed_call(&self, value: Value) -> bool {
        let func = self.func;
        let crossing = &self.crossing;
        let def_block = match func.dfg.value_def(value) {
            ValueDef::Result(inst, _) => func.layout.inst_block(inst),
            ValueDef::Param(block, _) => Some(block),
            ValueDef::Union(..) => None,
        };
        let Some(def_block) = def_block else {
            return true;
        };
        let def_at = crossing.defs[value];
        let first = crossing.uses.partition_point(|&(used, ..)| used < value);
        let uses = crossing.uses[first..]
            .iter()
            .take_while(|&&(used, ..)| used == value);
        let mut seen: Vec<Block> = Vec::new();
        let mut queue: Vec<Block> = Vec::new();
        for &(_, block, at) in uses {
            if block == def_block && at > def_at {
                if crossing.has_call_between(block, def_at, at) {
                    return true;
                }
                continue;
            }
            if crossing.has_call_between(block, 0, at) {
                return true;
            }
            queue.extend(&crossing.preds[block]);
        }
        while let Some(block) = queue.pop() {
            if seen.contains(&block) {
                continue;
            }
            if block == def_block {
                if crossing.has_call_between(block, def_at, u32::MAX) {
                    return true;
                }
            } else {
                if !crossing.calls[block].is_empty() {
                    return true;
                }
                queue.extend(&crossing.preds[block]);
            }
            seen.push(block);
            if seen.len() > MAX_BLOCKS {
                return true;
            }
        }
        false
    }
}
