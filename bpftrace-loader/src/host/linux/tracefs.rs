use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::ffi;

/// Where tracefs is: mounted by the system, or else by us, where only this process sees it.
#[must_use]
pub fn tracefs() -> Option<&'static Path> {
    struct Tracefs {
        path: PathBuf,
        /// Open for as long as we are.
        _mounted: Option<OwnedFd>,
    }
    static TRACEFS: OnceLock<Option<Tracefs>> = OnceLock::new();
    let found = TRACEFS.get_or_init(|| {
        let mounted = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
            .into_iter()
            .map(PathBuf::from)
            .find(|path| path.join("events").exists());
        if let Some(path) = mounted {
            return Some(Tracefs {
                path,
                _mounted: None,
            });
        }
        let mounted = ffi::mount_detached(c"tracefs").ok()?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", mounted.as_raw_fd()));
        path.join("events").exists().then_some(Tracefs {
            path,
            _mounted: Some(mounted),
        })
    });
    found.as_ref().map(|tracefs| tracefs.path.as_path())
}

/// A file of an event; `None` when there is no such event.
pub(super) fn event_file(
    tracefs: &Path,
    category: &str,
    event: &str,
    file: &str,
) -> io::Result<Option<String>> {
    // Names come from the script: they must not lead out of the directory.
    if [category, event]
        .iter()
        .any(|part| part.is_empty() || part.contains('/') || part.starts_with('.'))
    {
        return Ok(None);
    }
    match fs::read_to_string(tracefs.join("events").join(category).join(event).join(file)) {
        Ok(text) => Ok(Some(text)),
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

/// Category and name of all events.
pub(super) fn tracepoints(tracefs: &Path) -> io::Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    // One file, where it can be read, in place of some hundred directories.
    if let Ok(text) = fs::read_to_string(tracefs.join("available_events")) {
        all.extend(
            text.lines()
                .filter_map(|line| line.split_once(':'))
                .map(|(category, event)| (category.to_owned(), event.to_owned())),
        );
    } else {
        for category in fs::read_dir(tracefs.join("events"))? {
            let category = category?;
            if !category.file_type()?.is_dir() {
                continue;
            }
            for event in fs::read_dir(category.path())? {
                let event = event?;
                if event.file_type()?.is_dir() {
                    all.push((
                        category.file_name().to_string_lossy().into_owned(),
                        event.file_name().to_string_lossy().into_owned(),
                    ));
                }
            }
        }
    }
    all.sort_unstable();
    Ok(all)
}
