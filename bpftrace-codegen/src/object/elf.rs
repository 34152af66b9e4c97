//! ELF64, little endian, `EM_BPF`, relocatable.

use object::elf;
use object::write::elf::{FileHeader, Rel, SectionHeader, SectionIndex, Sym, Writer};

use super::error::ObjectError;

/// Absolute 64-bit address in an `ld_imm64` (`R_BPF_64_64`).
pub(super) const R_BPF_64_64: u32 = 1;
/// Target of a call, counted in instructions (`R_BPF_64_32`).
pub(super) const R_BPF_64_32: u32 = 10;

/// What a section holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SectionKind {
    Code,
    ReadOnlyData,
    Data,
    /// Zeros, which take no room in the file.
    Zero,
    /// What is not part of the program: types.
    Other,
}

#[derive(Clone, Debug)]
pub(super) struct ElfSection {
    pub(super) name: String,
    pub(super) kind: SectionKind,
    /// Contents; empty for [`SectionKind::Zero`].
    pub(super) data: Vec<u8>,
    /// Size in bytes: that of `data`, except for [`SectionKind::Zero`].
    pub(super) size: u64,
    pub(super) relocs: Vec<ElfReloc>,
}

impl ElfSection {
    pub(super) fn new(name: &str, kind: SectionKind, data: Vec<u8>) -> Self {
        ElfSection {
            name: name.to_owned(),
            kind,
            size: data.len() as u64,
            data,
            relocs: Vec::new(),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct ElfReloc {
    /// Byte offset of the instruction within the section.
    pub(super) offset: u64,
    /// Row in the table of symbols.
    pub(super) symbol: usize,
    /// [`R_BPF_64_64`] or [`R_BPF_64_32`].
    pub(super) kind: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SymbolBinding {
    Local,
    Global,
    Weak,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SymbolKind {
    /// Stands for the section itself.
    Section,
    Function,
    Object,
    /// Not in this object.
    Undefined,
    /// In another object that is linked with this one. It is then hidden, by which libbpf knows a function
    /// that is not to be checked on its own.
    Linked,
}

#[derive(Clone, Debug)]
pub(super) struct ElfSymbol {
    /// Empty for [`SymbolKind::Section`].
    pub(super) name: String,
    pub(super) kind: SymbolKind,
    pub(super) binding: SymbolBinding,
    /// Row in the table of sections; `None` for [`SymbolKind::Undefined`].
    pub(super) section: Option<usize>,
    pub(super) value: u64,
    pub(super) size: u64,
}

/// Writes the file and tells where each section's contents begin in it.
///
/// Symbols may come in any order; local ones are written first, as ELF demands.
pub(super) fn write_elf(
    sections: &[ElfSection],
    symbols: &[ElfSymbol],
) -> Result<(Vec<u8>, Vec<u64>), ObjectError> {
    // Beyond this, section numbers need a table that libbpf does not read.
    if sections.len() * 2 + 4 >= usize::from(elf::SHN_LORESERVE) {
        return Err(ObjectError::Elf(format!(
            "{} sections are too many",
            sections.len()
        )));
    }
    let failed = |error: object::write::Error| ObjectError::Elf(error.to_string());
    let rel_names: Vec<String> = sections
        .iter()
        .map(|section| format!(".rel{}", section.name))
        .collect();

    let mut out = Vec::new();
    let mut writer = Writer::new(object::Endianness::Little, true, &mut out);
    writer.reserve_file_header();
    writer.reserve_null_section_index();

    let mut section_names = Vec::new();
    let mut section_indices = Vec::new();
    let mut offsets = Vec::new();
    for section in sections {
        section_names.push(writer.add_section_name(section.name.as_bytes()));
        section_indices.push(writer.reserve_section_index());
        offsets.push(writer.reserve(section.data.len() as u64, section.kind.align()));
    }

    // ELF wants all local symbols before all others.
    let (mut order, others): (Vec<usize>, Vec<usize>) =
        (0..symbols.len()).partition(|&row| symbols[row].binding == SymbolBinding::Local);
    order.extend(others);
    let n_locals = symbols
        .iter()
        .filter(|symbol| symbol.binding == SymbolBinding::Local)
        .count();
    writer.reserve_null_symbol_index();
    let mut symbol_indices = vec![0; symbols.len()];
    let mut symbol_names = vec![None; symbols.len()];
    for &row in &order {
        let symbol = &symbols[row];
        if !symbol.name.is_empty() {
            symbol_names[row] = Some(writer.add_string(symbol.name.as_bytes()));
        }
        let section = symbol.section.map(|section| section_indices[section]);
        symbol_indices[row] = writer.reserve_symbol_index(section).0;
    }
    let symtab_index = writer.reserve_symtab_section_index();
    writer.reserve_symtab();

    let mut rels = Vec::new();
    for (row, section) in sections.iter().enumerate() {
        if section.relocs.is_empty() {
            continue;
        }
        let name = writer.add_section_name(rel_names[row].as_bytes());
        writer.reserve_section_index();
        let offset = writer.reserve_relocations(section.relocs.len(), false);
        rels.push((row, name, offset));
    }
    writer.reserve_strtab_section_index();
    writer.reserve_strtab().map_err(failed)?;
    writer.reserve_shstrtab_section_index();
    writer.reserve_shstrtab().map_err(failed)?;
    writer.reserve_section_headers();

    writer
        .write_file_header(&FileHeader {
            os_abi: elf::ELFOSABI_NONE,
            abi_version: 0,
            e_type: elf::ET_REL,
            e_machine: elf::EM_BPF,
            e_entry: 0,
            e_flags: elf::FileFlags(0),
        })
        .map_err(failed)?;
    for section in sections {
        writer.write_align(section.kind.align());
        writer.write(&section.data);
    }
    writer.write_null_symbol();
    for &row in &order {
        let symbol = &symbols[row];
        writer.write_symbol(&Sym {
            section: symbol.section.map(|section| section_indices[section].0),
            st_name: writer.string_offset(symbol_names[row]),
            st_info: symbol.info(),
            st_other: symbol.visibility(),
            st_shndx: elf::SHN_UNDEF,
            st_value: symbol.value,
            st_size: symbol.size,
        });
    }
    for (row, _, _) in &rels {
        writer.write_align_relocation();
        for reloc in &sections[*row].relocs {
            writer.write_relocation(
                false,
                &Rel {
                    r_offset: reloc.offset,
                    r_sym: symbol_indices[reloc.symbol],
                    r_type: elf::RelocationType(reloc.kind),
                    r_addend: 0,
                },
            );
        }
    }
    writer.write_strtab();
    writer.write_shstrtab();

    writer.write_null_section_header();
    for (row, section) in sections.iter().enumerate() {
        let (sh_type, sh_flags) = section.kind.header();
        writer.write_section_header(&SectionHeader {
            sh_name: writer.section_name_offset(Some(section_names[row])),
            sh_type,
            sh_flags,
            sh_addr: 0,
            sh_offset: offsets[row],
            sh_size: section.size,
            sh_link: 0,
            sh_info: 0,
            sh_addralign: section.kind.align(),
            sh_entsize: 0,
        });
    }
    // The first symbol that is not local; the null symbol counts.
    writer.write_symtab_section_header(n_locals as u32 + 1);
    for (row, name, offset) in rels {
        let target: SectionIndex = section_indices[row];
        writer.write_relocation_section_header(
            name,
            target,
            symtab_index,
            offset,
            sections[row].relocs.len(),
            false,
        );
    }
    writer.write_strtab_section_header();
    writer.write_shstrtab_section_header();
    Ok((out, offsets))
}

impl SectionKind {
    fn align(self) -> u64 {
        match self {
            SectionKind::Other => 4,
            _ => 8,
        }
    }

    fn header(self) -> (elf::SectionType, elf::SectionFlags) {
        let (sh_type, sh_flags) = match self {
            SectionKind::Code => (elf::SHT_PROGBITS, elf::SHF_ALLOC | elf::SHF_EXECINSTR),
            SectionKind::ReadOnlyData => (elf::SHT_PROGBITS, elf::SHF_ALLOC),
            SectionKind::Data => (elf::SHT_PROGBITS, elf::SHF_ALLOC | elf::SHF_WRITE),
            SectionKind::Zero => (elf::SHT_NOBITS, elf::SHF_ALLOC | elf::SHF_WRITE),
            SectionKind::Other => (elf::SHT_PROGBITS, elf::SectionFlags(0)),
        };
        (sh_type, sh_flags)
    }
}

impl ElfSymbol {
    fn info(&self) -> elf::SymbolInfo {
        let binding = match self.binding {
            SymbolBinding::Local => elf::STB_LOCAL,
            SymbolBinding::Global => elf::STB_GLOBAL,
            SymbolBinding::Weak => elf::STB_WEAK,
        };
        let kind = match self.kind {
            SymbolKind::Section => elf::STT_SECTION,
            SymbolKind::Function => elf::STT_FUNC,
            SymbolKind::Object => elf::STT_OBJECT,
            SymbolKind::Undefined | SymbolKind::Linked => elf::STT_NOTYPE,
        };
        elf::SymbolInfo::new(binding, kind)
    }

    fn visibility(&self) -> elf::SymbolOther {
        elf::SymbolOther(match self.kind {
            SymbolKind::Linked => elf::STV_HIDDEN.0,
            _ => elf::STV_DEFAULT.0,
        })
    }
}
