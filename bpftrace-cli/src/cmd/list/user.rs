//! `-l` of probes in programs and libraries.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bpftrace_loader::host::{ElfFile, Host, files_matching};
use bpftrace_meta::{ProviderKind, UprobePlace, wildcard_match};
use bpftrace_notation::AttachPoint;

use super::Lister;

/// The providers that look into files.
pub(super) const USER_PROVIDERS: [ProviderKind; 2] = [ProviderKind::Uprobe, ProviderKind::Usdt];

/// Whether a pattern of providers is about files too: one is named, or a process whose files are meant.
pub(super) fn about_files(rest: &str, pid: Option<i32>) -> bool {
    pid.is_some() || parts(rest).first().is_some_and(|path| path.contains('/'))
}

/// What follows the provider, split at colons outside of quotes.
fn parts(rest: &str) -> Vec<String> {
    let (point, _) = AttachPoint::parse(&format!("usdt:{rest}"));
    point.parts.iter().map(|part| part.to_display()).collect()
}

impl Lister<'_> {
    /// The lines for `uprobe`, `uretprobe` and `usdt`.
    pub(super) fn user_probes(
        &self,
        kind: ProviderKind,
        rest: &str,
        lines: &mut Vec<String>,
    ) -> Result<(), String> {
        let parts = parts(rest);
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let (path, middle, name) = match parts.as_slice() {
            // A file alone stands for all that is in it.
            [path] if path.contains('/') => (Some(*path), None, "*"),
            [name] => (None, None, *name),
            [path, name] => (Some(*path), None, *name),
            [path, middle, name] => (Some(*path), Some(*middle), *name),
            _ => return Err(format!("{0} needs a path: {0}:PATH:NAME", kind.as_str())),
        };
        let middle = middle.filter(|middle| !middle.is_empty());
        for file in self.user_files(kind, path)? {
            let Some(elf) = self.readable(&file, path)? else {
                continue;
            };
            let shown = file.display();
            if kind == ProviderKind::Usdt {
                for note in &elf.usdt {
                    if middle.is_none_or(|pattern| wildcard_match(pattern, &note.provider))
                        && wildcard_match(name, &note.name)
                    {
                        lines.push(format!("usdt:{shown}:{}:{}", note.provider, note.name));
                    }
                }
                continue;
            }
            for symbol in elf.matching(name, middle) {
                let language = middle.map_or(String::new(), |language| format!("{language}:"));
                // Demangled names have characters in them that attach points have in quotes only.
                let name = match symbol.demangled().filter(|_| middle.is_some()) {
                    Some(name) => format!("\"{name}\""),
                    None => symbol.name.clone(),
                };
                let mut line = format!("{}:{shown}:{language}{name}", kind.as_str());
                if self.options.verbose && kind == ProviderKind::Uprobe {
                    self.write_params(&file, &symbol.name, &mut line);
                }
                lines.push(line);
            }
        }
        Ok(())
    }

    /// The parameters of a function, a line each.
    fn write_params(&self, file: &Path, function: &str, out: &mut String) {
        let info = self.host.debug_info(file, &self.options.debug_dirs);
        let Some(info) = info else {
            if self.without_types.borrow_mut().insert(file.to_owned()) {
                eprintln!(
                    "WARNING: No DWARF found for \"{}\", cannot show parameter info",
                    file.display()
                );
            }
            return;
        };
        for param in info.function_params(function).unwrap_or_default() {
            let space = if param.name.is_empty() { "" } else { " " };
            let _ = write!(out, "\n    {}{space}{}", info.spell(param.ty), param.name);
        }
    }

    /// Whether a place that is no function is in a file; addresses are not looked up.
    pub(super) fn place(&self, file: &Path, place: &UprobePlace) -> Result<(), String> {
        let UprobePlace::SourceLine {
            file: source,
            line,
            column,
        } = place
        else {
            return Ok(());
        };
        let info = self.host.debug_info(file, &self.options.debug_dirs);
        let info = info.ok_or_else(|| {
            format!(
                "No DWARF debug info found for '{}', cannot attach by source code location.",
                file.display()
            )
        })?;
        info.line_address(source, *line, *column)
            .map(|_| ())
            .map_err(|wrong| format!("DWARF error: {wrong}"))
    }

    /// The files that a path stands for; without one, those that `*` stands for.
    pub(super) fn user_files(
        &self,
        kind: ProviderKind,
        path: Option<&str>,
    ) -> Result<Vec<PathBuf>, String> {
        let path = path.filter(|path| !path.is_empty()).unwrap_or("*");
        files_matching(kind.as_str(), path, self.options.pid, &self.host)
            .map_err(|error| format!("cannot read {path}: {}", crate::cmd::reason(&error)))
    }

    /// Reads a file; of many, those that are no executables are passed over.
    fn readable(&self, file: &Path, path: Option<&str>) -> Result<Option<Rc<ElfFile>>, String> {
        let named = path.is_some_and(|path| !path.is_empty() && !path.contains('*'));
        match self.host.elf_file(file) {
            Ok(Some(elf)) => Ok(Some(elf)),
            Ok(None) | Err(_) if !named => Ok(None),
            Ok(None) => Err(format!(
                "'{}' is no ELF executable or shared object",
                file.display()
            )),
            Err(error) => Err(format!(
                "cannot read {}: {}",
                file.display(),
                crate::cmd::reason(&error)
            )),
        }
    }
}
