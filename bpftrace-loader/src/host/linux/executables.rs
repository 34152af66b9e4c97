use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bpftrace_meta::wildcard_match;

use crate::host::zip;

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
        return Ok(with_wildcard(path, pid, root.as_deref()));
    }
    if path.contains('/') {
        let path = below(root.as_deref(), Path::new(path));
        return Ok(if is_usable(&path) {
            vec![path]
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
    for directory in directories_of_programs(pid, root.as_deref()) {
        let candidate = below(root.as_deref(), &directory.join(path));
        if is_usable(&candidate) {
            // Directories of the path may be the same one by two names.
            let same = candidate.canonicalize().ok();
            if !found
                .iter()
                .any(|known: &PathBuf| known.canonicalize().ok() == same)
            {
                found.push(candidate);
            }
        }
    }
    // Scripts of the same name are not meant.
    if found.iter().any(|path| is_elf(path)) {
        found.retain(|path| is_elf(path));
    }
    Ok(found)
}

/// Where a program without a path is looked for: in the current directory, and in those of `PATH`; for a
/// process that sees other files, of its own `PATH`.
fn directories_of_programs(pid: Option<i32>, root: Option<&Path>) -> Vec<PathBuf> {
    let directories = match (root, pid) {
        (Some(_), Some(pid)) => path_of_process(pid),
        _ => std::env::var_os("PATH"),
    };
    let directories = directories.unwrap_or_default();
    std::iter::once(PathBuf::new())
        .chain(std::env::split_paths(&directories))
        .collect()
}

fn path_of_process(pid: i32) -> Option<OsString> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let path = environment
        .split(|byte| *byte == 0)
        .find_map(|variable| variable.strip_prefix(b"PATH="))?;
    Some(OsStr::from_bytes(path).to_owned())
}

/// Files that a path with `*` stands for, sorted, by all of their names. Without a slash it is the name of a
/// program. The files of a process are meant too, and there a `*` stands for slashes as well.
fn with_wildcard(path: &str, pid: Option<i32>, root: Option<&Path>) -> Vec<PathBuf> {
    let mut found = if path.contains('/') {
        glob(path, root)
    } else {
        let directories = directories_of_programs(pid, root).into_iter();
        directories
            .flat_map(|directory| glob(&directory.join(path).to_string_lossy(), root))
            .collect()
    };
    let mapped = pid.and_then(|pid| mapped_files(pid).ok());
    for file in mapped.unwrap_or_default() {
        if wildcard_match(path, &file.to_string_lossy()) {
            found.push(file);
        }
    }
    found.sort_unstable();
    found.dedup();
    found
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
    fs::metadata(zip::file_of(path)).is_ok_and(|file| file.is_file())
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
        let candidate = fs::read_dir(directory)
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
            .min_by_key(|path| (path.as_os_str().len(), path.clone()));
        if let Some(found) = candidate {
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

/// ELF files that a path with `*` matches, called as the pattern calls them; a `*` does not match a
/// slash.
fn glob(pattern: &str, root: Option<&Path>) -> Vec<PathBuf> {
    let mut found = vec![match (pattern.starts_with('/'), root) {
        (true, Some(root)) => root.to_owned(),
        (true, None) => PathBuf::from("/"),
        (false, _) => PathBuf::new(),
    }];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let mut next = Vec::new();
        for directory in found {
            if !part.contains('*') {
                next.push(directory.join(part));
                continue;
            }
            let listed = if directory.as_os_str().is_empty() {
                Path::new(".")
            } else {
                &directory
            };
            for entry in fs::read_dir(listed).into_iter().flatten().flatten() {
                if wildcard_match(part, &entry.file_name().to_string_lossy()) {
                    next.push(directory.join(entry.file_name()));
                }
            }
        }
        found = next;
    }
    found.retain(|path| is_usable(path) && is_elf(path));
    found
}

/// Device and inode, which tell whether two paths are one file.
pub(super) fn identity(path: &Path) -> Option<(u64, u64)> {
    let file = fs::metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

/// Executable mappings of a process, its own executable first; called by the way that leads to them from
/// anywhere, through the process's root directory. Those that are deleted are left out.
pub(super) fn mapped_files(pid: i32) -> io::Result<Vec<PathBuf>> {
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    let mut files = Vec::new();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let mut add = |path: &Path| {
        let path = below(Some(&root), path);
        if !path.as_os_str().as_bytes().ends_with(b" (deleted)") && !files.contains(&path) {
            files.push(path);
        }
    };
    if let Ok(executable) = fs::read_link(format!("/proc/{pid}/exe")) {
        add(&executable);
    }
    for line in maps.lines() {
        if let Some((mode, path)) = mapping(line)
            && mode.contains('x')
        {
            add(Path::new(path));
        }
    }
    Ok(files)
}

/// Mode and file of a line of `/proc/PID/maps`: five columns, then the path as it is.
fn mapping(line: &str) -> Option<(&str, &str)> {
    let mut rest = line;
    let mut mode = "";
    for column in 0..5 {
        let (word, after) = rest.split_once(' ')?;
        if column == 1 {
            mode = word;
        }
        rest = after.trim_start();
    }
    rest.starts_with('/').then_some((mode, rest))
}

/// A program and the libraries that it and they are linked with.
pub(super) fn needed_files(program: &Path, needed: &dyn Fn(&Path) -> Vec<String>) -> Vec<PathBuf> {
    let mut files = vec![program.to_owned()];
    let mut at = 0;
    while let Some(file) = files.get(at) {
        for name in needed(file) {
            if let Some(found) = library(&name)
                && !files.contains(&found)
            {
                files.push(found);
            }
        }
        at += 1;
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings() {
        assert_eq!(
            mapping("7f10-7f20 r-xp 00000000 fd:00 12                         /opt/a b/c"),
            Some(("r-xp", "/opt/a b/c"))
        );
        assert_eq!(
            mapping("7ffd-7ffe r-xp 00000000 00:00 0                  [vdso]"),
            None
        );
        assert_eq!(mapping("7ffd-7ffe rw-p 00000000 00:00 0 "), None);
        assert_eq!(mapping(""), None);
    }

    // F215: all names are found, and each file once.
    #[test]
    fn patterns_find_files_by_all_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::copy("/bin/sh", path("one")).unwrap();
        std::os::unix::fs::symlink("one", path("two")).unwrap();
        fs::write(path("text"), "no program").unwrap();
        let mut found = find(&path("*").to_string_lossy(), None).unwrap();
        assert_eq!(found, [path("one"), path("two")]);
        crate::host::each_once(&mut found, &crate::host::LinuxHost::new());
        assert_eq!(found, [path("one")]);
    }

    #[test]
    fn finds_by_path_name_and_pattern() {
        let shell = find("/bin/sh", None).unwrap();
        assert_eq!(shell.len(), 1);
        // Called as it was found, not as its links lead.
        let by_name = find("sh", None).unwrap();
        assert_eq!(identity(&by_name[0]), identity(&shell[0]));
        assert!(find("/no/such/file", None).unwrap().is_empty());
        assert!(
            find("/bin/s*h", None)
                .unwrap()
                .iter()
                .any(|p| p.ends_with("sh"))
        );
        let me = std::process::id() as i32;
        let mapped = mapped_files(me).unwrap();
        let me = std::env::current_exe().unwrap();
        assert_eq!(
            mapped[0],
            below(
                Some(Path::new(&format!("/proc/{}/root", std::process::id()))),
                &me
            )
        );
    }
}
