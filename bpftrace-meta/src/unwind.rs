//! Tables that stacks of processes are unwound with (`dw_ustack`): how the loader lays out what the files
//! of a process say, and BPF programs read it.
//!
//! A program looks the process up, finds the last row at or below the instruction pointer, and applies the
//! row's rule to the registers, which gives those of the caller. Registers are numbered as
//! `struct pt_regs` has them ([`PT_REGS_WORDS`]); two more words stand for the canonical frame address and
//! for 0.

/// Words of `struct pt_regs` of x86-64 (arch/x86/include/asm/ptrace.h).
pub const PT_REGS_WORDS: u8 = 21;
/// Number of the instruction pointer.
pub const IP: u8 = 16;
/// Number of the stack pointer.
pub const SP: u8 = 19;
/// Stands for the canonical frame address.
pub const CFA: u8 = PT_REGS_WORDS;
/// Stands for the number 0; what is not known becomes 0.
pub const ZERO: u8 = PT_REGS_WORDS + 1;
/// Words that a program keeps: the registers, the frame address, 0.
pub const WORDS: u8 = PT_REGS_WORDS + 2;

/// Most frames that are unwound.
pub const MAX_FRAMES: u32 = 1024;
/// Most steps of looking for a row; there are fewer rows than 2 to this power.
pub const SEARCH_STEPS: u32 = 26;

/// The rows of a process, `u32` each: number of the first one, and how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessRows {
    /// Number of the first row.
    pub first: u32,
    /// How many there are.
    pub count: u32,
}

impl ProcessRows {
    /// Bytes of it.
    pub const SIZE: usize = 8;

    /// As the map has it, little-endian.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[..4].copy_from_slice(&self.first.to_le_bytes());
        bytes[4..].copy_from_slice(&self.count.to_le_bytes());
        bytes
    }
}

/// From which address on a rule holds: `u64` address, `u32` rule, padding. Those of a process are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The address, in the process.
    pub address: u64,
    /// Number of the rule; 0: nobody knows how to go on.
    pub rule: u32,
}

impl Row {
    /// Bytes of it.
    pub const SIZE: usize = 16;
    /// Offset of the rule.
    pub const RULE: usize = 8;

    /// As the map has it, little-endian.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[..8].copy_from_slice(&self.address.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.rule.to_le_bytes());
        bytes
    }
}

/// How a value is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum How {
    /// The register plus the offset.
    Value = 1,
    /// What is in the process's memory there.
    Memory = 2,
    /// In the stubs of a procedure linkage table, which push a word on the way: the stack pointer plus 8, and
    /// plus another 8 from byte `offset` of the stub on. Frame addresses only.
    Stub = 3,
}

/// A value of the caller, 8 bytes: how (`u8`), which register gets it (`u8`), the register that it comes from
/// (`u8`), padding, offset (`i32`). All 0: behind the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Step {
    /// How it is found.
    pub how: How,
    /// The register that gets it.
    pub to: u8,
    /// The register that it comes from.
    pub from: u8,
    /// The offset.
    pub offset: i32,
}

impl Step {
    /// Bytes of it.
    pub const SIZE: usize = 8;
    /// Offset of the register that gets it.
    pub const TO: usize = 1;
    /// Offset of the register that it comes from.
    pub const FROM: usize = 2;
    /// Offset of the offset.
    pub const OFFSET: usize = 4;

    /// As the map has it, little-endian.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [self.how as u8, self.to, self.from, 0, 0, 0, 0, 0];
        bytes[Self::OFFSET..].copy_from_slice(&self.offset.to_le_bytes());
        bytes
    }
}

/// How the caller's registers are found: first the frame address, then the registers that are not as they
/// were. The caller's stack pointer is the frame address where no step says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// The steps, that of the frame address first; at most [`Self::STEPS`].
    pub steps: Vec<Step>,
}

impl Rule {
    /// Most steps: the frame address and all the registers that unwinding knows.
    pub const STEPS: usize = 18;
    /// Bytes of it.
    pub const SIZE: usize = Self::STEPS * Step::SIZE;

    /// As the map has it; steps that are too many are left out.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        for (to, step) in bytes.chunks_exact_mut(Step::SIZE).zip(&self.steps) {
            to.copy_from_slice(&step.to_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes() {
        let rows = ProcessRows { first: 1, count: 2 };
        assert_eq!(rows.to_bytes(), [1, 0, 0, 0, 2, 0, 0, 0]);
        let row = Row {
            address: 0x0102,
            rule: 3,
        };
        let expected = [2, 1, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(row.to_bytes(), expected);
        let step = Step {
            how: How::Memory,
            to: IP,
            from: CFA,
            offset: -8,
        };
        let bytes = [2, 16, 21, 0, 0xf8, 0xff, 0xff, 0xff];
        assert_eq!(step.to_bytes(), bytes);
        let rule = Rule {
            steps: vec![step; Rule::STEPS + 1],
        };
        assert_eq!(rule.to_bytes()[Rule::SIZE - 8..], bytes);
        assert_eq!(Rule { steps: Vec::new() }.to_bytes(), [0; Rule::SIZE]);
    }
}
