//! `-l`: probes and types that match a pattern, or that the attach points of a script stand for.

mod kernel;
mod user;

use std::{
    cell::{OnceCell, RefCell},
    collections::BTreeSet,
    fmt::Write as _,
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use bpftrace_ast::attach::{AttachPoint, ProviderKind, ProviderName};
use bpftrace_ast::diag::{Code, Diagnostic};
use bpftrace_ast::node::Item;
use bpftrace_ast::source::SourceMap;
use bpftrace_loader::host::{Host, KernelText, LinuxHost};
use bpftrace_meta::{ProbeTarget, UprobePlace, wildcard_match};
use bpftrace_notation::Reading;
use bpftrace_sema::KernelTypes;

use super::{fail, read, reason, say, show};
use crate::args::{List, Script};
use crate::texts_in::HostTexts;
use crate::types_in::HostTypes;

/// Providers that are listed when a pattern does not name one: those of events in the kernel.
const KERNEL_PROVIDERS: [ProviderKind; 7] = [
    ProviderKind::Fentry,
    ProviderKind::Hardware,
    ProviderKind::Iter,
    ProviderKind::Kprobe,
    ProviderKind::Rawtracepoint,
    ProviderKind::Software,
    ProviderKind::Tracepoint,
];

/// Lists what matches.
pub(crate) fn list(options: &List) -> ExitCode {
    let lister = Lister {
        host: LinuxHost::new(),
        types: KernelTypes::new(HostTypes::new(&options.debug_dirs, options.pid)),
        text: OnceCell::new(),
        without_types: RefCell::default(),
        options,
    };
    if let Some(missing) = lister.host.missing_privilege() {
        return fail(missing);
    }
    if let Some(pid) = options.pid
        && let Err(error) = bpftrace_loader::find_process(pid)
    {
        return fail(error.summary());
    }
    if let Some(script) = &options.script {
        return lister.script(script);
    }
    let pattern = options.pattern.as_deref().unwrap_or("*");
    if pattern.contains('.') && !pattern.contains([':', '*']) {
        eprintln!(
            "WARNING: It appears that '{pattern}' is a filename but the file does not exist. \
             Treating '{pattern}' as a search pattern."
        );
    }
    let mut out = String::new();
    for one in pattern.split(',') {
        let words: Vec<&str> = one.split_whitespace().collect();
        let listed = match words.as_slice() {
            [keyword @ ("struct" | "union" | "enum"), name] => {
                lister.types(keyword, name, &mut out)
            }
            _ => lister.pattern(&words.join(" "), &mut out),
        };
        if let Err(message) = listed {
            return fail(message);
        }
    }
    say(&out)
}

/// Lines to print, or what could not be done.
type Listed = Result<(), String>;

struct Lister<'o> {
    host: LinuxHost,
    types: KernelTypes<HostTypes>,
    /// Types as C text, loaded when first needed.
    text: OnceCell<KernelText>,
    /// Files without debug information, of which the user was told.
    without_types: RefCell<BTreeSet<PathBuf>>,
    options: &'o List,
}

impl Lister<'_> {
    fn text(&self) -> Result<&KernelText, String> {
        if let Some(text) = self.text.get() {
            return Ok(text);
        }
        let file = self
            .host
            .env("BPFTRACE_BTF")
            .filter(|file| !file.is_empty());
        let text = KernelText::open(file.as_deref().map(Path::new))
            .map_err(|error| failed("the kernel's BTF", &error))?;
        Ok(self.text.get_or_init(|| text))
    }

    /// The matches of each attach point of a script.
    fn script(&self, script: &Script) -> ExitCode {
        let mut sources = SourceMap::new();
        let source = match read(script, &mut sources) {
            Ok(source) => source,
            Err(message) => return fail(message),
        };
        let (tree, mut diagnostics) = bpftrace_ast::parse(source, &sources);
        if show(&diagnostics, &sources, true) {
            return ExitCode::FAILURE;
        }
        let texts = HostTexts::new(&[]);
        let (tree, imports) = bpftrace_sema::with_imports(&tree, &mut sources, &texts);
        if show(&imports, &sources, true) {
            return ExitCode::FAILURE;
        }
        diagnostics.clear();
        let mut out = String::new();
        for item in &tree.items {
            let Item::Probe(probe) = item else {
                continue;
            };
            for point in &probe.attach_points {
                if let Err(messages) = self.attach_point(point, &mut out) {
                    let at = |message| Diagnostic::error(Code::ATTACH_POINT, point.span, message);
                    diagnostics.extend(messages.into_iter().map(at));
                }
            }
        }
        if show(&diagnostics, &sources, true) {
            return ExitCode::FAILURE;
        }
        say(&out)
    }

    fn attach_point(&self, point: &AttachPoint, out: &mut String) -> Result<(), Vec<String>> {
        let (filled, wrong) = point.written.fill(&mut |number| {
            let at = (number as usize).checked_sub(1);
            let param = at.and_then(|at| self.options.params.get(at));
            param.cloned().unwrap_or_default()
        });
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let how = Reading {
            process_given: self.options.pid.is_some(),
            unsafe_mode: true,
        };
        let n_before = out.len();
        let rest = filled
            .unnamed()
            .split_once(':')
            .map_or("", |(_, rest)| rest);
        if filled.provider_name() == ProviderName::Wildcard {
            let pattern = filled.provider.to_display();
            let in_processes = how.process_given
                || filled
                    .parts
                    .first()
                    .is_some_and(|part| part.to_display().contains('/'));
            for provider in ProviderKind::of_pattern(in_processes) {
                if wildcard_match(&pattern, provider.as_str())
                    && let Ok(target) = filled.read(*provider, how)
                {
                    self.target(&target, rest, out)
                        .map_err(|message| vec![message])?;
                }
            }
        } else {
            let provider = filled
                .known_provider()
                .map_err(|wrong| vec![wrong.message])?;
            let messages = |wrong: Vec<bpftrace_notation::Wrong>| {
                wrong
                    .into_iter()
                    .map(|wrong| wrong.message)
                    .collect::<Vec<_>>()
            };
            let target = filled.read(provider, how).map_err(messages)?;
            if !self
                .target(&target, rest, out)
                .map_err(|message| vec![message])?
            {
                return Ok(());
            }
            if out.len() == n_before
                && let Some(message) = self.not_there(&target)
            {
                return Err(vec![message]);
            }
        }
        if out.len() == n_before {
            let provider = match filled.known_provider() {
                Ok(provider) => provider.as_str().to_owned(),
                Err(_) => filled.provider.to_display(),
            };
            return Err(vec![format!("No matches for {provider} {rest}.")]);
        }
        Ok(())
    }

    /// What is said of an iterator or a file that is not there.
    fn not_there(&self, target: &ProbeTarget) -> Option<String> {
        let (kind, path) = match target {
            ProbeTarget::Iter { name, .. } => {
                return Some(format!(
                    "iter {name} not available for your kernel version."
                ));
            }
            ProbeTarget::Uprobe { path, .. } => ("uprobe", path.as_deref()?),
            ProbeTarget::Usdt { path, .. } => ("usdt", path.as_deref()?),
            _ => return None,
        };
        let found = self.host.executables(path, self.options.pid).ok()?;
        (found.is_empty() && !path.contains('*'))
            .then(|| format!("{kind} target file '{path}' does not exist or is not executable"))
    }

    /// What an attach point stands for. Whether there has to be something is the result: probes that
    /// are no place in the system are not listed. What follows the provider is `rest`.
    fn target(&self, target: &ProbeTarget, rest: &str, out: &mut String) -> Result<bool, String> {
        let provider = target.provider();
        match target {
            ProbeTarget::Written { .. }
            | ProbeTarget::Begin
            | ProbeTarget::End
            | ProbeTarget::SelfSignal(_)
            | ProbeTarget::KprobeAddress(_)
            | ProbeTarget::Watchpoint { .. } => return Ok(false),
            ProbeTarget::Test(name) => {
                let _ = writeln!(out, "test:{name}:");
            }
            // Upstream's long name of it.
            ProbeTarget::Bench(name) => {
                let _ = writeln!(out, "benchmark:{name}:");
            }
            ProbeTarget::Interval(period) | ProbeTarget::Profile(period) => {
                let unit = match period {
                    bpftrace_meta::Period::Hertz(_) => "hz",
                    bpftrace_meta::Period::Seconds(_) => "s",
                    bpftrace_meta::Period::Milliseconds(_) => "ms",
                    bpftrace_meta::Period::Microseconds(_) => "us",
                };
                self.kernel(provider, None, &format!("{unit}:"), out)?;
            }
            ProbeTarget::Software { event, .. } | ProbeTarget::Hardware { event, .. } => {
                self.kernel(provider, None, &format!("{event}:"), out)?;
            }
            ProbeTarget::Tracepoint { category, event } => {
                self.kernel(provider, Some(category), event, out)?;
            }
            ProbeTarget::RawTracepoint { module, name } => {
                self.kernel(provider, module.as_deref(), name, out)?;
            }
            ProbeTarget::Kprobe {
                module, function, ..
            }
            | ProbeTarget::Fentry {
                module, function, ..
            } => {
                self.kernel(provider, module.as_deref(), function, out)?;
            }
            ProbeTarget::FentryBpf { prog_id, name, .. } => {
                let id = prog_id.map_or("*".to_owned(), |id| id.to_string());
                self.kernel(provider, Some("bpf"), &format!("{id}:{name}"), out)?;
            }
            ProbeTarget::Iter { name, .. } => self.kernel(provider, None, name, out)?,
            ProbeTarget::Uprobe { path, place, .. }
                if !matches!(place, UprobePlace::Function { .. }) =>
            {
                for file in self.user_files(provider, path.as_deref())? {
                    self.place(&file, place)?;
                    let _ = writeln!(out, "{}:{}:", provider.as_str(), file.display());
                }
            }
            // The function is listed, wherever in it the probe is.
            ProbeTarget::Uprobe {
                place: UprobePlace::Function { offset: 1.., .. },
                ..
            } => {
                let function = rest.rsplit_once('+').map_or(rest, |(function, _)| function);
                self.user(provider, function, out)?;
            }
            ProbeTarget::Uprobe { .. } | ProbeTarget::Usdt { .. } => {
                self.user(provider, rest, out)?;
            }
        }
        Ok(true)
    }

    /// Names of types, with -v their definitions.
    fn types(&self, keyword: &str, pattern: &str, out: &mut String) -> Listed {
        let text = self.text()?;
        if !self.options.verbose {
            for name in text.names(keyword, pattern) {
                let _ = writeln!(out, "{name}");
            }
            return Ok(());
        }
        let definitions = text
            .definitions(keyword, pattern)
            .map_err(|error| failed("the kernel's BTF", &error))?;
        for (definition, objects) in definitions {
            for object in objects {
                let _ = writeln!(out, "{object}: {definition}");
            }
        }
        Ok(())
    }

    /// What matches one pattern: `provider:target:name`, or a name for all providers.
    fn pattern(&self, pattern: &str, out: &mut String) -> Listed {
        let (provider, rest) = match pattern.split_once(':') {
            Some((provider, rest)) => (provider, rest),
            None => match ProviderKind::from_name(pattern) {
                Some(_) => (pattern, "*"),
                None => ("*", pattern),
            },
        };
        let rest = if rest.is_empty() { "*" } else { rest };
        let kinds: Vec<ProviderKind> = match ProviderKind::from_name(provider) {
            Some(kind) => vec![kind],
            None if provider.is_empty() || provider.contains('*') => {
                let in_files = user::about_files(rest, self.options.pid);
                let pattern = if provider.is_empty() { "*" } else { provider };
                KERNEL_PROVIDERS
                    .into_iter()
                    .chain(user::USER_PROVIDERS.into_iter().filter(|_| in_files))
                    .filter(|kind| wildcard_match(pattern, kind.as_str()))
                    .collect()
            }
            // Nothing is of a type that there is not, which is no failure of the search.
            None => {
                eprintln!("WARNING: Invalid probe type: {provider}");
                return Ok(());
            }
        };
        let alone = kinds.len() == 1;
        for kind in kinds {
            let listed = self.provider(kind, rest, out);
            // What one of many providers cannot say is no reason to keep back the others.
            match listed {
                Err(message) if !alone => eprintln!("WARNING: {message}"),
                listed => listed?,
            }
        }
        Ok(())
    }

    fn provider(&self, kind: ProviderKind, rest: &str, out: &mut String) -> Listed {
        match kind {
            ProviderKind::Uprobe | ProviderKind::Uretprobe | ProviderKind::Usdt => {
                self.user(kind, rest, out)
            }
            ProviderKind::Begin | ProviderKind::End => {
                let _ = writeln!(out, "{}", kind.as_str());
                Ok(())
            }
            ProviderKind::Watchpoint | ProviderKind::Test | ProviderKind::Bench => {
                eprintln!("WARNING: {} probes cannot be listed", kind.as_str());
                Ok(())
            }
            ProviderKind::Interval
            | ProviderKind::Profile
            | ProviderKind::Software
            | ProviderKind::Hardware
            | ProviderKind::SelfProbe
            | ProviderKind::Iter => self.kernel(kind, None, rest, out),
            ProviderKind::Kprobe
            | ProviderKind::Kretprobe
            | ProviderKind::Tracepoint
            | ProviderKind::Rawtracepoint
            | ProviderKind::Fentry
            | ProviderKind::Fexit => match rest.split_once(':') {
                Some((target, name)) => self.kernel(kind, Some(target), name, out),
                None => self.kernel(kind, None, rest, out),
            },
        }
    }

    /// Probes in executables, by what follows the provider.
    fn user(&self, kind: ProviderKind, rest: &str, out: &mut String) -> Listed {
        let mut lines = Vec::new();
        self.user_probes(kind, rest, &mut lines)?;
        // Of each file they are in order, so that this has little to do.
        lines.sort_unstable();
        lines.dedup();
        for line in lines {
            out.push_str(&line);
            out.push('\n');
        }
        Ok(())
    }
}

fn failed(what: &str, error: &io::Error) -> String {
    format!("cannot read {what}: {}", reason(error))
}
