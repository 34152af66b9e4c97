//! Texts that a script names: headers and imported files. Finding and opening them is the business of
//! whoever implements [`TextSource`].

/// How a header is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncludeForm {
    /// `<name>`: looked for in the directories of headers.
    Angle,
    /// `"name"`: looked for beside the text that names it first.
    Quotes,
}

/// A header that is looked for.
#[derive(Clone, Copy, Debug)]
pub struct HeaderQuery<'a> {
    /// What stands between the brackets or quotes.
    pub name: &'a str,
    /// Brackets or quotes.
    pub form: IncludeForm,
    /// Name of the text that names it: [`Header::path`], or the script's; `None` for the command line.
    pub includer: Option<&'a str>,
    /// `#include_next`: only in directories behind the one that the includer is in.
    pub next: bool,
}

/// A header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// What tells it from others, and what messages call it: its path.
    pub path: String,
    /// What is in it.
    pub text: String,
    /// Whether it belongs to the system: types that the kernel's own type information has are taken
    /// from there, and what cannot be read is skipped. The mistakes of other headers are the
    /// script's.
    pub system: bool,
}

/// A file that `import` stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedFile {
    /// What tells it from others, and what messages call it: its path.
    pub path: String,
    /// What is in it.
    pub content: ImportContent,
}

/// What an imported file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportContent {
    /// A script (`.bt`).
    Script(String),
    /// C definitions (`.h`).
    Header(String),
    /// A BPF object (`.bpf.o`), or what was made of C (`.bpf.c`).
    Object(ObjectFile),
}

/// A BPF object that can be linked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectFile {
    /// The whole file.
    pub bytes: Vec<u8>,
    /// Its section `.BTF`.
    pub btf: Vec<u8>,
    /// Names of the functions that other objects can call, in the order of the file.
    pub functions: Vec<String>,
}

/// Why an import cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportError {
    /// It is at none of these paths.
    NotFound(Vec<String>),
    /// Something else; a sentence without a full stop.
    Other(String),
}

/// Where headers and imports come from.
pub trait TextSource {
    /// A header; `None` when there is none of that name.
    fn header(&self, query: &HeaderQuery<'_>) -> Option<Header>;

    /// What a path in an import stands for: a file, or the files of a directory, sorted. `importer` is
    /// the name of the script that imports it.
    ///
    /// # Errors
    ///
    /// When there is no such file, or when it cannot or must not be read.
    fn import(&self, path: &str, importer: &str) -> Result<Vec<ImportedFile>, ImportError>;
}

/// No headers and no imports.
#[derive(Clone, Copy, Debug)]
pub struct NoTexts;

impl TextSource for NoTexts {
    fn header(&self, _: &HeaderQuery<'_>) -> Option<Header> {
        None
    }

    fn import(&self, _: &str, _: &str) -> Result<Vec<ImportedFile>, ImportError> {
        Err(ImportError::NotFound(Vec::new()))
    }
}
