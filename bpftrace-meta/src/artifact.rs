use serde::Serialize as _;
use sha2::{Digest as _, Sha256};

use crate::Manifest;

/// Name of the ELF section that an ahead-of-time executable keeps its artifact in.
pub const SECTION_NAME: &str = ".btaot";

/// First bytes of an encoded artifact.
const MAGIC: [u8; 8] = *b"\x7fBTAOT\r\n";

/// Version of the encoding; decoding takes exactly this one.
const FORMAT_VERSION: u32 = 1;

/// Magic, `u32` version, `u32` reserved (zero), `u64` manifest length, `u64` object length, SHA-256
/// of manifest and object; all little-endian.
const HEADER_LEN: usize = 8 + 4 + 4 + 8 + 8 + 32;

/// A compiled script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// What the loader has to know.
    pub manifest: Manifest,
    /// A BPF ELF object that libbpf can load.
    pub object: Vec<u8>,
}

/// Why bytes are not an artifact.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Something else, or nothing.
    #[error("not a compiled bpftrace script")]
    NotAnArtifact,
    /// Made by another version.
    #[error(
        "the compiled script has format version {found}, this runtime reads version {FORMAT_VERSION}: \
         compile the script again with a matching bpftrace"
    )]
    Version {
        /// Version in the file.
        found: u32,
    },
    /// Too short.
    #[error("the compiled script is truncated: {expected} bytes expected, {found} found")]
    Truncated {
        /// Bytes that the header announces.
        expected: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// Changed after it was written.
    #[error("the compiled script is corrupted: its checksum does not match")]
    Checksum,
    /// Checksum right, content not understood.
    #[error("the compiled script is malformed: {0}")]
    Malformed(String),
}

impl Artifact {
    /// The artifact as bytes: header, manifest, object.
    ///
    /// # Panics
    /// Never: a manifest has nothing in it that cannot be encoded.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut serializer = postcard::Serializer {
            output: postcard::ser_flavors::StdVec::new(),
        };
        self.manifest
            .serialize(&mut serializer)
            .expect("a manifest can always be encoded");
        let manifest = postcard::ser_flavors::Flavor::finalize(serializer.output)
            .expect("a vector can always be finished");
        let mut bytes = Vec::with_capacity(HEADER_LEN + manifest.len() + self.object.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&(manifest.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&(self.object.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&checksum(&manifest, &self.object));
        bytes.extend_from_slice(&manifest);
        bytes.extend_from_slice(&self.object);
        bytes
    }

    /// Reads an artifact back; strict: every byte is accounted for.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let magic = bytes.get(..8).ok_or(DecodeError::NotAnArtifact)?;
        if magic != MAGIC {
            return Err(DecodeError::NotAnArtifact);
        }
        let truncated = |expected: u64| DecodeError::Truncated {
            expected,
            found: bytes.len() as u64,
        };
        let header = bytes
            .get(..HEADER_LEN)
            .ok_or_else(|| truncated(HEADER_LEN as u64))?;
        let version = u32::from_le_bytes(header[8..12].try_into().expect("4 bytes"));
        if version != FORMAT_VERSION {
            return Err(DecodeError::Version { found: version });
        }
        let reserved = u32::from_le_bytes(header[12..16].try_into().expect("4 bytes"));
        if reserved != 0 {
            return Err(DecodeError::Malformed(
                "reserved header field is not zero".into(),
            ));
        }
        let manifest_len = u64::from_le_bytes(header[16..24].try_into().expect("8 bytes"));
        let object_len = u64::from_le_bytes(header[24..32].try_into().expect("8 bytes"));
        let expected = manifest_len
            .checked_add(object_len)
            .and_then(|n| n.checked_add(HEADER_LEN as u64))
            .ok_or_else(|| truncated(u64::MAX))?;
        let found = bytes.len() as u64;
        if found < expected {
            return Err(truncated(expected));
        }
        if found > expected {
            return Err(DecodeError::Malformed(format!(
                "{} bytes too many",
                found - expected
            )));
        }
        let (manifest, object) = bytes[HEADER_LEN..].split_at(manifest_len as usize);
        if checksum(manifest, object)[..] != header[32..64] {
            return Err(DecodeError::Checksum);
        }
        let (decoded, rest) = postcard::take_from_bytes::<Manifest>(manifest)
            .map_err(|e| DecodeError::Malformed(e.to_string()))?;
        if !rest.is_empty() {
            return Err(DecodeError::Malformed("bytes behind the manifest".into()));
        }
        Ok(Self {
            manifest: decoded,
            object: object.to_vec(),
        })
    }
}

fn checksum(manifest: &[u8], object: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(manifest);
    hash.update(object);
    hash.finalize().into()
}
