//! Where type information comes from: bytes that somebody else has read.

use bpftrace_debuginfo::TypeName;
use bpftrace_meta::UserBuild;

mod btf;
mod btf_names;
mod objects;
mod program;
mod tracefs_format;

pub use btf::{KernelFiles, KernelTypes};
pub(crate) use objects::WithObjects;
pub use program::FIRST_PROGRAM;
pub use tracefs_format::parse_format;

/// A type in a [`TypeSource`]: which object (0 is vmlinux), and its number there. 0 is `void`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeRef {
    /// Object: 0 for vmlinux, then modules in an order of the source's own; from [`FIRST_PROGRAM`] on:
    /// executables and libraries.
    pub object: u32,
    /// Number of the type in the object; 0: `void`.
    pub id: u32,
}

impl TypeRef {
    /// Whether it is a type of a user program.
    #[must_use]
    pub fn is_of_program(self) -> bool {
        self.object >= FIRST_PROGRAM
    }

    /// Whether it is a type of a BPF object that the script imports.
    pub(crate) fn is_of_import(self) -> bool {
        (objects::FIRST_IMPORT..FIRST_PROGRAM).contains(&self.object)
    }
}

/// A type as its source describes it. Qualifiers are gone, typedefs and tags are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RawType {
    /// `void`.
    Void,
    /// An integer.
    Int {
        /// C name.
        name: String,
        /// Bytes.
        size: u8,
        /// Two's complement.
        signed: bool,
        /// `_Bool`.
        is_bool: bool,
    },
    /// A floating-point number of so many bytes.
    Float(u8),
    /// A pointer.
    Ptr(TypeRef),
    /// An array.
    Array {
        /// Element.
        element: TypeRef,
        /// Number of elements; 0 for a flexible array member.
        count: u32,
    },
    /// A struct or union.
    Struct {
        /// Name; empty when anonymous.
        name: String,
        /// Whether it is a union.
        is_union: bool,
        /// Bytes.
        size: u64,
        /// Members in order.
        members: Vec<RawMember>,
    },
    /// A struct or union that is declared only.
    Fwd {
        /// Name.
        name: String,
        /// Whether it is a union.
        is_union: bool,
    },
    /// An enum.
    Enum {
        /// Name; empty when anonymous.
        name: String,
        /// Bytes.
        size: u8,
        /// Two's complement.
        signed: bool,
        /// Enumerators: value and name.
        values: Vec<(i64, String)>,
    },
    /// A typedef.
    Typedef {
        /// Its name.
        name: String,
        /// What it names.
        to: TypeRef,
    },
    /// A type that carries a BTF type tag, as `user`, `rcu`, `percpu`.
    Tagged {
        /// The tag.
        tag: String,
        /// The type.
        to: TypeRef,
    },
    /// A function type.
    Func {
        /// Parameters in order.
        params: Vec<RawParam>,
        /// Return type.
        ret: TypeRef,
    },
}

/// A member of a [`RawType::Struct`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawMember {
    /// Name; empty when anonymous.
    pub name: String,
    /// Type.
    pub ty: TypeRef,
    /// Offset in bits.
    pub bit_offset: u64,
    /// Width in bits of a bit-field.
    pub bits: Option<u8>,
}

/// A parameter of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawParam {
    /// Name; empty when it has none.
    pub name: String,
    /// Type.
    pub ty: TypeRef,
}

/// A parameter of a function of a user program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramParam {
    /// Name; empty when it has none.
    pub name: String,
    /// Type.
    pub ty: TypeRef,
    /// Whether its address is passed in its place.
    pub by_reference: bool,
}

/// A kernel function that fentry and fexit can be attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionInfo {
    /// `vmlinux` or the module's name.
    pub module: String,
    /// Name.
    pub name: String,
    /// Parameters in order.
    pub params: Vec<RawParam>,
    /// Return type.
    pub ret: TypeRef,
}

/// A field of a tracepoint's `format` file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatField {
    /// Name.
    pub name: String,
    /// C type as the file has it, without `__data_loc`, array suffix and name.
    pub c_type: String,
    /// Offset in bytes.
    pub offset: u32,
    /// Size in bytes.
    pub size: u32,
    /// Signedness.
    pub signed: bool,
    /// Number of elements of an array; `Some(0)` for `[]`.
    pub array: Option<u32>,
    /// Whether it is a `__data_loc` field.
    pub data_loc: bool,
}

/// Types that a script can name. Implementations take bytes (BTF, tracepoint formats, DWARF);
/// finding files is their maker's business. Everything an implementation answers is type
/// information; addresses, features and versions are not.
pub trait TypeSource {
    /// Whether the kernel's own types are known.
    fn has_kernel_types(&self) -> bool;

    /// The struct (or, with `is_union`, union) of a name: vmlinux first, then modules.
    fn find_struct(&self, name: &str, is_union: bool) -> Option<TypeRef>;

    /// The enum of a name.
    fn find_enum(&self, name: &str) -> Option<TypeRef>;

    /// The typedef or base type of a name (`size_t`, `u32`, `unsigned int`).
    fn find_typedef(&self, name: &str) -> Option<TypeRef>;

    /// The enum that has an enumerator of this name, and its value.
    fn find_enumerator(&self, name: &str) -> Option<(TypeRef, i64)>;

    /// What a reference stands for.
    fn resolve(&self, ty: TypeRef) -> RawType;

    /// Functions whose module and name match the patterns (`*` is the only wildcard; no module:
    /// any), sorted by module and name.
    fn find_functions(&self, module: Option<&str>, name: &str) -> Vec<FunctionInfo>;

    /// Raw tracepoints whose name matches, sorted, with the parameters of their handlers (the first,
    /// the handler's own data, is left out).
    fn find_raw_tracepoints(&self, module: Option<&str>, name: &str) -> Vec<FunctionInfo>;

    /// Category and event of each tracepoint that matches the patterns, sorted.
    fn find_tracepoints(&self, category: &str, event: &str) -> Vec<(String, String)>;

    /// Fields of a tracepoint, common ones left out; `None` when it does not exist.
    fn tracepoint_format(&self, category: &str, event: &str) -> Option<Vec<FormatField>>;

    /// Names of structs, unions and enums that match a pattern (`struct x*`), sorted, for listing.
    fn find_type_names(&self, keyword: &str, pattern: &str) -> Vec<String>;

    /// The executable or library that a path in an attach point stands for (empty: the executable of the
    /// process that is traced), as the object of its types
    /// ([`FIRST_PROGRAM`] and up); `None` without debug information.
    fn program(&self, _path: &str) -> Option<u32> {
        None
    }

    /// The executables and libraries that a pattern in an attach point stands for and that have a function
    /// that matches, sorted; `language` says how its names are written.
    fn find_programs(&self, _path: &str, _function: &str, _language: Option<&str>) -> Vec<String> {
        Vec::new()
    }

    /// How many bytes a function or variable has in the executable or library that a path in an attach point
    /// stands for.
    fn symbol_size(&self, _path: &str, _name: &str) -> Option<u64> {
        None
    }

    /// Which build of a program its types are from.
    fn program_build(&self, _program: u32) -> Option<UserBuild> {
        None
    }

    /// The struct (`class`), union, enum or typedef of a name in a program.
    fn program_type(&self, _program: u32, _kind: TypeName, _name: &str) -> Option<TypeRef> {
        None
    }

    /// Parameters of a function of a program.
    fn program_params(&self, _program: u32, _function: &str) -> Option<Vec<ProgramParam>> {
        None
    }

    /// Symbols of the functions of a program that match a pattern, sorted; with `demangled` by their names
    /// in the source as well.
    fn program_functions(&self, _program: u32, _pattern: &str, _demangled: bool) -> Vec<String> {
        Vec::new()
    }
}
