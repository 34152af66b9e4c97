//! CO-RE relocations: the local types lie about offsets and sizes on purpose, and the running
//! kernel's own BTF says what libbpf has to make of them.

use bpftrace_codegen::bpf::PatchField;
use bpftrace_codegen::object::{
    CoreKind, CoreReloc, Enumerator, FunctionDef, Member, ObjectSpec, Patch, Type, TypeGraph,
    TypeRef,
};
use btf_rs::{Btf, Type as BtfRecord};

use crate::asm::*;
use crate::kernel::{load, write};
use crate::parts::{expect, results, spec};
use crate::{FLOOR, Test};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "core_fields",
        since: FLOOR,
        run: core_fields,
    },
    Test {
        name: "core_bit_fields",
        since: FLOOR,
        run: core_bit_fields,
    },
    Test {
        name: "core_types",
        since: FLOOR,
        run: core_types,
    },
    Test {
        name: "core_enumerators",
        since: FLOOR,
        run: core_enumerators,
    },
    Test {
        name: "core_missing_is_only_fatal_when_reached",
        since: FLOOR,
        run: core_missing_is_only_fatal_when_reached,
    },
    Test {
        name: "core_loads_and_wide_values",
        since: (5, 11),
        run: core_loads_and_wide_values,
    },
];

const GET_CURRENT_PID_TGID: i32 = 14;
const GET_CURRENT_TASK: i32 = 35;
const PROBE_READ_KERNEL: i32 = 113;
const GET_CURRENT_TASK_BTF: i32 = 158;

/// The running kernel's types.
fn kernel_types() -> Result<Btf, String> {
    Btf::from_file("/sys/kernel/btf/vmlinux").map_err(|error| error.to_string())
}

/// A member of a struct of the running kernel: offset and width in bits, and its type.
fn kernel_member(btf: &Btf, composite: &str, member: &str) -> Option<(u32, u32, BtfRecord)> {
    btf.resolve_types_by_name(composite)
        .ok()?
        .iter()
        .find_map(|ty| find_member(btf, ty, member))
}

fn find_member(btf: &Btf, ty: &BtfRecord, name: &str) -> Option<(u32, u32, BtfRecord)> {
    let (BtfRecord::Struct(composite) | BtfRecord::Union(composite)) = ty else {
        return None;
    };
    composite.members.iter().find_map(|member| {
        let member_name = btf.resolve_name(member).ok()?;
        let member_type = btf.resolve_chained_type(member).ok()?;
        if member_name == name {
            let bits = member.bitfield_size().unwrap_or(0);
            Some((member.bit_offset(), bits, member_type))
        } else if member_name.is_empty() {
            let (offset, bits, ty) = find_member(btf, &member_type, name)?;
            Some((member.bit_offset() + offset, bits, ty))
        } else {
            None
        }
    })
}

fn kernel_offset(btf: &Btf, composite: &str, member: &str) -> Result<u64, String> {
    kernel_member(btf, composite, member)
        .map(|(offset, _, _)| u64::from(offset / 8))
        .ok_or_else(|| format!("the kernel has no {composite}.{member}"))
}

fn kernel_size(btf: &Btf, composite: &str) -> Result<u64, String> {
    let types = btf
        .resolve_types_by_name(composite)
        .map_err(|error| error.to_string())?;
    types
        .iter()
        .find_map(|ty| match ty {
            BtfRecord::Struct(found) | BtfRecord::Union(found) => Some(found.size() as u64),
            _ => None,
        })
        .ok_or_else(|| format!("the kernel has no {composite}"))
}

fn member(name: &str, ty: TypeRef, bit_offset: u32) -> Member {
    Member {
        name: name.to_owned(),
        ty,
        bit_offset,
        bitfield_bits: None,
    }
}

fn composite(
    types: &mut TypeGraph,
    name: &str,
    is_union: bool,
    size: u32,
    members: Vec<Member>,
) -> TypeRef {
    types.add(Type::Struct {
        name: name.to_owned(),
        is_union,
        size,
        members,
    })
}

/// A question, and what the kernel's types answer.
struct Question {
    what: &'static str,
    reloc: CoreReloc,
    wanted: u64,
}

fn ask(what: &'static str, root: TypeRef, access: &[u32], kind: CoreKind, wanted: u64) -> Question {
    Question {
        what,
        reloc: CoreReloc {
            root,
            access: access.to_vec(),
            kind,
        },
        wanted,
    }
}

/// A program that stores the answers, one after the other.
fn answers(questions: &[Question]) -> FunctionDef {
    let mut asm = Assembler::new();
    for row in 0..questions.len() as u32 {
        asm = asm
            .patch(row, PatchField::Imm32, mov_imm(2, 0))
            .data(1, 0, row * 8)
            .push([store64(1, 0, 2)]);
    }
    asm.program("main", "raw_tp")
}

/// Loads and runs a program with all questions, and compares the answers.
fn check(mut spec: ObjectSpec, questions: Vec<Question>) -> Result<(), String> {
    spec.data = vec![results(questions.len())];
    spec.functions = vec![answers(&questions)];
    spec.patches = questions
        .iter()
        .map(|question| Patch::Core(question.reloc.clone()))
        .collect();
    let mut object = load(&spec)?;
    object.run("main")?;
    for (row, question) in (0..).zip(&questions) {
        expect(
            question.what,
            object.number(".bss", row * 8),
            question.wanted,
        )?;
    }
    Ok(())
}

fn core_fields() -> Result<(), String> {
    let btf = kernel_types()?;
    let mut spec = spec();
    let types = &mut spec.types;
    let int = types.int("int", 4, true);
    let char = types.int("char", 1, true);
    let comm = types.add(Type::Array {
        element: char,
        len: 16,
    });
    let pid_t = types.add(Type::Typedef {
        name: "pid_t".to_owned(),
        target: int,
    });
    let task = types.declare();
    let task_ptr = types.ptr(task);
    let list = composite(
        types,
        "list_head",
        false,
        16,
        vec![
            member("next", TypeRef::VOID, 0),
            member("prev", task_ptr, 64),
        ],
    );
    types.define(
        task,
        Type::Struct {
            name: "task_struct".to_owned(),
            is_union: false,
            size: 800,
            members: vec![
                member("not_in_any_kernel", int, 0),
                member("comm", comm, 64),
                member("pid", pid_t, 320),
                member("real_parent", task_ptr, 640),
                member("children", list, 6400 - 128),
            ],
        },
    );
    // sk_buff.dev lies in a struct in a union, both anonymous.
    let net_device = types.add(Type::Forward {
        name: "net_device".to_owned(),
        is_union: false,
    });
    let device_ptr = types.ptr(net_device);
    let long = types.int("unsigned long", 8, false);
    let inner = composite(
        types,
        "",
        true,
        8,
        vec![member("dev_scratch", long, 0), member("dev", device_ptr, 0)],
    );
    let middle = composite(
        types,
        "",
        false,
        24,
        vec![
            member("next", device_ptr, 0),
            member("prev", device_ptr, 64),
            member("", inner, 128),
        ],
    );
    let outer = composite(types, "", true, 24, vec![member("", middle, 0)]);
    let sk_buff = composite(
        types,
        "sk_buff",
        false,
        64,
        vec![member("unused", long, 0), member("", outer, 128)],
    );
    // bpf_prog.insnsi is a flexible array in an anonymous union.
    let insn = composite(types, "bpf_insn", false, 8, Vec::new());
    let flexible = types.add(Type::Array {
        element: insn,
        len: 0,
    });
    let insns = composite(types, "", true, 0, vec![member("insnsi", flexible, 0)]);
    let prog = composite(
        types,
        "bpf_prog",
        false,
        8,
        vec![member("pages", int, 0), member("", insns, 64)],
    );
    let questions = vec![
        ask(
            "offset of pid",
            task,
            &[2],
            CoreKind::FieldByteOffset,
            kernel_offset(&btf, "task_struct", "pid")?,
        ),
        ask("size of pid", task, &[2], CoreKind::FieldByteSize, 4),
        ask("pid exists", task, &[2], CoreKind::FieldExists, 1),
        ask("pid is signed", task, &[2], CoreKind::FieldSigned, 1),
        ask("shift of pid", task, &[2], CoreKind::FieldLeftShift, 32),
        ask("missing field", task, &[0], CoreKind::FieldExists, 0),
        ask(
            "pointer",
            task,
            &[3],
            CoreKind::FieldByteOffset,
            kernel_offset(&btf, "task_struct", "real_parent")?,
        ),
        ask(
            "array",
            task,
            &[1],
            CoreKind::FieldByteOffset,
            kernel_offset(&btf, "task_struct", "comm")?,
        ),
        ask(
            "element",
            task,
            &[1, 3],
            CoreKind::FieldByteOffset,
            kernel_offset(&btf, "task_struct", "comm")? + 3,
        ),
        ask("size of element", task, &[1, 3], CoreKind::FieldByteSize, 1),
        ask(
            "struct in struct",
            task,
            &[4, 1],
            CoreKind::FieldByteOffset,
            kernel_offset(&btf, "task_struct", "children")? + 8,
        ),
        ask("whole struct", task, &[4], CoreKind::FieldByteSize, 16),
        ask(
            "anonymous",
            sk_buff,
            &[1, 0, 2, 1],
            CoreKind::FieldByteOffset,
            kernel_offset(&btf, "sk_buff", "dev")?,
        ),
        ask(
            "flexible",
            prog,
            &[1, 0, 3],
            CoreKind::FieldByteOffset,
            kernel_offset(&btf, "bpf_prog", "insnsi")? + 24,
        ),
    ];
    check(spec, questions)
}

fn core_bit_fields() -> Result<(), String> {
    let btf = kernel_types()?;
    let mut spec = spec();
    let types = &mut spec.types;
    let unsigned = types.int("unsigned int", 4, false);
    let bits = |name: &str, offset, bits| Member {
        bitfield_bits: Some(bits),
        ..member(name, unsigned, offset)
    };
    let task = composite(
        types,
        "task_struct",
        false,
        64,
        vec![
            bits("unused", 0, 3),
            bits("sched_reset_on_fork", 3, 2),
            bits("in_execve", 37, 7),
            member("prio", unsigned, 64),
        ],
    );
    let mut questions = Vec::new();
    for (row, name) in [(1, "sched_reset_on_fork"), (2, "in_execve")] {
        let (offset, bits, _) =
            kernel_member(&btf, "task_struct", name).ok_or("the kernel has no such bit-field")?;
        let word = offset / 32 * 4;
        questions.extend([
            ask(
                "offset",
                task,
                &[row],
                CoreKind::FieldByteOffset,
                u64::from(word),
            ),
            ask("size", task, &[row], CoreKind::FieldByteSize, 4),
            ask("sign", task, &[row], CoreKind::FieldSigned, 0),
            ask("exists", task, &[row], CoreKind::FieldExists, 1),
            ask(
                "left",
                task,
                &[row],
                CoreKind::FieldLeftShift,
                u64::from(64 - (offset + bits - word * 8)),
            ),
            ask(
                "right",
                task,
                &[row],
                CoreKind::FieldRightShift,
                u64::from(64 - bits),
            ),
        ]);
    }
    // A member of the same struct, which is written in the form for bit-fields.
    questions.push(ask(
        "beside",
        task,
        &[3],
        CoreKind::FieldByteOffset,
        kernel_offset(&btf, "task_struct", "prio")?,
    ));
    check(spec, questions)
}

fn core_types() -> Result<(), String> {
    let btf = kernel_types()?;
    let mut spec = spec();
    let types = &mut spec.types;
    let int = types.int("int", 4, true);
    let task = composite(types, "task_struct", false, 1, Vec::new());
    let missing = composite(types, "not_in_any_kernel", false, 24, Vec::new());
    let counter = composite(types, "", false, 4, vec![member("counter", int, 0)]);
    let atomic = types.add(Type::Typedef {
        name: "atomic_t".to_owned(),
        target: counter,
    });
    let wrong_list = composite(
        types,
        "list_head",
        false,
        8,
        vec![member("counter", int, 0)],
    );
    let right_list = types.declare();
    let list_ptr = types.ptr(right_list);
    types.define(
        right_list,
        Type::Struct {
            name: "list_head".to_owned(),
            is_union: false,
            size: 16,
            members: vec![member("prev", list_ptr, 64), member("next", list_ptr, 0)],
        },
    );
    let const_atomic = types.add(Type::Const(atomic));
    let task_id = btf
        .resolve_ids_by_name("task_struct")
        .map_err(|error| error.to_string())?
        .into_iter()
        .find(|&id| matches!(btf.resolve_type_by_id(id), Ok(BtfRecord::Struct(_))))
        .ok_or("the kernel has no task_struct")?;
    let questions = vec![
        ask(
            "size",
            task,
            &[],
            CoreKind::TypeSize,
            kernel_size(&btf, "task_struct")?,
        ),
        ask("exists", task, &[], CoreKind::TypeExists, 1),
        ask("id", task, &[], CoreKind::TypeIdTarget, u64::from(task_id)),
        ask("missing", missing, &[], CoreKind::TypeExists, 0),
        ask("size of missing", missing, &[], CoreKind::TypeSize, 0),
        ask("typedef exists", atomic, &[], CoreKind::TypeExists, 1),
        ask("typedef size", const_atomic, &[], CoreKind::TypeSize, 4),
        ask(
            "field of typedef",
            const_atomic,
            &[0],
            CoreKind::FieldByteOffset,
            0,
        ),
        ask("no match", wrong_list, &[], CoreKind::TypeMatches, 0),
        ask("match", right_list, &[], CoreKind::TypeMatches, 1),
    ];
    check(spec, questions)
}

fn core_enumerators() -> Result<(), String> {
    let mut spec = spec();
    let enumerator = |name: &str, value| Enumerator {
        name: name.to_owned(),
        value,
    };
    let kind = spec.types.add(Type::Enum {
        name: "bpf_map_type".to_owned(),
        size: 4,
        signed: false,
        values: vec![
            enumerator("NOT_A_MAP_TYPE", 1),
            enumerator("BPF_MAP_TYPE_UNUSED_HERE", 2),
            enumerator("BPF_MAP_TYPE_RINGBUF", 3),
        ],
    });
    let negative = spec.types.add(Type::Enum {
        name: "pid_type".to_owned(),
        size: 8,
        signed: true,
        values: vec![enumerator("PIDTYPE_TGID", -1)],
    });
    let questions = vec![
        ask("exists", kind, &[2], CoreKind::EnumeratorExists, 1),
        ask("missing", kind, &[0], CoreKind::EnumeratorExists, 0),
        ask("value", kind, &[2], CoreKind::EnumeratorValue, 27),
        ask(
            "value of another width",
            negative,
            &[0],
            CoreKind::EnumeratorValue,
            1,
        ),
    ];
    check(spec, questions)
}

fn core_missing_is_only_fatal_when_reached() -> Result<(), String> {
    let mut spec = spec();
    let int = spec.types.int("int", 4, true);
    let task = composite(
        &mut spec.types,
        "task_struct",
        false,
        8,
        vec![member("not_in_any_kernel", int, 32)],
    );
    let reloc = |kind| {
        Patch::Core(CoreReloc {
            root: task,
            access: vec![0],
            kind,
        })
    };
    spec.data = vec![results(1)];
    spec.patches = vec![
        reloc(CoreKind::FieldExists),
        reloc(CoreKind::FieldByteOffset),
    ];
    let guarded = Assembler::new()
        .push([mov_imm(2, 7)])
        .patch(0, PatchField::Imm32, mov_imm(1, 0))
        .push([jump_eq_imm(1, 0, 1)])
        .patch(1, PatchField::Imm32, mov_imm(2, 0))
        .data(1, 0, 0)
        .push([store64(1, 0, 2)])
        .program("main", "raw_tp");
    spec.functions = vec![guarded];
    let mut object = load(&spec)?;
    object.run("main")?;
    expect("fallback", object.number(".bss", 0), 7)?;

    spec.functions = vec![
        Assembler::new()
            .line(1, "curtask.not_in_any_kernel")
            .patch(1, PatchField::Imm32, mov_imm(2, 0))
            .program("main", "raw_tp"),
    ];
    match load(&spec) {
        Ok(_) => Err("a missing field is not noticed".to_owned()),
        Err(log) if log.contains("; curtask.not_in_any_kernel") => Ok(()),
        Err(log) => Err(format!("the script's line is missing:\n{log}")),
    }
}

fn core_loads_and_wide_values() -> Result<(), String> {
    let mut spec = spec();
    let int = spec.types.int("int", 4, true);
    let task = composite(
        &mut spec.types,
        "task_struct",
        false,
        1 << 20,
        vec![member("tgid", int, 96), member("pid", int, 1 << 22)],
    );
    let value = |row: u32, kind| {
        Patch::Core(CoreReloc {
            root: task,
            access: vec![row],
            kind,
        })
    };
    spec.patches = vec![
        value(0, CoreKind::FieldByteOffset),
        value(1, CoreKind::FieldByteOffset),
        value(1, CoreKind::FieldLeftShift),
        value(1, CoreKind::FieldRightShift),
    ];
    spec.data = vec![results(3)];
    spec.functions = vec![
        Assembler::new()
            .push([helper(GET_CURRENT_TASK_BTF)])
            .patch(0, PatchField::Offset, load32(6, 0, 0))
            .data(1, 0, 0)
            .push([store64(1, 0, 6), helper(GET_CURRENT_TASK), mov(3, 0)])
            .patch(1, PatchField::Imm64, load_address(4, 0, 0))
            .push([
                add(3, 4),
                mov(1, 10),
                add_imm(1, -8),
                mov_imm(2, 4),
                helper(PROBE_READ_KERNEL),
                load32(6, 10, -8),
            ])
            .patch(2, PatchField::Imm32, shl_imm(6, 0))
            .patch(3, PatchField::Imm32, shr_imm(6, 0))
            .data(1, 0, 8)
            .push([store64(1, 0, 6), helper(GET_CURRENT_PID_TGID)])
            .data(1, 0, 16)
            .push([store64(1, 0, 0)])
            .program("main", "raw_tp"),
    ];
    let mut object = load(&spec)?;
    object.run("main")?;
    let pid_tgid = object.number(".bss", 16);
    expect("tgid", object.number(".bss", 0), pid_tgid >> 32)?;
    expect("pid", object.number(".bss", 8), pid_tgid & 0xffff_ffff)?;

    // The local offset of pid does not fit 16 bits: that is said, not cut off.
    spec.functions = vec![
        Assembler::new()
            .push([helper(GET_CURRENT_TASK_BTF)])
            .patch(1, PatchField::Offset, load32(6, 0, 0))
            .program("main", "raw_tp"),
    ];
    match write(&spec) {
        Err(error) if error.contains("use a wide patch") => Ok(()),
        other => Err(format!("an offset of 512 KiB in 16 bits: {other:?}")),
    }
}
