//! Probes whose events happen in the kernel.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;

use bpftrace_ast::attach::ProviderKind;
use bpftrace_loader::host::{BtfEntryKind, Host, KernelFunction, Prototype};
use bpftrace_meta::{
    ARGUMENT_REGISTERS, HARDWARE_EVENTS, PerfEvent, SOFTWARE_EVENTS, wildcard_match,
};
use bpftrace_sema::TypeSource as _;

use super::{Listed, Lister, failed};

impl Lister<'_> {
    /// Lists what a provider has: of a module, category and the like (`target`), with a name.
    pub(super) fn kernel(
        &self,
        kind: ProviderKind,
        target: Option<&str>,
        name: &str,
        out: &mut String,
    ) -> Listed {
        let provider = kind.as_str();
        match kind {
            ProviderKind::Kprobe | ProviderKind::Kretprobe => self.kprobes(kind, target, name, out),
            ProviderKind::Fentry | ProviderKind::Fexit if target == Some("bpf") => {
                let (id, name) = name.split_once(':').unwrap_or(("*", name));
                let programs = self
                    .host
                    .bpf_programs()
                    .map_err(|error| failed("the list of BPF programs", &error))?;
                let names: BTreeSet<String> = programs
                    .iter()
                    .filter(|program| {
                        wildcard_match(id, &program.id.to_string())
                            && wildcard_match(name, &program.name)
                    })
                    .map(|program| format!("{provider}:bpf:{}:{}", program.id, program.name))
                    .collect();
                write_lines(&names, out);
                Ok(())
            }
            ProviderKind::Fentry | ProviderKind::Fexit => self.fentries(kind, target, name, out),
            ProviderKind::Rawtracepoint => self.raw_tracepoints(target, name, out),
            ProviderKind::Tracepoint => self.tracepoints(target.unwrap_or("*"), name, out),
            ProviderKind::Iter => self.iterators(name, out),
            ProviderKind::Software => {
                perf_events(provider, SOFTWARE_EVENTS, name, out);
                Ok(())
            }
            ProviderKind::Hardware => {
                perf_events(provider, HARDWARE_EVENTS, name, out);
                Ok(())
            }
            ProviderKind::Interval | ProviderKind::Profile => {
                let units = ["hz:", "ms:", "s:", "us:"].into_iter();
                for unit in units.filter(|unit| fits(name, unit)) {
                    let _ = writeln!(out, "{provider}:{unit}");
                }
                Ok(())
            }
            ProviderKind::SelfProbe => {
                if fits(name, "signal:SIGUSR1") {
                    let _ = writeln!(out, "self:signal:SIGUSR1");
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn traceable(&self) -> Result<std::rc::Rc<Vec<KernelFunction>>, String> {
        let file = self.options.traceable_functions.as_deref();
        self.host
            .traceable_functions(file)
            .map_err(|error| failed("the list of traceable functions", &error))
    }

    fn kprobes(
        &self,
        kind: ProviderKind,
        module: Option<&str>,
        name: &str,
        out: &mut String,
    ) -> Listed {
        // Shown name to module and function.
        let mut found: BTreeMap<String, (String, String)> = BTreeMap::new();
        for function in self.traceable()?.iter() {
            let object = function.module.as_deref().unwrap_or("vmlinux");
            if module.is_none_or(|module| wildcard_match(module, object))
                && wildcard_match(name, &function.name)
            {
                let shown = match module {
                    Some(_) => format!("{object}:{}", function.name),
                    None => function.name.clone(),
                };
                found.insert(shown, (object.to_owned(), function.name.clone()));
            }
        }
        let prototypes = self.prototypes(
            found
                .values()
                .map(|(object, name)| (object.as_str(), name.as_str())),
        )?;
        for (shown, key) in &found {
            let _ = writeln!(out, "{}:{shown}", kind.as_str());
            let Some(prototype) = prototypes.get(key) else {
                continue;
            };
            if kind == ProviderKind::Kretprobe {
                write_result(prototype, true, out);
                continue;
            }
            // Floating point arguments are not where the other arguments are.
            let is_integer = |ty: &&str| !matches!(*ty, "float" | "double" | "long double");
            let types = prototype.params.iter().map(|(ty, _)| ty.as_str());
            for (i, ty) in types.filter(is_integer).enumerate() {
                let _ = writeln!(out, "    {ty} arg{i}");
            }
        }
        Ok(())
    }

    /// Functions that are in BTF and can be traced.
    fn fentries(
        &self,
        kind: ProviderKind,
        module: Option<&str>,
        name: &str,
        out: &mut String,
    ) -> Listed {
        let mut entries = self
            .host
            .btf_entries(BtfEntryKind::Function, module, name)
            .map_err(|error| failed("the kernel's BTF", &error))?;
        let functions = self.traceable()?;
        let traceable: BTreeSet<(&str, &str)> = functions
            .iter()
            .map(|f| (f.module.as_deref().unwrap_or("vmlinux"), f.name.as_str()))
            .collect();
        entries.retain(|entry| traceable.contains(&(entry.object.name(), entry.name.as_str())));
        let prototypes = self.prototypes(
            entries
                .iter()
                .map(|entry| (entry.object.name(), entry.name.as_str())),
        )?;
        let found: BTreeMap<String, (String, String)> = entries
            .iter()
            .map(|entry| {
                let object = entry.object.name();
                let shown = format!("{object}:{}", entry.name);
                (shown, (object.to_owned(), entry.name.clone()))
            })
            .collect();
        for (shown, key) in &found {
            let _ = writeln!(out, "{}:{shown}", kind.as_str());
            if let Some(prototype) = prototypes.get(key) {
                write_params(&prototype.params, out);
                if kind == ProviderKind::Fexit {
                    write_result(prototype, false, out);
                }
            }
        }
        Ok(())
    }

    /// Prototypes by object and name; only where parameters are to be shown.
    fn prototypes<'n>(
        &self,
        names: impl Iterator<Item = (&'n str, &'n str)>,
    ) -> Result<HashMap<(String, String), Prototype>, String> {
        if !self.options.verbose {
            return Ok(HashMap::new());
        }
        let names: BTreeSet<(&str, &str)> = names.collect();
        let found = self
            .text()?
            .prototypes(&mut |object, name| names.contains(&(object, name)))
            .map_err(|error| failed("the kernel's BTF", &error))?;
        let keyed = found.into_iter().map(|prototype| {
            let key = (prototype.object.clone(), prototype.name.clone());
            (key, prototype)
        });
        Ok(keyed.collect())
    }

    fn raw_tracepoints(&self, module: Option<&str>, name: &str, out: &mut String) -> Listed {
        let mut all = self.types.find_raw_tracepoints(module, name);
        // As with fentry: what is found by a pattern has its arguments in registers. The handler's own
        // data is one more of them.
        all.retain(|found| !name.contains('*') || found.params.len() < ARGUMENT_REGISTERS);
        // The function that calls the handlers, with what they are given behind their own data.
        let callers: Vec<String> = all
            .iter()
            .map(|found| format!("__traceiter_{}", found.name))
            .collect();
        let modules = all.iter().map(|found| found.module.as_str());
        let prototypes = self.prototypes(modules.zip(callers.iter().map(String::as_str)))?;
        for (found, caller) in all.iter().zip(callers) {
            let _ = writeln!(out, "rawtracepoint:{}:{}", found.module, found.name);
            if let Some(prototype) = prototypes.get(&(found.module.clone(), caller)) {
                write_params(prototype.params.get(1..).unwrap_or_default(), out);
            }
        }
        Ok(())
    }

    fn tracepoints(&self, category: &str, event: &str, out: &mut String) -> Listed {
        let all = self
            .host
            .tracepoints()
            .map_err(|error| failed("the list of tracepoints", &error))?;
        let mut found: Vec<&(String, String)> = all
            .iter()
            .filter(|(c, e)| wildcard_match(category, c) && wildcard_match(event, e))
            .collect();
        found.sort_unstable_by_key(|(category, event)| format!("{category}:{event}"));
        for (category, event) in found {
            let _ = writeln!(out, "tracepoint:{category}:{event}");
            if !self.options.verbose {
                continue;
            }
            let format = self
                .host
                .tracepoint_format(category, event)
                .map_err(|error| failed(&format!("the format of {category}:{event}"), &error))?;
            for field in own_fields(&format.unwrap_or_default()) {
                let _ = writeln!(out, "    {field}");
            }
        }
        Ok(())
    }

    fn iterators(&self, name: &str, out: &mut String) -> Listed {
        let found = self
            .host
            .btf_entries(BtfEntryKind::Iterator, None, name)
            .map_err(|error| failed("the kernel's BTF", &error))?;
        let names: BTreeSet<&str> = found.iter().map(|entry| entry.name.as_str()).collect();
        let functions: Vec<String> = names.iter().map(|n| format!("bpf_iter_{n}")).collect();
        let objects: HashMap<&str, &str> = found
            .iter()
            .map(|entry| (entry.name.as_str(), entry.object.name()))
            .collect();
        let prototypes = self.prototypes(
            names
                .iter()
                .zip(&functions)
                .map(|(name, function)| (objects[name], function.as_str())),
        )?;
        for (name, function) in names.iter().zip(functions) {
            let _ = writeln!(out, "iter:{name}");
            if let Some(prototype) = prototypes.get(&(objects[name].to_owned(), function)) {
                // The first one describes the iteration.
                write_params(prototype.params.get(1..).unwrap_or_default(), out);
            }
        }
        Ok(())
    }
}

fn write_lines(lines: &BTreeSet<String>, out: &mut String) {
    for line in lines {
        let _ = writeln!(out, "{line}");
    }
}

fn write_params(params: &[(String, String)], out: &mut String) {
    for (i, (ty, name)) in params.iter().enumerate() {
        let _ = match name.as_str() {
            "" => writeln!(out, "    {ty} arg{i}"),
            name => writeln!(out, "    {ty} {name}"),
        };
    }
}

fn write_result(prototype: &Prototype, or_void: bool, out: &mut String) {
    let _ = match &prototype.ret {
        Some(ty) => writeln!(out, "    {ty} retval"),
        None if or_void => writeln!(out, "    void"),
        None => Ok(()),
    };
}

/// The fields of a tracepoint's format as they are declared, without those that all events have.
fn own_fields(format: &str) -> impl Iterator<Item = &str> {
    let mut lines = format.lines();
    // A line without anything separates the two.
    let _ = lines.by_ref().find(|line| line.is_empty());
    lines.filter_map(|line| {
        let field = line.strip_prefix("\tfield:")?;
        field.split(';').next()
    })
}

/// Whether a pattern matches a text, or the part of it before its last colon.
fn fits(pattern: &str, text: &str) -> bool {
    wildcard_match(pattern, text) || wildcard_match(pattern, text.trim_end_matches(':'))
}

fn perf_events(provider: &str, table: &'static [PerfEvent], pattern: &str, out: &mut String) {
    let names: BTreeSet<String> = table
        .iter()
        .flat_map(|event| event.names)
        .map(|name| format!("{name}:"))
        .filter(|name| fits(pattern, name))
        .collect();
    for name in names {
        let _ = writeln!(out, "{provider}:{name}");
    }
}

#[cfg(test)]
mod tests {
    use super::own_fields;

    #[test]
    fn common_fields_are_not_listed() {
        let format = "name: x\nID: 1\nformat:\n\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
                      \tfield:char comm[16];\toffset:8;\tsize:16;\tsigned:0;\n\
                      \tfield:__data_loc char[] name;\toffset:24;\tsize:4;\tsigned:0;\n\nprint fmt: \"\"\n";
        let fields: Vec<&str> = own_fields(format).collect();
        assert_eq!(fields, ["char comm[16]", "__data_loc char[] name"]);
    }
}
