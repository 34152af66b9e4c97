//! A machine that is made up, for tests.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bpftrace_debuginfo::DebugInfo;
use bpftrace_meta::{Feature, ProgramKind, UserBuild, wildcard_match};

use super::{
    BpfFunction, BtfEntry, BtfEntryKind, ElfFile, Host, KernelFunction, Mapping, PidNamespace,
};

/// Facts as a test wants them; everything else does not exist.
#[derive(Default)]
pub(crate) struct FakeHost {
    pub(crate) features: BTreeSet<&'static str>,
    pub(crate) kernel_symbols: BTreeMap<String, u64>,
    pub(crate) functions: Vec<KernelFunction>,
    pub(crate) modules: BTreeSet<String>,
    /// Category, event, and text of the format file.
    pub(crate) tracepoints: Vec<(String, String, String)>,
    pub(crate) btf: Vec<(BtfEntryKind, BtfEntry)>,
    pub(crate) bpf_programs: Vec<BpfFunction>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) cgroups: BTreeMap<String, u64>,
    pub(crate) files: BTreeMap<String, ElfFile>,
    pub(crate) builds: BTreeMap<String, UserBuild>,
    pub(crate) cpus: u32,
    pub(crate) initial_pid_namespace: bool,
    /// Questions about features that were asked.
    pub(crate) asked: RefCell<Vec<Feature>>,
}

impl FakeHost {
    pub(crate) fn new() -> Self {
        Self {
            cpus: 4,
            initial_pid_namespace: true,
            ..Self::default()
        }
    }

    pub(crate) fn with_features(mut self, features: &[Feature]) -> Self {
        self.features
            .extend(features.iter().map(|f| crate::features::name(*f)));
        self
    }

    pub(crate) fn with_env(mut self, key: &str, value: &str) -> Self {
        self.env.insert(key.into(), value.into());
        self
    }

    pub(crate) fn with_functions(mut self, functions: &[(&str, Option<&str>)]) -> Self {
        for (name, module) in functions {
            self.functions.push(KernelFunction {
                name: (*name).into(),
                module: module.map(Into::into),
                address: None,
            });
            self.modules.extend(module.map(String::from));
        }
        self.functions.sort();
        self
    }
}

impl Host for FakeHost {
    fn kernel_release(&self) -> String {
        "5.10.0-fake".into()
    }

    fn has_kernel_function(&self, name: &str, _caller: Option<ProgramKind>) -> bool {
        let wanted = |(kind, entry): &(BtfEntryKind, BtfEntry)| {
            *kind == BtfEntryKind::Function && entry.name == name
        };
        self.btf.iter().any(wanted)
    }

    fn has_feature(&self, feature: Feature) -> bool {
        self.asked.borrow_mut().push(feature);
        self.features.contains(crate::features::name(feature))
    }

    fn missing_privilege(&self) -> Option<String> {
        None
    }

    fn kernel_symbol(&self, name: &str) -> io::Result<Option<u64>> {
        Ok(self.kernel_symbols.get(name).copied())
    }

    fn traceable_functions(&self, _file: Option<&Path>) -> io::Result<Rc<Vec<KernelFunction>>> {
        Ok(Rc::new(self.functions.clone()))
    }

    fn module_loaded(&self, name: &str) -> bool {
        name == "vmlinux" || self.modules.contains(name)
    }

    fn tracepoints(&self) -> io::Result<Vec<(String, String)>> {
        Ok(self
            .tracepoints
            .iter()
            .map(|(category, event, _)| (category.clone(), event.clone()))
            .collect())
    }

    fn tracepoint_format(&self, category: &str, event: &str) -> io::Result<Option<String>> {
        Ok(self
            .tracepoints
            .iter()
            .find(|(c, e, _)| c == category && e == event)
            .map(|(_, _, format)| format.clone()))
    }

    fn tracepoint_id(&self, category: &str, event: &str) -> io::Result<Option<u64>> {
        Ok(self
            .tracepoints
            .iter()
            .position(|(c, e, _)| c == category && e == event)
            .map(|i| i as u64))
    }

    fn btf_entries(
        &self,
        kind: BtfEntryKind,
        module: Option<&str>,
        name: &str,
    ) -> io::Result<Vec<BtfEntry>> {
        Ok(self
            .btf
            .iter()
            .filter(|(found, entry)| {
                *found == kind
                    && module.is_none_or(|module| wildcard_match(module, entry.object.name()))
                    && wildcard_match(name, &entry.name)
            })
            .map(|(_, entry)| entry.clone())
            .collect())
    }

    fn bpf_programs(&self) -> io::Result<Vec<BpfFunction>> {
        Ok(self.bpf_programs.clone())
    }

    fn cgroup_id(&self, path: &str) -> io::Result<u64> {
        self.cgroups
            .get(path)
            .copied()
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
    }

    fn possible_cpus(&self) -> io::Result<u32> {
        Ok(self.cpus)
    }

    fn online_cpus(&self) -> io::Result<Vec<u32>> {
        Ok((0..self.cpus).collect())
    }

    fn boot_time(&self) -> u64 {
        1_000
    }

    fn tai_offset(&self) -> u64 {
        37
    }

    fn page_size(&self) -> u64 {
        4096
    }

    fn available_memory(&self) -> io::Result<u64> {
        Ok(8 << 30)
    }

    fn env(&self, key: &str) -> Option<String> {
        self.env.get(key).cloned()
    }

    fn pid_namespace(&self) -> io::Result<PidNamespace> {
        Ok(PidNamespace {
            dev: 4,
            ino: 5,
            initial: self.initial_pid_namespace,
        })
    }

    fn executables(&self, path: &str, _pid: Option<i32>) -> io::Result<Vec<PathBuf>> {
        Ok(self
            .files
            .keys()
            .filter(|file| wildcard_match(path, file))
            .map(PathBuf::from)
            .collect())
    }

    fn mapped_files(&self, _pid: i32) -> io::Result<Vec<PathBuf>> {
        Ok(self.files.keys().map(PathBuf::from).collect())
    }

    fn mappings(&self, _pid: i32) -> io::Result<Vec<Mapping>> {
        Ok(Vec::new())
    }

    fn read_memory(&self, _pid: i32, _start: u64, _size: usize) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn read_file(&self, _path: &Path) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn threads(&self, pid: i32) -> io::Result<Vec<i32>> {
        Ok(vec![pid])
    }

    fn file_identity(&self, _: &Path) -> Option<(u64, u64)> {
        None
    }

    fn needed_files(&self, program: &Path) -> Vec<PathBuf> {
        vec![program.to_owned()]
    }

    fn is_instruction(&self, _: &Path, _: u64, offset: u64) -> io::Result<Option<bool>> {
        Ok(Some(offset.is_multiple_of(4)))
    }

    fn user_build(&self, path: &Path) -> io::Result<Option<UserBuild>> {
        Ok(self.builds.get(&*path.to_string_lossy()).cloned())
    }

    fn debug_info(&self, _: &Path, _: &[PathBuf]) -> Option<Rc<DebugInfo>> {
        None
    }

    fn elf_file(&self, path: &Path) -> io::Result<Option<Rc<ElfFile>>> {
        Ok(self
            .files
            .get(&*path.to_string_lossy())
            .cloned()
            .map(Rc::new))
    }
}
