//! The only place that opens BTF, tracepoint formats and debug information for the compiler.

use std::{
    cell::OnceCell,
    fs,
    io::Write as _,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    rc::Rc,
};

use bpftrace_debuginfo::{DebugInfo, Files};
use bpftrace_loader::host::{Host as _, each_once, files_matching};
use bpftrace_loader::{LinuxHost, Mapping};
use bpftrace_meta::wildcard_match;
use bpftrace_sema::KernelFiles;
use btf_rs::{Backend, Btf};

/// Where the kernel shows the types of itself and of its modules.
const BTF_DIR: &str = "/sys/kernel/btf";

/// Type information of the running kernel, or of the one that `BPFTRACE_BTF` names a BTF file of.
pub(crate) struct HostTypes {
    vmlinux: Option<PathBuf>,
    /// The bytes of that file, once names are looked for.
    vmlinux_bytes: OnceCell<Option<Mapping>>,
    modules: bool,
    /// Where debug information of programs is looked for; empty: the usual places.
    debug_dirs: Vec<PathBuf>,
    /// Whose files are meant.
    pid: Option<i32>,
}

impl HostTypes {
    pub(crate) fn new(debug_dirs: &[PathBuf], pid: Option<i32>) -> Self {
        let named = std::env::var_os("BPFTRACE_BTF").filter(|path| !path.is_empty());
        let default = || Some(PathBuf::from(BTF_DIR).join("vmlinux")).filter(|p| p.exists());
        Self {
            // Modules belong to the running kernel, not to the one that a file describes.
            modules: named.is_none(),
            debug_dirs: debug_dirs.to_vec(),
            pid,
            vmlinux: named.map(PathBuf::from).or_else(default),
            vmlinux_bytes: OnceCell::new(),
        }
    }

    fn events() -> Option<PathBuf> {
        bpftrace_loader::host::tracefs().map(|tracefs| tracefs.join("events"))
    }
}

impl KernelFiles for HostTypes {
    fn has_vmlinux(&self) -> bool {
        self.vmlinux.as_deref().is_some_and(Path::exists)
    }

    fn vmlinux(&self) -> Option<Btf> {
        open_mapped(self.vmlinux.as_deref()?)
    }

    fn vmlinux_bytes(&self) -> Option<&[u8]> {
        // Where it cannot be mapped, its names are looked up otherwise.
        let map = || Mapping::of(&fs::File::open(self.vmlinux.as_deref()?).ok()?).ok();
        self.vmlinux_bytes.get_or_init(map).as_deref()
    }

    fn modules(&self) -> Vec<String> {
        if !self.modules {
            return Vec::new();
        }
        let mut names = entries(Path::new(BTF_DIR));
        names.retain(|name| name != "vmlinux");
        names
    }

    fn module(&self, name: &str, base: &Btf) -> Option<Btf> {
        Btf::from_split_file(Path::new(BTF_DIR).join(name), base).ok()
    }

    fn tracepoints(&self, category: &str, event: &str) -> Vec<(String, String)> {
        let Some(events) = Self::events() else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for category in matching(&events, category) {
            let folder = events.join(&category);
            for event in matching(&folder, event) {
                if folder.join(&event).join("format").exists() {
                    found.push((category.clone(), event));
                }
            }
        }
        found
    }

    fn tracepoint_format(&self, category: &str, event: &str) -> Option<String> {
        // Both come from the script: one path component each.
        if [category, event]
            .iter()
            .any(|name| name.contains('/') || name.starts_with('.'))
        {
            return None;
        }
        fs::read_to_string(Self::events()?.join(category).join(event).join("format")).ok()
    }

    fn program(&self, path: &str) -> Option<DebugInfo> {
        let host = LinuxHost::new();
        let found = match (path, self.pid) {
            ("", pid) => host.mapped_files(pid?).ok()?,
            _ => host.executables(path, self.pid).ok()?,
        };
        DebugInfo::open(found.first()?, &self.debug_dirs, &ProgramFiles)
    }

    fn programs_with(&self, path: &str, function: &str, language: Option<&str>) -> Vec<String> {
        let host = LinuxHost::new();
        let mut found = files_matching("uprobe", path, self.pid, &host).unwrap_or_default();
        each_once(&mut found, &host);
        let mut names: Vec<String> = found
            .into_iter()
            .filter(|file| {
                let elf = host.elf_file(file).ok().flatten();
                elf.is_some_and(|elf| !elf.matching(function, language).is_empty())
            })
            .filter_map(|file| file.into_os_string().into_string().ok())
            .collect();
        names.sort_unstable();
        names
    }

    fn symbol_size(&self, path: &str, name: &str) -> Option<u64> {
        let host = LinuxHost::new();
        let found = host.executables(path, self.pid).ok()?;
        let elf = host.elf_file(found.first()?).ok()??;
        Some(elf.object_named(name)?.size)
    }
}

/// Files with debug information.
struct ProgramFiles;

impl Files for ProgramFiles {
    fn read(&self, path: &Path) -> Option<Rc<[u8]>> {
        fs::read(path).ok().map(Into::into)
    }
}

/// Names in a directory, sorted; none when it cannot be read.
fn entries(dir: &Path) -> Vec<String> {
    let Ok(read) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut names: Vec<String> = read
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    names
}

/// Those of them that match a pattern.
fn matching(dir: &Path, pattern: &str) -> Vec<String> {
    let mut names = entries(dir);
    names.retain(|name| wildcard_match(pattern, name));
    names
}

/// Opens BTF without parsing all of it. Kernels before 6.16 cannot map their BTF file; what they
/// say is copied to memory that can be mapped.
fn open_mapped(path: &Path) -> Option<Btf> {
    if let Ok(btf) = Btf::from_file_with_backend(path, Backend::Mmap) {
        return Some(btf);
    }
    let bytes = fs::read(path).ok()?;
    let fd = rustix::fs::memfd_create("btf", rustix::fs::MemfdFlags::CLOEXEC).ok()?;
    let mut file = fs::File::from(fd);
    file.write_all(&bytes).ok()?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Btf::from_file_with_backend(path, Backend::Mmap).ok()
}
