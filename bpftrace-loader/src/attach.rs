//! From loaded programs to programs that fire.

mod kprobe;
mod perf;
mod tracing;
mod uprobe;

use bpftrace_meta::{MissingProbes, ProbeId, SourceRange};

use crate::bind::{
    Attachment, Bound, Invocation, PROBE_REMOVED, Place, Target, Warning, is_traceable,
    no_attach_points, not_traceable, unable_to_attach,
};
use crate::error::{LoadError, describe_errno};
use crate::ffi::{Link, Program};
use crate::host::Host;
use crate::load::Loaded;
use crate::print::Sink;
use crate::run;

/// A script that is attached. Dropping it detaches everything, newest first.
pub(crate) struct Attached {
    links: Vec<Attachments>,
    /// Number of targets that are attached.
    pub(crate) n_targets: u64,
    /// Whether something that exists could not be attached.
    pub(crate) any_refused: bool,
}

/// The links of one attachment: several where every CPU has its own.
struct Attachments {
    index: usize,
    links: Vec<Link>,
}

/// Why one attachment failed.
pub(crate) enum AttachError {
    /// What it names does not exist: how the attach point is called, and the function; `None` where the
    /// attach point names a module, which leaves less to guess.
    Missing {
        text: String,
        function: Option<String>,
    },
    /// The kernel said no.
    Refused(std::io::Error),
    /// As `Refused`, with more to say.
    Explained(String),
    /// What was asked for is a mistake, which the message says.
    Mistaken(String),
}

impl From<std::io::Error> for AttachError {
    fn from(error: std::io::Error) -> Self {
        Self::Refused(error)
    }
}

/// What attaching has to know beside the target.
pub(crate) struct Attaching<'a> {
    pub(crate) program: &'a Program,
    /// How the program was loaded to be attached.
    pub(crate) attach_type: u32,
    /// Numbers of the targets, when the link is to carry them.
    pub(crate) cookies: bool,
    pub(crate) pid: Option<i32>,
    pub(crate) host: &'a dyn Host,
}

impl Attaching<'_> {
    pub(crate) fn cookie(&self, number: u64) -> Option<u64> {
        self.cookies.then_some(number)
    }
}

/// In which order things are attached, so that probes on one event fire in the order of the script:
/// the kernel runs some newest first.
fn newest_first(place: &Place) -> bool {
    match place {
        Place::Kprobe { ret, .. } => !ret,
        Place::KprobeAddress(_)
        | Place::Uprobe { .. }
        | Place::Fentry { .. }
        | Place::Iter { .. } => true,
        _ => false,
    }
}

/// Whether something is run by us and not attached.
pub(crate) fn runs_here(place: &Place) -> bool {
    matches!(
        place,
        Place::Begin | Place::End | Place::Signal | Place::Named(_)
    )
}

/// Attaches everything. What cannot be attached is an error, a warning or nothing, as
/// `missing_probes` says. `-v` tells what is being attached.
pub(crate) fn attach(
    loaded: &Loaded,
    invocation: &Invocation<'_>,
    host: &dyn Host,
    warnings: &mut Vec<Warning>,
    sink: &mut dyn Sink,
) -> Result<Attached, LoadError> {
    let bound = &loaded.bound;
    let first = |index: usize| {
        let number = bound.attachments[index].targets[0];
        &bound.targets[number as usize]
    };
    let (reversed, forward): (Vec<usize>, Vec<usize>) = (0..bound.attachments.len())
        .filter(|index| !runs_here(&first(*index).place))
        .partition(|index| newest_first(&first(*index).place));
    let mut attached = Attached {
        links: Vec::new(),
        n_targets: 0,
        any_refused: bound.any_refused,
    };
    let mut failed: Vec<ProbeId> = Vec::new();
    let order: Vec<usize> = forward
        .into_iter()
        .chain(reversed.into_iter().rev())
        .collect();
    for (position, index) in order.iter().copied().enumerate() {
        let attachment = &bound.attachments[index];
        let attaching = Attaching {
            program: &loaded.programs[attachment.program],
            attach_type: bound.programs[attachment.program].expected_attach_type,
            cookies: attachment.cookies,
            pid: invocation.traced_pid(),
            host,
        };
        let targets: Vec<(u64, &Target)> = attachment
            .targets
            .iter()
            .map(|number| (*number, &bound.targets[*number as usize]))
            .collect();
        if invocation.options.verbose {
            for line in announcement(bound, attachment) {
                run::say(invocation.options, sink, &line)?;
            }
        }
        match attach_one(&attaching, attachment.multi, &targets) {
            Ok(links) => {
                attached.n_targets += probes(bound, &attachment.targets).count() as u64;
                attached.links.push(Attachments { index, links });
            }
            Err(error) => {
                let failure = Failure {
                    target: first(index),
                    name: &attachment.name,
                    error,
                };
                attached.any_refused |= !failure.is_missing();
                let reported = failure.report(bound, invocation, warnings);
                if failure.is_missing() {
                    failed.push(failure.target.probe);
                }
                if let Err(error) = reported {
                    if !failure.is_missing() {
                        return Err(error);
                    }
                    // What else is missing is told with it.
                    let mut errors = vec![(failure.target.written, error)];
                    for index in &order[position + 1..] {
                        let attachment = &bound.attachments[*index];
                        let target = first(*index);
                        let Some(error) = missing_function(target, invocation, host) else {
                            continue;
                        };
                        let failure = Failure {
                            target,
                            name: &attachment.name,
                            error,
                        };
                        if let Err(error) = failure.report(bound, invocation, warnings) {
                            errors.push((target.written, error));
                        }
                    }
                    let place = |at: &SourceRange| (at.file, at.line, at.column);
                    errors.sort_by_key(|(at, _)| place(at));
                    warnings.sort_by_key(|warning| warning.place.as_ref().map(place));
                    let errors = errors.into_iter().map(|(_, error)| error).collect();
                    return match LoadError::all(errors) {
                        Some(error) => Err(error),
                        None => Ok(attached),
                    };
                }
            }
        }
    }
    if bound.settings.missing_probes() == MissingProbes::Error {
        // Of what asks for its probe, only the whole has to be there.
        for probe in &failed {
            let is_attached = |attachments: &Attachments| first(attachments.index).probe == *probe;
            if !attached.links.iter().any(is_attached) {
                let place = bound.manifest.probes[probe.0 as usize].place;
                return Err(no_attach_points().at(place, &bound.manifest.source));
            }
        }
    }
    if bound.settings.missing_probes() == MissingProbes::Warn {
        failed.dedup();
        for probe in failed {
            let is_attached = |attachments: &Attachments| first(attachments.index).probe == probe;
            if !attached.links.iter().any(is_attached) {
                let place = bound.manifest.probes[probe.0 as usize].place;
                warnings.push(Warning::at(place, PROBE_REMOVED));
            }
        }
    }
    Ok(attached)
}

/// What is wrong with a target that the kernel has no function for; as far as that can be known before it is
/// attached.
fn missing_function(
    target: &Target,
    invocation: &Invocation<'_>,
    host: &dyn Host,
) -> Option<AttachError> {
    match &target.place {
        Place::Kprobe {
            ret,
            module,
            function,
            address: None,
            ..
        } if !is_traceable(function, invocation, host) => {
            Some(kprobe::missing(*ret, module.as_deref(), function))
        }
        _ => None,
    }
}

/// The targets that count as probes: of the places of one USDT probe, which are neighbours, the first.
fn probes<'b>(bound: &'b Bound, numbers: &'b [u64]) -> impl Iterator<Item = &'b Target> {
    numbers.iter().filter_map(|number| {
        let number = *number as usize;
        let target = &bound.targets[number];
        let before = number.checked_sub(1).map(|before| &bound.targets[before]);
        let counts = !is_usdt(&target.place)
            || !before.is_some_and(|b| b.name == target.name && b.probe == target.probe);
        counts.then_some(target)
    })
}

fn is_usdt(place: &Place) -> bool {
    matches!(place, Place::Uprobe { usdt: Some(_), .. })
}

/// What `-v` says of an attachment before it is made.
fn announcement(bound: &Bound, attachment: &Attachment) -> Vec<String> {
    let trying = |name: &str| format!("Trying to attach probe: {name}");
    let first = &bound.targets[attachment.targets[0] as usize];
    if is_usdt(&first.place) {
        let probes = probes(bound, &attachment.targets);
        return probes.map(|target| trying(&target.name)).collect();
    }
    let mut lines = vec![trying(&attachment.name)];
    if attachment.multi {
        lines.push(format!(
            "Attaching to {} functions",
            attachment.targets.len()
        ));
        lines.extend(attachment.targets.iter().map(|number| {
            let target = &bound.targets[*number as usize];
            match &target.place {
                Place::Kprobe { function, .. } => format!(" {function}"),
                Place::Uprobe { path, offset, .. } => match target.name.split_once(':') {
                    Some((_, place)) => place.to_owned(),
                    // The script has another name for it.
                    None => format!("{}+{offset:#x}", path.display()),
                },
                _ => target.name.clone(),
            }
        }));
    }
    lines
}

/// An attachment that failed.
struct Failure<'a> {
    /// Its first target.
    target: &'a Target,
    /// What it is for.
    name: &'a str,
    error: AttachError,
}

impl Failure<'_> {
    fn is_missing(&self) -> bool {
        matches!(self.error, AttachError::Missing { .. })
    }

    /// Does what `missing_probes` says.
    fn report(
        &self,
        bound: &Bound,
        invocation: &Invocation<'_>,
        warnings: &mut Vec<Warning>,
    ) -> Result<(), LoadError> {
        let policy = bound.settings.missing_probes();
        if policy == MissingProbes::Ignore {
            return Ok(());
        }
        let at = self.target.written;
        let name = self.name;
        let unable = || unable_to_attach(name).at(at, &bound.manifest.source);
        let refused = |reason: String| unable().note(format!("Reason: {reason}"));
        let error = match &self.error {
            AttachError::Missing { text, function } => {
                if let Some(function) = function {
                    let warning = Warning::at(at, not_traceable(function));
                    if !warnings.contains(&warning) {
                        warnings.push(warning);
                    }
                }
                let probe = &bound.manifest.probes[self.target.probe.0 as usize];
                if probe.uses_target_number {
                    // It is looked for as a pattern is.
                    return Ok(());
                } else if invocation.options.unsafe_mode {
                    refused("there is no such function, or it cannot be probed".into())
                } else if policy == MissingProbes::Warn && function.is_none() {
                    return Ok(());
                } else if policy == MissingProbes::Warn {
                    let text = format!("No matches for {text}. Skipping.");
                    warnings.push(Warning::at(at, text));
                    return Ok(());
                } else {
                    return Err(LoadError::usage(format!("No matches for {text}."))
                        .at(at, &bound.manifest.source));
                }
            }
            AttachError::Mistaken(message) => LoadError::host(message).and(unable()),
            AttachError::Refused(error) => refused(describe_errno(error)),
            AttachError::Explained(reason) => refused(reason.clone()),
        };
        if policy == MissingProbes::Error {
            return Err(error);
        }
        warnings.push(Warning::at(
            at,
            format!("Unable to attach probe: {name}. Skipping."),
        ));
        Ok(())
    }
}

fn attach_one(
    attaching: &Attaching<'_>,
    multi: bool,
    targets: &[(u64, &Target)],
) -> Result<Vec<Link>, AttachError> {
    let (number, target) = targets[0];
    if multi {
        let link = match &target.place {
            Place::Kprobe { .. } => kprobe::attach_multi(attaching, targets)?,
            _ => uprobe::attach_multi(attaching, targets)?,
        };
        return Ok(vec![link]);
    }
    let one = |link: Link| Ok(vec![link]);
    match &target.place {
        Place::Begin | Place::End | Place::Signal | Place::Named(_) => Ok(Vec::new()),
        Place::Timer { period, every_cpu } => {
            perf::attach_timer(attaching, number, *period, *every_cpu)
        }
        Place::Counter {
            kind,
            config,
            period,
        } => perf::attach_counter(attaching, number, *kind, *config, *period),
        Place::Watchpoint {
            address,
            length,
            access,
        } => perf::attach_watchpoint(attaching, number, *address, *length, *access),
        Place::Tracepoint { category, event } => {
            perf::attach_tracepoint(attaching, number, category, event).and_then(one)
        }
        Place::Kprobe {
            ret,
            module,
            function,
            address,
            offset,
        } => {
            let function = kprobe::Function {
                ret: *ret,
                module: module.as_deref(),
                name: function,
                address: *address,
                offset: *offset,
            };
            kprobe::attach(attaching, number, &function).and_then(one)
        }
        Place::KprobeAddress(address) => {
            kprobe::attach_address(attaching, number, *address).and_then(one)
        }
        Place::Uprobe {
            ret,
            path,
            offset,
            usdt,
        } => {
            let semaphore = usdt.as_ref().map_or(0, |site| site.semaphore);
            uprobe::attach(attaching, number, *ret, path, *offset, semaphore).and_then(one)
        }
        Place::Fentry { exit, .. } => {
            tracing::attach_function(attaching, number, *exit).and_then(one)
        }
        Place::RawTracepoint(_) => tracing::attach_raw_tracepoint(attaching, number).and_then(one),
        Place::Iter { .. } => tracing::attach_iterator(attaching).and_then(one),
    }
}

impl Attached {
    /// Detaches the attachments that `wanted` takes, by their index.
    pub(crate) fn detach(&mut self, wanted: &dyn Fn(usize) -> bool) {
        self.links.retain(|attachments| !wanted(attachments.index));
    }

    /// Index and links of each attachment, in the order in which they were made.
    pub(crate) fn links(&self) -> impl Iterator<Item = (usize, &[Link])> {
        self.links
            .iter()
            .map(|attachments| (attachments.index, attachments.links.as_slice()))
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        while self.links.pop().is_some() {}
    }
}
