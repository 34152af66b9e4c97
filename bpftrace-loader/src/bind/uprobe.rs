use std::path::PathBuf;

use bpftrace_meta::{Feature, UprobePlace, wildcard_match};

use super::expand::{Expanded, is_pattern};
use super::slots::has_feature;
use super::{Invocation, Place};
use crate::error::LoadError;
use crate::host::{ElfFile, ElfSymbol, Host};

/// Finds the targets of a `uprobe` or `uretprobe`.
pub(super) fn uprobes(
    ret: bool,
    path: Option<&str>,
    place: &UprobePlace,
    invocation: &Invocation<'_>,
    warnings: &mut Vec<String>,
    host: &dyn Host,
) -> Result<Expanded, LoadError> {
    let provider = if ret { "uretprobe" } else { "uprobe" };
    let files = files(provider, path, invocation, warnings, host)?;
    let pattern_path = path.is_none_or(is_pattern);
    let function = match place {
        UprobePlace::Function { name, .. } => name.clone(),
        UprobePlace::Address(address) => address.to_string(),
        UprobePlace::SourceLine { .. } => {
            return Err(LoadError::usage(
                "uprobes at source lines are not supported yet",
            ));
        }
    };
    let mut places = Vec::new();
    for file in &files {
        let elf = match host.elf_file(file) {
            Ok(Some(elf)) => elf,
            // Among many files some are not for us.
            Ok(None) | Err(_) if pattern_path => continue,
            Ok(None) => {
                return Err(LoadError::usage(format!(
                    "uprobe target file '{}' does not exist or is not executable",
                    file.display()
                )));
            }
            Err(e) => {
                return Err(LoadError::io(
                    format!("Failed to read '{}'", file.display()),
                    &e,
                ));
            }
        };
        let mut add = |shown: String, address: u64| match elf.file_offset(address) {
            Some(offset) => {
                places.push((
                    format!("{provider}:{}:{shown}", file.display()),
                    Place::Uprobe {
                        ret,
                        path: file.clone(),
                        offset,
                        semaphore: 0,
                    },
                ));
                Ok(())
            }
            None => Err(LoadError::usage(format!(
                "Could not resolve address: {}:{address:#x}",
                file.display()
            ))),
        };
        match place {
            UprobePlace::Address(address) => add(address.to_string(), *address)?,
            UprobePlace::Function {
                language, offset, ..
            } => {
                for symbol in matching(&elf, &function, language.as_deref()) {
                    let shown = shown_name(symbol, language.as_deref());
                    let shown = if *offset == 0 {
                        shown
                    } else {
                        check_offset(symbol, *offset, invocation)?;
                        format!("{shown}+{offset}")
                    };
                    add(shown, symbol.address.wrapping_add(*offset))?;
                }
            }
            UprobePlace::SourceLine { .. } => {}
        }
    }
    let many = pattern_path
        || is_pattern(&function)
        || matches!(
            place,
            UprobePlace::Function {
                language: Some(_),
                ..
            }
        );
    let shareable = many && has_feature(Feature::UprobeMulti, invocation, host);
    let text = match path {
        Some(path) => format!("{path}:{function}"),
        None => function,
    };
    Ok(Expanded {
        shareable,
        ..Expanded::many(places, provider, &text)
    })
}

/// The executables that a path stands for; without one, those of the traced process.
fn files(
    provider: &str,
    path: Option<&str>,
    invocation: &Invocation<'_>,
    warnings: &mut Vec<String>,
    host: &dyn Host,
) -> Result<Vec<PathBuf>, LoadError> {
    let pid = invocation.traced_pid();
    let Some(path) = path.filter(|path| *path != "*" || pid.is_none()) else {
        let pid = pid.ok_or_else(|| {
            LoadError::usage(format!(
                "{provider} probe must specify at least path or pid to probe."
            ))
        })?;
        return host
            .mapped_files(pid)
            .map_err(|e| LoadError::io(format!("Failed to read the files of process {pid}"), &e));
    };
    let mut files = host
        .executables(path, invocation.options.pid)
        .map_err(|e| LoadError::io(format!("Failed to look for '{path}'"), &e))?;
    if files.is_empty() {
        if is_pattern(path) {
            return Ok(files);
        }
        return Err(LoadError::usage(format!(
            "uprobe target file '{path}' does not exist or is not executable"
        )));
    }
    if !is_pattern(path) {
        if files.len() > 1 {
            warnings.push(format!(
                "attaching to uprobe target file '{}' but matched {} binaries",
                files[0].display(),
                files.len()
            ));
        }
        files.truncate(1);
    }
    Ok(files)
}

/// Symbols that a name, a pattern, or a pattern for demangled names stands for; each address once.
fn matching<'a>(elf: &'a ElfFile, pattern: &str, language: Option<&str>) -> Vec<&'a ElfSymbol> {
    let mut found: Vec<&ElfSymbol> = match language {
        Some("cpp") => {
            // Parameters only count where the pattern has some.
            let with_parameters = pattern.contains('(');
            elf.symbols
                .iter()
                .filter(|symbol| {
                    demangle(&symbol.name, with_parameters)
                        .is_some_and(|name| wildcard_match(pattern, &name))
                        || wildcard_match(pattern, &symbol.name)
                })
                .collect()
        }
        _ if is_pattern(pattern) => elf
            .symbols
            .iter()
            .filter(|symbol| wildcard_match(pattern, &symbol.name))
            .collect(),
        _ => {
            let start = elf
                .symbols
                .partition_point(|symbol| symbol.name.as_str() < pattern);
            elf.symbols[start..]
                .iter()
                .take_while(|symbol| symbol.name == pattern)
                .take(1)
                .collect()
        }
    };
    // Aliases of one function would fire twice.
    let mut seen = std::collections::HashSet::new();
    found.retain(|symbol| seen.insert(symbol.address));
    found
}

fn shown_name(symbol: &ElfSymbol, language: Option<&str>) -> String {
    match language {
        Some(language) => format!("{language}:{}", symbol.name),
        None => symbol.name.clone(),
    }
}

fn demangle(name: &str, with_parameters: bool) -> Option<String> {
    let options = cpp_demangle::DemangleOptions::new();
    let options = if with_parameters {
        options
    } else {
        options.no_params().no_return_type()
    };
    let parsed = cpp_demangle::Symbol::new(name).ok()?;
    parsed.demangle_with_options(&options).ok()
}

fn check_offset(
    symbol: &ElfSymbol,
    offset: u64,
    invocation: &Invocation<'_>,
) -> Result<(), LoadError> {
    if invocation.options.unsafe_mode {
        return Ok(());
    }
    let ElfSymbol { name, size, .. } = symbol;
    if *size == 0 {
        return Err(LoadError::usage(format!(
            "Could not determine boundary for {name} (symbol has size 0)."
        ))
        .hint("Use --unsafe to force attachment. WARNING: This option could lead to data corruption in the target process."));
    }
    if offset >= *size {
        return Err(LoadError::usage(format!(
            "Offset outside the function bounds ('{name}' size is {size})"
        )));
    }
    Ok(())
}
