//! Writing executables: a copy of the runtime shim with an artifact in it.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use flate2::read::DeflateDecoder;

use crate::cmd::reason;

mod calls;

include!(concat!(env!("OUT_DIR"), "/shim.rs"));

/// Writes an executable that runs an artifact; nothing is left behind when that fails.
pub(crate) fn write_executable(path: &Path, artifact: &[u8]) -> Result<(), String> {
    let compressed = SHIM.ok_or(
        "this bpftrace was built without its runtime shim, so --aot cannot write executables: \
         build it with `cargo xtask build-static`",
    )?;
    let damaged = |error: &dyn std::fmt::Display| format!("the runtime shim is damaged: {error}");
    let mut shim = Vec::new();
    DeflateDecoder::new(compressed)
        .read_to_end(&mut shim)
        .map_err(|error| damaged(&error))?;
    calls::make_relative(&mut shim);
    let bytes = bpftrace_meta::make_executable(&shim, artifact).map_err(|error| damaged(&error))?;
    let failed =
        |error: std::io::Error| format!("cannot write '{}': {}", path.display(), reason(&error));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o755)
        .open(&temporary)
        .and_then(|mut file| file.write_all(&bytes))
        .and_then(|()| fs::rename(&temporary, path));
    written.map_err(|error| {
        let _ = fs::remove_file(&temporary);
        failed(error)
    })
}
