//! Iterators: they run when they are read, once, and are no source of events.

use std::io::{self, Read as _};

use super::{End, Events, written};
use crate::attach::Attached;
use crate::bind::{Place, Target};
use crate::error::LoadError;
use crate::ffi::{Link, Wake};
use crate::load::Loaded;
use crate::print::{OutputKind, Sink};

/// What an attachment is at, of several places the first.
fn place_of(loaded: &Loaded, attachment: usize) -> (&Target, &Place) {
    let number = loaded.bound.attachments[attachment].targets[0];
    let target = &loaded.bound.targets[number as usize];
    (target, &target.place)
}

/// Whether anything else is attached, which runs later.
pub(super) fn are_not_all(loaded: &Loaded, attached: &Attached) -> bool {
    attached
        .links()
        .any(|(index, _)| !matches!(place_of(loaded, index).1, Place::Iter { .. }))
}

/// Reads attached iterators, or pins those that are to be pinned. `has_events`: whether other probes run too.
pub(super) fn run(
    loaded: &Loaded,
    attached: &Attached,
    has_events: bool,
    events: &mut Events<'_>,
) -> Result<Option<End>, LoadError> {
    let iterators: Vec<_> = attached
        .links()
        .filter_map(|(index, links)| match place_of(loaded, index) {
            (target, Place::Iter { pin, .. }) => Some((target, pin, links)),
            _ => None,
        })
        .collect();
    if iterators.is_empty() {
        return Ok(None);
    }
    // What `begin` prints comes first. Records of other probes may come without an end.
    let end = match has_events {
        true => events.turn(Wake::Yes, &mut |_| {})?.1,
        false => events.drain(&mut |_| {})?,
    };
    if end.is_some() {
        return Ok(end);
    }
    for (target, pin, links) in iterators {
        for link in links {
            let end = match pin {
                Some(path) => pin_to(link, path, events.sink)?,
                None => read(link, &target.name, events.sink)?,
            };
            if end.is_some() {
                return Ok(end);
            }
        }
    }
    Ok(None)
}

fn pin_to(link: &Link, path: &str, sink: &mut dyn Sink) -> Result<Option<End>, LoadError> {
    link.pin(path)
        .map_err(|e| LoadError::io(format!("Failed to pin {path}"), &e))?;
    let text = format!("Program pinned to {path}\n");
    written(sink.output(OutputKind::Printf, text.as_bytes()))
}

fn read(link: &Link, name: &str, sink: &mut dyn Sink) -> Result<Option<End>, LoadError> {
    let failed = |e| LoadError::io(format!("Failed to read {name}"), &e);
    let mut file = link.open_iterator().map_err(failed)?;
    let mut buffer = [0u8; 4096];
    loop {
        let n = match file.read(&mut buffer) {
            Ok(0) => return Ok(None),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(failed(e)),
        };
        if let Some(end) = written(sink.output(OutputKind::Printf, &buffer[..n]))? {
            return Ok(Some(end));
        }
    }
}
