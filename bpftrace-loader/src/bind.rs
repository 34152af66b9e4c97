//! From a manifest and facts about this machine to everything that loading needs. Pure: all
//! questions go through [`Host`].

mod expand;
mod params;
mod patches;
mod settings;
mod sizes;
mod slots;
mod targets;
mod unwind;
mod uprobe;
mod usdt;
mod usdt_args;
mod user_files;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use bpftrace_meta::{
    Artifact, Feature, Manifest, MapRole, ProbeId, ProgramKind, Session, SourceMeta, SourceRange,
};

pub(crate) use expand::{is_traceable, not_traceable};
pub(crate) use settings::Settings;
pub(crate) use targets::{PROBE_REMOVED, no_attach_points, unable_to_attach};
pub(crate) use unwind::{UnwindTables, is_wanted as unwinds};
pub(crate) use usdt::UsdtSite;

use targets::Found;

use crate::error::LoadError;
use crate::ffi::attach_type;
use crate::host::{BtfEntry, Host};
use crate::options::{RunOptions, Warnings, wrong_color};

/// What binding has to know about this run.
pub(crate) struct Invocation<'a> {
    pub(crate) options: &'a RunOptions,
    /// The process that waits to become the `-c` command.
    pub(crate) child: Option<i32>,
}

impl Invocation<'_> {
    /// The process that probes are attached to, where they can be attached to one.
    pub(crate) fn traced_pid(&self) -> Option<i32> {
        self.options.pid.or(self.child)
    }
}

/// One thing to attach to; its number is its index in [`Bound::targets`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) probe: ProbeId,
    /// Probe name, as the script's `probe` gives it.
    pub(crate) name: String,
    pub(crate) place: Place,
    /// The attach point in the script.
    pub(crate) written: SourceRange,
}

/// Where a target is on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Begin,
    End,
    /// A signal to ourselves.
    Signal,
    /// Run by test or benchmark mode under this name.
    Named(String),
    /// A timer; on one CPU or on all.
    Timer {
        period: bpftrace_meta::Period,
        every_cpu: bool,
    },
    /// A perf event on all CPUs: `PERF_TYPE_*`, its number, and a sample after so many.
    Counter {
        kind: u32,
        config: u64,
        period: u64,
    },
    Tracepoint {
        category: String,
        event: String,
    },
    RawTracepoint(BtfEntry),
    Kprobe {
        ret: bool,
        module: Option<String>,
        function: String,
        /// Where the kernel told.
        address: Option<u64>,
        offset: u64,
    },
    KprobeAddress(u64),
    Fentry {
        exit: bool,
        entry: BtfEntry,
    },
    Uprobe {
        ret: bool,
        path: PathBuf,
        /// Byte offset in the file.
        offset: u64,
        /// What a USDT probe has more.
        usdt: Option<UsdtSite>,
    },
    /// `HW_BREAKPOINT_*` bits.
    Watchpoint {
        address: u64,
        length: u64,
        access: u32,
    },
    Iter {
        entry: BtfEntry,
        pin: Option<String>,
    },
}

/// A program to load: a probe's instructions for one attach type and, where the kernel or the
/// program asks for it, one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProgramPlan {
    pub(crate) probe: ProbeId,
    pub(crate) expected_attach_type: u32,
    /// What the kernel ties the program to when it is loaded.
    pub(crate) entry: Option<BtfEntry>,
    /// Target number to put into the instructions.
    pub(crate) number: Option<u64>,
}

/// One act of attaching.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attachment {
    /// Index in [`Bound::programs`].
    pub(crate) program: usize,
    /// Numbers of the targets: one, or many for a multi link.
    pub(crate) targets: Vec<u64>,
    /// Whether it is one link to all of them, or could be.
    pub(crate) multi: bool,
    /// Whether the link carries the target numbers.
    pub(crate) cookies: bool,
    /// The attach point that it is for, with what it is in: of one target its name.
    pub(crate) name: String,
}

/// Something to tell the user before the script runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Warning {
    pub(crate) text: String,
    /// The attach points that it is about.
    pub(crate) place: Option<SourceRange>,
}

impl Warning {
    pub(crate) fn at(place: SourceRange, text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            place: Some(place),
        }
    }

    /// An error that comes with warnings, which are told behind it unless they are not wanted.
    pub(crate) fn behind(
        error: LoadError,
        warnings: &[Warning],
        invocation: &Invocation<'_>,
        source: &SourceMeta,
    ) -> LoadError {
        if invocation.options.warnings == Warnings::Off {
            return error;
        }
        warnings.iter().fold(error, |error, warning| {
            let text = LoadError::warning(warning.text.as_str());
            error.and(match warning.place {
                Some(place) => text.at(place, source),
                None => text,
            })
        })
    }
}

/// A script bound to this machine.
pub(crate) struct Bound {
    pub(crate) manifest: Manifest,
    /// The object with tracepoint fields patched in.
    pub(crate) object: Vec<u8>,
    pub(crate) settings: Settings,
    /// Bytes to write to `.rodata`, and where.
    pub(crate) data: Vec<(u32, Vec<u8>)>,
    /// Whether the kernel takes large map keys; asked only if the script has some.
    pub(crate) large_map_keys: bool,
    /// Number of entries of each map, where it is not as compiled.
    pub(crate) entries: Vec<Option<u32>>,
    pub(crate) targets: Vec<Target>,
    /// Whether something that exists cannot be attached to.
    pub(crate) any_refused: bool,
    pub(crate) programs: Vec<ProgramPlan>,
    pub(crate) attachments: Vec<Attachment>,
    /// What stacks are unwound with, where the script does that.
    pub(crate) unwind: Option<UnwindTables>,
    /// What to warn about.
    pub(crate) warnings: Vec<Warning>,
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bound")
            .field("targets", &self.targets)
            .field("programs", &self.programs)
            .field("attachments", &self.attachments)
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}

/// Answers the artifact's questions about this machine.
pub(crate) fn bind(
    artifact: Artifact,
    invocation: &Invocation<'_>,
    host: &dyn Host,
) -> Result<Bound, LoadError> {
    let Artifact {
        manifest,
        mut object,
    } = artifact;
    let settings = settings::resolve(&manifest, host)?;
    check_requirements(&manifest, invocation, host)?;
    let mut params = params::Params::new(&manifest, invocation.options)?;
    let mut warnings = Vec::new();
    if let Some(text) = wrong_color(host) {
        warnings.push(Warning { text, place: None });
    }
    if let Some(file) = invocation.options.traceable_functions.as_deref() {
        host.traceable_functions(Some(file)).map_err(|e| {
            let why = crate::error::describe_errno(&e);
            let file = file.display();
            LoadError::usage(format!("Could not read functions from {file}: {why}"))
        })?;
    }

    check_typed_params(&manifest, &mut params)?;
    let (targets, any_refused) = targets::find(
        &manifest,
        &settings,
        invocation,
        &mut params,
        &mut warnings,
        host,
    )
    .map_err(|e| Warning::behind(e, &warnings, invocation, &manifest.source))?;
    let (programs, attachments) = plan(&manifest, &targets, invocation, host)?;
    check_limits(&settings, &attachments)?;

    patches::apply(
        &manifest,
        &mut object,
        |category, event| {
            targets.iter().any(|target| {
                matches!(&target.target.place, Place::Tracepoint { category: c, event: e }
                    if c == category && e == event)
            })
        },
        host,
    )?;
    let data = slots::fill(&manifest, &mut object, invocation, &mut params, host)?;
    let large_map_keys = manifest
        .maps
        .iter()
        .all(|map| !matches!(map.role, MapRole::Keys { .. }))
        || slots::has_feature(Feature::LargeMapKeys, invocation, host);
    warn_of_arguments(&manifest, &targets, &mut warnings);
    let unwind = match unwind::is_wanted(&manifest) && !targets.is_empty() {
        true => Some(unwind::tables(invocation, host)?),
        false => None,
    };
    let entries = sizes::entries(&manifest, &settings, &targets, unwind.as_ref(), host)?;

    if invocation.options.warnings == Warnings::Extra && !manifest.options.extra_warnings {
        warnings.push(Warning {
            text:
                "The script was compiled without -k: look-ups and reads that fail are not reported."
                    .to_owned(),
            place: None,
        });
    }
    warnings.append(&mut params.warnings);
    Ok(Bound {
        manifest,
        object,
        settings,
        data,
        large_map_keys,
        entries,
        targets: targets.into_iter().map(|t| t.target).collect(),
        any_refused,
        programs,
        attachments,
        unwind,
        warnings,
    })
}

/// Refuses parameters that the program was not compiled for.
fn check_typed_params(
    manifest: &Manifest,
    params: &mut params::Params<'_>,
) -> Result<(), LoadError> {
    for (number, text) in &manifest.typed_params {
        let (found, what) = match number {
            0 => (
                params.count().to_string(),
                "the number of positional parameters".to_owned(),
            ),
            _ => (
                params.positional(*number).to_owned(),
                format!("positional parameter ${number}"),
            ),
        };
        if found != *text {
            return Err(LoadError::usage(format!(
                "{what} has to be '{text}', which the program was compiled for"
            ))
            .hint("The compiler had to know it; compile the script again for another value."));
        }
    }
    Ok(())
}

/// Refuses scripts that this kernel cannot run, before anything else is tried.
fn check_requirements(
    manifest: &Manifest,
    invocation: &Invocation<'_>,
    host: &dyn Host,
) -> Result<(), LoadError> {
    for requirement in &manifest.requirements {
        let feature = requirement.feature;
        if slots::has_feature(feature, invocation, host) {
            continue;
        }
        let error = LoadError::usage(format!(
            "Missing required kernel feature: {}",
            crate::features::name(feature)
        ))
        .at(requirement.place, &manifest.source);
        let (major, minor) = feature.since();
        let release = host.kernel_release();
        let what = &requirement.what;
        return Err(error.hint(match built_in_by(feature) {
            Some(option) => format!(
                "needed by {what}; Linux {major}.{minor} has it when built with {option}, this is Linux \
                 {release}"
            ),
            None => format!(
                "needed by {what}; Linux {major}.{minor} has it, this is Linux {release}"
            ),
        }));
    }
    Ok(())
}

/// Warns of arguments of USDT probes that the script reads and that no program can read.
fn warn_of_arguments(manifest: &Manifest, targets: &[Found], warnings: &mut Vec<Warning>) {
    let used = manifest.maps.iter().find_map(|map| match map.role {
        MapRole::UsdtArgs { used } => Some(used),
        _ => None,
    });
    for Found { target, .. } in targets {
        let Place::Uprobe {
            usdt: Some(site), ..
        } = &target.place
        else {
            continue;
        };
        for (n, argument) in site.arguments.iter().enumerate() {
            if let Err(text) = argument
                && used.unwrap_or(0) >> n & 1 == 1
            {
                let place = manifest.probes[target.probe.0 as usize].place;
                let text = format!(
                    "arg{n} of {} is at '{text}', which cannot be read: it will be 0",
                    target.name
                );
                warnings.push(Warning::at(place, text));
            }
        }
    }
}

/// The option that a feature depends on, where distributions differ about it.
fn built_in_by(feature: Feature) -> Option<&'static str> {
    match feature {
        Feature::Override => Some("CONFIG_BPF_KPROBE_OVERRIDE"),
        _ => None,
    }
}

/// The programs that stand in for two probes on this kernel.
fn sessions(
    manifest: &Manifest,
    found: &[Found],
    has: &dyn Fn(Feature) -> bool,
) -> Vec<(ProbeId, Session)> {
    let functions = |probe: ProbeId| -> Option<Vec<_>> {
        let targets = found.iter().filter(|found| found.target.probe == probe);
        targets
            .map(|found| match &found.target.place {
                Place::Kprobe {
                    function, address, ..
                } => Some((function, address)),
                _ => None,
            })
            .collect()
    };
    let programs = manifest.probes.iter().zip(0..);
    programs
        .filter_map(|(program, index)| Some((ProbeId(index), program.session?)))
        .filter(|(_, session)| {
            functions(session.entry).is_some_and(|of_entry| {
                !of_entry.is_empty() && functions(session.ret) == Some(of_entry)
            }) && has(Feature::KprobeSession)
        })
        .collect()
}

/// Decides which programs are loaded, and how they are attached.
fn plan(
    manifest: &Manifest,
    found: &[Found],
    invocation: &Invocation<'_>,
    host: &dyn Host,
) -> Result<(Vec<ProgramPlan>, Vec<Attachment>), LoadError> {
    let has = |feature| slots::has_feature(feature, invocation, host);
    let sessions = sessions(manifest, found, &has);
    let mut programs: Vec<ProgramPlan> = Vec::new();
    let mut attachments: Vec<Attachment> = Vec::new();
    // Group and file of the attachment that is being filled.
    let mut open: Option<(usize, PathBuf)> = None;
    for (number, Found { target, group }) in found.iter().enumerate() {
        let number = number as u64;
        let probe = &manifest.probes[target.probe.0 as usize];
        let numbered = probe.uses_target_number;
        let path = match &target.place {
            Place::Uprobe { path, .. } => path.clone(),
            _ => PathBuf::new(),
        };
        if let Some((open_group, open_path)) = &open
            && group
                .as_ref()
                .is_some_and(|group| group.number == *open_group)
            && *open_path == path
            && let Some(last) = attachments.last_mut()
        {
            last.targets.push(number);
            continue;
        }
        let (mut expected_attach_type, mut multi) = (attach_type::NONE, false);
        let (mut entry, mut cookies) = (None, false);
        if sessions
            .iter()
            .any(|(_, session)| session.ret == target.probe)
        {
            continue;
        }
        let session = sessions
            .iter()
            .find(|(_, session)| session.entry == target.probe);
        match &target.place {
            Place::Kprobe { .. } if session.is_some() => {
                (expected_attach_type, multi) = (attach_type::KPROBE_SESSION, true);
                cookies = true;
            }
            Place::Kprobe { .. } if group.is_some() => {
                (expected_attach_type, multi) = (attach_type::KPROBE_MULTI, true);
                cookies = true;
            }
            Place::Uprobe { .. } if group.is_some() => {
                (expected_attach_type, multi) = (attach_type::UPROBE_MULTI, true);
                cookies = true;
            }
            Place::RawTracepoint(found) => {
                expected_attach_type = attach_type::TRACE_RAW_TP;
                entry = Some(found.clone());
                cookies = numbered && has(Feature::TracingCookie);
            }
            Place::Fentry { exit, entry: found } => {
                expected_attach_type = if *exit {
                    attach_type::TRACE_FEXIT
                } else {
                    attach_type::TRACE_FENTRY
                };
                entry = Some(found.clone());
                cookies = numbered && has(Feature::TracingCookie);
            }
            Place::Iter { entry: found, .. } => {
                expected_attach_type = attach_type::TRACE_ITER;
                entry = Some(found.clone());
            }
            _ => {
                let cookie_feature = matches!(
                    probe.kind,
                    ProgramKind::PerfEvent
                        | ProgramKind::Tracepoint
                        | ProgramKind::Kprobe
                        | ProgramKind::Uprobe
                );
                cookies = cookie_feature && has(Feature::AttachCookie);
            }
        }
        let plan = ProgramPlan {
            probe: session.map_or(target.probe, |(program, _)| *program),
            expected_attach_type,
            entry,
            number: (numbered && !cookies).then_some(number),
        };
        // Programs that differ in nothing are loaded once; equal ones of a probe are neighbours.
        let program = programs
            .iter()
            .rposition(|known| *known == plan)
            .unwrap_or_else(|| {
                programs.push(plan);
                programs.len() - 1
            });
        let name = match group {
            Some(group) if multi && probe.name.is_none() => group_name(target, &group.text),
            _ => target.name.clone(),
        };
        open = multi.then(|| (group.as_ref().map_or(0, |group| group.number), path));
        attachments.push(Attachment {
            program,
            targets: vec![number],
            multi,
            cookies,
            name,
        });
    }
    Ok((programs, attachments))
}

/// The attach point of targets that share a link, of which this is one.
fn group_name(target: &Target, text: &str) -> String {
    match &target.place {
        // Each has a name of its own.
        Place::Uprobe { usdt: Some(_), .. } => target.name.clone(),
        Place::Uprobe { ret, path, .. } => {
            let provider = if *ret { "uretprobe" } else { "uprobe" };
            format!("{provider}:{}:{text}", path.display())
        }
        Place::Kprobe { ret, .. } => {
            let provider = if *ret { "kretprobe" } else { "kprobe" };
            format!("{provider}:{text}")
        }
        _ => target.name.clone(),
    }
}

fn check_limits(settings: &Settings, attachments: &[Attachment]) -> Result<(), LoadError> {
    let n_targets: usize = attachments.iter().map(|a| a.targets.len()).sum();
    let (n_targets, max_probes) = (n_targets as u64, settings.max_probes());
    if n_targets > max_probes {
        return Err(LoadError::usage(format!(
            "Can't attach to {n_targets} probes because it exceeds the current limit of \
             {max_probes} probes."
        ))
        .hint(
            "You can increase the limit through the BPFTRACE_MAX_PROBES environment variable, but \
             BE CAREFUL since a high number of probes attached can cause your system to crash.",
        ));
    }
    Ok(())
}
