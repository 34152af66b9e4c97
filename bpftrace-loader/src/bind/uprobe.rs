use std::path::Path;

use bpftrace_meta::{Feature, UprobePlace};

use super::expand::{Expanded, is_pattern};
use super::slots::has_feature;
use super::{Invocation, Place, user_files};
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
    let files = user_files::find(provider, path, invocation, warnings, host)?;
    let function = match place {
        UprobePlace::Function { name, .. } => name.clone(),
        UprobePlace::Address(address) => address.to_string(),
        UprobePlace::SourceLine { file, line, column } => {
            let column = column.map_or(String::new(), |column| format!(":{column}"));
            format!("@{file}:{line}{column}")
        }
    };
    let many = files.open
        || is_pattern(&function)
        || matches!(
            place,
            UprobePlace::Function {
                language: Some(_),
                ..
            }
        );
    let unsafe_mode = invocation.options.unsafe_mode;
    let mut places = Vec::new();
    let mut refused = Vec::new();
    for (index, file) in files.paths.iter().enumerate() {
        let Some(elf) = files.read(provider, index, unsafe_mode, host)? else {
            continue;
        };
        let mut add = |shown: String, address: u64, checked: Result<(), LoadError>| {
            let name = format!("{provider}:{}:{shown}", file.display());
            // Who forces an attachment knows where the bytes are.
            let anywhere = unsafe_mode.then_some(address);
            match (checked, elf.file_offset(address).or(anywhere)) {
                (Ok(()), Some(offset)) => {
                    let path = file.clone();
                    let usdt = None;
                    places.push((
                        name,
                        Place::Uprobe {
                            ret,
                            path,
                            offset,
                            usdt,
                        },
                    ));
                }
                (Ok(()), None) => refused.push((name, no_such_address(file, address))),
                (Err(error), _) => refused.push((name, error)),
            }
        };
        match place {
            UprobePlace::Address(address) => {
                let checked = check_address(ret, file, &elf, *address, invocation, warnings, host);
                add(address.to_string(), *address, checked);
            }
            UprobePlace::Function {
                language, offset, ..
            } => {
                for symbol in elf.matching(&function, language.as_deref()) {
                    let shown = shown_name(symbol, language.as_deref());
                    let place = InFunction {
                        ret,
                        file,
                        elf: &elf,
                        symbol,
                        offset: *offset,
                    };
                    let (shown, checked) = match *offset {
                        // What a pattern matches is taken as it is.
                        0 if many => (shown, Ok(())),
                        0 => (shown, place.check(invocation, warnings, host)),
                        _ => (
                            format!("{shown}+{offset}"),
                            place.check(invocation, warnings, host),
                        ),
                    };
                    add(shown, symbol.address.wrapping_add(*offset), checked);
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
                let checked = check_address(ret, file, &elf, address, invocation, warnings, host);
                add(address.to_string(), address, checked);
            }
        }
    }
    let shareable = many && has_feature(Feature::UprobeMulti, invocation, host);
    let written = match place {
        UprobePlace::Function {
            language: Some(language),
            ..
        } => format!("{language}:{function}"),
        _ => function.clone(),
    };
    let text = match path {
        Some(path) if function.starts_with('@') => format!("{path}{function}"),
        Some(path) => match files.paths.as_slice() {
            // Found by its name.
            [file] if !path.contains('/') && !files.open => {
                format!("{}:{function}", file.display())
            }
            _ => format!("{path}:{function}"),
        },
        None => match files.paths.first() {
            Some(file) => format!("{}:{function}", file.display()),
            None => function,
        },
    };
    Ok(Expanded {
        shareable,
        text: written,
        refused,
        pattern: many,
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

fn no_such_address(file: &Path, address: u64) -> LoadError {
    LoadError::host(format!(
        "Could not resolve address: {}:{address:#x}",
        file.display()
    ))
}

/// What somebody may do who knows better.
const HINT_UNSAFE: &str = "Use --unsafe to force attachment. WARNING: This option could lead to data \
                           corruption in the target process.";

/// An offset in a function of a file.
struct InFunction<'a> {
    ret: bool,
    file: &'a Path,
    elf: &'a ElfFile,
    symbol: &'a ElfSymbol,
    offset: u64,
}

impl InFunction<'_> {
    /// Refuses what is not the start of an instruction.
    fn check(
        &self,
        invocation: &Invocation<'_>,
        warnings: &mut Vec<String>,
        host: &dyn Host,
    ) -> Result<(), LoadError> {
        let unsafe_mode = invocation.options.unsafe_mode;
        let provider = if self.ret { "uretprobe" } else { "uprobe" };
        let ElfSymbol {
            name,
            size,
            address,
        } = self.symbol;
        let offset = self.offset;
        if self.ret && offset != 0 {
            return Err(LoadError::host(format!(
                "uretprobes cannot be attached at function offset. (address resolved to: \
                 {name}+{offset})"
            )));
        }
        if *size == 0 && offset == 0 {
            if unsafe_mode {
                return Ok(());
            }
            return Err(LoadError::host(format!(
                "Could not determine boundary for {name} (symbol has size 0)."
            ))
            .note(HINT_UNSAFE));
        }
        if offset >= *size {
            return Err(LoadError::host(format!(
                "Offset outside the function bounds ('{name}' size is {size})"
            )));
        }
        let Some(start) = self.elf.file_offset(*address).filter(|_| offset != 0) else {
            return Ok(());
        };
        let aligned = host
            .is_instruction(self.file, start, offset)
            .map_err(|e| LoadError::io(format!("Failed to read '{}'", self.file.display()), &e))?;
        let place = format!("{}:{name}+{offset}", self.file.display());
        let (wrong, warning) = match aligned {
            Some(true) => return Ok(()),
            Some(false) => (
                format!("Could not add {provider} into middle of instruction: {place}"),
                format!("Unsafe {provider} in the middle of the instruction: {place}"),
            ),
            None => (
                format!("Failed to check if {provider} is in proper place: {place}"),
                format!("Unchecked {provider}: {place}"),
            ),
        };
        if unsafe_mode {
            warnings.push(warning);
            return Ok(());
        }
        Err(LoadError::host(wrong).note(HINT_UNSAFE))
    }
}

/// Refuses addresses that are not the start of an instruction.
fn check_address(
    ret: bool,
    file: &Path,
    elf: &ElfFile,
    address: u64,
    invocation: &Invocation<'_>,
    warnings: &mut Vec<String>,
    host: &dyn Host,
) -> Result<(), LoadError> {
    let provider = if ret { "uretprobe" } else { "uprobe" };
    let Some(symbol) = elf.symbol_at(address) else {
        if invocation.options.unsafe_mode {
            warnings.push(format!(
                "Could not determine instruction boundary for {provider}:{}:{address} (binary appears \
                 stripped). Misaligned probes can lead to tracee crashes!",
                file.display()
            ));
            return Ok(());
        }
        return Err(no_such_address(file, address));
    };
    let place = InFunction {
        ret,
        file,
        elf,
        symbol,
        offset: address - symbol.address,
    };
    place.check(invocation, warnings, host)
}
