//! Who uses which bytes of the stack and of the scratch map, and for how long.

use std::collections::HashSet;

use cranelift_codegen::ir::StackSlot;

/// Stack slots of one function that are free again.
#[derive(Debug, Default)]
pub(super) struct StackArena {
    free: Vec<(StackSlot, u32)>,
    used: u32,
    booked: HashSet<StackSlot>,
}

impl StackArena {
    /// A slot that nobody uses any more and that fits without waste.
    pub(super) fn reuse(&mut self, size: u32) -> Option<StackSlot> {
        let size = size.next_multiple_of(8);
        let index = self.free.iter().position(|&(_, free)| free == size)?;
        Some(self.free.swap_remove(index).0)
    }

    /// As [`Self::reuse`], of those that were booked: who keeps another one for long has a new one made for each
    /// statement that needs one for itself.
    pub(super) fn reuse_booked(&mut self, size: u32) -> Option<StackSlot> {
        let size = size.next_multiple_of(8);
        let index = self
            .free
            .iter()
            .position(|(slot, free)| *free == size && self.booked.contains(slot))?;
        Some(self.free.swap_remove(index).0)
    }

    /// Books bytes for a new slot; false when the budget does not allow it.
    pub(super) fn book(&mut self, size: u32, budget: u32) -> bool {
        let used = self.used + size.next_multiple_of(8);
        if used > budget {
            return false;
        }
        self.used = used;
        true
    }

    pub(super) fn note_booked(&mut self, slot: StackSlot) {
        self.booked.insert(slot);
    }

    pub(super) fn release(&mut self, slot: StackSlot, size: u32) {
        self.free.push((slot, size.next_multiple_of(8)));
    }
}

/// Bytes of a program's entry in the scratch map.
#[derive(Debug, Default)]
pub(super) struct ScratchArena {
    /// Free ranges below `end`, in ascending order, never adjacent.
    free: Vec<(u32, u32)>,
    end: u32,
    high: u32,
}

impl ScratchArena {
    /// An offset for `size` bytes, aligned to 8.
    pub(super) fn alloc(&mut self, size: u32) -> u32 {
        let size = size.max(1).next_multiple_of(8);
        if let Some(index) = self.free.iter().position(|&(_, len)| len >= size) {
            let (start, len) = self.free[index];
            if len == size {
                self.free.remove(index);
            } else {
                self.free[index] = (start + size, len - size);
            }
            return start;
        }
        let start = self.end;
        self.end += size;
        self.high = self.high.max(self.end);
        start
    }

    pub(super) fn release(&mut self, start: u32, size: u32) {
        let size = size.max(1).next_multiple_of(8);
        let index = self.free.partition_point(|&(other, _)| other < start);
        self.free.insert(index, (start, size));
        if index + 1 < self.free.len() && start + size == self.free[index + 1].0 {
            self.free[index].1 += self.free[index + 1].1;
            self.free.remove(index + 1);
        }
        if index > 0 && self.free[index - 1].0 + self.free[index - 1].1 == start {
            self.free[index - 1].1 += self.free[index].1;
            self.free.remove(index);
        }
        if let Some(&(start, len)) = self.free.last()
            && start + len == self.end
        {
            self.end = start;
            self.free.pop();
        }
    }

    /// Most bytes in use at one time.
    pub(super) fn high(&self) -> u32 {
        self.high
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_do_not_overlap_in_time_share_scratch() {
        let mut arena = ScratchArena::default();
        let (a, b, c) = (arena.alloc(100), arena.alloc(8), arena.alloc(16));
        assert_eq!((a, b, c), (0, 104, 112));
        arena.release(a, 100);
        assert_eq!(arena.alloc(40), 0);
        assert_eq!(arena.alloc(64), 40);
        arena.release(40, 64);
        arena.release(b, 8);
        assert_eq!(arena.alloc(72), 40, "neighbours merge");
        arena.release(c, 16);
        arena.release(0, 40);
        arena.release(40, 72);
        assert_eq!((arena.alloc(128), arena.high()), (0, 128));
    }
}
