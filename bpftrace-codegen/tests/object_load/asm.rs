//! Instructions, hand-assembled. Each function gives the bytes of one.

use bpftrace_codegen::bpf::{PatchField, Reloc, RelocKind};
use bpftrace_codegen::object::{FunctionDef, Placement, Signature, SourceLine};

/// A register's number.
pub(crate) type Reg = u8;

fn insn(opcode: u8, dst: Reg, src: Reg, off: i16, imm: i32) -> Vec<u8> {
    let mut out = vec![opcode, src << 4 | dst];
    out.extend_from_slice(&off.to_le_bytes());
    out.extend_from_slice(&imm.to_le_bytes());
    out
}

/// `dst = imm`
pub(crate) fn mov_imm(dst: Reg, imm: i32) -> Vec<u8> {
    insn(0xb7, dst, 0, 0, imm)
}

/// `dst = src`
pub(crate) fn mov(dst: Reg, src: Reg) -> Vec<u8> {
    insn(0xbf, dst, src, 0, 0)
}

/// `dst += imm`
pub(crate) fn add_imm(dst: Reg, imm: i32) -> Vec<u8> {
    insn(0x07, dst, 0, 0, imm)
}

/// `dst += src`
pub(crate) fn add(dst: Reg, src: Reg) -> Vec<u8> {
    insn(0x0f, dst, src, 0, 0)
}

/// `dst <<= imm`
pub(crate) fn shl_imm(dst: Reg, imm: i32) -> Vec<u8> {
    insn(0x67, dst, 0, 0, imm)
}

/// `dst >>= imm`
pub(crate) fn shr_imm(dst: Reg, imm: i32) -> Vec<u8> {
    insn(0x77, dst, 0, 0, imm)
}

/// `dst = *(u32 *)(src + off)`
pub(crate) fn load32(dst: Reg, src: Reg, off: i16) -> Vec<u8> {
    insn(0x61, dst, src, off, 0)
}

/// `dst = *(u64 *)(src + off)`
pub(crate) fn load64(dst: Reg, src: Reg, off: i16) -> Vec<u8> {
    insn(0x79, dst, src, off, 0)
}

/// `*(u64 *)(dst + off) = src`
pub(crate) fn store64(dst: Reg, off: i16, src: Reg) -> Vec<u8> {
    insn(0x7b, dst, src, off, 0)
}

/// `*(u32 *)(dst + off) = imm`
pub(crate) fn store32_imm(dst: Reg, off: i16, imm: i32) -> Vec<u8> {
    insn(0x62, dst, 0, off, imm)
}

/// `if dst == imm goto pc + 1 + off`
pub(crate) fn jump_eq_imm(dst: Reg, imm: i32, off: i16) -> Vec<u8> {
    insn(0x15, dst, 0, off, imm)
}

/// `call` of a helper.
pub(crate) fn helper(id: i32) -> Vec<u8> {
    insn(0x85, 0, 0, 0, id)
}

/// `call` that a relocation completes.
pub(crate) fn call() -> Vec<u8> {
    insn(0x85, 0, 1, 0, -1)
}

/// `ld_imm64` that a relocation completes; `src` tells what it loads.
pub(crate) fn load_address(dst: Reg, src: Reg, imm: i32) -> Vec<u8> {
    let mut out = insn(0x18, dst, src, 0, imm);
    out.extend(insn(0, 0, 0, 0, 0));
    out
}

/// `exit`
pub(crate) fn exit() -> Vec<u8> {
    insn(0x95, 0, 0, 0, 0)
}

/// Puts a function together.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    code: Vec<u8>,
    relocs: Vec<Reloc>,
    lines: Vec<SourceLine>,
}

impl Assembler {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn position(&self) -> u32 {
        self.code.len() as u32 / 8
    }

    /// Appends instructions.
    pub(crate) fn push(mut self, insns: impl IntoIterator<Item = Vec<u8>>) -> Self {
        self.code.extend(insns.into_iter().flatten());
        self
    }

    /// Appends an instruction with a relocation.
    pub(crate) fn reloc(mut self, kind: RelocKind, insn: Vec<u8>) -> Self {
        self.relocs.push(Reloc {
            insn_idx: self.position(),
            kind,
        });
        self.code.extend(insn);
        self
    }

    /// Appends the load of a map's address.
    pub(crate) fn map(self, dst: Reg, map: u32) -> Self {
        self.reloc(RelocKind::Map(map), load_address(dst, 0, 0))
    }

    /// Appends the load of an address in a data section.
    pub(crate) fn data(self, dst: Reg, section: u32, offset: u32) -> Self {
        self.reloc(
            RelocKind::Data { section, offset },
            load_address(dst, 0, offset as i32),
        )
    }

    /// Appends an instruction with a patched field.
    pub(crate) fn patch(self, patch: u32, field: PatchField, insn: Vec<u8>) -> Self {
        self.reloc(RelocKind::Patch { patch, field }, insn)
    }

    /// What follows comes from this line of the script.
    pub(crate) fn line(mut self, line: u32, text: &str) -> Self {
        self.lines.push(SourceLine {
            insn_idx: self.position(),
            file: "script.bt".into(),
            text: text.into(),
            line,
            column: 1,
        });
        self
    }

    /// A program that ends here with result 0.
    pub(crate) fn program(self, name: &str, section: &str) -> FunctionDef {
        self.push([mov_imm(0, 0), exit()]).function(
            name,
            Placement::Program {
                section: section.to_owned(),
            },
            Signature::Program,
        )
    }

    /// A function of any kind, as it is.
    pub(crate) fn function(
        self,
        name: &str,
        placement: Placement,
        signature: Signature,
    ) -> FunctionDef {
        FunctionDef {
            name: name.to_owned(),
            placement,
            signature,
            code: self.code,
            relocs: self.relocs,
            lines: self.lines,
        }
    }
}
