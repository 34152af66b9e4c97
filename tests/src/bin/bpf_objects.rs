//! Writes BPF objects that scripts of runtime tests import to a folder: such as clang makes of C, without
//! clang.

use std::path::Path;
use std::{env, fs, process};

use bpftrace_codegen::bpf::{PatchField, Reloc, RelocKind};
use bpftrace_codegen::object::{
    CoreKind, CoreReloc, DataKind, DataSection, Enumerator, ExternDef, ExternKind, FunctionDef,
    MapDef, Member, ObjectSpec, Patch, Placement, Signature, Type, TypeRef, write_object,
};
use goblin::elf::Elf;
use goblin::elf::section_header::SHT_SYMTAB;

fn main() {
    let Some(folder) = env::args_os().nth(1) else {
        eprintln!("usage: bpf_objects FOLDER");
        process::exit(2);
    };
    if let Err(error) = write_all(Path::new(&folder)) {
        eprintln!("{error}");
        process::exit(1);
    }
}

fn write_all(folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    fs::create_dir_all(folder)?;
    let library = write_object(&library())?.elf;
    let other = |license: &str, name: &str| write_object(&with_add_one(license, name));
    let mut other_machine = library.clone();
    other_machine[18] = 62;
    let mut other_byte_order = library.clone();
    other_byte_order[5] = 2;
    let files = [
        ("twice.bpf.o", other("GPL", "add_one")?.elf),
        ("licensed.bpf.o", other("MIT", "add_two")?.elf),
        ("relay.bpf.o", write_object(&relay())?.elf),
        ("attached.bpf.o", write_object(&attached())?.elf),
        ("refused.bpf.o", write_object(&refused())?.elf),
        ("symbol.bpf.o", with_symbol_outside(library.clone())?),
        ("untyped.bpf.o", without_btf(library.clone())),
        ("machine.bpf.o", other_machine),
        ("order.bpf.o", other_byte_order),
        ("cut.bpf.o", library[..200].to_vec()),
        ("library.bpf.o", library),
    ];
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}

/// The same object, whose last symbol is far behind its section.
fn with_symbol_outside(mut object: Vec<u8>) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let elf = Elf::parse(&object)?;
    let mut sections = elf.section_headers.iter();
    let symbols = sections
        .find(|section| section.sh_type == SHT_SYMTAB)
        .ok_or("an object has symbols")?;
    let end = symbols.sh_offset + symbols.sh_size;
    // The upper half of its place.
    object[end as usize - 12] = 1;
    Ok(object)
}

/// The same object, whose section `.BTF` has another name.
fn without_btf(mut object: Vec<u8>) -> Vec<u8> {
    let name = b"\0.BTF\0";
    if let Some(at) = object.windows(name.len()).position(|bytes| bytes == name) {
        object[at + 1] = b'_';
    }
    object
}

// Instructions.

fn insn(opcode: u8, dst: u8, src: u8, off: i16, imm: i32) -> Vec<u8> {
    let mut out = vec![opcode, src << 4 | dst];
    out.extend_from_slice(&off.to_le_bytes());
    out.extend_from_slice(&imm.to_le_bytes());
    out
}

fn mov_imm(dst: u8, imm: i32) -> Vec<u8> {
    insn(0xb7, dst, 0, 0, imm)
}

fn mov(dst: u8, src: u8) -> Vec<u8> {
    insn(0xbf, dst, src, 0, 0)
}

fn add_imm(dst: u8, imm: i32) -> Vec<u8> {
    insn(0x07, dst, 0, 0, imm)
}

fn add(dst: u8, src: u8) -> Vec<u8> {
    insn(0x0f, dst, src, 0, 0)
}

/// Of 8 bytes.
fn load(dst: u8, src: u8) -> Vec<u8> {
    insn(0x79, dst, src, 0, 0)
}

/// Of 4 bytes.
fn load_word(dst: u8, src: u8, off: i16) -> Vec<u8> {
    insn(0x61, dst, src, off, 0)
}

/// Of 8 bytes.
fn store(dst: u8, off: i16, src: u8) -> Vec<u8> {
    insn(0x7b, dst, src, off, 0)
}

/// Of 4 bytes.
fn store_word(dst: u8, off: i16, src: u8) -> Vec<u8> {
    insn(0x63, dst, src, off, 0)
}

fn skip_if_zero(dst: u8, insns: i16) -> Vec<u8> {
    insn(0x15, dst, 0, insns, 0)
}

fn call(helper: i32) -> Vec<u8> {
    insn(0x85, 0, 0, 0, helper)
}

fn exit() -> Vec<u8> {
    insn(0x95, 0, 0, 0, 0)
}

const MAP_LOOKUP_ELEM: i32 = 1;
const MAP_UPDATE_ELEM: i32 = 2;
const PROBE_READ_KERNEL: i32 = 113;

/// Part of a function: an instruction, or one that a relocation completes.
enum Part {
    Plain(Vec<u8>),
    Relocated(RelocKind, Vec<u8>),
}

impl From<Vec<u8>> for Part {
    fn from(insn: Vec<u8>) -> Self {
        Part::Plain(insn)
    }
}

fn address(dst: u8, kind: RelocKind) -> Part {
    let mut wide = insn(0x18, dst, 0, 0, 0);
    wide.extend(insn(0, 0, 0, 0, 0));
    Part::Relocated(kind, wide)
}

fn data(dst: u8, section: u32, offset: u32) -> Part {
    address(dst, RelocKind::Data { section, offset })
}

fn patched(patch: u32, insn: Vec<u8>) -> Part {
    let field = PatchField::Imm32;
    Part::Relocated(RelocKind::Patch { patch, field }, insn)
}

/// A global function; `params` have names.
fn define(
    spec: &mut ObjectSpec,
    name: &str,
    params: &[(&str, TypeRef)],
    ret: TypeRef,
    parts: Vec<Part>,
) {
    let params = params.iter().map(|(name, ty)| ((*name).to_owned(), *ty));
    let signature = Signature::Typed(spec.types.add(Type::Function {
        params: params.collect(),
        ret,
    }));
    define_as(spec, name, (Placement::GlobalSubprogram, signature), parts);
}

/// A program of a section.
fn define_program(spec: &mut ObjectSpec, name: &str, section: &str, parts: Vec<Part>) {
    let section = section.to_owned();
    let kind = (Placement::Program { section }, Signature::Program);
    define_as(spec, name, kind, parts);
}

fn define_as(
    spec: &mut ObjectSpec,
    name: &str,
    (placement, signature): (Placement, Signature),
    parts: Vec<Part>,
) {
    let (mut code, mut relocs) = (Vec::new(), Vec::new());
    for part in parts {
        let insn_idx = code.len() as u32 / 8;
        match part {
            Part::Plain(insn) => code.extend(insn),
            Part::Relocated(kind, insn) => {
                relocs.push(Reloc { insn_idx, kind });
                code.extend(insn);
            }
        }
    }
    spec.functions.push(FunctionDef {
        name: name.to_owned(),
        placement,
        signature,
        code,
        relocs,
        lines: Vec::new(),
    });
}

fn licensed(license: &str) -> ObjectSpec {
    ObjectSpec {
        license: license.to_owned(),
        ..ObjectSpec::default()
    }
}

/// `int NAME(int val) { return val + 1; }`
fn with_add_one(license: &str, name: &str) -> ObjectSpec {
    let mut spec = licensed(license);
    let int = spec.types.int("int", 4, true);
    let parts = vec![mov(0, 1).into(), add_imm(0, 1).into(), exit().into()];
    define(&mut spec, name, &[("val", int)], int, parts);
    spec
}

/// `extern int elsewhere(int); int relay(int val) { return elsewhere(val); }`
fn relay() -> ObjectSpec {
    let mut spec = licensed("GPL");
    let int = spec.types.int("int", 4, true);
    let ty = spec.types.add(Type::Function {
        params: vec![(String::new(), int)],
        ret: int,
    });
    spec.externs.push(ExternDef {
        name: "elsewhere".to_owned(),
        kind: ExternKind::Linked(ty),
        weak: false,
    });
    let there = Part::Relocated(RelocKind::KfuncCall(0), insn(0x85, 0, 1, 0, -1));
    let parts = vec![there, exit().into()];
    define(&mut spec, "relay", &[("val", int)], int, parts);
    spec
}

/// Programs that count system calls, one that the kernel would refuse but that is not to be loaded, and
/// a function that tells the count.
fn attached() -> ObjectSpec {
    let mut spec = licensed("GPL");
    let u64_type = spec.types.int("unsigned long long", 8, false);
    let mut zero = DataSection::new(DataKind::Bss, "");
    let added = zero.add("n_calls", &[0; 8], 8, None);
    assert!(added.is_ok(), "the variable is valid");
    spec.data = vec![zero];
    let count = |n| {
        vec![
            data(2, 0, 0),
            load(1, 2).into(),
            add_imm(1, n).into(),
            store(2, 0, 1).into(),
            mov_imm(0, 0).into(),
            exit().into(),
        ]
    };
    let section = "tracepoint/syscalls/sys_enter_getppid";
    define_program(&mut spec, "on_getppid", section, count(1));
    let section = "tracepoint/syscalls/sys_enter_getpgid";
    define_program(&mut spec, "on_getpgid", section, count(100));
    let section = "tracepoint/nowhere/nothing";
    define_program(&mut spec, "on_nothing", section, count(1));
    define_program(&mut spec, "alone", "tracepoint", count(1));
    let section = "?tracepoint/syscalls/sys_enter_getppid";
    define_program(&mut spec, "optional", section, vec![exit().into()]);
    let parts = vec![data(1, 0, 0), load(0, 1).into(), exit().into()];
    define(&mut spec, "n_called", &[], u64_type, parts);
    spec
}

/// A program without a result, which the verifier refuses.
fn refused() -> ObjectSpec {
    let mut spec = licensed("GPL");
    let section = "tracepoint/syscalls/sys_enter_getppid";
    define_program(&mut spec, "no_result", section, vec![exit().into()]);
    spec
}

fn member(name: &str, ty: TypeRef, bit_offset: u32) -> Member {
    Member {
        name: name.to_owned(),
        ty,
        bit_offset,
        bitfield_bits: None,
    }
}

fn structure(spec: &mut ObjectSpec, name: &str, size: u32, members: Vec<Member>) -> TypeRef {
    spec.types.add(Type::Struct {
        name: name.to_owned(),
        is_union: false,
        size,
        members,
    })
}

/// Sections of data, by number.
const RODATA: u32 = 0;
const DATA: u32 = 1;
const BSS: u32 = 2;

/// Functions of each kind, and what else an object may have.
fn library() -> ObjectSpec {
    let mut spec = with_add_one("GPL", "add_one");
    let int = spec.types.int("int", 4, true);
    let u32_type = spec.types.int("unsigned int", 4, false);
    let u64_type = spec.types.int("unsigned long long", 8, false);
    let i8_type = spec.types.int("signed char", 1, true);

    // struct pair { int a; int b; };
    let members = vec![member("a", int, 0), member("b", int, 32)];
    let pair = structure(&mut spec, "pair", 8, members);
    let pair_ptr = spec.types.ptr(pair);
    // enum colour { RED = 1, GREEN = 5 };
    let colour = spec.types.add(Type::Enum {
        name: "colour".to_owned(),
        size: 4,
        signed: false,
        values: [("COLOUR_RED", 1), ("COLOUR_GREEN", 5)]
            .map(|(name, value)| Enumerator {
                name: name.to_owned(),
                value,
            })
            .into(),
    });
    // As far as it is needed.
    let task = structure(&mut spec, "task_struct", 8, vec![member("pid", int, 0)]);
    let task_ptr = spec.types.ptr(task);

    let mut rodata = DataSection::new(DataKind::Rodata, "");
    let mut initialised = DataSection::new(DataKind::Data, "");
    let mut zero = DataSection::new(DataKind::Bss, "");
    let added = [
        rodata.add("limit", &42u64.to_le_bytes(), 8, None),
        initialised.add("base", &100u64.to_le_bytes(), 8, None),
        initialised.add("the_pair", &[3, 0, 0, 0, 4, 0, 0, 0], 8, Some(pair)),
        zero.add("calls", &[0; 8], 8, None),
    ];
    assert!(added.iter().all(Result::is_ok), "the variables are valid");
    spec.data = vec![rodata, initialised, zero];
    spec.maps.push(MapDef {
        key_type: Some(u32_type),
        value_type: Some(u64_type),
        ..MapDef::new("remembered", 1, 4, 8, 16)
    });

    // Which members and enumerators the object uses; the kernel has neither type.
    let asked = [
        (pair, 0, CoreKind::FieldExists),
        (pair, 1, CoreKind::FieldExists),
        (colour, 0, CoreKind::EnumeratorExists),
        (colour, 1, CoreKind::EnumeratorExists),
        (task, 0, CoreKind::FieldByteOffset),
    ];
    spec.patches = asked
        .map(|(root, row, kind)| {
            Patch::Core(CoreReloc {
                root,
                access: vec![row],
                kind,
            })
        })
        .into();
    let mut parts = vec![mov_imm(0, 0).into()];
    parts.extend((0..4).map(|patch| patched(patch, add_imm(0, 0))));
    parts.push(exit().into());
    define(&mut spec, "known_to_the_kernel", &[], int, parts);

    define(
        &mut spec,
        "count_up",
        &[],
        u64_type,
        vec![
            data(2, BSS, 0),
            load(1, 2).into(),
            add_imm(1, 1).into(),
            store(2, 0, 1).into(),
            data(3, DATA, 0),
            load(0, 3).into(),
            add(0, 1).into(),
            exit().into(),
        ],
    );
    define(
        &mut spec,
        "start_again",
        &[],
        TypeRef::VOID,
        vec![
            data(2, BSS, 0),
            mov_imm(1, 0).into(),
            store(2, 0, 1).into(),
            mov_imm(0, 0).into(),
            exit().into(),
        ],
    );
    let parts = vec![data(1, RODATA, 0), load(0, 1).into(), exit().into()];
    define(&mut spec, "highest", &[], u64_type, parts);
    define(
        &mut spec,
        "remember",
        &[("key", u32_type), ("value", u64_type)],
        int,
        vec![
            store_word(10, -4, 1).into(),
            store(10, -16, 2).into(),
            address(1, RelocKind::Map(0)),
            mov(2, 10).into(),
            add_imm(2, -4).into(),
            mov(3, 10).into(),
            add_imm(3, -16).into(),
            mov_imm(4, 0).into(),
            call(MAP_UPDATE_ELEM).into(),
            exit().into(),
        ],
    );
    define(
        &mut spec,
        "recall",
        &[("key", u32_type)],
        u64_type,
        vec![
            store_word(10, -4, 1).into(),
            address(1, RelocKind::Map(0)),
            mov(2, 10).into(),
            add_imm(2, -4).into(),
            call(MAP_LOOKUP_ELEM).into(),
            skip_if_zero(0, 1).into(),
            load(0, 0).into(),
            exit().into(),
        ],
    );
    let parts = vec![data(0, DATA, 8), exit().into()];
    define(&mut spec, "get_pair", &[], pair_ptr, parts);
    define(
        &mut spec,
        "sum_of",
        &[("pair", pair_ptr)],
        int,
        vec![
            load_word(0, 1, 0).into(),
            load_word(1, 1, 4).into(),
            add(0, 1).into(),
            exit().into(),
        ],
    );
    define(
        &mut spec,
        "pid_of",
        &[("task", task_ptr)],
        int,
        vec![
            mov(3, 1).into(),
            patched(4, add_imm(3, 0)),
            mov(1, 10).into(),
            add_imm(1, -4).into(),
            mov_imm(2, 4).into(),
            call(PROBE_READ_KERNEL).into(),
            load_word(0, 10, -4).into(),
            exit().into(),
        ],
    );
    let parts = vec![mov_imm(0, 5).into(), exit().into()];
    define(&mut spec, "favourite", &[], colour, parts);
    // The upper bits are whatever they are.
    let parts = vec![mov_imm(0, 0x1fe).into(), exit().into()];
    define(&mut spec, "minus_two", &[], i8_type, parts);
    let parts = vec![mov_imm(0, 0).into(), exit().into()];
    define(&mut spec, "by_value", &[], pair, parts);
    spec
}
