//! What the parts of an attach point mean to its provider.

use super::{
    AttachPoint, AttachSyntax, Location, Number, Piece, ProviderKind, ProviderName, Text, TimeUnit,
    Timer,
};
use crate::diag::{Code, Diagnostic};
use crate::integer::{IntegerError, parse_uint};

impl AttachPoint {
    /// The typed view, for an attach point with a known provider. A uprobe or USDT probe needs no path if the
    /// program is going to be started for one process (`process_given`).
    pub fn syntax(&self, process_given: bool) -> Result<AttachSyntax, Vec<Diagnostic>> {
        let written = self.provider.text.to_display();
        match self.provider.kind {
            ProviderName::Known(kind) => self.syntax_as(kind, process_given),
            ProviderName::Wildcard => {
                Err(self.errors(vec![format!("No probe type matched for {written}")]))
            }
            ProviderName::Unknown if written.is_empty() => {
                Err(self.errors(vec!["No attach points for probe".to_owned()]))
            }
            ProviderName::Unknown | ProviderName::Hole => {
                Err(self.errors(vec![format!("Invalid probe type: {written}")]))
            }
        }
    }

    /// The typed view with another provider in place of the written one, as a pattern of providers needs it.
    pub fn syntax_as(
        &self,
        kind: ProviderKind,
        process_given: bool,
    ) -> Result<AttachSyntax, Vec<Diagnostic>> {
        let view = View {
            kind,
            parts: &self.parts,
        };
        let mut complaints = Vec::new();
        match view.read(process_given, &mut complaints) {
            Ok(syntax) if complaints.is_empty() => Ok(syntax),
            Ok(_) => Err(self.errors(complaints)),
            Err(complaint) => Err(self.errors(vec![complaint])),
        }
    }

    fn errors(&self, messages: Vec<String>) -> Vec<Diagnostic> {
        messages
            .into_iter()
            .map(|message| Diagnostic::error(Code::ATTACH_POINT, self.span, message))
            .collect()
    }
}

struct View<'a> {
    kind: ProviderKind,
    parts: &'a [Text],
}

/// The value, or what is wrong. What does not stop reading goes to a list of complaints instead.
type Read<T> = Result<T, String>;

impl View<'_> {
    fn read(&self, process_given: bool, complaints: &mut Vec<String>) -> Read<AttachSyntax> {
        match self.kind {
            ProviderKind::Kprobe => self.kprobe(false),
            ProviderKind::Kretprobe => self.kprobe(true),
            ProviderKind::Uprobe => self.uprobe(false, process_given, complaints),
            ProviderKind::Uretprobe => self.uprobe(true, process_given, complaints),
            ProviderKind::Usdt => self.usdt(process_given),
            ProviderKind::Tracepoint => self.tracepoint(),
            ProviderKind::Rawtracepoint => self.rawtracepoint(),
            ProviderKind::Fentry => self.fentry(false),
            ProviderKind::Fexit => self.fentry(true),
            ProviderKind::Iter => self.iter(),
            ProviderKind::Profile => Ok(AttachSyntax::Profile(self.timer(complaints)?)),
            ProviderKind::Interval => Ok(AttachSyntax::Interval(self.timer(complaints)?)),
            ProviderKind::Software | ProviderKind::Hardware => self.perf_event(),
            ProviderKind::Watchpoint => self.watchpoint(complaints),
            ProviderKind::Begin | ProviderKind::End => self.begin_or_end(),
            ProviderKind::SelfProbe => self.self_signal(),
            ProviderKind::Test | ProviderKind::Bench => self.test_or_bench(),
        }
    }

    fn wrong_count<T>(&self, expected: &str) -> Read<T> {
        Err(format!(
            "{} probe type requires {expected} arguments, found {}",
            self.kind.as_str(),
            self.parts.len()
        ))
    }

    fn kprobe(&self, is_return: bool) -> Read<AttachSyntax> {
        let (module, target) = match self.parts {
            [target] => (None, target),
            [module, target] => (Some(module.clone()), target),
            _ => return self.wrong_count("1 or 2"),
        };
        let location = code_location(target, !is_return)?;
        if matches!(&location, Location::Function { func, .. } if func.is_empty()) {
            return Err("kprobes should be attached to a function or an address".to_owned());
        }
        Ok(AttachSyntax::Kprobe {
            is_return,
            module: module.filter(|module| !module.is_empty()),
            location,
        })
    }

    fn uprobe(
        &self,
        is_return: bool,
        process_given: bool,
        complaints: &mut Vec<String>,
    ) -> Read<AttachSyntax> {
        if let [path, at, place @ ..] = self.parts
            && at.as_str() == Some("@")
        {
            return source_uprobe(is_return, path, place);
        }
        let (path, lang, target) = match self.parts {
            [target] if process_given => (None, None, target),
            [lang, target] if process_given && is_lang(lang) => (None, Some(lang), target),
            [path, target] => (Some(path), None, target),
            [path, lang, target] => (Some(path), Some(lang), target),
            _ => return self.wrong_count("2 or 3"),
        };
        let name = self.kind.as_str();
        let location = code_location(target, !is_return)?;
        if path.is_some_and(Text::is_empty) {
            complaints.push(format!("{name} should have a target"));
        }
        match &location {
            Location::Address(_) if path.is_some_and(Text::has_wildcard) => {
                return Err("Cannot use wildcards with absolute address".to_owned());
            }
            Location::Function { func, .. } if func.is_empty() => {
                complaints.push(format!(
                    "{name} should be attached to a function and/or address"
                ));
            }
            _ => {}
        }
        if let Some(lang) = lang.filter(|lang| !lang.is_empty() && !is_lang(lang)) {
            complaints.push(format!("unsupported language type: {}", lang.to_display()));
        }
        let lang = lang.filter(|lang| !lang.is_empty());
        Ok(AttachSyntax::Uprobe {
            is_return,
            path: path.cloned(),
            lang: lang.cloned(),
            location,
        })
    }

    fn usdt(&self, process_given: bool) -> Read<AttachSyntax> {
        let (path, namespace, name) = match self.parts {
            [name] if process_given => (None, None, name),
            [path, name] => (Some(path), None, name),
            [path, namespace, name] => (Some(path), Some(namespace), name),
            _ => return self.wrong_count("2 or 3"),
        };
        let path = path.filter(|path| !path.is_empty());
        if name.is_empty() {
            return Err("usdt probe must have a target function or wildcard".to_owned());
        }
        if path.is_none() && !process_given {
            return Err(
                "usdt probe must specify at least path or pid to probe. To target all paths/pids set the path to '*'."
                    .to_owned(),
            );
        }
        let namespace = namespace.filter(|namespace| !namespace.is_empty());
        Ok(AttachSyntax::Usdt {
            path: path.cloned(),
            namespace: namespace.cloned(),
            name: name.clone(),
        })
    }

    fn tracepoint(&self) -> Read<AttachSyntax> {
        let (category, event) = match self.parts {
            [event] if event.has_wildcard() => (literal(event, "*"), event.clone()),
            [category, event] => (category.clone(), event.clone()),
            _ => return self.wrong_count("2"),
        };
        if category.is_empty() || event.is_empty() {
            return Err("tracepoint probe must have a target".to_owned());
        }
        Ok(AttachSyntax::Tracepoint { category, event })
    }

    fn rawtracepoint(&self) -> Read<AttachSyntax> {
        let (module, name) = match self.parts {
            [name] => (None, name),
            [module, name] => (Some(module.clone()), name),
            _ => return self.wrong_count("2 or 1"),
        };
        if name.is_empty() {
            return Err("rawtracepoint should be attached to a function".to_owned());
        }
        Ok(AttachSyntax::Rawtracepoint {
            module,
            name: name.clone(),
        })
    }

    fn fentry(&self, is_return: bool) -> Read<AttachSyntax> {
        let is_bpf = self
            .parts
            .first()
            .is_some_and(|first| first.as_str() == Some("bpf"));
        let func = match self.parts {
            [_] if is_bpf => {
                return Err("the 'bpf' variant of this probe requires a bpf program name and optional bpf program id"
                    .to_owned());
            }
            [func] | [_, func] | [_, _, func] => func.clone(),
            _ => return self.wrong_count("1 or 3"),
        };
        if self.parts.len() == 3 && !is_bpf {
            return Err("Only the 'bpf' variant of this probe supports 4 arguments".to_owned());
        }
        if func.is_empty() {
            return Err("fentry/fexit should specify a function".to_owned());
        }
        match self.parts {
            [_, id, _] if id.as_str() != Some("*") => {
                let id =
                    number(id).map_err(|_| "bpf program id must be a number or '*'".to_owned())?;
                Ok(AttachSyntax::FentryBpf {
                    is_return,
                    prog_id: Some(id),
                    prog_name: func,
                })
            }
            [_, .., _] if is_bpf => Ok(AttachSyntax::FentryBpf {
                is_return,
                prog_id: None,
                prog_name: func,
            }),
            [module, _] => Ok(AttachSyntax::Fentry {
                is_return,
                module: Some(module.clone()),
                func,
            }),
            _ => Ok(AttachSyntax::Fentry {
                is_return,
                module: None,
                func,
            }),
        }
    }

    fn iter(&self) -> Read<AttachSyntax> {
        let (kind, pin) = match self.parts {
            [kind] => (kind, None),
            [kind, pin] => (kind, Some(pin.clone())),
            _ => return Err("iter probe type takes 2 arguments (1 optional)".to_owned()),
        };
        if self.parts.iter().any(Text::has_wildcard) {
            return Err("iter probe type does not support wildcards".to_owned());
        }
        if kind.is_empty() {
            return Err("iter should specify a iterator's name".to_owned());
        }
        Ok(AttachSyntax::Iter {
            kind: kind.clone(),
            pin: pin.filter(|pin| !pin.is_empty()),
        })
    }

    fn timer(&self, complaints: &mut Vec<String>) -> Read<Timer> {
        /// The shortest period, in nanoseconds.
        const MIN_PERIOD: u64 = 1000;
        let name = self.kind.as_str();
        let (unit, count) = match self.parts {
            [period] => (None, period),
            [unit, count] => (Some(unit), count),
            _ => return self.wrong_count("1 or 2"),
        };
        let count =
            number(count).map_err(|error| format!("Invalid rate of {name} probe: {error}"))?;
        let Some(unit) = unit else {
            return match count {
                Number::Known(nanoseconds) if nanoseconds < MIN_PERIOD => Err(format!(
                    "Invalid rate of {name} probe. Minimum is 1000 or 1us. Found: {nanoseconds} nanoseconds"
                )),
                period => Ok(Timer::Period(period)),
            };
        };
        let unit = match unit.as_str() {
            Some("hz") => TimeUnit::Hz,
            Some("s") => TimeUnit::S,
            Some("ms") => TimeUnit::Ms,
            Some("us") => TimeUnit::Us,
            Some("") => return Err(format!("{name} probe must have unit of time")),
            _ => {
                complaints.push(format!(
                    "{} is not an accepted unit of time",
                    unit.to_display()
                ));
                TimeUnit::Hz
            }
        };
        // The kernel takes it as a signed number.
        if matches!(count, Number::Known(count) if count == 0 || count > i64::MAX as u64) {
            complaints.push(format!("{name} frequency should be a positive integer"));
        }
        Ok(Timer::Rate { unit, count })
    }

    fn perf_event(&self) -> Read<AttachSyntax> {
        let name = self.kind.as_str();
        let (event, count) = match self.parts {
            [event] => (event, None),
            [event, count] => (event, Some(count)),
            _ => return self.wrong_count("1 or 2"),
        };
        let count = match count {
            Some(count) if count.as_str() != Some("*") => Some(
                number(count)
                    .map_err(|error| format!("Invalid count for {name} probe: {error}"))?,
            ),
            _ => None,
        };
        if event.is_empty() {
            return Err(format!("{name} probe must have a {name} event name"));
        }
        if event.has_wildcard() {
            return Err(format!("wildcards are not allowed for {name} probe type"));
        }
        let event = event.clone();
        Ok(match self.kind {
            ProviderKind::Software => AttachSyntax::Software { event, count },
            _ => AttachSyntax::Hardware { event, count },
        })
    }

    fn watchpoint(&self, complaints: &mut Vec<String>) -> Read<AttachSyntax> {
        let [address, length, mode] = self.parts else {
            return self.wrong_count("3");
        };
        let address = number(address)
            .map_err(|error| format!("Invalid function/address argument: {error}"))?;
        let length = number(length).map_err(|error| format!("Invalid length argument: {error}"))?;
        if address == Number::Known(0) {
            complaints.push("watchpoint must be attached to a non-zero address".to_owned());
        }
        if matches!(length, Number::Known(length) if !matches!(length, 1 | 2 | 4 | 8)) {
            complaints.push("watchpoint length must be one of (1,2,4,8)".to_owned());
        }
        if let Some(letters) = mode.as_str() {
            if letters.is_empty()
                || letters
                    .chars()
                    .any(|letter| !matches!(letter, 'r' | 'w' | 'x'))
            {
                complaints.push("watchpoint mode must be combination of (r,w,x)".to_owned());
            }
            if letters
                .char_indices()
                .any(|(at, letter)| letters[..at].contains(letter))
            {
                complaints.push("watchpoint modes may not be duplicated".to_owned());
            }
        }
        Ok(AttachSyntax::Watchpoint {
            address,
            length,
            mode: mode.clone(),
        })
    }

    fn begin_or_end(&self) -> Read<AttachSyntax> {
        match self.parts {
            [] => {}
            [all] if all.as_str() == Some("*") => {}
            _ => return self.wrong_count("0"),
        }
        Ok(if self.kind == ProviderKind::Begin {
            AttachSyntax::Begin
        } else {
            AttachSyntax::End
        })
    }

    fn self_signal(&self) -> Read<AttachSyntax> {
        let [trigger, signal] = self.parts else {
            return self.wrong_count("2");
        };
        if trigger.as_str() != Some("signal") {
            return Err(format!(
                "{} is not a supported trigger",
                trigger.to_display()
            ));
        }
        if signal.as_str().is_some_and(|signal| signal != "SIGUSR1") {
            return Err(format!("{} is not a supported signal", signal.to_display()));
        }
        Ok(AttachSyntax::SelfSignal {
            signal: signal.clone(),
        })
    }

    fn test_or_bench(&self) -> Read<AttachSyntax> {
        let [name] = self.parts else {
            return self.wrong_count("1");
        };
        if name.is_empty() {
            return Err(format!("{} probes must have a name", self.kind.as_str()));
        }
        let name = name.clone();
        Ok(if self.kind == ProviderKind::Test {
            AttachSyntax::Test { name }
        } else {
            AttachSyntax::Bench { name }
        })
    }
}

/// `path@file:line[:col]`, after `path` and `@`.
fn source_uprobe(is_return: bool, path: &Text, place: &[Text]) -> Read<AttachSyntax> {
    if is_return {
        return Err("Source code location not allowed".to_owned());
    }
    if path.has_wildcard() {
        return Err("Cannot use wildcards with source code location".to_owned());
    }
    let (file, line, col) = match place {
        [file, line] if !file.is_empty() && !line.is_empty() => (file, line, None),
        [file, line, col] if !file.is_empty() && !line.is_empty() => (file, line, Some(col)),
        _ => {
            return Err(
                "Invalid uprobe arguments, expected format: uprobe:TARGET@FILE:LINE[:COL]"
                    .to_owned(),
            );
        }
    };
    let line = number(line).map_err(|error| format!("Invalid line number: {error}"))?;
    let col = col
        .map(number)
        .transpose()
        .map_err(|error| format!("Invalid column number: {error}"))?;
    Ok(AttachSyntax::Uprobe {
        is_return,
        path: Some(path.clone()),
        lang: None,
        location: Location::Source {
            file: file.clone(),
            line,
            col,
        },
    })
}

/// The one language besides plain symbol names.
fn is_lang(text: &Text) -> bool {
    text.as_str() == Some("cpp")
}

/// `func`, `func+offset`, or an address.
fn code_location(text: &Text, offset_allowed: bool) -> Read<Location> {
    let n_plus = text.pieces.iter().map(|piece| match piece {
        Piece::Literal(text) => text.matches('+').count(),
        Piece::Param(_) => 0,
    });
    match n_plus.sum::<usize>() {
        0 => Ok(match text.as_str().map(parse_uint) {
            Some(Ok(address)) => Location::Address(address),
            _ => Location::Function {
                func: text.clone(),
                offset: None,
            },
        }),
        _ if !offset_allowed => Err("Offset not allowed".to_owned()),
        1 => {
            let (func, offset) = split_at_plus(text);
            if func.is_empty() || offset.is_empty() {
                return Err("Invalid offset".to_owned());
            }
            let offset = number(&offset).map_err(|error| format!("Invalid offset: {error}"))?;
            Ok(Location::Function {
                func,
                offset: Some(offset),
            })
        }
        _ => Err("Cannot take more than one offset".to_owned()),
    }
}

/// What stands before and after the first `+`. Both keep the span of the whole.
fn split_at_plus(text: &Text) -> (Text, Text) {
    let mut sides = (Vec::new(), Vec::new());
    let mut after = false;
    for piece in &text.pieces {
        let side = if after { &mut sides.1 } else { &mut sides.0 };
        match piece {
            Piece::Literal(literal) if !after && literal.contains('+') => {
                let (left, right) = literal.split_once('+').unwrap_or((literal, ""));
                sides
                    .0
                    .extend((!left.is_empty()).then(|| Piece::Literal(left.to_owned())));
                sides
                    .1
                    .extend((!right.is_empty()).then(|| Piece::Literal(right.to_owned())));
                after = true;
            }
            piece => side.push(piece.clone()),
        }
    }
    (
        Text {
            span: text.span,
            pieces: sides.0,
        },
        Text {
            span: text.span,
            pieces: sides.1,
        },
    )
}

fn literal(at: &Text, text: &str) -> Text {
    Text {
        span: at.span,
        pieces: vec![Piece::Literal(text.to_owned())],
    }
}

fn number(text: &Text) -> Result<Number, IntegerError> {
    match text.as_str() {
        Some(digits) => parse_uint(digits).map(Number::Known),
        None => Ok(Number::Hole(text.clone())),
    }
}

#[cfg(test)]
mod tests;
