//! Places in the program's own memory, and copying between them.

use cranelift_codegen::ir::{InstBuilder, MemFlagsData, StackSlot, Type, Value, types};

use super::func::{FnCx, constant, own};
use super::helper::Helper;

/// A place in memory that direct loads may read: the stack, the scratch map, `.rodata`, a map value, a
/// record of the ring buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Addr {
    base: Base,
    offset: i32,
    /// A power of two that the base's address is a multiple of.
    align: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base {
    Value(Value),
    Slot(StackSlot),
    Frame,
    Scratch,
    Rodata,
}

/// Which bytes of a stored value are defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fill {
    /// All of them: padding and the bytes behind the NUL of a string are 0.
    Exact,
    /// Those that somebody looks at.
    Loose,
}

/// Who else may change the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Nobody.
    Own,
    /// Another CPU: loads are never merged.
    Shared,
    /// Nobody, not even this program.
    Constant,
}

/// Most instructions that a copy may take before a helper is called instead.
const MAX_INLINE_MOVES: usize = 16;

impl Addr {
    pub(super) fn value(base: Value, align: u32) -> Self {
        Self {
            base: Base::Value(base),
            offset: 0,
            align,
        }
    }

    pub(super) fn slot(slot: StackSlot) -> Self {
        Self {
            base: Base::Slot(slot),
            offset: 0,
            align: 8,
        }
    }

    pub(super) fn frame(offset: u32) -> Self {
        Self {
            base: Base::Frame,
            offset: offset as i32,
            align: 8,
        }
    }

    pub(super) fn scratch(offset: u32) -> Self {
        Self {
            base: Base::Scratch,
            offset: offset as i32,
            align: 8,
        }
    }

    pub(super) fn rodata(offset: u32) -> Self {
        Self {
            base: Base::Rodata,
            offset: offset as i32,
            align: 8,
        }
    }

    /// The place so many bytes further on.
    pub(super) fn at(self, offset: u64) -> Self {
        Self {
            offset: self.offset + offset as i32,
            ..self
        }
    }

    /// A power of two that the address is a multiple of, at most 8.
    pub(super) fn alignment(self) -> u32 {
        let offset = self.offset.unsigned_abs();
        let of_offset = if offset == 0 {
            8
        } else {
            1 << offset.trailing_zeros().min(3)
        };
        self.align.min(of_offset).min(8)
    }

    /// Whether it is on the stack, where the verifier wants bytes to be written before they are read.
    pub(super) fn is_stack(self) -> bool {
        matches!(self.base, Base::Slot(_) | Base::Frame)
    }

    fn is_constant(self) -> bool {
        self.base == Base::Rodata
    }
}

/// Splits `size` bytes at an address of the given alignment into loads and stores.
pub(super) fn pieces(size: u64, align: u32) -> Vec<(u64, Type)> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < size {
        let mut width = u64::from(align.max(1));
        while width > size - at || at % width != 0 {
            width /= 2;
        }
        let ty = match width {
            8 => types::I64,
            4 => types::I32,
            2 => types::I16,
            _ => types::I8,
        };
        pieces.push((at, ty));
        at += u64::from(ty.bytes());
    }
    pieces
}

impl FnCx<'_, '_> {
    /// A base address and an offset for loads and stores.
    fn base_and_offset(&mut self, addr: Addr) -> (Value, i32) {
        match addr.base {
            Base::Value(value) => (value, addr.offset),
            Base::Slot(slot) => (self.b.ins().stack_addr(types::I64, slot, 0), addr.offset),
            Base::Frame => (self.frame_base(), addr.offset),
            Base::Scratch => (self.scratch_base(), addr.offset),
            Base::Rodata => (self.rodata(addr.offset as u32), 0),
        }
    }

    /// The address as a number.
    pub(super) fn addr_value(&mut self, addr: Addr) -> Value {
        if let Base::Slot(slot) = addr.base {
            return self.b.ins().stack_addr(types::I64, slot, addr.offset);
        }
        let (base, offset) = self.base_and_offset(addr);
        self.add_imm(base, i64::from(offset))
    }

    pub(super) fn load(&mut self, ty: Type, addr: Addr, access: Access) -> Value {
        let access = if addr.is_constant() {
            Access::Constant
        } else {
            access
        };
        match access {
            Access::Own => {
                let (base, offset) = self.base_and_offset(addr);
                self.b.ins().load(ty, own(), base, offset)
            }
            Access::Constant => {
                let (base, offset) = self.base_and_offset(addr);
                self.b.ins().load(ty, constant(), base, offset)
            }
            Access::Shared => {
                let address = self.addr_value(addr);
                self.b.ins().atomic_load(ty, MemFlagsData::new(), address)
            }
        }
    }

    pub(super) fn store(&mut self, value: Value, addr: Addr) {
        let (base, offset) = self.base_and_offset(addr);
        self.b.ins().store(own(), value, base, offset);
    }

    /// Stores the low bits of a constant.
    pub(super) fn store_imm(&mut self, ty: Type, imm: i64, addr: Addr) {
        let value = self.int(ty, imm);
        self.store(value, addr);
    }

    /// Copies bytes within the program's own memory.
    pub(super) fn copy(&mut self, dst: Addr, src: Addr, size: u64) {
        if size == 0 || dst == src {
            return;
        }
        let align = dst.alignment().min(src.alignment());
        let moves = pieces(size, align);
        if moves.len() > MAX_INLINE_MOVES {
            self.read_own(dst, src, size);
            return;
        }
        for (at, ty) in moves {
            let value = self.load(ty, src.at(at), Access::Own);
            self.store(value, dst.at(at));
        }
    }

    fn read_own(&mut self, dst: Addr, src: Addr, size: u64) {
        let (dst, size, src) = (
            self.addr_value(dst),
            self.i64(size as i64),
            self.addr_value(src),
        );
        self.call(Helper::ProbeReadKernel, &[dst, size, src]);
    }

    /// Sets a word to 0 without the verifier noticing: it would follow a counter that starts from a constant
    /// through every number that it may reach.
    pub(super) fn hidden_zero(&mut self, dst: Addr) {
        self.read_null(dst, 8);
    }

    /// Reading the null page fails at once, and a failed read fills the destination with 0.
    fn read_null(&mut self, dst: Addr, size: u64) {
        let (dst, size, src) = (self.addr_value(dst), self.i64(size as i64), self.i64(0));
        self.call(Helper::ProbeReadKernel, &[dst, size, src]);
    }

    /// Fills bytes with 0.
    pub(super) fn zero(&mut self, dst: Addr, size: u64) {
        let moves = pieces(size, dst.alignment());
        if moves.len() > MAX_INLINE_MOVES {
            self.read_null(dst, size);
            return;
        }
        for (at, ty) in moves {
            self.store_imm(ty, 0, dst.at(at));
        }
    }

    /// Stores constant bytes.
    pub(super) fn store_bytes(&mut self, bytes: &[u8], dst: Addr) -> super::R<()> {
        let moves = pieces(bytes.len() as u64, dst.alignment());
        if moves.len() > MAX_INLINE_MOVES {
            let src = self.constant_bytes(bytes)?;
            self.read_own(dst, src, bytes.len() as u64);
            return Ok(());
        }
        for (at, ty) in moves {
            let mut word = [0; 8];
            let width = ty.bytes() as usize;
            word[..width].copy_from_slice(&bytes[at as usize..at as usize + width]);
            self.store_imm(ty, i64::from_le_bytes(word), dst.at(at));
        }
        Ok(())
    }

    /// Loads of equal width that cover `size` bytes of both addresses, for comparing them.
    pub(super) fn common_pieces(&self, a: Addr, b: Addr, size: u64) -> Vec<(u64, Type)> {
        pieces(size, a.alignment().min(b.alignment()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_every_byte_once_and_are_aligned() {
        for align in [1, 2, 4, 8] {
            for size in 0..40 {
                let mut next = 0;
                for (at, ty) in pieces(size, align) {
                    assert_eq!(at, next);
                    assert!(ty.bytes() <= align && at % u64::from(ty.bytes()) == 0);
                    next += u64::from(ty.bytes());
                }
                assert_eq!(next, size);
            }
        }
        assert_eq!(pieces(16, 8).len(), 2);
    }
}
