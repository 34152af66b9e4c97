//! Puts the runtime shim into the `bpftrace` executable.
//!
//! The variable `BPFTRACE_AOTRT` names the file, as `cargo xtask build-static` sets it. Without
//! it, as in a plain `cargo build`, `bpftrace` has no shim and cannot write executables. The
//! generated file defines `SHIM: Option<&[u8]>`, compressed (raw deflate): the shim is a large part
//! of `bpftrace`, and is only looked at when an executable is written.

use std::env;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::DeflateEncoder;

/// Names the file that holds the shim.
const VARIABLE: &str = "BPFTRACE_AOTRT";

const WRITABLE: &str = "cargo's output folder is writable";

fn main() {
    println!("cargo:rerun-if-env-changed={VARIABLE}");
    println!("cargo:rerun-if-changed=build.rs");
    let folder = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR for build scripts");
    let folder = Path::new(&folder);
    let value = match env::var(VARIABLE) {
        Ok(path) if !path.is_empty() => {
            println!("cargo:rerun-if-changed={path}");
            let shim = fs::read(&path).expect("the shim that was named can be read");
            let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(&shim).expect("memory takes it");
            let compressed = encoder.finish().expect("memory takes it");
            fs::write(folder.join("shim.deflate"), compressed).expect(WRITABLE);
            "Some(include_bytes!(concat!(env!(\"OUT_DIR\"), \"/shim.deflate\")))".to_owned()
        }
        _ => "None".to_owned(),
    };
    let text = format!(
        "/// The runtime shim, compressed, if this executable was built with it.\n\
         pub(crate) const SHIM: Option<&[u8]> = {value};\n"
    );
    fs::write(folder.join("shim.rs"), text).expect(WRITABLE);
}
