//! Every question about this machine, one method each.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bpftrace_debuginfo::DebugInfo;
use bpftrace_meta::{Feature, ProgramKind, UserBuild};

pub(crate) mod elf;
mod linux;
pub(crate) mod zip;

#[cfg(test)]
pub(crate) mod fake;

pub use elf::{ElfFile, ElfSymbol};
pub use linux::{KernelText, LinuxHost, Prototype, kernel_header, tracefs};

/// A function that kprobes can be attached to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelFunction {
    /// Its name.
    pub name: String,
    /// The module it is in; `None` for the kernel proper.
    pub module: Option<String>,
    /// Its address, where the kernel tells.
    pub address: Option<u64>,
}

/// Which BTF object a type is in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BtfObject {
    /// The kernel proper.
    Vmlinux,
    /// A module.
    Module(String),
    /// A loaded BPF program, by its id.
    Program(u32),
}

impl BtfObject {
    /// Name as attach points have it: `vmlinux`, the module's, or `bpf`.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Vmlinux => "vmlinux",
            Self::Module(name) => name,
            Self::Program(_) => "bpf",
        }
    }
}

/// What a BTF entry that programs can be attached to is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BtfEntryKind {
    /// A function, for fentry and fexit.
    Function,
    /// A `typedef btf_trace_NAME`, for raw tracepoints; names are without the prefix.
    RawTracepoint,
    /// A function `bpf_iter_NAME` beside a `struct bpf_iter__NAME`; names are without the prefix.
    Iterator,
}

/// A function or tracepoint in BTF.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BtfEntry {
    /// Where it is.
    pub object: BtfObject,
    /// Name, as [`BtfEntryKind`] says.
    pub name: String,
    /// Type number in that object.
    pub id: u32,
}

/// A function of a loaded BPF program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BpfFunction {
    /// Id of the program.
    pub id: u32,
    /// Name of the function: the program's, or that of a subprogram.
    pub name: String,
    /// Number of its type in the program's BTF.
    pub type_id: u32,
}

/// What a process has mapped the kernel's own library as, which is in no file.
pub const VDSO: &str = "[vdso]";

/// A part of a file, or of [`VDSO`], that a process has mapped as executable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// Address behind the last one.
    pub end: u64,
    /// Offset in the file of the first one.
    pub offset: u64,
    /// The file, as the process sees files.
    pub path: PathBuf,
}

impl Mapping {
    /// Bytes of it.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }
}

/// The pid namespace bpftrace runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PidNamespace {
    /// Device of `/proc/self/ns/pid`, in the kernel's encoding (major in bits 20 and up).
    pub dev: u64,
    /// Its inode.
    pub ino: u64,
    /// Whether it is the initial one.
    pub initial: bool,
}

/// Facts about the machine that a script runs on. Binding asks nothing else, so that it is tested
/// without a kernel.
///
/// "Not found" is an answer (`None` or an empty list), an error is a question that could not be
/// asked. Answers do not change during a session; implementations may remember them.
pub trait Host {
    /// Kernel release, as `uname -r` prints it.
    fn kernel_release(&self) -> String;
    /// Whether the kernel has a feature.
    fn has_feature(&self, feature: Feature) -> bool;
    /// Whether the kernel has a function that programs call (in its own BTF, not in that of modules), and
    /// whether it lets programs of a kind call it.
    fn has_kernel_function(&self, name: &str, caller: Option<ProgramKind>) -> bool;
    /// What privileges lack for loading programs, as the message says.
    fn missing_privilege(&self) -> Option<String>;
    /// Address of a kernel symbol.
    fn kernel_symbol(&self, name: &str) -> io::Result<Option<u64>>;
    /// Functions that kprobes can be attached to (`available_filter_functions`, or the file in its
    /// place).
    fn traceable_functions(&self, file: Option<&Path>) -> io::Result<Rc<Vec<KernelFunction>>>;
    /// Whether a kernel module is loaded.
    fn module_loaded(&self, name: &str) -> bool;
    /// Category and name of all tracepoints, sorted.
    fn tracepoints(&self) -> io::Result<Vec<(String, String)>>;
    /// The `format` file of a tracepoint.
    fn tracepoint_format(&self, category: &str, event: &str) -> io::Result<Option<String>>;
    /// The `id` of a tracepoint.
    fn tracepoint_id(&self, category: &str, event: &str) -> io::Result<Option<u64>>;
    /// BTF entries of one kind whose module (`vmlinux` for the kernel proper) and name match
    /// patterns; no module: any.
    fn btf_entries(
        &self,
        kind: BtfEntryKind,
        module: Option<&str>,
        name: &str,
    ) -> io::Result<Vec<BtfEntry>>;
    /// The functions of loaded BPF programs that have BTF, by program and place in it.
    fn bpf_programs(&self) -> io::Result<Vec<BpfFunction>>;
    /// Id of a cgroup v2 directory.
    fn cgroup_id(&self, path: &str) -> io::Result<u64>;
    /// Number of possible CPUs.
    fn possible_cpus(&self) -> io::Result<u32>;
    /// Online CPUs, ascending.
    fn online_cpus(&self) -> io::Result<Vec<u32>>;
    /// `CLOCK_BOOTTIME`, nanoseconds.
    fn boot_time(&self) -> u64;
    /// `CLOCK_TAI` minus `CLOCK_BOOTTIME`, nanoseconds.
    fn tai_offset(&self) -> u64;
    /// Size of a memory page, bytes.
    fn page_size(&self) -> u64;
    /// Memory that is available, bytes.
    fn available_memory(&self) -> io::Result<u64>;
    /// An environment variable.
    fn env(&self, key: &str) -> Option<String>;
    /// The pid namespace bpftrace runs in.
    fn pid_namespace(&self) -> io::Result<PidNamespace>;
    /// Executables that a path in an attach point stands for: absolute, relative to `$PATH`, with
    /// wildcards, or the `lib` short form; `pid`: as that process sees files. Those that match a wildcard are
    /// sorted, and a file may be there by several names.
    fn executables(&self, path: &str, pid: Option<i32>) -> io::Result<Vec<PathBuf>>;
    /// Files that a process has mapped as executable, its own executable first, each below `/proc/PID/root`.
    fn mapped_files(&self, pid: i32) -> io::Result<Vec<PathBuf>>;
    /// What a process has mapped of files as executable.
    fn mappings(&self, pid: i32) -> io::Result<Vec<Mapping>>;
    /// Bytes of the memory of a process, from an address on.
    fn read_memory(&self, pid: i32, start: u64, size: usize) -> io::Result<Vec<u8>>;
    /// The bytes of a file.
    fn read_file(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Ids of the threads of a process.
    fn threads(&self, pid: i32) -> io::Result<Vec<i32>>;
    /// Device and inode of a file, which tell whether two paths are one file.
    fn file_identity(&self, path: &Path) -> Option<(u64, u64)>;
    /// A program and the libraries that it is linked with, as the dynamic linker will find them; those
    /// that cannot be found are left out.
    fn needed_files(&self, program: &Path) -> Vec<PathBuf>;
    /// Symbols and segments of an executable; `None` when it is not an ELF file.
    fn elf_file(&self, path: &Path) -> io::Result<Option<Rc<ElfFile>>>;
    /// Whether one of the instructions of a function, which starts at a byte of a file, starts so many bytes
    /// behind its start; `None` when the code cannot be read as instructions.
    fn is_instruction(&self, path: &Path, function: u64, offset: u64) -> io::Result<Option<bool>>;
    /// Which build of an executable a file is; `None` when it is none.
    fn user_build(&self, path: &Path) -> io::Result<Option<UserBuild>>;
    /// Debug information of an executable: in itself or in one of the directories (none: the usual ones).
    fn debug_info(&self, path: &Path, directories: &[PathBuf]) -> Option<Rc<DebugInfo>>;
}

/// Leaves of files that are there by several names the first name.
pub fn each_once(files: &mut Vec<PathBuf>, host: &dyn Host) {
    let mut seen = HashSet::new();
    files.retain(|file| host.file_identity(file).is_none_or(|id| seen.insert(id)));
}

/// Files that a path with wildcards stands for, by all of their names. `*` for a `uprobe` is all that the traced
/// process has mapped; without one, and for `usdt` beside that, it is what is in the directories of `PATH`.
pub fn files_matching(
    provider: &str,
    path: &str,
    pid: Option<i32>,
    host: &dyn Host,
) -> io::Result<Vec<PathBuf>> {
    match pid {
        Some(pid) if path == "*" && provider != "usdt" => host.mapped_files(pid),
        _ => host.executables(path, pid),
    }
}
