//! The contract between whoever writes CLIF and the BPF back end: names, types, loads, limits.
//!
//! # Functions
//!
//! - Every value is `i8`, `i16`, `i32` or `i64`. Pointers are `i64`. A boolean is the `i8` that
//!   `icmp` gives. `i128`, floats and vectors are refused ([`BackendError::Unsupported`]).
//! - A program takes one `i64` (the context, in r1) or nothing, and returns one `i64` or nothing
//!   (r0 is then 0). A subprogram or callback takes up to five integers and returns one or none.
//! - A call passes up to five arguments. Arguments narrower than 64 bits are passed with undefined
//!   upper bits, exactly like every other narrow value: write `uextend`/`sextend` where the callee
//!   looks at all 64 bits, which helpers do. (The exception is an `i32` argument of a helper whose
//!   own parameter is 32 bits wide.)
//! - The calling convention named in a signature is ignored.
//!
//! # Names
//!
//! Everything outside the function is an [`ExternalName::User`] whose [`UserExternalName`] has one
//! of the namespaces below ([`Symbol`] is the decoded form). Make them with [`Symbol::name`].
//!
//! | namespace | index | used by |
//! |---|---|---|
//! | [`NS_HELPER`] | id of the BPF helper | `call` |
//! | [`NS_KFUNC`]  | index in the object's kfunc table | `call`; `func_addr` or `symbol_value` gives its address, 0 when a weak one is absent |
//! | [`NS_SUBPROG`] | index of a function of the same object | `call`; `func_addr` gives a callback pointer |
//! | [`NS_MAP`] | index of a map | `symbol_value.i64` gives the map pointer that helpers want |
//! | [`NS_DATA`] | index of a data section (see [`Symbol::Data`]) | `symbol_value.i64` gives the address of the byte at the symbol's offset |
//! | [`NS_PATCH`] | index in the object's table of patched constants | `symbol_value` gives the constant, see below |
//! | [`NS_PATCH_WIDE`] | same table | `symbol_value` gives the constant, always through a 64-bit load |
//!
//! A symbol costs nothing to hold: it is materialised afresh at each use, never spilled and never
//! kept in a register across a call. So declare one global value per symbol and use it freely.
//!
//! The `offset` of a [`GlobalValueData::Symbol`] is the byte offset within a data section, and must
//! be 0 in every other namespace. Constant additions on a data address fold into the offset.
//!
//! # Patched constants
//!
//! A patch is a number known only on the target: the offset of a kernel field, its size, the shift
//! of a bit-field, whether a type exists. It is emitted as one instruction field that the loader
//! rewrites, and each emitted copy is a [`RelocKind::Patch`]:
//!
//! - `load`/`store` at `iadd(base, patch)` (with no other constant offset): the 16-bit offset of the
//!   load or store ([`PatchField::Offset`]). At load, libbpf refuses an offset above 32,767.
//! - `iadd`, `isub`, `ishl`, `ushr`, `sshr`, `band`, `imul`, `icmp`+`brif` … with a patch as right operand:
//!   where the instruction is an ALU instruction, its 32-bit immediate ([`PatchField::Imm32`]).
//! - anything else: `mov32`/`mov64` with the immediate, then the instruction.
//! - `uextend.i64` of a patch of type `i32`: `mov32` into a register that all uses of the result share.
//! - [`NS_PATCH_WIDE`] is for values that need 64 bits (enumerators): `ld_imm64`
//!   ([`PatchField::Imm64`]), never folded.
//!
//! The mid-end knows nothing about a patch's value. All fields are emitted as 0; whoever writes
//! the object stores the value that the relocation's own record implies, since libbpf compares.
//!
//! # Memory
//!
//! Stack slots are CLIF stack slots (`stack_load`, `stack_store`, `stack_addr`), with their own
//! alignment; together with spills they share [`STACK_SIZE`] bytes. Loads and stores are little
//! endian and need not be naturally aligned as far as the back end is concerned; the verifier
//! wants natural alignment on the stack and in map values.
//!
//! The mid-end treats the kinds of memory access like this:
//!
//! | written as | two of them from one address, nothing in between | may move | dropped when unused |
//! |---|---|---|---|
//! | `load` | merged; also takes the value of an earlier `store` to that address | no | yes |
//! | `load notrap readonly can_move` | merged, also across stores and calls | yes, hoisted out of loops | yes |
//! | `atomic_load` | never merged | no, and other accesses do not move across it | yes |
//! | `store` | – | no | never |
//! | `atomic_store` | – | no | never |
//!
//! A call, an atomic and a `fence` end all knowledge about memory: a `load` after one is a new load.
//! So: context fields and `.rodata` are `load notrap readonly can_move`, the program's own
//! stack is `load notrap`/`store notrap`, and everything another CPU may change (map values, kernel
//! structures read through trusted pointers) is `atomic_load`/`atomic_store`, which cost the same
//! single `ldx`/`stx`. A load that can move may end up before the null check of its pointer: never
//! use `can_move` on a pointer that had to be checked first. Such a load from a data section is done
//! afresh for each use, so that the verifier knows a frozen value wherever it decides a branch.
//!
//! `atomic_rmw` (`add`, `and`, `or`, `xor`, `xchg`) and `atomic_cas` work on `i32` and `i64`. Only
//! `add`, `and`, `or`, `xor` whose old value is unused avoid the fetching form; of those only `add` is
//! understood before kernel 5.12.
//!
//! # Arithmetic
//!
//! `udiv` and `urem` are BPF's own: dividing by 0 gives 0, and the remainder by 0 is the dividend
//! (the mid-end does not exploit that; the producer guards where the language says otherwise).
//! `sdiv` and `srem` are made from the unsigned ones. Shift counts are taken modulo the type's width,
//! as CLIF says. `trap` and friends leave the program with result 0.
//!
//! # What the verifier needs
//!
//! Compare the very value that is used afterwards as pointer, size or offset: the back end keeps
//! one CLIF value in one register unless it runs out of them, and copies neither for the comparison
//! nor for the use. `icmp` feeding `brif` fuses into one conditional jump on the operands.

use cranelift_codegen::ir::{ExternalName, Function, UserExternalName};

#[allow(unused_imports, reason = "named in the documentation above")]
use crate::bpf::{BackendError, PatchField, RelocKind};
#[allow(unused_imports, reason = "named in the documentation above")]
use cranelift_codegen::ir::GlobalValueData;

/// Bytes of stack of one BPF function; the frames of a call chain share it.
pub const STACK_SIZE: u32 = 512;

/// Namespace of BPF helpers; the index is the helper's id in `enum bpf_func_id`.
pub const NS_HELPER: u32 = 0;
/// Namespace of kernel functions; the index is a row of the object's kfunc table.
pub const NS_KFUNC: u32 = 1;
/// Namespace of functions of the same object.
pub const NS_SUBPROG: u32 = 2;
/// Namespace of maps.
pub const NS_MAP: u32 = 3;
/// Namespace of data sections.
pub const NS_DATA: u32 = 4;
/// Namespace of patched constants that fit a signed 32-bit immediate.
pub const NS_PATCH: u32 = 5;
/// Namespace of patched constants of 64 bits.
pub const NS_PATCH_WIDE: u32 = 6;

/// A name outside the function, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Symbol {
    /// A BPF helper, by its id in `enum bpf_func_id`.
    Helper(u32),
    /// A kernel function, by its row in the object's kfunc table.
    Kfunc(u32),
    /// Another function of the same object.
    Subprog(u32),
    /// A map.
    Map(u32),
    /// A data section of the object (`.rodata`, `.data`, `.bss`, ...), by its number in the object.
    Data(u32),
    /// A constant patched by the loader, fits a signed 32-bit immediate.
    Patch(u32),
    /// A constant patched by the loader, of 64 bits.
    PatchWide(u32),
}

impl Symbol {
    /// The name to declare in a function (`Function::declare_imported_user_function`).
    pub fn name(self) -> UserExternalName {
        let (namespace, index) = match self {
            Symbol::Helper(index) => (NS_HELPER, index),
            Symbol::Kfunc(index) => (NS_KFUNC, index),
            Symbol::Subprog(index) => (NS_SUBPROG, index),
            Symbol::Map(index) => (NS_MAP, index),
            Symbol::Data(index) => (NS_DATA, index),
            Symbol::Patch(index) => (NS_PATCH, index),
            Symbol::PatchWide(index) => (NS_PATCH_WIDE, index),
        };
        UserExternalName { namespace, index }
    }

    /// The symbol a user name stands for; `None` when the namespace is not ours.
    pub fn from_name(name: &UserExternalName) -> Option<Symbol> {
        let index = name.index;
        Some(match name.namespace {
            NS_HELPER => Symbol::Helper(index),
            NS_KFUNC => Symbol::Kfunc(index),
            NS_SUBPROG => Symbol::Subprog(index),
            NS_MAP => Symbol::Map(index),
            NS_DATA => Symbol::Data(index),
            NS_PATCH => Symbol::Patch(index),
            NS_PATCH_WIDE => Symbol::PatchWide(index),
            _ => return None,
        })
    }

    /// The symbol that a name inside `func` stands for; `None` when it is not one of ours.
    pub fn from_external(func: &Function, name: &ExternalName) -> Option<Symbol> {
        match name {
            ExternalName::User(user) => {
                Symbol::from_name(func.params.user_named_funcs().get(*user)?)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for symbol in [
            Symbol::Helper(14),
            Symbol::Kfunc(0),
            Symbol::Subprog(3),
            Symbol::Map(2),
            Symbol::Data(1),
            Symbol::Patch(77),
            Symbol::PatchWide(5),
        ] {
            assert_eq!(Symbol::from_name(&symbol.name()), Some(symbol));
        }
        let foreign = UserExternalName {
            namespace: 99,
            index: 0,
        };
        assert_eq!(Symbol::from_name(&foreign), None);
    }
}
