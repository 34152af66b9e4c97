//! Executables that carry an artifact: a copy of the runtime shim with one more section.
//!
//! The section is appended behind everything else, with a new table of section names and a new table
//! of section headers; nothing that the kernel maps is moved or changed. Layouts are those of
//! ELF-64, little-endian (`/usr/include/elf.h`).

use std::io::{self, Read, Seek, SeekFrom};

use crate::{Artifact, DecodeError, SECTION_NAME};

/// Size of the file header.
const EHDR: usize = 64;
/// Size of a section header.
const SHDR: usize = 64;
/// `SHT_PROGBITS` and `SHT_STRTAB`.
const PROGBITS: u32 = 1;
const STRTAB: u32 = 3;
/// Alignment of the payload and of the header table.
const ALIGN: usize = 8;

/// Why an executable cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// Not a 64-bit little-endian ELF file.
    #[error("not a 64-bit ELF executable")]
    NotElf,
    /// Parts that its header names are not in the file.
    #[error("the executable is truncated or damaged")]
    Damaged,
    /// There is no artifact in it.
    #[error("the executable contains no compiled script")]
    NoPayload,
    /// There is one already.
    #[error("the runtime shim contains a compiled script already")]
    HasPayload,
    /// The artifact cannot be read.
    #[error(transparent)]
    Artifact(#[from] DecodeError),
    /// The file cannot be read.
    #[error("cannot read the executable: {0}")]
    Io(#[from] io::Error),
}

/// The fields of the file header that matter here.
#[derive(Clone, Copy)]
struct FileHeader {
    sections: u64,
    n_sections: u16,
    names: u16,
}

/// The fields of a section header that matter here.
#[derive(Clone, Copy)]
struct SectionHeader {
    name: u32,
    offset: u64,
    size: u64,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("2 bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

fn file_header(bytes: &[u8]) -> Result<FileHeader, ContainerError> {
    // Magic, 64 bits, little-endian.
    if bytes.len() < EHDR || bytes[..6] != *b"\x7fELF\x02\x01" {
        return Err(ContainerError::NotElf);
    }
    let header = FileHeader {
        sections: u64_at(bytes, 40),
        n_sections: u16_at(bytes, 60),
        names: u16_at(bytes, 62),
    };
    let has_sections = header.sections != 0 && header.n_sections != 0;
    if has_sections && (usize::from(u16_at(bytes, 58)) != SHDR || header.names >= header.n_sections)
    {
        return Err(ContainerError::Damaged);
    }
    Ok(FileHeader {
        n_sections: if has_sections { header.n_sections } else { 0 },
        ..header
    })
}

fn section_header(bytes: &[u8]) -> SectionHeader {
    SectionHeader {
        name: u32_at(bytes, 0),
        offset: u64_at(bytes, 24),
        size: u64_at(bytes, 32),
    }
}

fn name_is(names: &[u8], at: u32, wanted: &str) -> bool {
    names
        .get(at as usize..)
        .and_then(|rest| rest.split(|b| *b == 0).next())
        == Some(wanted.as_bytes())
}

fn part(bytes: &[u8], offset: u64, size: u64) -> Result<&[u8], ContainerError> {
    usize::try_from(offset)
        .ok()
        .zip(usize::try_from(size).ok())
        .and_then(|(offset, size)| bytes.get(offset..)?.get(..size))
        .ok_or(ContainerError::Damaged)
}

/// A copy of the shim that carries an encoded artifact in its section `.btaot`.
///
/// # Errors
/// When the shim is not an ELF executable or has such a section already.
pub fn make_executable(shim: &[u8], artifact: &[u8]) -> Result<Vec<u8>, ContainerError> {
    let header = file_header(shim)?;
    let mut table = part(
        shim,
        header.sections,
        u64::from(header.n_sections) * SHDR as u64,
    )?
    .to_vec();
    let mut names_index = usize::from(header.names);
    let mut names = if header.n_sections == 0 {
        // All section headers were stripped: the first one is always empty.
        table.resize(2 * SHDR, 0);
        names_index = 1;
        let mut names = vec![0];
        table[SHDR..SHDR + 4].copy_from_slice(&(names.len() as u32).to_le_bytes());
        table[SHDR + 4..SHDR + 8].copy_from_slice(&STRTAB.to_le_bytes());
        table[SHDR + 48..SHDR + 56].copy_from_slice(&1u64.to_le_bytes());
        names.extend_from_slice(b".shstrtab\0");
        names
    } else {
        let section = section_header(&table[names_index * SHDR..]);
        part(shim, section.offset, section.size)?.to_vec()
    };
    let has_payload = table
        .chunks_exact(SHDR)
        .any(|section| name_is(&names, u32_at(section, 0), SECTION_NAME));
    if has_payload {
        return Err(ContainerError::HasPayload);
    }
    let n_sections = table.len() / SHDR + 1;
    let n_sections_field = u16::try_from(n_sections).map_err(|_| ContainerError::Damaged)?;

    let mut executable = Vec::with_capacity(shim.len() + artifact.len() + table.len() + 4096);
    executable.extend_from_slice(shim);
    let align = |executable: &mut Vec<u8>| {
        executable.resize(executable.len().next_multiple_of(ALIGN), 0);
        executable.len() as u64
    };
    let payload_at = align(&mut executable);
    executable.extend_from_slice(artifact);
    let name = names.len() as u32;
    names.extend_from_slice(SECTION_NAME.as_bytes());
    names.push(0);
    let names_at = executable.len() as u64;
    executable.extend_from_slice(&names);
    let names_header = names_index * SHDR;
    table[names_header + 24..names_header + 32].copy_from_slice(&names_at.to_le_bytes());
    table[names_header + 32..names_header + 40]
        .copy_from_slice(&(names.len() as u64).to_le_bytes());

    // sh_name, sh_type; no flags and no address: it is not mapped.
    let mut section = [0u8; SHDR];
    section[..4].copy_from_slice(&name.to_le_bytes());
    section[4..8].copy_from_slice(&PROGBITS.to_le_bytes());
    section[24..32].copy_from_slice(&payload_at.to_le_bytes());
    section[32..40].copy_from_slice(&(artifact.len() as u64).to_le_bytes());
    section[48..56].copy_from_slice(&(ALIGN as u64).to_le_bytes());
    table.extend_from_slice(&section);
    let table_at = align(&mut executable);
    executable.extend_from_slice(&table);

    executable[40..48].copy_from_slice(&table_at.to_le_bytes());
    executable[58..60].copy_from_slice(&(SHDR as u16).to_le_bytes());
    executable[60..62].copy_from_slice(&n_sections_field.to_le_bytes());
    executable[62..64].copy_from_slice(&(names_index as u16).to_le_bytes());
    Ok(executable)
}

/// The encoded artifact in an executable. Reads only the parts of the file that it needs.
///
/// # Errors
/// When there is none, or the file is not what [`make_executable`] makes.
pub fn read_payload(file: &mut (impl Read + Seek)) -> Result<Vec<u8>, ContainerError> {
    let length = file.seek(SeekFrom::End(0))?;
    let mut read = |offset: u64, size: u64| -> Result<Vec<u8>, ContainerError> {
        if offset.checked_add(size).is_none_or(|end| end > length) {
            return Err(ContainerError::Damaged);
        }
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = vec![0; size as usize];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    };
    if length < EHDR as u64 {
        return Err(ContainerError::NotElf);
    }
    let header = file_header(&read(0, EHDR as u64)?)?;
    if header.n_sections == 0 {
        return Err(ContainerError::NoPayload);
    }
    let table = read(header.sections, u64::from(header.n_sections) * SHDR as u64)?;
    let names = section_header(&table[usize::from(header.names) * SHDR..]);
    let names = read(names.offset, names.size)?;
    let section = table
        .chunks_exact(SHDR)
        .map(section_header)
        .find(|section| name_is(&names, section.name, SECTION_NAME))
        .ok_or(ContainerError::NoPayload)?;
    read(section.offset, section.size)
}

/// The artifact in an executable, decoded and checked.
///
/// # Errors
/// As [`read_payload`], and when the artifact is damaged or of another version.
pub fn read_artifact(file: &mut (impl Read + Seek)) -> Result<Artifact, ContainerError> {
    Ok(Artifact::decode(&read_payload(file)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// A file with a header and nothing else, as after `strip --strip-section-headers`.
    fn bare_shim() -> Vec<u8> {
        let mut shim = vec![0; EHDR];
        shim[..6].copy_from_slice(b"\x7fELF\x02\x01");
        shim.extend_from_slice(b"code");
        shim
    }

    #[test]
    fn payload_comes_back() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        for shim in [own, bare_shim()] {
            let executable = make_executable(&shim, b"payload").unwrap();
            assert_eq!(executable[EHDR..shim.len()], shim[EHDR..]);
            let payload = read_payload(&mut Cursor::new(&executable)).unwrap();
            assert_eq!(payload, b"payload");
            assert!(matches!(
                make_executable(&executable, b"again"),
                Err(ContainerError::HasPayload)
            ));
        }
    }

    #[test]
    fn damage_is_an_error() {
        let read = |bytes: &[u8]| {
            read_payload(&mut Cursor::new(bytes))
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            read(&bare_shim()),
            "the executable contains no compiled script"
        );
        assert_eq!(read(b"#!/bin/sh"), "not a 64-bit ELF executable");
        let executable = make_executable(&bare_shim(), b"payload").unwrap();
        for length in EHDR..executable.len() {
            assert_eq!(
                read(&executable[..length]),
                "the executable is truncated or damaged"
            );
        }
        // No flipped bit makes it panic.
        for bit in 0..executable.len() * 8 {
            let mut flipped = executable.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let _ = read_payload(&mut Cursor::new(&flipped));
        }
    }
}
