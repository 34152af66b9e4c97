//! `.BTF.ext`: which function, source line and CO-RE relocation belongs to which instruction.
//!
//! The layout is that of `struct btf_ext_header` in libbpf's libbpf_internal.h and of the record types
//! in include/uapi/linux/bpf.h.

use super::btf::{BTF_MAGIC, BTF_VERSION, BtfBuilder, BtfId};
use super::core_relo::CoreKind;
use super::function::SourceLine;

const HEADER_LEN: u32 = 32;
const FUNC_RECORD: u32 = 8;
const LINE_RECORD: u32 = 16;
const CORE_RECORD: u32 = 16;

const LINE_COLUMN_BITS: u32 = 10;
const MAX_LINE: u32 = (1 << (32 - LINE_COLUMN_BITS)) - 1;
const MAX_COLUMN: u32 = (1 << LINE_COLUMN_BITS) - 1;

/// What is said about one code section. Instructions are byte offsets within the section, in
/// ascending order.
#[derive(Debug, Default)]
pub(super) struct SectionInfo {
    pub(super) name: String,
    pub(super) functions: Vec<(u32, BtfId)>,
    pub(super) lines: Vec<LineInfo>,
    pub(super) core: Vec<CoreInfo>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LineInfo {
    pub(super) insn_offset: u32,
    /// Offsets of strings.
    pub(super) file: u32,
    pub(super) text: u32,
    /// Line and column in one number.
    pub(super) position: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct CoreInfo {
    pub(super) insn_offset: u32,
    pub(super) root: BtfId,
    /// Offset of the string.
    pub(super) access: u32,
    pub(super) kind: CoreKind,
}

/// Turns a function's source lines into what the kernel accepts: the first instruction has one, no
/// instruction has two, and none is for the second half of an `ld_imm64`. A function without lines
/// gets an empty one, because the kernel wants all functions of a program or none to have them.
pub(super) fn line_infos(
    btf: &mut BtfBuilder,
    function_offset: u32,
    code: &[u8],
    lines: &[SourceLine],
) -> Vec<LineInfo> {
    let mut infos: Vec<LineInfo> = Vec::with_capacity(lines.len());
    let n_insns = code.len() as u32 / 8;
    for line in lines {
        let mut insn_idx = if infos.is_empty() { 0 } else { line.insn_idx };
        if is_second_half(code, insn_idx) {
            insn_idx += 1;
        }
        if insn_idx >= n_insns {
            break;
        }
        let info = LineInfo {
            insn_offset: function_offset + insn_idx * 8,
            file: btf.string(&line.file),
            text: btf.string(&line.text),
            position: line.line.min(MAX_LINE) << LINE_COLUMN_BITS | line.column.min(MAX_COLUMN),
        };
        match infos.last_mut() {
            Some(last) if last.insn_offset >= info.insn_offset => {
                *last = LineInfo {
                    insn_offset: last.insn_offset,
                    ..info
                };
            }
            _ => infos.push(info),
        }
    }
    if infos.is_empty() {
        infos.push(LineInfo {
            insn_offset: function_offset,
            file: 0,
            text: 0,
            position: 0,
        });
    }
    infos
}

/// The second half of an `ld_imm64` is the only instruction with opcode 0.
fn is_second_half(code: &[u8], insn_idx: u32) -> bool {
    code.get(insn_idx as usize * 8) == Some(&0)
}

/// The contents of the section `.BTF.ext`.
pub(super) fn write_btf_ext(btf: &mut BtfBuilder, sections: &[SectionInfo]) -> Vec<u8> {
    let names: Vec<u32> = sections
        .iter()
        .map(|section| btf.string(&section.name))
        .collect();
    let functions = block(FUNC_RECORD, &names, sections, |section| {
        let records = section.functions.iter();
        records.map(|&(offset, id)| [offset, id.0]).collect()
    });
    let lines = block(LINE_RECORD, &names, sections, |section| {
        let records = section.lines.iter();
        records
            .map(|line| [line.insn_offset, line.file, line.text, line.position])
            .collect()
    });
    let core = block(CORE_RECORD, &names, sections, |section| {
        let records = section.core.iter();
        records
            .map(|core| [core.insn_offset, core.root.0, core.access, core.kind as u32])
            .collect()
    });

    let mut out = Vec::new();
    out.extend_from_slice(&BTF_MAGIC.to_le_bytes());
    out.extend_from_slice(&[BTF_VERSION, 0]);
    put(&mut out, &[HEADER_LEN]);
    let mut offset = 0;
    for block in [&functions, &lines, &core] {
        let len = block.len() as u32;
        put(&mut out, &[offset, len]);
        offset += len;
    }
    for block in [functions, lines, core] {
        out.extend_from_slice(&block);
    }
    out
}

/// The records of one kind: their size, then section by section. Empty when there is none at all.
fn block<const WORDS: usize>(
    record_size: u32,
    names: &[u32],
    sections: &[SectionInfo],
    records: impl Fn(&SectionInfo) -> Vec<[u32; WORDS]>,
) -> Vec<u8> {
    let mut out = Vec::new();
    for (section, &name) in sections.iter().zip(names) {
        let records = records(section);
        if records.is_empty() {
            continue;
        }
        if out.is_empty() {
            put(&mut out, &[record_size]);
        }
        put(&mut out, &[name, records.len() as u32]);
        for record in records {
            put(&mut out, &record);
        }
    }
    out
}

fn put(out: &mut Vec<u8>, words: &[u32]) {
    for word in words {
        out.extend_from_slice(&word.to_le_bytes());
    }
}
