use bpftrace_meta::{Feature, HostSlot, HostValue, SlotType};

use super::Invocation;
use super::params::{Bound, Params};
use crate::error::LoadError;
use crate::host::Host;
use crate::options::Warnings;

/// What goes to a slot.
pub(super) fn bytes(
    slot: &HostSlot,
    invocation: &Invocation<'_>,
    params: &mut Params<'_>,
    host: &dyn Host,
) -> Result<Vec<u8>, LoadError> {
    let value = value(&slot.value, invocation, params, host)?;
    match (slot.ty, value) {
        (SlotType::U64, Bound::Number(number)) => Ok(number.to_le_bytes().to_vec()),
        (SlotType::Bool, Bound::Number(number)) => Ok(vec![u8::from(number != 0)]),
        (SlotType::Str { size }, Bound::Text(text)) => {
            let mut bytes = text.into_bytes();
            bytes.truncate((size as usize).saturating_sub(1));
            bytes.resize(size as usize, 0);
            Ok(bytes)
        }
        _ => Err(LoadError::usage(
            "the compiled script is malformed: a slot has the wrong type",
        )),
    }
}

fn value(
    value: &HostValue,
    invocation: &Invocation<'_>,
    params: &mut Params<'_>,
    host: &dyn Host,
) -> Result<Bound, LoadError> {
    let options = invocation.options;
    let number = match value {
        HostValue::Param { index, kind } => return params.value(*index, *kind),
        HostValue::NamedParam(index) => {
            return params.named(*index).ok_or_else(|| {
                LoadError::usage("the compiled script is malformed: no such named parameter")
            });
        }
        HostValue::ParamCount => params.count(),
        HostValue::KernelSymbol(name) => host
            .kernel_symbol(name)
            .map_err(|e| LoadError::io("Failed to read /proc/kallsyms", &e))?
            .ok_or_else(|| LoadError::usage(format!("Failed to resolve kernel symbol: {name}")))?,
        HostValue::UserSymbol { path, name } => {
            let path = params.fill(path);
            user_symbol(&path, name, invocation, host)?
        }
        HostValue::CgroupId(path) => host
            .cgroup_id(path)
            .map_err(|e| LoadError::io(format!("Failed to get the id of cgroup '{path}'"), &e))?,
        HostValue::TargetPid => invocation.traced_pid().unwrap_or(0) as u64,
        HostValue::ChildPid => invocation.child.unwrap_or(0) as u64,
        HostValue::PidNamespaceDev | HostValue::PidNamespaceIno => {
            let namespace = host
                .pid_namespace()
                .map_err(|e| LoadError::io("Failed to look at the pid namespace", &e))?;
            match value {
                _ if namespace.initial => 0,
                HostValue::PidNamespaceDev => namespace.dev,
                _ => namespace.ino,
            }
        }
        HostValue::NumCpus => u64::from(
            host.possible_cpus()
                .map_err(|e| LoadError::io("Failed to read the list of CPUs", &e))?,
        ),
        HostValue::StartTime => host.boot_time(),
        HostValue::TaiOffset => host.tai_offset(),
        HostValue::Feature(feature) => u64::from(has_feature(*feature, invocation, host)),
        HostValue::KernelFunction { name, caller } => {
            u64::from(host.has_kernel_function(name, *caller))
        }
        HostValue::PageSize => host.page_size(),
        HostValue::WarningsOn => u64::from(options.warnings != Warnings::Off),
    };
    Ok(Bound::Number(number))
}

/// Whether the kernel has a feature that was not switched off.
pub(super) fn has_feature(feature: Feature, invocation: &Invocation<'_>, host: &dyn Host) -> bool {
    !invocation.options.no_features.contains(&feature) && host.has_feature(feature)
}

fn user_symbol(
    path: &str,
    name: &str,
    invocation: &Invocation<'_>,
    host: &dyn Host,
) -> Result<u64, LoadError> {
    let refuse = || LoadError::usage(format!("Could not resolve symbol: {path}:{name}"));
    let files = host
        .executables(path, invocation.traced_pid())
        .map_err(|e| LoadError::io(format!("Failed to look for '{path}'"), &e))?;
    let file = files.first().ok_or_else(refuse)?;
    let elf = host
        .elf_file(file)
        .map_err(|e| LoadError::io(format!("Failed to read '{}'", file.display()), &e))?
        .ok_or_else(refuse)?;
    elf.object_named(name)
        .map(|symbol| symbol.address)
        .ok_or_else(refuse)
}
