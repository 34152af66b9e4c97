use bpftrace_meta::{
    Feature, HARDWARE_EVENTS, PerfEvent, ProbeTarget, ProviderKind, SOFTWARE_EVENTS, wildcard_match,
};
use bpftrace_notation::{AttachPoint, ProviderName, Reading};

use super::params::Params;
use super::slots::has_feature;
use super::{Invocation, Place, uprobe, usdt};
use crate::error::LoadError;
use crate::host::{BtfEntry, BtfEntryKind, BtfObject, Host, KernelFunction};

/// `PERF_TYPE_HARDWARE` and `PERF_TYPE_SOFTWARE`.
const PERF_TYPE_HARDWARE: u32 = 0;
const PERF_TYPE_SOFTWARE: u32 = 1;

/// What an attach point stands for on this machine.
pub(super) struct Expanded {
    /// Name and place of each target.
    pub(super) places: Vec<(String, Place)>,
    /// What is there and can take no probe: the name that the target would have, and why.
    pub(super) refused: Vec<(String, LoadError)>,
    /// Whether one link can serve them all.
    pub(super) shareable: bool,
    /// What the attach point has behind the provider and, where there is one, the file.
    pub(super) text: String,
    /// Whether it is a pattern, which need not match anything where there are others.
    pub(super) pattern: bool,
    /// What to say when there are none.
    pub(super) missing: String,
}

impl Expanded {
    pub(super) fn one(name: String, place: Place) -> Self {
        Self {
            places: vec![(name, place)],
            refused: Vec::new(),
            shareable: false,
            text: String::new(),
            pattern: false,
            missing: String::new(),
        }
    }

    pub(super) fn many(places: Vec<(String, Place)>, provider: &str, text: &str) -> Self {
        Self {
            places,
            refused: Vec::new(),
            shareable: false,
            text: text.to_owned(),
            pattern: text.contains('*'),
            missing: format!("No matches for {provider} {text}."),
        }
    }
}

/// An attach point as it turns out to be on this machine.
pub(super) enum Read {
    /// One thing, or all that a pattern matches.
    One(ProbeTarget),
    /// What a pattern of providers means to one of them; it need not match anything.
    OneOfSeveral(ProbeTarget),
    /// It does not name the provider that the program is for.
    Other,
}

/// Reads an attach point with the parameters of this invocation.
pub(super) fn read(
    target: &ProbeTarget,
    invocation: &Invocation<'_>,
    params: &mut Params<'_>,
) -> Result<Read, LoadError> {
    let ProbeTarget::Written { provider, text } = target else {
        return Ok(Read::One(target.clone()));
    };
    let (point, _) = AttachPoint::parse(text);
    let (point, wrong) = point.fill(&mut |number| {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        params.positional(number).to_owned()
    });
    if let Some(wrong) = wrong.into_iter().next() {
        return Err(LoadError::usage(wrong));
    }
    let how = Reading {
        process_given: invocation.traced_pid().is_some(),
        unsafe_mode: invocation.options.unsafe_mode,
    };
    if point.provider_name() == ProviderName::Wildcard {
        let in_processes = how.process_given
            || point
                .parts
                .first()
                .is_some_and(|p| p.to_display().contains('/'));
        let meant = ProviderKind::of_pattern(in_processes).contains(provider)
            && wildcard_match(&point.provider.to_display(), provider.as_str());
        // A provider that can make nothing of the rest is not meant.
        return Ok(match point.read(*provider, how) {
            Ok(target) if meant => Read::OneOfSeveral(target),
            _ => Read::Other,
        });
    }
    let usage = |wrong: bpftrace_notation::Wrong| {
        let error = LoadError::usage(wrong.message);
        match wrong.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    };
    match point.known_provider() {
        Ok(known) if known == *provider => {}
        Ok(_) => return Ok(Read::Other),
        Err(wrong) => return Err(usage(wrong)),
    }
    match point.read(*provider, how) {
        Ok(target) => Ok(Read::One(target)),
        Err(wrong) => Err(LoadError::all(wrong.into_iter().map(usage).collect())
            .unwrap_or_else(|| LoadError::usage(format!("cannot read attach point {text}")))),
    }
}

/// Finds the targets of an attach point.
pub(super) fn expand(
    target: &ProbeTarget,
    invocation: &Invocation<'_>,
    warnings: &mut Vec<String>,
    host: &dyn Host,
) -> Result<Expanded, LoadError> {
    match target {
        ProbeTarget::Written { text, .. } => {
            Err(LoadError::usage(format!("cannot read attach point {text}")))
        }
        ProbeTarget::Begin => Ok(Expanded::one("begin".into(), Place::Begin)),
        ProbeTarget::End => Ok(Expanded::one("end".into(), Place::End)),
        ProbeTarget::SelfSignal(signal) => Ok(Expanded::one(
            format!("self:signal:{signal}"),
            Place::Signal,
        )),
        ProbeTarget::Test(name) => Ok(Expanded::one(
            format!("test:{name}"),
            Place::Named(name.clone()),
        )),
        ProbeTarget::Bench(name) => Ok(Expanded::one(
            format!("bench:{name}"),
            Place::Named(name.clone()),
        )),
        ProbeTarget::Interval(every) | ProbeTarget::Profile(every) => {
            let every_cpu = matches!(target, ProbeTarget::Profile(_));
            let provider = if every_cpu { "profile" } else { "interval" };
            Ok(Expanded::one(
                format!("{provider}:{every}"),
                Place::Timer {
                    period: *every,
                    every_cpu,
                },
            ))
        }
        ProbeTarget::Software { event, count } => counter(
            "software",
            PERF_TYPE_SOFTWARE,
            SOFTWARE_EVENTS,
            event,
            *count,
        ),
        ProbeTarget::Hardware { event, count } => counter(
            "hardware",
            PERF_TYPE_HARDWARE,
            HARDWARE_EVENTS,
            event,
            *count,
        ),
        ProbeTarget::Tracepoint { category, event } => tracepoints(category, event, host),
        ProbeTarget::RawTracepoint { module, name } => {
            raw_tracepoints(module.as_deref(), name, host)
        }
        ProbeTarget::Kprobe {
            ret,
            module,
            function,
            offset,
        } => {
            let function = KprobeFunction {
                ret: *ret,
                module: module.clone(),
                name: function.clone(),
                offset: *offset,
            };
            kprobes(function, invocation, warnings, host)
        }
        ProbeTarget::KprobeAddress(address) => Ok(Expanded::one(
            format!("kprobe:{address}"),
            Place::KprobeAddress(*address),
        )),
        ProbeTarget::Fentry {
            exit,
            module,
            function,
        } => fentries(*exit, module.as_deref(), function, host),
        ProbeTarget::FentryBpf {
            exit,
            prog_id,
            name,
        } => bpf_programs(*exit, *prog_id, name, host),
        ProbeTarget::Uprobe { ret, path, place } => {
            uprobe::uprobes(*ret, path.as_deref(), place, invocation, warnings, host)
        }
        ProbeTarget::Usdt {
            path,
            provider,
            name,
        } => {
            let (path, provider) = (path.as_deref(), provider.as_deref());
            usdt::usdts(path, provider, name, invocation, warnings, host)
        }
        ProbeTarget::Watchpoint {
            address,
            length,
            mode,
        } => watchpoint(*address, *length, mode),
        ProbeTarget::Iter { name, pin } => iterator(name, pin.as_deref(), host),
    }
}

/// A name, or a pattern for names, of one part of an attach point.
pub(super) fn is_pattern(text: &str) -> bool {
    text.contains('*')
}

fn counter(
    provider: &str,
    kind: u32,
    table: &'static [PerfEvent],
    event: &str,
    count: u64,
) -> Result<Expanded, LoadError> {
    let Some(found) = PerfEvent::find(table, event) else {
        return Err(LoadError::usage(format!(
            "{event} is not a {provider} probe"
        )));
    };
    let period = if count == 0 {
        found.default_period
    } else {
        count
    };
    let name = if count == 0 {
        format!("{provider}:{event}")
    } else {
        format!("{provider}:{event}:{count}")
    };
    Ok(Expanded::one(
        name,
        Place::Counter {
            kind,
            config: found.config,
            period,
        },
    ))
}

fn tracepoints(category: &str, event: &str, host: &dyn Host) -> Result<Expanded, LoadError> {
    let place = |category: &str, event: &str| {
        (
            format!("tracepoint:{category}:{event}"),
            Place::Tracepoint {
                category: category.to_owned(),
                event: event.to_owned(),
            },
        )
    };
    let failed = |e| LoadError::io("Failed to read the list of tracepoints", &e);
    let places = if is_pattern(category) || is_pattern(event) {
        host.tracepoints()
            .map_err(failed)?
            .iter()
            .filter(|(c, e)| wildcard_match(category, c) && wildcard_match(event, e))
            .map(|(c, e)| place(c, e))
            .collect()
    } else if host
        .tracepoint_id(category, event)
        .map_err(failed)?
        .is_some()
    {
        vec![place(category, event)]
    } else {
        Vec::new()
    };
    Ok(Expanded::many(
        places,
        "tracepoint",
        &format!("{category}:{event}"),
    ))
}

fn raw_tracepoints(
    module: Option<&str>,
    name: &str,
    host: &dyn Host,
) -> Result<Expanded, LoadError> {
    let text = with_module(module, name);
    let places = btf_entries(BtfEntryKind::RawTracepoint, module, name, host)?
        .into_iter()
        .map(|entry| {
            (
                format!("rawtracepoint:{}:{}", entry.object.name(), entry.name),
                Place::RawTracepoint(entry),
            )
        })
        .collect();
    let found = Expanded::many(places, "rawtracepoint", &text);
    Ok(Expanded {
        // Any module may have it.
        pattern: found.pattern || module.is_none(),
        ..found
    })
}

fn btf_entries(
    kind: BtfEntryKind,
    module: Option<&str>,
    name: &str,
    host: &dyn Host,
) -> Result<Vec<BtfEntry>, LoadError> {
    host.btf_entries(kind, module, name).map_err(|e| {
        LoadError::io("Failed to read the kernel's BTF", &e)
            .hint("a kernel with CONFIG_DEBUG_INFO_BTF has it")
    })
}

fn fentries(
    exit: bool,
    module: Option<&str>,
    function: &str,
    host: &dyn Host,
) -> Result<Expanded, LoadError> {
    let provider = if exit { "fexit" } else { "fentry" };
    let text = with_module(module, function);
    let mut entries = btf_entries(BtfEntryKind::Function, module, function, host)?;
    if !is_pattern(function) && module.is_none_or(|module| !is_pattern(module)) {
        // The same function may be in a module and in the kernel proper.
        let mut objects = entries.iter().map(|entry| &entry.object);
        let first = objects.next();
        if objects.any(|other| Some(other) != first) {
            return Err(LoadError::usage(format!(
                "ambiguous attach point, please specify module containing the function '{function}'"
            )));
        }
        entries.truncate(1);
    } else if let Ok(traceable) = host.traceable_functions(None) {
        // BTF has functions that cannot be traced; one of them would fail the whole probe.
        entries.retain(|entry| find_function(&traceable, &entry.name).next().is_some());
    }
    let places = entries
        .into_iter()
        .map(|entry| {
            (
                format!("{provider}:{}:{}", entry.object.name(), entry.name),
                Place::Fentry { exit, entry },
            )
        })
        .collect();
    Ok(Expanded::many(places, provider, &text))
}

fn bpf_programs(
    exit: bool,
    id: Option<u32>,
    name: &str,
    host: &dyn Host,
) -> Result<Expanded, LoadError> {
    let provider = if exit { "fexit" } else { "fentry" };
    let text = match id {
        Some(id) => format!("bpf:{id}:{name}"),
        None => format!("bpf:{name}"),
    };
    let places = host
        .bpf_programs()
        .map_err(|e| LoadError::io("Failed to read the list of BPF programs", &e))?
        .into_iter()
        .filter(|function| {
            id.is_none_or(|id| id == function.id) && wildcard_match(name, &function.name)
        })
        .map(|function| {
            let shown = format!("{provider}:bpf:{}:{}", function.id, function.name);
            let entry = BtfEntry {
                object: BtfObject::Program(function.id),
                name: function.name,
                id: function.type_id,
            };
            (shown, Place::Fentry { exit, entry })
        })
        .collect();
    Ok(Expanded::many(places, provider, &text))
}

/// Whether a function is in the list of those that kprobes can be attached to.
pub(crate) fn is_traceable(function: &str, invocation: &Invocation<'_>, host: &dyn Host) -> bool {
    host.traceable_functions(invocation.options.traceable_functions.as_deref())
        .is_ok_and(|functions| find_function(&functions, function).next().is_some())
}

/// The functions with a name in a sorted list.
fn find_function<'a>(
    functions: &'a [KernelFunction],
    name: &'a str,
) -> impl Iterator<Item = &'a KernelFunction> {
    let start = functions.partition_point(|function| function.name.as_str() < name);
    functions[start..]
        .iter()
        .take_while(move |function| function.name == name)
}

fn with_module(module: Option<&str>, name: &str) -> String {
    match module {
        Some(module) => format!("{module}:{name}"),
        None => name.to_owned(),
    }
}

/// What a kprobe is put on, with parameters filled in.
struct KprobeFunction {
    ret: bool,
    module: Option<String>,
    /// Name or pattern.
    name: String,
    offset: u64,
}

impl KprobeFunction {
    fn provider(&self) -> &'static str {
        if self.ret { "kretprobe" } else { "kprobe" }
    }

    /// Name and place of one match.
    fn target(&self, module: Option<&str>, name: &str, address: Option<u64>) -> (String, Place) {
        let mut shown = format!("{}:{}", self.provider(), with_module(module, name));
        if self.offset != 0 {
            shown.push_str(&format!("+{}", self.offset));
        }
        let place = Place::Kprobe {
            ret: self.ret,
            module: module.map(str::to_owned),
            function: name.to_owned(),
            address,
            offset: self.offset,
        };
        (shown, place)
    }
}

/// What is said of a function that is not in the list of traceable ones.
pub(crate) fn not_traceable(function: &str) -> String {
    format!(
        "{function} is not traceable (either non-existing, inlined, or marked as \"notrace\"); \
         attaching to it will likely fail"
    )
}

fn kprobes(
    function: KprobeFunction,
    invocation: &Invocation<'_>,
    warnings: &mut Vec<String>,
    host: &dyn Host,
) -> Result<Expanded, LoadError> {
    let provider = function.provider();
    let module = function.module.as_deref();
    let text = with_module(module, &function.name);
    if let Some(module) = module
        && !is_pattern(module)
        && !is_pattern(&function.name)
        && !host.module_loaded(module)
    {
        return Err(LoadError::usage(format!(
            "specified module {module} in probe {provider}:{text} is not loaded."
        )));
    }
    let options = invocation.options;
    let list = options.traceable_functions.as_deref();
    let traceable = || {
        host.traceable_functions(list).map_err(|e| {
            LoadError::io("Could not read the list of traceable functions", &e)
                .hint("If this is expected, use --traceable-functions to set this path manually.")
        })
    };
    if !is_pattern(&function.name) && !module.is_some_and(is_pattern) {
        // Whether it can be probed is for the kernel to say, when it is attached: to read its list
        // of functions takes longer than everything else.
        if list.is_some()
            && find_function(&traceable()?, &function.name)
                .next()
                .is_none()
        {
            warnings.push(not_traceable(&function.name));
            if !options.unsafe_mode {
                return Ok(Expanded::many(Vec::new(), provider, &text));
            }
        }
        let (name, place) = function.target(module, &function.name, None);
        return Ok(Expanded::one(name, place));
    }
    let traceable = traceable()?;
    let mut places: Vec<(String, Place)> = Vec::new();
    let mut last = None;
    for found in traceable.iter() {
        let object = found.module.as_deref().unwrap_or("vmlinux");
        let matches = wildcard_match(&function.name, &found.name)
            && module.is_none_or(|module| wildcard_match(module, object));
        // Static functions of one name cannot be told apart without their addresses.
        if !matches || (found.address.is_none() && last == Some(&found.name)) {
            continue;
        }
        last = Some(&found.name);
        let shown = module.map(|_| object);
        places.push(function.target(shown, &found.name, found.address));
    }
    let shareable = has_feature(Feature::KprobeMulti, invocation, host);
    Ok(Expanded {
        shareable,
        ..Expanded::many(places, provider, &text)
    })
}

fn watchpoint(address: u64, length: u8, mode: &str) -> Result<Expanded, LoadError> {
    // HW_BREAKPOINT_R, _W and _X (include/uapi/linux/hw_breakpoint.h).
    let mut access = 0;
    for letter in mode.chars() {
        access |= match letter {
            'r' => 1,
            'w' => 2,
            'x' => 4,
            _ => {
                return Err(LoadError::usage(format!("invalid watchpoint mode: {mode}")));
            }
        };
    }
    // For an execution breakpoint the kernel wants the size of a long.
    let length = if access & 4 == 0 {
        u64::from(length)
    } else {
        8
    };
    Ok(Expanded::one(
        format!("watchpoint:{address}:{length}:{mode}"),
        Place::Watchpoint {
            address,
            length,
            access,
        },
    ))
}

fn iterator(name: &str, pin: Option<&str>, host: &dyn Host) -> Result<Expanded, LoadError> {
    let entry = btf_entries(BtfEntryKind::Iterator, None, name, host)?
        .into_iter()
        .next()
        .ok_or_else(|| {
            LoadError::usage(format!(
                "iter {name} not available for your kernel version."
            ))
        })?;
    let pin = pin.map(|pin| {
        if pin.starts_with('/') {
            pin.to_owned()
        } else {
            format!("/sys/fs/bpf/{pin}")
        }
    });
    Ok(Expanded::one(
        format!("iter:{name}"),
        Place::Iter { entry, pin },
    ))
}
