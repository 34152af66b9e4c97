use serde::{Deserialize, Serialize};

/// A place in the script, for messages at run time. Lines and columns count from 1; columns count
/// bytes; `end_column` is exclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SourceRange {
    /// Index into [`SourceMeta::files`].
    pub file: u32,
    /// First line.
    pub line: u32,
    /// First column.
    pub column: u32,
    /// Last line.
    pub end_line: u32,
    /// Column behind the last character.
    pub end_column: u32,
}

/// The parts of the source that messages at run time quote.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceMeta {
    /// File names as messages show them (`stdin` for `-e`).
    pub files: Vec<String>,
    /// File, line number and text of each line that a message may quote; sorted.
    pub lines: Vec<(u32, u32, String)>,
}

impl SourceMeta {
    /// Text of a line, when it was kept.
    #[must_use]
    pub fn line(&self, file: u32, line: u32) -> Option<&str> {
        self.lines
            .binary_search_by(|(f, l, _)| (*f, *l).cmp(&(file, line)))
            .ok()
            .map(|i| self.lines[i].2.as_str())
    }
}
