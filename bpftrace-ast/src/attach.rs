//! Attach points: how their raw text splits into parts, and what the parts mean to each provider.
//!
//! [`AttachPoint`] is what the parser makes of any text. [`AttachPoint::syntax`] gives the typed view, or says what
//! is wrong. Positional parameters stay holes in the text, to be filled where the program starts; so a text that a
//! number is expected in may turn out to be a [`Number::Hole`].

mod split;
mod view;

use crate::source::Span;

/// One attach point of a probe.
#[derive(Clone, Debug, PartialEq)]
pub struct AttachPoint {
    /// The whole text.
    pub span: Span,
    /// The text as written.
    pub raw: String,
    /// The name the user gave the probe: `name=provider:...`.
    pub name: Option<String>,
    /// Who provides the events.
    pub provider: Provider,
    /// What follows the provider, split at `:` (and `@`, which is a part of its own).
    pub parts: Vec<Text>,
}

/// The first part of an attach point.
#[derive(Clone, Debug, PartialEq)]
pub struct Provider {
    /// As written, quotes removed, without the user's name for the probe.
    pub text: Text,
    /// What it names.
    pub kind: ProviderName,
}

/// What the first part of an attach point names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderName {
    /// One provider.
    Known(ProviderKind),
    /// A pattern with `*`: every provider that it matches.
    Wildcard,
    /// It has a positional parameter in it, and is known only at start.
    Hole,
    /// No provider has this name.
    Unknown,
}

/// The providers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it all")]
pub enum ProviderKind {
    Kprobe,
    Kretprobe,
    Uprobe,
    Uretprobe,
    Usdt,
    Tracepoint,
    Rawtracepoint,
    Fentry,
    Fexit,
    Iter,
    Profile,
    Interval,
    Software,
    Hardware,
    Watchpoint,
    Begin,
    End,
    SelfProbe,
    Test,
    Bench,
}

/// Name of each provider and its aliases; the first is the canonical one.
const PROVIDERS: &[(ProviderKind, &[&str])] = &[
    (ProviderKind::Kprobe, &["kprobe", "k"]),
    (ProviderKind::Kretprobe, &["kretprobe", "kr"]),
    (ProviderKind::Uprobe, &["uprobe", "u"]),
    (ProviderKind::Uretprobe, &["uretprobe", "ur"]),
    (ProviderKind::Usdt, &["usdt"]),
    (ProviderKind::Tracepoint, &["tracepoint", "t"]),
    (ProviderKind::Rawtracepoint, &["rawtracepoint", "rt"]),
    (ProviderKind::Fentry, &["fentry", "f", "kfunc"]),
    (ProviderKind::Fexit, &["fexit", "fr", "kretfunc"]),
    (ProviderKind::Iter, &["iter", "it"]),
    (ProviderKind::Profile, &["profile", "p"]),
    (ProviderKind::Interval, &["interval", "i"]),
    (ProviderKind::Software, &["software", "s"]),
    (ProviderKind::Hardware, &["hardware", "h"]),
    (ProviderKind::Watchpoint, &["watchpoint", "w"]),
    (ProviderKind::Begin, &["begin"]),
    (ProviderKind::End, &["end"]),
    (ProviderKind::SelfProbe, &["self"]),
    (ProviderKind::Test, &["test"]),
    (ProviderKind::Bench, &["bench"]),
];

impl ProviderKind {
    /// All providers.
    pub fn all() -> impl Iterator<Item = ProviderKind> {
        PROVIDERS.iter().map(|&(kind, _)| kind)
    }

    /// The canonical name, in lower case.
    pub fn as_str(self) -> &'static str {
        match PROVIDERS.iter().find(|&&(kind, _)| kind == self) {
            Some((_, names)) => names[0],
            None => "",
        }
    }

    /// The provider of a name or alias, in any case. `U` is USDT while `u` is a uprobe.
    pub fn from_name(name: &str) -> Option<ProviderKind> {
        if name == "U" {
            return Some(ProviderKind::Usdt);
        }
        PROVIDERS
            .iter()
            .find(|(_, names)| names.iter().any(|known| known.eq_ignore_ascii_case(name)))
            .map(|&(kind, _)| kind)
    }
}

/// A piece of an attach point, quotes and escapes resolved, with holes for positional parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Text {
    /// Where, quotes included.
    pub span: Span,
    /// Literal text and holes. No two literals are adjacent and none is empty; an empty text has no pieces.
    pub pieces: Vec<Piece>,
}

/// A run of literal text, or a hole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Text as it is.
    Literal(String),
    /// `$N`, N from 1 (or 0, which is always empty).
    Param(u64),
}

impl Text {
    /// The text, if it has no holes.
    pub fn as_str(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [] => Some(""),
            [Piece::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// Whether there is no text at all, not even a hole.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether a positional parameter is part of it.
    pub fn has_hole(&self) -> bool {
        self.pieces
            .iter()
            .any(|piece| matches!(piece, Piece::Param(_)))
    }

    /// Whether it has a `*`, also inside quotes. Holes may bring more at start.
    pub fn has_wildcard(&self) -> bool {
        self.pieces
            .iter()
            .any(|piece| matches!(piece, Piece::Literal(text) if text.contains('*')))
    }

    /// The text with `$N` in place of its holes.
    pub fn to_display(&self) -> String {
        self.pieces
            .iter()
            .map(|piece| match piece {
                Piece::Literal(text) => text.clone(),
                Piece::Param(number) => format!("${number}"),
            })
            .collect()
    }
}

/// A number in an attach point.
#[derive(Clone, Debug, PartialEq)]
pub enum Number {
    /// Known now.
    Known(u64),
    /// Known at start: the text has a positional parameter in it.
    Hole(Text),
}

/// What the parts of an attach point mean. Texts may hold wildcards and holes unless said otherwise.
#[derive(Clone, Debug, PartialEq)]
pub enum AttachSyntax {
    /// `kprobe:[module:]func[+offset]`, `kprobe:address`, `kretprobe:[module:]func`.
    Kprobe {
        /// `kretprobe`; has neither offset nor address.
        is_return: bool,
        /// The module.
        module: Option<Text>,
        /// Where.
        location: Location,
    },
    /// `uprobe:path:[lang:]func[+offset]`, `uprobe:path:address`, `uprobe:path@file:line[:col]`, `uretprobe:...`.
    Uprobe {
        /// `uretprobe`; has no offset.
        is_return: bool,
        /// The file; absent where it is to be that of the traced process.
        path: Option<Text>,
        /// How function names are written: `cpp`.
        lang: Option<Text>,
        /// Where.
        location: Location,
    },
    /// `usdt:[path:][namespace:]name`.
    Usdt {
        /// The file; absent where it is to be that of the traced process.
        path: Option<Text>,
        /// The provider in the file's notes.
        namespace: Option<Text>,
        /// The name of the probe.
        name: Text,
    },
    /// `tracepoint:category:event`.
    Tracepoint {
        /// The category.
        category: Text,
        /// The event.
        event: Text,
    },
    /// `rawtracepoint:[module:]name`.
    Rawtracepoint {
        /// The module.
        module: Option<Text>,
        /// The tracepoint.
        name: Text,
    },
    /// `fentry:[module:]func`, `fexit:[module:]func`.
    Fentry {
        /// `fexit`.
        is_return: bool,
        /// The module.
        module: Option<Text>,
        /// The function.
        func: Text,
    },
    /// `fentry:bpf:[id:]name`, `fexit:bpf:[id:]name`: a BPF program as target.
    FentryBpf {
        /// `fexit`.
        is_return: bool,
        /// The id of the program; absent for any.
        prog_id: Option<Number>,
        /// The name of the program.
        prog_name: Text,
    },
    /// `iter:kind[:pin]`.
    Iter {
        /// What is iterated: `task`, `task_file`.
        kind: Text,
        /// Where to pin the iterator, relative to the BPF file system.
        pin: Option<Text>,
    },
    /// `profile:unit:count`, `profile:duration`.
    Profile(Timer),
    /// `interval:unit:count`, `interval:duration`.
    Interval(Timer),
    /// `software:event[:count]`.
    Software {
        /// The event.
        event: Text,
        /// One in how many; absent for the default.
        count: Option<Number>,
    },
    /// `hardware:event[:count]`.
    Hardware {
        /// The event.
        event: Text,
        /// One in how many; absent for the default.
        count: Option<Number>,
    },
    /// `watchpoint:address:length:mode`.
    Watchpoint {
        /// The address.
        address: Number,
        /// How many bytes.
        length: Number,
        /// Letters out of `r`, `w`, `x`.
        mode: Text,
    },
    /// `begin`.
    Begin,
    /// `end`.
    End,
    /// `self:signal:NAME`.
    SelfSignal {
        /// The signal.
        signal: Text,
    },
    /// `test:name`.
    Test {
        /// The name.
        name: Text,
    },
    /// `bench:name`.
    Bench {
        /// The name.
        name: Text,
    },
}

/// A place in code.
#[derive(Clone, Debug, PartialEq)]
pub enum Location {
    /// A function, perhaps some bytes into it.
    Function {
        /// The function.
        func: Text,
        /// Bytes from its start; absent where none are written.
        offset: Option<Number>,
    },
    /// An address: in the kernel, or in the file.
    Address(u64),
    /// A line of source. The file has no wildcards.
    Source {
        /// The source file.
        file: Text,
        /// The line, from 1.
        line: Number,
        /// The column.
        col: Option<Number>,
    },
}

/// How often a timer fires.
#[derive(Clone, Debug, PartialEq)]
pub enum Timer {
    /// `hz:99`, `ms:10`.
    Rate {
        /// Hertz, or the length of a period in seconds and parts of it.
        unit: TimeUnit,
        /// How many.
        count: Number,
    },
    /// One period, in nanoseconds; a hole counts in nanoseconds too, unless it brings a suffix.
    Period(Number),
}

/// The units of timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimeUnit {
    /// Times per second.
    Hz,
    /// Seconds.
    S,
    /// Milliseconds.
    Ms,
    /// Microseconds.
    Us,
}
