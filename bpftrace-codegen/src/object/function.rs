//! Functions of the object and of the kernel.

use std::rc::Rc;

use super::types::TypeRef;
use crate::bpf::Reloc;

/// A compiled function and what the object says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionDef {
    /// Its name, a C identifier, unique in the object; the kernel shows the first 15 characters.
    pub name: String,
    /// Where it lives.
    pub placement: Placement,
    /// Its type.
    pub signature: Signature,
    /// The instructions, as in [`CompiledFunction::code`](crate::bpf::CompiledFunction::code).
    pub code: Vec<u8>,
    /// The relocations, as in [`CompiledFunction::relocs`](crate::bpf::CompiledFunction::relocs).
    pub relocs: Vec<Reloc>,
    /// The source of the code, in ascending order of `insn_idx`. What precedes the first entry counts as
    /// belonging to it.
    pub lines: Vec<SourceLine>,
}

/// Where a function lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// A program, in a section whose name tells libbpf its type and target, such as "kprobe/vfs_read".
    Program {
        /// Name of the ELF section. Several programs may share it.
        section: String,
    },
    /// A subprogram or callback in `.text` that the verifier follows at each call.
    Subprogram,
    /// A subprogram in `.text` that the verifier checks once on its own, by its signature.
    GlobalSubprogram,
}

/// Type of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signature {
    /// `int (void *ctx)`, which fits every program.
    Program,
    /// `long (u64, ...)` with this many arguments, which fits every subprogram and callback.
    Scalars(u32),
    /// Spelled out: a [`Type::Function`](super::Type::Function) whose parameters have names.
    Typed(TypeRef),
}

/// From where on which source is responsible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceLine {
    /// First instruction, in units of 8 bytes from the start of the function.
    pub insn_idx: u32,
    /// Name of the file.
    pub file: Rc<str>,
    /// Text of the line.
    pub text: Rc<str>,
    /// Line number, from 1 on; the format ends at 4,194,303.
    pub line: u32,
    /// Column, from 1 on; 0 if unknown; the format ends at 1,023.
    pub column: u32,
}

/// A function or variable of the kernel, or of an object that is linked with this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternDef {
    /// Its name there.
    pub name: String,
    /// What it is.
    pub kind: ExternKind,
    /// Whether the object loads without it. Its address is then 0; calls of it must not be reachable.
    pub weak: bool,
}

/// What an extern is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExternKind {
    /// A kernel function callable from BPF; a [`Type::Function`](super::Type::Function). libbpf compares
    /// the kinds of the parameters with the kernel's, through pointers.
    Function(TypeRef),
    /// A function of another object; a [`Type::Function`](super::Type::Function). Once the objects are
    /// linked it is a subprogram that the verifier follows at each call.
    Linked(TypeRef),
    /// A variable found through the kernel's BTF.
    Variable(TypeRef),
    /// An address found through kallsyms.
    Symbol,
}
