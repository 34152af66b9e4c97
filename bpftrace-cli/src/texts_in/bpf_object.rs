//! BPF objects that scripts import, as files.

use std::path::Path;

use bpftrace_sema::{ImportError, ObjectFile};
use goblin::elf::{Elf, header, section_header, sym};

/// What the compiler needs to know of a BPF object.
pub(super) fn read(path: &Path, bytes: Vec<u8>) -> Result<ObjectFile, ImportError> {
    let wrong = |what: &str| {
        let shown = path.display();
        ImportError::Other(format!("cannot import '{shown}': {what}"))
    };
    // The header first: what is behind it is read as it says.
    let class = bytes.get(header::EI_CLASS).copied();
    if !bytes.starts_with(header::ELFMAG) || class != Some(header::ELFCLASS64) {
        return Err(wrong("it is no BPF object"));
    }
    if bytes.get(header::EI_DATA) != Some(&header::ELFDATA2LSB) {
        return Err(wrong("it is for machines of another byte order"));
    }
    let elf = Elf::parse(&bytes).map_err(|error| wrong(&format!("it is damaged: {error}")))?;
    if elf.header.e_machine != header::EM_BPF || elf.header.e_type != header::ET_REL {
        return Err(wrong("it is no BPF object"));
    }
    if let Some(what) = misplaced(&elf) {
        return Err(wrong(&format!(
            "it is damaged: {what} is outside of its section"
        )));
    }
    let section = |name: &str| {
        let mut sections = elf.section_headers.iter().enumerate();
        sections.find(|(_, section)| elf.shdr_strtab.get_at(section.sh_name) == Some(name))
    };
    let btf = section(".BTF")
        .and_then(|(_, section)| bytes.get(section.file_range()?))
        .ok_or_else(|| wrong("it has no BTF; 'clang -g' makes it"))?
        .to_vec();
    // Programs have sections of their own.
    let text = section(".text").map(|(at, _)| at);
    let functions = elf
        .syms
        .iter()
        .filter(|symbol| symbol.is_function() && symbol.st_bind() != sym::STB_LOCAL)
        .filter(|symbol| Some(symbol.st_shndx) == text)
        .filter_map(|symbol| elf.strtab.get_at(symbol.st_name))
        .map(str::to_owned)
        .collect();
    Ok(ObjectFile {
        btf,
        functions,
        bytes,
    })
}

/// Whether a symbol or a relocation is outside of its section, which libbpf's linker does not check.
fn misplaced(elf: &Elf<'_>) -> Option<&'static str> {
    let size = |section: usize| elf.section_headers.get(section).map(|found| found.sh_size);
    let fits = |section: usize, start: u64, bytes: u64| {
        let end = start.checked_add(bytes);
        size(section).is_some_and(|size| end.is_some_and(|end| end <= size))
    };
    // What is elsewhere, and what is nowhere.
    let special = [section_header::SHN_UNDEF, section_header::SHN_ABS].map(|n| n as usize);
    let mut symbols = elf.syms.iter();
    let symbol = symbols.any(|symbol| {
        !special.contains(&symbol.st_shndx)
            && !fits(symbol.st_shndx, symbol.st_value, symbol.st_size)
    });
    if symbol {
        return Some("a symbol");
    }
    let relocation = elf.shdr_relocs.iter().any(|(section, relocations)| {
        let target = elf.section_headers.get(*section);
        let target = target.map_or(0, |section| section.sh_info as usize);
        let is_code = elf
            .section_headers
            .get(target)
            .is_some_and(|section| section.is_executable());
        // Of an instruction; others may be of 4 bytes.
        let bytes = if is_code { 8 } else { 4 };
        relocations.iter().any(|relocation| {
            relocation.r_sym >= elf.syms.len() || !fits(target, relocation.r_offset, bytes)
        })
    });
    relocation.then_some("a relocation")
}
