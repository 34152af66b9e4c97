//! Tables that stacks of processes are unwound with, from the call frame information (`.eh_frame`) of the
//! files that the processes have mapped. See [`bpftrace_meta::unwind`] for what they look like.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bpftrace_meta::unwind::{CFA, How, IP, ProcessRows, Row, Rule, SEARCH_STEPS, SP, Step, ZERO};
use bpftrace_meta::{Manifest, MapRole, UnwindTable};
use gimli::{
    BaseAddresses, CfaRule, CieOrFde, DebugFrame, EhFrame, EndianSlice, LittleEndian, Operation,
    Register, RegisterRule, UnwindContext, UnwindExpression, UnwindSection,
};
use goblin::elf::Elf;
use goblin::elf::program_header::PT_LOAD;

use super::Invocation;
use crate::error::LoadError;
use crate::host::{Host, Mapping, VDSO};

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// The tables.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct UnwindTables {
    pub(crate) processes: Vec<(u32, ProcessRows)>,
    pub(crate) rows: Vec<Row>,
    pub(crate) rules: Rules,
}

impl UnwindTables {
    /// How many entries a table has.
    pub(crate) fn len(&self, table: UnwindTable) -> usize {
        match table {
            UnwindTable::Processes => self.processes.len(),
            UnwindTable::Rows => self.rows.len(),
            UnwindTable::Rules => self.rules.all.len(),
        }
    }
}

/// Each rule once; rule 0 is for where nobody knows how to go on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) all: Vec<Rule>,
    known: HashMap<Rule, u32>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            all: vec![Rule { steps: Vec::new() }],
            known: HashMap::new(),
        }
    }
}

impl Rules {
    fn number(&mut self, rule: Rule) -> u32 {
        let next = self.all.len() as u32;
        *self.known.entry(rule).or_insert_with_key(|rule| {
            self.all.push(rule.clone());
            next
        })
    }
}

/// What a file says: rows by the file's own addresses, and its loadable segments.
#[derive(Default)]
struct UnwindFile {
    rows: Vec<(u64, u32)>,
    /// Address, offset in the file and size of what is executable.
    segments: Vec<(u64, u64, u64)>,
}

/// Whether a script unwinds stacks.
pub(crate) fn is_wanted(manifest: &Manifest) -> bool {
    manifest
        .maps
        .iter()
        .any(|map| matches!(map.role, MapRole::Unwind(_)))
}

/// Makes the tables for the processes that a session is about.
pub(super) fn tables(
    invocation: &Invocation<'_>,
    host: &dyn Host,
) -> Result<UnwindTables, LoadError> {
    let mut pids: Vec<i32> = invocation.options.dwarf_pids.clone();
    pids.extend(invocation.traced_pid());
    pids.sort_unstable();
    pids.dedup();
    if pids.is_empty() {
        return Err(LoadError::usage(
            "dw_ustack requires a target process. Use -p, -c, or --dwarf-pid to specify one.",
        ));
    }
    let mut tables = UnwindTables::default();
    let mut files: HashMap<PathBuf, Rc<UnwindFile>> = HashMap::new();
    for pid in pids {
        let mut mappings = host.mappings(pid).map_err(|e| {
            LoadError::io(
                format!("Failed to read the memory map of process {pid}"),
                &e,
            )
        })?;
        mappings.sort_unstable_by_key(|mapping| mapping.start);
        let first = tables.rows.len();
        for mapping in &mappings {
            let file = match files.get(&mapping.path) {
                Some(known) => Rc::clone(known),
                None => {
                    // The frames of a file that cannot be read are where unwinding ends.
                    let bytes = read_mapped(pid, mapping, host).unwrap_or_default();
                    let file = Rc::new(read_file(&bytes, &mut tables.rules));
                    files.insert(mapping.path.clone(), Rc::clone(&file));
                    file
                }
            };
            add_mapping(&file, mapping, first, &mut tables.rows);
        }
        let count = tables.rows.len() - first;
        if tables.rows.len() >> SEARCH_STEPS != 0 {
            return Err(LoadError::host(format!(
                "Failed to build unwind tables for process {pid}: it has too much code"
            )));
        }
        let rows = ProcessRows {
            first: first as u32,
            count: count as u32,
        };
        tables.processes.push((pid as u32, rows));
    }
    Ok(tables)
}

/// The bytes of what a process has mapped.
fn read_mapped(pid: i32, mapping: &Mapping, host: &dyn Host) -> io::Result<Vec<u8>> {
    if mapping.path == Path::new(VDSO) {
        return host.read_memory(pid, mapping.start, mapping.size() as usize);
    }
    let inside = format!("/proc/{pid}/root{}", mapping.path.display());
    host.read_file(Path::new(&inside))
}

/// Adds the rows of a file where a process has mapped it.
fn add_mapping(file: &UnwindFile, mapping: &Mapping, first: usize, rows: &mut Vec<Row>) {
    let overlaps = |(_, offset, size): &&(u64, u64, u64)| {
        *offset < mapping.offset.saturating_add(mapping.size())
            && mapping.offset < offset.saturating_add(*size)
    };
    let Some((address, offset, _)) = file.segments.iter().find(overlaps) else {
        return;
    };
    let bias = mapping
        .start
        .wrapping_sub(mapping.offset)
        .wrapping_add(*offset)
        .wrapping_sub(*address);
    let (start, end) = (
        mapping.start.wrapping_sub(bias),
        mapping.end.wrapping_sub(bias),
    );
    let from = file.rows.partition_point(|(address, _)| *address < start);
    let to = file.rows.partition_point(|(address, _)| *address < end);
    let inside = file.rows.get(from..to).unwrap_or_default();
    rows.extend(inside.iter().map(|(address, rule)| Row {
        address: address.wrapping_add(bias),
        rule: *rule,
    }));
    if rows.len() > first && rows.last().is_some_and(|row| row.rule != 0) {
        rows.push(Row {
            address: mapping.end,
            rule: 0,
        });
    }
}

/// Reads the bytes of a file; what is no ELF file, or says nothing, has no rows.
fn read_file(bytes: &[u8], rules: &mut Rules) -> UnwindFile {
    let Ok(elf) = Elf::parse(bytes) else {
        return UnwindFile::default();
    };
    let section = |name: &str| {
        let section = elf
            .section_headers
            .iter()
            .find(|section| elf.shdr_strtab.get_at(section.sh_name) == Some(name))?;
        let bytes = bytes.get(section.file_range()?)?;
        Some((section.sh_addr, bytes)).filter(|(_, bytes)| !bytes.is_empty())
    };
    let mut bases = BaseAddresses::default();
    if let Some((text, _)) = section(".text") {
        bases = bases.set_text(text);
    }
    let mut rows = Vec::new();
    if let Some((address, bytes)) = section(".eh_frame") {
        let frames = EhFrame::new(bytes, LittleEndian);
        read_rows(&frames, &bases.set_eh_frame(address), rules, &mut rows);
    } else if let Some((_, bytes)) = section(".debug_frame") {
        let mut frames = DebugFrame::new(bytes, LittleEndian);
        frames.set_address_size(8);
        read_rows(&frames, &bases, rules, &mut rows);
    }
    // The start of a function counts more than the end of the one in front of it.
    rows.sort_by_key(|(address, is_start, _)| (*address, *is_start));
    let mut sorted: Vec<(u64, u32)> = Vec::with_capacity(rows.len());
    for (address, _, rule) in rows {
        match sorted.last_mut() {
            Some(last) if last.0 == address => last.1 = rule,
            Some(last) if last.1 == rule => {}
            _ => sorted.push((address, rule)),
        }
    }
    UnwindFile {
        rows: sorted,
        segments: elf
            .program_headers
            .iter()
            .filter(|segment| segment.p_type == PT_LOAD && segment.is_executable())
            .map(|segment| (segment.p_vaddr, segment.p_offset, segment.p_filesz))
            .collect(),
    }
}

/// Reads a section: address, whether it is the start of something, rule. What cannot be read is left out.
fn read_rows<'a, S>(
    section: &S,
    bases: &BaseAddresses,
    rules: &mut Rules,
    rows: &mut Vec<(u64, bool, u32)>,
) where
    S: UnwindSection<Slice<'a>>,
    S::Offset: std::hash::Hash,
{
    let mut cies = HashMap::new();
    let mut context = UnwindContext::new();
    let mut entries = section.entries(bases);
    while let Ok(Some(entry)) = entries.next() {
        let CieOrFde::Fde(partial) = entry else {
            continue;
        };
        let fde = partial.parse(|section, bases, offset| match cies.get(&offset) {
            Some(known) => {
                Ok::<gimli::CommonInformationEntry<Slice<'a>>, gimli::Error>(Clone::clone(known))
            }
            None => {
                let cie = section.cie_from_offset(bases, offset)?;
                cies.insert(offset, cie.clone());
                Ok(cie)
            }
        });
        let Ok(fde) = fde else {
            continue;
        };
        let encoding = fde.cie().encoding();
        let Ok(mut table) = fde.rows(section, bases, &mut context) else {
            continue;
        };
        while let Ok(Some(row)) = table.next_row() {
            let rule = rule(row, section, encoding).map_or(0, |rule| rules.number(rule));
            rows.push((row.start_address(), true, rule));
        }
        rows.push((fde.initial_address().wrapping_add(fde.len()), false, 0));
    }
}

/// A row as a rule; `None` when it says what we do not know how to do.
fn rule<'a, S: UnwindSection<Slice<'a>>>(
    row: &gimli::UnwindTableRow<usize>,
    section: &S,
    encoding: gimli::Encoding,
) -> Option<Rule> {
    let expression = |expression: &UnwindExpression<usize>| {
        let expression = expression.get(section).ok()?;
        let mut operations = expression.operations(encoding);
        let mut all = Vec::new();
        while let Some(operation) = operations.next().ok()? {
            all.push(operation);
        }
        Some(all)
    };
    let frame = match row.cfa() {
        CfaRule::RegisterAndOffset {
            register, offset, ..
        } => step(How::Value, CFA, number(*register)?, *offset)?,
        CfaRule::Expression(found) => {
            let operations = expression(found)?;
            match stub(&operations) {
                Some(from) => step(How::Stub, CFA, SP, from)?,
                None => value_of(&operations, CFA)?,
            }
        }
    };
    let mut steps = vec![frame];
    let mut has_ip = false;
    for (register, rule) in row.registers() {
        // Registers that are no general ones are of no use here.
        let Some(to) = number(*register) else {
            continue;
        };
        has_ip |= to == IP;
        steps.push(match rule {
            RegisterRule::SameValue => continue,
            RegisterRule::Undefined => step(How::Value, to, ZERO, 0)?,
            RegisterRule::Offset(offset) => step(How::Memory, to, CFA, *offset)?,
            RegisterRule::ValOffset(offset) => step(How::Value, to, CFA, *offset)?,
            RegisterRule::Register(from) => step(How::Value, to, number(*from)?, 0)?,
            RegisterRule::Constant(value) => {
                step(How::Value, to, ZERO, i64::try_from(*value).ok()?)?
            }
            RegisterRule::Expression(found) => {
                let address = value_of(&expression(found)?, to)?;
                match address.how {
                    How::Value => Step {
                        how: How::Memory,
                        ..address
                    },
                    How::Memory | How::Stub => return None,
                }
            }
            RegisterRule::ValExpression(found) => value_of(&expression(found)?, to)?,
            _ => return None,
        });
    }
    if !has_ip {
        // Nobody says where it returns to.
        steps.push(step(How::Value, IP, ZERO, 0)?);
    }
    (steps.len() <= Rule::STEPS).then_some(Rule { steps })
}

fn step(how: How, to: u8, from: u8, offset: i64) -> Option<Step> {
    Some(Step {
        how,
        to,
        from,
        offset: i32::try_from(offset).ok()?,
    })
}

/// A register plus a constant, or the memory there.
fn value_of(operations: &[Operation<Slice<'_>>], to: u8) -> Option<Step> {
    let [
        Operation::RegisterOffset {
            register, offset, ..
        },
        rest @ ..,
    ] = operations
    else {
        return None;
    };
    let (more, rest) = match rest {
        [Operation::PlusConstant { value }, rest @ ..] => (i64::try_from(*value).ok()?, rest),
        _ => (0, rest),
    };
    let how = match rest {
        [] => How::Value,
        [Operation::Deref { space: false, .. }] => How::Memory,
        _ => return None,
    };
    step(how, to, number(*register)?, offset.checked_add(more)?)
}

/// The frame address in the stubs of a procedure linkage table: `rsp + 8 + ((rip & 15) >= N) << 3`; gives N.
fn stub(operations: &[Operation<Slice<'_>>]) -> Option<i64> {
    match operations {
        [
            Operation::RegisterOffset {
                register: gimli::X86_64::RSP,
                offset: 8,
                ..
            },
            Operation::RegisterOffset {
                register: gimli::X86_64::RA,
                offset: 0,
                ..
            },
            Operation::UnsignedConstant { value: 15 },
            Operation::And,
            Operation::UnsignedConstant { value },
            Operation::Ge,
            Operation::UnsignedConstant { value: 3 },
            Operation::Shl,
            Operation::Plus,
        ] => i64::try_from(*value).ok(),
        _ => None,
    }
}

/// Number of a register in `struct pt_regs`, by its number in DWARF (System V ABI for x86-64, figure 3.36).
fn number(register: Register) -> Option<u8> {
    const NUMBERS: [u8; 17] = [10, 12, 11, 5, 13, 14, 4, SP, 9, 8, 7, 6, 3, 2, 1, 0, IP];
    NUMBERS.get(usize::from(register.0)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[inline(never)]
    fn function_of_the_test(number: u64) -> u64 {
        number + 1
    }

    fn own_file(rules: &mut Rules) -> UnwindFile {
        let path = std::env::current_exe().expect("known");
        read_file(&std::fs::read(path).expect("read"), rules)
    }

    #[test]
    fn a_function_starts_with_the_address_that_it_returns_to_on_the_stack() {
        let mut rules = Rules::default();
        let file = own_file(&mut rules);
        let address = function_of_the_test as *const () as u64;
        let host = crate::host::LinuxHost::new();
        let pid = std::process::id() as i32;
        let mappings = host.mappings(pid).expect("read");
        let mapping = mappings
            .iter()
            .find(|mapping| mapping.start <= address && address < mapping.end)
            .expect("in a file");
        let mut rows = Vec::new();
        add_mapping(&file, mapping, 0, &mut rows);
        assert!(rows.is_sorted_by_key(|row| row.address));
        let next = rows.partition_point(|row| row.address <= address);
        let rule = &rules.all[rows[next - 1].rule as usize];
        let frame = step(How::Value, CFA, SP, 8);
        let ip = step(How::Memory, IP, CFA, -8);
        assert_eq!(rule.steps, [frame, ip].map(|step| step.expect("fits")));
        // Behind the mapping nobody knows.
        assert_eq!(rows.last().map(|row| row.rule), Some(0));
    }

    #[test]
    fn the_library_of_the_kernel_has_rules() {
        let host = crate::host::LinuxHost::new();
        let pid = std::process::id() as i32;
        let mappings = host.mappings(pid).expect("read");
        let mapping = mappings
            .iter()
            .find(|mapping| mapping.path == Path::new(VDSO))
            .expect("mapped");
        let mut rules = Rules::default();
        let bytes = read_mapped(pid, mapping, &host).expect("read");
        let file = read_file(&bytes, &mut rules);
        let mut rows = Vec::new();
        add_mapping(&file, mapping, 0, &mut rows);
        let inside = |row: &Row| mapping.start <= row.address && row.address <= mapping.end;
        assert!(rows.len() > 4 && rows.iter().all(inside));
    }

    #[test]
    fn rules_are_kept_once() {
        let mut rules = Rules::default();
        let file = own_file(&mut rules);
        assert!(rules.all.len() * 4 < file.rows.len());
        let n_rules = rules.all.len();
        own_file(&mut rules);
        assert_eq!(rules.all.len(), n_rules);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(6))]

        // Whatever a file of a process holds, it does no more than end the unwinding.
        #[test]
        fn any_file_is_read(at in 0usize..4096, with in prop::collection::vec(any::<u8>(), 1..64)) {
            let path = std::env::current_exe().expect("known");
            static BYTES: std::sync::OnceLock<(Vec<u8>, usize)> = std::sync::OnceLock::new();
            let (bytes, frames) = BYTES.get_or_init(|| {
                let bytes = std::fs::read(path).expect("read");
                let elf = Elf::parse(&bytes).expect("an ELF file");
                let section = elf.section_headers.iter().find(|section| {
                    elf.shdr_strtab.get_at(section.sh_name) == Some(".eh_frame")
                });
                let offset = section.expect("has frames").sh_offset as usize;
                (bytes, offset)
            });
            let mut bytes = bytes.clone();
            for place in [at, frames + at] {
                let end = (place + with.len()).min(bytes.len());
                bytes[place..end].copy_from_slice(&with[..end - place]);
                let mut rules = Rules::default();
                let file = read_file(&bytes, &mut rules);
                prop_assert!(file.rows.iter().all(|(_, rule)| (*rule as usize) < rules.all.len()));
                prop_assert!(rules.all.iter().all(|rule| rule.steps.len() <= Rule::STEPS));
            }
        }
    }
}
