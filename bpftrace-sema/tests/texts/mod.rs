//! Headers and imports of test files: `tests/files/texts`, and `system` in it.

use std::path::{Path, PathBuf};

use bpftrace_sema::{
    Header, HeaderQuery, ImportContent, ImportError, ImportedFile, IncludeForm, TextSource,
};

/// Texts beside the test files.
pub(crate) struct Texts;

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files/texts")
}

impl TextSource for Texts {
    fn header(&self, query: &HeaderQuery<'_>) -> Option<Header> {
        let own = (query.form == IncludeForm::Quotes).then_some("");
        let from_system = query
            .includer
            .is_some_and(|name| name.starts_with("system/"));
        own.into_iter().chain(["system"]).find_map(|place| {
            let path = Path::new(place).join(query.name);
            let text = std::fs::read_to_string(dir().join(&path)).ok()?;
            Some(Header {
                path: path.display().to_string(),
                text,
                system: place == "system" || from_system,
            })
        })
    }

    fn import(&self, path: &str, _: &str) -> Result<Vec<ImportedFile>, ImportError> {
        let Ok(text) = std::fs::read_to_string(dir().join(path)) else {
            return Err(ImportError::NotFound(vec![path.to_owned()]));
        };
        let content = if path.ends_with(".h") {
            ImportContent::Header(text)
        } else {
            ImportContent::Script(text)
        };
        Ok(vec![ImportedFile {
            path: path.to_owned(),
            content,
        }])
    }
}
