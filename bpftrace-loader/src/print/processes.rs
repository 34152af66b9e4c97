//! Which processes are worth remembering before they end.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use bpftrace_meta::{Manifest, MapRole, MapValue, StackMode, ValueLayout};

/// Whether any value of the script is a symbol or a stack of user space.
pub(crate) fn prints_user_symbols(manifest: &Manifest) -> bool {
    let in_events = manifest.events.iter().flat_map(|event| &event.args);
    let in_maps = manifest.maps.iter().filter_map(|map| match &map.role {
        MapRole::Script { key, value, .. } => Some((key.as_ref(), value)),
        _ => None,
    });
    let mut in_maps = in_maps.flat_map(|(key, value)| match value {
        MapValue::Plain(layout) => [key, Some(layout)],
        MapValue::Aggregate(_) => [key, None],
    });
    in_events.into_iter().any(|arg| is_user_symbol(&arg.layout))
        || in_maps.any(|layout| layout.is_some_and(is_user_symbol))
}

fn is_user_symbol(layout: &ValueLayout) -> bool {
    match layout {
        ValueLayout::UserSymbol => true,
        ValueLayout::UserStack { mode, .. } => {
            matches!(mode, StackMode::Bpftrace | StackMode::Perf)
        }
        ValueLayout::Array { element, .. } => is_user_symbol(element),
        ValueLayout::Tuple { fields, .. } | ValueLayout::Record { fields, .. } => {
            fields.iter().any(|field| is_user_symbol(&field.layout))
        }
        _ => false,
    }
}

/// Running processes of programs, by the files they were started from.
pub(crate) fn processes_of(programs: &[&Path]) -> Vec<u32> {
    let file_of = |path: &Path| {
        let file = std::fs::metadata(path).ok()?;
        Some((file.dev(), file.ino()))
    };
    let wanted: Vec<_> = programs.iter().filter_map(|path| file_of(path)).collect();
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let runs_wanted = |process: &std::fs::DirEntry| {
        file_of(&process.path().join("exe")).is_some_and(|file| wanted.contains(&file))
    };
    let pid = |process: std::fs::DirEntry| process.file_name().to_str()?.parse().ok();
    processes
        .flatten()
        .filter(runs_wanted)
        .filter_map(pid)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_processes_by_their_program() {
        let exe = std::env::current_exe().expect("known");
        assert!(processes_of(&[&exe]).contains(&std::process::id()));
        assert!(processes_of(&[Path::new("/nowhere")]).is_empty());
    }
}
