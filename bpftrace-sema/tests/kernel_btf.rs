//! Kernel types from the machine's own BTF, where it has one.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use bpftrace_sema::{KernelFiles, KernelTypes, RawType, TypeSource};
use btf_rs::{Backend, Btf};

#[derive(Default)]
struct Machine {
    bytes: Option<Vec<u8>>,
}

impl KernelFiles for Machine {
    fn has_vmlinux(&self) -> bool {
        fs::exists("/sys/kernel/btf/vmlinux").unwrap_or(false)
    }
    fn vmlinux(&self) -> Option<Btf> {
        let bytes = fs::read("/sys/kernel/btf/vmlinux").ok()?;
        // Each test maps a file of its own.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("vmlinux-{}-{number}.btf", std::process::id());
        let file = std::env::temp_dir().join(name);
        fs::write(&file, bytes).ok()?;
        let btf = Btf::from_file_with_backend(&file, Backend::Mmap).ok();
        let _ = fs::remove_file(&file);
        btf
    }
    fn vmlinux_bytes(&self) -> Option<&[u8]> {
        self.bytes.as_deref()
    }
    fn modules(&self) -> Vec<String> {
        Vec::new()
    }
    fn module(&self, _: &str, _: &Btf) -> Option<Btf> {
        None
    }
    fn tracepoints(&self, _: &str, _: &str) -> Vec<(String, String)> {
        Vec::new()
    }
    fn tracepoint_format(&self, _: &str, _: &str) -> Option<String> {
        None
    }
}

/// The machine's types, or a word about why there is nothing to test.
fn types() -> Option<KernelTypes<Machine>> {
    let types = KernelTypes::new(Machine::default());
    if types.has_kernel_types() {
        return Some(types);
    }
    eprintln!("skipped: this machine has no /sys/kernel/btf/vmlinux");
    None
}

fn member(types: &dyn TypeSource, strukt: &str, name: &str) -> RawType {
    let at = types.find_struct(strukt, false).expect(strukt);
    let RawType::Struct { members, .. } = types.resolve(at) else {
        panic!("{strukt} is no struct");
    };
    let member = members.iter().find(|m| m.name == name).expect(name);
    types.resolve(member.ty)
}

#[test]
fn structs_and_members() {
    let Some(types) = types() else { return };
    assert!(matches!(
        member(&types, "task_struct", "comm"),
        RawType::Array { count: 16, .. }
    ));
    let RawType::Typedef { name, to } = member(&types, "task_struct", "tgid") else {
        panic!("tgid is a typedef");
    };
    assert_eq!(name, "pid_t");
    assert!(matches!(
        types.resolve(to),
        RawType::Typedef { .. }
            | RawType::Int {
                size: 4,
                signed: true,
                ..
            }
    ));
    let RawType::Ptr(parent) = member(&types, "task_struct", "mm") else {
        panic!("mm is a pointer");
    };
    assert!(
        matches!(types.resolve(parent), RawType::Struct { ref name, .. } if name == "mm_struct")
    );
    assert!(types.find_struct("no_such_struct", false).is_none());
}

#[test]
fn bytes_in_memory_give_the_same_types() {
    let Some(types) = types() else { return };
    let indexed = KernelTypes::new(Machine {
        bytes: fs::read("/sys/kernel/btf/vmlinux").ok(),
    });
    for name in [
        "task_struct",
        "mount",
        "file",
        "int",
        "u32",
        "pid_type",
        "vfs_read",
        "in6_addr",
        "no_such_name",
        "TCP_ESTABLISHED",
        "PIDTYPE_PID",
        "t",
        "",
    ] {
        for is_union in [false, true] {
            let found = indexed.find_struct(name, is_union);
            assert_eq!(found, types.find_struct(name, is_union), "{name}");
        }
        assert_eq!(indexed.find_enum(name), types.find_enum(name), "{name}");
        let found = indexed.find_typedef(name);
        assert_eq!(found, types.find_typedef(name), "{name}");
        let found = indexed.find_enumerator(name);
        assert_eq!(found, types.find_enumerator(name), "{name}");
        let functions = |types: &KernelTypes<_>| types.find_functions(None, name).len();
        assert_eq!(functions(&indexed), functions(&types), "{name}");
    }
}

#[test]
fn functions_with_parameters() {
    let Some(types) = types() else { return };
    let found = types.find_functions(None, "vfs_read");
    assert_eq!(found.len(), 1);
    let names: Vec<_> = found[0].params.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(
        (found[0].module.as_str(), names),
        ("vmlinux", vec!["file", "buf", "count", "pos"])
    );
    let all = types.find_functions(None, "vfs_r*");
    assert!(
        all.iter().any(|f| f.name == "vfs_read") && all.iter().all(|f| f.name.starts_with("vfs_r"))
    );
}

#[test]
fn raw_tracepoints_lose_their_first_parameter() {
    let Some(types) = types() else { return };
    let found = types.find_raw_tracepoints(None, "sched_switch");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].params[0].name, "preempt");
}

#[test]
fn enumerators() {
    let Some(types) = types() else { return };
    let (at, value) = types
        .find_enumerator("BPF_MAP_TYPE_ARRAY")
        .expect("an enumerator");
    assert_eq!(value, 2);
    assert!(matches!(types.resolve(at), RawType::Enum { ref name, .. } if name == "bpf_map_type"));
    assert!(types.find_enumerator("NO_SUCH_ENUMERATOR").is_none());
}
