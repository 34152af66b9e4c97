/// Where a USDT probe has one of its arguments: what the program that reads it looks up, so that
/// one program fits all probes, and the same script every build of the probed executable.
///
/// An entry of the map of role [`crate::MapRole::UsdtArgs`] is [`USDT_MAX_ARGS`] of these, as
/// [`Self::to_bytes`] lays them out, and then, as a `u64`, the number of the first target that has the
/// same name: a probe that is at several places is one probe to the script.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsdtArg {
    /// The constant, or the number of bytes to add to the address.
    pub value: i64,
    /// Byte offset in `struct pt_regs` of the register, or of the one with the address.
    pub base: Option<u16>,
    /// Byte offset in `struct pt_regs` of a register that is added to the address.
    pub index: Option<u16>,
    /// The index counts for `1 << scale` bytes.
    pub scale: u8,
    /// Whether the argument is in memory of the process, at the address.
    pub in_memory: bool,
    /// Its size: 1, 2, 4 or 8 bytes. 0: there is no such argument, and it reads as 0.
    pub size: u8,
    /// Whether it is signed.
    pub signed: bool,
}

/// Most arguments that a USDT probe has (`arg0` to `arg11`).
pub const USDT_MAX_ARGS: usize = 12;

/// Offset in an entry of the number of the first target of the same name.
pub const USDT_FIRST_TARGET: usize = USDT_MAX_ARGS * UsdtArg::SIZE;

/// Bytes of an entry.
pub const USDT_ENTRY_SIZE: usize = USDT_FIRST_TARGET + 8;

impl UsdtArg {
    /// Bytes of one argument in an entry of the map.
    pub const SIZE: usize = 16;
    /// Offset of the value, an `i64`.
    pub const VALUE: usize = 0;
    /// Offset of the base register's offset, a `u16`; [`Self::NO_REGISTER`]: none.
    pub const BASE: usize = 8;
    /// Offset of the index register's offset, a `u16`; [`Self::NO_REGISTER`]: none.
    pub const INDEX: usize = 10;
    /// Offset of the scale, a `u8`.
    pub const SCALE: usize = 12;
    /// Offset of whether it is in memory, a `u8`.
    pub const IN_MEMORY: usize = 13;
    /// Offset of the number of unused bits of a register that holds it, a `u8`: 64 minus 8 for
    /// each byte.
    pub const UNUSED_BITS: usize = 14;
    /// Offset of whether it is signed, a `u8`.
    pub const SIGNED: usize = 15;
    /// Stands for no register.
    pub const NO_REGISTER: u16 = u16::MAX;

    /// The argument as the map has it, little-endian.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let register = |r: Option<u16>| r.unwrap_or(Self::NO_REGISTER).to_le_bytes();
        bytes[Self::VALUE..Self::BASE].copy_from_slice(&self.value.to_le_bytes());
        bytes[Self::BASE..Self::INDEX].copy_from_slice(&register(self.base));
        bytes[Self::INDEX..Self::SCALE].copy_from_slice(&register(self.index));
        bytes[Self::SCALE] = self.scale;
        bytes[Self::IN_MEMORY] = u8::from(self.in_memory);
        bytes[Self::UNUSED_BITS] = match self.size {
            1..=8 => 64 - 8 * self.size,
            _ => 0,
        };
        bytes[Self::SIGNED] = u8::from(self.signed);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_where_the_offsets_say() {
        let arg = UsdtArg {
            value: -8,
            base: Some(152),
            index: None,
            scale: 3,
            in_memory: true,
            size: 4,
            signed: true,
        };
        assert_eq!(
            arg.to_bytes(),
            [
                0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 152, 0, 0xff, 0xff, 3, 1, 32, 1
            ]
        );
        let none = UsdtArg::default().to_bytes();
        assert_eq!(none[UsdtArg::IN_MEMORY..], [0, 0, 0]);
    }
}
