//! Packets of `skboutput` in pcap files (the format of tcpdump, version 2.4).

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};

/// Link type of packets that begin with an IP header.
const LINKTYPE_RAW: u32 = 101;

/// Files that packets go to, each created when its first packet arrives.
#[derive(Default)]
pub(crate) struct PcapFiles {
    open: HashMap<String, BufWriter<File>>,
}

impl PcapFiles {
    /// Appends a packet with its time in nanoseconds since 1970.
    pub(crate) fn write(&mut self, path: &str, ns: u64, packet: &[u8]) -> io::Result<()> {
        if !self.open.contains_key(path) {
            let mut file = BufWriter::new(File::create(path)?);
            write_header(&mut file)?;
            self.open.insert(path.to_owned(), file);
        }
        match self.open.get_mut(path) {
            Some(file) => write_packet(file, ns, packet),
            None => Ok(()),
        }
    }

    /// Writes out what is buffered.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.open.values_mut().try_for_each(Write::flush)
    }
}

fn write_header(to: &mut impl Write) -> io::Result<()> {
    to.write_all(&0xa1b2_c3d4_u32.to_le_bytes())?;
    to.write_all(&2_u16.to_le_bytes())?;
    to.write_all(&4_u16.to_le_bytes())?;
    // Time zone, accuracy, longest packet, link type.
    for word in [0, 0, 65_535, LINKTYPE_RAW] {
        to.write_all(&word.to_le_bytes())?;
    }
    Ok(())
}

fn write_packet(to: &mut impl Write, ns: u64, packet: &[u8]) -> io::Result<()> {
    let length = u32::try_from(packet.len()).unwrap_or(u32::MAX);
    let (seconds, microseconds) = (ns / 1_000_000_000, ns % 1_000_000_000 / 1_000);
    for word in [seconds as u32, microseconds as u32, length, length] {
        to.write_all(&word.to_le_bytes())?;
    }
    to.write_all(packet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_follow_the_header() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("a.pcap");
        let path = path.to_str().expect("UTF-8");
        let mut files = PcapFiles::default();
        files
            .write(path, 3_000_005_999, &[1, 2, 3])
            .expect("written");
        files.write(path, 4_000_000_000, &[]).expect("written");
        files.flush().expect("written");
        let bytes = std::fs::read(path).expect("there");
        assert_eq!(bytes.len(), 24 + 16 + 3 + 16);
        assert_eq!(bytes[..4], [0xd4, 0xc3, 0xb2, 0xa1]);
        assert_eq!(
            bytes[24..40],
            [3, 0, 0, 0, 5, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0, 0]
        );
        assert_eq!(bytes[40..43], [1, 2, 3]);
    }
}
