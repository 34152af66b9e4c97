//! Joins the object of a compiled script with other BPF objects.

use std::io;

use bpftrace_meta::{Artifact, ImportMeta};
use goblin::elf::Elf;

use crate::error::describe_errno;
use crate::ffi::{self, Linker, OpenObject};

/// Why objects cannot be joined.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// This one does not fit those before it, by its place in the list; and why, in libbpf's words.
    #[error("{1}")]
    Object(usize, String),
    /// They do not make a whole, or the machine has no room for it.
    #[error("{0}")]
    Whole(String),
}

/// Joins the object of a script with others: afterwards its functions, maps and data are in it. What the
/// manifest says of places in the object is true of the new one. `objects`: name and bytes.
///
/// # Errors
///
/// See [`LinkError`]. The artifact is then as it was.
pub fn link_objects(artifact: &mut Artifact, objects: &[(&str, &[u8])]) -> Result<(), LinkError> {
    ffi::capture_log();
    drop(ffi::take_log());
    let whole = |e: io::Error| LinkError::Whole(reason(&e));
    let mut linker = Linker::new().map_err(whole)?;
    linker.add(&artifact.object).map_err(whole)?;
    for (at, (name, object)) in objects.iter().enumerate() {
        linker
            .add(object)
            .map_err(|e| LinkError::Object(at, with_name(&reason(&e), name)))?;
    }
    let joined = linker.finish().map_err(whole)?;
    // Whether anything is missing shows when it is opened.
    if let Err(error) = OpenObject::open(&joined, None) {
        let reason = reason(&error);
        let culprit = missing(objects, &reason).or_else(|| unreadable(objects));
        return Err(culprit.unwrap_or(LinkError::Whole(reason)));
    }
    let moved = Moved::between(&artifact.object, &joined)
        .ok_or_else(|| LinkError::Whole("the joined object is malformed".to_owned()))?;
    let manifest = &mut artifact.manifest;
    let slots = manifest.slots.iter_mut().flat_map(|slot| &mut slot.sites);
    for site in slots {
        site.file_offset = moved.place(site.file_offset);
    }
    let fields = &mut manifest.tracepoint_patches;
    for site in fields.iter_mut().flat_map(|field| &mut field.sites) {
        site.file_offset = moved.place(site.file_offset);
    }
    manifest.imports = objects
        .iter()
        .map(|(path, object)| ImportMeta {
            path: (*path).to_owned(),
            symbols: symbols(object),
        })
        .collect();
    artifact.object = joined;
    Ok(())
}

/// Names of what an object has.
fn symbols(object: &[u8]) -> Vec<String> {
    let Ok(elf) = Elf::parse(object) else {
        return Vec::new();
    };
    let defined = elf.syms.iter().filter(|symbol| symbol.st_shndx != 0);
    defined
        .filter_map(|symbol| elf.strtab.get_at(symbol.st_name))
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// What libbpf said last, which names the culprit; else what the error is.
fn reason(error: &io::Error) -> String {
    let log = ffi::take_log();
    let said = log.iter().rfind(|(level, _)| *level == 0);
    match said {
        Some((_, text)) => text.trim_start_matches("libbpf: ").to_owned(),
        None => describe_errno(error),
    }
}

/// libbpf's message with the name of the object, where it calls it by its address (`mem:0x7f00+64`).
fn with_name(message: &str, name: &str) -> String {
    let Some((before, rest)) = message.split_once("mem:0x") else {
        return message.to_owned();
    };
    let after = rest.trim_start_matches(|c: char| c.is_ascii_hexdigit() || c == '+');
    let quoted = before.ends_with('\'') && after.starts_with('\'');
    let quote = if quoted { "" } else { "'" };
    format!("{before}{quote}{name}{quote}{after}")
}

/// The object that refers to what is nowhere, if that is what libbpf complains about.
fn missing(objects: &[(&str, &[u8])], complaint: &str) -> Option<LinkError> {
    objects.iter().enumerate().find_map(|(at, (_, object))| {
        let elf = Elf::parse(object).ok()?;
        let mut names = elf
            .syms
            .iter()
            .filter(|symbol| symbol.st_shndx == 0)
            .filter_map(|symbol| elf.strtab.get_at(symbol.st_name))
            .filter(|name| !name.is_empty());
        let name = names.find(|name| complaint.contains(&format!("'{name}'")))?;
        let what = format!("'{name}' is in none of the objects ({complaint})");
        Some(LinkError::Object(at, what))
    })
}

/// The object that libbpf cannot read alone either.
fn unreadable(objects: &[(&str, &[u8])]) -> Option<LinkError> {
    objects.iter().enumerate().find_map(|(at, (_, object))| {
        drop(ffi::take_log());
        let error = OpenObject::open(object, None).err()?;
        Some(LinkError::Object(at, reason(&error)))
    })
}

/// Where the sections of an object have got to: each is the start of the joined one of its name.
struct Moved {
    /// Old start, size, new start.
    sections: Vec<(u64, u64, u64)>,
}

impl Moved {
    fn between(old: &[u8], new: &[u8]) -> Option<Self> {
        let (old, new) = (Elf::parse(old).ok()?, Elf::parse(new).ok()?);
        let sections = old.section_headers.iter().filter_map(|section| {
            let name = old.shdr_strtab.get_at(section.sh_name)?;
            let to = new
                .section_headers
                .iter()
                .find(|to| new.shdr_strtab.get_at(to.sh_name) == Some(name))?;
            Some((section.sh_offset, section.sh_size, to.sh_offset))
        });
        Some(Self {
            sections: sections.collect(),
        })
    }

    fn place(&self, offset: u64) -> u64 {
        let mut sections = self.sections.iter();
        let section = sections.find(|(start, size, _)| offset >= *start && offset - *start < *size);
        section.map_or(offset, |(start, _, to)| offset - start + to)
    }
}

#[cfg(test)]
mod tests {
    use super::{Moved, with_name};

    // F013
    #[test]
    fn objects_are_called_by_their_names() {
        let named = |message| with_name(message, "a.bpf.o");
        assert_eq!(
            named("conflicting symbol in 'mem:0x7f9a+920'"),
            "conflicting symbol in 'a.bpf.o'"
        );
        assert_eq!(
            named("failed to parse .BTF from mem:0x7f9a+4184: -EINVAL"),
            "failed to parse .BTF from 'a.bpf.o': -EINVAL"
        );
        assert_eq!(named("something else"), "something else");
    }

    // F013
    #[test]
    fn places_move_with_their_sections() {
        let moved = Moved {
            sections: vec![(64, 16, 128), (80, 8, 64)],
        };
        let places = [64, 79, 80, 87, 88].map(|place| moved.place(place));
        assert_eq!(places, [128, 143, 64, 71, 88]);
    }
}
