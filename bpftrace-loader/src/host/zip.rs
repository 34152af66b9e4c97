//! Libraries in ZIP archives, which the dynamic linker of Android loads from there: `archive.zip!/lib.so`.

use std::path::{Path, PathBuf};

/// Archive and member of a path that names a member.
pub(crate) fn split(path: &Path) -> Option<(PathBuf, String)> {
    let text = path.to_str()?;
    let (archive, member) = text.split_once("!/")?;
    Some((archive.into(), member.to_owned()))
}

/// The file that the kernel knows: the archive, if it is a path in one.
pub(crate) fn file_of(path: &Path) -> PathBuf {
    split(path).map_or_else(|| path.to_owned(), |(archive, _)| archive)
}

/// The bytes of a member that is not packed: where they start in the archive, and how many.
pub(crate) fn find(archive: &[u8], member: &str) -> Option<(usize, usize)> {
    const END: &[u8] = b"PK\x05\x06";
    const ENTRY: &[u8] = b"PK\x01\x02";
    const LOCAL: &[u8] = b"PK\x03\x04";
    let u16_at = |at: usize| {
        let bytes = archive.get(at..at.checked_add(2)?)?;
        Some(usize::from(u16::from_le_bytes(bytes.try_into().ok()?)))
    };
    let u32_at = |at: usize| {
        let bytes = archive.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
    };
    let starts_with = |at: usize, magic: &[u8]| archive.get(at..at + 4) == Some(magic);
    // The end of the directory is followed by a comment of at most 64 KiB.
    let last = archive.len().checked_sub(22)?;
    let first = last.saturating_sub(1 << 16);
    let end = (first..=last).rev().find(|at| starts_with(*at, END))?;
    let n_entries = u16_at(end + 10)?;
    let mut at = u32_at(end + 16)?;
    for _ in 0..n_entries {
        if !starts_with(at, ENTRY) {
            return None;
        }
        let method = u16_at(at + 10)?;
        let size = u32_at(at + 24)?;
        let name_length = u16_at(at + 28)?;
        let name = archive.get(at + 46..at + 46 + name_length)?;
        if name == member.as_bytes() {
            let local = u32_at(at + 42)?;
            if method != 0 || !starts_with(local, LOCAL) {
                return None;
            }
            let start = local + 30 + u16_at(local + 26)? + u16_at(local + 28)?;
            archive.get(start..start.checked_add(size)?)?;
            return Some((start, size));
        }
        at += 46 + name_length + u16_at(at + 30)? + u16_at(at + 32)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An archive with one member.
    fn archive(name: &[u8], method: u8, contents: &[u8]) -> Vec<u8> {
        let size = u32::try_from(contents.len()).unwrap().to_le_bytes();
        let name_length = [name.len() as u8, 0];
        let mut bytes = b"PK\x03\x04".to_vec();
        bytes.extend([0; 14]);
        bytes.extend(size);
        bytes.extend(size);
        bytes.extend(name_length);
        bytes.extend([2, 0]);
        bytes.extend(name);
        bytes.extend([9, 9]);
        bytes.extend(contents);
        let directory = bytes.len() as u32;
        bytes.extend(b"PK\x01\x02");
        bytes.extend([0; 6]);
        bytes.extend([method, 0]);
        bytes.extend([0; 8]);
        bytes.extend(size);
        bytes.extend(size);
        bytes.extend(name_length);
        bytes.extend([0; 16]);
        bytes.extend(name);
        bytes.extend(b"PK\x05\x06");
        bytes.extend([0, 0, 0, 0, 1, 0, 1, 0]);
        bytes.extend([0; 4]);
        bytes.extend(directory.to_le_bytes());
        bytes.extend([0, 0]);
        bytes
    }

    // F062
    #[test]
    fn members_are_found() {
        let stored = archive(b"lib/a.so", 0, b"contents");
        assert_eq!(find(&stored, "lib/a.so"), Some((40, 8)));
        assert_eq!(&stored[40..48], b"contents");
        assert_eq!(find(&stored, "a.so"), None);
        assert_eq!(find(&archive(b"a", 8, b"packed"), "a"), None);
        for n in 0..stored.len() {
            let _ = find(&stored[..n], "lib/a.so");
        }
        let path = Path::new("/a.zip!/lib/a.so");
        assert_eq!(split(path), Some(("/a.zip".into(), "lib/a.so".into())));
        assert_eq!(file_of(path), Path::new("/a.zip"));
        assert_eq!(file_of(Path::new("/a")), Path::new("/a"));
    }
}
