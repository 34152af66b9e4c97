//! Maps, data, ring buffers, subprograms, callbacks, externs, line info, patches by the loader.

use bpftrace_codegen::bpf::{PatchField, RelocKind};
use bpftrace_codegen::object::{
    DataKind, DataSection, ExternDef, ExternKind, MapDef, Member, ObjectSpec, Patch, Placement,
    Signature, Type,
};

use crate::asm::*;
use crate::kernel::{self, Object, load, write};
use crate::{FLOOR, Test};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "map_and_rodata_slot",
        since: FLOOR,
        run: map_and_rodata_slot,
    },
    Test {
        name: "ring_buffer",
        since: FLOOR,
        run: ring_buffer,
    },
    Test {
        name: "subprograms",
        since: FLOOR,
        run: subprograms,
    },
    Test {
        name: "callback",
        since: (5, 17),
        run: callback,
    },
    Test {
        name: "line_info_in_the_verifiers_log",
        since: FLOOR,
        run: line_info_in_the_verifiers_log,
    },
    Test {
        name: "kernel_functions",
        since: (6, 2),
        run: kernel_functions,
    },
    Test {
        name: "loader_patch",
        since: FLOOR,
        run: loader_patch,
    },
    Test {
        name: "kinds_of_programs",
        since: FLOOR,
        run: kinds_of_programs,
    },
    Test {
        name: "programs_share_a_section",
        since: FLOOR,
        run: programs_share_a_section,
    },
];

const BPF_MAP_TYPE_HASH: u32 = 1;
const BPF_MAP_TYPE_RINGBUF: u32 = 27;

const MAP_UPDATE_ELEM: i32 = 2;
const RINGBUF_OUTPUT: i32 = 130;
const BPF_LOOP: i32 = 181;

/// An empty specification that may use every helper.
pub(crate) fn spec() -> ObjectSpec {
    ObjectSpec {
        license: "GPL".to_owned(),
        ..ObjectSpec::default()
    }
}

/// A `.bss` with that many 64-bit results.
pub(crate) fn results(count: usize) -> DataSection {
    let mut bss = DataSection::new(DataKind::Bss, "");
    for number in 0..count {
        bss.add(&format!("result{number}"), &[0; 8], 8, None)
            .expect("a valid variable");
    }
    bss
}

pub(crate) fn expect<T: PartialEq + std::fmt::Debug>(
    what: &str,
    got: T,
    wanted: T,
) -> Result<(), String> {
    if got == wanted {
        Ok(())
    } else {
        Err(format!("{what}: got {got:?}, wanted {wanted:?}"))
    }
}

fn map_and_rodata_slot() -> Result<(), String> {
    let mut spec = spec();
    let u32_type = spec.types.int("unsigned int", 4, false);
    let u64_type = spec.types.int("unsigned long long", 8, false);
    let member = |name: &str, ty, bit_offset| Member {
        name: name.to_owned(),
        ty,
        bit_offset,
        bitfield_bits: None,
    };
    let value_type = spec.types.add(Type::Struct {
        name: "counts".to_owned(),
        is_union: false,
        size: 16,
        members: vec![member("second", u64_type, 64), member("first", u64_type, 0)],
    });
    spec.maps.push(MapDef {
        key_type: Some(u32_type),
        value_type: Some(value_type),
        ..MapDef::new("AT_counts", BPF_MAP_TYPE_HASH, 4, 16, 8)
    });
    spec.maps
        .push(MapDef::new("AT_plain", BPF_MAP_TYPE_HASH, 4, 8, 4096));
    let mut rodata = DataSection::new(DataKind::Rodata, "");
    rodata
        .add("pad", &[1, 2, 3], 1, None)
        .map_err(|error| error.to_string())?;
    let slot = rodata
        .add("slot_pid", &[0; 8], 8, Some(u64_type))
        .map_err(|error| error.to_string())?;
    spec.data = vec![
        rodata,
        DataSection::new(DataKind::Data, "empty"),
        results(2),
    ];
    spec.functions.push(
        Assembler::new()
            .data(6, 0, slot)
            .push([load64(6, 6, 0)])
            .data(7, 2, 8)
            .push([
                store64(7, 0, 6),
                store32_imm(10, -4, 7),
                store64(10, -16, 6),
                store64(10, -24, 6),
            ])
            .map(1, 0)
            .push([
                mov(2, 10),
                add_imm(2, -4),
                mov(3, 10),
                add_imm(3, -24),
                mov_imm(4, 0),
                helper(MAP_UPDATE_ELEM),
            ])
            .map(1, 1)
            .push([
                mov(2, 10),
                add_imm(2, -4),
                mov(3, 10),
                add_imm(3, -24),
                mov_imm(4, 0),
                helper(MAP_UPDATE_ELEM),
            ])
            .program("main", "raw_tp"),
    );
    let written = write(&spec)?;
    let mut object = Object::open(&written.elf)?;
    object.data(".rodata")[slot as usize..][..8].copy_from_slice(&4711u64.to_le_bytes());
    object.load()?;
    object.run("main")?;
    expect("result", object.number(".bss", 8), 4711)?;
    expect("untouched result", object.number(".bss", 0), 0)?;
    let both = [4711u64.to_le_bytes(), 4711u64.to_le_bytes()].concat();
    let key = 7u32.to_le_bytes();
    expect("value", object.lookup("AT_counts", &key, 16), Some(both))?;
    expect(
        "plain value",
        object.lookup("AT_plain", &key, 8),
        Some(4711u64.to_le_bytes().to_vec()),
    )
}

fn ring_buffer() -> Result<(), String> {
    let mut spec = spec();
    spec.maps
        .push(MapDef::new("ringbuf", BPF_MAP_TYPE_RINGBUF, 0, 0, 4096));
    spec.functions.push(
        Assembler::new()
            .push([store32_imm(10, -4, 0x0403_0201)])
            .map(1, 0)
            .push([
                mov(2, 10),
                add_imm(2, -4),
                mov_imm(3, 4),
                mov_imm(4, 0),
                helper(RINGBUF_OUTPUT),
            ])
            .program("main", "raw_tp"),
    );
    let object = load(&spec)?;
    object.run("main")?;
    object.run("main")?;
    expect(
        "records",
        object.drain("ringbuf"),
        vec![vec![1, 2, 3, 4]; 2],
    )
}

fn subprograms() -> Result<(), String> {
    let mut spec = spec();
    spec.data = vec![results(2)];
    let long = spec.types.int("long", 8, true);
    let global_type = spec.types.add(Type::Function {
        params: vec![("number".to_owned(), long)],
        ret: long,
    });
    let add_and_return = |imm| {
        Assembler::new().line(1, "fn add($a: int64): int64").push([
            mov(0, 1),
            add_imm(0, imm),
            exit(),
        ])
    };
    spec.functions = vec![
        // The program comes first in the file, and calls functions that are not the first of theirs.
        Assembler::new()
            .line(5, "begin { add(1) }")
            .push([mov_imm(1, 1)])
            .reloc(RelocKind::SubprogCall(2), call())
            .data(1, 0, 0)
            .push([store64(1, 0, 0), mov_imm(1, 1)])
            .reloc(RelocKind::SubprogCall(3), call())
            .data(1, 0, 8)
            .push([store64(1, 0, 0)])
            .program("main", "raw_tp"),
        add_and_return(10).function("add_10", Placement::Subprogram, Signature::Scalars(1)),
        // Calls its neighbour, and has no line info of its own.
        Assembler::new()
            .push([add_imm(1, 100)])
            .reloc(RelocKind::SubprogCall(1), call())
            .push([exit()])
            .function("add_110", Placement::Subprogram, Signature::Scalars(1)),
        add_and_return(1000).function(
            "add_1000",
            Placement::GlobalSubprogram,
            Signature::Typed(global_type),
        ),
    ];
    let mut object = load(&spec)?;
    object.run("main")?;
    expect("static", object.number(".bss", 0), 111)?;
    expect("global", object.number(".bss", 8), 1001)
}

fn callback() -> Result<(), String> {
    let mut spec = spec();
    spec.data = vec![results(1)];
    spec.functions = vec![
        Assembler::new().push([mov_imm(0, 0), exit()]).function(
            "first",
            Placement::Subprogram,
            Signature::Scalars(0),
        ),
        Assembler::new()
            .data(3, 0, 0)
            .push([
                load64(4, 3, 0),
                add(4, 1),
                store64(3, 0, 4),
                mov_imm(0, 0),
                exit(),
            ])
            .function("body", Placement::Subprogram, Signature::Scalars(2)),
        Assembler::new()
            .push([mov_imm(1, 10)])
            .reloc(RelocKind::SubprogAddr(1), load_address(2, 4, 0))
            .push([mov_imm(3, 0), mov_imm(4, 0), helper(BPF_LOOP)])
            .reloc(RelocKind::SubprogCall(0), call())
            .program("main", "raw_tp"),
    ];
    let mut object = load(&spec)?;
    object.run("main")?;
    expect("sum of 0 to 9", object.number(".bss", 0), 45)
}

fn line_info_in_the_verifiers_log() -> Result<(), String> {
    let mut spec = spec();
    spec.functions.push(
        Assembler::new()
            .line(2, "    $a = 1;")
            .push([mov_imm(1, 1)])
            .line(3, "    $b = *$nowhere;")
            .push([load64(1, 1, 0)])
            .program("main", "raw_tp"),
    );
    let Err(log) = load(&spec) else {
        return Err("the verifier takes a load through a number".to_owned());
    };
    // Kernels of long ago quote the line without its place.
    let second = if kernel::version() >= (6, 12) {
        "; $b = *$nowhere; @ script.bt:3"
    } else {
        "; $b = *$nowhere;"
    };
    for wanted in ["; $a = 1;", second] {
        if !log.contains(wanted) {
            return Err(format!("{wanted:?} is missing in the log:\n{log}"));
        }
    }
    Ok(())
}

fn kernel_functions() -> Result<(), String> {
    let mut spec = spec();
    spec.data = vec![results(3)];
    let void = bpftrace_codegen::object::TypeRef::VOID;
    let proto = spec.types.add(Type::Function {
        params: Vec::new(),
        ret: void,
    });
    let task = spec.types.add(Type::Struct {
        name: "task_struct".to_owned(),
        is_union: false,
        size: 64,
        members: Vec::new(),
    });
    let task_ptr = spec.types.ptr(task);
    let acquire = spec.types.add(Type::Function {
        params: vec![(String::new(), task_ptr)],
        ret: task_ptr,
    });
    let ext = |name: &str, ty, weak| ExternDef {
        name: name.to_owned(),
        kind: ExternKind::Function(ty),
        weak,
    };
    spec.externs = vec![
        ext("bpf_rcu_read_lock", proto, false),
        ext("bpf_rcu_read_unlock", proto, false),
        ext("no_such_kernel_function", proto, true),
        ext("unused_and_unknown", proto, false),
        ext("bpf_task_acquire", acquire, true),
        ExternDef {
            name: "vfs_read".to_owned(),
            kind: ExternKind::Symbol,
            weak: false,
        },
    ];
    spec.functions.push(
        Assembler::new()
            .reloc(RelocKind::KfuncCall(0), call())
            .reloc(RelocKind::KfuncCall(1), call())
            .reloc(RelocKind::KfuncAddr(2), load_address(6, 0, 0))
            .push([jump_eq_imm(6, 0, 1)])
            .reloc(RelocKind::KfuncCall(2), call())
            .reloc(RelocKind::KfuncAddr(4), load_address(7, 0, 0))
            .reloc(RelocKind::KfuncAddr(5), load_address(8, 0, 0))
            .data(1, 0, 0)
            .push([store64(1, 0, 6), store64(1, 8, 7), store64(1, 16, 8)])
            .program("main", "raw_tp"),
    );
    let mut object = load(&spec)?;
    object.run("main")?;
    expect("missing function", object.number(".bss", 0), 0)?;
    expect("known function", object.number(".bss", 8) != 0, true)?;
    expect("symbol", object.number(".bss", 16) != 0, true)
}

fn loader_patch() -> Result<(), String> {
    let mut spec = spec();
    spec.data = vec![results(2)];
    spec.patches = vec![
        Patch::Loader { initial: 0 },
        Patch::Loader { initial: 77 },
        Patch::Loader { initial: 1 << 40 },
    ];
    let code = || {
        Assembler::new()
            .push([mov_imm(1, 0)])
            .patch(0, PatchField::Imm32, add_imm(1, 0))
            .patch(2, PatchField::Imm64, load_address(2, 0, 0))
            .push([add(1, 2)])
            .data(2, 0, 0)
            .patch(1, PatchField::Offset, store64(2, 0, 1))
    };
    spec.functions = vec![
        code().program("other", "raw_tp/sched_switch"),
        code().program("main", "raw_tp"),
    ];
    let mut written = write(&spec)?;
    let mut fields = Vec::new();
    for site in written.patch_sites.clone() {
        let at = site.file_offset as usize;
        match site.field {
            PatchField::Offset => {
                expect("old offset", &written.elf[at + 2..at + 4], &[77, 0])?;
                written.elf[at + 2] = 8;
            }
            PatchField::Imm32 => written.elf[at + 4] = 42,
            PatchField::Imm64 => {
                expect("old high half", &written.elf[at + 12..at + 14], &[0, 1])?;
                written.elf[at + 13] = 2;
            }
        }
        fields.push((site.function, site.patch, site.section_offset));
    }
    expect(
        "sites",
        fields,
        vec![
            (0, 0, 8),
            (0, 2, 16),
            (0, 1, 56),
            (1, 0, 8),
            (1, 2, 16),
            (1, 1, 56),
        ],
    )?;
    let mut object = Object::open(&written.elf)?;
    object.load()?;
    object.run("main")?;
    expect("sum", object.number(".bss", 8), 42 + (2 << 40))
}

fn kinds_of_programs() -> Result<(), String> {
    check_sections(&[
        "kprobe/vfs_read",
        "kretprobe/vfs_read",
        "uprobe",
        "tp_btf/sched_switch",
        "perf_event",
        "raw_tp",
        "tracepoint/sched/sched_switch",
        "iter/task",
        "xdp",
    ])
}

/// Apart from the others, because some kernels refuse them.
pub(crate) fn function_entry_and_exit() -> Result<(), String> {
    check_sections(&["fentry/vfs_open", "fexit/vfs_open"])
}

fn check_sections(sections: &[&str]) -> Result<(), String> {
    let mut spec = spec();
    for (number, section) in sections.iter().enumerate() {
        spec.functions
            .push(Assembler::new().program(&format!("program_{number}"), section));
    }
    let object = load(&spec)?;
    let wanted: Vec<(String, String)> = sections
        .iter()
        .enumerate()
        .map(|(number, section)| (format!("program_{number}"), (*section).to_owned()))
        .collect();
    expect("programs", object.programs(), wanted)
}

fn programs_share_a_section() -> Result<(), String> {
    let mut spec = spec();
    spec.data = vec![results(2)];
    for (row, name) in ["one", "two"].into_iter().enumerate() {
        spec.functions.push(
            Assembler::new()
                .line(1, "same line")
                .push([mov_imm(2, row as i32 + 5)])
                .data(1, 0, row as u32 * 8)
                .push([store64(1, 0, 2)])
                .program(name, "raw_tp"),
        );
    }
    let mut object = load(&spec)?;
    object.run("one")?;
    expect("first", object.number(".bss", 0), 5)?;
    expect("second, not run yet", object.number(".bss", 8), 0)?;
    object.run("two")?;
    expect("second", object.number(".bss", 8), 6)
}
