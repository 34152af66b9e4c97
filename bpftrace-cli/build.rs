//! Puts the runtime shim and libbpf's headers for C into the `bpftrace` executable.
//!
//! The variable `BPFTRACE_AOTRT` names the file, as `cargo xtask build-static` sets it. Without
//! it, as in a plain `cargo build`, `bpftrace` has no shim and cannot write executables. The
//! generated file defines `SHIM: Option<&[u8]>`, compressed (raw deflate) and with calls as `src/shim/calls.rs` has them:
//! the shim is a large part of `bpftrace`, and is only looked at when an executable is written.
//!
//! The headers are what C that scripts import includes as `bpf/NAME`; `c_headers.deflate` has them one after
//! the other, each its name and its text with a NUL behind both. Of their comments only those about
//! licence and copyright are kept.

use std::env;
use std::fs;
use std::num::NonZeroU64;
use std::path::Path;

#[path = "src/shim/calls.rs"]
mod calls;

/// Names the file that holds the shim.
const VARIABLE: &str = "BPFTRACE_AOTRT";

/// libbpf's headers for programs.
const HEADERS: [&str; 6] = [
    "bpf_core_read.h",
    "bpf_endian.h",
    "bpf_helper_defs.h",
    "bpf_helpers.h",
    "bpf_tracing.h",
    "usdt.bpf.h",
];

const WRITABLE: &str = "cargo's output folder is writable";

fn main() {
    println!("cargo:rerun-if-env-changed={VARIABLE}");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/shim/calls.rs");
    let folder = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR for build scripts");
    let folder = Path::new(&folder);
    let value = match env::var(VARIABLE) {
        Ok(path) if !path.is_empty() => {
            println!("cargo:rerun-if-changed={path}");
            let mut shim = fs::read(&path).expect("the shim that was named can be read");
            let original = shim.clone();
            calls::make_absolute(&mut shim);
            let mut unpacked = shim.clone();
            calls::make_relative(&mut unpacked);
            assert!(unpacked == original, "the shim does not come back");
            fs::write(folder.join("shim.deflate"), compressed(&shim)).expect(WRITABLE);
            "Some(include_bytes!(concat!(env!(\"OUT_DIR\"), \"/shim.deflate\")))".to_owned()
        }
        _ => "None".to_owned(),
    };
    let text = format!(
        "/// The runtime shim, compressed, if this executable was built with it.\n\
         pub(crate) const SHIM: Option<&[u8]> = {value};\n"
    );
    fs::write(folder.join("shim.rs"), text).expect(WRITABLE);

    let include = env::var_os("DEP_BPF_INCLUDE").expect("libbpf-sys says where its headers are");
    let include = Path::new(&include).join("bpf");
    let mut headers = String::new();
    for name in HEADERS {
        let text = fs::read_to_string(include.join(name)).expect("libbpf has the header");
        headers.push_str(name);
        headers.push('\0');
        headers.push_str(&without_comments(&text));
        headers.push('\0');
    }
    let headers = compressed(headers.as_bytes());
    fs::write(folder.join("c_headers.deflate"), headers).expect(WRITABLE);
}

fn compressed(bytes: &[u8]) -> Vec<u8> {
    let options = zopfli::Options {
        iteration_count: NonZeroU64::new(5).expect("not 0"),
        ..zopfli::Options::default()
    };
    let mut packed = Vec::new();
    zopfli::compress(options, zopfli::Format::Deflate, bytes, &mut packed)
        .expect("memory takes it");
    packed
}

/// The text of a header without empty lines and without comments, but with those about licence and copyright.
fn without_comments(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("/*") {
        let (comment, after) = after.split_once("*/").expect("comments end");
        out.push_str(before);
        if ["SPDX", "Copyright"]
            .iter()
            .any(|word| comment.contains(word))
        {
            out.push_str(&format!("/*{comment}*/"));
        }
        rest = after;
    }
    out.push_str(rest);
    let mut lines = String::new();
    for line in out.lines().map(str::trim_end) {
        // An empty line may be what ends a macro.
        if !line.is_empty() || lines.ends_with("\\\n") {
            lines.push_str(line);
            lines.push('\n');
        }
    }
    lines
}
