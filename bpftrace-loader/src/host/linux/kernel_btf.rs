use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use bpftrace_meta::{ARGUMENT_REGISTERS, wildcard_match};

use crate::ffi::{Btf, BtfKind};
use crate::host::{BtfEntry, BtfEntryKind, BtfObject};

/// The kernel's types and its modules', loaded when first asked for.
#[derive(Default)]
pub(super) struct KernelBtf(RefCell<Loaded>);

#[derive(Default)]
struct Loaded {
    // Declared before the base that they refer to: dropped first.
    modules: BTreeMap<String, Option<Btf>>,
    kernel: Option<Btf>,
}

impl KernelBtf {
    /// How many parameters a function of the kernel proper has; `None` if there is none of this name.
    pub(super) fn n_parameters(&self, path: Option<&Path>, function: &str) -> Option<usize> {
        let mut loaded = self.0.borrow_mut();
        let kernel = match &mut loaded.kernel {
            Some(kernel) => kernel,
            none => none.insert(Btf::kernel(path).ok()?),
        };
        let id = kernel.find(BtfKind::Function, function)?;
        Some(kernel.prototype(id)?.0.len())
    }

    pub(super) fn entries(
        &self,
        path: Option<&Path>,
        kind: BtfEntryKind,
        module: Option<&str>,
        name: &str,
    ) -> io::Result<Vec<BtfEntry>> {
        let mut loaded = self.0.borrow_mut();
        let Loaded { modules, kernel } = &mut *loaded;
        let kernel = match kernel {
            Some(kernel) => kernel,
            None => kernel.insert(Btf::kernel(path)?),
        };
        let mut found = Vec::new();
        if module.is_none_or(|pattern| wildcard_match(pattern, "vmlinux")) {
            search(kernel, &BtfObject::Vmlinux, kind, name, &mut found);
        }
        // A plain name that the kernel proper has is not looked for in some hundred modules.
        if module.is_none() && !found.is_empty() && !name.contains('*') {
            return Ok(found);
        }
        if module == Some("vmlinux") {
            return Ok(found);
        }
        for object in module_names()? {
            if !module.is_none_or(|pattern| wildcard_match(pattern, &object)) {
                continue;
            }
            // A module may go away, or its types may not fit: then it has nothing for us.
            let btf = modules
                .entry(object.clone())
                .or_insert_with(|| Btf::module(&object, kernel).ok());
            if let Some(btf) = btf {
                search(btf, &BtfObject::Module(object), kind, name, &mut found);
            }
        }
        Ok(found)
    }
}

pub(super) fn module_names() -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    let directory = match std::fs::read_dir("/sys/kernel/btf") {
        Ok(directory) => directory,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(names),
        Err(e) => return Err(e),
    };
    for entry in directory {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "vmlinux" {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn search(
    btf: &Btf,
    object: &BtfObject,
    kind: BtfEntryKind,
    pattern: &str,
    found: &mut Vec<BtfEntry>,
) {
    let (btf_kind, prefix) = match kind {
        BtfEntryKind::Function => (BtfKind::Function, ""),
        BtfEntryKind::RawTracepoint => (BtfKind::Typedef, "btf_trace_"),
        BtfEntryKind::Iterator => (BtfKind::Function, "bpf_iter_"),
    };
    // Of the functions named so, iterators have a context.
    let is_meant = |name: &str| {
        kind != BtfEntryKind::Iterator
            || btf
                .find(BtfKind::Struct, &format!("bpf_iter__{name}"))
                .is_some()
    };
    if !pattern.contains('*') {
        if let Some(id) = btf.find(btf_kind, &format!("{prefix}{pattern}"))
            && is_meant(pattern)
        {
            found.push(BtfEntry {
                object: object.clone(),
                name: pattern.to_owned(),
                id,
            });
        }
        return;
    }
    btf.all(btf_kind, &mut |id, name| {
        if let Some(name) = name.strip_prefix(prefix)
            && wildcard_match(pattern, name)
            && is_meant(name)
            && (kind != BtfEntryKind::Function || btf.n_params(id) <= ARGUMENT_REGISTERS)
        {
            found.push(BtfEntry {
                object: object.clone(),
                name: name.to_owned(),
                id,
            });
        }
    });
}
