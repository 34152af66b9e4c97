//! Where the debug information of a file is.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::elf::Image;

/// Opens files for those who look for debug information.
pub trait Files {
    /// The bytes of a file; `None` when it is not there.
    fn read(&self, path: &Path) -> Option<Rc<[u8]>>;
}

/// Where debug information is looked for; what does not start with a slash is beside the file.
pub const DEFAULT_DIRECTORIES: [&str; 3] = ["", ".debug", "/usr/lib/debug"];

/// The file itself, if it has debug information, or the one that has it.
pub(crate) fn find(
    path: &Path,
    image: Image,
    directories: &[PathBuf],
    files: &dyn Files,
) -> Option<Image> {
    if image.has_section(".debug_info") {
        return Some(image);
    }
    separate(path, &image, ".debug_info", directories, files)
}

/// The file that has a section which was moved out of a file.
pub(crate) fn separate(
    path: &Path,
    image: &Image,
    section: &str,
    directories: &[PathBuf],
    files: &dyn Files,
) -> Option<Image> {
    let default: Vec<PathBuf>;
    let directories = if directories.is_empty() {
        default = DEFAULT_DIRECTORIES.iter().map(PathBuf::from).collect();
        &default
    } else {
        directories
    };
    let link = image.debug_link();
    candidates(path, image, link.as_ref(), directories)
        .into_iter()
        .filter(|candidate| candidate != path)
        .filter_map(|candidate| Image::parse(files.read(&candidate)?))
        .find(|found| found.has_section(section) && belongs(found, image, link.as_ref()))
}

/// Paths that the debug information of a file may have, in the order to try.
fn candidates(
    path: &Path,
    image: &Image,
    link: Option<&(String, u32)>,
    directories: &[PathBuf],
) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let beside = path.parent().unwrap_or(Path::new(""));
    if let Some(id) = &image.build_id
        && id.len() > 1
    {
        let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let name = Path::new(".build-id")
            .join(&hex[..2])
            .join(format!("{}.debug", &hex[2..]));
        let absolute = directories.iter().filter(|d| d.is_absolute());
        found.extend(absolute.map(|directory| directory.join(&name)));
    }
    let mut names = Vec::new();
    match link {
        Some((name, _)) => names.push(name.clone()),
        None => {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            names.push(format!("{file}.debug"));
        }
    }
    for directory in directories {
        for name in &names {
            // Names of a file, not paths that lead out of the directory.
            let Some(name) = Path::new(name).file_name() else {
                continue;
            };
            if directory.is_absolute() {
                let below = beside.strip_prefix("/").unwrap_or(beside);
                found.push(directory.join(below).join(name));
                found.push(directory.join(name));
            } else {
                found.push(beside.join(directory).join(name));
                // As the caller's own paths.
                if directory.components().next().is_some() {
                    found.push(directory.join(name));
                }
            }
        }
    }
    found
}

/// Whether debug information is about this very file.
fn belongs(found: &Image, image: &Image, link: Option<&(String, u32)>) -> bool {
    match (&found.build_id, &image.build_id) {
        (Some(theirs), Some(ours)) => theirs == ours,
        _ => link.is_some_and(|(_, sum)| checksum(found.bytes()) == *sum),
    }
}

/// As `.gnu_debuglink` has it.
fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}
