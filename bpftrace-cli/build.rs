//! Puts the runtime shim into the `bpftrace` executable.
//!
//! The variable `BPFTRACE_AOTRT` names the file, as `cargo xtask build-static` sets it. Without
//! it, as in a plain `cargo build`, `bpftrace` has no shim and cannot write executables. The
//! generated file defines `SHIM: Option<&[u8]>`.

use std::env;
use std::fs;
use std::path::Path;

/// Names the file that holds the shim.
const VARIABLE: &str = "BPFTRACE_AOTRT";

fn main() {
    println!("cargo:rerun-if-env-changed={VARIABLE}");
    println!("cargo:rerun-if-changed=build.rs");
    let value = match env::var(VARIABLE) {
        Ok(path) if !path.is_empty() => {
            println!("cargo:rerun-if-changed={path}");
            format!("Some(include_bytes!({path:?}))")
        }
        _ => "None".to_owned(),
    };
    let text = format!(
        "/// The runtime shim, if this executable was built with it.\n\
         pub(crate) const SHIM: Option<&[u8]> = {value};\n"
    );
    let folder = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR for build scripts");
    fs::write(Path::new(&folder).join("shim.rs"), text).expect("cargo's output folder is writable");
}
