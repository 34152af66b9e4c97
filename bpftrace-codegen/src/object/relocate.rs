//! Turns a function's relocations into ELF relocations, CO-RE records and places for the loader.

use super::btf::BtfId;
use super::btf_ext::CoreInfo;
use super::core_relo::CoreKind;
use super::elf::{ElfReloc, R_BPF_64_32, R_BPF_64_64};
use super::error::ObjectError;
use super::function::FunctionDef;
use super::layout::Layout;
use super::write::SymbolRows;
use crate::bpf::{PatchField, RelocKind};
use bpftrace_ast::order::sort_by_number;

/// A row of the table of patches, worked out.
#[derive(Clone, Copy, Debug)]
pub(super) enum PatchValue {
    /// No code refers to it.
    Unused,
    Loader {
        initial: u64,
    },
    Core {
        initial: u64,
        root: BtfId,
        /// Offset of the access string.
        access: u32,
        kind: CoreKind,
    },
}

#[derive(Debug)]
pub(super) struct Relocator<'a> {
    pub(super) layout: &'a Layout,
    pub(super) symbols: &'a SymbolRows,
    pub(super) patches: &'a [PatchValue],
}

/// A function with everything filled in that is known here.
#[derive(Debug)]
pub(super) struct Relocated {
    pub(super) code: Vec<u8>,
    /// Offsets are within the section.
    pub(super) elf: Vec<ElfReloc>,
    /// Offsets are within the function.
    pub(super) core: Vec<CoreInfo>,
    pub(super) loader: Vec<LoaderSite>,
}

#[derive(Debug)]
pub(super) struct LoaderSite {
    pub(super) patch: u32,
    /// Byte offset within the function.
    pub(super) insn_offset: u32,
    pub(super) field: PatchField,
}

impl Relocator<'_> {
    /// Relocates a function that begins at byte `start` of its section.
    pub(super) fn relocate(
        &self,
        function: &FunctionDef,
        start: u32,
    ) -> Result<Relocated, ObjectError> {
        let mut out = Relocated {
            code: function.code.clone(),
            elf: Vec::new(),
            core: Vec::new(),
            loader: Vec::new(),
        };
        for reloc in &function.relocs {
            let insn_offset = reloc.insn_idx * 8;
            let at = insn_offset as usize;
            let mut elf = |symbol: Option<usize>, kind: u32| {
                let symbol = symbol.expect("references are checked");
                out.elf.push(ElfReloc {
                    offset: u64::from(start + insn_offset),
                    symbol,
                    kind,
                });
            };
            match reloc.kind {
                RelocKind::SubprogCall(row) => {
                    // As clang does it: local functions are relative to their section, so that they
                    // need no symbol of their own. A call counts instructions from the next one.
                    if self.is_local(row) {
                        elf(self.symbols.text, R_BPF_64_32);
                        let target = self.layout.places[row as usize].offset / 8;
                        put_imm(&mut out.code, at, target.wrapping_sub(1));
                    } else {
                        elf(
                            self.symbols.functions.get(row as usize).copied(),
                            R_BPF_64_32,
                        );
                        put_imm(&mut out.code, at, u32::MAX);
                    }
                }
                RelocKind::SubprogAddr(row) => {
                    let offset = self.layout.places[row as usize].offset;
                    // libbpf takes a global symbol by its own address, a local function by section.
                    if self.is_local(row) {
                        elf(self.symbols.text, R_BPF_64_64);
                        put_imm(&mut out.code, at, offset);
                    } else {
                        elf(
                            self.symbols.functions.get(row as usize).copied(),
                            R_BPF_64_64,
                        );
                        put_imm(&mut out.code, at, 0);
                    }
                }
                RelocKind::KfuncCall(row) => {
                    elf(self.symbols.externs[row as usize], R_BPF_64_32);
                }
                RelocKind::KfuncAddr(row) => {
                    elf(self.symbols.externs[row as usize], R_BPF_64_64);
                }
                RelocKind::Map(row) => {
                    elf(self.symbols.maps.get(row as usize).copied(), R_BPF_64_64);
                }
                RelocKind::Data { section, offset } => {
                    elf(self.symbols.data[section as usize], R_BPF_64_64);
                    put_imm(&mut out.code, at, offset);
                }
                RelocKind::Patch { patch, field } => match self.patches[patch as usize] {
                    PatchValue::Unused => {}
                    PatchValue::Loader { initial } => {
                        put_field(&mut out.code, at, field, initial);
                        out.loader.push(LoaderSite {
                            patch,
                            insn_offset,
                            field,
                        });
                    }
                    PatchValue::Core {
                        initial,
                        root,
                        access,
                        kind,
                    } => {
                        check_fits(field, initial)
                            .map_err(|what| ObjectError::InvalidCore { patch, what })?;
                        put_field(&mut out.code, at, field, initial);
                        out.core.push(CoreInfo {
                            insn_offset,
                            root,
                            access,
                            kind,
                        });
                    }
                },
            }
        }
        sort_by_number(&mut out.core, |core| core.insn_offset.into());
        sort_by_number(&mut out.elf, |reloc| reloc.offset);
        Ok(out)
    }

    fn is_local(&self, function: u32) -> bool {
        self.symbols.is_local[function as usize]
    }
}

/// libbpf compares the field, sign-extended, with the value that it computes.
fn check_fits(field: PatchField, value: u64) -> Result<(), String> {
    let signed = value as i64;
    let fits = match field {
        // It also refuses what is above, when it has found the target's value.
        PatchField::Offset => (0..=i64::from(i16::MAX)).contains(&signed),
        PatchField::Imm32 => i32::try_from(signed).is_ok(),
        PatchField::Imm64 => true,
    };
    if fits {
        Ok(())
    } else {
        Err(format!(
            "the value {value} needs more room than the instruction has; use a wide patch"
        ))
    }
}

fn put_imm(code: &mut [u8], at: usize, imm: u32) {
    code[at + 4..at + 8].copy_from_slice(&imm.to_le_bytes());
}

fn put_field(code: &mut [u8], at: usize, field: PatchField, value: u64) {
    match field {
        PatchField::Offset => {
            code[at + 2..at + 4].copy_from_slice(&(value as u16).to_le_bytes());
        }
        PatchField::Imm32 => put_imm(code, at, value as u32),
        PatchField::Imm64 => {
            put_imm(code, at, value as u32);
            put_imm(code, at + 8, (value >> 32) as u32);
        }
    }
}
