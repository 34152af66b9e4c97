//! `-l`: probes and types that match a pattern.

mod user;

use std::{collections::BTreeSet, fmt::Write as _, process::ExitCode};

use bpftrace_ast::attach::ProviderKind;
use bpftrace_ast::node::Item;
use bpftrace_ast::source::SourceMap;
use bpftrace_loader::host::{BtfEntryKind, Host, LinuxHost};
use bpftrace_meta::{HARDWARE_EVENTS, PerfEvent, SOFTWARE_EVENTS, wildcard_match};
use bpftrace_sema::{FunctionInfo, KernelTypes, RawType, TypeRef, TypeSource};

use super::{fail, read, say, show};
use crate::args::{List, Script};
use crate::types_in::HostTypes;

/// Providers that are listed when a pattern does not name one.
const KERNEL_PROVIDERS: [ProviderKind; 10] = [
    ProviderKind::Fentry,
    ProviderKind::Hardware,
    ProviderKind::Interval,
    ProviderKind::Iter,
    ProviderKind::Kprobe,
    ProviderKind::Profile,
    ProviderKind::Rawtracepoint,
    ProviderKind::SelfProbe,
    ProviderKind::Software,
    ProviderKind::Tracepoint,
];

/// Lists what matches.
pub(crate) fn list(options: &List) -> ExitCode {
    let lister = Lister {
        host: LinuxHost::new(),
        types: KernelTypes::new(HostTypes::new()),
        verbose: options.verbose,
        pid: options.pid,
    };
    if let Some(script) = &options.script {
        return lister.script(script);
    }
    let pattern = options.pattern.as_deref().unwrap_or("*");
    if let Some((keyword, name)) = pattern.split_once(' ')
        && matches!(keyword, "struct" | "union" | "enum")
    {
        return lister.types(keyword, name.trim());
    }
    if pattern.ends_with(".bt") {
        eprintln!(
            "WARNING: It appears that '{pattern}' is a filename but the file does not exist. \
             Treating '{pattern}' as a search pattern."
        );
    }
    let mut out = String::new();
    for one in pattern.split(',') {
        if let Err(message) = lister.pattern(one.trim(), &mut out) {
            return fail(message);
        }
    }
    say(&out)
}

struct Lister {
    host: LinuxHost,
    types: KernelTypes<HostTypes>,
    verbose: bool,
    pid: Option<i32>,
}

impl Lister {
    /// The matches of each attach point of a script.
    fn script(&self, script: &Script) -> ExitCode {
        let mut sources = SourceMap::new();
        let source = match read(script, &mut sources) {
            Ok(source) => source,
            Err(message) => return fail(message),
        };
        let (tree, diagnostics) = bpftrace_ast::parse(source, &sources);
        if show(&diagnostics, &sources, true) {
            return ExitCode::FAILURE;
        }
        let mut out = String::new();
        for item in &tree.items {
            let Item::Probe(probe) = item else {
                continue;
            };
            for point in &probe.attach_points {
                if let Err(message) = self.pattern(&point.written.raw, &mut out) {
                    return fail(message);
                }
            }
        }
        say(&out)
    }

    /// Names of types, with -v their definitions.
    fn types(&self, keyword: &str, pattern: &str) -> ExitCode {
        let mut out = String::new();
        for name in self.types.find_type_names(keyword, pattern) {
            if !self.verbose {
                let _ = writeln!(out, "{keyword} {name}");
                continue;
            }
            let at = match keyword {
                "enum" => self.types.find_enum(&name),
                _ => self.types.find_struct(&name, keyword == "union"),
            };
            if let Some(at) = at {
                let _ = writeln!(out, "vmlinux: {}", self.definition(at));
            }
        }
        say(&out)
    }

    /// What matches one pattern: `provider:target:name`, or a name for all providers.
    fn pattern(&self, pattern: &str, out: &mut String) -> Result<(), String> {
        let (provider, rest) = match pattern.split_once(':') {
            Some((provider, rest)) => (provider, rest),
            None => match ProviderKind::from_name(pattern) {
                Some(_) => (pattern, "*"),
                None => ("*", pattern),
            },
        };
        let kinds: Vec<ProviderKind> = match ProviderKind::from_name(provider) {
            Some(kind) => vec![kind],
            None if provider.contains('*') => KERNEL_PROVIDERS
                .into_iter()
                .chain(
                    user::USER_PROVIDERS
                        .into_iter()
                        .filter(|_| user::about_files(rest, self.pid)),
                )
                .filter(|kind| wildcard_match(provider, kind.as_str()))
                .collect(),
            None => return Err(format!("Invalid probe type: {provider}")),
        };
        for kind in kinds {
            self.provider(kind, rest, out)?;
        }
        Ok(())
    }

    fn provider(&self, kind: ProviderKind, rest: &str, out: &mut String) -> Result<(), String> {
        let mut lines = BTreeSet::new();
        let name = kind.as_str();
        match kind {
            ProviderKind::Kprobe | ProviderKind::Kretprobe => {
                let (module, function) = optional_first(rest);
                let functions = self
                    .host
                    .traceable_functions(None)
                    .map_err(|error| format!("cannot list kernel functions: {error}"))?;
                for f in functions.iter() {
                    let in_module = match (module, &f.module) {
                        (None, _) => true,
                        (Some(pattern), Some(module)) => wildcard_match(pattern, module),
                        (Some(pattern), None) => wildcard_match(pattern, "vmlinux"),
                    };
                    if in_module && wildcard_match(function, &f.name) {
                        lines.insert(match &f.module {
                            Some(module) => format!("{name}:{module}:{}", f.name),
                            None => format!("{name}:{}", f.name),
                        });
                    }
                }
            }
            ProviderKind::Fentry | ProviderKind::Fexit => {
                let (module, function) = optional_first(rest);
                self.functions(kind, self.traceable(module, function)?, out);
                return Ok(());
            }
            ProviderKind::Rawtracepoint => {
                let (module, function) = optional_first(rest);
                self.functions(kind, self.types.find_raw_tracepoints(module, function), out);
                return Ok(());
            }
            ProviderKind::Tracepoint => {
                let (category, event) = optional_first(rest);
                let found = self.types.find_tracepoints(category.unwrap_or("*"), event);
                for (category, event) in found {
                    let _ = writeln!(out, "tracepoint:{category}:{event}");
                    if self.verbose {
                        let fields = self.types.tracepoint_format(&category, &event);
                        for field in fields.unwrap_or_default() {
                            let array = match field.array {
                                Some(n) if !field.data_loc => format!("[{n}]"),
                                _ => String::new(),
                            };
                            let loc = if field.data_loc { "__data_loc " } else { "" };
                            let suffix = if field.data_loc { "[]" } else { "" };
                            let _ = writeln!(
                                out,
                                "    {loc}{}{suffix} {}{array}",
                                field.c_type, field.name
                            );
                        }
                    }
                }
                return Ok(());
            }
            ProviderKind::Software => perf_events(name, SOFTWARE_EVENTS, rest, &mut lines),
            ProviderKind::Hardware => perf_events(name, HARDWARE_EVENTS, rest, &mut lines),
            ProviderKind::Interval | ProviderKind::Profile => {
                let units = ["hz", "ms", "s", "us"].into_iter();
                lines.extend(units.map(|unit| format!("{name}:{unit}:")));
                lines.retain(|line| fits(rest, &line[name.len() + 1..]));
            }
            ProviderKind::Iter => {
                let found = self
                    .host
                    .btf_entries(BtfEntryKind::Iterator, None, rest)
                    .map_err(|error| format!("cannot list iterators: {error}"))?;
                lines.extend(
                    found
                        .into_iter()
                        .map(|entry| format!("iter:{}", entry.name)),
                );
            }
            ProviderKind::SelfProbe => {
                if fits(rest, "signal:SIGUSR1") {
                    lines.insert("self:signal:SIGUSR1".to_owned());
                }
            }
            ProviderKind::Uprobe | ProviderKind::Uretprobe | ProviderKind::Usdt => {
                self.user_probes(kind, rest, &mut lines)?;
            }
            ProviderKind::Begin | ProviderKind::End => {
                lines.insert(name.to_owned());
            }
            ProviderKind::Watchpoint | ProviderKind::Test | ProviderKind::Bench => {
                return Err(format!("{name} probes cannot be listed"));
            }
        }
        for line in lines {
            let _ = writeln!(out, "{line}");
        }
        Ok(())
    }

    /// Functions in BTF that can also be traced.
    fn traceable(&self, module: Option<&str>, name: &str) -> Result<Vec<FunctionInfo>, String> {
        let mut found = self.types.find_functions(module, name);
        if let Ok(functions) = self.host.traceable_functions(None)
            && !functions.is_empty()
        {
            let names: BTreeSet<&str> = functions.iter().map(|f| f.name.as_str()).collect();
            found.retain(|f| names.contains(f.name.as_str()));
        }
        Ok(found)
    }

    /// Functions of the kernel with, if asked for, their parameters and return type.
    fn functions(&self, kind: ProviderKind, found: Vec<FunctionInfo>, out: &mut String) {
        for function in found {
            let _ = writeln!(
                out,
                "{}:{}:{}",
                kind.as_str(),
                function.module,
                function.name
            );
            if !self.verbose {
                continue;
            }
            for (i, param) in function.params.iter().enumerate() {
                let name = match param.name.as_str() {
                    "" => format!("arg{i}"),
                    name => name.to_owned(),
                };
                let _ = writeln!(out, "    {} {name}", self.spell(param.ty, 0));
            }
            let is_function = matches!(kind, ProviderKind::Fentry | ProviderKind::Fexit);
            if is_function && !matches!(self.types.resolve(function.ret), RawType::Void) {
                let _ = writeln!(out, "    {} retval", self.spell(function.ret, 0));
            }
        }
    }

    /// A type as C spells it.
    fn spell(&self, at: TypeRef, depth: u32) -> String {
        if depth > 8 {
            return "...".to_owned();
        }
        match self.types.resolve(at) {
            RawType::Void => "void".to_owned(),
            RawType::Int { name, .. } | RawType::Typedef { name, .. } => name,
            RawType::Float(size) => if size == 8 { "double" } else { "float" }.to_owned(),
            RawType::Ptr(to) => {
                let target = self.spell(to, depth + 1);
                let space = if target.ends_with('*') { "" } else { " " };
                format!("{target}{space}*")
            }
            RawType::Array { element, count } => {
                format!("{}[{count}]", self.spell(element, depth + 1))
            }
            RawType::Struct { name, is_union, .. } | RawType::Fwd { name, is_union } => {
                format!("{} {name}", if is_union { "union" } else { "struct" })
            }
            RawType::Enum { name, .. } => format!("enum {name}"),
            RawType::Tagged { to, .. } => self.spell(to, depth + 1),
            RawType::Func { ret, params } => {
                let params: Vec<_> = params.iter().map(|p| self.spell(p.ty, depth + 1)).collect();
                format!("{} (*)({})", self.spell(ret, depth + 1), params.join(", "))
            }
        }
    }

    /// A struct, union or enum with what is in it.
    fn definition(&self, at: TypeRef) -> String {
        let mut text = self.spell(at, 0);
        text.push_str(" {\n");
        match self.types.resolve(at) {
            RawType::Struct { members, .. } => {
                for member in members {
                    let (base, array) = self.array_suffix(member.ty);
                    let bits = member
                        .bits
                        .map(|bits| format!(" : {bits}"))
                        .unwrap_or_default();
                    let space = if base.ends_with('*') { "" } else { " " };
                    let _ = writeln!(text, "        {base}{space}{}{array}{bits};", member.name);
                }
            }
            RawType::Enum { values, .. } => {
                for (value, name) in values {
                    let _ = writeln!(text, "        {name} = {value},");
                }
            }
            _ => {}
        }
        text.push_str("};");
        text
    }

    /// Element type of an array member, and the lengths that stand behind its name.
    fn array_suffix(&self, at: TypeRef) -> (String, String) {
        match self.types.resolve(at) {
            RawType::Array { element, count } => {
                let (base, inner) = self.array_suffix(element);
                (base, format!("[{count}]{inner}"))
            }
            _ => (self.spell(at, 0), String::new()),
        }
    }
}

/// `module:name` or `name`.
fn optional_first(rest: &str) -> (Option<&str>, &str) {
    match rest.split_once(':') {
        Some((first, name)) => (Some(first), name),
        None => (None, rest),
    }
}

/// Whether a pattern matches a text, or the part of it before its last colon.
fn fits(pattern: &str, text: &str) -> bool {
    wildcard_match(pattern, text) || wildcard_match(pattern, text.trim_end_matches(':'))
}

fn perf_events(
    provider: &str,
    table: &'static [PerfEvent],
    rest: &str,
    lines: &mut BTreeSet<String>,
) {
    for name in table.iter().flat_map(|event| event.names) {
        if fits(rest, &format!("{name}:")) {
            lines.insert(format!("{provider}:{name}:"));
        }
    }
}
