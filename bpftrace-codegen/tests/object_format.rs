//! What is in the written file, read back by goblin and btf-rs; and what is refused.

use bpftrace_codegen::bpf::{PatchField, Reloc, RelocKind};
use bpftrace_codegen::object::{
    BpfObject, CoreKind, CoreReloc, DataKind, DataSection, Enumerator, ExternDef, ExternKind,
    FunctionDef, MapDef, Member, ObjectError, ObjectSpec, Patch, Placement, Signature, Type,
    TypeRef, write_object,
};
use btf_rs::{Btf, Type as BtfRecord};
use goblin::elf::Elf;
use goblin::elf::sym::{STB_GLOBAL, STB_LOCAL, STB_WEAK, STT_FUNC, STT_NOTYPE, STT_OBJECT};

const MOV_IMM: u64 = 0xb7;
const EXIT: u64 = 0x95;
const LD_IMM64: u64 = 0x18;
const LOAD32: u64 = 0x61;
const CALL: u64 = 0xffff_ffff_0000_1085;

fn code(insns: &[u64]) -> Vec<u8> {
    insns.iter().flat_map(|insn| insn.to_le_bytes()).collect()
}

fn program(name: &str, section: &str, insns: &[u64], relocs: &[(u32, RelocKind)]) -> FunctionDef {
    FunctionDef {
        name: name.to_owned(),
        placement: Placement::Program {
            section: section.to_owned(),
        },
        signature: Signature::Program,
        code: code(insns),
        relocs: relocs
            .iter()
            .map(|&(insn_idx, kind)| Reloc { insn_idx, kind })
            .collect(),
        lines: Vec::new(),
    }
}

fn subprogram(name: &str, insns: &[u64], relocs: &[(u32, RelocKind)]) -> FunctionDef {
    FunctionDef {
        placement: Placement::Subprogram,
        signature: Signature::Scalars(1),
        ..program(name, "", insns, relocs)
    }
}

fn member(name: &str, ty: TypeRef, bit_offset: u32) -> Member {
    Member {
        name: name.to_owned(),
        ty,
        bit_offset,
        bitfield_bits: None,
    }
}

/// An object with a bit of everything.
fn sample() -> ObjectSpec {
    let mut spec = ObjectSpec {
        license: "GPL".to_owned(),
        ..ObjectSpec::default()
    };
    let void = TypeRef::VOID;
    let proto = spec.types.add(Type::Function {
        params: Vec::new(),
        ret: void,
    });
    let mut rodata = DataSection::new(DataKind::Rodata, "");
    rodata.add("first", &[1], 1, None).expect("valid");
    rodata.add("second", &[2; 8], 8, None).expect("valid");
    let mut bss = DataSection::new(DataKind::Bss, "late");
    bss.add("zeros", &[0; 100], 8, None).expect("valid");
    spec.data = vec![rodata, bss];
    spec.maps = vec![
        MapDef::new("AT_one", 1, 4, 8, 16),
        MapDef::new("AT_two", 27, 0, 0, 4096),
    ];
    spec.externs = vec![
        ExternDef {
            name: "bpf_weak".to_owned(),
            kind: ExternKind::Function(proto),
            weak: true,
        },
        ExternDef {
            name: "unused".to_owned(),
            kind: ExternKind::Function(proto),
            weak: false,
        },
    ];
    spec.functions = vec![
        program(
            "one",
            "kprobe/vfs_read",
            &[LD_IMM64, 0, CALL, CALL, MOV_IMM, EXIT],
            &[
                (0, RelocKind::Map(1)),
                (2, RelocKind::SubprogCall(2)),
                (3, RelocKind::KfuncCall(0)),
            ],
        ),
        subprogram("helper", &[MOV_IMM, EXIT], &[]),
        subprogram("other", &[CALL, EXIT], &[(0, RelocKind::SubprogCall(1))]),
        program(
            "two",
            "kprobe/vfs_read",
            &[LD_IMM64, 0, LD_IMM64 | 0x4000, 0, MOV_IMM, EXIT],
            &[
                (
                    0,
                    RelocKind::Data {
                        section: 0,
                        offset: 8,
                    },
                ),
                (2, RelocKind::SubprogAddr(2)),
            ],
        ),
    ];
    spec
}

fn written(spec: &ObjectSpec) -> BpfObject {
    write_object(spec).expect("a valid specification")
}

fn section<'a>(bytes: &'a [u8], name: &str) -> &'a [u8] {
    let elf = Elf::parse(bytes).expect("an ELF file");
    let header = elf
        .section_headers
        .iter()
        .find(|header| elf.shdr_strtab.get_at(header.sh_name) == Some(name))
        .unwrap_or_else(|| panic!("no section {name}"));
    &bytes[header.file_range().expect("it has contents")]
}

fn btf(object: &BpfObject) -> Btf {
    Btf::from_bytes(section(&object.elf, ".BTF")).expect("BTF")
}

#[test]
fn the_file_is_a_relocatable_bpf_object() {
    let object = written(&sample());
    let elf = Elf::parse(&object.elf).expect("an ELF file");
    assert!(elf.is_64 && elf.little_endian);
    assert_eq!(elf.header.e_type, goblin::elf::header::ET_REL);
    assert_eq!(elf.header.e_machine, goblin::elf::header::EM_BPF);
    let names: Vec<&str> = elf
        .section_headers
        .iter()
        .filter_map(|header| elf.shdr_strtab.get_at(header.sh_name))
        .collect();
    assert_eq!(
        names,
        [
            "",
            "kprobe/vfs_read",
            ".text",
            "license",
            ".maps",
            ".rodata",
            ".bss.late",
            ".BTF",
            ".BTF.ext",
            ".symtab",
            ".relkprobe/vfs_read",
            ".rel.text",
            ".strtab",
            ".shstrtab",
        ]
    );
    assert_eq!(section(&object.elf, "license"), b"GPL\0");
    assert_eq!(
        section(&object.elf, ".rodata"),
        [1, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2]
    );
    let bss = &elf.section_headers[6];
    assert_eq!(bss.sh_type, goblin::elf::section_header::SHT_NOBITS);
    assert_eq!(bss.sh_size, 100);
}

#[test]
fn symbols_are_those_that_libbpf_looks_for() {
    let object = written(&sample());
    let elf = Elf::parse(&object.elf).expect("an ELF file");
    let symbols: Vec<(&str, u8, u8, u64, u64)> = elf
        .syms
        .iter()
        .filter_map(|symbol| {
            let name = elf.strtab.get_at(symbol.st_name)?;
            let fields = (symbol.st_bind(), symbol.st_type());
            (!name.is_empty()).then_some((
                name,
                fields.0,
                fields.1,
                symbol.st_value,
                symbol.st_size,
            ))
        })
        .collect();
    assert_eq!(
        symbols,
        [
            ("helper", STB_LOCAL, STT_FUNC, 0, 16),
            ("other", STB_LOCAL, STT_FUNC, 16, 16),
            ("one", STB_GLOBAL, STT_FUNC, 0, 48),
            ("two", STB_GLOBAL, STT_FUNC, 48, 48),
            ("AT_one", STB_GLOBAL, STT_OBJECT, 0, 32),
            ("AT_two", STB_GLOBAL, STT_OBJECT, 32, 16),
            ("first", STB_GLOBAL, STT_OBJECT, 0, 1),
            ("second", STB_GLOBAL, STT_OBJECT, 8, 8),
            ("zeros", STB_GLOBAL, STT_OBJECT, 0, 100),
            ("bpf_weak", STB_WEAK, STT_NOTYPE, 0, 0),
        ]
    );
    let records: Vec<(u32, &str, &str, u32)> = object
        .programs
        .iter()
        .map(|it| (it.function, &*it.symbol, &*it.section, it.insn_cnt))
        .collect();
    assert_eq!(
        records,
        [
            (0, "one", "kprobe/vfs_read", 6),
            (3, "two", "kprobe/vfs_read", 6)
        ]
    );
}

// F013
#[test]
fn functions_of_other_objects_are_hidden_and_in_no_section() {
    let mut spec = sample();
    let ExternKind::Function(proto) = spec.externs[0].kind else {
        panic!("the first extern is a function");
    };
    spec.externs[0] = ExternDef {
        name: "elsewhere".to_owned(),
        kind: ExternKind::Linked(proto),
        weak: false,
    };
    let object = written(&spec);
    let elf = Elf::parse(&object.elf).expect("an ELF file");
    let symbol = elf
        .syms
        .iter()
        .find(|symbol| elf.strtab.get_at(symbol.st_name) == Some("elsewhere"))
        .expect("the symbol");
    assert_eq!(symbol.st_shndx, 0);
    assert_eq!(symbol.st_bind(), goblin::elf::sym::STB_GLOBAL);
    assert_eq!(symbol.st_visibility(), goblin::elf::sym::STV_HIDDEN);
    let types = btf(&object);
    let n_types = |name| {
        types
            .resolve_types_by_name(name)
            .map_or(0, |types| types.len())
    };
    assert_eq!((n_types("elsewhere"), n_types(".ksyms")), (1, 0));
}

#[test]
fn relocations_name_a_symbol_and_a_kind() {
    let object = written(&sample());
    let elf = Elf::parse(&object.elf).expect("an ELF file");
    let mut found = Vec::new();
    for (_, relocs) in &elf.shdr_relocs {
        for reloc in relocs.iter() {
            let symbol = elf.syms.get(reloc.r_sym).expect("a symbol");
            let name = elf.strtab.get_at(symbol.st_name).unwrap_or_default();
            found.push((reloc.r_offset, reloc.r_type, name, symbol.st_shndx));
        }
    }
    assert_eq!(
        found,
        [
            (0, 1, "AT_two", 4),
            (16, 10, "", 2),
            (24, 10, "bpf_weak", 0),
            (48, 1, "", 5),
            (64, 1, "", 2),
            (16, 10, "", 2),
        ]
    );
    // Relative to the section: a call counts instructions from the next one, an address bytes.
    let code = section(&object.elf, "kprobe/vfs_read");
    assert_eq!(&code[16 + 4..16 + 8], &1u32.to_le_bytes());
    assert_eq!(&code[48 + 4..48 + 8], &8u32.to_le_bytes());
    assert_eq!(&code[64 + 4..64 + 8], &16u32.to_le_bytes());
    assert_eq!(
        &section(&object.elf, ".text")[20..24],
        &u32::MAX.to_le_bytes()
    );
}

#[test]
fn equal_specifications_give_equal_bytes() {
    let (mut one, mut two) = (core_sample(), core_sample());
    one.functions.extend(sample().functions.drain(1..2));
    two.functions.extend(sample().functions.drain(1..2));
    assert_eq!(written(&one), written(&two));
}

/// A large struct, of which two relocations use two members.
fn core_sample() -> ObjectSpec {
    let mut spec = ObjectSpec::default();
    let types = &mut spec.types;
    let int = types.int("int", 4, true);
    let long = types.int("long", 8, true);
    let alias = types.add(Type::Typedef {
        name: "pid_t".to_owned(),
        target: int,
    });
    let inner = types.add(Type::Struct {
        name: "inner".to_owned(),
        is_union: false,
        size: 16,
        members: vec![member("x", long, 0), member("y", long, 64)],
    });
    let anonymous = types.add(Type::Struct {
        name: String::new(),
        is_union: true,
        size: 16,
        members: vec![member("unused_too", long, 0), member("inside", inner, 0)],
    });
    let outer = types.declare();
    let pointer = types.ptr(outer);
    types.define(
        outer,
        Type::Struct {
            name: "outer".to_owned(),
            is_union: false,
            size: 64,
            // Not in the order of their offsets.
            members: vec![
                member("unused", int, 0),
                member("pid", alias, 32),
                member("", anonymous, 256),
                member("parent", pointer, 64),
            ],
        },
    );
    let kind = types.add(Type::Enum {
        name: "kind".to_owned(),
        size: 4,
        signed: false,
        values: vec![
            Enumerator {
                name: "UNUSED".to_owned(),
                value: 0,
            },
            Enumerator {
                name: "USED".to_owned(),
                value: 77,
            },
        ],
    });
    let reloc = |root, access: &[u32], kind| {
        Patch::Core(CoreReloc {
            root,
            access: access.to_vec(),
            kind,
        })
    };
    spec.patches = vec![
        reloc(outer, &[2, 1], CoreKind::FieldByteOffset),
        reloc(outer, &[3], CoreKind::FieldByteOffset),
        reloc(outer, &[0], CoreKind::FieldByteOffset),
        reloc(kind, &[1], CoreKind::EnumeratorValue),
    ];
    let patch = |patch, field| RelocKind::Patch { patch, field };
    spec.functions = vec![program(
        "main",
        "raw_tp",
        &[MOV_IMM, LOAD32, LD_IMM64, 0, MOV_IMM, EXIT],
        &[
            (0, patch(0, PatchField::Imm32)),
            (1, patch(1, PatchField::Offset)),
            (2, patch(3, PatchField::Imm64)),
        ],
    )];
    spec
}

#[test]
fn local_types_hold_what_is_used_and_no_more() {
    let object = written(&core_sample());
    let btf = btf(&object);
    let find = |name: &str| {
        let types = btf.resolve_types_by_name(name).unwrap_or_default();
        types.into_iter().next()
    };
    let Some(BtfRecord::Struct(outer)) = find("outer") else {
        panic!("outer is a struct");
    };
    let members: Vec<(String, u32)> = outer
        .members
        .iter()
        .map(|member| {
            let name = btf.resolve_name(member).expect("a name");
            (name, member.bit_offset())
        })
        .collect();
    assert_eq!(outer.size(), 64);
    assert_eq!(members, [("parent".to_owned(), 64), (String::new(), 256)]);
    let BtfRecord::Ptr(parent) = btf.resolve_chained_type(&outer.members[0]).expect("type") else {
        panic!("parent is a pointer");
    };
    assert!(
        btf.resolve_chained_type(&parent)
            .is_ok_and(|ty| matches!(ty, BtfRecord::Void))
    );
    let Some(BtfRecord::Struct(inner)) = find("inner") else {
        panic!("inner is a struct");
    };
    assert_eq!((inner.size(), inner.members.len()), (16, 0));
    let Some(BtfRecord::Enum(kind)) = find("kind") else {
        panic!("kind is an enum");
    };
    assert_eq!(kind.members.len(), 1);
    for unused in ["unused", "unused_too", "pid_t", "long"] {
        assert!(find(unused).is_none(), "{unused}");
    }
    // The instructions hold what libbpf will compute from these types.
    let code = section(&object.elf, "raw_tp");
    assert_eq!(&code[4..8], &32u32.to_le_bytes());
    assert_eq!(&code[8 + 2..8 + 4], &8u16.to_le_bytes());
    assert_eq!(&code[16 + 4..16 + 8], &77u32.to_le_bytes());
    // And the paths count members as they are written.
    let strings = section(&object.elf, ".BTF");
    for path in [&b"\x000:1:0\0"[..], b"\x000:0\0", b"\x000\0"] {
        assert!(
            strings.windows(path.len()).any(|window| window == path),
            "{path:?}"
        );
    }
}

/// Changes the sample, and expects an error that mentions something.
fn refused(change: impl FnOnce(&mut ObjectSpec), wanted: &str) {
    let mut spec = sample();
    change(&mut spec);
    check_refused(&spec, wanted);
}

fn check_refused(spec: &ObjectSpec, wanted: &str) {
    match write_object(spec) {
        Ok(_) => panic!("it is written, without {wanted:?}"),
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains(wanted), "{wanted:?} is not in {text:?}");
        }
    }
}

#[test]
fn mistakes_in_names_are_refused() {
    refused(
        |spec| spec.functions[0].name = "a b".to_owned(),
        "not a C identifier",
    );
    refused(
        |spec| spec.functions[0].name = "x".repeat(128),
        "not a C identifier",
    );
    refused(
        |spec| spec.maps[0].name = "@map".to_owned(),
        "not a C identifier",
    );
    refused(
        |spec| spec.maps[0].name = "one".to_owned(),
        "map \"one\" is defined twice",
    );
    refused(
        |spec| spec.data[1] = DataSection::new(DataKind::Rodata, ""),
        "data section \".rodata\" is defined twice",
    );
    refused(
        |spec| {
            spec.functions[0].placement = Placement::Program {
                section: ".text".to_owned(),
            }
        },
        "program section",
    );
}

#[test]
fn mistakes_in_relocations_are_refused() {
    let relocs: [(u32, RelocKind, &str); 9] = [
        (9, RelocKind::Map(0), "no such instruction"),
        (4, RelocKind::Map(0), "cannot hold"),
        (0, RelocKind::Map(2), "no map 2"),
        (2, RelocKind::SubprogCall(3), "is a program"),
        (2, RelocKind::SubprogCall(9), "no function 9"),
        (3, RelocKind::KfuncCall(9), "no extern 9"),
        (
            0,
            RelocKind::Data {
                section: 0,
                offset: 16,
            },
            "ends before byte 16",
        ),
        (
            0,
            RelocKind::Patch {
                patch: 0,
                field: PatchField::Imm64,
            },
            "no patch 0",
        ),
        (
            4,
            RelocKind::Patch {
                patch: 0,
                field: PatchField::Offset,
            },
            "cannot hold",
        ),
    ];
    for (insn_idx, kind, wanted) in relocs {
        refused(
            |spec| spec.functions[0].relocs = vec![Reloc { insn_idx, kind }],
            wanted,
        );
    }
    refused(
        |spec| {
            spec.functions[0].code.pop();
        },
        "within an instruction",
    );
    refused(|spec| spec.functions[1].code.clear(), "no code");
}

#[test]
fn mistakes_in_types_are_refused() {
    refused(
        |spec| {
            let int = spec.types.int("int", 4, true);
            spec.maps[0].value_type = Some(int);
        },
        "map \"AT_one\"",
    );
    refused(
        |spec| {
            let itself = spec.types.declare();
            spec.types.define(
                itself,
                Type::Struct {
                    name: "itself".to_owned(),
                    is_union: false,
                    size: 8,
                    members: vec![member("again", itself, 0)],
                },
            );
            spec.maps[0].value_type = Some(itself);
        },
        "nested too deeply",
    );
    refused(
        |spec| {
            let odd = spec.types.int("odd", 3, false);
            let pair = spec.types.add(Type::Struct {
                name: "pair".to_owned(),
                is_union: false,
                size: 8,
                members: vec![member("odd", odd, 0)],
            });
            spec.maps[0].value_type = Some(pair);
        },
        "\"odd\"",
    );
    let paths: [(&[u32], CoreKind, &str); 6] = [
        (&[9], CoreKind::FieldExists, "no member 9"),
        (&[], CoreKind::FieldExists, "a path of"),
        (&[2], CoreKind::FieldExists, "anonymous"),
        (&[0, 0], CoreKind::FieldExists, "without parts"),
        (&[0], CoreKind::TypeExists, "no path"),
        (&[0], CoreKind::EnumeratorExists, "an enumeration"),
    ];
    for (access, kind, wanted) in paths {
        let mut spec = core_sample();
        let Patch::Core(reloc) = &mut spec.patches[0] else {
            panic!("the first patch is a CO-RE relocation");
        };
        reloc.access = access.to_vec();
        reloc.kind = kind;
        check_refused(&spec, wanted);
    }
}

#[test]
fn mistakes_in_variables_are_refused() {
    let mut bss = DataSection::new(DataKind::Bss, "");
    let mut add = |init: &[u8], align| bss.add("x", init, align, None);
    for refused in [add(&[1], 1), add(&[], 1), add(&[0], 3)] {
        assert!(matches!(refused, Err(ObjectError::InvalidVariable { .. })));
    }
    assert_eq!(add(&[0; 3], 1), Ok(0));
    assert_eq!(add(&[0; 8], 8), Ok(8));
    refused(
        |spec| {
            let int = spec.types.int("int", 4, true);
            spec.data[0]
                .add("wrong", &[0; 8], 8, Some(int))
                .expect("valid so far");
        },
        "its size is not that of its type",
    );
}
