//! The targets of all attach points of a script.

use std::collections::BTreeMap;
use std::rc::Rc;

use bpftrace_meta::{
    Manifest, MissingProbes, ProbeId, ProbeMeta, ProbeTarget, ProviderKind, SourceRange,
};

use super::expand::{self, Read};
use super::params::Params;
use super::{Invocation, Place, Settings, Target, Warning};
use crate::error::{ErrorKind, LoadError};
use crate::host::Host;
use crate::options::Mode;

/// What is said of a probe that nothing is left of.
pub(crate) const PROBE_REMOVED: &str = "Probe has no valid attach points. It is being removed which \
                                        may cause issues with program behavior.";

/// As [`PROBE_REMOVED`], where that is not allowed.
pub(crate) fn no_attach_points() -> LoadError {
    LoadError::usage(
        "Probe has no valid attach points. If this is expected, set the 'missing_probes' config \
         variable to 'warn'.",
    )
}

/// What is said of a target that cannot be attached to.
pub(crate) fn unable_to_attach(name: &str) -> LoadError {
    LoadError::host(format!(
        "Unable to attach probe: {name}. If this is expected, set the 'missing_probes' config \
         variable to 'warn'."
    ))
}

/// A target that was found, and whether it came with others from one wildcard, so that they can
/// share a link.
pub(super) struct Found {
    pub(super) target: Target,
    pub(super) group: Option<Group>,
}

/// Targets that may share a link.
#[derive(Clone)]
pub(super) struct Group {
    /// The same for all of them.
    pub(super) number: usize,
    /// What their attach point has behind the provider and, where there is one, the file.
    pub(super) text: Rc<str>,
}

/// Whether a probe takes part in this mode.
fn takes_part(target: &ProbeTarget, mode: Mode) -> bool {
    match target.provider() {
        ProviderKind::Begin | ProviderKind::End => true,
        ProviderKind::Test => mode == Mode::Test,
        ProviderKind::Bench => mode == Mode::Bench,
        _ => mode == Mode::Trace,
    }
}

/// Finds the targets of all attach points, in the order of the script, and whether there were others that
/// cannot be attached to.
pub(super) fn find(
    manifest: &Manifest,
    settings: &Settings,
    invocation: &Invocation<'_>,
    params: &mut Params<'_>,
    warnings: &mut Vec<Warning>,
    host: &dyn Host,
) -> Result<(Vec<Found>, bool), LoadError> {
    let filter =
        match &invocation.options.probe_filter {
            Some(text) => Some(regex_lite::Regex::new(text).map_err(|e| {
                LoadError::host(format!("Invalid --probe-filter regex '{text}': {e}"))
            })?),
            None => None,
        };
    let mut finder = Finder {
        manifest,
        policy: settings.missing_probes(),
        max_programs: settings.max_bpf_progs(),
        n_programs: 0,
        filter,
        invocation,
        params,
        warnings,
        host,
        found: Vec::new(),
        any_refused: false,
        errors: Vec::new(),
        alternatives: Vec::new(),
        patterns: BTreeMap::new(),
        group: 0,
    };
    for (probe_idx, probe) in manifest.probes.iter().enumerate() {
        finder.probe(ProbeId(probe_idx as u32), probe);
    }
    finder.check_alternatives();
    finder.check_patterns();
    match LoadError::all(finder.errors) {
        Some(error) => Err(error),
        None => Ok((finder.found, finder.any_refused)),
    }
}

/// An attach point that several programs are there for, one for each provider.
struct Alternatives {
    place: SourceRange,
    text: String,
    /// Whether it names the provider of one of them.
    meant: bool,
    n_places: usize,
}

struct Finder<'f, 'p> {
    manifest: &'f Manifest,
    policy: MissingProbes,
    max_programs: u64,
    /// What counts against that: targets of patterns that one link cannot serve, and those whose program
    /// asks which one fired. The kernel may need fewer programs; the limit is the same on all of them.
    n_programs: u64,
    filter: Option<regex_lite::Regex>,
    invocation: &'f Invocation<'f>,
    params: &'f mut Params<'p>,
    warnings: &'f mut Vec<Warning>,
    host: &'f dyn Host,
    found: Vec<Found>,
    /// Whether something that exists cannot be attached to.
    any_refused: bool,
    errors: Vec<LoadError>,
    alternatives: Vec<Alternatives>,
    /// How many targets there are of patterns whose matches were looked up when the script was compiled, by
    /// their places.
    patterns: BTreeMap<SourceRange, usize>,
    group: usize,
}

/// Refuses another build of a file than the one whose types the program was compiled with.
fn check_layout(probe: &ProbeMeta, place: &Place, host: &dyn Host) -> Result<(), LoadError> {
    let (Some(layout), Place::Uprobe { path, .. }) = (&probe.layout, place) else {
        return Ok(());
    };
    let shown = path.display();
    let build = host
        .user_build(path)
        .map_err(|e| LoadError::io(format!("Failed to read '{shown}'"), &e))?;
    match build {
        Some(build) if build == layout.build => Ok(()),
        Some(build) => Err(LoadError::usage(format!(
            "'{shown}' is another build than the one whose types the program was compiled with"
        ))
        .note(format!("compiled with {}, found {build}", layout.build))
        .hint("compile the script again with this file")),
        None => Err(LoadError::usage(format!(
            "'{shown}' is no ELF executable or shared object"
        ))),
    }
}

impl Finder<'_, '_> {
    fn probe(&mut self, id: ProbeId, probe: &ProbeMeta) {
        let mut wanted = false;
        let mut n_places = 0;
        let n_errors = self.errors.len();
        for (index, written) in probe.targets.iter().enumerate() {
            let at = probe.places.get(index).copied().unwrap_or(probe.place);
            if !takes_part(written, self.invocation.options.mode) {
                continue;
            }
            self.group += 1;
            match expand::read(written, self.invocation, self.params) {
                Ok(Read::One(target)) => {
                    wanted = true;
                    let n = self.attach_point(id, probe, at, &target, true);
                    n_places += n;
                    self.count(probe, written, true, n);
                }
                Ok(Read::OneOfSeveral(target)) => {
                    let n = self.attach_point(id, probe, at, &target, false);
                    self.count(probe, written, true, n);
                }
                Ok(Read::Other) => {
                    self.count(probe, written, false, 0);
                }
                Err(e) => {
                    // The same mistake for each provider is one.
                    if self.count(probe, written, true, 1) == 1 {
                        self.errors.push(e.at(at, &self.manifest.source));
                    }
                }
            }
        }
        if wanted && probe.from_pattern {
            *self.patterns.entry(probe.place).or_default() += n_places;
        } else if wanted && n_places == 0 && self.errors.len() == n_errors {
            self.nothing_left(probe.place);
        }
    }

    /// Complains of a probe without targets.
    fn nothing_left(&mut self, place: SourceRange) {
        match self.policy {
            MissingProbes::Error => {
                let error = no_attach_points().at(place, &self.manifest.source);
                self.errors.push(error);
            }
            MissingProbes::Warn => {
                self.warnings.push(Warning::at(place, PROBE_REMOVED));
            }
            MissingProbes::Ignore => {}
        }
    }

    /// Complains of patterns that nothing is left of.
    fn check_patterns(&mut self) {
        let patterns = std::mem::take(&mut self.patterns);
        for (place, n_places) in patterns {
            if n_places == 0 {
                self.nothing_left(place);
            }
        }
    }

    /// Finds the targets of one attach point, and returns their number. Whether it has to have some is
    /// `needed`; a pattern never has to.
    fn attach_point(
        &mut self,
        id: ProbeId,
        probe: &ProbeMeta,
        at: SourceRange,
        target: &ProbeTarget,
        needed: bool,
    ) -> usize {
        let mut notes = Vec::new();
        let expanded = expand::expand(target, self.invocation, &mut notes, self.host);
        if self.policy != MissingProbes::Ignore && needed {
            let notes = notes.into_iter();
            self.warnings
                .extend(notes.map(|text| Warning::at(at, text)));
        }
        let expanded = match expanded {
            Ok(expanded) if needed => expanded,
            Ok(mut expanded) => {
                // Whether a function can be probed is otherwise found out when it is attached.
                expanded.places.retain(|(_, place)| match place {
                    Place::Kprobe { function, .. } => {
                        expand::is_traceable(function, self.invocation, self.host)
                    }
                    _ => true,
                });
                expanded
            }
            Err(_) if !needed => return 0,
            Err(e) if probe.from_pattern && e.kind() == ErrorKind::Usage => {
                self.skipped(at, &e.with_notes());
                return 0;
            }
            Err(e) => {
                self.errors.push(e.at(at, &self.manifest.source));
                // The others may be wrong too, but this one is not missing.
                return 1;
            }
        };
        for (_, place) in &expanded.places {
            if let Err(e) = check_layout(probe, place, self.host) {
                self.errors.push(e.at(at, &self.manifest.source));
                return 1;
            }
        }
        if probe.uses_target_number || (expanded.pattern && !expanded.shareable) {
            self.n_programs += expanded.places.len() as u64;
            if self.n_programs > self.max_programs {
                self.errors
                    .push(self.too_many().at(at, &self.manifest.source));
                return 1;
            }
        }
        let mut n_places = expanded.places.len();
        let is_missing = n_places == 0 && expanded.refused.is_empty();
        for (name, error) in expanded.refused {
            let name = probe.name.clone().unwrap_or(name);
            if !self.is_filtered_out(&name) {
                // What is wrong is told.
                n_places += 1;
                self.refused(at, &name, error);
            }
        }
        if is_missing && probe.from_pattern {
            self.skipped(at, &format!("{} Skipping.", expanded.missing));
        } else if is_missing && needed && !expanded.pattern && !probe.uses_target_number {
            self.missing(at, &expanded.missing);
        }
        let group = expanded.shareable.then(|| Group {
            number: self.group,
            text: expanded.text.into(),
        });
        for (name, place) in expanded.places {
            let name = probe.name.clone().unwrap_or(name);
            let always = matches!(place, Place::Begin | Place::End | Place::Signal);
            if !always && self.is_filtered_out(&name) {
                continue;
            }
            self.found.push(Found {
                target: Target {
                    probe: id,
                    name,
                    place,
                    written: at,
                },
                group: group.clone(),
            });
        }
        n_places
    }

    fn too_many(&self) -> LoadError {
        LoadError::usage(format!(
            "Your program is trying to generate more than {} BPF programs, which exceeds the current \
             limit of {}",
            self.n_programs, self.max_programs
        ))
        .hint("You can increase the limit through the BPFTRACE_MAX_BPF_PROGS environment variable.")
    }

    fn is_filtered_out(&self, name: &str) -> bool {
        let filter = self.filter.as_ref();
        filter.is_some_and(|filter| !filter.is_match(name))
    }

    fn refused(&mut self, place: SourceRange, name: &str, error: LoadError) {
        self.any_refused = true;
        match self.policy {
            MissingProbes::Error => {
                let unable = unable_to_attach(name).at(place, &self.manifest.source);
                self.errors.push(error.and(unable));
            }
            MissingProbes::Warn => {
                self.warnings.push(Warning {
                    text: error.with_notes(),
                    place: None,
                });
                let text = format!("Unable to attach probe: {name}. Skipping.");
                self.warnings.push(Warning::at(place, text));
            }
            MissingProbes::Ignore => {}
        }
    }

    fn missing(&mut self, place: SourceRange, text: &str) {
        match self.policy {
            MissingProbes::Error => self
                .errors
                .push(LoadError::usage(text).at(place, &self.manifest.source)),
            MissingProbes::Warn => {
                self.warnings
                    .push(Warning::at(place, format!("{text} Skipping.")));
            }
            MissingProbes::Ignore => {}
        }
    }

    /// Says that a match of a pattern that was there for the compiler is not here.
    fn skipped(&mut self, place: SourceRange, text: &str) {
        if self.policy != MissingProbes::Ignore {
            self.warnings.push(Warning::at(place, text));
        }
    }

    /// Notes what came of an attach point that is kept as written; how many places it has by now.
    fn count(&mut self, probe: &ProbeMeta, written: &ProbeTarget, meant: bool, n: usize) -> usize {
        let ProbeTarget::Written { text, .. } = written else {
            return n;
        };
        let known = self
            .alternatives
            .iter()
            .position(|known| known.place == probe.place && known.text == *text);
        let at = known.unwrap_or_else(|| {
            self.alternatives.push(Alternatives {
                place: probe.place,
                text: text.clone(),
                meant: false,
                n_places: 0,
            });
            self.alternatives.len() - 1
        });
        let alternatives = &mut self.alternatives[at];
        alternatives.meant |= meant;
        alternatives.n_places += n;
        alternatives.n_places
    }

    /// Complains of attach points that none of their programs is for.
    fn check_alternatives(&mut self) {
        for alternatives in std::mem::take(&mut self.alternatives) {
            let place = alternatives.place;
            let (point, _) = bpftrace_notation::AttachPoint::parse(&alternatives.text);
            if !alternatives.meant {
                let params = &mut *self.params;
                let (point, _) = point.fill(&mut |number| {
                    let number = u32::try_from(number).unwrap_or(u32::MAX);
                    params.positional(number).to_owned()
                });
                let provider = match point.known_provider() {
                    Ok(provider) => provider.as_str().to_owned(),
                    Err(_) => point.provider.to_display(),
                };
                let error = LoadError::usage(format!(
                    "{}: the body is not possible for {provider} probes",
                    point.raw
                ));
                self.errors.push(error.at(place, &self.manifest.source));
            } else if alternatives.n_places == 0 && point.provider.to_display().contains('*') {
                let text = format!("No matches for {}.", alternatives.text);
                self.missing(place, &text);
            }
        }
    }
}
