//! From the specification to the file: the order of things.

use super::btf::{BtfBuilder, BtfId, FuncLinkage, IntEncoding, SectionVar, VarLinkage};
use super::btf_ext::{CoreInfo, SectionInfo, line_infos, write_btf_ext};
use super::btf_types::{Form, TypeWriter};
use super::core_relo::{CoreUsage, Patch, initial_value};
use super::data::{DataKind, DataSection};
use super::elf::{ElfSection, ElfSymbol, SectionKind, SymbolBinding, SymbolKind, write_elf};
use super::error::ObjectError;
use super::function::{ExternKind, FunctionDef, Placement, Signature};
use super::layout::Layout;
use super::maps::write_map_struct;
use super::references::{References, check_names};
use super::relocate::{PatchValue, Relocator};
use super::types::Type;
use super::{BpfObject, ObjectSpec, PatchSite, ProgramRecord};
use bpftrace_ast::order::sort_by_number;

/// Writes the object.
///
/// # Errors
///
/// See [`ObjectError`].
pub fn write_object(spec: &ObjectSpec) -> Result<BpfObject, ObjectError> {
    check_names(spec)?;
    let references = References::collect(spec)?;
    let layout = Layout::of(spec);

    let core_relocs =
        references
            .patches
            .iter()
            .filter_map(|&row| match &spec.patches[row as usize] {
                Patch::Core(reloc) => Some((row, reloc)),
                Patch::Loader { .. } => None,
            });
    let usage = CoreUsage::collect(&spec.types, core_relocs)?;

    let mut btf = BtfBuilder::new();
    let mut types = TypeWriter::new(&spec.types, &usage, &mut btf);
    let function_ids = spec
        .functions
        .iter()
        .map(|function| write_function(&mut types, function))
        .collect::<Result<Vec<_>, _>>()?;
    let map_places = write_maps(&mut types, spec)?;
    for section in &spec.data {
        write_data(&mut types, section)?;
    }
    write_externs(&mut types, spec, &references)?;

    let mut patch_values = vec![PatchValue::Unused; spec.patches.len()];
    for &row in &references.patches {
        patch_values[row as usize] = match &spec.patches[row as usize] {
            Patch::Loader { initial } => PatchValue::Loader { initial: *initial },
            Patch::Core(reloc) => {
                let root = types.write_root(reloc.root, reloc.kind.root_form())?;
                let initial = initial_value(&spec.types, reloc, root)
                    .map_err(|what| ObjectError::InvalidCore { patch: row, what })?;
                let access = usage.access_string(&spec.types, reloc);
                PatchValue::Core {
                    initial,
                    root,
                    access: types.btf.string(&access),
                    kind: reloc.kind,
                }
            }
        };
    }

    let mut symbols = Vec::new();
    let symbol_rows = add_symbols(&mut symbols, spec, &references, &layout, &map_places);

    let relocator = Relocator {
        layout: &layout,
        symbols: &symbol_rows,
        patches: &patch_values,
    };
    let mut sections: Vec<ElfSection> = Vec::new();
    let mut infos: Vec<SectionInfo> = Vec::new();
    // In terms of sections, completed once the file is laid out.
    let mut patch_sites: Vec<(usize, PatchSite)> = Vec::new();
    for (section_row, section) in layout.code.iter().enumerate() {
        let mut elf = ElfSection::new(&section.name, SectionKind::Code, Vec::new());
        let mut info = SectionInfo {
            name: section.name.clone(),
            ..SectionInfo::default()
        };
        for &row in &section.functions {
            let function = &spec.functions[row];
            let start = layout.places[row].offset;
            let relocated = relocator.relocate(function, start)?;
            info.functions.push((start, function_ids[row]));
            let lines = line_infos(&mut btf, start, &function.code, &function.lines);
            info.lines.extend(lines);
            info.core
                .extend(relocated.core.into_iter().map(|core| CoreInfo {
                    insn_offset: start + core.insn_offset,
                    ..core
                }));
            for site in relocated.loader {
                let section_offset = u64::from(start + site.insn_offset);
                patch_sites.push((
                    section_row,
                    PatchSite {
                        patch: site.patch,
                        function: row as u32,
                        section: section.name.clone(),
                        section_offset,
                        file_offset: section_offset,
                        field: site.field,
                    },
                ));
            }
            elf.relocs.extend(relocated.elf);
            elf.data.extend(relocated.code);
        }
        elf.size = elf.data.len() as u64;
        sections.push(elf);
        infos.push(info);
    }

    let mut license = spec.license.clone().into_bytes();
    license.push(0);
    sections.push(ElfSection::new("license", SectionKind::Data, license));
    if !spec.maps.is_empty() {
        let size = map_places.iter().map(|place| place.size).sum::<u32>();
        sections.push(ElfSection::new(
            ".maps",
            SectionKind::Data,
            vec![0; size as usize],
        ));
    }
    sections.extend(
        spec.data
            .iter()
            .filter(|data| data.size() != 0)
            .map(elf_data),
    );
    let btf_ext = write_btf_ext(&mut btf, &infos);
    sections.push(ElfSection::new(".BTF", SectionKind::Other, btf.finish()));
    sections.push(ElfSection::new(".BTF.ext", SectionKind::Other, btf_ext));

    let (elf, offsets) = write_elf(&sections, &symbols)?;
    let mut patch_sites: Vec<PatchSite> = patch_sites
        .into_iter()
        .map(|(section, site)| PatchSite {
            file_offset: site.section_offset + offsets[section],
            ..site
        })
        .collect();
    sort_by_number(&mut patch_sites, |site| site.file_offset);
    Ok(BpfObject {
        elf,
        programs: program_records(spec),
        patch_sites,
    })
}

fn program_records(spec: &ObjectSpec) -> Vec<ProgramRecord> {
    spec.functions
        .iter()
        .zip(0..)
        .filter_map(|(function, row)| match &function.placement {
            Placement::Program { section } => Some(ProgramRecord {
                function: row,
                symbol: function.name.clone(),
                section: section.clone(),
                insn_cnt: function.code.len() as u32 / 8,
            }),
            Placement::Subprogram | Placement::GlobalSubprogram => None,
        })
        .collect()
}

fn write_function(
    types: &mut TypeWriter<'_>,
    function: &FunctionDef,
) -> Result<BtfId, ObjectError> {
    let linkage = match function.placement {
        Placement::Program { .. } | Placement::GlobalSubprogram => FuncLinkage::Global,
        Placement::Subprogram => FuncLinkage::Static,
    };
    let proto = match function.signature {
        Signature::Program => {
            let int = types.btf.int("int", 4, IntEncoding::Signed);
            let void_ptr = types.btf.ptr(BtfId::VOID);
            types.btf.func_proto(&[("ctx", void_ptr)], int)
        }
        Signature::Scalars(count) => {
            let long = types.btf.int("long", 8, IntEncoding::Signed);
            let u64 = types
                .btf
                .int("unsigned long long", 8, IntEncoding::Unsigned);
            let names: Vec<String> = (1..=count).map(|number| format!("arg{number}")).collect();
            let params: Vec<(&str, BtfId)> =
                names.iter().map(|name| (name.as_str(), u64)).collect();
            types.btf.func_proto(&params, long)
        }
        Signature::Typed(ty) => {
            let is_named = matches!(types.graph.get(ty), Type::Function { params, .. }
                if params.iter().all(|(name, _)| !name.is_empty()));
            if !is_named {
                return Err(ObjectError::InvalidFunction {
                    function: function.name.clone(),
                    what: "its type is no function with named parameters",
                });
            }
            types.write(ty, Form::Shape)?
        }
    };
    Ok(types.btf.func(&function.name, proto, linkage))
}

/// A map's place in the section `.maps`.
struct MapPlace {
    offset: u32,
    size: u32,
}

fn write_maps(types: &mut TypeWriter<'_>, spec: &ObjectSpec) -> Result<Vec<MapPlace>, ObjectError> {
    let mut places = Vec::with_capacity(spec.maps.len());
    let mut vars = Vec::with_capacity(spec.maps.len());
    let mut offset = 0;
    for map in &spec.maps {
        let (ty, size) = write_map_struct(map, types)?;
        vars.push(SectionVar {
            ty: types.btf.var(&map.name, ty, VarLinkage::Global),
            offset,
            size,
        });
        places.push(MapPlace { offset, size });
        offset += size;
    }
    write_datasec(types, ".maps", offset, &vars)?;
    Ok(places)
}

fn write_data(types: &mut TypeWriter<'_>, section: &DataSection) -> Result<(), ObjectError> {
    let mut vars = Vec::with_capacity(section.vars().len());
    for var in section.vars() {
        let ty = match var.ty {
            Some(ty) if types.graph.size_of(ty) == Some(var.size) => types.write(ty, Form::Full)?,
            Some(_) => {
                return Err(ObjectError::InvalidVariable {
                    name: var.name.clone(),
                    what: "its size is not that of its type",
                });
            }
            None => {
                let byte = types.btf.int("unsigned char", 1, IntEncoding::Unsigned);
                let index = types.btf.int("int", 4, IntEncoding::Signed);
                types.btf.array(byte, index, var.size)
            }
        };
        vars.push(SectionVar {
            ty: types.btf.var(&var.name, ty, VarLinkage::Global),
            offset: var.offset,
            size: var.size,
        });
    }
    write_datasec(types, &section.name(), section.size(), &vars)
}

/// The section of kernel functions and variables, of which libbpf fills in offsets and sizes; and functions
/// of other objects, which are in none.
fn write_externs(
    types: &mut TypeWriter<'_>,
    spec: &ObjectSpec,
    references: &References,
) -> Result<(), ObjectError> {
    let mut vars = Vec::with_capacity(references.externs.len());
    for &row in &references.externs {
        let ext = &spec.externs[row as usize];
        let ty = match ext.kind {
            ExternKind::Function(ty) | ExternKind::Linked(ty) => {
                if !matches!(spec.types.get(ty), Type::Function { .. }) {
                    return Err(ObjectError::InvalidFunction {
                        function: ext.name.clone(),
                        what: "its type is no function",
                    });
                }
                let proto = types.write(ty, Form::Shape)?;
                let func = types.btf.func(&ext.name, proto, FuncLinkage::Extern);
                if matches!(ext.kind, ExternKind::Linked(_)) {
                    continue;
                }
                func
            }
            ExternKind::Variable(ty) => {
                let ty = types.write(ty, Form::Shape)?;
                types.btf.var(&ext.name, ty, VarLinkage::Extern)
            }
            ExternKind::Symbol => {
                let ty = types.btf.constant(BtfId::VOID);
                types.btf.var(&ext.name, ty, VarLinkage::Extern)
            }
        };
        vars.push(SectionVar {
            ty,
            offset: 0,
            size: 0,
        });
    }
    write_datasec(types, ".ksyms", 0, &vars)
}

fn write_datasec(
    types: &mut TypeWriter<'_>,
    name: &str,
    size: u32,
    vars: &[SectionVar],
) -> Result<(), ObjectError> {
    if vars.len() > super::btf::MAX_VLEN {
        return Err(ObjectError::InvalidType {
            name: name.to_owned(),
            what: "it has more than 65,535 parts",
        });
    }
    if !vars.is_empty() {
        types.btf.datasec(name, size, vars);
    }
    Ok(())
}

fn elf_data(section: &DataSection) -> ElfSection {
    let kind = match section.kind() {
        DataKind::Rodata => SectionKind::ReadOnlyData,
        DataKind::Data => SectionKind::Data,
        DataKind::Bss => SectionKind::Zero,
    };
    let mut contents = Vec::new();
    if section.kind() != DataKind::Bss {
        contents.resize(section.size() as usize, 0);
        for var in section.vars() {
            contents[var.offset as usize..][..var.size as usize].copy_from_slice(&var.init);
        }
    }
    let mut elf = ElfSection::new(&section.name(), kind, contents);
    elf.size = u64::from(section.size());
    elf
}

/// Rows in the table of ELF symbols.
#[derive(Debug, Default)]
pub(super) struct SymbolRows {
    /// The section `.text` itself.
    pub(super) text: Option<usize>,
    pub(super) functions: Vec<usize>,
    /// Whether the function's symbol is local.
    pub(super) is_local: Vec<bool>,
    pub(super) maps: Vec<usize>,
    /// The data sections themselves; `None` for an empty one.
    pub(super) data: Vec<Option<usize>>,
    /// `None` for one that nothing refers to.
    pub(super) externs: Vec<Option<usize>>,
}

/// The sections are numbered in the order of the file: code, license, `.maps`, data.
fn add_symbols(
    symbols: &mut Vec<ElfSymbol>,
    spec: &ObjectSpec,
    references: &References,
    layout: &Layout,
    map_places: &[MapPlace],
) -> SymbolRows {
    let mut rows = SymbolRows::default();
    let mut add = |symbol: ElfSymbol| {
        symbols.push(symbol);
        symbols.len() - 1
    };
    let section_symbol = |section: usize| ElfSymbol {
        name: String::new(),
        kind: SymbolKind::Section,
        binding: SymbolBinding::Local,
        section: Some(section),
        value: 0,
        size: 0,
    };
    let object = |name: &str, section: usize, offset: u32, size: u32| ElfSymbol {
        name: name.to_owned(),
        kind: SymbolKind::Object,
        binding: SymbolBinding::Global,
        section: Some(section),
        value: u64::from(offset),
        size: u64::from(size),
    };

    rows.text = layout.text.map(|section| add(section_symbol(section)));
    for (function, place) in spec.functions.iter().zip(&layout.places) {
        rows.is_local
            .push(function.placement == Placement::Subprogram);
        rows.functions.push(add(ElfSymbol {
            name: function.name.clone(),
            kind: SymbolKind::Function,
            binding: match function.placement {
                Placement::Subprogram => SymbolBinding::Local,
                Placement::Program { .. } | Placement::GlobalSubprogram => SymbolBinding::Global,
            },
            section: Some(place.section),
            value: u64::from(place.offset),
            size: function.code.len() as u64,
        }));
    }
    let license_section = layout.code.len();
    let maps_section = license_section + 1;
    for (map, place) in spec.maps.iter().zip(map_places) {
        rows.maps.push(add(object(
            &map.name,
            maps_section,
            place.offset,
            place.size,
        )));
    }
    let mut data_section = maps_section + usize::from(!spec.maps.is_empty());
    for data in &spec.data {
        if data.size() == 0 {
            rows.data.push(None);
            continue;
        }
        rows.data.push(Some(add(section_symbol(data_section))));
        for var in data.vars() {
            add(object(&var.name, data_section, var.offset, var.size));
        }
        data_section += 1;
    }
    for (ext, row) in spec.externs.iter().zip(0..) {
        let is_used = references.externs.contains(&row);
        rows.externs.push(is_used.then(|| {
            add(ElfSymbol {
                name: ext.name.clone(),
                kind: match ext.kind {
                    ExternKind::Linked(_) => SymbolKind::Linked,
                    _ => SymbolKind::Undefined,
                },
                binding: if ext.weak {
                    SymbolBinding::Weak
                } else {
                    SymbolBinding::Global
                },
                section: None,
                value: 0,
                size: 0,
            })
        }));
    }
    rows
}
