use serde::{Deserialize, Serialize};

use crate::{ProviderKind, SourceRange};

/// Index of a probe in [`crate::Manifest::probes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProbeId(pub u32);

/// A piece of a text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TextPart {
    /// As written.
    Literal(String),
    /// Positional parameter (from 1), put in by the loader.
    Param(u32),
}

/// A text that may have positional parameters in it, which the loader puts in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AttachText(pub Vec<TextPart>);

impl AttachText {
    /// A text without positional parameters.
    #[must_use]
    pub fn literal(text: &str) -> Self {
        Self(vec![TextPart::Literal(text.to_owned())])
    }

    /// The text, when nothing in it has to be filled in.
    #[must_use]
    pub fn as_literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [TextPart::Literal(text)] => Some(text),
            _ => None,
        }
    }
}

/// How often a timer fires, in the unit that the script uses: probe names show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Period {
    /// So many times a second.
    Hertz(u64),
    /// Every so many seconds.
    Seconds(u64),
    /// Every so many milliseconds.
    Milliseconds(u64),
    /// Every so many microseconds.
    Microseconds(u64),
}

impl Period {
    /// Nanoseconds from one event to the next; `None` for a rate, and when they do not fit.
    #[must_use]
    pub fn nanoseconds(self) -> Option<u64> {
        match self {
            Self::Hertz(_) => None,
            Self::Seconds(n) => n.checked_mul(1_000_000_000),
            Self::Milliseconds(n) => n.checked_mul(1_000_000),
            Self::Microseconds(n) => n.checked_mul(1_000),
        }
    }
}

/// Unit and number, as probe names have it.
impl std::fmt::Display for Period {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Hertz(n) => write!(f, "hz:{n}"),
            Self::Seconds(n) => write!(f, "s:{n}"),
            Self::Milliseconds(n) => write!(f, "ms:{n}"),
            Self::Microseconds(n) => write!(f, "us:{n}"),
        }
    }
}

/// Where in an executable a user probe goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UprobePlace {
    /// A function (with wildcards) and a byte offset in it.
    Function {
        /// Name or pattern.
        name: String,
        /// `cpp` and the like: match demangled names.
        language: Option<String>,
        /// Bytes from its start.
        offset: u64,
    },
    /// A virtual address in the file.
    Address(u64),
    /// A line of source, found through DWARF.
    SourceLine {
        /// File name, as a suffix of the path in DWARF.
        file: String,
        /// Line, from 1.
        line: u32,
        /// Column, from 1.
        column: Option<u32>,
    },
}

/// One attach point; wildcards in its texts (`*`) are looked up on the target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProbeTarget {
    /// An attach point that can only be read on the target, where its positional parameters are
    /// known. It counts only if its provider turns out to be this one: there is a program for each
    /// that the text may name.
    Written {
        /// What the program was compiled for.
        provider: ProviderKind,
        /// As written, without the user's name for the probe.
        text: String,
    },
    /// `begin`: run once before anything is attached.
    Begin,
    /// `end`: run once after everything is detached.
    End,
    /// `self:signal:NAME`.
    SelfSignal(String),
    /// `test:NAME`.
    Test(String),
    /// `bench:NAME`.
    Bench(String),
    /// `interval`: a timer on one CPU.
    Interval(Period),
    /// `profile`: a timer on every CPU.
    Profile(Period),
    /// `software:EVENT:COUNT`.
    Software {
        /// Event name as written (aliases included).
        event: String,
        /// Sample period; 0: the event's default.
        count: u64,
    },
    /// `hardware:EVENT:COUNT`.
    Hardware {
        /// Event name as written (aliases included).
        event: String,
        /// Sample period; 0: the event's default.
        count: u64,
    },
    /// `tracepoint:CATEGORY:EVENT`.
    Tracepoint {
        /// Category or pattern.
        category: String,
        /// Event or pattern.
        event: String,
    },
    /// `rawtracepoint:[MODULE:]NAME`.
    RawTracepoint {
        /// Module or pattern.
        module: Option<String>,
        /// Name or pattern.
        name: String,
    },
    /// `kprobe` and `kretprobe` of a function.
    Kprobe {
        /// Whether it is a `kretprobe`.
        ret: bool,
        /// Module or pattern.
        module: Option<String>,
        /// Function or pattern.
        function: String,
        /// Bytes from its start.
        offset: u64,
    },
    /// `kprobe` of an address.
    KprobeAddress(u64),
    /// `fentry` and `fexit` of a kernel function.
    Fentry {
        /// Whether it is a `fexit`.
        exit: bool,
        /// Module or pattern.
        module: Option<String>,
        /// Function or pattern.
        function: String,
    },
    /// `fentry:bpf:…` and `fexit:bpf:…`: a BPF program.
    FentryBpf {
        /// Whether it is a `fexit`.
        exit: bool,
        /// Id of the program.
        prog_id: Option<u32>,
        /// Name or pattern.
        name: String,
    },
    /// `uprobe` and `uretprobe`.
    Uprobe {
        /// Whether it is a `uretprobe`.
        ret: bool,
        /// Executable or library, absolute or to be searched; `None`: of the traced process.
        path: Option<String>,
        /// Where in it.
        place: UprobePlace,
    },
    /// `usdt`.
    Usdt {
        /// Executable or library; `None`: of the traced process.
        path: Option<String>,
        /// Provider or pattern.
        provider: Option<String>,
        /// Name or pattern.
        name: String,
    },
    /// `watchpoint:ADDRESS:LENGTH:MODE`.
    Watchpoint {
        /// Address.
        address: u64,
        /// Length in bytes: 1, 2, 4 or 8.
        length: u8,
        /// `r`, `w`, `x` in any combination that the kernel takes.
        mode: String,
    },
    /// `iter:NAME[:PIN]`.
    Iter {
        /// Kind of iterator, as `task_file`.
        name: String,
        /// Path to pin it at, relative to `/sys/fs/bpf`.
        pin: Option<String>,
    },
}

impl ProbeTarget {
    /// Who provides its events.
    #[must_use]
    pub fn provider(&self) -> ProviderKind {
        let or_return = |ret: bool, with: ProviderKind, without| if ret { with } else { without };
        match self {
            Self::Written { provider, .. } => *provider,
            Self::Begin => ProviderKind::Begin,
            Self::End => ProviderKind::End,
            Self::SelfSignal(_) => ProviderKind::SelfProbe,
            Self::Test(_) => ProviderKind::Test,
            Self::Bench(_) => ProviderKind::Bench,
            Self::Interval(_) => ProviderKind::Interval,
            Self::Profile(_) => ProviderKind::Profile,
            Self::Software { .. } => ProviderKind::Software,
            Self::Hardware { .. } => ProviderKind::Hardware,
            Self::Tracepoint { .. } => ProviderKind::Tracepoint,
            Self::RawTracepoint { .. } => ProviderKind::Rawtracepoint,
            Self::Kprobe { ret, .. } => {
                or_return(*ret, ProviderKind::Kretprobe, ProviderKind::Kprobe)
            }
            Self::KprobeAddress(_) => ProviderKind::Kprobe,
            Self::Fentry { exit, .. } | Self::FentryBpf { exit, .. } => {
                or_return(*exit, ProviderKind::Fexit, ProviderKind::Fentry)
            }
            Self::Uprobe { ret, .. } => {
                or_return(*ret, ProviderKind::Uretprobe, ProviderKind::Uprobe)
            }
            Self::Usdt { .. } => ProviderKind::Usdt,
            Self::Watchpoint { .. } => ProviderKind::Watchpoint,
            Self::Iter { .. } => ProviderKind::Iter,
        }
    }
}

/// The kind of BPF program a probe is compiled to; what its context looks like follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ProgramKind {
    /// `begin`, `end`, `self`: raw tracepoint program run by `BPF_PROG_TEST_RUN`.
    RawTracepointRun,
    /// `test`, `bench`: XDP program run by `BPF_PROG_TEST_RUN`.
    Xdp,
    /// `interval`, `profile`, `software`, `hardware`, `watchpoint`: `bpf_perf_event_data`.
    PerfEvent,
    /// `tracepoint`: the record in the trace buffer.
    Tracepoint,
    /// `rawtracepoint`: `tp_btf`, an array of `u64` arguments.
    TpBtf,
    /// `kprobe`, `kretprobe`: `pt_regs`.
    Kprobe,
    /// `uprobe`, `uretprobe`, `usdt`: `pt_regs`.
    Uprobe,
    /// `fentry`: an array of `u64` arguments.
    Fentry,
    /// `fexit`: an array of `u64` arguments, then the return value.
    Fexit,
    /// `iter`: `bpf_iter__*`.
    Iter,
}

/// Two probes whose work one program can do, where the kernel has sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The kprobe.
    pub entry: ProbeId,
    /// The kretprobe of the same functions.
    pub ret: ProbeId,
}

/// A probe: one BPF program and the attach points it serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeMeta {
    /// Symbol of the program in the object.
    pub program: String,
    /// Kind of program.
    pub kind: ProgramKind,
    /// What to attach it to, in the order of the script.
    pub targets: Vec<ProbeTarget>,
    /// Where the script has each of them. Those that are not there are at `place`.
    pub places: Vec<SourceRange>,
    /// A program that stands in for two other probes; it has no targets of its own.
    pub session: Option<Session>,
    /// Name that the script gave the probe (`NAME=provider:…`).
    pub name: Option<String>,
    /// The attach points in the script.
    pub place: SourceRange,
    /// Instructions (index in the program) whose immediate is the number of the attached target.
    /// Only used where the kernel has no attach cookies: the loader then loads a copy of the
    /// program for each target. The numbers are the ones that [`crate::ValueLayout::ProbeName`] and
    /// the cookies carry.
    pub target_number_insns: Vec<u32>,
    /// Whether the code depends on which target fired.
    pub uses_target_number: bool,
    /// Number of instructions.
    pub n_insns: u32,
    /// Bytes of the ring buffer that one run takes at most, headers and padding of records included;
    /// `None` where the code sends from inside of a loop.
    pub sent_per_run: Option<u64>,
    /// The executable or library that layouts of types come from: the code is for this build of it only.
    pub layout: Option<UserLayout>,
    /// Whether the target is what a pattern matched where the program was compiled, which need not be on
    /// this machine. All such probes of one place come from one pattern.
    pub from_pattern: bool,
}

/// Which build of an executable or library something is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum UserBuild {
    /// Its build id.
    Id(Vec<u8>),
    /// It has no build id: a checksum of all of it (FNV-1a).
    Contents(u64),
}

impl UserBuild {
    /// The build of a file without a build id.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self::Contents(hash)
    }
}

impl std::fmt::Display for UserBuild {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Id(id) => {
                write!(f, "build id ")?;
                id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Self::Contents(sum) => write!(f, "checksum {sum:016x}"),
        }
    }
}

/// The executable or library whose types a program was compiled with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UserLayout {
    /// As the script names it.
    pub path: String,
    /// Which build of it.
    pub build: UserBuild,
}
