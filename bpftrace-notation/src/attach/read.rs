//! What the parts of an attach point mean to its provider.

use bpftrace_meta::{
    HARDWARE_EVENTS, PerfEvent, Period, ProbeTarget, ProviderKind, SOFTWARE_EVENTS, UprobePlace,
};

use super::{AttachPoint, ProviderName, Text, Wrong};
use crate::integer::parse_uint;

/// The shortest period of a timer, in nanoseconds.
const MIN_PERIOD: u64 = 1000;

/// What reading has to know beside the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Whether a process is going to be traced: uprobes and USDT probes need no path then.
    pub process_given: bool,
    /// Whether unsafe probes are allowed.
    pub unsafe_mode: bool,
}

impl AttachPoint {
    /// The provider, when the text names just one.
    ///
    /// # Errors
    ///
    /// What is wrong with the name, if it names none; a pattern or a hole is not one.
    pub fn known_provider(&self) -> Result<ProviderKind, Wrong> {
        let written = self.provider.to_display();
        match self.provider_name() {
            ProviderName::Known(kind) => Ok(kind),
            ProviderName::Wildcard => Err(format!("No probe type matched for {written}").into()),
            ProviderName::Unknown if written.is_empty() => Err("No attach points for probe".into()),
            ProviderName::Unknown | ProviderName::Hole => {
                Err(format!("Invalid probe type: {written}").into())
            }
        }
    }

    /// What the parts mean to a provider: the written one, or one of those that a pattern stands
    /// for.
    ///
    /// # Errors
    ///
    /// What is wrong, in the order of the text. An attach point with holes has to be filled first:
    /// its holes count as empty.
    pub fn read(&self, provider: ProviderKind, how: Reading) -> Result<ProbeTarget, Vec<Wrong>> {
        let reader = Reader {
            provider,
            parts: self.parts.iter().map(known_text).collect(),
            how,
        };
        let mut complaints = Vec::new();
        match reader.read(&mut complaints) {
            Ok(target) if complaints.is_empty() => Ok(target),
            Ok(_) => Err(complaints),
            Err(wrong) => {
                complaints.push(wrong);
                Err(complaints)
            }
        }
    }
}

fn known_text(text: &Text) -> String {
    text.as_str().unwrap_or("").to_owned()
}

struct Reader {
    provider: ProviderKind,
    parts: Vec<String>,
    how: Reading,
}

/// The value, or what is wrong. What does not stop reading goes to a list of complaints instead.
type Read<T> = Result<T, Wrong>;

impl Reader {
    fn read(&self, complaints: &mut Vec<Wrong>) -> Read<ProbeTarget> {
        let parts: Vec<&str> = self.parts.iter().map(String::as_str).collect();
        let parts = parts.as_slice();
        match self.provider {
            ProviderKind::Kprobe => self.kprobe(parts, false),
            ProviderKind::Kretprobe => self.kprobe(parts, true),
            ProviderKind::Uprobe => self.uprobe(parts, false, complaints),
            ProviderKind::Uretprobe => self.uprobe(parts, true, complaints),
            ProviderKind::Usdt => self.usdt(parts),
            ProviderKind::Tracepoint => self.tracepoint(parts),
            ProviderKind::Rawtracepoint => self.rawtracepoint(parts),
            ProviderKind::Fentry => self.fentry(parts, false),
            ProviderKind::Fexit => self.fentry(parts, true),
            ProviderKind::Iter => iter(parts),
            ProviderKind::Profile => Ok(ProbeTarget::Profile(self.timer(parts, complaints)?)),
            ProviderKind::Interval => Ok(ProbeTarget::Interval(self.timer(parts, complaints)?)),
            ProviderKind::Software | ProviderKind::Hardware => self.perf_event(parts),
            ProviderKind::Watchpoint => self.watchpoint(parts, complaints),
            ProviderKind::Begin | ProviderKind::End => self.begin_or_end(parts),
            ProviderKind::SelfProbe => self.self_signal(parts),
            ProviderKind::Test | ProviderKind::Bench => self.test_or_bench(parts),
        }
    }

    fn wrong_count<T>(&self, expected: &str) -> Read<T> {
        Err(format!(
            "{} probe type requires {expected} arguments, found {}",
            self.provider.as_str(),
            self.parts.len()
        )
        .into())
    }

    fn kprobe(&self, parts: &[&str], ret: bool) -> Read<ProbeTarget> {
        let (module, target) = match parts {
            [target] => (None, *target),
            [module, target] => (Some(*module), *target),
            _ => return self.wrong_count("1 or 2"),
        };
        match code_location(target, !ret)? {
            CodeLocation::Function { name: "", .. } => {
                Err("kprobes should be attached to a function or an address".into())
            }
            CodeLocation::Function { name, offset } => Ok(ProbeTarget::Kprobe {
                ret,
                module: not_empty(module),
                function: name.to_owned(),
                offset,
            }),
            CodeLocation::Address(_) if !self.how.unsafe_mode => Err(Wrong {
                needs_unsafe: true,
                ..Wrong::from("Probing by address requires --unsafe")
            }),
            CodeLocation::Address(_) if ret => {
                Err("kretprobes should be attached to a function".into())
            }
            CodeLocation::Address(address) => Ok(ProbeTarget::KprobeAddress(address)),
        }
    }

    fn uprobe(&self, parts: &[&str], ret: bool, complaints: &mut Vec<Wrong>) -> Read<ProbeTarget> {
        if let [path, "@", place @ ..] = parts {
            return source_uprobe(ret, path, place);
        }
        let (path, lang, target) = match parts {
            [target] if self.how.process_given => (None, None, *target),
            ["cpp", target] if self.how.process_given => (None, Some("cpp"), *target),
            [path, target] => (Some(*path), None, *target),
            [path, lang, target] => (Some(*path), Some(*lang), *target),
            _ => return self.wrong_count("2 or 3"),
        };
        let provider = self.provider.as_str();
        let location = code_location(target, !ret)?;
        if path == Some("") {
            complaints.push(format!("{provider} should have a target").into());
        }
        match location {
            CodeLocation::Address(_) if path.is_some_and(|path| path.contains('*')) => {
                return Err("Cannot use wildcards with absolute address".into());
            }
            CodeLocation::Function { name: "", .. } => complaints
                .push(format!("{provider} should be attached to a function and/or address").into()),
            _ => {}
        }
        let lang = lang.filter(|lang| !lang.is_empty());
        if let Some(lang) = lang.filter(|lang| *lang != "cpp") {
            complaints.push(format!("unsupported language type: {lang}").into());
        }
        let place = match location {
            CodeLocation::Address(address) => UprobePlace::Address(address),
            CodeLocation::Function { name, offset } => UprobePlace::Function {
                name: name.to_owned(),
                language: lang.map(str::to_owned),
                offset,
            },
        };
        Ok(ProbeTarget::Uprobe {
            ret,
            path: path.map(str::to_owned),
            place,
        })
    }

    fn usdt(&self, parts: &[&str]) -> Read<ProbeTarget> {
        let (path, provider, name) = match parts {
            [name] if self.how.process_given => (None, None, *name),
            [path, name] => (Some(*path), None, *name),
            [path, provider, name] => (Some(*path), Some(*provider), *name),
            _ => return self.wrong_count("2 or 3"),
        };
        let path = not_empty(path);
        if name.is_empty() {
            return Err("usdt probe must have a target function or wildcard".into());
        }
        if path.is_none() && !self.how.process_given {
            return Err(
                "usdt probe must specify at least path or pid to probe. To target all paths/pids set the path to '*'."
                    .into(),
            );
        }
        Ok(ProbeTarget::Usdt {
            path,
            provider: not_empty(provider),
            name: name.to_owned(),
        })
    }

    fn tracepoint(&self, parts: &[&str]) -> Read<ProbeTarget> {
        let (category, event) = match parts {
            [event] if event.contains('*') => ("*", *event),
            [category, event] => (*category, *event),
            _ => return self.wrong_count("2"),
        };
        if category.is_empty() || event.is_empty() {
            return Err("tracepoint probe must have a target".into());
        }
        Ok(ProbeTarget::Tracepoint {
            category: category.to_owned(),
            event: event.to_owned(),
        })
    }

    fn rawtracepoint(&self, parts: &[&str]) -> Read<ProbeTarget> {
        let (module, name) = match parts {
            [name] => (None, *name),
            [module, name] => (Some(*module), *name),
            _ => return self.wrong_count("2 or 1"),
        };
        if name.is_empty() {
            return Err("rawtracepoint should be attached to a function".into());
        }
        Ok(ProbeTarget::RawTracepoint {
            module: module.map(str::to_owned),
            name: name.to_owned(),
        })
    }

    fn fentry(&self, parts: &[&str], exit: bool) -> Read<ProbeTarget> {
        let is_bpf = parts.first() == Some(&"bpf");
        let function = match parts {
            ["bpf"] => {
                return Err("the 'bpf' variant of this probe requires a bpf program name and optional bpf program id"
                    .into());
            }
            [function] | [_, function] | [_, _, function] => *function,
            _ => return self.wrong_count("1 or 3"),
        };
        if parts.len() == 3 && !is_bpf {
            return Err("Only the 'bpf' variant of this probe supports 4 arguments".into());
        }
        if function.is_empty() {
            return Err("fentry/fexit should specify a function".into());
        }
        if is_bpf {
            let prog_id = match parts {
                [_, id, _] if *id != "*" => Some(
                    parse_uint(id)
                        .ok()
                        .and_then(|id| u32::try_from(id).ok())
                        .ok_or_else(|| Wrong::from("bpf program id must be a number or '*'"))?,
                ),
                _ => None,
            };
            return Ok(ProbeTarget::FentryBpf {
                exit,
                prog_id,
                name: function.to_owned(),
            });
        }
        let module = match parts {
            [module, _] => Some((*module).to_owned()),
            _ => None,
        };
        Ok(ProbeTarget::Fentry {
            exit,
            module,
            function: function.to_owned(),
        })
    }

    fn timer(&self, parts: &[&str], complaints: &mut Vec<Wrong>) -> Read<Period> {
        let provider = self.provider.as_str();
        let (unit, count) = match parts {
            [period] => (None, *period),
            [unit, count] => (Some(*unit), *count),
            _ => return self.wrong_count("1 or 2"),
        };
        if is_negative(count) {
            return Err(format!("{provider} frequency should be a positive integer").into());
        }
        let count = parse_uint(count)
            .map_err(|error| Wrong::from(format!("Invalid rate of {provider} probe: {error}")))?;
        let period = match unit {
            None if count < MIN_PERIOD => {
                return Err(format!(
                    "Invalid rate of {provider} probe. Minimum is 1000 or 1us. Found: {count} nanoseconds"
                )
                .into());
            }
            None => Period::Microseconds(count / 1000),
            Some("hz") => Period::Hertz(count),
            Some("s") => Period::Seconds(count),
            Some("ms") => Period::Milliseconds(count),
            Some("us") => Period::Microseconds(count),
            Some("") => return Err(format!("{provider} probe must have unit of time").into()),
            Some(unit) => {
                complaints.push(format!("{unit} is not an accepted unit of time").into());
                Period::Hertz(count)
            }
        };
        // The kernel takes it as a signed number.
        let fits = match period {
            Period::Hertz(hertz) => i64::try_from(hertz).is_ok(),
            period => period
                .nanoseconds()
                .is_some_and(|ns| i64::try_from(ns).is_ok()),
        };
        if count == 0 || i64::try_from(count).is_err() {
            complaints.push(format!("{provider} frequency should be a positive integer").into());
        } else if !fits {
            complaints.push("the period does not fit in 63 bits of nanoseconds".into());
        }
        Ok(period)
    }

    fn perf_event(&self, parts: &[&str]) -> Read<ProbeTarget> {
        let provider = self.provider.as_str();
        let (event, count) = match parts {
            [event] => (*event, None),
            [event, count] => (*event, Some(*count)),
            _ => return self.wrong_count("1 or 2"),
        };
        let count = match count {
            Some(count) if is_negative(count) => {
                return Err(format!("{provider} count should be a positive integer").into());
            }
            Some(count) if count != "*" => parse_uint(count).map_err(|error| {
                Wrong::from(format!("Invalid count for {provider} probe: {error}"))
            })?,
            _ => 0,
        };
        if event.is_empty() {
            return Err(format!("{provider} probe must have a {provider} event name").into());
        }
        if event.contains('*') {
            return Err(format!("wildcards are not allowed for {provider} probe type").into());
        }
        let is_software = self.provider == ProviderKind::Software;
        let table = if is_software {
            SOFTWARE_EVENTS
        } else {
            HARDWARE_EVENTS
        };
        if PerfEvent::find(table, event).is_none() {
            return Err(format!("{event} is not a {provider} probe").into());
        }
        let event = event.to_owned();
        Ok(if is_software {
            ProbeTarget::Software { event, count }
        } else {
            ProbeTarget::Hardware { event, count }
        })
    }

    fn watchpoint(&self, parts: &[&str], complaints: &mut Vec<Wrong>) -> Read<ProbeTarget> {
        let [address, length, mode] = *parts else {
            return self.wrong_count("3");
        };
        let address = parse_uint(address)
            .map_err(|error| Wrong::from(format!("Invalid function/address argument: {error}")))?;
        let length = parse_uint(length)
            .map_err(|error| Wrong::from(format!("Invalid length argument: {error}")))?;
        if address == 0 {
            complaints.push("watchpoint must be attached to a non-zero address".into());
        }
        if !matches!(length, 1 | 2 | 4 | 8) {
            complaints.push("watchpoint length must be one of (1,2,4,8)".into());
        }
        let known = |letter| matches!(letter, 'r' | 'w' | 'x');
        if mode.is_empty() || !mode.chars().all(known) {
            complaints.push("watchpoint mode must be combination of (r,w,x)".into());
        }
        if mode
            .char_indices()
            .any(|(at, letter)| mode[..at].contains(letter))
        {
            complaints.push("watchpoint modes may not be duplicated".into());
        }
        if complaints.is_empty() && !matches!(mode, "w" | "rw" | "wr" | "x") {
            complaints.push(Wrong {
                hint: Some("supported modes: x,w,rw".to_owned()),
                ..Wrong::from(format!("invalid watchpoint mode: {mode}"))
            });
        }
        Ok(ProbeTarget::Watchpoint {
            address,
            length: u8::try_from(length).unwrap_or(8),
            mode: mode.to_owned(),
        })
    }

    fn begin_or_end(&self, parts: &[&str]) -> Read<ProbeTarget> {
        match parts {
            [] | ["*"] => {}
            _ => return self.wrong_count("0"),
        }
        Ok(if self.provider == ProviderKind::Begin {
            ProbeTarget::Begin
        } else {
            ProbeTarget::End
        })
    }

    fn self_signal(&self, parts: &[&str]) -> Read<ProbeTarget> {
        match *parts {
            ["signal", signal @ "SIGUSR1"] => Ok(ProbeTarget::SelfSignal(signal.to_owned())),
            ["signal", signal] => Err(format!("{signal} is not a supported signal").into()),
            [trigger, _] => Err(format!("{trigger} is not a supported trigger").into()),
            _ => self.wrong_count("2"),
        }
    }

    fn test_or_bench(&self, parts: &[&str]) -> Read<ProbeTarget> {
        let [name] = *parts else {
            return self.wrong_count("1");
        };
        if name.is_empty() {
            return Err(format!("{} probes must have a name", self.provider.as_str()).into());
        }
        let name = name.to_owned();
        Ok(if self.provider == ProviderKind::Test {
            ProbeTarget::Test(name)
        } else {
            ProbeTarget::Bench(name)
        })
    }
}

fn iter(parts: &[&str]) -> Read<ProbeTarget> {
    let (name, pin) = match parts {
        [name] => (*name, None),
        [name, pin] => (*name, Some(*pin)),
        _ => return Err("iter probe type takes 2 arguments (1 optional)".into()),
    };
    if parts.iter().any(|part| part.contains('*')) {
        return Err("iter probe type does not support wildcards".into());
    }
    if name.is_empty() {
        return Err("iter should specify a iterator's name".into());
    }
    Ok(ProbeTarget::Iter {
        name: name.to_owned(),
        pin: not_empty(pin),
    })
}

/// Whether a text is a number below zero.
fn is_negative(text: &str) -> bool {
    text.strip_prefix('-')
        .is_some_and(|rest| parse_uint(rest).is_ok())
}

/// `path@file:line[:col]`: after `path` and `@`.
fn source_uprobe(ret: bool, path: &str, place: &[&str]) -> Read<ProbeTarget> {
    if ret {
        return Err("Source code location not allowed".into());
    }
    if path.contains('*') {
        return Err("Cannot use wildcards with source code location".into());
    }
    let (file, line, column) = match *place {
        [file, line] if !file.is_empty() && !line.is_empty() => (file, line, None),
        [file, line, column] if !file.is_empty() && !line.is_empty() => (file, line, Some(column)),
        _ => {
            return Err(
                "Invalid uprobe arguments, expected format: uprobe:TARGET@FILE:LINE[:COL]".into(),
            );
        }
    };
    let number = |what: &str, text: &str| -> Read<u32> {
        let n = parse_uint(text)
            .map_err(|error| Wrong::from(format!("Invalid {what} number: {error}")))?;
        u32::try_from(n).map_err(|_| format!("Invalid {what} number: {n} is too large").into())
    };
    Ok(ProbeTarget::Uprobe {
        ret,
        path: Some(path.to_owned()),
        place: UprobePlace::SourceLine {
            file: file.to_owned(),
            line: number("line", line)?,
            column: column.map(|column| number("column", column)).transpose()?,
        },
    })
}

fn not_empty(text: Option<&str>) -> Option<String> {
    text.filter(|text| !text.is_empty()).map(str::to_owned)
}

/// A place in code, as `func`, `func+offset`, or an address.
enum CodeLocation<'a> {
    Function { name: &'a str, offset: u64 },
    Address(u64),
}

fn code_location(text: &str, offset_allowed: bool) -> Read<CodeLocation<'_>> {
    match text.matches('+').count() {
        0 => Ok(match parse_uint(text) {
            Ok(address) => CodeLocation::Address(address),
            Err(_) => CodeLocation::Function {
                name: text,
                offset: 0,
            },
        }),
        _ if !offset_allowed => Err("Offset not allowed".into()),
        1 => match text.split_once('+') {
            Some((name, offset)) if !name.is_empty() && !offset.is_empty() => {
                let offset = parse_uint(offset)
                    .map_err(|error| Wrong::from(format!("Invalid offset: {error}")))?;
                Ok(CodeLocation::Function { name, offset })
            }
            _ => Err("Invalid offset".into()),
        },
        _ => Err("Cannot take more than one offset".into()),
    }
}

#[cfg(test)]
mod tests;
