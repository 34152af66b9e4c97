//! Checks of a specification on its own, and which rows of its tables are used.

use std::collections::{BTreeSet, HashSet};

use super::ObjectSpec;
use super::error::{ObjectError, check_identifier};
use super::function::{FunctionDef, Placement};
use crate::bpf::{PatchField, Reloc, RelocKind};

/// Code of one object, in bytes, that offsets of 32 bits can still count.
const MAX_CODE: usize = 1 << 30;

/// Opcode of `ld_imm64`.
const LD_IMM64: u8 = 0x18;
/// Opcode of `call`.
const CALL: u8 = 0x85;

/// What the code refers to. What nothing refers to is left out of the object: libbpf would insist on
/// finding it.
#[derive(Debug, Default)]
pub(super) struct References {
    /// Rows in the table of externs.
    pub(super) externs: BTreeSet<u32>,
    /// Rows in the table of patches.
    pub(super) patches: BTreeSet<u32>,
}

/// Checks that all names are fit for the kernel, and that no two symbols share one.
pub(super) fn check_names(spec: &ObjectSpec) -> Result<(), ObjectError> {
    let functions = spec.functions.iter().map(|it| ("function", &it.name));
    let maps = spec.maps.iter().map(|it| ("map", &it.name));
    let vars = spec
        .data
        .iter()
        .flat_map(|data| data.vars().iter().map(|it| ("variable", &it.name)));
    let externs = spec.externs.iter().map(|it| ("extern", &it.name));
    let mut seen = HashSet::new();
    for (what, name) in functions.chain(maps).chain(vars).chain(externs) {
        check_identifier(what, name)?;
        if !seen.insert(name) {
            return Err(duplicate(what, name));
        }
    }
    let mut seen = HashSet::new();
    for data in &spec.data {
        let name = data.name();
        if name.contains(|byte: char| !byte.is_ascii_alphanumeric() && byte != '_' && byte != '.') {
            return Err(ObjectError::InvalidName {
                what: "data section",
                name,
            });
        }
        if seen.contains(&name) {
            return Err(duplicate("data section", &name));
        }
        seen.insert(name);
    }
    for function in &spec.functions {
        if let Placement::Program { section } = &function.placement
            && (section.is_empty() || section.starts_with('.') || section.contains('\0'))
        {
            return Err(ObjectError::InvalidName {
                what: "program section",
                name: section.clone(),
            });
        }
    }
    Ok(())
}

fn duplicate(what: &'static str, name: &str) -> ObjectError {
    ObjectError::DuplicateName {
        what,
        name: name.to_owned(),
    }
}

impl References {
    /// Checks that each relocation has a row to refer to and an instruction that can hold it.
    pub(super) fn collect(spec: &ObjectSpec) -> Result<Self, ObjectError> {
        let mut references = References::default();
        let mut code_len = 0;
        for function in &spec.functions {
            code_len += function.code.len();
            let what = if function.code.is_empty() {
                Some("it has no code")
            } else if !function.code.len().is_multiple_of(8) {
                Some("its code ends within an instruction")
            } else if code_len > MAX_CODE {
                Some("the object has more than 1 GiB of code")
            } else {
                None
            };
            if let Some(what) = what {
                return Err(ObjectError::InvalidFunction {
                    function: function.name.clone(),
                    what,
                });
            }
            for reloc in &function.relocs {
                check_instruction(function, reloc)
                    .and_then(|()| references.check_row(spec, &reloc.kind))
                    .map_err(|what| ObjectError::InvalidReloc {
                        function: function.name.clone(),
                        insn_idx: reloc.insn_idx,
                        what,
                    })?;
            }
        }
        Ok(references)
    }

    fn check_row(&mut self, spec: &ObjectSpec, kind: &RelocKind) -> Result<(), String> {
        let check = |what: &str, row: u32, len: usize| {
            if (row as usize) < len {
                Ok(())
            } else {
                Err(format!("there is no {what} {row}"))
            }
        };
        match *kind {
            RelocKind::SubprogCall(row) | RelocKind::SubprogAddr(row) => {
                check("function", row, spec.functions.len())?;
                match spec.functions[row as usize].placement {
                    Placement::Program { .. } => Err(format!("function {row} is a program")),
                    Placement::Subprogram | Placement::GlobalSubprogram => Ok(()),
                }
            }
            RelocKind::KfuncCall(row) | RelocKind::KfuncAddr(row) => {
                check("extern", row, spec.externs.len())?;
                self.externs.insert(row);
                Ok(())
            }
            RelocKind::Map(row) => check("map", row, spec.maps.len()),
            RelocKind::Data { section, offset } => {
                check("data section", section, spec.data.len())?;
                if offset < spec.data[section as usize].size() {
                    Ok(())
                } else {
                    Err(format!("data section {section} ends before byte {offset}"))
                }
            }
            RelocKind::Patch { patch, .. } => {
                check("patch", patch, spec.patches.len())?;
                self.patches.insert(patch);
                Ok(())
            }
        }
    }
}

fn check_instruction(function: &FunctionDef, reloc: &Reloc) -> Result<(), String> {
    let start = reloc.insn_idx as usize * 8;
    let Some(insn) = function.code.get(start..start + 8) else {
        return Err("there is no such instruction".to_owned());
    };
    let opcode = insn[0];
    let is_wide = opcode == LD_IMM64 && function.code.len() >= start + 16;
    // Instruction classes: 1 ldx, 2 st, 3 stx; 4 and 7 arithmetic, where bit 3 tells a register operand.
    let class = opcode & 7;
    let fits = match reloc.kind {
        RelocKind::SubprogCall(_) | RelocKind::KfuncCall(_) => opcode == CALL,
        RelocKind::SubprogAddr(_)
        | RelocKind::KfuncAddr(_)
        | RelocKind::Map(_)
        | RelocKind::Data { .. } => is_wide,
        RelocKind::Patch { field, .. } => match field {
            PatchField::Offset => matches!(class, 1..=3),
            PatchField::Imm32 => matches!(class, 4 | 7) && opcode & 8 == 0,
            PatchField::Imm64 => is_wide && insn[1] >> 4 == 0,
        },
    };
    if fits {
        Ok(())
    } else {
        Err(format!(
            "an instruction with opcode {opcode:#04x} cannot hold {:?}",
            reloc.kind
        ))
    }
}
