//! The functions that the compiler knows by itself: one table. Those that start with `__builtin_` are what
//! the library's macros stand on; messages name them without it.

use bpftrace_ast::attach::ProviderKind as P;

/// A function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::upper_case_acronyms, reason = "named as in the language")]
pub(crate) enum Func {
    Avg,
    Bswap,
    Buf,
    Cat,
    CgroupPath,
    Cgroupid,
    Clear,
    Count,
    Debugf,
    Delete,
    DwUstack,
    Errorf,
    Exit,
    Fail,
    Find,
    Getopt,
    HasKey,
    Hist,
    IsKeyed,
    IsLiteral,
    IsScalar,
    Join,
    Kaddr,
    KfuncAllowed,
    KfuncExist,
    Kptr,
    Kstack,
    Ksym,
    Lhist,
    Macaddr,
    MapLen,
    Max,
    Memcmp,
    Min,
    Nsecs,
    Ntop,
    Override,
    Path,
    PercpuKaddr,
    Pid,
    Print,
    Printf,
    Pton,
    Reg,
    Signal,
    SignalName,
    SignalNumber,
    SkbOutput,
    SocketCookie,
    StackLen,
    Stats,
    Str,
    Strerror,
    SyscallName,
    StrConcat,
    Strftime,
    Strlen,
    Strncmp,
    Strstr,
    Sum,
    System,
    TaskFromPid,
    TaskRelease,
    Tid,
    Time,
    Tseries,
    Uaddr,
    Unwatch,
    Uptr,
    Ustack,
    Usym,
    Warnf,
    WriteUser,
    Zero,
}

/// What is known about a function without looking at its arguments.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its name.
    pub(crate) name: &'static str,
    /// Which.
    pub(crate) func: Func,
    /// Fewest arguments.
    pub(crate) min: usize,
    /// Most arguments; `MANY` for any number.
    pub(crate) max: usize,
    /// Whether it changes the system.
    pub(crate) is_unsafe: bool,
    /// Where it can be used; empty: everywhere.
    pub(crate) providers: &'static [P],
}

/// Any number of arguments.
pub(crate) const MANY: usize = usize::MAX;

const fn entry(name: &'static str, func: Func, min: usize, max: usize) -> Entry {
    Entry {
        name,
        func,
        min,
        max,
        is_unsafe: false,
        providers: &[],
    }
}

const fn only(entry: Entry, providers: &'static [P]) -> Entry {
    Entry { providers, ..entry }
}

const fn dangerous(entry: Entry) -> Entry {
    Entry {
        is_unsafe: true,
        ..entry
    }
}

const REGS: &[P] = &[
    P::Kprobe,
    P::Kretprobe,
    P::Uprobe,
    P::Uretprobe,
    P::Usdt,
    P::Profile,
    P::Interval,
    P::Software,
    P::Hardware,
    P::Watchpoint,
];
const SIGNAL: &[P] = &[
    P::Kprobe,
    P::Kretprobe,
    P::Uprobe,
    P::Uretprobe,
    P::Usdt,
    P::Tracepoint,
    P::Profile,
    P::Fentry,
    P::Fexit,
    P::Rawtracepoint,
];
const TRACING: &[P] = &[P::Fentry, P::Fexit, P::Iter];
const USER: &[P] = &[P::Uprobe, P::Uretprobe, P::Usdt];

/// All functions, sorted by name.
pub(crate) const FUNCTIONS: &[Entry] = &[
    entry("__builtin_delete", Func::Delete, 1, 2),
    entry("__builtin_find", Func::Find, 3, 3),
    entry("__builtin_has_key", Func::HasKey, 2, 2),
    entry("__builtin_is_keyed", Func::IsKeyed, 1, 1),
    entry("__builtin_is_literal", Func::IsLiteral, 1, 1),
    entry("__builtin_is_scalar", Func::IsScalar, 1, 1),
    entry("__builtin_kfunc_allowed", Func::KfuncAllowed, 1, 1),
    entry("__builtin_kfunc_exist", Func::KfuncExist, 1, 1),
    entry("__builtin_map_len", Func::MapLen, 1, 1),
    entry("__builtin_memcmp", Func::Memcmp, 3, 3),
    dangerous(only(
        entry("__builtin_override", Func::Override, 1, 1),
        &[P::Kprobe],
    )),
    dangerous(only(entry("__builtin_signal", Func::Signal, 2, 2), SIGNAL)),
    entry("__builtin_signal_name", Func::SignalName, 1, 1),
    entry("__builtin_signal_number", Func::SignalNumber, 1, 1),
    entry("__builtin_stack_len", Func::StackLen, 1, 1),
    entry("__builtin_str_concat", Func::StrConcat, 2, 2),
    entry("__builtin_strerror", Func::Strerror, 1, 1),
    entry("__builtin_strlen", Func::Strlen, 1, 1),
    entry("__builtin_strstr", Func::Strstr, 2, 2),
    entry("__builtin_syscall_name", Func::SyscallName, 1, 1),
    entry("__builtin_task_from_pid", Func::TaskFromPid, 1, 1),
    entry("__builtin_task_release", Func::TaskRelease, 1, 1),
    only(entry("__builtin_uaddr", Func::Uaddr, 1, 1), USER),
    dangerous(entry("__builtin_write_user", Func::WriteUser, 3, 3)),
    entry("avg", Func::Avg, 1, 1),
    entry("bswap", Func::Bswap, 1, 1),
    entry("buf", Func::Buf, 1, 2),
    entry("cat", Func::Cat, 1, MANY),
    entry("cgroup_path", Func::CgroupPath, 1, 2),
    entry("cgroupid", Func::Cgroupid, 1, 1),
    entry("clear", Func::Clear, 1, 1),
    entry("count", Func::Count, 0, 0),
    entry("debugf", Func::Debugf, 1, MANY),
    entry("dw_ustack", Func::DwUstack, 0, 2),
    entry("errorf", Func::Errorf, 1, MANY),
    entry("exit", Func::Exit, 0, 1),
    entry("fail", Func::Fail, 1, MANY),
    entry("getopt", Func::Getopt, 1, 3),
    entry("hist", Func::Hist, 1, 2),
    entry("is_scalar", Func::IsScalar, 1, 1),
    entry("join", Func::Join, 1, 2),
    entry("kaddr", Func::Kaddr, 1, 1),
    entry("kptr", Func::Kptr, 1, 1),
    entry("kstack", Func::Kstack, 0, 2),
    entry("ksym", Func::Ksym, 1, 1),
    entry("lhist", Func::Lhist, 4, 4),
    entry("macaddr", Func::Macaddr, 1, 1),
    entry("max", Func::Max, 1, 1),
    entry("min", Func::Min, 1, 1),
    entry("nsecs", Func::Nsecs, 0, 1),
    entry("ntop", Func::Ntop, 1, 2),
    only(entry("path", Func::Path, 1, 2), TRACING),
    entry("percpu_kaddr", Func::PercpuKaddr, 1, 2),
    entry("pid", Func::Pid, 0, 1),
    entry("print", Func::Print, 1, 3),
    entry("printf", Func::Printf, 1, MANY),
    entry("pton", Func::Pton, 1, 1),
    only(entry("reg", Func::Reg, 1, 1), REGS),
    only(
        entry("skboutput", Func::SkbOutput, 4, 4),
        &[P::Fentry, P::Fexit, P::Rawtracepoint],
    ),
    only(
        entry("socket_cookie", Func::SocketCookie, 1, 1),
        &[P::Fentry, P::Fexit, P::Rawtracepoint, P::Iter],
    ),
    entry("stats", Func::Stats, 1, 1),
    entry("str", Func::Str, 1, 2),
    entry("strftime", Func::Strftime, 2, 2),
    entry("strncmp", Func::Strncmp, 3, 3),
    entry("sum", Func::Sum, 1, 1),
    dangerous(entry("system", Func::System, 1, MANY)),
    entry("tid", Func::Tid, 0, 1),
    entry("time", Func::Time, 0, 1),
    entry("tseries", Func::Tseries, 3, 4),
    only(entry("unwatch", Func::Unwatch, 1, 1), &[P::Watchpoint]),
    entry("uptr", Func::Uptr, 1, 1),
    entry("ustack", Func::Ustack, 0, 2),
    entry("usym", Func::Usym, 1, 1),
    entry("warnf", Func::Warnf, 1, MANY),
    entry("zero", Func::Zero, 1, 1),
];

/// What marks the functions and builtins that are for the library.
pub(crate) const INTERNAL: &str = "__builtin_";

impl Entry {
    /// The name that messages give it.
    pub(crate) fn shown(&self) -> &'static str {
        shown(self.name)
    }
}

/// The name that messages give a function.
pub(crate) fn shown(name: &str) -> &str {
    name.strip_prefix(INTERNAL).unwrap_or(name)
}

/// The function of a name.
pub(crate) fn find_function(name: &str) -> Option<&'static Entry> {
    FUNCTIONS
        .binary_search_by_key(&name, |entry| entry.name)
        .ok()
        .map(|at| &FUNCTIONS[at])
}

/// What is wrong with a number of arguments.
pub(crate) fn count_error(entry: &Entry, given: usize) -> Option<String> {
    let Entry { min, max, .. } = *entry;
    let name = entry.shown();
    if (min..=max).contains(&given) {
        return None;
    }
    let number = |n: usize| match n {
        1 => "one argument".to_owned(),
        n => format!("{n} arguments"),
    };
    Some(if max == 0 {
        format!("{name}() requires no arguments ({given} provided)")
    } else if min == max {
        format!("{name}() requires {} ({given} provided)", number(min))
    } else if given < min {
        format!(
            "{name}() requires at least {} ({given} provided)",
            number(min)
        )
    } else {
        format!("{name}() takes up to {} ({given} provided)", number(max))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_so_that_it_can_be_searched() {
        assert!(FUNCTIONS.is_sorted_by_key(|entry| entry.name));
        for entry in FUNCTIONS {
            assert_eq!(find_function(entry.name).map(|e| e.func), Some(entry.func));
        }
    }

    #[test]
    fn wrong_counts_are_worded_by_what_is_allowed() {
        let message = |name: &str, given| count_error(find_function(name).expect("known"), given);
        assert_eq!(
            message("count", 1).as_deref(),
            Some("count() requires no arguments (1 provided)")
        );
        assert_eq!(
            message("sum", 0).as_deref(),
            Some("sum() requires one argument (0 provided)")
        );
        assert_eq!(
            message("lhist", 2).as_deref(),
            Some("lhist() requires 4 arguments (2 provided)")
        );
        assert_eq!(
            message("str", 0).as_deref(),
            Some("str() requires at least one argument (0 provided)")
        );
        assert_eq!(
            message("exit", 2).as_deref(),
            Some("exit() takes up to one argument (2 provided)")
        );
        assert_eq!(message("str", 2), None);
    }
}
