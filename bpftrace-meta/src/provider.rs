use serde::{Deserialize, Serialize};

use crate::ProgramKind;

/// Who provides events: the first part of an attach point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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

    /// The kind of program that its events run.
    #[must_use]
    pub fn program_kind(self) -> ProgramKind {
        match self {
            Self::Kprobe | Self::Kretprobe => ProgramKind::Kprobe,
            Self::Uprobe | Self::Uretprobe | Self::Usdt => ProgramKind::Uprobe,
            Self::Tracepoint => ProgramKind::Tracepoint,
            Self::Rawtracepoint => ProgramKind::TpBtf,
            Self::Fentry => ProgramKind::Fentry,
            Self::Fexit => ProgramKind::Fexit,
            Self::Iter => ProgramKind::Iter,
            Self::Profile | Self::Interval | Self::Software | Self::Hardware | Self::Watchpoint => {
                ProgramKind::PerfEvent
            }
            Self::Begin | Self::End | Self::SelfProbe => ProgramKind::RawTracepointRun,
            Self::Test | Self::Bench => ProgramKind::Xdp,
        }
    }

    /// What a pattern of providers may stand for: those whose events happen in processes where the
    /// attach point names a file or a process, otherwise those whose events happen in the kernel.
    #[must_use]
    pub fn of_pattern(user: bool) -> &'static [Self] {
        if user {
            &[Self::Uprobe, Self::Usdt]
        } else {
            &[
                Self::Fentry,
                Self::Hardware,
                Self::Iter,
                Self::Kprobe,
                Self::Rawtracepoint,
                Self::Software,
                Self::Tracepoint,
            ]
        }
    }
}
