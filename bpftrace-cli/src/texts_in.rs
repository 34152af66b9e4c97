//! The only place that opens headers and imported files for the compiler.

use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use bpftrace_sema::{
    Header, HeaderQuery, ImportContent, ImportError, ImportedFile, IncludeForm, ObjectFile,
    TextSource,
};

use flate2::read::DeflateDecoder;
use goblin::elf::{Elf, header, section_header, sym};

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
            () if name.ends_with(".bpf.o") => ImportContent::Object(object(path, read()?)?),
            () if name.ends_with(".bpf.c") => {
                ImportContent::Object(object(path, self.compiled(path)?)?)
            }
            () => return Ok(None),
        };
        Ok(Some(ImportedFile {
            path: path.display().to_string(),
            content,
        }))
    }

    /// What an installed clang makes of a C file.
    fn compiled(&self, path: &Path) -> Result<Vec<u8>, ImportError> {
        let shown = path.display();
        let mut clang = Command::new("clang");
        clang.args(["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-c", "-o", "-"]);
        clang.args(["-D__TARGET_ARCH_x86", "-D__BPF_TRACING__"]);
        for dir in &self.own {
            clang.arg("-I").arg(dir);
        }
        let folder = ClangFolder::write();
        if let Ok(folder) = &folder {
            clang.arg("-I").arg(folder.types());
            // Behind what is installed.
            clang.arg("-idirafter").arg(folder.libbpf());
        }
        let output = clang
            .arg("-I")
            .arg("/usr/include/x86_64-linux-gnu")
            .arg(path)
            .output();
        match output {
            Ok(output) if output.status.success() => Ok(output.stdout),
            Ok(output) => Err(ImportError::Other(format!(
                "clang cannot compile '{shown}':\n{}",
                String::from_utf8_lossy(&output.stderr).trim_end()
            ))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(ImportError::Other(format!(
                    "importing '{shown}' needs clang, which is not installed; compile it elsewhere \
                     with 'clang -target bpf -O2 -g -c' and import the .bpf.o file"
                )))
            }
            Err(error) => Err(ImportError::Other(format!(
                "cannot run clang for '{shown}': {}",
                reason(&error)
            ))),
        }
    }
}

/// libbpf's headers for programs, compressed: each its name and its text with a NUL behind both.
const C_HEADERS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/c_headers.deflate"));

/// Headers for clang in a folder of their own, which is there as long as this is.
struct ClangFolder {
    path: PathBuf,
}

impl ClangFolder {
    /// Without the kernel's types where they are not known: C that needs none does without.
    fn write() -> io::Result<Self> {
        let name = format!("bpftrace-{}-headers", std::process::id());
        let path = std::env::temp_dir().join(name);
        // Nobody else has or gets a folder of this name.
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        let folder = Self { path };
        let named = std::env::var_os("BPFTRACE_BTF").filter(|path| !path.is_empty());
        if let Ok(text) = bpftrace_loader::host::kernel_header(named.as_deref().map(Path::new)) {
            fs::create_dir(folder.types())?;
            fs::write(folder.types().join("vmlinux.h"), text)?;
        }
        let headers = folder.libbpf().join("bpf");
        fs::create_dir_all(&headers)?;
        let mut text = String::new();
        DeflateDecoder::new(C_HEADERS).read_to_string(&mut text)?;
        let mut parts = text.split('\0');
        while let (Some(name), Some(text)) = (parts.next(), parts.next()) {
            fs::write(headers.join(name), text)?;
        }
        Ok(folder)
    }

    /// Has `vmlinux.h`.
    fn types(&self) -> PathBuf {
        self.path.join("types")
    }

    /// Has `bpf/bpf_helpers.h` and its like.
    fn libbpf(&self) -> PathBuf {
        self.path.join("libbpf")
    }
}

impl Drop for ClangFolder {
    fn drop(&mut self) {
        // What is left over does no harm.
        drop(fs::remove_dir_all(&self.path));
    }
}

/// Whether a symbol or a relocation is outside of its section, which libbpf's linker does not check.
fn misplaced(elf: &Elf<'_>) -> Option<&'static str> {
    let size = |section: usize| elf.section_headers.get(section).map(|found| found.sh_size);
    let fits = |section: usize, start: u64, bytes: u64| {
        let end = start.checked_add(bytes);
        size(section).is_some_and(|size| end.is_some_and(|end| end <= size))
    };
    // What is elsewhere, and what is nowhere.
    let special = [section_header::SHN_UNDEF, section_header::SHN_ABS].map(|n| n as usize);
    let mut symbols = elf.syms.iter();
    let symbol = symbols.any(|symbol| {
        !special.contains(&symbol.st_shndx)
            && !fits(symbol.st_shndx, symbol.st_value, symbol.st_size)
    });
    if symbol {
        return Some("a symbol");
    }
    let relocation = elf.shdr_relocs.iter().any(|(section, relocations)| {
        let target = elf.section_headers.get(*section);
        let target = target.map_or(0, |section| section.sh_info as usize);
        let is_code = elf
            .section_headers
            .get(target)
            .is_some_and(|section| section.is_executable());
        // Of an instruction; others may be of 4 bytes.
        let bytes = if is_code { 8 } else { 4 };
        relocations.iter().any(|relocation| {
            relocation.r_sym >= elf.syms.len() || !fits(target, relocation.r_offset, bytes)
        })
    });
    relocation.then_some("a relocation")
}

/// What the compiler needs to know of a BPF object.
fn object(path: &Path, bytes: Vec<u8>) -> Result<ObjectFile, ImportError> {
    let wrong = |what: &str| {
        let shown = path.display();
        ImportError::Other(format!("cannot import '{shown}': {what}"))
    };
    // The header first: what is behind it is read as it says.
    let class = bytes.get(header::EI_CLASS).copied();
    if !bytes.starts_with(header::ELFMAG) || class != Some(header::ELFCLASS64) {
        return Err(wrong("it is no BPF object"));
    }
    if bytes.get(header::EI_DATA) != Some(&header::ELFDATA2LSB) {
        return Err(wrong("it is for machines of another byte order"));
    }
    let elf = Elf::parse(&bytes).map_err(|error| wrong(&format!("it is damaged: {error}")))?;
    if elf.header.e_machine != header::EM_BPF || elf.header.e_type != header::ET_REL {
        return Err(wrong("it is no BPF object"));
    }
    if let Some(what) = misplaced(&elf) {
        return Err(wrong(&format!(
            "it is damaged: {what} is outside of its section"
        )));
    }
    let section = |name: &str| {
        let mut sections = elf.section_headers.iter().enumerate();
        sections.find(|(_, section)| elf.shdr_strtab.get_at(section.sh_name) == Some(name))
    };
    let btf = section(".BTF")
        .and_then(|(_, section)| bytes.get(section.file_range()?))
        .ok_or_else(|| wrong("it has no BTF; 'clang -g' makes it"))?
        .to_vec();
    // Programs have sections of their own.
    let text = section(".text").map(|(at, _)| at);
    let functions = elf
        .syms
        .iter()
        .filter(|symbol| symbol.is_function() && symbol.st_bind() != sym::STB_LOCAL)
        .filter(|symbol| Some(symbol.st_shndx) == text)
        .filter_map(|symbol| elf.strtab.get_at(symbol.st_name))
        .map(str::to_owned)
        .collect();
    Ok(ObjectFile {
        btf,
        functions,
        bytes,
    })
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
