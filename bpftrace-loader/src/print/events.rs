//! What to do about each kind of record, prepared once for a manifest.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus};

use bpftrace_meta::{
    ArgLayout, EventKind, EventMeta, MapId, RuntimeError, SourceRange, ValueLayout,
};

use super::format::Format;
use super::number;
use super::value::tail;

/// An event of the manifest, ready to be handled.
pub(crate) struct Event {
    pub(crate) kind: Kind,
    pub(crate) place: SourceRange,
    pub(crate) expanded_from: Vec<SourceRange>,
    /// Fewest bytes of a record.
    pub(crate) size: usize,
}

/// What to do.
pub(crate) enum Kind {
    Printf(Format),
    Errorf(Format),
    Warnf(Format),
    System(Format),
    Cat(Format),
    PrintValue(ArgLayout),
    PrintMap {
        map: MapId,
        top: u64,
        div: u64,
    },
    ClearMap(MapId),
    ZeroMap(MapId),
    Exit(Option<ArgLayout>),
    Time(String),
    Join {
        list: ArgLayout,
        separator: String,
    },
    SkbOutput {
        path: String,
        /// Bytes at the start of the packet that are left out.
        skip: u64,
        time: ArgLayout,
        len: ArgLayout,
    },
    Unwatch(ArgLayout),
    DivideByZero,
    ArrayOutOfBounds,
    NoUnwindTables,
    HelperFailed {
        helper: String,
        retcode: Option<ArgLayout>,
    },
    /// The manifest lacks an argument that the event needs: its records are malformed.
    Malformed,
}

impl Event {
    pub(crate) fn new(meta: &EventMeta) -> Self {
        let ends = meta
            .args
            .iter()
            .map(|arg| arg.offset as usize + arg.layout.size() as usize);
        // A record carries at least its number.
        let size = ends.max().unwrap_or(0).max(meta.size as usize).max(8);
        Self {
            kind: Kind::new(meta),
            place: meta.place,
            expanded_from: meta.expanded_from.clone(),
            size,
        }
    }
}

impl Kind {
    fn new(meta: &EventMeta) -> Self {
        let format = |pieces| Format::new(pieces, &meta.args);
        let arg = |index: usize| meta.args.get(index).cloned();
        let needed = |kind: Option<Self>| kind.unwrap_or(Self::Malformed);
        match &meta.kind {
            EventKind::Printf(pieces) => Self::Printf(format(pieces)),
            EventKind::Errorf(pieces) => Self::Errorf(format(pieces)),
            EventKind::Warnf(pieces) => Self::Warnf(format(pieces)),
            EventKind::System(pieces) => Self::System(format(pieces)),
            EventKind::Cat(pieces) => Self::Cat(format(pieces)),
            EventKind::PrintValue => needed(arg(0).map(Self::PrintValue)),
            EventKind::PrintMap { map, top, div } => Self::PrintMap {
                map: *map,
                top: *top,
                div: *div,
            },
            EventKind::ClearMap(map) => Self::ClearMap(*map),
            EventKind::ZeroMap(map) => Self::ZeroMap(*map),
            EventKind::Exit => Self::Exit(arg(0)),
            EventKind::Time(format) => Self::Time(format.clone()),
            EventKind::Join { separator } => needed(arg(0).map(|list| Self::Join {
                list,
                separator: separator.clone(),
            })),
            EventKind::SkbOutput { path, skip } => {
                needed(arg(0).zip(arg(1)).map(|(time, len)| Self::SkbOutput {
                    path: path.clone(),
                    skip: *skip,
                    time,
                    len,
                }))
            }
            EventKind::Unwatch => needed(arg(0).map(Self::Unwatch)),
            EventKind::RuntimeError(RuntimeError::DivideByZero) => Self::DivideByZero,
            EventKind::RuntimeError(RuntimeError::ArrayOutOfBounds) => Self::ArrayOutOfBounds,
            EventKind::RuntimeError(RuntimeError::NoUnwindTables) => Self::NoUnwindTables,
            EventKind::RuntimeError(RuntimeError::HelperFailed(failure)) => Self::HelperFailed {
                helper: failure.helper.clone(),
                retcode: arg(0),
            },
        }
    }
}

/// The integer of an argument.
pub(crate) fn read_integer(arg: &ArgLayout, record: &[u8]) -> i64 {
    let size = u8::try_from(arg.layout.size()).unwrap_or(8).min(8);
    let bits = number::read(record, arg.offset as usize, size);
    match arg.layout {
        ValueLayout::Int { signed: true, .. } | ValueLayout::Enum { signed: true, .. } => {
            number::sign_extend(bits, size)
        }
        _ => bits.cast_signed(),
    }
}

/// Appends strings of a list until the first empty one, with a separator between.
pub(crate) fn write_joined(list: &ArgLayout, separator: &str, record: &[u8], out: &mut Vec<u8>) {
    let ValueLayout::Array { count, stride, .. } = list.layout else {
        return;
    };
    let list = tail(record, list.offset as usize);
    let strings = list.chunks(stride.max(1) as usize).take(count as usize);
    for (index, string) in strings.enumerate() {
        let end = string.iter().position(|byte| *byte == 0);
        let string = &string[..end.unwrap_or(string.len())];
        if string.is_empty() {
            break;
        }
        if index > 0 {
            out.extend_from_slice(separator.as_bytes());
        }
        out.extend_from_slice(string);
    }
}

/// Message about a failed helper.
pub(crate) fn helper_message(helper: &str, retcode: i64) -> String {
    let errno = i32::try_from(retcode.unsigned_abs()).unwrap_or(0);
    match helper {
        "map_update_elem" if errno == libc::E2BIG => {
            "Map full; can't update element. Try increasing max_map_keys config or manually setting \
             the max entries in a map declaration e.g. `let @a = hash(5000)`"
                .to_owned()
        }
        "map_delete_elem" if errno == libc::ENOENT => {
            "Can't delete map element because it does not exist.".to_owned()
        }
        "map_lookup_elem" => "Can't lookup map element because it does not exist.".to_owned(),
        _ => error_text(retcode),
    }
}

/// The C library's text for the error that a helper returned.
pub(crate) fn error_text(retcode: i64) -> String {
    let errno = i32::try_from(retcode.unsigned_abs()).unwrap_or(0);
    reason(&io::Error::from_raw_os_error(errno))
}

/// The text of an error, without the number that the standard library appends.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match (error.raw_os_error(), text.rfind(" (os error ")) {
        (Some(_), Some(end)) => text[..end].to_owned(),
        _ => text,
    }
}

/// Appends up to `limit` bytes of a file.
pub(crate) fn read_file(path: &[u8], limit: u64, out: &mut Vec<u8>) -> io::Result<()> {
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    File::open(path)?.take(limit).read_to_end(out)?;
    Ok(())
}

/// Appends what a shell command writes, to standard output or standard error; gives how it ended.
pub(crate) fn run_shell(command: &[u8], out: &mut Vec<u8>) -> io::Result<ExitStatus> {
    let (mut output, end) = io::pipe()?;
    let mut child = Command::new("sh")
        .arg("-c")
        .arg(std::ffi::OsStr::from_bytes(command))
        .stdout(end.try_clone()?)
        .stderr(end)
        .spawn()?;
    output.read_to_end(out)?;
    child.wait()
}

/// What there is to say about a shell command that failed.
pub(crate) fn shell_failure(status: ExitStatus) -> Option<String> {
    match (status.code(), status.signal()) {
        (Some(0), _) => None,
        (Some(code), _) => Some(format!("command exited with code {code}")),
        (None, Some(signal)) => Some(format!("command was killed by signal {signal}")),
        (None, None) => Some("command did not end normally".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_helpers() {
        for (helper, retcode, expected) in [
            (
                "map_update_elem",
                -7,
                "Map full; can't update element. Try increasing max_map_keys config or manually \
                 setting the max entries in a map declaration e.g. `let @a = hash(5000)`",
            ),
            (
                "map_delete_elem",
                -2,
                "Can't delete map element because it does not exist.",
            ),
            (
                "map_lookup_elem",
                0,
                "Can't lookup map element because it does not exist.",
            ),
            ("probe_read_user", -14, "Bad address"),
            ("map_delete_elem", -14, "Bad address"),
        ] {
            assert_eq!(helper_message(helper, retcode), expected);
        }
    }

    #[test]
    fn all_that_a_command_writes_is_output_and_its_failure_is_told() {
        let run = |command: &str| {
            let mut out = Vec::new();
            let status = run_shell(command.as_bytes(), &mut out).expect("runs");
            (String::from_utf8(out).expect("text"), shell_failure(status))
        };
        assert_eq!(run("echo a; echo b >&2"), ("a\nb\n".to_owned(), None));
        let failed = "command exited with code 3".to_owned();
        assert_eq!(run("echo a; exit 3"), ("a\n".to_owned(), Some(failed)));
        let killed = "command was killed by signal 9".to_owned();
        assert_eq!(run("kill -9 $$"), (String::new(), Some(killed)));
    }

    #[test]
    fn lists_end_at_an_empty_string() {
        let list = |count| ArgLayout {
            offset: 8,
            layout: ValueLayout::Array {
                element: Box::new(ValueLayout::Str { size: 4 }),
                count,
                stride: 4,
            },
        };
        let record = b"12345678ab\0\0cdef\0xyzgh\0\0";
        for (count, separator, expected) in [(4, " ", "ab cdef"), (1, " ", "ab"), (4, "", "abcdef")]
        {
            let mut out = Vec::new();
            write_joined(&list(count), separator, record, &mut out);
            assert_eq!(out, expected.as_bytes());
        }
        let mut out = Vec::new();
        write_joined(&list(4), " ", b"1234", &mut out);
        assert_eq!(out, b"");
    }
}
