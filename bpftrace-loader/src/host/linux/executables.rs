use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use bpftrace_meta::wildcard_match;

/// Where libraries are, beside what the linker's cache says.
const LIBRARY_DIRECTORIES: [&str; 6] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];

/// Files that a path in an attach point stands for.
pub(super) fn find(path: &str, pid: Option<i32>) -> io::Result<Vec<PathBuf>> {
    let root = process_root(pid);
    if path.contains('*') {
        return glob(path, root.as_deref());
    }
    if path.contains('/') {
        let path = below(root.as_deref(), Path::new(path));
        return Ok(if is_usable(&path) {
            vec![path.canonicalize().unwrap_or(path)]
        } else {
            Vec::new()
        });
    }
    if path.starts_with("lib") {
        let found = library(path);
        if let Some(found) = found {
            return Ok(vec![found]);
        }
    }
    let mut found = Vec::new();
    for directory in std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()) {
        let candidate = below(root.as_deref(), &directory.join(path));
        if is_usable(&candidate) {
            let candidate = candidate.canonicalize().unwrap_or(candidate);
            if !found.contains(&candidate) {
                found.push(candidate);
            }
        }
    }
    Ok(found)
}

/// The root directory of a process in another mount namespace.
fn process_root(pid: Option<i32>) -> Option<PathBuf> {
    let pid = pid?;
    let ours = fs::read_link("/proc/self/ns/mnt").ok()?;
    let theirs = fs::read_link(format!("/proc/{pid}/ns/mnt")).ok()?;
    (ours != theirs).then(|| PathBuf::from(format!("/proc/{pid}/root")))
}

fn below(root: Option<&Path>, path: &Path) -> PathBuf {
    match root {
        Some(root) => root.join(path.strip_prefix("/").unwrap_or(path)),
        None => path.to_owned(),
    }
}

fn is_usable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file())
}

/// `libc`, `libc.so`, `libc.so.6`: through the usual directories. The file whose name is the
/// shortest wins, which is the one without a minor version.
fn library(name: &str) -> Option<PathBuf> {
    let stem = name.strip_suffix(".so").unwrap_or(name);
    for directory in LIBRARY_DIRECTORIES {
        let exact = Path::new(directory).join(name);
        if is_usable(&exact) && is_elf(&exact) {
            return exact.canonicalize().ok();
        }
        let mut candidates: Vec<PathBuf> = fs::read_dir(directory)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| {
                let file = entry.file_name();
                let file = file.to_string_lossy();
                file.strip_prefix(stem)
                    .is_some_and(|rest| rest == ".so" || rest.starts_with(".so."))
            })
            .map(|entry| entry.path())
            // `libc.so` may be a linker script.
            .filter(|path| is_usable(path) && is_elf(path))
            .collect();
        candidates.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
        if let Some(found) = candidates.into_iter().next() {
            return found.canonicalize().ok();
        }
    }
    None
}

fn is_elf(path: &Path) -> bool {
    use std::io::Read as _;
    let mut magic = [0; 4];
    fs::File::open(path)
        .and_then(|mut file| file.read_exact(&mut magic))
        .is_ok_and(|()| magic == *b"\x7fELF")
}

/// Executable ELF files that a path with `*` matches; a `*` does not match a slash.
fn glob(pattern: &str, root: Option<&Path>) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![match (pattern.starts_with('/'), root) {
        (true, Some(root)) => root.to_owned(),
        (true, None) => PathBuf::from("/"),
        (false, _) => std::env::current_dir()?,
    }];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let mut next = Vec::new();
        for directory in found {
            if !part.contains('*') {
                next.push(directory.join(part));
                continue;
            }
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                if wildcard_match(part, &entry.file_name().to_string_lossy()) {
                    next.push(entry.path());
                }
            }
        }
        found = next;
    }
    let mut files: Vec<PathBuf> = found
        .into_iter()
        .filter(|path| {
            fs::metadata(path)
                .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
                && is_elf(path)
        })
        .filter_map(|path| path.canonicalize().ok())
        .collect();
    files.sort_unstable();
    files.dedup();
    Ok(files)
}

/// Executable mappings of a process, its own executable first.
pub(super) fn mapped_files(pid: i32) -> io::Result<Vec<PathBuf>> {
    let root = process_root(Some(pid));
    let mut files = Vec::new();
    if let Ok(executable) = fs::read_link(format!("/proc/{pid}/exe")) {
        files.push(below(root.as_deref(), &executable));
    }
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (Some(_range), Some(mode)) = (words.next(), words.next()) else {
            continue;
        };
        let path = words.nth(3);
        if let Some(path) = path
            && mode.contains('x')
            && path.starts_with('/')
        {
            let path = below(root.as_deref(), Path::new(path));
            if !files.contains(&path) {
                files.push(path);
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_by_path_name_and_pattern() {
        let shell = find("/bin/sh", None).unwrap();
        assert_eq!(shell.len(), 1);
        assert_eq!(find("sh", None).unwrap().first(), shell.first());
        assert!(find("/no/such/file", None).unwrap().is_empty());
        assert!(find("/bin/s*h", None).unwrap().contains(&shell[0]));
        let me = std::process::id() as i32;
        let mapped = mapped_files(me).unwrap();
        assert_eq!(mapped[0], std::env::current_exe().unwrap());
    }
}
