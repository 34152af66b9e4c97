use std::fs;
use std::io;
use std::os::linux::fs::MetadataExt as _;
use std::os::unix::fs::FileExt as _;

use crate::ffi;
use crate::host::{Mapping, PidNamespace, VDSO};

/// Ids of the threads of a process, ascending.
pub(super) fn threads(pid: i32) -> io::Result<Vec<i32>> {
    let mut ids: Vec<i32> = fs::read_dir(format!("/proc/{pid}/task"))?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    ids.sort_unstable();
    Ok(ids)
}

/// What a process has mapped of files as executable.
pub(super) fn mappings(pid: i32) -> io::Result<Vec<Mapping>> {
    let text = fs::read(format!("/proc/{pid}/maps"))?;
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().filter_map(parse_mapping).collect())
}

/// Bytes of the memory of a process.
pub(super) fn read_memory(pid: i32, start: u64, size: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; size];
    fs::File::open(format!("/proc/{pid}/mem"))?.read_exact_at(&mut bytes, start)?;
    Ok(bytes)
}

/// `START-END PERMISSIONS OFFSET DEVICE INODE PATH` of `/proc/PID/maps`, if it is executable and a file
/// that is still there, or the library that the kernel gives to each process.
fn parse_mapping(line: &str) -> Option<Mapping> {
    let mut rest = line;
    let mut word = || {
        let (word, behind) = rest.trim_start().split_once(' ')?;
        rest = behind;
        Some(word)
    };
    let (range, permissions, offset) = (word()?, word()?, word()?);
    let (_device, _inode) = (word()?, word()?);
    let path = rest.trim_start();
    let is_library = path == VDSO || path.starts_with('/') && !path.ends_with(" (deleted)");
    if !permissions.contains('x') || !is_library {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    Some(Mapping {
        start: number(start)?,
        end: number(end)?,
        offset: number(offset)?,
        path: path.into(),
    })
}

/// Inode of the initial pid namespace (`PROC_PID_INIT_INO`, include/linux/proc_ns.h).
const INITIAL_PID_NAMESPACE: u64 = 0xeffffffc;

/// A list of CPUs in /sys/devices/system/cpu, ascending.
pub(super) fn cpu_list(which: &str) -> io::Result<Vec<u32>> {
    let text = fs::read_to_string(format!("/sys/devices/system/cpu/{which}"))?;
    parse_cpu_list(text.trim()).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("unexpected list of CPUs: {text}"),
        )
    })
}

/// `0-3,5` as numbers.
fn parse_cpu_list(text: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for range in text.split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// `MemAvailable`, bytes.
pub(super) fn available_memory() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    text.lines()
        .find_map(|line| {
            let number = line.strip_prefix("MemAvailable:")?.trim();
            number.strip_suffix("kB")?.trim().parse::<u64>().ok()
        })
        .map(|kilobytes| kilobytes * 1024)
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "no MemAvailable in /proc/meminfo",
            )
        })
}

pub(super) fn pid_namespace() -> io::Result<PidNamespace> {
    let file = fs::metadata("/proc/self/ns/pid")?;
    let (major, minor) = (libc::major(file.st_dev()), libc::minor(file.st_dev()));
    Ok(PidNamespace {
        dev: (u64::from(major) << 20) | u64::from(minor),
        ino: file.st_ino(),
        initial: file.st_ino() == INITIAL_PID_NAMESPACE,
    })
}

/// What loading programs needs and this process lacks.
pub(super) fn missing_privilege() -> Option<String> {
    const CAP_DAC_OVERRIDE: u32 = 1;
    const CAP_DAC_READ_SEARCH: u32 = 2;
    const CAP_SYS_ADMIN: u32 = 21;
    const CAP_PERFMON: u32 = 38;
    const CAP_BPF: u32 = 39;
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())?;
    let has = |capability: u32| effective >> capability & 1 == 1;
    let missing = if !ffi::is_root() && !has(CAP_DAC_READ_SEARCH) {
        Some("CAP_DAC_READ_SEARCH")
    } else if !ffi::is_root() && !has(CAP_DAC_OVERRIDE) {
        Some("CAP_DAC_OVERRIDE")
    } else if has(CAP_SYS_ADMIN) {
        None
    } else if !has(CAP_BPF) {
        Some("CAP_BPF")
    } else if !has(CAP_PERFMON) {
        Some("CAP_PERFMON")
    } else {
        None
    };
    if let Some(capability) = missing {
        return Some(format!(
            "Missing {capability} capability, please run bpftrace as the root user."
        ));
    }
    // `none [integrity] confidentiality`: the mode in force is in brackets.
    let lockdown = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    lockdown.contains("[confidentiality]").then(|| {
        "Kernel lockdown is enabled and set to 'confidentiality'. Lockdown mode blocks parts of BPF \
         which makes it impossible for bpftrace to function."
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executable_mappings_of_files() {
        let line = "7f1c-7f2d r-xp 00001000 fe:01 123    /usr/lib/a file.so";
        let mapping = parse_mapping(line).expect("a mapping");
        assert_eq!(
            (mapping.start, mapping.end, mapping.offset),
            (0x7f1c, 0x7f2d, 0x1000)
        );
        assert_eq!(mapping.path, std::path::Path::new("/usr/lib/a file.so"));
        let line = "7f1c-7f2d r-xp 00000000 00:00 0      [vdso]";
        assert_eq!(
            parse_mapping(line).map(|mapping| mapping.path),
            Some(VDSO.into())
        );
        for line in [
            "7f1c-7f2d r--p 00001000 fe:01 123    /usr/lib/a.so",
            "7f1c-7f2d r--p 00000000 00:00 0      [vvar]",
            "7f1c-7f2d r-xp 00000000 00:00 0",
            "7f1c-7f2d r-xp 00001000 fe:01 123    /usr/lib/a.so (deleted)",
            "",
        ] {
            assert_eq!(parse_mapping(line), None, "{line}");
        }
    }

    #[test]
    fn lists_of_cpus() {
        assert_eq!(parse_cpu_list("0-3,5"), Some(vec![0, 1, 2, 3, 5]));
        assert_eq!(parse_cpu_list("0"), Some(vec![0]));
        assert_eq!(parse_cpu_list(""), Some(vec![]));
        assert_eq!(parse_cpu_list("x"), None);
    }
}
