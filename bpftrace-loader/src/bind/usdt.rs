//! Where the probes of a `usdt` attach point are.

use bpftrace_meta::{Feature, UsdtArg, wildcard_match};

use super::expand::Expanded;
use super::slots::has_feature;
use super::{Invocation, Place, usdt_args, user_files};
use crate::error::LoadError;
use crate::host::Host;

/// What a USDT probe has beside the place of a uprobe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UsdtSite {
    /// Byte offset in the file of the semaphore, which the kernel counts up while the probe is
    /// attached; 0: none.
    pub(crate) semaphore: u64,
    /// Where the arguments are; those that cannot be read as the note has them.
    pub(crate) arguments: Vec<Result<UsdtArg, String>>,
}

/// Finds the targets of a `usdt` attach point: every place of every probe that matches.
pub(super) fn usdts(
    path: Option<&str>,
    provider: Option<&str>,
    name: &str,
    invocation: &Invocation<'_>,
    warnings: &mut Vec<String>,
    host: &dyn Host,
) -> Result<Expanded, LoadError> {
    if path.is_none() && provider.is_none() && invocation.traced_pid().is_none() {
        return Err(user_files::no_path("usdt"));
    }
    let files = user_files::find("usdt", path, invocation, warnings, host)?;
    let provider = provider.filter(|provider| !provider.is_empty());
    let mut places = Vec::new();
    for (index, file) in files.paths.iter().enumerate() {
        let Some(elf) = files.read("usdt", index, false, host)? else {
            continue;
        };
        for note in &elf.usdt {
            if !provider.is_none_or(|pattern| wildcard_match(pattern, &note.provider))
                || !wildcard_match(name, &note.name)
            {
                continue;
            }
            let shown = format!("usdt:{}:{}:{}", file.display(), note.provider, note.name);
            let Some(offset) = elf.file_offset(note.address) else {
                return Err(LoadError::usage(format!(
                    "Could not resolve address: {}:{:#x}",
                    file.display(),
                    note.address
                ))
                .hint(format!(
                    "the note of {shown} names it; the file may be damaged"
                )));
            };
            let semaphore = match note.semaphore {
                0 => 0,
                address => elf.file_offset(address).ok_or_else(|| {
                    LoadError::usage(format!(
                        "the semaphore of {shown} is at {address:#x}, which is nowhere in the file"
                    ))
                })?,
            };
            let symbol = |name: &str| elf.object_named(name).map(|symbol| symbol.address);
            let context = usdt_args::ArgContext {
                address: note.address,
                symbol: &symbol,
            };
            let site = UsdtSite {
                semaphore,
                arguments: usdt_args::parse(&note.arguments, &context),
            };
            let place = Place::Uprobe {
                ret: false,
                path: file.clone(),
                offset,
                usdt: Some(site),
            };
            // A note that is there twice is one probe.
            if !places.contains(&(shown.clone(), place.clone())) {
                places.push((shown, place));
            }
        }
    }
    // The places of one probe are neighbours, whatever lies between them in the file.
    places.sort_by(|(a, _): &(String, Place), (b, _)| a.cmp(b));
    let mut text = String::new();
    for part in [path, provider].into_iter().flatten() {
        text.push_str(part);
        text.push(':');
    }
    text.push_str(name);
    let shareable = places.len() > 1 && has_feature(Feature::UprobeMulti, invocation, host);
    let found = Expanded::many(places, "usdt", &text);
    Ok(Expanded {
        shareable,
        // Any provider may have it.
        pattern: found.pattern || provider.is_none() || invocation.options.pid.is_some(),
        ..found
    })
}
