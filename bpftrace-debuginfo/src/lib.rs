//! Debug information of executables and libraries: the types of a program, the parameters of its
//! functions, and where the code of a source line is.
//!
//! Bytes in, answers out: files are opened by whoever implements [`Files`]. The compiler takes types
//! from here, the loader places. Neither the language nor BPF is known here.
//!
//! Read [`DebugInfo`] first, then [`TypeKind`].
#![forbid(unsafe_code)]

mod demangle;
mod elf;
mod function;
mod index;
mod line;
mod search;
mod types;
mod unit;

pub use demangle::demangle;
pub use function::Param;
pub use search::{DEFAULT_DIRECTORIES, Files};
pub use types::{Field, TypeId, TypeKind, TypeName};

use std::cell::{OnceCell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bpftrace_meta::UserBuild;

use elf::Image;
use index::Index;
use types::Interned;
use unit::Units;

/// Debug information of one executable or library.
pub struct DebugInfo {
    build: UserBuild,
    units: Units,
    index: OnceCell<Index>,
    types: RefCell<Interned>,
}

impl std::fmt::Debug for DebugInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DebugInfo")
            .field("build", &self.build)
            .finish_non_exhaustive()
    }
}

impl DebugInfo {
    /// Reads what there is about a file: in itself, or in a file of its own that is in one of the
    /// directories (none: [`DEFAULT_DIRECTORIES`]). `None` when there is nothing.
    #[must_use]
    pub fn open(path: &Path, directories: &[PathBuf], files: &dyn Files) -> Option<Self> {
        let image = Image::parse(files.read(path)?)?;
        let build = image.build();
        let found = search::find(path, image, directories, files)?;
        Some(Self {
            build,
            units: Units::read(&found, path, files)?,
            index: OnceCell::new(),
            types: RefCell::default(),
        })
    }

    /// Which build of the file it is about.
    #[must_use]
    pub fn build(&self) -> &UserBuild {
        &self.build
    }

    /// Companion files that the debug information names and that are not there.
    #[must_use]
    pub fn missing(&self) -> &[String] {
        &self.units.missing
    }

    fn index(&self) -> &Index {
        self.index.get_or_init(|| Index::build(&self.units))
    }
}

/// The file with the symbol table that was stripped from an executable: one of its own, or one that is packed
/// into it (`.gnu_debugdata`).
#[must_use]
pub fn separate_symbols(path: &Path, bytes: &[u8], files: &dyn Files) -> Option<Rc<[u8]>> {
    let image = Image::parse(bytes.into())?;
    match search::separate(path, &image, ".symtab", &[], files) {
        Some(found) => Some(found.into_bytes()),
        None => image.packed_symbols(),
    }
}

/// Which build of an executable some bytes are; `None` when they are not an executable.
#[must_use]
pub fn build_of(bytes: &[u8]) -> Option<UserBuild> {
    Some(Image::parse(bytes.into())?.build())
}
