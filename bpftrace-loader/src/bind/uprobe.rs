use std::path::Path;

use bpftrace_meta::{Feature, UprobePlace};

use super::expand::{Expanded, is_pattern};
use super::slots::has_feature;
use super::{Invocation, Place, user_files};
use crate::error::LoadError;
use crate::host::{ElfSymbol, Host};

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
    let files = user_files::find(provider, path, invocation, warnings, host)?;
    let function = match place {
        UprobePlace::Function { name, .. } => name.clone(),
        UprobePlace::Address(address) => address.to_string(),
        UprobePlace::SourceLine { file, line, column } => {
            let column = column.map_or(String::new(), |column| format!(":{column}"));
            format!("@{file}:{line}{column}")
        }
    };
    let mut places = Vec::new();
    for (index, file) in files.paths.iter().enumerate() {
        let Some(elf) = files.read(provider, index, host)? else {
            continue;
        };
        let mut add = |shown: String, address: u64| match elf.file_offset(address) {
            Some(offset) => {
                places.push((
                    format!("{provider}:{}:{shown}", file.display()),
                    Place::Uprobe {
                        ret,
                        path: file.clone(),
                        offset,
                        usdt: None,
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
                for symbol in elf.matching(&function, language.as_deref()) {
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
            UprobePlace::SourceLine {
                file: source,
                line,
                column,
            } => {
                let Some(info) = host.debug_info(file, &invocation.options.debug_dirs) else {
                    return Err(LoadError::usage(format!(
                        "No DWARF debug info found for '{}', cannot attach by source code location.",
                        file.display()
                    )));
                };
                for missing in info.missing() {
                    warnings.push(missing_debug_file(missing, file));
                }
                let address = info
                    .line_address(source, *line, *column)
                    .map_err(|e| LoadError::usage(format!("DWARF error: {e}")))?;
                add(address.to_string(), address)?;
            }
        }
    }
    let many = files.open
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
        Some(path) if function.starts_with('@') => format!("{path}{function}"),
        Some(path) => format!("{path}:{function}"),
        None => function,
    };
    Ok(Expanded {
        shareable,
        ..Expanded::many(places, provider, &text)
    })
}

/// What is said of debug information that is only partly there.
fn missing_debug_file(name: &str, file: &Path) -> String {
    let program = file.file_stem().unwrap_or_default().to_string_lossy();
    format!(
        "Unable to find split debug file '{name}' or '{program}.dwp' for '{}', debugging information may \
         be incomplete!",
        file.display()
    )
}

fn shown_name(symbol: &ElfSymbol, language: Option<&str>) -> String {
    match language {
        Some(language) => format!("{language}:{}", symbol.name),
        None => symbol.name.clone(),
    }
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
