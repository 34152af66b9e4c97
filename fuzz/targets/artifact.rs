//! The decoder of artifacts takes any bytes, also behind a header that is right; what it accepts is
//! encoded to the same bytes.
#![no_main]

use bpftrace_meta::Artifact;
use libfuzzer_sys::fuzz_target;
use sha2::{Digest as _, Sha256};

fuzz_target!(|bytes: &[u8]| {
    let _ = Artifact::decode(bytes);
    // The checksum keeps chance out; with it right, the rest has to be as strict.
    let Some((&cut, rest)) = bytes.split_first() else {
        return;
    };
    let manifest = rest.len() * usize::from(cut) / 255;
    let mut whole = b"\x7fBTAOT\r\n".to_vec();
    whole.extend_from_slice(&1u32.to_le_bytes());
    whole.extend_from_slice(&[0; 4]);
    whole.extend_from_slice(&(manifest as u64).to_le_bytes());
    whole.extend_from_slice(&((rest.len() - manifest) as u64).to_le_bytes());
    whole.extend_from_slice(&Sha256::digest(rest));
    whole.extend_from_slice(rest);
    if let Ok(artifact) = Artifact::decode(&whole) {
        assert_eq!(Artifact::decode(&artifact.encode()).as_ref(), Ok(&artifact));
    }
});
