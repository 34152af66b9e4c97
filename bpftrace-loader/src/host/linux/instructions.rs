use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use iced_x86::{Decoder, DecoderOptions};

use crate::host::zip;

/// Functions are not larger.
const MAX_OFFSET: u64 = 1 << 24;

/// The longest instruction.
const MAX_LENGTH: usize = 15;

/// Whether an instruction starts `offset` bytes behind the start of a function, which is at a byte of a
/// file; `None` when the code before it is no code.
pub(super) fn starts_at(path: &Path, function: u64, offset: u64) -> io::Result<Option<bool>> {
    if offset > MAX_OFFSET {
        return Ok(None);
    }
    let mut code = vec![0; offset as usize + MAX_LENGTH];
    let file = File::open(zip::file_of(path))?;
    let mut n = 0;
    while n < code.len() {
        match file.read_at(&mut code[n..], function + n as u64)? {
            0 => break,
            more => n += more,
        }
    }
    code.truncate(n);
    Ok(is_start(&code, offset as usize))
}

fn is_start(code: &[u8], offset: usize) -> Option<bool> {
    let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
    while decoder.position() < offset {
        if !decoder.can_decode() || decoder.decode().is_invalid() {
            return None;
        }
    }
    Some(decoder.position() == offset)
}

#[cfg(test)]
mod tests {
    use super::is_start;

    // F064
    #[test]
    fn instructions_start_where_others_end() {
        // push rbp; mov rbp, rsp; vmovdqu32 zmm0, [rdi]; ret
        let code = [
            0x55, 0x48, 0x89, 0xe5, 0x62, 0xf1, 0x7e, 0x48, 0x6f, 0x07, 0xc3,
        ];
        let starts: Vec<usize> = (0..=code.len())
            .filter(|at| is_start(&code, *at) == Some(true))
            .collect();
        assert_eq!(starts, [0, 1, 4, 10, 11]);
        assert_eq!(is_start(&code, 12), None);
        // Not an instruction in 64-bit code.
        assert_eq!(is_start(&[0x06, 0x55], 1), None);
    }
}
