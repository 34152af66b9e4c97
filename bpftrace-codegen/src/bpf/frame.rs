//! The stack frame: where stack slots and spilled registers lie below r10.
//!
//! Stack slots come first (nearest to r10), the largest alignment first so that no gaps arise, and
//! the 8-byte spill slots lie below them.

use bpftrace_ast::order::sort_by_number;
use cranelift_codegen::entity::SecondaryMap;
use cranelift_codegen::ir::{Function, StackSlot};

use super::BackendError;

/// Bytes of one spill slot.
const SPILL_BYTES: u32 = 8;

/// Offsets from r10.
pub(super) struct Frame {
    slots: SecondaryMap<StackSlot, i32>,
    /// Bytes above the spill slots.
    slot_bytes: u32,
    /// Bytes in all.
    pub(super) size: u32,
}

impl Frame {
    /// Lays out the stack slots that the code refers to, and `n_spills` spilled registers.
    ///
    /// # Errors
    ///
    /// `StackOverflow` if all of it takes more than `limit` bytes.
    pub(super) fn new(
        func: &Function,
        is_used: impl Fn(StackSlot) -> bool,
        n_spills: usize,
        limit: u32,
    ) -> Result<Frame, BackendError> {
        let mut order: Vec<(StackSlot, u32, u32)> = func
            .sized_stack_slots
            .iter()
            .filter(|&(slot, _)| is_used(slot))
            .map(|(slot, data)| (slot, data.size, 1 << data.align_shift.min(3)))
            .collect();
        // Stable, so that slots of one alignment keep their order.
        sort_by_number(&mut order, |&(_, size, align)| {
            u64::from(u32::MAX - natural_alignment(size).max(align))
        });
        let mut slots = SecondaryMap::new();
        let mut depth = 0u32;
        for (slot, size, align) in order {
            let align = natural_alignment(size).max(align);
            depth = depth.saturating_add(size).saturating_add(align - 1) / align * align;
            slots[slot] = -i32::try_from(depth).unwrap_or(i32::MAX);
        }
        let slot_bytes = depth.saturating_add(SPILL_BYTES - 1) / SPILL_BYTES * SPILL_BYTES;
        let spills = SPILL_BYTES.saturating_mul(u32::try_from(n_spills).unwrap_or(u32::MAX));
        let size = slot_bytes.saturating_add(spills);
        if size > limit {
            return Err(BackendError::StackOverflow {
                needed: size,
                spills,
                limit,
            });
        }
        Ok(Frame {
            slots,
            slot_bytes,
            size,
        })
    }

    /// Offset of a byte of a stack slot from r10.
    pub(super) fn slot(&self, slot: StackSlot, offset: i32) -> i32 {
        self.slots[slot].wrapping_add(offset)
    }

    /// Offset of a spill slot from r10.
    pub(super) fn spill(&self, idx: usize) -> i16 {
        // In range, since `size` is: at most 512.
        -((self.slot_bytes + SPILL_BYTES * (idx as u32 + 1)) as i16)
    }
}

/// The alignment that a slot of this size may want for its contents: slots hold map keys, values
/// and events, which start with 8-byte fields if they are large enough to have any.
fn natural_alignment(size: u32) -> u32 {
    match size {
        0 | 1 => 1,
        2 | 3 => 2,
        4..8 => 4,
        _ => 8,
    }
}
