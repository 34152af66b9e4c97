//! C that scripts import, compiled by an installed clang.

use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use bpftrace_sema::ImportError;
use flate2::read::DeflateDecoder;

use crate::cmd::reason;

/// libbpf's headers for programs, compressed: each its name and its text with a NUL behind both.
const C_HEADERS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/c_headers.deflate"));

/// What libbpf's headers need of `linux/errno.h`, where the kernel's headers are not installed.
const ERRNO_HEADER: &str = "#pragma once\n#define ENOENT 2\n#define ESRCH 3\n#define EINVAL 22\n";

/// The object that an installed clang makes of a C file. `include_dirs`: looked in first.
pub(super) fn compile(path: &Path, include_dirs: &[PathBuf]) -> Result<Vec<u8>, ImportError> {
    let shown = path.display();
    let mut clang = Command::new("clang");
    clang.args(["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-c", "-o", "-"]);
    clang.args(["-D__TARGET_ARCH_x86", "-D__BPF_TRACING__"]);
    for dir in include_dirs {
        clang.arg("-I").arg(dir);
    }
    let folder = ClangFolder::write();
    if let Ok(folder) = &folder {
        clang.arg("-I").arg(folder.types());
        // Behind what is installed.
        clang.arg("-idirafter").arg(folder.libbpf());
    }
    let output = clang
        .arg("-I")
        .arg("/usr/include/x86_64-linux-gnu")
        .arg(path)
        .output();
    match output {
        Ok(output) if output.status.success() => Ok(output.stdout),
        Ok(output) => Err(ImportError::Other(format!(
            "clang cannot compile '{shown}':\n{}",
            String::from_utf8_lossy(&output.stderr).trim_end()
        ))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ImportError::Other(format!(
            "importing '{shown}' needs clang, which is not installed; compile it elsewhere \
                 with 'clang -target bpf -O2 -g -c' and import the .bpf.o file"
        ))),
        Err(error) => Err(ImportError::Other(format!(
            "cannot run clang for '{shown}': {}",
            reason(&error)
        ))),
    }
}

/// Headers for clang in a folder of their own, which is there as long as this is.
struct ClangFolder {
    path: PathBuf,
}

impl ClangFolder {
    /// Without the kernel's types where they are not known: C that needs none does without.
    fn write() -> io::Result<Self> {
        let name = format!("bpftrace-{}-headers", std::process::id());
        let path = std::env::temp_dir().join(name);
        // Nobody else has or gets a folder of this name.
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        let folder = Self { path };
        let named = std::env::var_os("BPFTRACE_BTF").filter(|path| !path.is_empty());
        if let Ok(text) = bpftrace_loader::host::kernel_header(named.as_deref().map(Path::new)) {
            fs::create_dir(folder.types())?;
            fs::write(folder.types().join("vmlinux.h"), text)?;
        }
        let headers = folder.libbpf().join("bpf");
        fs::create_dir_all(&headers)?;
        let mut text = String::new();
        DeflateDecoder::new(C_HEADERS).read_to_string(&mut text)?;
        let mut parts = text.split('\0');
        while let (Some(name), Some(text)) = (parts.next(), parts.next()) {
            fs::write(headers.join(name), text)?;
        }
        let linux = folder.libbpf().join("linux");
        fs::create_dir(&linux)?;
        fs::write(linux.join("errno.h"), ERRNO_HEADER)?;
        Ok(folder)
    }

    /// Has `vmlinux.h`.
    fn types(&self) -> PathBuf {
        self.path.join("types")
    }

    /// Has `bpf/bpf_helpers.h` and its like.
    fn libbpf(&self) -> PathBuf {
        self.path.join("libbpf")
    }
}

impl Drop for ClangFolder {
    fn drop(&mut self) {
        // What is left over does no harm.
        drop(fs::remove_dir_all(&self.path));
    }
}
