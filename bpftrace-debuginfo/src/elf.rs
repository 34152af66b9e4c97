//! Sections of an ELF file.

use std::io::Read as _;
use std::rc::Rc;

use bpftrace_meta::UserBuild;
use gimli::{EndianReader, LittleEndian};
use goblin::elf::section_header::{SHF_COMPRESSED, SHT_NOBITS};
use goblin::elf::{Elf, note::NT_GNU_BUILD_ID};

/// What gimli reads from.
pub(crate) type Bytes = EndianReader<LittleEndian, Rc<[u8]>>;

pub(crate) fn reader(bytes: Rc<[u8]>) -> Bytes {
    EndianReader::new(bytes, LittleEndian)
}

/// Sections do not unpack to more than this.
const MAX_UNPACKED: u64 = 4 << 30;

/// Packed symbol tables do not unpack to more than this.
const MAX_PACKED_SYMBOLS: usize = 256 << 20;

/// `ELFCOMPRESS_ZLIB`.
const COMPRESS_ZLIB: u32 = 1;

#[derive(Debug)]
struct Section {
    name: String,
    start: usize,
    size: usize,
    compressed: bool,
}

/// An ELF file in memory.
#[derive(Debug)]
pub(crate) struct Image {
    bytes: Rc<[u8]>,
    sections: Vec<Section>,
    pub(crate) build_id: Option<Vec<u8>>,
}

impl Image {
    /// `None` when it is no little-endian 64-bit ELF file.
    pub(crate) fn parse(bytes: Rc<[u8]>) -> Option<Self> {
        let elf = Elf::parse(&bytes).ok()?;
        if !elf.is_64 || !elf.little_endian {
            return None;
        }
        let mut sections = Vec::new();
        for header in &elf.section_headers {
            if header.sh_type == SHT_NOBITS {
                continue;
            }
            let (start, size) = (header.sh_offset as usize, header.sh_size as usize);
            if start.checked_add(size).is_none_or(|end| end > bytes.len()) {
                continue;
            }
            sections.push(Section {
                name: elf.shdr_strtab.get_at(header.sh_name)?.to_owned(),
                start,
                size,
                compressed: header.sh_flags & u64::from(SHF_COMPRESSED) != 0,
            });
        }
        let build_id = elf
            .iter_note_sections(&bytes, None)
            .into_iter()
            .chain(elf.iter_note_headers(&bytes))
            .flat_map(|notes| notes.flatten())
            .find(|note| note.n_type == NT_GNU_BUILD_ID && note.name == "GNU")
            .map(|note| note.desc.to_vec());
        Some(Self {
            bytes,
            sections,
            build_id,
        })
    }

    /// Which build it is.
    pub(crate) fn build(&self) -> UserBuild {
        match &self.build_id {
            Some(id) => UserBuild::Id(id.clone()),
            None => UserBuild::of_bytes(&self.bytes),
        }
    }

    pub(crate) fn into_bytes(self) -> Rc<[u8]> {
        self.bytes
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Contents of a section, unpacked; nothing when it is not there or cannot be unpacked.
    pub(crate) fn section(&self, name: &str) -> Option<Bytes> {
        let old_name = name.strip_prefix('.').map(|rest| format!(".z{rest}"));
        let named = |wanted: &str| self.sections.iter().find(|s| s.name == wanted);
        if let Some(section) = named(name) {
            let range = section.start..section.start + section.size;
            if !section.compressed {
                return Some(reader(self.bytes.clone()).range(range));
            }
            // `Elf64_Chdr`: type, reserved, size, alignment.
            let packed = &self.bytes[range];
            let kind = u32::from_le_bytes(packed.get(..4)?.try_into().ok()?);
            let size = u64::from_le_bytes(packed.get(8..16)?.try_into().ok()?);
            return (kind == COMPRESS_ZLIB)
                .then(|| unpack(&packed[24..], size))
                .flatten();
        }
        let section = named(&old_name?)?;
        let packed = &self.bytes[section.start..section.start + section.size];
        let size = u64::from_be_bytes(packed.strip_prefix(b"ZLIB")?.get(..8)?.try_into().ok()?);
        unpack(&packed[12..], size)
    }

    pub(crate) fn has_section(&self, name: &str) -> bool {
        let old_name = name.strip_prefix('.').map(|rest| format!(".z{rest}"));
        self.sections
            .iter()
            .any(|s| s.size > 0 && (s.name == name || Some(&s.name) == old_name.as_ref()))
    }

    /// The ELF file that is packed into this one.
    pub(crate) fn packed_symbols(&self) -> Option<Rc<[u8]>> {
        let section = self.sections.iter().find(|s| s.name == ".gnu_debugdata")?;
        let packed = &self.bytes[section.start..section.start + section.size];
        let mut unpacked = Vec::new();
        xz2::read::XzDecoder::new(packed)
            .take(MAX_PACKED_SYMBOLS as u64 + 1)
            .read_to_end(&mut unpacked)
            .ok()?;
        (unpacked.len() <= MAX_PACKED_SYMBOLS).then(|| unpacked.into())
    }

    /// The name of the file that the debug information was moved to, and its checksum.
    pub(crate) fn debug_link(&self) -> Option<(String, u32)> {
        let section = self.sections.iter().find(|s| s.name == ".gnu_debuglink")?;
        let bytes = &self.bytes[section.start..section.start + section.size];
        let end = bytes.iter().position(|b| *b == 0)?;
        let name = std::str::from_utf8(&bytes[..end]).ok()?.to_owned();
        let at = (end + 1).next_multiple_of(4);
        let sum = u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?);
        Some((name, sum))
    }
}

fn unpack(packed: &[u8], size: u64) -> Option<Bytes> {
    let size = size.min(MAX_UNPACKED);
    let mut bytes = Vec::new();
    flate2::read::ZlibDecoder::new(packed)
        .take(size)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(reader(bytes.into()))
}
