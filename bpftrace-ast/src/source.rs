//! Source texts and positions in them.
//!
//! A [`SourceMap`] owns every text that takes part in a compilation: the script, imported scripts,
//! the standard library, and the replacement texts of C macros. All positions are [`Span`]s: a source and
//! two byte offsets. Lines and columns are computed only when something is shown to a person.

use std::borrow::Cow;
use std::sync::OnceLock;

/// Texts longer than this many bytes are cut; the parser reports it. Offsets therefore always fit in 32 bits.
pub const MAX_SOURCE_LEN: usize = 64 << 20;

/// Names one text of a [`SourceMap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(u32);

impl SourceId {
    /// The position of the text in its map, counted from zero in the order of addition.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A half-open range of bytes in one source text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// The text that the offsets count in.
    pub source: SourceId,
    /// Byte offset of the first byte.
    pub start: u32,
    /// Byte offset one past the last byte.
    pub end: u32,
    /// Which expansion of a macro copied this place; `None` for what stands in a source as it is.
    pub expansion: Option<ExpansionId>,
}

/// One expansion of a macro. What the numbers stand for is known to whoever expands macros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExpansionId(pub std::num::NonZeroU32);

impl Span {
    /// The span of bytes `start..end` of `source`.
    pub fn new(source: SourceId, start: u32, end: u32) -> Self {
        debug_assert!(start <= end);
        Self {
            source,
            start,
            end,
            expansion: None,
        }
    }

    /// Where it starts, as a number that grows with the source and the offset.
    pub fn place(self) -> u64 {
        u64::from(self.source.0) << 32 | u64::from(self.start)
    }

    /// Number of bytes covered.
    pub fn len(self) -> u32 {
        self.end - self.start
    }

    /// Whether the span covers no byte at all.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Whether `inner` lies within this span, in the same source.
    pub fn contains(self, inner: Span) -> bool {
        self.source == inner.source && self.start <= inner.start && inner.end <= self.end
    }

    /// From the start of this span to the end of `last`, which must be in the same source and not start earlier.
    pub fn to(self, last: Span) -> Span {
        debug_assert_eq!(self.source, last.source);
        Span {
            end: last.end.max(self.start),
            ..self
        }
    }

    /// From the start of this span to the end of `last`, for heads of items; the same as [`Span::to`] but only ever
    /// shrinks.
    pub(crate) fn start_to(self, last: Span) -> Span {
        Span {
            end: last.end.clamp(self.start, self.end),
            ..self
        }
    }

    /// The same place in the source, whatever copied it.
    pub fn as_written(self) -> Span {
        Span {
            expansion: None,
            ..self
        }
    }

    /// The empty span right after this one.
    pub fn after(self) -> Span {
        Span {
            start: self.end,
            ..self
        }
    }
}

/// A position for people: both numbers count from 1, columns count bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LineCol {
    /// Line, from 1.
    pub line: u32,
    /// Column in bytes, from 1.
    pub col: u32,
}

/// One text with its name and an index of its lines.
#[derive(Clone, Debug)]
pub struct SourceFile {
    name: Cow<'static, str>,
    text: Cow<'static, str>,
    /// Offset of the first byte of each line; the first entry is always 0. Made when first asked for: most texts
    /// have no mistakes.
    line_starts: OnceLock<Vec<u32>>,
    cut: bool,
}

impl SourceFile {
    /// The name as shown in diagnostics: a path as the user gave it, `stdin`, `stdlib/base.bt`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn line_starts(&self) -> &[u32] {
        self.line_starts.get_or_init(|| {
            let line_ends = self
                .text
                .bytes()
                .enumerate()
                .filter(|&(_, byte)| byte == b'\n');
            std::iter::once(0)
                .chain(line_ends.map(|(at, _)| at as u32 + 1))
                .collect()
        })
    }

    /// Whether the text is part of the program itself: the standard library.
    pub fn is_built_in(&self) -> bool {
        matches!(self.name, Cow::Borrowed(_))
    }

    /// Whether the text was longer than [`MAX_SOURCE_LEN`] and lost its tail.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// Line and column of a byte offset; offsets past the end are taken as the end.
    pub fn line_col(&self, offset: u32) -> LineCol {
        let offset = offset.min(self.text.len() as u32);
        let line_starts = self.line_starts();
        let line_idx = line_starts.partition_point(|&start| start <= offset) - 1;
        LineCol {
            line: line_idx as u32 + 1,
            col: offset - line_starts[line_idx] + 1,
        }
    }

    /// The text of a line (counted from 1) without its line end; empty for a line that does not exist.
    pub fn line(&self, line: u32) -> &str {
        let Some(idx) = (line as usize).checked_sub(1) else {
            return "";
        };
        let line_starts = self.line_starts();
        let Some(&start) = line_starts.get(idx) else {
            return "";
        };
        let end = line_starts
            .get(idx + 1)
            .map_or(self.text.len(), |&next| next as usize);
        let line = &self.text[start as usize..end];
        let line = line.strip_suffix('\n').unwrap_or(line);
        line.strip_suffix('\r').unwrap_or(line)
    }

    /// Whether a line is only what follows the last line end.
    pub fn is_past_last_line(&self, line: u32) -> bool {
        line == self.n_lines() && self.line(line).is_empty() && (line > 1 || self.text.is_empty())
    }

    /// Number of lines; a text without any line end has one.
    pub fn n_lines(&self) -> u32 {
        self.line_starts().len() as u32
    }
}

/// All texts of one compilation.
#[derive(Clone, Debug, Default)]
pub struct SourceMap {
    files: Vec<SourceFile>,
}

impl SourceMap {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a text under the name that diagnostics will show.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> SourceId {
        let mut text = text.into();
        let cut = text.len() > MAX_SOURCE_LEN;
        if cut {
            text.truncate(text.floor_char_boundary(MAX_SOURCE_LEN));
        }
        self.push(Cow::Owned(name.into()), Cow::Owned(text), cut)
    }

    /// Adds a text that is part of the program itself; nothing is copied.
    pub fn add_static(&mut self, name: &'static str, text: &'static str) -> SourceId {
        debug_assert!(text.len() <= MAX_SOURCE_LEN);
        self.push(Cow::Borrowed(name), Cow::Borrowed(text), false)
    }

    fn push(&mut self, name: Cow<'static, str>, text: Cow<'static, str>, cut: bool) -> SourceId {
        let id = SourceId(self.files.len() as u32);
        self.files.push(SourceFile {
            name,
            text,
            line_starts: OnceLock::new(),
            cut,
        });
        id
    }

    /// The text behind an id of this map.
    ///
    /// # Panics
    ///
    /// If the id comes from another, longer map.
    pub fn file(&self, id: SourceId) -> &SourceFile {
        &self.files[id.index()]
    }

    /// The bytes that a span covers; empty if the span does not fit the text.
    pub fn text(&self, span: Span) -> &str {
        self.file(span.source)
            .text()
            .get(span.start as usize..span.end as usize)
            .unwrap_or("")
    }

    /// Line and column of the start of a span.
    pub fn start(&self, span: Span) -> LineCol {
        self.file(span.source).line_col(span.start)
    }

    /// Line and column one past the last byte of a span.
    pub fn end(&self, span: Span) -> LineCol {
        self.file(span.source).line_col(span.end)
    }

    /// All texts in the order of addition.
    pub fn files(&self) -> impl Iterator<Item = (SourceId, &SourceFile)> {
        self.files
            .iter()
            .enumerate()
            .map(|(idx, file)| (SourceId(idx as u32), file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one() {
        let mut map = SourceMap::new();
        let id = map.add("a.bt", "ab\ncd\r\n\nx");
        let file = map.file(id);
        assert_eq!(file.n_lines(), 4);
        assert_eq!(file.line_col(0), LineCol { line: 1, col: 1 });
        assert_eq!(file.line_col(2), LineCol { line: 1, col: 3 });
        assert_eq!(file.line_col(3), LineCol { line: 2, col: 1 });
        assert_eq!(file.line_col(99), LineCol { line: 4, col: 2 });
        assert_eq!(
            [file.line(1), file.line(2), file.line(3), file.line(4)],
            ["ab", "cd", "", "x"]
        );
        assert_eq!([file.line(0), file.line(5)], ["", ""]);
    }
}
