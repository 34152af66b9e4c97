//! From a bound script to programs and maps in the kernel.

mod verifier;

use std::collections::HashMap;
use std::os::fd::{AsFd as _, OwnedFd};

use bpftrace_meta::{
    EventKind, Manifest, MapRole, MapValue, ProgramKind, RuntimeError, SourceRange, USDT_MAX_ARGS,
    UnwindTable,
};

use crate::bind::{Bound, Place, ProgramPlan};
use crate::error::{LoadError, describe_errno};
use crate::ffi::{
    self, Insn, LoadFailure, LoadRequest, MapHandle, OpenObject, OtherPrograms, PreparedObject,
    Program, ProgramParts, ProgramType,
};
use crate::host::{BtfObject, Host};
use crate::options::RunOptions;

/// A script whose programs and maps are in the kernel; nothing is attached yet.
pub(crate) struct Loaded {
    pub(crate) bound: Bound,
    /// In the order of [`Bound::programs`].
    pub(crate) programs: Vec<Program>,
    /// In the order of the manifest; `None`: the object does not have it.
    pub(crate) maps: Vec<Option<MapHandle>>,
    /// The programs of imported objects, if there are any.
    pub(crate) others: Option<OtherPrograms>,
}

/// Loads a bound script.
pub(crate) fn load(
    bound: Bound,
    options: &RunOptions,
    host: &dyn Host,
) -> Result<Loaded, LoadError> {
    let (object, any_others) = prepare(&bound, options, host)?;
    let possible_cpus = host
        .possible_cpus()
        .map_err(|e| LoadError::io("Failed to read the list of CPUs", &e))?;
    let maps = bound
        .manifest
        .maps
        .iter()
        .map(|map| object.map(&map.symbol, possible_cpus))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| LoadError::io("Failed to open the maps", &e))?;
    write_probe_names(&bound, &maps)?;
    write_probe_addresses(&bound, &maps, host)?;
    write_usdt_args(&bound, &maps)?;
    write_unwind_tables(&bound, &maps)?;
    let programs = load_programs(&bound, &object, options)?;
    let others = if any_others {
        Some(load_others(&bound, object, options)?)
    } else {
        None
    };
    Ok(Loaded {
        bound,
        programs,
        maps,
        others,
    })
}

/// Whether a program of the object is one of the script, not of an imported object.
fn is_ours(bound: &Bound, program: &str) -> bool {
    let mut probes = bound.manifest.probes.iter();
    probes.any(|probe| probe.program == program)
}

/// Opens the object, writes what was bound into it, creates its maps and relocates its programs. Gives
/// also whether there are programs of imported objects in it.
fn prepare(
    bound: &Bound,
    options: &RunOptions,
    host: &dyn Host,
) -> Result<(PreparedObject, bool), LoadError> {
    drop(ffi::take_log());
    let btf = host.env("BPFTRACE_BTF").map(std::path::PathBuf::from);
    let failed = |what: &str, e: std::io::Error| {
        let log = ffi::take_log();
        let reason = log
            .iter()
            .rev()
            .find(|(level, _)| *level == 0)
            .map(|(_, text)| text.trim_start_matches("libbpf: ").to_owned());
        let error = LoadError::io(what, &e);
        let error = match reason {
            Some(reason) => {
                let whose = whose(bound, |name| reason.contains(&format!("'{name}'")));
                whose
                    .into_iter()
                    .fold(error.because(reason), LoadError::note)
            }
            None => error,
        };
        if options.debug.libbpf {
            show_libbpf_log(&log);
            error
        } else {
            error.hint("Try using the \"-d libbpf\" option to see the full loading log.")
        }
    };
    let mut object = OpenObject::open(&bound.object, btf.as_deref())
        .map_err(|e| failed("Failed to open the BPF object", e))?;
    let mut any_others = false;
    for name in object.programs() {
        if !is_ours(bound, &name) {
            any_others = true;
            continue;
        }
        let used = bound
            .programs
            .iter()
            .any(|plan| bound.manifest.probes[plan.probe.0 as usize].program == name);
        object
            .use_program(&name, used)
            .map_err(|e| failed("Failed to set up the BPF object", e))?;
    }
    for (map, entries) in bound.manifest.maps.iter().zip(&bound.entries) {
        if let Some(entries) = entries {
            object
                .set_max_entries(&map.symbol, *entries)
                .map_err(|e| failed("Failed to set the size of a map", e))?;
        }
    }
    for (offset, bytes) in &bound.data {
        let written = object
            .write_data(".rodata", *offset, bytes)
            .map_err(|e| failed("Failed to bind a value", e))?;
        if !written {
            return Err(LoadError::usage(
                "the compiled script is malformed: a slot is outside of .rodata",
            ));
        }
    }
    shape_keys(bound, &mut object)
        .map_err(|e| failed("Failed to set the size of a map's keys", e))?;
    let object = object
        .prepare()
        .map_err(|e| failed("Unknown BPF object load failure", e))?;
    if options.debug.libbpf {
        show_libbpf_log(&ffi::take_log());
    }
    Ok((object, any_others))
}

/// Loads the programs of imported objects.
fn load_others(
    bound: &Bound,
    object: PreparedObject,
    options: &RunOptions,
) -> Result<OtherPrograms, LoadError> {
    drop(ffi::take_log());
    let loaded = object.load_others(&|name| is_ours(bound, name), bound.settings.log_size());
    let log = ffi::take_log();
    if options.debug.libbpf {
        show_libbpf_log(&log);
    }
    loaded.map_err(|(program, failure)| {
        let Some(program) = program else {
            let what = "Failed to load the programs of imported objects";
            let error = LoadError::io(what, &failure.error);
            let mut said = log.iter().filter(|(level, _)| *level == 0);
            return match said.next() {
                Some((_, text)) => error.because(text.trim_start_matches("libbpf: ").to_owned()),
                None => error,
            };
        };
        let whose = whose(bound, |name| name == program);
        let error = refused(&program, &failure, options);
        let mut error = whose.into_iter().fold(error, LoadError::note);
        if let Some(complaint) = verifier::complaint(&failure.log) {
            error = error.note(format!("The kernel said: {}", complaint.reason));
        }
        match options.verbose {
            true => error.note(format!("Kernel error log:\n{}", failure.log)),
            false => error,
        }
    })
}

/// What to say of the imported object that has what an error is about; else of all that are imported.
fn whose(bound: &Bound, is_meant: impl Fn(&str) -> bool) -> Option<String> {
    let imports = &bound.manifest.imports;
    let owner = imports
        .iter()
        .find_map(|import| Some((import, import.symbols.iter().find(|name| is_meant(name))?)));
    match owner {
        Some((import, name)) => Some(format!("'{name}' is in the imported '{}'", import.path)),
        None if imports.is_empty() => None,
        None => {
            let paths: Vec<_> = imports.iter().map(|i| format!("'{}'", i.path)).collect();
            Some(format!("The script imports {}", paths.join(", ")))
        }
    }
}

/// The kernel does not take a program.
fn refused(program: &str, failure: &LoadFailure, options: &RunOptions) -> LoadError {
    let errno = failure.error.raw_os_error().unwrap_or(0);
    let reason = describe_errno(&failure.error);
    let mut message =
        format!("Error loading BPF program for {program}. Error code: -{errno} ({reason}).");
    if !options.verbose {
        message.push_str(" Use -v for full kernel error log.");
    }
    LoadError::host(message)
}

/// Leaves the maps with keys out where the kernel takes large keys; otherwise the maps they are for get
/// small ones.
fn shape_keys(bound: &Bound, object: &mut OpenObject) -> std::io::Result<()> {
    /// Bytes of a hash and of a bucket.
    const HASH: u32 = 16;
    const BUCKET: u32 = 8;
    for map in &bound.manifest.maps {
        let MapRole::Keys { of } = &map.role else {
            continue;
        };
        let Some(main) = bound.manifest.maps.get(of.0 as usize) else {
            continue;
        };
        if bound.large_map_keys {
            object.leave_out(&map.symbol)?;
            continue;
        }
        let bucketed = matches!(&main.role, MapRole::Script {
            value: MapValue::Aggregate(kind), ..
        } if kind.is_bucketed());
        object.set_key_size(&main.symbol, HASH + if bucketed { BUCKET } else { 0 })?;
    }
    Ok(())
}

fn show_libbpf_log(log: &[(u32, String)]) {
    for (_, text) in log {
        eprintln!("{text}");
    }
}

/// Writes the names of the targets to the maps that programs look them up in.
fn write_probe_names(bound: &Bound, maps: &[Option<MapHandle>]) -> Result<(), LoadError> {
    for (meta, map) in bound.manifest.maps.iter().zip(maps) {
        let (MapRole::ProbeNames { size }, Some(map)) = (&meta.role, map) else {
            continue;
        };
        let size = *size as usize;
        for (number, target) in bound.targets.iter().enumerate() {
            let mut name = target.name.clone().into_bytes();
            name.truncate(size.saturating_sub(1));
            name.resize(map.value_size(), 0);
            map.update(&(number as u32).to_le_bytes(), &name)
                .map_err(|e| LoadError::io("Failed to write the names of probes", &e))?;
        }
    }
    Ok(())
}

/// Writes the addresses that probes in processes have in their files.
fn write_probe_addresses(
    bound: &Bound,
    maps: &[Option<MapHandle>],
    host: &dyn Host,
) -> Result<(), LoadError> {
    for (meta, map) in bound.manifest.maps.iter().zip(maps) {
        let (MapRole::ProbeAddresses, Some(map)) = (&meta.role, map) else {
            continue;
        };
        for (number, target) in bound.targets.iter().enumerate() {
            let Place::Uprobe { path, offset, .. } = &target.place else {
                continue;
            };
            let file = host.elf_file(path).ok().flatten();
            let address = file.and_then(|file| file.address_at(*offset));
            let address = address.unwrap_or(*offset);
            map.update(&(number as u32).to_le_bytes(), &address.to_le_bytes())
                .map_err(|e| LoadError::io("Failed to write the addresses of probes", &e))?;
        }
    }
    Ok(())
}

/// Writes where the USDT probes have their arguments to the map that programs look it up in.
fn write_usdt_args(bound: &Bound, maps: &[Option<MapHandle>]) -> Result<(), LoadError> {
    for (meta, map) in bound.manifest.maps.iter().zip(maps) {
        let (MapRole::UsdtArgs { .. }, Some(map)) = (&meta.role, map) else {
            continue;
        };
        let mut first = 0;
        for (number, target) in bound.targets.iter().enumerate() {
            let Place::Uprobe {
                usdt: Some(site), ..
            } = &target.place
            else {
                continue;
            };
            // The places of one probe are neighbours.
            if bound.targets[first].name != target.name {
                first = number;
            }
            let arguments = site.arguments.iter().map(|a| a.as_ref().ok().copied());
            let mut entry: Vec<u8> = arguments
                .chain(std::iter::repeat(None))
                .take(USDT_MAX_ARGS)
                .flat_map(|argument| argument.unwrap_or_default().to_bytes())
                .collect();
            entry.extend((first as u64).to_le_bytes());
            entry.resize(map.value_size(), 0);
            map.update(&(number as u32).to_le_bytes(), &entry)
                .map_err(|e| LoadError::io("Failed to write where arguments are", &e))?;
        }
    }
    Ok(())
}

/// Writes what stacks are unwound with.
fn write_unwind_tables(bound: &Bound, maps: &[Option<MapHandle>]) -> Result<(), LoadError> {
    let Some(tables) = &bound.unwind else {
        return Ok(());
    };
    for (meta, map) in bound.manifest.maps.iter().zip(maps) {
        let (MapRole::Unwind(table), Some(map)) = (&meta.role, map) else {
            continue;
        };
        let written = match table {
            UnwindTable::Processes => tables
                .processes
                .iter()
                .try_for_each(|(pid, rows)| map.update(&pid.to_le_bytes(), &rows.to_bytes())),
            UnwindTable::Rows => map.update_array(tables.rows.iter().map(|row| row.to_bytes())),
            UnwindTable::Rules => {
                map.update_array(tables.rules.all.iter().map(|rule| rule.to_bytes()))
            }
        };
        written.map_err(|e| LoadError::io("Failed to write the unwind tables", &e))?;
    }
    Ok(())
}

fn program_type(kind: ProgramKind) -> ProgramType {
    match kind {
        ProgramKind::RawTracepointRun => ProgramType::RawTracepoint,
        ProgramKind::Xdp => ProgramType::Xdp,
        ProgramKind::PerfEvent => ProgramType::PerfEvent,
        ProgramKind::Tracepoint => ProgramType::Tracepoint,
        ProgramKind::Kprobe | ProgramKind::Uprobe => ProgramType::Kprobe,
        ProgramKind::TpBtf | ProgramKind::Fentry | ProgramKind::Fexit | ProgramKind::Iter => {
            ProgramType::Tracing
        }
    }
}

fn load_programs(
    bound: &Bound,
    object: &PreparedObject,
    options: &RunOptions,
) -> Result<Vec<Program>, LoadError> {
    let license = license(&bound.object);
    let mut module_btfs: HashMap<&str, OwnedFd> = HashMap::new();
    let mut traced_programs: HashMap<u32, OwnedFd> = HashMap::new();
    let mut programs = Vec::with_capacity(bound.programs.len());
    let mut parts: Option<(u32, ProgramParts<'_>)> = None;
    for (index, plan) in bound.programs.iter().enumerate() {
        let probe = &bound.manifest.probes[plan.probe.0 as usize];
        if let Some(entry) = &plan.entry
            && let BtfObject::Module(module) = &entry.object
            && !module_btfs.contains_key(module.as_str())
        {
            let btf = ffi::open_module_btf(module).map_err(|e| {
                LoadError::io(format!("Failed to open the BTF of module {module}"), &e)
            })?;
            module_btfs.insert(module, btf);
        }
        if let Some(entry) = &plan.entry
            && let BtfObject::Program(id) = &entry.object
            && !traced_programs.contains_key(id)
        {
            let program = ffi::open_program(*id)
                .map_err(|e| LoadError::io(format!("Failed to open BPF program {id}"), &e))?;
            traced_programs.insert(*id, program);
        }
        // Programs of one probe are neighbours and share their instructions.
        let parts = match &mut parts {
            Some((probe, parts)) if *probe == plan.probe.0 => parts,
            slot => {
                let found = object
                    .program(&probe.program)
                    .map_err(|e| LoadError::io("Failed to read a program", &e))?
                    .ok_or_else(|| {
                        LoadError::usage(format!(
                            "the compiled script is malformed: it has no program '{}'",
                            probe.program
                        ))
                    })?;
                &mut slot.insert((plan.probe.0, found)).1
            }
        };
        let insns = numbered(&parts.insns, &probe.target_number_insns, plan.number)?;
        let attach_btf = plan.entry.as_ref().and_then(|entry| match &entry.object {
            BtfObject::Vmlinux | BtfObject::Program(_) => None,
            BtfObject::Module(module) => module_btfs.get(module.as_str()),
        });
        let attach_program = plan.entry.as_ref().and_then(|entry| match &entry.object {
            BtfObject::Program(id) => traced_programs.get(id),
            _ => None,
        });
        let mut request = LoadRequest {
            name: &probe.program,
            program_type: program_type(probe.kind),
            expected_attach_type: plan.expected_attach_type,
            license: &license,
            insns: &insns,
            func_info: &parts.func_info,
            line_info: &parts.line_info,
            btf: parts.btf_fd,
            attach_btf_id: plan.entry.as_ref().map_or(0, |entry| entry.id),
            attach_btf: attach_btf.map(|fd| fd.as_fd()),
            attach_program: attach_program.map(|fd| fd.as_fd()),
            log_level: u32::from(
                options.debug.verifier || options.verbose && bound.settings.wants_log(),
            ),
            log_size: bound.settings.log_size(),
        };
        let mut result = ffi::load_program(&request);
        if let Err(LoadFailure { log, error, .. }) = &result
            && log.is_empty()
        {
            // Only now is the log worth its time.
            request.log_level = 1;
            let reason = error.raw_os_error();
            result = ffi::load_program(&request);
            if let Err(failure) = &mut result
                && failure.error.raw_os_error() == Some(libc::ENOSPC)
                && let Some(reason) = reason
            {
                // The program was refused for something else than the size of the log.
                failure.log_trimmed = true;
                failure.error = std::io::Error::from_raw_os_error(reason);
            }
        }
        match result {
            Ok((program, log)) => {
                if options.debug.verifier {
                    eprintln!("Verifier log of {}:\n{log}", target_name(bound, index));
                }
                programs.push(program);
            }
            Err(failure) => return Err(explain(bound, index, plan, &failure, options)),
        }
    }
    Ok(programs)
}

/// The instructions with a target's number in them.
fn numbered<'a>(
    insns: &'a [Insn],
    sites: &[u32],
    number: Option<u64>,
) -> Result<std::borrow::Cow<'a, [Insn]>, LoadError> {
    let Some(number) = number else {
        return Ok(insns.into());
    };
    let imm = u32::try_from(number)
        .map_err(|_| LoadError::host("too many targets"))?
        .to_le_bytes();
    let mut insns = insns.to_vec();
    for site in sites {
        let insn = insns.get_mut(*site as usize).ok_or_else(|| {
            LoadError::usage("the compiled script is malformed: a patch is outside of its program")
        })?;
        insn[4..8].copy_from_slice(&imm);
    }
    Ok(insns.into())
}

/// Name of the first target that a program is for.
fn target_name(bound: &Bound, program: usize) -> &str {
    bound
        .attachments
        .iter()
        .find(|attachment| attachment.program == program)
        .and_then(|attachment| attachment.targets.first())
        .and_then(|number| bound.targets.get(*number as usize))
        .map_or("?", |target| target.name.as_str())
}

/// Text of the object's `license` section.
fn license(object: &[u8]) -> String {
    let section = goblin::elf::Elf::parse(object).ok().and_then(|elf| {
        let section = elf
            .section_headers
            .iter()
            .find(|section| elf.shdr_strtab.get_at(section.sh_name) == Some("license"))?;
        object.get(section.file_range()?)
    });
    let text = section.unwrap_or_default().split(|b| *b == 0).next();
    String::from_utf8_lossy(text.unwrap_or_default()).into_owned()
}

/// The verifier's answer as an error about the script.
fn explain(
    bound: &Bound,
    index: usize,
    plan: &ProgramPlan,
    failure: &LoadFailure,
    options: &RunOptions,
) -> LoadError {
    let name = target_name(bound, index);
    let probe = &bound.manifest.probes[plan.probe.0 as usize];
    // A log that does not fit is no mistake in the script.
    let log_is_full = failure.error.raw_os_error() == Some(libc::ENOSPC);
    let mut error = refused(&probe.program, failure, options);
    let complaint = verifier::complaint(&failure.log);
    if let Some(complaint) = &complaint
        && let Some(helper) = complaint.refused_helper()
    {
        let error = LoadError::host(format!("helper {helper} not allowed in probe"));
        let place = call_of(helper, &bound.manifest)
            .or_else(|| complaint.place(&bound.manifest.source))
            .unwrap_or(probe.place);
        let error = error.at(place, &bound.manifest.source).note(format!(
            "Loading {name}, the kernel said: {}",
            complaint.reason
        ));
        return match options.verbose {
            true => error.note(format!("Kernel error log:\n{}", failure.log)),
            false => error,
        };
    }
    let place = complaint
        .as_ref()
        .and_then(|complaint| complaint.place(&bound.manifest.source))
        .unwrap_or(probe.place);
    if !log_is_full {
        error = error.at(place, &bound.manifest.source);
    }
    if let Some(complaint) = &complaint {
        if place == probe.place
            && let Some(line) = &complaint.line
            && !line.is_empty()
        {
            error = error.note(format!("in: {line}"));
        }
        error = error.note(format!("The kernel said: {}", complaint.reason));
        if let Some(hint) = complaint.hint() {
            error = error.hint(hint);
        }
    }
    if options.verbose && !failure.log.is_empty() {
        error = error.note(format!("Kernel error log:\n{}", failure.log));
    }
    let log_trimmed = failure.log_trimmed || log_is_full;
    if log_trimmed && options.verbose {
        eprintln!(
            "WARNING: Kernel log seems to be trimmed. This may be due to buffer not being big enough, \
             try increasing the BPFTRACE_LOG_SIZE environment variable beyond the current value of {} \
             bytes. Or, add the configuration `config = {{ log_size = N; }}` to the script.",
            bound.settings.wanted_log_size()
        );
    } else if log_trimmed {
        error = error.hint(format!(
            "The kernel log has been trimmed to {} bytes: set the BPFTRACE_LOG_SIZE environment \
             variable to see more of it",
            bound.settings.log_size()
        ));
    }
    error
}

/// The only call of a helper in the script, where the manifest tells: it has the places of calls whose
/// failure is reported.
fn call_of(helper: &str, manifest: &Manifest) -> Option<SourceRange> {
    let mut calls = manifest.events.iter().filter(|event| match &event.kind {
        EventKind::RuntimeError(RuntimeError::HelperFailed(failure)) => {
            helper.strip_prefix("bpf_") == Some(failure.helper.as_str())
        }
        _ => false,
    });
    calls
        .next()
        .filter(|_| calls.next().is_none())
        .map(|event| event.place)
}
