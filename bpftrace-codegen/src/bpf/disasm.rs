//! Readable text of BPF instructions, in the notation of the kernel's verifier and of bpftool.

use std::fmt;

use super::insn::{
    AluOp, AtomicOp, Endian, Insn, JmpOp, PSEUDO_CALL, PSEUDO_NONE, Size, Src, Width,
};
use super::regs::Reg;
use super::{PatchField, Reloc, RelocKind};

fn sized(reg: Reg, width: Width) -> String {
    match width {
        Width::W32 => format!("w{}", reg.number()),
        Width::W64 => format!("r{}", reg.number()),
    }
}

fn operand(src: Src, width: Width) -> String {
    match src {
        Src::Reg(reg) => sized(reg, width),
        Src::Imm(imm) => imm.to_string(),
    }
}

fn alu_symbol(op: AluOp) -> &'static str {
    match op {
        AluOp::Add => "+=",
        AluOp::Sub => "-=",
        AluOp::Mul => "*=",
        AluOp::Div => "/=",
        AluOp::Or => "|=",
        AluOp::And => "&=",
        AluOp::Lsh => "<<=",
        AluOp::Rsh => ">>=",
        AluOp::Mod => "%=",
        AluOp::Xor => "^=",
        AluOp::Mov => "=",
        AluOp::Arsh => "s>>=",
    }
}

pub(super) fn jmp_symbol(op: JmpOp) -> &'static str {
    match op {
        JmpOp::Eq => "==",
        JmpOp::Gt => ">",
        JmpOp::Ge => ">=",
        JmpOp::Set => "&",
        JmpOp::Ne => "!=",
        JmpOp::Sgt => "s>",
        JmpOp::Sge => "s>=",
        JmpOp::Lt => "<",
        JmpOp::Le => "<=",
        JmpOp::Slt => "s<",
        JmpOp::Sle => "s<=",
    }
}

pub(super) fn size_name(size: Size) -> &'static str {
    match size {
        Size::B => "u8",
        Size::H => "u16",
        Size::W => "u32",
        Size::Dw => "u64",
    }
}

impl fmt::Display for Insn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Insn::Alu {
                op,
                width,
                dst,
                src,
            } => {
                write!(
                    f,
                    "{} {} {}",
                    sized(dst, width),
                    alu_symbol(op),
                    operand(src, width)
                )
            }
            Insn::Neg { width, dst } => {
                let dst = sized(dst, width);
                write!(f, "{dst} = -{dst}")
            }
            Insn::ByteOrder { order, bits, dst } => {
                let order = match order {
                    Endian::Little => "le",
                    Endian::Big => "be",
                };
                write!(f, "{dst} = {order}{bits} {dst}")
            }
            Insn::LdImm64 {
                dst,
                pseudo: PSEUDO_NONE,
                value,
            } => write!(f, "{dst} = {value:#x} ll"),
            Insn::LdImm64 { dst, pseudo, value } => {
                write!(f, "{dst} = pseudo{pseudo} {value:#x} ll")
            }
            Insn::Load {
                size,
                dst,
                base,
                off,
            } => {
                write!(f, "{dst} = *({} *)({base} {off:+})", size_name(size))
            }
            Insn::Store {
                size,
                base,
                off,
                src,
            } => {
                let src = operand(src, Width::W64);
                write!(f, "*({} *)({base} {off:+}) = {src}", size_name(size))
            }
            Insn::Atomic {
                op,
                width,
                base,
                off,
                src,
            } => {
                let ty = match width {
                    Width::W32 => "u32",
                    Width::W64 => "u64",
                };
                let at = format!("({ty} *)({base} {off:+})");
                let src = sized(src, width);
                match op {
                    AtomicOp::Add => write!(f, "lock *{at} += {src}"),
                    AtomicOp::Or => write!(f, "lock *{at} |= {src}"),
                    AtomicOp::And => write!(f, "lock *{at} &= {src}"),
                    AtomicOp::Xor => write!(f, "lock *{at} ^= {src}"),
                    AtomicOp::FetchAdd => write!(f, "{src} = atomic_fetch_add({at}, {src})"),
                    AtomicOp::FetchOr => write!(f, "{src} = atomic_fetch_or({at}, {src})"),
                    AtomicOp::FetchAnd => write!(f, "{src} = atomic_fetch_and({at}, {src})"),
                    AtomicOp::FetchXor => write!(f, "{src} = atomic_fetch_xor({at}, {src})"),
                    AtomicOp::Xchg => write!(f, "{src} = xchg({at}, {src})"),
                    AtomicOp::CmpXchg => {
                        let r0 = sized(Reg::R0, width);
                        write!(f, "{r0} = cmpxchg({at}, {r0}, {src})")
                    }
                }
            }
            Insn::Jump { off } => write!(f, "goto {off:+}"),
            Insn::JumpIf {
                op,
                width,
                lhs,
                rhs,
                off,
            } => {
                let (lhs, rhs) = (sized(lhs, width), operand(rhs, width));
                write!(f, "if {lhs} {} {rhs} goto {off:+}", jmp_symbol(op))
            }
            Insn::Call {
                pseudo: PSEUDO_CALL,
                imm,
            } => write!(f, "call pc{imm:+}"),
            Insn::Call { imm, .. } => write!(f, "call {imm}"),
            Insn::Exit => write!(f, "exit"),
        }
    }
}

impl fmt::Display for RelocKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            RelocKind::SubprogCall(idx) => write!(f, "call subprog {idx}"),
            RelocKind::SubprogAddr(idx) => write!(f, "address of subprog {idx}"),
            RelocKind::KfuncCall(idx) => write!(f, "call kfunc {idx}"),
            RelocKind::KfuncAddr(idx) => write!(f, "address of kfunc {idx}"),
            RelocKind::Map(idx) => write!(f, "map {idx}"),
            RelocKind::Data { section, offset } => write!(f, "data {section} +{offset}"),
            RelocKind::Patch { patch, field } => {
                let field = match field {
                    PatchField::Offset => "offset",
                    PatchField::Imm32 => "imm",
                    PatchField::Imm64 => "imm64",
                };
                write!(f, "patch {patch} in {field}")
            }
        }
    }
}

/// The text of a whole function: one instruction per line with its number, jump targets, and what
/// the relocations refer to. `code` is encoded instructions; what cannot be decoded is shown in
/// hexadecimal.
pub fn disassemble(code: &[u8], relocs: &[Reloc]) -> String {
    let mut text = String::new();
    let mut relocs = relocs.iter().peekable();
    let mut idx = 0u32;
    let mut rest = code;
    while !rest.is_empty() {
        let (line, slots) = match Insn::decode(rest) {
            Some(insn) => {
                let target = match insn {
                    Insn::Jump { off } | Insn::JumpIf { off, .. } => {
                        format!(" <{}>", i64::from(idx) + 1 + i64::from(off))
                    }
                    _ => String::new(),
                };
                (format!("{insn}{target}"), insn.slots())
            }
            None => {
                let bytes = &rest[..rest.len().min(8)];
                (
                    bytes
                        .iter()
                        .map(|byte| format!("{byte:02x} "))
                        .collect::<String>(),
                    1,
                )
            }
        };
        text.push_str(&format!("{idx:4}: {line}"));
        while let Some(reloc) = relocs.next_if(|reloc| reloc.insn_idx <= idx) {
            text.push_str(&format!("  ; {}", reloc.kind));
        }
        text.push('\n');
        idx += slots;
        rest = rest.get(slots as usize * 8..).unwrap_or_default();
    }
    text
}
