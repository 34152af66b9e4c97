//! Kernel types from BTF.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;

use bpftrace_debuginfo::{DebugInfo, TypeName};
use bpftrace_meta::{UserBuild, wildcard_match as matches};
use btf_rs::{Btf, BtfType, Type};

use super::btf_names::NameIndex;
use super::program::Programs;
use super::{
    FormatField, FunctionInfo, ProgramParam, RawMember, RawParam, RawType, TypeRef, TypeSource,
    parse_format,
};

/// The files that [`KernelTypes`] reads, each when it is first needed. Whoever implements it decides
/// where they are; answers must not depend on anything but type information.
pub trait KernelFiles {
    /// Whether [`KernelFiles::vmlinux`] would find something.
    fn has_vmlinux(&self) -> bool;
    /// BTF of the kernel. Opened with [`btf_rs::Backend::Mmap`] it costs a millisecond.
    fn vmlinux(&self) -> Option<Btf>;
    /// The bytes of it, if they are in memory: names are found in them faster.
    fn vmlinux_bytes(&self) -> Option<&[u8]> {
        None
    }
    /// Names of the modules that have BTF, sorted.
    fn modules(&self) -> Vec<String>;
    /// BTF of a module, split from the kernel's.
    fn module(&self, name: &str, base: &Btf) -> Option<Btf>;
    /// Category and event of the tracepoints that match these patterns ([`wildcard_match`]), sorted.
    ///
    /// [`wildcard_match`]: bpftrace_meta::wildcard_match
    fn tracepoints(&self, category: &str, event: &str) -> Vec<(String, String)>;
    /// Text of a tracepoint's `format` file.
    fn tracepoint_format(&self, category: &str, event: &str) -> Option<String>;
    /// Debug information of the executable or library that a path in an attach point stands for.
    fn program(&self, _path: &str) -> Option<DebugInfo> {
        None
    }
    /// The executables and libraries that a pattern in an attach point stands for and that have a function
    /// that matches, sorted; `language` says how its names are written.
    fn programs_with(&self, _path: &str, _function: &str, _language: Option<&str>) -> Vec<String> {
        Vec::new()
    }
    /// How many bytes a function or variable has in the executable or library that a path in an attach point
    /// stands for.
    fn symbol_size(&self, _path: &str, _name: &str) -> Option<u64> {
        None
    }
}

/// A [`TypeSource`] made of the kernel's and its modules' BTF and of tracepoint `format` files.
pub struct KernelTypes<F> {
    files: F,
    vmlinux: OnceCell<Option<Btf>>,
    /// Where the kernel's types have their names.
    names: OnceCell<Option<NameIndex>>,
    modules: OnceCell<Vec<Module>>,
    programs: Programs,
    /// Which types of an object are enums, as far as somebody had to know.
    enums: RefCell<HashMap<u32, Enums>>,
}

/// BTF finds types by name, not enumerators: for one of those all types have to be looked at, but only
/// once, and no further than to where it is.
#[derive(Default)]
struct Enums {
    ids: Vec<u32>,
    /// The first type that was not looked at.
    next: Option<u32>,
}

struct Module {
    name: String,
    btf: OnceCell<Option<Btf>>,
}

/// What a name is looked up as.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Struct,
    Union,
    Enum,
    Typedef,
    Function,
}

impl Kind {
    fn fits(self, ty: &Type) -> bool {
        match self {
            Self::Struct => matches!(ty, Type::Struct(_)),
            Self::Union => matches!(ty, Type::Union(_)),
            Self::Enum => matches!(ty, Type::Enum(_) | Type::Enum64(_)),
            Self::Typedef => matches!(ty, Type::Typedef(_) | Type::Int(_)),
            Self::Function => matches!(ty, Type::Func(_)),
        }
    }
}

impl<F: KernelFiles> KernelTypes<F> {
    /// Types from files that are opened when they are needed.
    pub fn new(files: F) -> Self {
        Self {
            files,
            vmlinux: OnceCell::new(),
            names: OnceCell::new(),
            modules: OnceCell::new(),
            programs: Programs::default(),
            enums: RefCell::default(),
        }
    }

    /// The files it was made of.
    pub fn files(&self) -> &F {
        &self.files
    }

    fn vmlinux(&self) -> Option<&Btf> {
        self.vmlinux.get_or_init(|| self.files.vmlinux()).as_ref()
    }

    fn modules(&self) -> &[Module] {
        self.modules.get_or_init(|| {
            let module = |name| Module {
                name,
                btf: OnceCell::new(),
            };
            self.files.modules().into_iter().map(module).collect()
        })
    }

    fn module(&self, idx: usize) -> Option<&Btf> {
        let base = self.vmlinux()?;
        let module = self.modules().get(idx)?;
        module
            .btf
            .get_or_init(|| self.files.module(&module.name, base))
            .as_ref()
    }

    /// The object of a number, 0 for vmlinux.
    fn object(&self, object: u32) -> Option<&Btf> {
        match object.checked_sub(1) {
            None => self.vmlinux(),
            Some(idx) => self.module(idx as usize),
        }
    }

    /// A reference from within an object; what the kernel itself defines is the kernel's.
    fn reference(&self, object: u32, id: u32) -> TypeRef {
        let in_base = self
            .vmlinux()
            .is_some_and(|btf| id <= btf.base().type_id_range().1);
        TypeRef {
            object: if in_base { 0 } else { object },
            id,
        }
    }

    fn find_in(&self, object: u32, name: &str, kind: Kind) -> Option<TypeRef> {
        let btf = self.object(object)?;
        self.ids_of(object, btf, name)
            .into_iter()
            .filter(|id| self.reference(object, *id).object == object)
            .find(|id| btf.resolve_type_by_id(*id).is_ok_and(|ty| kind.fits(&ty)))
            .map(|id| TypeRef { object, id })
    }

    /// Where the kernel's types have their names, if its BTF is in memory.
    fn index(&self, object: u32) -> Option<(&NameIndex, &[u8])> {
        let bytes = self.files.vmlinux_bytes().filter(|_| object == 0)?;
        let names = self.names.get_or_init(|| NameIndex::new(bytes));
        Some((names.as_ref()?, bytes))
    }

    /// Numbers of an object's types of a name; of a module there may be some of the kernel's among them.
    fn ids_of(&self, object: u32, btf: &Btf, name: &str) -> Vec<u32> {
        if let Some((names, bytes)) = self.index(object) {
            return names.find(bytes, name);
        }
        let section = btf.split().unwrap_or(btf.base());
        section.resolve_ids_by_name(name).unwrap_or_default()
    }

    /// Looks in vmlinux, then in the modules.
    fn find(&self, name: &str, kind: Kind) -> Option<TypeRef> {
        if name.is_empty() {
            return None;
        }
        self.find_in(0, name, kind).or_else(|| {
            (1..=self.modules().len() as u32).find_map(|object| self.find_in(object, name, kind))
        })
    }

    /// Numbers of the first and the last type of an object's own.
    fn own_range(btf: &Btf, object: u32) -> (u32, u32) {
        let section = match btf.split() {
            Some(split) if object != 0 => split,
            _ => btf.base(),
        };
        section.type_id_range()
    }

    /// All types of an object's own with their numbers.
    fn own_types(&self, object: u32) -> impl Iterator<Item = (u32, Type)> {
        self.object(object).into_iter().flat_map(move |btf| {
            let (first, last) = Self::own_range(btf, object);
            (first..=last).filter_map(|id| Some((id, btf.resolve_type_by_id(id).ok()?)))
        })
    }

    /// The value of an enumerator of a type, if it has one of that name.
    fn enumerator_of(btf: &Btf, ty: &Type, name: &str) -> Option<i64> {
        let mut all = Self::enumerators(btf, ty).into_iter();
        all.find_map(|(value, found)| (found == name).then_some(value))
    }

    fn find_enumerator_in(&self, object: u32, name: &str) -> Option<(TypeRef, i64)> {
        let btf = self.object(object)?;
        if let Some((names, bytes)) = self.index(object) {
            let id = names.find_enum_with(bytes, name)?;
            let value = Self::enumerator_of(btf, &btf.resolve_type_by_id(id).ok()?, name)?;
            return Some((TypeRef { object, id }, value));
        }
        let mut enums = self.enums.borrow_mut();
        let enums = enums.entry(object).or_default();
        let known = enums.ids.iter().find_map(|&id| {
            let ty = btf.resolve_type_by_id(id).ok()?;
            Some((id, Self::enumerator_of(btf, &ty, name)?))
        });
        if let Some((id, value)) = known {
            return Some((TypeRef { object, id }, value));
        }
        let (first, last) = Self::own_range(btf, object);
        for id in enums.next.unwrap_or(first)..=last {
            enums.next = Some(id + 1);
            let Ok(ty) = btf.resolve_type_by_id(id) else {
                continue;
            };
            if !Kind::Enum.fits(&ty) {
                continue;
            }
            enums.ids.push(id);
            if let Some(value) = Self::enumerator_of(btf, &ty, name) {
                return Some((TypeRef { object, id }, value));
            }
        }
        None
    }

    fn name(btf: &Btf, ty: &dyn BtfType) -> String {
        btf.resolve_name(ty).unwrap_or_default()
    }

    /// Parameters and return type of a function type.
    fn proto(&self, object: u32, id: u32) -> Option<(Vec<RawParam>, TypeRef)> {
        let btf = self.object(object)?;
        let Type::FuncProto(proto) = btf.resolve_type_by_id(id).ok()? else {
            return None;
        };
        let params = proto
            .parameters
            .iter()
            .filter(|p| !p.is_variadic())
            .map(|p| RawParam {
                name: Self::name(btf, p),
                ty: self.reference(object, p.get_type_id().unwrap_or(0)),
            })
            .collect();
        Some((params, self.reference(object, proto.return_type_id())))
    }

    fn function(&self, object: u32, id: u32) -> Option<FunctionInfo> {
        let btf = self.object(object)?;
        let Type::Func(func) = btf.resolve_type_by_id(id).ok()? else {
            return None;
        };
        let (params, ret) = self.proto(object, func.get_type_id()?)?;
        Some(FunctionInfo {
            module: self.object_name(object),
            name: Self::name(btf, &func),
            params,
            ret,
        })
    }

    fn object_name(&self, object: u32) -> String {
        match object.checked_sub(1) {
            None => "vmlinux".to_owned(),
            Some(idx) => self.modules()[idx as usize].name.clone(),
        }
    }

    /// Objects whose name matches; all of them without a pattern.
    fn objects_matching(&self, module: Option<&str>) -> Vec<u32> {
        let Some(pattern) = module else {
            return (0..=self.modules().len() as u32).collect();
        };
        let mut objects = Vec::new();
        if matches(pattern, "vmlinux") {
            objects.push(0);
        }
        if pattern != "vmlinux" {
            let fits = |(i, m): (usize, &Module)| matches(pattern, &m.name).then_some(i as u32 + 1);
            objects.extend(self.modules().iter().enumerate().filter_map(fits));
        }
        objects
    }

    /// Functions of an object whose name matches.
    fn functions_in(&self, object: u32, name: &str) -> Vec<FunctionInfo> {
        if !name.contains('*') {
            return self
                .find_in(object, name, Kind::Function)
                .and_then(|at| self.function(object, at.id))
                .into_iter()
                .collect();
        }
        let Some(btf) = self.object(object) else {
            return Vec::new();
        };
        self.own_types(object)
            .filter_map(|(id, ty)| match ty {
                Type::Func(func) if matches(name, &Self::name(btf, &func)) => {
                    self.function(object, id)
                }
                _ => None,
            })
            .collect()
    }

    fn raw_struct(
        btf: &Btf,
        ty: &btf_rs::Struct,
        is_union: bool,
        this: &Self,
        object: u32,
    ) -> RawType {
        let members = ty
            .members
            .iter()
            .map(|m| RawMember {
                name: Self::name(btf, m),
                ty: this.reference(object, m.get_type_id().unwrap_or(0)),
                bit_offset: u64::from(m.bit_offset()),
                bits: m
                    .bitfield_size()
                    .filter(|bits| *bits != 0)
                    .map(|bits| bits as u8),
            })
            .collect();
        RawType::Struct {
            name: Self::name(btf, ty),
            is_union,
            size: ty.size() as u64,
            members,
        }
    }

    /// The enumerators of an enum: value and name.
    fn enumerators(btf: &Btf, ty: &Type) -> Vec<(i64, String)> {
        match ty {
            Type::Enum(e) => {
                let value = |v: u32| {
                    if e.is_signed() {
                        i64::from(v.cast_signed())
                    } else {
                        i64::from(v)
                    }
                };
                let pair = |m: &btf_rs::EnumMember| (value(m.val()), Self::name(btf, m));
                e.members.iter().map(pair).collect()
            }
            Type::Enum64(e) => {
                let pair = |m: &btf_rs::Enum64Member| (m.val().cast_signed(), Self::name(btf, m));
                e.members.iter().map(pair).collect()
            }
            _ => Vec::new(),
        }
    }
}

impl<F: KernelFiles> TypeSource for KernelTypes<F> {
    fn has_kernel_types(&self) -> bool {
        self.files.has_vmlinux()
    }

    fn find_struct(&self, name: &str, is_union: bool) -> Option<TypeRef> {
        self.find(name, if is_union { Kind::Union } else { Kind::Struct })
    }

    fn find_enum(&self, name: &str) -> Option<TypeRef> {
        self.find(name, Kind::Enum)
    }

    fn find_typedef(&self, name: &str) -> Option<TypeRef> {
        self.find(name, Kind::Typedef)
    }

    fn find_enumerator(&self, name: &str) -> Option<(TypeRef, i64)> {
        (0..=self.modules().len() as u32).find_map(|object| self.find_enumerator_in(object, name))
    }

    fn resolve(&self, at: TypeRef) -> RawType {
        if at.is_of_program() {
            return self.programs.resolve(at);
        }
        let Some(btf) = self.object(at.object) else {
            return RawType::Void;
        };
        let Ok(ty) = btf.resolve_type_by_id(at.id) else {
            return RawType::Void;
        };
        let target = |ty: &dyn BtfType| self.reference(at.object, ty.get_type_id().unwrap_or(0));
        match &ty {
            Type::Int(int) => RawType::Int {
                name: Self::name(btf, int),
                size: int.size() as u8,
                signed: int.is_signed(),
                is_bool: int.is_bool(),
            },
            Type::Float(float) => RawType::Float(float.size() as u8),
            Type::Ptr(ptr) => RawType::Ptr(target(ptr)),
            Type::Array(array) => RawType::Array {
                element: target(array),
                count: array.len() as u32,
            },
            Type::Struct(s) => Self::raw_struct(btf, s, false, self, at.object),
            Type::Union(s) => Self::raw_struct(btf, s, true, self, at.object),
            Type::Fwd(fwd) => RawType::Fwd {
                name: Self::name(btf, fwd),
                is_union: fwd.is_union(),
            },
            Type::Enum(e) => RawType::Enum {
                name: Self::name(btf, e),
                size: e.size() as u8,
                signed: e.is_signed(),
                values: Self::enumerators(btf, &ty),
            },
            Type::Enum64(e) => RawType::Enum {
                name: Self::name(btf, e),
                size: e.size() as u8,
                signed: e.is_signed(),
                values: Self::enumerators(btf, &ty),
            },
            Type::Typedef(typedef) => RawType::Typedef {
                name: Self::name(btf, typedef),
                to: target(typedef),
            },
            Type::TypeTag(tag) => RawType::Tagged {
                tag: Self::name(btf, tag),
                to: target(tag),
            },
            Type::Volatile(q) | Type::Const(q) | Type::Restrict(q) => self.resolve(target(q)),
            Type::FuncProto(_) => match self.proto(at.object, at.id) {
                Some((params, ret)) => RawType::Func { params, ret },
                None => RawType::Void,
            },
            _ => RawType::Void,
        }
    }

    fn find_functions(&self, module: Option<&str>, name: &str) -> Vec<FunctionInfo> {
        let mut found = Vec::new();
        for object in self.objects_matching(module) {
            found.extend(self.functions_in(object, name));
            // An exact name without a module is the kernel's own first.
            if module.is_none() && !name.contains('*') && !found.is_empty() {
                break;
            }
        }
        found.sort_by(|a, b| (&a.module, &a.name).cmp(&(&b.module, &b.name)));
        found.dedup_by(|a, b| a.module == b.module && a.name == b.name);
        found
    }

    fn find_raw_tracepoints(&self, module: Option<&str>, name: &str) -> Vec<FunctionInfo> {
        // `__traceiter_NAME` is the function that calls the handlers of one tracepoint
        // (include/linux/tracepoint.h); its first parameter is the handler's own data.
        const PREFIX: &str = "__traceiter_";
        let mut found = self.find_functions(module, &format!("{PREFIX}{name}"));
        for function in &mut found {
            function.name.drain(..PREFIX.len());
            if !function.params.is_empty() {
                function.params.remove(0);
            }
        }
        found
    }

    fn find_tracepoints(&self, category: &str, event: &str) -> Vec<(String, String)> {
        if !category.contains('*') && !event.contains('*') {
            let exists = self.files.tracepoint_format(category, event).is_some();
            let pair = || (category.to_owned(), event.to_owned());
            return exists.then(pair).into_iter().collect();
        }
        self.files.tracepoints(category, event)
    }

    fn tracepoint_format(&self, category: &str, event: &str) -> Option<Vec<FormatField>> {
        Some(parse_format(
            &self.files.tracepoint_format(category, event)?,
        ))
    }

    fn find_type_names(&self, keyword: &str, pattern: &str) -> Vec<String> {
        let kind = match keyword {
            "struct" => Kind::Struct,
            "union" => Kind::Union,
            "enum" => Kind::Enum,
            _ => return Vec::new(),
        };
        let mut names = Vec::new();
        for object in 0..=self.modules().len() as u32 {
            let Some(btf) = self.object(object) else {
                continue;
            };
            for (_, ty) in self.own_types(object) {
                if kind.fits(&ty)
                    && let Some(named) = ty.as_btf_type()
                {
                    let name = Self::name(btf, named);
                    if !name.is_empty() && matches(pattern, &name) {
                        names.push(name);
                    }
                }
            }
        }
        names.sort_unstable();
        names.dedup();
        names
    }

    fn program(&self, path: &str) -> Option<u32> {
        self.programs.find(path, || self.files.program(path))
    }

    fn find_programs(&self, path: &str, function: &str, language: Option<&str>) -> Vec<String> {
        self.files.programs_with(path, function, language)
    }

    fn symbol_size(&self, path: &str, name: &str) -> Option<u64> {
        self.files.symbol_size(path, name)
    }

    fn program_build(&self, program: u32) -> Option<UserBuild> {
        Some(self.programs.get(program)?.build().clone())
    }

    fn program_type(&self, program: u32, kind: TypeName, name: &str) -> Option<TypeRef> {
        self.programs.find_type(program, kind, name)
    }

    fn program_params(&self, program: u32, function: &str) -> Option<Vec<ProgramParam>> {
        self.programs.params(program, function)
    }

    fn program_functions(&self, program: u32, pattern: &str, demangled: bool) -> Vec<String> {
        let program = self.programs.get(program);
        program.map_or_else(Vec::new, |p| p.functions_matching(pattern, demangled))
    }
}
