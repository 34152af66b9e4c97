//! The only place that opens headers and imported files for the compiler.

mod bpf_object;
mod clang;

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use bpftrace_sema::{
    Header, HeaderQuery, ImportContent, ImportError, ImportedFile, IncludeForm, TextSource,
};

use crate::cmd::reason;

/// Directories of a kernel's source and build trees that its headers are in.
const KERNEL_DIRS: [&str; 6] = [
    "arch/x86/include",
    "arch/x86/include/generated",
    "include",
    "arch/x86/include/uapi",
    "arch/x86/include/generated/uapi",
    "include/uapi",
];

/// Directories that C compilers look in.
const SYSTEM_DIRS: [&str; 3] = [
    "/usr/local/include",
    "/usr/include/x86_64-linux-gnu",
    "/usr/include",
];

/// No header is larger, and no imported file.
const MAX_BYTES: u64 = 64 << 20;

/// Headers and scripts of this machine.
pub(crate) struct HostTexts {
    /// `-I`.
    own: Vec<PathBuf>,
    /// The kernel's headers, then the system's.
    system: Vec<PathBuf>,
}

impl HostTexts {
    pub(crate) fn new(include_dirs: &[PathBuf]) -> Self {
        let mut system = Vec::new();
        for dir in kernel_trees() {
            system.extend(KERNEL_DIRS.iter().map(|inner| dir.join(inner)));
            system.push(dir.join("include/generated/uapi"));
        }
        system.extend(SYSTEM_DIRS.iter().map(PathBuf::from));
        Self {
            own: include_dirs.to_vec(),
            system,
        }
    }
}

/// The source and build trees of the kernel: as the environment says, or of the running one.
fn kernel_trees() -> Vec<PathBuf> {
    let named = |name| {
        std::env::var_os(name)
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
    };
    let source = named("BPFTRACE_KERNEL_SOURCE");
    let build = named("BPFTRACE_KERNEL_BUILD");
    let mut trees: Vec<PathBuf> = source.into_iter().chain(build).collect();
    if trees.is_empty()
        && let Ok(release) = fs::read_to_string("/proc/sys/kernel/osrelease")
    {
        let modules = Path::new("/lib/modules").join(release.trim());
        trees = vec![modules.join("source"), modules.join("build")];
    }
    trees.retain(|dir| dir.is_dir());
    trees.dedup();
    trees
}

impl TextSource for HostTexts {
    fn header(&self, query: &HeaderQuery<'_>) -> Option<Header> {
        let own = self.own.iter().map(|dir| (dir.clone(), false));
        let system = self.system.iter().map(|dir| (dir.clone(), true));
        let mut dirs: Vec<(PathBuf, bool)> = own.chain(system).collect();
        let includer = query.includer.map(Path::new);
        if query.next {
            let at = dirs
                .iter()
                .position(|(dir, _)| includer.is_some_and(|path| path.starts_with(dir)));
            dirs.drain(..at.map_or(0, |at| at + 1));
        } else if query.form == IncludeForm::Quotes {
            let beside = includer.and_then(Path::parent);
            let beside = beside.map_or_else(|| PathBuf::from("."), Path::to_path_buf);
            let system = self.system.iter().any(|dir| beside.starts_with(dir));
            dirs.insert(0, (beside, system));
        }
        dirs.into_iter().find_map(|(dir, system)| {
            let path = dir.join(query.name);
            let bytes = read_file(&path).ok()?;
            // Some headers have comments in other encodings than UTF-8.
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let path = path.strip_prefix("./").unwrap_or(&path);
            Some(Header {
                path: path.display().to_string(),
                text,
                system,
            })
        })
    }

    fn import(&self, path: &str, importer: &str) -> Result<Vec<ImportedFile>, ImportError> {
        let dir = Path::new(importer).parent().unwrap_or(Path::new(""));
        let file = dir.join(path);
        let found = fs::metadata(&file);
        let metadata = match found {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ImportError::NotFound(vec![file.display().to_string()]));
            }
            Err(error) => {
                return Err(ImportError::Other(format!(
                    "cannot import '{}': {}",
                    file.display(),
                    reason(&error)
                )));
            }
        };
        check_writers(&file)?;
        if !metadata.is_dir() {
            return Ok(vec![self.imported(&file)?.ok_or_else(|| {
                ImportError::Other(format!(
                    "unknown import type: '{}': imports are .bt, .h, .bpf.c and .bpf.o files, and directories",
                    file.display()
                ))
            })?]);
        }
        let mut entries: Vec<PathBuf> = fs::read_dir(&file)
            .and_then(|entries| {
                entries
                    .map(|entry| entry.map(|entry| entry.path()))
                    .collect()
            })
            .map_err(|error| unreadable(&file, &error))?;
        entries.sort_unstable();
        let mut files = Vec::new();
        for entry in entries {
            if entry.is_dir() {
                continue;
            }
            check_writers(&entry)?;
            files.extend(self.imported(&entry)?);
        }
        Ok(files)
    }
}

impl HostTexts {
    /// A file by the end of its name; `None` for a kind that cannot be imported.
    fn imported(&self, path: &Path) -> Result<Option<ImportedFile>, ImportError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let read = || read_file(path).map_err(|error| unreadable(path, &error));
        let text = || {
            String::from_utf8(read()?).map_err(|_| {
                ImportError::Other(format!("'{}' is not text: invalid UTF-8", path.display()))
            })
        };
        let content = match () {
            () if name.ends_with(".bt") => ImportContent::Script(text()?),
            () if name.ends_with(".h") => ImportContent::Header(text()?),
            () if name.ends_with(".bpf.o") => {
                ImportContent::Object(bpf_object::read(path, read()?)?)
            }
            () if name.ends_with(".bpf.c") => {
                ImportContent::Object(bpf_object::read(path, clang::compile(path, &self.own)?)?)
            }
            () => return Ok(None),
        };
        Ok(Some(ImportedFile {
            path: path.display().to_string(),
            content,
        }))
    }
}

fn unreadable(path: &Path, error: &io::Error) -> ImportError {
    ImportError::Other(format!(
        "error reading import '{}': {}",
        path.display(),
        reason(error)
    ))
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
    }
    if metadata.len() > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "too large"));
    }
    fs::read(path)
}

/// What everybody may change is not imported.
fn check_writers(path: &Path) -> Result<(), ImportError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    for checked in [path, parent] {
        let writable =
            fs::metadata(checked).is_ok_and(|metadata| metadata.permissions().mode() & 0o002 != 0);
        if writable {
            return Err(ImportError::Other(format!(
                "cowardly refusing to import from a directory with global write permissions: {}",
                path.display()
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(name: &str, files: &[(&str, &str)]) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("bpftrace-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("a directory of ours");
        for (name, text) in files {
            fs::write(dir.join(name), text).expect("a file");
        }
        dir
    }

    fn contents(files: Vec<ImportedFile>) -> Vec<ImportContent> {
        files.into_iter().map(|file| file.content).collect()
    }

    #[test]
    fn directories_are_imported_in_order_and_other_files_are_left_out() {
        let dir = dir("dir", &[]);
        let lib = dir.join("lib");
        fs::create_dir_all(lib.join("deeper")).expect("a directory");
        for (name, text) in [("b.h", "H"), ("a.bt", "A"), ("c.txt", "C")] {
            fs::write(lib.join(name), text).expect("a file");
        }
        let importer = dir.join("main.bt").display().to_string();
        let files = HostTexts::new(&[]).import("lib", &importer);
        let expected = [
            ImportContent::Script("A".to_owned()),
            ImportContent::Header("H".to_owned()),
        ];
        assert_eq!(contents(files.expect("files")), expected);
        fs::remove_dir_all(dir).expect("a directory of ours");
    }

    #[test]
    fn what_everybody_may_change_is_refused() {
        let dir = dir("open", &[("a.bt", "A")]);
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).expect("a directory of ours");
        let importer = dir.join("main.bt").display().to_string();
        let error = HostTexts::new(&[]).import("a.bt", &importer);
        let Err(ImportError::Other(message)) = error else {
            panic!("imported from a directory that everybody may change");
        };
        assert!(message.contains("global write permissions"), "{message}");
        fs::remove_dir_all(dir).expect("a directory of ours");
    }

    #[test]
    fn quotes_look_beside_the_includer_and_next_behind_its_directory() {
        let first = dir("first", &[("x.h", "one")]);
        let second = dir("second", &[("x.h", "two")]);
        let texts = HostTexts::new(&[first.clone(), second.clone()]);
        let query = |form, includer, next| HeaderQuery {
            name: "x.h",
            form,
            includer,
            next,
        };
        let text = |query| texts.header(&query).map(|header| header.text);
        let angle = text(query(IncludeForm::Angle, None, false));
        assert_eq!(angle.as_deref(), Some("one"));
        let beside = second.join("y.h").display().to_string();
        let quotes = text(query(IncludeForm::Quotes, Some(&beside), false));
        assert_eq!(quotes.as_deref(), Some("two"));
        let includer = first.join("x.h").display().to_string();
        let next = text(query(IncludeForm::Angle, Some(&includer), true));
        assert_eq!(next.as_deref(), Some("two"));
        fs::remove_dir_all(first).expect("a directory of ours");
        fs::remove_dir_all(second).expect("a directory of ours");
    }
}
