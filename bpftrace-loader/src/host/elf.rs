use std::io;
use std::path::Path;

use super::zip;
use bpftrace_debuginfo::{Files, demangle, separate_symbols};
use bpftrace_meta::wildcard_match;
use goblin::elf::program_header::PT_LOAD;
use goblin::elf::{Elf, header, sym};

/// A symbol of an executable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElfSymbol {
    /// Its name as the file has it (mangled).
    pub name: String,
    /// Virtual address in the file.
    pub address: u64,
    /// Size in bytes; 0 when the file does not say.
    pub size: u64,
}

/// A loadable segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Virtual address.
    pub address: u64,
    /// Offset in the file.
    pub offset: u64,
    /// Bytes in the file.
    pub size: u64,
    /// Whether its memory is executable.
    pub executable: bool,
}

/// A USDT probe, from a note of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsdtNote {
    /// Provider.
    pub provider: String,
    /// Name.
    pub name: String,
    /// Virtual address of the probe.
    pub address: u64,
    /// Virtual address of its semaphore; 0: none.
    pub semaphore: u64,
    /// Where its arguments are, as the assembler wrote it.
    pub arguments: String,
}

/// What uprobes have to know of an executable or library.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ElfFile {
    /// Function symbols of `.symtab` and `.dynsym`, sorted by name.
    pub symbols: Vec<ElfSymbol>,
    /// Variables of both tables, sorted by name.
    pub objects: Vec<ElfSymbol>,
    /// Loadable segments.
    pub segments: Vec<Segment>,
    /// USDT probes.
    pub usdt: Vec<UsdtNote>,
    /// Whether it has no `.symtab`.
    pub stripped: bool,
    /// Names of the libraries that it is linked with.
    pub needed: Vec<String>,
}

impl ElfFile {
    /// A file of nothing but code: an address is the offset of a byte.
    #[must_use]
    pub fn plain() -> Self {
        Self {
            segments: vec![Segment {
                address: 0,
                offset: 0,
                size: u64::MAX,
                executable: true,
            }],
            stripped: true,
            ..Self::default()
        }
    }

    /// Reads a file, and the file that its symbol table was moved to; `None` when it is not an ELF
    /// executable or shared object.
    pub fn read(path: &Path, files: &dyn Files) -> io::Result<Option<Self>> {
        if let Some((archive, member)) = zip::split(path) {
            let bytes = std::fs::read(archive)?;
            let Some((start, size)) = zip::find(&bytes, &member) else {
                return Ok(None);
            };
            let mut file = Self::parse(&bytes[start..start + size]);
            for segment in file.iter_mut().flat_map(|file| &mut file.segments) {
                segment.offset += start as u64;
            }
            return Ok(file);
        }
        let bytes = std::fs::read(path)?;
        let Some(mut file) = Self::parse(&bytes) else {
            return Ok(None);
        };
        if file.stripped
            && let Some(symbols) = separate_symbols(path, &bytes, files)
        {
            file.add_symbols(&symbols);
        }
        Ok(Some(file))
    }

    /// Adds the symbols of a file with nothing else in it.
    fn add_symbols(&mut self, bytes: &[u8]) {
        let Ok(elf) = Elf::parse(bytes) else {
            return;
        };
        let (symbols, objects) = symbols_of(&elf);
        self.symbols.extend(symbols);
        self.objects.extend(objects);
        self.sort();
        self.stripped = false;
    }

    fn sort(&mut self) {
        for list in [&mut self.symbols, &mut self.objects] {
            list.sort_by(|a, b| (&a.name, a.address).cmp(&(&b.name, b.address)));
            list.dedup_by(|a, b| a.name == b.name && a.address == b.address);
        }
    }

    /// Reads the bytes of a file.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let elf = Elf::parse(bytes).ok()?;
        if !matches!(elf.header.e_type, header::ET_EXEC | header::ET_DYN) {
            return None;
        }
        let (symbols, objects) = symbols_of(&elf);
        let segments = elf
            .program_headers
            .iter()
            .filter(|segment| segment.p_type == PT_LOAD)
            .map(|segment| Segment {
                address: segment.p_vaddr,
                offset: segment.p_offset,
                size: segment.p_filesz,
                executable: segment.is_executable(),
            })
            .collect();
        let mut file = Self {
            symbols,
            objects,
            segments,
            usdt: usdt_notes(&elf, bytes),
            stripped: elf.syms.is_empty(),
            needed: elf
                .libraries
                .iter()
                .map(|name| (*name).to_owned())
                .collect(),
        };
        file.sort();
        Some(file)
    }

    /// Offset in the file of a virtual address.
    #[must_use]
    pub fn file_offset(&self, address: u64) -> Option<u64> {
        self.segments
            .iter()
            .find(|s| address >= s.address && address - s.address < s.size)
            .map(|s| address - s.address + s.offset)
    }

    /// Virtual address of an offset in the file.
    #[must_use]
    pub fn address_at(&self, offset: u64) -> Option<u64> {
        self.segments
            .iter()
            .find(|s| s.executable && offset >= s.offset && offset - s.offset < s.size)
            .map(|s| offset - s.offset + s.address)
    }

    /// The function symbols with this name.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a ElfSymbol> {
        let start = self.symbols.partition_point(|s| s.name.as_str() < name);
        self.symbols[start..]
            .iter()
            .take_while(move |s| s.name == name)
    }

    /// The functions that a name, a pattern, or (with a language) a pattern for demangled names stands
    /// for. Several names of one address (aliases, the constructors of a class) are as many functions.
    #[must_use]
    pub fn matching(&self, pattern: &str, language: Option<&str>) -> Vec<&ElfSymbol> {
        // Parts that the compiler cut out of functions are only meant by their names.
        let is_part = |symbol: &ElfSymbol| symbol.name.contains(".part.");
        let is_pattern = pattern.contains('*');
        match language {
            Some("cpp") => {
                // Parameters only count where the pattern has some.
                let with_parameters = pattern.contains('(');
                self.symbols
                    .iter()
                    .filter(|symbol| !(is_pattern && is_part(symbol)))
                    .filter(|symbol| {
                        demangle(&symbol.name, with_parameters)
                            .is_some_and(|name| wildcard_match(pattern, &name))
                            || wildcard_match(pattern, &symbol.name)
                    })
                    .collect()
            }
            _ if is_pattern => self
                .symbols
                .iter()
                .filter(|symbol| !is_part(symbol) && wildcard_match(pattern, &symbol.name))
                .collect(),
            _ => {
                let start = self.symbols.partition_point(|s| s.name.as_str() < pattern);
                let first = self.symbols.get(start).filter(|s| s.name == pattern);
                first.into_iter().collect()
            }
        }
    }

    /// The function or variable that an address is in.
    #[must_use]
    pub fn symbol_at(&self, address: u64) -> Option<&ElfSymbol> {
        let mut all = self.symbols.iter().chain(&self.objects);
        all.find(|symbol| address >= symbol.address && address - symbol.address < symbol.size)
    }

    /// The function or variable with this name.
    #[must_use]
    pub fn object_named(&self, name: &str) -> Option<&ElfSymbol> {
        [&self.symbols, &self.objects]
            .into_iter()
            .flatten()
            .find(|symbol| symbol.name == name)
    }
}

impl ElfSymbol {
    /// The name as the source of a C++ or Rust program has it, with parameters.
    #[must_use]
    pub fn demangled(&self) -> Option<String> {
        demangle(&self.name, true)
    }
}

/// Functions and variables of both symbol tables.
fn symbols_of(elf: &Elf<'_>) -> (Vec<ElfSymbol>, Vec<ElfSymbol>) {
    let mut symbols = Vec::new();
    let mut objects = Vec::new();
    for (table, names) in [(&elf.syms, &elf.strtab), (&elf.dynsyms, &elf.dynstrtab)] {
        for symbol in table.iter() {
            let kind = symbol.st_type();
            if symbol.st_value == 0 {
                continue;
            }
            let list = match kind {
                sym::STT_FUNC | sym::STT_GNU_IFUNC => &mut symbols,
                sym::STT_OBJECT => &mut objects,
                _ => continue,
            };
            if let Some(name) = names.get_at(symbol.st_name) {
                // `name@@VERSION` is the same function.
                let name = name.split('@').next().unwrap_or(name);
                list.push(ElfSymbol {
                    name: name.to_owned(),
                    address: symbol.st_value,
                    size: symbol.st_size,
                });
            }
        }
    }
    (symbols, objects)
}

/// The notes of `.note.stapsdt`: three addresses (probe, link-time address of `.stapsdt.base`,
/// semaphore), then provider, name and arguments, each with a NUL.
fn usdt_notes(elf: &Elf<'_>, bytes: &[u8]) -> Vec<UsdtNote> {
    const NT_STAPSDT: u32 = 3;
    let Some(notes) = elf.iter_note_sections(bytes, Some(".note.stapsdt")) else {
        return Vec::new();
    };
    let base = elf
        .section_headers
        .iter()
        .find(|s| elf.shdr_strtab.get_at(s.sh_name) == Some(".stapsdt.base"))
        .map(|s| s.sh_addr);
    let mut probes = Vec::new();
    for note in notes.flatten() {
        if note.n_type != NT_STAPSDT || note.name != "stapsdt" || note.desc.len() < 24 {
            continue;
        }
        let number =
            |i: usize| u64::from_le_bytes(note.desc[8 * i..8 * i + 8].try_into().expect("8 bytes"));
        let mut texts = note.desc[24..].split(|&b| b == 0);
        let mut text = || {
            texts
                .next()
                .map(|t| String::from_utf8_lossy(t).into_owned())
                .unwrap_or_default()
        };
        // Prelinking moves the file's addresses, and the section with them, but not the note's.
        let shift = base.map_or(0, |base| base.wrapping_sub(number(1)));
        let moved = |address: u64| {
            if address == 0 {
                0
            } else {
                address.wrapping_add(shift)
            }
        };
        probes.push(UsdtNote {
            address: moved(number(0)),
            semaphore: moved(number(2)),
            provider: text(),
            name: text(),
            arguments: text(),
        });
    }
    probes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_test_program_itself() {
        let path = std::env::current_exe().unwrap();
        let elf = ElfFile::parse(&std::fs::read(&path).unwrap()).unwrap();
        let main = elf.named("main").next().expect("main");
        let offset = elf.file_offset(main.address).unwrap();
        assert!(offset < std::fs::metadata(&path).unwrap().len());
        assert!(elf.named("no_such_function").next().is_none());
        assert!(!elf.stripped);
    }

    #[test]
    fn not_elf_is_an_answer() {
        assert_eq!(ElfFile::parse(b"#!/bin/sh\n"), None);
        assert_eq!(ElfFile::parse(b""), None);
        assert_eq!(ElfFile::parse(b"\x7fELF\x02\x01\x01"), None);
    }
}
