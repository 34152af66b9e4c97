//! Every kind of instruction: what it is, how it reads, how it is encoded.

use super::insn::*;
use super::regs::Reg;

fn r(number: u8) -> Reg {
    Reg::new(number).expect("a register")
}

fn alu(op: AluOp, width: Width, dst: u8, src: Src) -> Insn {
    Insn::Alu {
        op,
        width,
        dst: r(dst),
        src,
    }
}

fn jump_if(op: JmpOp, width: Width, lhs: u8, rhs: Src, off: i16) -> Insn {
    Insn::JumpIf {
        op,
        width,
        lhs: r(lhs),
        rhs,
        off,
    }
}

fn atomic(op: AtomicOp, width: Width) -> Insn {
    Insn::Atomic {
        op,
        width,
        base: r(1),
        off: 8,
        src: r(2),
    }
}

/// The bytes agree with `llvm-mc -triple=bpfel -mcpu=v3` wherever that knows the instruction.
fn table() -> Vec<(Insn, &'static str, &'static str)> {
    use AluOp::*;
    use Width::*;
    let reg = |number| Src::Reg(r(number));
    vec![
        (alu(Add, W64, 1, reg(2)), "r1 += r2", "0f21000000000000"),
        (
            alu(Add, W64, 1, Src::Imm(-8)),
            "r1 += -8",
            "07010000f8ffffff",
        ),
        (alu(Add, W32, 1, reg(2)), "w1 += w2", "0c21000000000000"),
        (alu(Add, W32, 1, Src::Imm(5)), "w1 += 5", "0401000005000000"),
        (alu(Sub, W64, 3, reg(4)), "r3 -= r4", "1f43000000000000"),
        (
            alu(Mul, W64, 3, Src::Imm(10)),
            "r3 *= 10",
            "270300000a000000",
        ),
        (alu(Div, W64, 3, reg(4)), "r3 /= r4", "3f43000000000000"),
        (alu(Div, W32, 3, Src::Imm(7)), "w3 /= 7", "3403000007000000"),
        (alu(Or, W64, 0, reg(9)), "r0 |= r9", "4f90000000000000"),
        (
            alu(And, W64, 5, Src::Imm(255)),
            "r5 &= 255",
            "57050000ff000000",
        ),
        (
            alu(Lsh, W64, 5, Src::Imm(32)),
            "r5 <<= 32",
            "6705000020000000",
        ),
        (alu(Rsh, W32, 5, reg(6)), "w5 >>= w6", "7c65000000000000"),
        (alu(Mod, W64, 7, reg(8)), "r7 %= r8", "9f87000000000000"),
        (
            alu(Xor, W64, 7, Src::Imm(-1)),
            "r7 ^= -1",
            "a7070000ffffffff",
        ),
        (alu(Mov, W64, 2, reg(10)), "r2 = r10", "bfa2000000000000"),
        (
            alu(Mov, W64, 2, Src::Imm(-1)),
            "r2 = -1",
            "b7020000ffffffff",
        ),
        (alu(Mov, W32, 2, reg(3)), "w2 = w3", "bc32000000000000"),
        (
            alu(Mov, W32, 2, Src::Imm(i32::MIN)),
            "w2 = -2147483648",
            "b402000000000080",
        ),
        (
            alu(Arsh, W64, 2, Src::Imm(63)),
            "r2 s>>= 63",
            "c70200003f000000",
        ),
        (
            Insn::Neg {
                width: W64,
                dst: r(1),
            },
            "r1 = -r1",
            "8701000000000000",
        ),
        (
            Insn::Neg {
                width: W32,
                dst: r(1),
            },
            "w1 = -w1",
            "8401000000000000",
        ),
        (
            Insn::ByteOrder {
                order: Endian::Big,
                bits: 16,
                dst: r(1),
            },
            "r1 = be16 r1",
            "dc01000010000000",
        ),
        (
            Insn::ByteOrder {
                order: Endian::Big,
                bits: 64,
                dst: r(3),
            },
            "r3 = be64 r3",
            "dc03000040000000",
        ),
        (
            Insn::ByteOrder {
                order: Endian::Little,
                bits: 32,
                dst: r(2),
            },
            "r2 = le32 r2",
            "d402000020000000",
        ),
        (
            Insn::LdImm64 {
                dst: r(1),
                pseudo: PSEUDO_NONE,
                value: 0x1122_3344_5566_7788,
            },
            "r1 = 0x1122334455667788 ll",
            "18010000887766550000000044332211",
        ),
        (
            Insn::LdImm64 {
                dst: r(2),
                pseudo: PSEUDO_FUNC,
                value: 0,
            },
            "r2 = pseudo4 0x0 ll",
            "18420000000000000000000000000000",
        ),
        (
            Insn::Load {
                size: Size::B,
                dst: r(1),
                base: r(2),
                off: 0,
            },
            "r1 = *(u8 *)(r2 +0)",
            "7121000000000000",
        ),
        (
            Insn::Load {
                size: Size::H,
                dst: r(1),
                base: r(2),
                off: 2,
            },
            "r1 = *(u16 *)(r2 +2)",
            "6921020000000000",
        ),
        (
            Insn::Load {
                size: Size::W,
                dst: r(1),
                base: r(2),
                off: 32767,
            },
            "r1 = *(u32 *)(r2 +32767)",
            "6121ff7f00000000",
        ),
        (
            Insn::Load {
                size: Size::Dw,
                dst: r(0),
                base: r(10),
                off: -8,
            },
            "r0 = *(u64 *)(r10 -8)",
            "79a0f8ff00000000",
        ),
        (
            Insn::Store {
                size: Size::B,
                base: r(10),
                off: -1,
                src: Src::Imm(1),
            },
            "*(u8 *)(r10 -1) = 1",
            "720affff01000000",
        ),
        (
            Insn::Store {
                size: Size::Dw,
                base: r(10),
                off: -16,
                src: Src::Imm(-1),
            },
            "*(u64 *)(r10 -16) = -1",
            "7a0af0ffffffffff",
        ),
        (
            Insn::Store {
                size: Size::H,
                base: r(1),
                off: 4,
                src: reg(2),
            },
            "*(u16 *)(r1 +4) = r2",
            "6b21040000000000",
        ),
        (
            Insn::Store {
                size: Size::W,
                base: r(1),
                off: 4,
                src: reg(2),
            },
            "*(u32 *)(r1 +4) = r2",
            "6321040000000000",
        ),
        (
            atomic(AtomicOp::Add, W64),
            "lock *(u64 *)(r1 +8) += r2",
            "db21080000000000",
        ),
        (
            atomic(AtomicOp::Add, W32),
            "lock *(u32 *)(r1 +8) += w2",
            "c321080000000000",
        ),
        (
            atomic(AtomicOp::Or, W64),
            "lock *(u64 *)(r1 +8) |= r2",
            "db21080040000000",
        ),
        (
            atomic(AtomicOp::And, W64),
            "lock *(u64 *)(r1 +8) &= r2",
            "db21080050000000",
        ),
        (
            atomic(AtomicOp::Xor, W64),
            "lock *(u64 *)(r1 +8) ^= r2",
            "db210800a0000000",
        ),
        (
            atomic(AtomicOp::FetchAdd, W64),
            "r2 = atomic_fetch_add((u64 *)(r1 +8), r2)",
            "db21080001000000",
        ),
        (
            atomic(AtomicOp::FetchOr, W32),
            "w2 = atomic_fetch_or((u32 *)(r1 +8), w2)",
            "c321080041000000",
        ),
        (
            atomic(AtomicOp::FetchAnd, W64),
            "r2 = atomic_fetch_and((u64 *)(r1 +8), r2)",
            "db21080051000000",
        ),
        (
            atomic(AtomicOp::FetchXor, W64),
            "r2 = atomic_fetch_xor((u64 *)(r1 +8), r2)",
            "db210800a1000000",
        ),
        (
            atomic(AtomicOp::Xchg, W64),
            "r2 = xchg((u64 *)(r1 +8), r2)",
            "db210800e1000000",
        ),
        (
            atomic(AtomicOp::CmpXchg, W32),
            "w0 = cmpxchg((u32 *)(r1 +8), w0, w2)",
            "c3210800f1000000",
        ),
        (Insn::Jump { off: -2 }, "goto -2", "0500feff00000000"),
        (
            jump_if(JmpOp::Eq, W64, 0, Src::Imm(0), 3),
            "if r0 == 0 goto +3",
            "1500030000000000",
        ),
        (
            jump_if(JmpOp::Ne, W64, 0, reg(1), 3),
            "if r0 != r1 goto +3",
            "5d10030000000000",
        ),
        (
            jump_if(JmpOp::Gt, W32, 1, Src::Imm(9), 1),
            "if w1 > 9 goto +1",
            "2601010009000000",
        ),
        (
            jump_if(JmpOp::Ge, W64, 1, reg(2), 1),
            "if r1 >= r2 goto +1",
            "3d21010000000000",
        ),
        (
            jump_if(JmpOp::Lt, W64, 1, reg(2), 1),
            "if r1 < r2 goto +1",
            "ad21010000000000",
        ),
        (
            jump_if(JmpOp::Le, W64, 1, reg(2), 1),
            "if r1 <= r2 goto +1",
            "bd21010000000000",
        ),
        (
            jump_if(JmpOp::Set, W64, 1, Src::Imm(4), 1),
            "if r1 & 4 goto +1",
            "4501010004000000",
        ),
        (
            jump_if(JmpOp::Sgt, W64, 1, Src::Imm(-1), 1),
            "if r1 s> -1 goto +1",
            "65010100ffffffff",
        ),
        (
            jump_if(JmpOp::Sge, W32, 1, reg(2), 1),
            "if w1 s>= w2 goto +1",
            "7e21010000000000",
        ),
        (
            jump_if(JmpOp::Slt, W64, 1, reg(2), 1),
            "if r1 s< r2 goto +1",
            "cd21010000000000",
        ),
        (
            jump_if(JmpOp::Sle, W64, 1, reg(2), 1),
            "if r1 s<= r2 goto +1",
            "dd21010000000000",
        ),
        (
            Insn::Call {
                pseudo: PSEUDO_NONE,
                imm: 14,
            },
            "call 14",
            "850000000e000000",
        ),
        (
            Insn::Call {
                pseudo: PSEUDO_CALL,
                imm: -1,
            },
            "call pc-1",
            "85100000ffffffff",
        ),
        (Insn::Exit, "exit", "9500000000000000"),
    ]
}

#[test]
fn encodings() {
    for (insn, text, bytes) in table() {
        let mut code = Vec::new();
        insn.encode(&mut code);
        let hex: String = code.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(insn.to_string(), text);
        assert_eq!(hex, bytes, "{text}");
        assert_eq!(code.len() as u32, insn.slots() * 8, "{text}");
        assert_eq!(Insn::decode(&code), Some(insn), "{text}");
    }
}

#[test]
fn what_cannot_be_encoded_is_not_decoded() {
    for bytes in [
        // Too short.
        &[0x95, 0, 0, 0, 0, 0, 0][..],
        // Register 11.
        &[0xbf, 0x1b, 0, 0, 0, 0, 0, 0],
        // The second half of ld_imm64 is missing, or is an instruction of its own.
        &[0x18, 0, 0, 0, 0, 0, 0, 0],
        &[0x18, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0],
        // exit with an immediate.
        &[0x95, 0, 0, 0, 1, 0, 0, 0],
        // An unknown atomic operation; an atomic operation on a byte.
        &[0xdb, 0x21, 0, 0, 0x77, 0, 0, 0],
        &[0xd3, 0x21, 0, 0, 0, 0, 0, 0],
    ] {
        assert_eq!(Insn::decode(bytes), None, "{bytes:02x?}");
    }
}

#[test]
fn inverse_and_swapped_conditions() {
    use JmpOp::*;
    for op in [Eq, Gt, Ge, Ne, Sgt, Sge, Lt, Le, Slt, Sle] {
        assert_eq!(op.inverse().and_then(JmpOp::inverse), Some(op));
        assert_eq!(op.swapped().swapped(), op);
    }
    assert_eq!(Set.inverse(), None);
}
