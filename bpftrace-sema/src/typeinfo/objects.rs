//! Types of the BPF objects that a script imports, next to the machine's.

use bpftrace_debuginfo::TypeName;
use bpftrace_meta::UserBuild;
use btf_rs::Btf;

use super::{
    FormatField, FunctionInfo, KernelFiles, KernelTypes, ProgramParam, RawType, TypeRef, TypeSource,
};

/// The object of the first imported BPF object that types are taken from.
pub(crate) const FIRST_IMPORT: u32 = 1 << 30;

/// A [`TypeSource`] that knows the types of imported BPF objects as well. What the kernel has a struct of
/// the same name for is the kernel's struct: objects are compiled against some kernel's, and relocated.
pub(crate) struct WithObjects<'a> {
    base: &'a dyn TypeSource,
    objects: Vec<KernelTypes<ObjectFiles>>,
}

/// The one file of an imported object.
struct ObjectFiles(Vec<u8>);

impl KernelFiles for ObjectFiles {
    fn has_vmlinux(&self) -> bool {
        true
    }

    fn vmlinux(&self) -> Option<Btf> {
        Btf::from_bytes(&self.0).ok()
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

impl<'a> WithObjects<'a> {
    /// `btf`: that of each object.
    pub(crate) fn new<'b>(
        base: &'a dyn TypeSource,
        btf: impl IntoIterator<Item = &'b [u8]>,
    ) -> Self {
        let open = |bytes: &[u8]| KernelTypes::new(ObjectFiles(bytes.to_vec()));
        Self {
            base,
            objects: btf.into_iter().map(open).collect(),
        }
    }

    /// What an object says of a function of its own.
    pub(crate) fn function(&self, object: usize, name: &str) -> Option<FunctionInfo> {
        let found = self.objects.get(object)?.find_functions(None, name);
        let mut function = found.into_iter().next()?;
        for param in &mut function.params {
            param.ty = self.reference(object, param.ty);
        }
        function.ret = self.reference(object, function.ret);
        Some(function)
    }

    /// A reference from within an object.
    fn reference(&self, object: usize, ty: TypeRef) -> TypeRef {
        if ty.id == 0 {
            return ty;
        }
        if let RawType::Struct { name, is_union, .. } | RawType::Fwd { name, is_union } =
            self.objects[object].resolve(ty)
            && !name.is_empty()
            && let Some(known) = self.base.find_struct(&name, is_union)
        {
            return known;
        }
        import_ref(object, ty)
    }

    fn find(&self, find: impl Fn(&KernelTypes<ObjectFiles>) -> Option<TypeRef>) -> Option<TypeRef> {
        let mut objects = self.objects.iter().enumerate();
        objects.find_map(|(at, types)| Some(import_ref(at, find(types)?)))
    }
}

fn import_ref(object: usize, ty: TypeRef) -> TypeRef {
    TypeRef {
        object: FIRST_IMPORT + object as u32,
        id: ty.id,
    }
}

impl TypeSource for WithObjects<'_> {
    fn has_kernel_types(&self) -> bool {
        self.base.has_kernel_types()
    }

    fn find_struct(&self, name: &str, is_union: bool) -> Option<TypeRef> {
        let found = self.base.find_struct(name, is_union);
        found.or_else(|| self.find(|types| types.find_struct(name, is_union)))
    }

    fn find_enum(&self, name: &str) -> Option<TypeRef> {
        let found = self.base.find_enum(name);
        found.or_else(|| self.find(|types| types.find_enum(name)))
    }

    fn find_typedef(&self, name: &str) -> Option<TypeRef> {
        let found = self.base.find_typedef(name);
        found.or_else(|| self.find(|types| types.find_typedef(name)))
    }

    fn find_enumerator(&self, name: &str) -> Option<(TypeRef, i64)> {
        self.base.find_enumerator(name).or_else(|| {
            let mut objects = self.objects.iter().enumerate();
            objects.find_map(|(at, types)| {
                let (ty, value) = types.find_enumerator(name)?;
                Some((import_ref(at, ty), value))
            })
        })
    }

    fn resolve(&self, ty: TypeRef) -> RawType {
        if !ty.is_of_import() {
            return self.base.resolve(ty);
        }
        let object = (ty.object - FIRST_IMPORT) as usize;
        let Some(types) = self.objects.get(object) else {
            return RawType::Void;
        };
        let mut raw = types.resolve(TypeRef {
            object: 0,
            id: ty.id,
        });
        let own = |to: &mut TypeRef| *to = self.reference(object, *to);
        match &mut raw {
            RawType::Ptr(to)
            | RawType::Array { element: to, .. }
            | RawType::Typedef { to, .. }
            | RawType::Tagged { to, .. } => own(to),
            RawType::Struct { members, .. } => {
                members.iter_mut().for_each(|member| own(&mut member.ty));
            }
            RawType::Func { params, ret } => {
                params.iter_mut().for_each(|param| own(&mut param.ty));
                own(ret);
            }
            RawType::Void
            | RawType::Int { .. }
            | RawType::Float(_)
            | RawType::Fwd { .. }
            | RawType::Enum { .. } => {}
        }
        raw
    }

    fn find_functions(&self, module: Option<&str>, name: &str) -> Vec<FunctionInfo> {
        self.base.find_functions(module, name)
    }

    fn find_raw_tracepoints(&self, module: Option<&str>, name: &str) -> Vec<FunctionInfo> {
        self.base.find_raw_tracepoints(module, name)
    }

    fn find_tracepoints(&self, category: &str, event: &str) -> Vec<(String, String)> {
        self.base.find_tracepoints(category, event)
    }

    fn tracepoint_format(&self, category: &str, event: &str) -> Option<Vec<FormatField>> {
        self.base.tracepoint_format(category, event)
    }

    fn find_type_names(&self, keyword: &str, pattern: &str) -> Vec<String> {
        self.base.find_type_names(keyword, pattern)
    }

    fn program(&self, path: &str) -> Option<u32> {
        self.base.program(path)
    }

    fn find_programs(&self, path: &str, function: &str, language: Option<&str>) -> Vec<String> {
        self.base.find_programs(path, function, language)
    }

    fn symbol_size(&self, path: &str, name: &str) -> Option<u64> {
        self.base.symbol_size(path, name)
    }

    fn program_build(&self, program: u32) -> Option<UserBuild> {
        self.base.program_build(program)
    }

    fn program_type(&self, program: u32, kind: TypeName, name: &str) -> Option<TypeRef> {
        self.base.program_type(program, kind, name)
    }

    fn program_params(&self, program: u32, function: &str) -> Option<Vec<ProgramParam>> {
        self.base.program_params(program, function)
    }

    fn program_functions(&self, program: u32, pattern: &str, demangled: bool) -> Vec<String> {
        self.base.program_functions(program, pattern, demangled)
    }
}
