//! Addresses of source lines.

use std::path::{Component, Path, PathBuf};

use gimli::{ColumnType, LineProgramHeader, Unit};

use crate::DebugInfo;
use crate::elf::Bytes;

impl DebugInfo {
    /// The lowest address of the code of a source line. The file is named by the end of its path.
    ///
    /// # Errors
    /// When no file or several files have such a path, or the line has no code: what is wrong.
    pub fn line_address(&self, file: &str, line: u32, column: Option<u32>) -> Result<u64, String> {
        let mut path: Option<PathBuf> = None;
        let mut best: Option<u64> = None;
        for unit in &self.units.skeletons {
            let Some(program) = unit.line_program.clone() else {
                continue;
            };
            let mut named = Vec::new();
            let header = program.header();
            let n_files = header.file_names().len() as u64;
            for number in 0..=n_files {
                let Some(found) = self.source_path(unit, header, number) else {
                    continue;
                };
                if !ends_with(&found, Path::new(file)) {
                    continue;
                }
                match &path {
                    Some(known) if *known != found => {
                        return Err(format!(
                            "Ambiguous source path, matches multiple files: {}, {}",
                            known.display(),
                            found.display()
                        ));
                    }
                    _ => path = Some(found),
                }
                named.push(number);
            }
            if named.is_empty() {
                continue;
            }
            let mut rows = program.rows();
            while let Ok(Some((_, row))) = rows.next_row() {
                let fits = !row.end_sequence()
                    && named.contains(&row.file_index())
                    && row
                        .line()
                        .is_some_and(|found| found.get() == u64::from(line))
                    && column.is_none_or(|wanted| match row.column() {
                        ColumnType::LeftEdge => wanted == 0,
                        ColumnType::Column(found) => found.get() == u64::from(wanted),
                    });
                // Code that was left out by the linker is at 0.
                if fits && row.address() != 0 {
                    best = Some(best.map_or(row.address(), |known| known.min(row.address())));
                }
            }
        }
        if path.is_none() {
            return Err(format!("No compilation unit matches {file}"));
        }
        best.ok_or_else(|| {
            let column = column.map_or(String::new(), |column| format!(":{column}"));
            format!("Unable to map '{file}:{line}{column}' to address")
        })
    }

    fn source_path(
        &self,
        unit: &Unit<Bytes>,
        header: &LineProgramHeader<Bytes>,
        number: u64,
    ) -> Option<PathBuf> {
        let dwarf = &self.units.dwarfs[0];
        let text = |value| {
            let text = dwarf.attr_string(unit, value).ok()?;
            Some(String::from_utf8_lossy(&text).into_owned())
        };
        let file = header.file(number)?;
        let mut path = PathBuf::new();
        if let Some(directory) = &unit.comp_dir {
            path.push(String::from_utf8_lossy(directory).into_owned());
        }
        if let Some(directory) = file.directory(header).and_then(text) {
            path.push(directory);
        }
        path.push(text(file.path_name())?);
        Some(normal(&path))
    }
}

/// A path without detours.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if out.file_name().is_some() => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    out
}

/// Whether the last parts of a path are these.
fn ends_with(path: &Path, end: &Path) -> bool {
    path.ends_with(normal(end))
}
