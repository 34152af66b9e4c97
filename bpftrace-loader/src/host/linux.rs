//! The machine this process runs on.

mod executables;
mod features;
mod instructions;
mod kernel_btf;
mod kernel_text;
mod proc;
mod symbols;
mod tracefs;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bpftrace_debuginfo::{DebugInfo, Files};
use bpftrace_meta::{Feature, ProgramKind, UserBuild};

pub use kernel_text::{KernelText, Prototype, kernel_header};
pub use tracefs::tracefs;

use super::{
    BpfFunction, BtfEntry, BtfEntryKind, ElfFile, Host, KernelFunction, Mapping, PidNamespace,
};
use crate::ffi;

/// Asks the running kernel, `/proc`, `/sys` and the environment, each only when it is needed, and
/// remembers what is dear.
#[derive(Default)]
pub struct LinuxHost {
    features: RefCell<HashMap<Feature, bool>>,
    functions: RefCell<Option<Rc<Vec<KernelFunction>>>>,
    elf_files: RefCell<HashMap<PathBuf, Option<Rc<ElfFile>>>>,
    debug_infos: RefCell<HashMap<PathBuf, Option<Rc<DebugInfo>>>>,
    btf: kernel_btf::KernelBtf,
}

/// Files as they are on this machine.
struct OpenFiles;

impl Files for OpenFiles {
    fn read(&self, path: &Path) -> Option<Rc<[u8]>> {
        std::fs::read(path).ok().map(Into::into)
    }
}

impl LinuxHost {
    /// Asks nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn tracefs() -> io::Result<&'static Path> {
        tracefs::tracefs().ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                "tracefs is not mounted at /sys/kernel/tracing or /sys/kernel/debug/tracing, and \
                 cannot be",
            )
        })
    }
}

impl Host for LinuxHost {
    fn kernel_release(&self) -> String {
        ffi::kernel_release()
    }

    fn has_kernel_function(&self, name: &str, caller: Option<ProgramKind>) -> bool {
        features::has_kernel_function(self, name, caller)
    }

    fn has_feature(&self, feature: Feature) -> bool {
        if let Some(known) = self.features.borrow().get(&feature) {
            return *known;
        }
        let answer = features::probe(feature, self);
        self.features.borrow_mut().insert(feature, answer);
        answer
    }

    fn missing_privilege(&self) -> Option<String> {
        proc::missing_privilege()
    }

    fn kernel_symbol(&self, name: &str) -> io::Result<Option<u64>> {
        symbols::kernel_symbol(name)
    }

    fn traceable_functions(&self, file: Option<&Path>) -> io::Result<Rc<Vec<KernelFunction>>> {
        if let Some(known) = &*self.functions.borrow() {
            return Ok(Rc::clone(known));
        }
        let functions = match file {
            Some(file) => symbols::traceable_functions(file)?,
            None => symbols::functions_of_tracefs(Self::tracefs()?)?,
        };
        let functions = Rc::new(functions);
        *self.functions.borrow_mut() = Some(Rc::clone(&functions));
        Ok(functions)
    }

    fn module_loaded(&self, name: &str) -> bool {
        name == "vmlinux" || Path::new("/sys/module").join(name).exists()
    }

    fn tracepoints(&self) -> io::Result<Vec<(String, String)>> {
        tracefs::tracepoints(Self::tracefs()?)
    }

    fn tracepoint_format(&self, category: &str, event: &str) -> io::Result<Option<String>> {
        tracefs::event_file(Self::tracefs()?, category, event, "format")
    }

    fn tracepoint_id(&self, category: &str, event: &str) -> io::Result<Option<u64>> {
        let text = tracefs::event_file(Self::tracefs()?, category, event, "id")?;
        Ok(text.and_then(|text| text.trim().parse().ok()))
    }

    fn btf_entries(
        &self,
        kind: BtfEntryKind,
        module: Option<&str>,
        name: &str,
    ) -> io::Result<Vec<BtfEntry>> {
        let path = self.env("BPFTRACE_BTF");
        self.btf
            .entries(path.as_deref().map(Path::new), kind, module, name)
    }

    fn bpf_programs(&self) -> io::Result<Vec<BpfFunction>> {
        let functions = ffi::program_functions()?.into_iter();
        Ok(functions
            .map(|function| BpfFunction {
                id: function.program,
                name: function.name,
                type_id: function.type_id,
            })
            .collect())
    }

    fn cgroup_id(&self, path: &str) -> io::Result<u64> {
        ffi::cgroup_id(Path::new(path))
    }

    fn possible_cpus(&self) -> io::Result<u32> {
        Ok(proc::cpu_list("possible")?
            .last()
            .map_or(1, |last| last + 1))
    }

    fn online_cpus(&self) -> io::Result<Vec<u32>> {
        proc::cpu_list("online")
    }

    fn boot_time(&self) -> u64 {
        ffi::clock_nanoseconds(libc::CLOCK_BOOTTIME)
    }

    fn tai_offset(&self) -> u64 {
        ffi::clock_nanoseconds(libc::CLOCK_TAI)
            .wrapping_sub(ffi::clock_nanoseconds(libc::CLOCK_BOOTTIME))
    }

    fn page_size(&self) -> u64 {
        ffi::page_size()
    }

    fn available_memory(&self) -> io::Result<u64> {
        proc::available_memory()
    }

    fn env(&self, key: &str) -> Option<String> {
        std::env::var(key).ok()
    }

    fn pid_namespace(&self) -> io::Result<PidNamespace> {
        proc::pid_namespace()
    }

    fn executables(&self, path: &str, pid: Option<i32>) -> io::Result<Vec<PathBuf>> {
        executables::find(path, pid)
    }

    fn mapped_files(&self, pid: i32) -> io::Result<Vec<PathBuf>> {
        executables::mapped_files(pid)
    }

    fn mappings(&self, pid: i32) -> io::Result<Vec<Mapping>> {
        proc::mappings(pid)
    }

    fn read_memory(&self, pid: i32, start: u64, size: usize) -> io::Result<Vec<u8>> {
        proc::read_memory(pid, start, size)
    }

    fn read_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn threads(&self, pid: i32) -> io::Result<Vec<i32>> {
        proc::threads(pid)
    }

    fn file_identity(&self, path: &Path) -> Option<(u64, u64)> {
        executables::identity(path)
    }

    fn needed_files(&self, program: &Path) -> Vec<PathBuf> {
        let needed = |path: &Path| {
            let file = self.elf_file(path).ok().flatten();
            file.map(|file| file.needed.clone()).unwrap_or_default()
        };
        executables::needed_files(program, &needed)
    }

    fn is_instruction(&self, path: &Path, function: u64, offset: u64) -> io::Result<Option<bool>> {
        instructions::starts_at(path, function, offset)
    }

    fn user_build(&self, path: &Path) -> io::Result<Option<UserBuild>> {
        Ok(bpftrace_debuginfo::build_of(&std::fs::read(path)?))
    }

    fn debug_info(&self, path: &Path, directories: &[PathBuf]) -> Option<Rc<DebugInfo>> {
        if let Some(known) = self.debug_infos.borrow().get(path) {
            return known.clone();
        }
        let info = DebugInfo::open(path, directories, &OpenFiles).map(Rc::new);
        self.debug_infos
            .borrow_mut()
            .insert(path.to_owned(), info.clone());
        info
    }

    fn elf_file(&self, path: &Path) -> io::Result<Option<Rc<ElfFile>>> {
        if let Some(known) = self.elf_files.borrow().get(path) {
            return Ok(known.clone());
        }
        let file = ElfFile::read(path, &OpenFiles)?.map(Rc::new);
        self.elf_files
            .borrow_mut()
            .insert(path.to_owned(), file.clone());
        Ok(file)
    }
}
