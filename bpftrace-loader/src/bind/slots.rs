use bpftrace_meta::{Feature, HostValue, Manifest, SlotForm, SlotSite, SlotType, SourceRange};

use super::Invocation;
use super::params::{Bound, Params};
use crate::error::LoadError;
use crate::host::Host;
use crate::options::Warnings;

/// Puts the numbers of slots into the instructions that use them; gives what goes to `.rodata`, and where.
pub(super) fn fill(
    manifest: &Manifest,
    object: &mut [u8],
    invocation: &Invocation<'_>,
    params: &mut Params<'_>,
    host: &dyn Host,
) -> Result<Vec<(u32, Vec<u8>)>, LoadError> {
    let mut data = Vec::new();
    for slot in &manifest.slots {
        let value = value(&slot.value, slot.place, invocation, params, host)
            .map_err(|error| error.at(slot.place, &manifest.source))?;
        for site in &slot.sites {
            let Bound::Number(number) = value else {
                return Err(wrong_type());
            };
            put(*site, number, object).ok_or_else(|| {
                LoadError::usage(
                    "the compiled script is malformed: a slot is outside of the object",
                )
            })?;
        }
        let bytes = bytes(slot.ty, value)?;
        if let Some(offset) = slot.offset {
            data.push((offset, bytes));
        }
    }
    Ok(data)
}

/// Puts a number into the immediate of an instruction; the wide one has its upper half in a second.
fn put(site: SlotSite, number: u64, object: &mut [u8]) -> Option<()> {
    let start = usize::try_from(site.file_offset).ok()?;
    let insn = object.get_mut(start..)?;
    let halves = match site.form {
        SlotForm::Truth => [u32::from(number != 0), 0],
        SlotForm::Number => [number as u32, (number >> 32) as u32],
    };
    let at = insn.get_mut(4..8)?;
    at.copy_from_slice(&halves[0].to_le_bytes());
    if site.form == SlotForm::Number {
        let at = insn.get_mut(12..16)?;
        at.copy_from_slice(&halves[1].to_le_bytes());
    }
    Some(())
}

fn wrong_type() -> LoadError {
    LoadError::usage("the compiled script is malformed: a slot has the wrong type")
}

/// What a slot holds in memory.
fn bytes(ty: SlotType, value: Bound) -> Result<Vec<u8>, LoadError> {
    match (ty, value) {
        (SlotType::U64, Bound::Number(number)) => Ok(number.to_le_bytes().to_vec()),
        (SlotType::Bool, Bound::Number(number)) => Ok(vec![u8::from(number != 0)]),
        (SlotType::Str { size }, Bound::Text(text)) => {
            let mut bytes = text;
            bytes.truncate((size as usize).saturating_sub(1));
            bytes.resize(size as usize, 0);
            Ok(bytes)
        }
        _ => Err(wrong_type()),
    }
}

fn value(
    value: &HostValue,
    place: SourceRange,
    invocation: &Invocation<'_>,
    params: &mut Params<'_>,
    host: &dyn Host,
) -> Result<Bound, LoadError> {
    let options = invocation.options;
    let number = match value {
        HostValue::Param { index, kind } => return params.value(*index, *kind, place),
        HostValue::ParamFold { expr, kind } => return params.fold(expr, *kind, place),
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
        HostValue::TargetPid => invocation.options.pid.unwrap_or(0) as u64,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_into_instructions() {
        let site = |file_offset, form| SlotSite { file_offset, form };
        let number = 0x1122_3344_5566_7788;
        let mut object = [0xff; 32];
        put(site(8, SlotForm::Number), number, &mut object).unwrap();
        put(site(0, SlotForm::Truth), number, &mut object).unwrap();
        assert_eq!(object[..8], [0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0]);
        assert_eq!(
            object[8..24],
            [
                0xff, 0xff, 0xff, 0xff, 0x88, 0x77, 0x66, 0x55, 0xff, 0xff, 0xff, 0xff, 0x44, 0x33,
                0x22, 0x11
            ]
        );
        put(site(0, SlotForm::Truth), 0, &mut object).unwrap();
        assert_eq!(object[4..8], [0; 4]);
    }

    #[test]
    fn sites_outside_of_the_object_are_refused() {
        let mut object = [0; 16];
        for (file_offset, form) in [
            (16, SlotForm::Truth),
            (10, SlotForm::Truth),
            (8, SlotForm::Number),
            (u64::MAX, SlotForm::Number),
        ] {
            let site = SlotSite { file_offset, form };
            assert_eq!(put(site, 1, &mut object), None, "{file_offset}");
        }
    }
}
