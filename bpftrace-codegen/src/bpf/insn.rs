//! BPF instructions in their final form, and their encoding.
//!
//! An instruction is 8 bytes, little endian: opcode, registers (destination in the low half),
//! 16-bit offset, 32-bit immediate. [`Insn::LdImm64`] takes two of these slots. The numbers are those
//! of `include/uapi/linux/bpf.h` and RFC 9669.

use super::regs::Reg;

/// Width of an arithmetic or compare instruction. The 32-bit form clears the upper half of its
/// destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Width {
    /// 32 bits.
    W32,
    /// 64 bits.
    W64,
}

/// Two-operand arithmetic: `dst op= src`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
#[repr(u8)]
pub enum AluOp {
    Add = 0x00,
    Sub = 0x10,
    Mul = 0x20,
    /// Unsigned; by 0 gives 0.
    Div = 0x30,
    Or = 0x40,
    And = 0x50,
    Lsh = 0x60,
    /// Logical right shift.
    Rsh = 0x70,
    /// Unsigned; by 0 leaves the destination.
    Mod = 0x90,
    Xor = 0xa0,
    Mov = 0xb0,
    /// Arithmetic right shift.
    Arsh = 0xc0,
}

/// Condition of a jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
#[repr(u8)]
pub enum JmpOp {
    Eq = 0x10,
    Gt = 0x20,
    Ge = 0x30,
    /// `lhs & rhs` is not 0.
    Set = 0x40,
    Ne = 0x50,
    Sgt = 0x60,
    Sge = 0x70,
    Lt = 0xa0,
    Le = 0xb0,
    Slt = 0xc0,
    Sle = 0xd0,
}

impl JmpOp {
    /// The condition that holds exactly when this one does not; `Set` has none.
    pub const fn inverse(self) -> Option<JmpOp> {
        Some(match self {
            JmpOp::Eq => JmpOp::Ne,
            JmpOp::Ne => JmpOp::Eq,
            JmpOp::Gt => JmpOp::Le,
            JmpOp::Le => JmpOp::Gt,
            JmpOp::Ge => JmpOp::Lt,
            JmpOp::Lt => JmpOp::Ge,
            JmpOp::Sgt => JmpOp::Sle,
            JmpOp::Sle => JmpOp::Sgt,
            JmpOp::Sge => JmpOp::Slt,
            JmpOp::Slt => JmpOp::Sge,
            JmpOp::Set => return None,
        })
    }

    /// The condition on exchanged operands.
    pub const fn swapped(self) -> JmpOp {
        match self {
            JmpOp::Gt => JmpOp::Lt,
            JmpOp::Lt => JmpOp::Gt,
            JmpOp::Ge => JmpOp::Le,
            JmpOp::Le => JmpOp::Ge,
            JmpOp::Sgt => JmpOp::Slt,
            JmpOp::Slt => JmpOp::Sgt,
            JmpOp::Sge => JmpOp::Sle,
            JmpOp::Sle => JmpOp::Sge,
            JmpOp::Eq | JmpOp::Ne | JmpOp::Set => self,
        }
    }
}

/// Size of a memory access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Size {
    /// 1 byte.
    B = 0x10,
    /// 2 bytes.
    H = 0x08,
    /// 4 bytes.
    W = 0x00,
    /// 8 bytes.
    Dw = 0x18,
}

impl Size {
    /// Bytes accessed.
    pub const fn bytes(self) -> u32 {
        match self {
            Size::B => 1,
            Size::H => 2,
            Size::W => 4,
            Size::Dw => 8,
        }
    }
}

/// Byte order that [`Insn::ByteOrder`] converts to (or from) the machine's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Endian {
    Little,
    Big,
}

/// What an atomic instruction does with memory. The fetching forms put the old value into the source register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
#[repr(u8)]
pub enum AtomicOp {
    Add = 0x00,
    Or = 0x40,
    And = 0x50,
    Xor = 0xa0,
    FetchAdd = 0x01,
    FetchOr = 0x41,
    FetchAnd = 0x51,
    FetchXor = 0xa1,
    Xchg = 0xe1,
    /// Compares with r0, and leaves the old value in r0.
    CmpXchg = 0xf1,
}

/// Right operand: a register, or a 32-bit immediate (sign-extended in 64-bit instructions).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Src {
    /// A register.
    Reg(Reg),
    /// An immediate.
    Imm(i32),
}

/// `src_reg` of a `ld_imm64` that loads a plain number.
pub const PSEUDO_NONE: u8 = 0;
/// `src_reg` of a `call` of a function of the same object.
pub const PSEUDO_CALL: u8 = 1;
/// `src_reg` of a `ld_imm64` of the address of a function of the same object.
pub const PSEUDO_FUNC: u8 = 4;

/// A BPF instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Insn {
    /// `dst op= src`.
    Alu {
        /// Operation.
        op: AluOp,
        /// 32 or 64 bits.
        width: Width,
        /// Left operand and result.
        dst: Reg,
        /// Right operand.
        src: Src,
    },
    /// `dst = -dst`.
    Neg {
        /// 32 or 64 bits.
        width: Width,
        /// Operand and result.
        dst: Reg,
    },
    /// Converts the low `bits` of `dst` between the machine's byte order and `order`, and clears
    /// the rest.
    ByteOrder {
        /// The other byte order.
        order: Endian,
        /// 16, 32 or 64.
        bits: u8,
        /// Operand and result.
        dst: Reg,
    },
    /// `dst = value`, 64 bits; two slots.
    LdImm64 {
        /// Result.
        dst: Reg,
        /// Meaning of the value, in the field `src_reg` ([`PSEUDO_NONE`], ...).
        pseudo: u8,
        /// The value.
        value: u64,
    },
    /// `dst = *(base + off)`, zero-extended.
    Load {
        /// Bytes to load.
        size: Size,
        /// Result.
        dst: Reg,
        /// Address.
        base: Reg,
        /// Added to the address.
        off: i16,
    },
    /// `*(base + off) = src`.
    Store {
        /// Bytes to store.
        size: Size,
        /// Address.
        base: Reg,
        /// Added to the address.
        off: i16,
        /// The value; an immediate is sign-extended.
        src: Src,
    },
    /// Atomic operation on memory.
    Atomic {
        /// Operation.
        op: AtomicOp,
        /// 32 or 64 bits.
        width: Width,
        /// Address.
        base: Reg,
        /// Added to the address.
        off: i16,
        /// Right operand; in fetching forms also the result.
        src: Reg,
    },
    /// Jump by `off` slots, counted from the next instruction.
    Jump {
        /// Distance.
        off: i16,
    },
    /// Jump by `off` slots if the condition holds.
    JumpIf {
        /// Condition.
        op: JmpOp,
        /// 32 or 64 bits.
        width: Width,
        /// Left operand.
        lhs: Reg,
        /// Right operand.
        rhs: Src,
        /// Distance.
        off: i16,
    },
    /// Call a helper ([`PSEUDO_NONE`]) or a function of the object ([`PSEUDO_CALL`]).
    Call {
        /// What `imm` means, in the field `src_reg`.
        pseudo: u8,
        /// Helper id, or distance to the function.
        imm: i32,
    },
    /// Return from the function.
    Exit,
}

const CLASS_LD: u8 = 0x00;
const CLASS_LDX: u8 = 0x01;
const CLASS_ST: u8 = 0x02;
const CLASS_STX: u8 = 0x03;
const CLASS_ALU32: u8 = 0x04;
const CLASS_JMP: u8 = 0x05;
const CLASS_JMP32: u8 = 0x06;
const CLASS_ALU64: u8 = 0x07;
const SRC_REG: u8 = 0x08;
const MODE_MEM: u8 = 0x60;
const MODE_ATOMIC: u8 = 0xc0;
const OP_NEG: u8 = 0x80;
const OP_END: u8 = 0xd0;
const OP_CALL: u8 = 0x80;
const OP_EXIT: u8 = 0x90;
const LD_IMM64: u8 = CLASS_LD | Size::Dw as u8;

fn slot(opcode: u8, dst: u8, src: u8, off: i16, imm: i32) -> [u8; 8] {
    let off = off.to_le_bytes();
    let imm = imm.to_le_bytes();
    [
        opcode,
        dst | src << 4,
        off[0],
        off[1],
        imm[0],
        imm[1],
        imm[2],
        imm[3],
    ]
}

fn alu_class(width: Width) -> u8 {
    match width {
        Width::W32 => CLASS_ALU32,
        Width::W64 => CLASS_ALU64,
    }
}

/// Opcode bit, `src_reg` and immediate of a right operand.
fn src_fields(src: Src) -> (u8, u8, i32) {
    match src {
        Src::Reg(reg) => (SRC_REG, reg.number(), 0),
        Src::Imm(imm) => (0, 0, imm),
    }
}

impl Insn {
    /// How many 8-byte slots the instruction takes.
    pub const fn slots(&self) -> u32 {
        match self {
            Insn::LdImm64 { .. } => 2,
            _ => 1,
        }
    }

    /// Appends the encoding.
    pub fn encode(&self, code: &mut Vec<u8>) {
        let bytes = match *self {
            Insn::Alu {
                op,
                width,
                dst,
                src,
            } => {
                let (bit, src, imm) = src_fields(src);
                slot(op as u8 | bit | alu_class(width), dst.number(), src, 0, imm)
            }
            Insn::Neg { width, dst } => slot(OP_NEG | alu_class(width), dst.number(), 0, 0, 0),
            Insn::ByteOrder { order, bits, dst } => {
                let bit = match order {
                    Endian::Little => 0,
                    Endian::Big => SRC_REG,
                };
                slot(
                    OP_END | bit | CLASS_ALU32,
                    dst.number(),
                    0,
                    0,
                    i32::from(bits),
                )
            }
            Insn::LdImm64 { dst, pseudo, value } => {
                code.extend(slot(LD_IMM64, dst.number(), pseudo, 0, value as u32 as i32));
                slot(0, 0, 0, 0, (value >> 32) as u32 as i32)
            }
            Insn::Load {
                size,
                dst,
                base,
                off,
            } => slot(
                CLASS_LDX | MODE_MEM | size as u8,
                dst.number(),
                base.number(),
                off,
                0,
            ),
            Insn::Store {
                size,
                base,
                off,
                src: Src::Reg(src),
            } => slot(
                CLASS_STX | MODE_MEM | size as u8,
                base.number(),
                src.number(),
                off,
                0,
            ),
            Insn::Store {
                size,
                base,
                off,
                src: Src::Imm(imm),
            } => slot(CLASS_ST | MODE_MEM | size as u8, base.number(), 0, off, imm),
            Insn::Atomic {
                op,
                width,
                base,
                off,
                src,
            } => {
                let size = match width {
                    Width::W32 => Size::W,
                    Width::W64 => Size::Dw,
                };
                let opcode = CLASS_STX | MODE_ATOMIC | size as u8;
                slot(
                    opcode,
                    base.number(),
                    src.number(),
                    off,
                    i32::from(op as u8),
                )
            }
            Insn::Jump { off } => slot(CLASS_JMP, 0, 0, off, 0),
            Insn::JumpIf {
                op,
                width,
                lhs,
                rhs,
                off,
            } => {
                let class = match width {
                    Width::W32 => CLASS_JMP32,
                    Width::W64 => CLASS_JMP,
                };
                let (bit, src, imm) = src_fields(rhs);
                slot(op as u8 | bit | class, lhs.number(), src, off, imm)
            }
            Insn::Call { pseudo, imm } => slot(CLASS_JMP | OP_CALL, 0, pseudo, 0, imm),
            Insn::Exit => slot(CLASS_JMP | OP_EXIT, 0, 0, 0, 0),
        };
        code.extend(bytes);
    }

    /// Decodes the instruction at the start of `code`.
    ///
    /// # Errors
    ///
    /// `None` when `code` is too short, or starts with something that this back end never emits.
    pub fn decode(code: &[u8]) -> Option<Insn> {
        let &[opcode, regs, off0, off1, imm0, imm1, imm2, imm3] = code.first_chunk::<8>()?;
        let off = i16::from_le_bytes([off0, off1]);
        let imm = i32::from_le_bytes([imm0, imm1, imm2, imm3]);
        let (dst_bits, src_bits) = (regs & 0xf, regs >> 4);
        let dst = Reg::new(dst_bits)?;
        let insn = match opcode & 7 {
            CLASS_LD => {
                let next = code.get(8..)?.first_chunk::<8>()?;
                if opcode != LD_IMM64 || next[..4] != [0; 4] {
                    return None;
                }
                let high = u32::from_le_bytes([next[4], next[5], next[6], next[7]]);
                let value = u64::from(imm as u32) | u64::from(high) << 32;
                Insn::LdImm64 {
                    dst,
                    pseudo: src_bits,
                    value,
                }
            }
            CLASS_LDX => {
                let size = decode_size(opcode);
                Insn::Load {
                    size,
                    dst,
                    base: Reg::new(src_bits)?,
                    off,
                }
            }
            CLASS_ST => Insn::Store {
                size: decode_size(opcode),
                base: dst,
                off,
                src: Src::Imm(imm),
            },
            CLASS_STX if opcode & 0xe0 == MODE_ATOMIC => Insn::Atomic {
                op: decode_atomic(imm)?,
                width: match decode_size(opcode) {
                    Size::W => Width::W32,
                    Size::Dw => Width::W64,
                    Size::B | Size::H => return None,
                },
                base: dst,
                off,
                src: Reg::new(src_bits)?,
            },
            CLASS_STX => {
                let src = Src::Reg(Reg::new(src_bits)?);
                Insn::Store {
                    size: decode_size(opcode),
                    base: dst,
                    off,
                    src,
                }
            }
            class @ (CLASS_ALU32 | CLASS_ALU64) => {
                let width = if class == CLASS_ALU64 {
                    Width::W64
                } else {
                    Width::W32
                };
                match opcode & 0xf0 {
                    OP_NEG => Insn::Neg { width, dst },
                    OP_END => Insn::ByteOrder {
                        order: if opcode & SRC_REG == 0 {
                            Endian::Little
                        } else {
                            Endian::Big
                        },
                        bits: u8::try_from(imm).ok()?,
                        dst,
                    },
                    op => Insn::Alu {
                        op: decode_alu(op)?,
                        width,
                        dst,
                        src: decode_src(opcode, src_bits, imm)?,
                    },
                }
            }
            class => {
                let width = if class == CLASS_JMP {
                    Width::W64
                } else {
                    Width::W32
                };
                match opcode {
                    0x05 => Insn::Jump { off },
                    0x85 => Insn::Call {
                        pseudo: src_bits,
                        imm,
                    },
                    0x95 => Insn::Exit,
                    _ => Insn::JumpIf {
                        op: decode_jmp(opcode & 0xf0)?,
                        width,
                        lhs: dst,
                        rhs: decode_src(opcode, src_bits, imm)?,
                        off,
                    },
                }
            }
        };
        // Whatever the enum has no room for must be absent.
        let mut again = Vec::with_capacity(16);
        insn.encode(&mut again);
        code.starts_with(&again).then_some(insn)
    }
}

fn decode_src(opcode: u8, src_bits: u8, imm: i32) -> Option<Src> {
    Some(if opcode & SRC_REG == 0 {
        Src::Imm(imm)
    } else {
        Src::Reg(Reg::new(src_bits)?)
    })
}

fn decode_size(opcode: u8) -> Size {
    match opcode & 0x18 {
        0x10 => Size::B,
        0x08 => Size::H,
        0x00 => Size::W,
        _ => Size::Dw,
    }
}

fn decode_alu(op: u8) -> Option<AluOp> {
    use AluOp::*;
    [Add, Sub, Mul, Div, Or, And, Lsh, Rsh, Mod, Xor, Mov, Arsh]
        .into_iter()
        .find(|&candidate| candidate as u8 == op)
}

fn decode_jmp(op: u8) -> Option<JmpOp> {
    use JmpOp::*;
    [Eq, Gt, Ge, Set, Ne, Sgt, Sge, Lt, Le, Slt, Sle]
        .into_iter()
        .find(|&candidate| candidate as u8 == op)
}

fn decode_atomic(imm: i32) -> Option<AtomicOp> {
    use AtomicOp::*;
    [
        Add, Or, And, Xor, FetchAdd, FetchOr, FetchAnd, FetchXor, Xchg, CmpXchg,
    ]
    .into_iter()
    .find(|&candidate| i32::from(candidate as u8) == imm)
}
