//! Writes a cpio archive in the `newc` form, the one the kernel unpacks as its initramfs.
//!
//! Form: `Documentation/driver-api/early-userspace/buffer-format.rst` in the kernel's tree. Every
//! entry is a header of thirteen hexadecimal fields of eight digits, the name, and the data, each
//! padded to four bytes. Everything belongs to root and has the time zero.

use std::collections::BTreeSet;
use std::io::{self, Write};

const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An archive being written. Folders on the way to an entry are made by themselves.
#[derive(Debug)]
pub(crate) struct Archive<W> {
    out: W,
    inode: u32,
    folders: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    /// An empty archive.
    pub(crate) fn new(out: W) -> Archive<W> {
        Archive {
            out,
            inode: 0,
            folders: BTreeSet::new(),
        }
    }

    /// A file. `path` has no leading slash; `mode` is the permission bits.
    pub(crate) fn file(&mut self, path: &str, mode: u32, data: &[u8]) -> io::Result<()> {
        self.parents(path)?;
        self.entry(path, REGULAR | mode, data, (0, 0))
    }

    /// A folder.
    pub(crate) fn folder(&mut self, path: &str, mode: u32) -> io::Result<()> {
        self.parents(path)?;
        if self.folders.insert(path.to_owned()) {
            self.entry(path, DIRECTORY | mode, &[], (0, 0))?;
        }
        Ok(())
    }

    /// A symbolic link.
    pub(crate) fn symlink(&mut self, path: &str, to: &str) -> io::Result<()> {
        self.parents(path)?;
        self.entry(path, SYMLINK | 0o777, to.as_bytes(), (0, 0))
    }

    /// A character device.
    pub(crate) fn device(&mut self, path: &str, major: u32, minor: u32) -> io::Result<()> {
        self.parents(path)?;
        self.entry(path, CHARACTER_DEVICE | 0o600, &[], (major, minor))
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.entry("TRAILER!!!", 0, &[], (0, 0))?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn parents(&mut self, path: &str) -> io::Result<()> {
        for (at, _) in path.match_indices('/') {
            let folder = &path[..at];
            if self.folders.insert(folder.to_owned()) {
                self.entry(folder, DIRECTORY | 0o755, &[], (0, 0))?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, name: &str, mode: u32, data: &[u8], device: (u32, u32)) -> io::Result<()> {
        self.inode += 1;
        let too_long = |_| io::Error::other(format!("{name}: too large for a cpio archive"));
        let size = u32::try_from(data.len()).map_err(too_long)?;
        let name_size = u32::try_from(name.len() + 1).map_err(too_long)?;
        let links = 1;
        let fields = [
            self.inode, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name_size, 0,
        ];
        let mut header = String::from("070701");
        for field in fields {
            header.push_str(&format!("{field:08X}"));
        }
        self.out.write_all(header.as_bytes())?;
        self.out.write_all(name.as_bytes())?;
        self.out.write_all(&[0])?;
        self.pad(header.len() + name.len() + 1)?;
        self.out.write_all(data)?;
        self.pad(data.len())
    }

    fn pad(&mut self, written: usize) -> io::Result<()> {
        self.out.write_all(&[0; 3][..(4 - written % 4) % 4])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_before_their_files_and_only_once() {
        let mut archive = Archive::new(Vec::new());
        archive.file("a/b/one", 0o644, b"12345").unwrap();
        archive.file("a/b/two", 0o755, b"").unwrap();
        archive.symlink("a/three", "b/one").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(
            names(&bytes),
            ["a", "a/b", "a/b/one", "a/b/two", "a/three", "TRAILER!!!"]
        );
    }

    /// Walks an archive as the kernel does: by the sizes in the headers.
    fn names(mut bytes: &[u8]) -> Vec<String> {
        let field = |bytes: &[u8], n: usize| {
            let text = std::str::from_utf8(&bytes[6 + 8 * n..14 + 8 * n]).unwrap();
            usize::from_str_radix(text, 16).unwrap()
        };
        let mut names = Vec::new();
        while !bytes.is_empty() {
            assert_eq!(&bytes[..6], b"070701");
            let (size, name_size) = (field(bytes, 6), field(bytes, 11));
            names.push(String::from_utf8(bytes[110..110 + name_size - 1].to_vec()).unwrap());
            let data = (110 + name_size).next_multiple_of(4);
            bytes = &bytes[(data + size).next_multiple_of(4)..];
        }
        names
    }
}
