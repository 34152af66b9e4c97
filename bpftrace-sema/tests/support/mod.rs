//! Types that tests know by heart: a small kernel.

use bpftrace_sema::{FormatField, FunctionInfo, RawMember, RawParam, RawType, TypeRef, TypeSource};

/// A few kernel types, functions and tracepoints.
pub(crate) struct Fixture {
    types: Vec<(Option<&'static str>, RawType)>,
}

fn id(id: u32) -> TypeRef {
    TypeRef { object: 0, id }
}

fn int(name: &str, size: u8, signed: bool) -> RawType {
    RawType::Int {
        name: name.to_owned(),
        size,
        signed,
        is_bool: name == "_Bool",
    }
}

fn member(name: &str, ty: TypeRef, byte_offset: u64) -> RawMember {
    RawMember {
        name: name.to_owned(),
        ty,
        bit_offset: byte_offset * 8,
        bits: None,
    }
}

fn bits(name: &str, ty: TypeRef, bit_offset: u64, bits: u8) -> RawMember {
    RawMember {
        name: name.to_owned(),
        ty,
        bit_offset,
        bits: Some(bits),
    }
}

fn structure(name: &str, size: u64, members: Vec<RawMember>) -> RawType {
    RawType::Struct {
        name: name.to_owned(),
        is_union: false,
        size,
        members,
    }
}

impl Fixture {
    /// The fixture.
    pub(crate) fn new() -> Self {
        let mut types: Vec<(Option<&'static str>, RawType)> = vec![(None, RawType::Void)];
        let mut add = |name: Option<&'static str>, ty: RawType| {
            types.push((name, ty));
            id(u32::try_from(types.len() - 1).expect("few types"))
        };
        let char_t = add(Some("char"), int("char", 1, true));
        let int_t = add(Some("int"), int("int", 4, true));
        let uint = add(Some("unsigned int"), int("unsigned int", 4, false));
        let long = add(Some("long int"), int("long int", 8, true));
        let ulong = add(
            Some("long unsigned int"),
            int("long unsigned int", 8, false),
        );
        let boolean = add(Some("_Bool"), int("_Bool", 1, false));
        add(Some("unsigned char"), int("unsigned char", 1, false));
        add(
            Some("size_t"),
            RawType::Typedef {
                name: "size_t".to_owned(),
                to: ulong,
            },
        );
        let pid_t = add(
            Some("pid_t"),
            RawType::Typedef {
                name: "pid_t".to_owned(),
                to: int_t,
            },
        );
        let comm = add(
            None,
            RawType::Array {
                element: char_t,
                count: 16,
            },
        );
        let char_ptr = add(None, RawType::Ptr(char_t));
        let tagged = add(
            None,
            RawType::Tagged {
                tag: "user".to_owned(),
                to: char_t,
            },
        );
        let user_ptr = add(None, RawType::Ptr(tagged));
        let percpu = add(
            None,
            RawType::Tagged {
                tag: "percpu".to_owned(),
                to: int_t,
            },
        );
        let percpu_ptr = add(None, RawType::Ptr(percpu));
        let state = add(
            Some("enum task_state"),
            RawType::Enum {
                name: "task_state".to_owned(),
                size: 4,
                signed: false,
                values: vec![(0, "RUNNING".to_owned()), (1, "SLEEPING".to_owned())],
            },
        );
        let numbers = add(
            None,
            RawType::Array {
                element: int_t,
                count: 4,
            },
        );
        // struct task_struct comes after what it holds; its own pointer type is behind it.
        let task = id(19);
        let task_ptr = id(20);
        let anonymous = add(
            None,
            RawType::Struct {
                name: String::new(),
                is_union: true,
                size: 8,
                members: vec![member("ticks", ulong, 0), member("seconds", uint, 0)],
            },
        );
        let added = add(
            Some("struct task_struct"),
            structure(
                "task_struct",
                128,
                vec![
                    member("pid", pid_t, 0),
                    member("tgid", pid_t, 4),
                    member("comm", comm, 8),
                    member("real_parent", task_ptr, 24),
                    member("group_leader", task_ptr, 32),
                    member("", anonymous, 40),
                    bits("on_rq", uint, 48 * 8, 3),
                    bits("migrating", int_t, 48 * 8 + 3, 5),
                    member("numbers", numbers, 52),
                    member("state", state, 68),
                    member("path", char_ptr, 72),
                    member("user_path", user_ptr, 80),
                    member("counters", percpu_ptr, 88),
                    member("dead", boolean, 96),
                ],
            ),
        );
        assert_eq!(added, task);
        assert_eq!(add(None, RawType::Ptr(task)), task_ptr);
        let regs = [
            "r15", "r14", "r13", "r12", "bp", "bx", "r11", "r10", "r9", "r8", "ax", "cx", "dx",
            "si", "di", "orig_ax", "ip", "cs", "flags", "sp", "ss",
        ]
        .iter()
        .enumerate()
        .map(|(i, name)| member(name, ulong, 8 * i as u64))
        .collect();
        add(Some("struct pt_regs"), structure("pt_regs", 168, regs));
        let _ = long;
        Self { types }
    }

    fn find(&self, name: &str) -> Option<TypeRef> {
        self.types
            .iter()
            .position(|(known, _)| *known == Some(name))
            .map(|at| id(u32::try_from(at).expect("few types")))
    }

    fn functions(&self) -> Vec<FunctionInfo> {
        let param = |name: &str, ty: TypeRef| RawParam {
            name: name.to_owned(),
            ty,
        };
        let int = self.find("int").expect("int");
        let task_ptr = id(20);
        let function = |name: &str, params: Vec<RawParam>, ret: TypeRef| FunctionInfo {
            module: "vmlinux".to_owned(),
            name: name.to_owned(),
            params,
            ret,
        };
        vec![
            function(
                "task_kill",
                vec![param("task", task_ptr), param("sig", int)],
                int,
            ),
            function(
                "task_wake",
                vec![param("task", task_ptr), param("flags", int)],
                id(0),
            ),
            function("tick", vec![], id(0)),
        ]
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, rest)) => text.strip_prefix(head).is_some_and(|tail| {
            (0..=tail.len()).any(|skip| tail.is_char_boundary(skip) && matches(rest, &tail[skip..]))
        }),
    }
}

impl TypeSource for Fixture {
    fn has_kernel_types(&self) -> bool {
        true
    }

    fn find_struct(&self, name: &str, is_union: bool) -> Option<TypeRef> {
        self.find(&format!(
            "{} {name}",
            if is_union { "union" } else { "struct" }
        ))
    }

    fn find_enum(&self, name: &str) -> Option<TypeRef> {
        self.find(&format!("enum {name}"))
    }

    fn find_typedef(&self, name: &str) -> Option<TypeRef> {
        self.find(name)
    }

    fn find_enumerator(&self, name: &str) -> Option<(TypeRef, i64)> {
        self.types
            .iter()
            .enumerate()
            .find_map(|(i, (_, ty))| match ty {
                RawType::Enum { values, .. } => values
                    .iter()
                    .find(|(_, known)| known == name)
                    .map(|(value, _)| (id(u32::try_from(i).expect("few types")), *value)),
                _ => None,
            })
    }

    fn resolve(&self, ty: TypeRef) -> RawType {
        self.types
            .get(ty.id as usize)
            .map_or(RawType::Void, |(_, ty)| ty.clone())
    }

    fn find_functions(&self, module: Option<&str>, name: &str) -> Vec<FunctionInfo> {
        self.functions()
            .into_iter()
            .filter(|f| module.is_none_or(|m| matches(m, &f.module)) && matches(name, &f.name))
            .collect()
    }

    fn find_raw_tracepoints(&self, module: Option<&str>, name: &str) -> Vec<FunctionInfo> {
        let task_ptr = id(20);
        let all = [FunctionInfo {
            module: "vmlinux".to_owned(),
            name: "task_exit".to_owned(),
            params: vec![RawParam {
                name: "task".to_owned(),
                ty: task_ptr,
            }],
            ret: id(0),
        }];
        all.into_iter()
            .filter(|f| module.is_none_or(|m| matches(m, &f.module)) && matches(name, &f.name))
            .collect()
    }

    fn find_tracepoints(&self, category: &str, event: &str) -> Vec<(String, String)> {
        [
            ("sched", "sched_one"),
            ("sched", "sched_two"),
            ("syscalls", "sys_enter_openat"),
        ]
        .into_iter()
        .filter(|(c, e)| matches(category, c) && matches(event, e))
        .map(|(c, e)| (c.to_owned(), e.to_owned()))
        .collect()
    }

    fn tracepoint_format(&self, category: &str, event: &str) -> Option<Vec<FormatField>> {
        let field = |name: &str, c_type: &str, offset, size, signed| FormatField {
            name: name.to_owned(),
            c_type: c_type.to_owned(),
            offset,
            size,
            signed,
            array: None,
            data_loc: false,
        };
        Some(match (category, event) {
            ("sched", "sched_one") => vec![
                FormatField {
                    array: Some(16),
                    ..field("comm", "char", 8, 16, true)
                },
                field("pid", "pid_t", 24, 4, true),
                field("state", "enum task_state", 28, 4, false),
                FormatField {
                    data_loc: true,
                    ..field("name", "char[]", 32, 4, true)
                },
            ],
            ("sched", "sched_two") => vec![field("pid", "u64", 8, 8, false)],
            ("syscalls", "sys_enter_openat") => vec![
                field("__syscall_nr", "int", 8, 4, true),
                field("dfd", "int", 16, 8, false),
                field("filename", "const char *", 24, 8, false),
            ],
            _ => return None,
        })
    }

    fn find_type_names(&self, keyword: &str, pattern: &str) -> Vec<String> {
        let mut names: Vec<String> = self
            .types
            .iter()
            .filter_map(|(name, _)| name.and_then(|name| name.strip_prefix(keyword)))
            .map(|name| name.trim_start().to_owned())
            .filter(|name| matches(pattern, name))
            .collect();
        names.sort();
        names
    }
}
