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

#[cfg(test)]
mod tests {
    use super::*;

    fn line(insn_idx: u32, line: u32) -> SourceLine {
        SourceLine {
            insn_idx,
            file: "f".into(),
            text: format!("line {line}").into(),
            line,
            column: 2,
        }
    }

    /// mov, ld_imm64 (two halves), exit.
    fn code() -> Vec<u8> {
        [0xb7u64, 0x18, 0, 0x95]
            .iter()
            .flat_map(|insn| insn.to_le_bytes())
            .collect()
    }

    fn positions(lines: &[SourceLine]) -> Vec<(u32, u32)> {
        line_infos(&mut BtfBuilder::new(), 800, &code(), lines)
            .iter()
            .map(|info| (info.insn_offset, info.position >> LINE_COLUMN_BITS))
            .collect()
    }

    #[test]
    fn lines_become_what_the_kernel_accepts() {
        assert_eq!(positions(&[]), [(800, 0)]);
        // The first one reaches back to the start.
        assert_eq!(positions(&[line(1, 5)]), [(800, 5)]);
        // The second half of ld_imm64 has no line of its own, and no instruction has two.
        assert_eq!(
            positions(&[line(0, 1), line(2, 2), line(3, 3)]),
            [(800, 1), (824, 3)]
        );
        assert_eq!(positions(&[line(0, 1), line(0, 2)]), [(800, 2)]);
        // What lies behind the function is left out.
        assert_eq!(positions(&[line(0, 1), line(4, 2)]), [(800, 1)]);
    }

    #[test]
    fn large_numbers_end_at_the_formats_limits() {
        let mut long = line(0, u32::MAX);
        long.column = 5000;
        let infos = line_infos(&mut BtfBuilder::new(), 0, &code(), &[long]);
        assert_eq!(infos[0].position, u32::MAX);
    }

    #[test]
    fn bytes_of_a_small_section() {
        let mut btf = BtfBuilder::new();
        let section = SectionInfo {
            name: "raw_tp".to_owned(),
            functions: vec![(0, BtfId(3))],
            lines: vec![LineInfo {
                insn_offset: 0,
                file: 4,
                text: 5,
                position: 6,
            }],
            core: vec![CoreInfo {
                insn_offset: 16,
                root: BtfId(9),
                access: 8,
                kind: CoreKind::FieldExists,
            }],
        };
        let bytes = write_btf_ext(&mut btf, &[section]);
        let words: Vec<u32> = bytes
            .chunks(4)
            .map(|word| u32::from_le_bytes(word.try_into().expect("four bytes")))
            .collect();
        assert_eq!(
            words,
            [
                0x0001_eb9f,
                32,
                0,
                20,
                20,
                28,
                48,
                28, // header
                8,
                1,
                1,
                0,
                3, // functions
                16,
                1,
                1,
                0,
                4,
                5,
                6, // lines
                16,
                1,
                1,
                16,
                9,
                8,
                2, // CO-RE relocations
            ]
        );
    }

    #[test]
    fn nothing_to_say_takes_no_room() {
        let bytes = write_btf_ext(&mut BtfBuilder::new(), &[]);
        assert_eq!(bytes.len(), HEADER_LEN as usize);
    }
}
