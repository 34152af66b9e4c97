//! Reading memory: members of structs, elements of arrays, what pointers point to.
//!
//! A chain of members and constant indices without a pointer in between is one path: one offset, which
//! for the kernel's structs is one CO-RE relocation, and one read at the end.

mod number;

use bpftrace_meta::RuntimeError;
use bpftrace_sema::{Expr, ExprKind, Mem, Member, Origin, StructId, Ty};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::R;
use super::builtin::pt_regs;
use super::capture;
use super::func::FnCx;
use super::memory::{Access, Addr, Fill};
use super::module::TracepointField;
use super::place::{is_by_address, scalar_type};
use crate::meta_out::{bit_field_container, stored_arguments};
use crate::object::{CoreKind, CoreReloc};
use crate::symbols::Symbol;

/// A place that some memory expression denotes, not read yet.
#[derive(Clone, Debug)]
struct Path {
    /// The address it starts from.
    base: Value,
    mem: Mem,
    /// Bytes to add, for layouts that are the same on the target.
    offset: i64,
    /// Members and indices to add, starting from a struct of the kernel.
    core: Option<(StructId, Vec<u32>)>,
    /// A field of a tracepoint's record.
    field: Option<TracepointField>,
    /// The last member is a bit-field.
    bits: Option<BitField>,
    /// What is there is an integer of the kernel, which may have another size on the target.
    sign: Option<Sign>,
    /// It is an element of an array, of which libbpf tells less than of members.
    is_element: bool,
    /// An argument in an array of `u64`.
    is_argument: bool,
    /// The address is not where the value is: it is the value.
    is_value: bool,
}

/// Whether an integer has a sign where it has not the size that it was compiled with.
#[derive(Clone, Copy, Debug)]
enum Sign {
    /// As the target's types say.
    OfTarget,
    /// As in the types that the script was compiled with; libbpf does not tell.
    Known(bool),
}

#[derive(Clone, Copy, Debug)]
struct BitField {
    bit_offset: u64,
    bits: u8,
    declared: u64,
}

impl Path {
    fn new(base: Value, mem: Mem) -> Self {
        Self {
            base,
            mem,
            offset: 0,
            core: None,
            field: None,
            bits: None,
            sign: None,
            is_element: false,
            is_argument: false,
            is_value: false,
        }
    }
}

impl FnCx<'_, '_> {
    /// A member, an element or what a pointer points to: scalars are read, structs and arrays stay addresses.
    pub(super) fn read_scalar(&mut self, expr: &Expr) -> R<Value> {
        if let ExprKind::Index(base, index) = &expr.kind
            && let Ty::Str(size) = base.ty
        {
            return self.string_index(base, size, index);
        }
        let Some(ty) = scalar_type(&expr.ty) else {
            return self.internal("reading something that is no scalar");
        };
        let outer = self.null_exit.take();
        let value = match &expr.kind {
            ExprKind::Index(base, index)
                if matches!(base.ty, Ty::Array(..)) && capture::constant(index).is_none() =>
            {
                self.checked_index(base, index, expr)?
            }
            _ => {
                let path = self.path(expr)?;
                if is_by_address(&expr.ty) {
                    self.path_address(&path)?
                } else {
                    self.read_path(&path, ty)?
                }
            }
        };
        let Some(null) = std::mem::replace(&mut self.null_exit, outer) else {
            return Ok(value);
        };
        let after = self.b.create_block();
        let result = self.b.append_block_param(after, ty);
        self.jump(after, &[value]);
        self.enter(null);
        let zero = self.int(ty, 0);
        self.jump(after, &[zero]);
        self.enter(after);
        Ok(result)
    }

    /// The same for what lives in memory: a string in a struct.
    pub(super) fn read_to_memory(&mut self, expr: &Expr, dst: Addr, fill: Fill) -> R<()> {
        let outer = self.null_exit.take();
        self.read_path_to_memory(expr, dst, fill)?;
        if let Some(null) = std::mem::replace(&mut self.null_exit, outer) {
            let after = self.b.create_block();
            self.jump(after, &[]);
            self.enter(null);
            let size = self.size_of(&expr.ty)?;
            self.zero(dst, u64::from(size));
            self.jump(after, &[]);
            self.enter(after);
        }
        Ok(())
    }

    fn read_path_to_memory(&mut self, expr: &Expr, dst: Addr, fill: Fill) -> R<()> {
        let path = self.path(expr)?;
        let size = self.size_of(&expr.ty)?;
        let address = self.path_address(&path)?;
        match (&expr.ty, path.mem) {
            (Ty::Str(n), Mem::Bpf) => {
                self.copy_str(dst, *n, fill, Addr::value(address, 1), *n, false);
                Ok(())
            }
            (_, Mem::Bpf) => {
                self.copy(dst, Addr::value(address, 1), u64::from(size));
                Ok(())
            }
            (Ty::Str(n), mem) if fill == Fill::Exact => {
                self.zero(dst, u64::from(size));
                self.read_string(mem, dst, *n, address)
            }
            (_, mem) => {
                self.read_bytes(mem, dst, u64::from(size), address)?;
                Ok(())
            }
        }
    }

    /// Copies a struct or array. A struct of the kernel, and arguments, are copied member by member, since
    /// their layout on the target may be another one than that of the value.
    pub(super) fn copy_object(&mut self, expr: &Expr, dst: Addr) -> R<()> {
        let size = u64::from(self.size_of(&expr.ty)?);
        if let Ty::Struct(id, mem) = &expr.ty
            && self.is_copied_by_members(*id, *mem)
        {
            let id = *id;
            self.zero(dst, size);
            let outer = self.null_exit.take();
            let path = self.path(expr)?;
            self.copy_members(&path, id, dst)?;
            if let Some(null) = std::mem::replace(&mut self.null_exit, outer) {
                let after = self.b.create_block();
                self.jump(after, &[]);
                self.enter(null);
                self.jump(after, &[]);
                self.enter(after);
            }
            return Ok(());
        }
        let mem = match &expr.ty {
            Ty::Struct(_, mem) | Ty::Array(_, _, mem) => *mem,
            _ => return self.internal("an object that is no struct or array"),
        };
        let address = self.scalar(expr)?;
        self.read_bytes(mem, dst, size, address)?;
        Ok(())
    }

    fn is_copied_by_members(&self, id: StructId, mem: Mem) -> bool {
        let def = self.m.program.types.struct_def(id);
        match def.origin {
            Origin::Tracepoint { .. } | Origin::Arguments | Origin::Registers => mem != Mem::Bpf,
            // The members of a union overlap: its bytes are taken as they are.
            Origin::Kernel => mem != Mem::Bpf && !def.is_union,
            _ => false,
        }
    }

    /// Copies the members of a struct at a path to a value.
    fn copy_members(&mut self, path: &Path, id: StructId, dst: Addr) -> R<()> {
        let program = self.m.program;
        let def = program.types.struct_def(id);
        let stored = stored_arguments(&program.types, id);
        for (index, member) in def.members.iter().enumerate() {
            let offset = match &stored {
                Some(stored) => stored.offsets[index],
                None => member.bit_offset / 8,
            };
            if member.name.is_empty() && !matches!(member.ty, Ty::Struct(..)) {
                // Padding.
                continue;
            }
            let mut at = path.clone();
            at.bits = None;
            self.push_member(&mut at, id, index as u32)?;
            let to = dst.at(offset);
            match &member.ty {
                Ty::Void => {}
                Ty::Struct(inner, _) if self.has_members(*inner) => {
                    let inner = *inner;
                    self.copy_members(&at, inner, to)?;
                }
                Ty::Struct(inner, _) if member.name.is_empty() => {
                    self.copy_anonymous_union(&at, *inner, to)?;
                }
                Ty::Array(element, count, _)
                    if at.core.is_some()
                        && let Ty::Struct(inner, _) = **element
                        && self.has_members(inner)
                        && *count <= MAX_COPIED_ELEMENTS =>
                {
                    let stride = program.types.size(element);
                    for i in 0..*count {
                        let mut element = at.clone();
                        element
                            .core
                            .iter_mut()
                            .for_each(|(_, access)| access.push(i));
                        self.copy_members(&element, inner, to.at(stride * u64::from(i)))?;
                    }
                }
                _ => {
                    let bits = member.bits.filter(|_| stored.is_none());
                    let mark = self.temps.len();
                    self.if_it_exists(&at, |cx| match bits {
                        Some(bits) => cx.copy_bit_field(&at, member, bits, dst),
                        None => cx.copy_member(&at, &member.ty, to),
                    })?;
                    self.release_temps(mark);
                }
            }
        }
        Ok(())
    }

    /// Whether a struct is copied as its members.
    fn has_members(&self, id: StructId) -> bool {
        let def = self.m.program.types.struct_def(id);
        !def.is_union && def.complete
    }

    /// Copies a member that has none of its own.
    fn copy_member(&mut self, at: &Path, ty: &Ty, to: Addr) -> R<()> {
        let by_helper = matches!(at.mem, Mem::Kernel | Mem::User | Mem::Unknown);
        match scalar_type(ty).filter(|_| !is_by_address(ty)) {
            Some(clif) if !by_helper || at.core.is_none() => {
                let value = self.read_path(at, clif)?;
                self.store(value, to);
                Ok(())
            }
            // An array without a size has no bytes.
            _ => match self.size_of(ty)? {
                0 => Ok(()),
                size => {
                    let address = self.path_address(at)?;
                    // Where the member is smaller, its neighbours are no part of the value.
                    let there = match at.core {
                        Some(_) => self.path_patch(at, CoreKind::FieldByteSize),
                        None => None,
                    };
                    let n = match there {
                        Some(there) => {
                            let there = self.symbol(Symbol::Patch(there), 0);
                            self.at_most(there, i64::from(size))
                        }
                        None => self.i64(i64::from(size)),
                    };
                    self.read_bytes_dynamic(at.mem, to, n, address)
                }
            },
        }
    }

    /// Does something with a member where the target has it; otherwise it stays 0.
    fn if_it_exists(&mut self, at: &Path, then: impl FnOnce(&mut Self) -> R<()>) -> R<()> {
        let exists = match at.core {
            Some(_) => self.path_patch(at, CoreKind::FieldExists),
            None => None,
        };
        let Some(exists) = exists else {
            return then(self);
        };
        let (there, after) = (self.b.create_block(), self.b.create_block());
        let exists = self.symbol(Symbol::Patch(exists), 0);
        self.brif(exists, there, after);
        self.enter(there);
        then(self)?;
        self.jump(after, &[]);
        self.enter(after);
        Ok(())
    }

    /// Copies an anonymous union, which relocations cannot name: its first member with a name says where it is.
    fn copy_anonymous_union(&mut self, path: &Path, id: StructId, dst: Addr) -> R<()> {
        let program = self.m.program;
        let size = program.types.struct_def(id).size;
        let (mut at, mut inner) = (path.clone(), id);
        loop {
            let members = &program.types.struct_def(inner).members;
            let Some(index) = members.iter().position(|member| {
                member.bits.is_none()
                    && member.bit_offset == 0
                    && (!member.name.is_empty() || matches!(member.ty, Ty::Struct(..)))
            }) else {
                // Nothing in it that anybody could ask for.
                return Ok(());
            };
            self.push_member(&mut at, inner, index as u32)?;
            match &members[index] {
                Member {
                    name,
                    ty: Ty::Struct(next, _),
                    ..
                } if name.is_empty() => inner = *next,
                _ => break,
            }
        }
        self.if_it_exists(&at, |cx| {
            let address = cx.path_address(&at)?;
            cx.read_bytes(at.mem, dst, size, address)
        })
    }

    /// Puts a bit-field where the value's layout says it is; the bytes are 0 so far, or have other bit-fields.
    fn copy_bit_field(&mut self, at: &Path, member: &Member, bits: u8, dst: Addr) -> R<()> {
        let declared = self.m.program.types.size(&member.ty);
        let (size, offset, shift) = bit_field_container(member.bit_offset, bits, declared);
        let clif = match size {
            1 => types::I8,
            2 => types::I16,
            4 => types::I32,
            _ => types::I64,
        };
        let value = self.read_path(at, types::I64)?;
        let mask = self.i64(((1u128 << bits) - 1) as i64);
        let value = self.b.ins().band(value, mask);
        let shift = self.i64(i64::from(shift));
        let value = self.b.ins().ishl(value, shift);
        let value = self.resize_int(value, clif, false);
        let container = dst.at(offset);
        let others = self.load(clif, container, Access::Own);
        let all = self.b.ins().bor(others, value);
        self.store(all, container);
        Ok(())
    }

    /// The address of a string in a struct, that is not read yet.
    pub(super) fn string_in_place(&mut self, expr: &Expr) -> R<(Mem, Value)> {
        let outer = self.null_exit.take();
        let path = self.path(expr)?;
        let address = self.path_address(&path)?;
        let Some(null) = std::mem::replace(&mut self.null_exit, outer) else {
            return Ok((path.mem, address));
        };
        let after = self.b.create_block();
        let result = self.b.append_block_param(after, types::I64);
        self.jump(after, &[address]);
        self.enter(null);
        let zero = self.i64(0);
        self.jump(after, &[zero]);
        self.enter(after);
        Ok((path.mem, result))
    }

    /// The start of a path at what a pointer points to. The verifier lets nobody follow some of its typed
    /// pointers before they are compared with null: the path then ends at `null_exit`.
    fn follow(&mut self, pointer: &Expr, mem: Mem) -> R<Path> {
        let base = self.scalar(pointer)?;
        if self.needs_null_check(pointer, mem) {
            let next = self.b.create_block();
            let null = match self.null_exit {
                Some(null) => null,
                None => {
                    let null = self.b.create_block();
                    self.null_exit = Some(null);
                    null
                }
            };
            self.brif(base, next, null);
            self.enter(next);
        }
        Ok(Path::new(base, mem))
    }

    /// Whether the verifier may take the pointer for one of its own that can be null. Arguments of functions
    /// cannot; those of raw tracepoints and iterators can, even where only a helper reads through them,
    /// since adding an offset is refused already.
    fn needs_null_check(&self, pointer: &Expr, mem: Mem) -> bool {
        use bpftrace_meta::ProgramKind as K;
        match (self.p.kind, mem) {
            (Some(K::Iter | K::TpBtf), Mem::Btf | Mem::Kernel) => true,
            (_, Mem::Btf) => match &pointer.kind {
                ExprKind::Member(base, _) => match &base.ty {
                    Ty::Struct(id, _) => {
                        self.m.program.types.struct_def(*id).origin != Origin::Arguments
                    }
                    _ => true,
                },
                _ => true,
            },
            _ => false,
        }
    }

    /// A struct or array in memory that direct loads may read.
    pub(super) fn object_in_own_memory(&mut self, expr: &Expr) -> R<Addr> {
        if let Ty::Struct(_, Mem::Bpf) | Ty::Array(_, _, Mem::Bpf) = &expr.ty {
            let address = self.scalar(expr)?;
            return Ok(Addr::value(address, 8));
        }
        let size = self.size_of(&expr.ty)?;
        let dst = self.temp(size);
        self.copy_object(expr, dst)?;
        Ok(dst)
    }

    // Paths.

    fn path(&mut self, expr: &Expr) -> R<Path> {
        match &expr.kind {
            ExprKind::Member(base, member) => {
                let (mut path, id) = self.base_path(base)?;
                self.push_member(&mut path, id, *member)?;
                Ok(path)
            }
            ExprKind::Deref(pointer) => {
                let Ty::Ptr(_, mem) = &pointer.ty else {
                    return self.internal("following something that is no pointer");
                };
                let mem = *mem;
                self.follow(pointer, mem)
            }
            ExprKind::Index(base, index) => {
                let (mut path, element) = match &base.ty {
                    Ty::Array(element, _, _) => (self.path(base)?, element.clone()),
                    Ty::Ptr(element, mem) => {
                        let mem = *mem;
                        (self.follow(base, mem)?, element.clone())
                    }
                    _ => return self.internal("an index of something that has no elements"),
                };
                self.push_index(&mut path, index, &element, matches!(base.ty, Ty::Array(..)))?;
                Ok(path)
            }
            _ => {
                let mem = match &expr.ty {
                    // An array of the context whose address is a value by now: a helper reads it.
                    Ty::Array(_, _, Mem::Ctx) => Mem::Kernel,
                    Ty::Struct(_, mem) | Ty::Array(_, _, mem) | Ty::Ptr(_, mem) => *mem,
                    _ => return self.internal("an address of something that has none"),
                };
                let base = self.scalar(expr)?;
                Ok(Path::new(base, mem))
            }
        }
    }

    /// The path of a struct, or of what a pointer to a struct points to, and which struct it is.
    fn base_path(&mut self, base: &Expr) -> R<(Path, StructId)> {
        match &base.ty {
            Ty::Struct(id, _) => {
                let id = *id;
                Ok((self.path(base)?, id))
            }
            Ty::Ptr(pointee, mem) => match &**pointee {
                Ty::Struct(id, _) => {
                    let (id, mem) = (*id, *mem);
                    Ok((self.follow(base, mem)?, id))
                }
                _ => self.internal("a member of something that is no struct"),
            },
            _ => self.internal("a member of something that is no struct"),
        }
    }

    fn push_member(&mut self, path: &mut Path, id: StructId, index: u32) -> R<()> {
        let def = self.m.program.types.struct_def(id);
        let Some(member) = def.members.get(index as usize) else {
            return self.internal(format!("no member {index} in {:?}", def.name));
        };
        let declared = self.m.program.types.size(&member.ty);
        path.bits = member.bits.map(|bits| BitField {
            bit_offset: member.bit_offset,
            bits,
            declared,
        });
        path.is_element = false;
        path.sign = match &member.ty {
            Ty::Int(_) | Ty::Bool => Some(Sign::OfTarget),
            // libbpf says that every enum has one.
            Ty::Enum(_, int) => Some(Sign::Known(int.signed)),
            _ => None,
        };
        match &def.origin {
            Origin::Tracepoint { category, event } => {
                let signed = matches!(&member.ty, Ty::Int(int) | Ty::Enum(_, int) if int.signed);
                self.settle(path)?;
                path.field = Some(TracepointField {
                    category: category.clone(),
                    event: event.clone(),
                    field: member.name.clone(),
                    size: if member.data_loc { 4 } else { declared as u32 },
                    signed,
                    data_loc: member.data_loc,
                    offset: (member.bit_offset / 8) as u32,
                    inside: 0,
                });
                path.bits = None;
                if member.data_loc {
                    self.follow_data_loc(path)?;
                }
                Ok(())
            }
            Origin::Arguments => {
                self.settle(path)?;
                path.offset += (member.bit_offset / 8) as i64;
                path.is_argument = true;
                Ok(())
            }
            Origin::Registers => self.push_argument(path, member),
            Origin::Kernel => {
                match &mut path.core {
                    Some((_, access)) => access.push(index),
                    None if self.m.core.is_root(id) => {
                        self.settle(path)?;
                        path.core = Some((id, vec![index]));
                    }
                    // Without a name libbpf cannot find it; its layout is taken as it was.
                    None => add_fixed(path, member.bit_offset),
                }
                Ok(())
            }
            Origin::Script | Origin::Context | Origin::User => {
                if path.core.is_some() || path.field.is_some() {
                    self.settle(path)?;
                }
                add_fixed(path, member.bit_offset);
                Ok(())
            }
        }
    }

    /// An argument of a function at its start: in registers, or on the stack behind the return address.
    fn push_argument(&mut self, path: &mut Path, member: &Member) -> R<()> {
        let word = (member.bit_offset / 64) as usize;
        if let Some(stacked) = word.checked_sub(pt_regs::ARGS.len()) {
            let stack = self.register(pt_regs::SP, "an argument on the stack")?;
            *path = Path::new(stack, Mem::User);
            path.offset = 8 + 8 * stacked as i64;
            return Ok(());
        }
        if !is_by_address(&member.ty) {
            let base = self.ctx();
            *path = Path::new(base, Mem::Ctx);
            path.offset = i64::from(pt_regs::ARGS[word]);
            path.is_argument = true;
            return Ok(());
        }
        let n_words = self.m.program.types.size(&member.ty).div_ceil(8);
        let copy = self.temp(8 * n_words as u32);
        for i in 0..n_words {
            let Some(&register) = pt_regs::ARGS.get(word + i as usize) else {
                return self.internal("an argument in more registers than there are");
            };
            let value = self.register(register, "an argument")?;
            self.store(value, copy.at(8 * i));
        }
        let address = self.addr_value(copy);
        *path = Path::new(address, Mem::Bpf);
        Ok(())
    }

    /// The field holds where the data is: the value is its address.
    fn follow_data_loc(&mut self, path: &mut Path) -> R<()> {
        let location = self.read_path(path, types::I32)?;
        let mask = self.int(types::I32, 0xffff);
        let offset = self.b.ins().band(location, mask);
        let offset = self.zext64(offset);
        let address = self.b.ins().iadd(path.base, offset);
        *path = Path::new(address, Mem::Kernel);
        path.is_value = true;
        Ok(())
    }

    fn push_index(&mut self, path: &mut Path, index: &Expr, element: &Ty, of_array: bool) -> R<()> {
        path.is_argument = false;
        path.is_value = false;
        let known = capture::constant(index);
        if let (Some(known), Some((_, access)), true) = (known, &mut path.core, of_array)
            && let Ok(known) = u32::try_from(known)
        {
            access.push(known);
            path.is_element = true;
            path.sign = match element {
                Ty::Int(int) | Ty::Enum(_, int) => Some(Sign::Known(int.signed)),
                Ty::Bool => Some(Sign::Known(false)),
                _ => None,
            };
            return Ok(());
        }
        let kernel_struct = matches!(element, Ty::Struct(id, _) if self.m.core.is_root(*id));
        if let (Some(known), false) = (known, kernel_struct) {
            let size = self.m.program.types.size(element).max(1);
            let bytes = known.wrapping_mul(size as i64);
            // The verifier lets nobody read the context through a pointer into it, so the element's
            // place goes into the same instruction as that of the field.
            if let Some(field) = &mut path.field
                && let Some(inside) = u32::try_from(bytes)
                    .ok()
                    .and_then(|bytes| field.inside.checked_add(bytes))
            {
                field.inside = inside;
                return Ok(());
            }
            if path.core.is_some() || path.field.is_some() {
                self.settle(path)?;
            }
            path.offset += bytes;
            return Ok(());
        }
        self.settle(path)?;
        let count = self.scalar(index)?;
        let offset = self.scale(count, known, element)?;
        path.base = self.b.ins().iadd(path.base, offset);
        Ok(())
    }

    /// Turns the offsets so far into an address, from which the path goes on.
    fn settle(&mut self, path: &mut Path) -> R<()> {
        if path.core.is_none() && path.field.is_none() && path.offset == 0 {
            return Ok(());
        }
        path.base = self.path_address(path)?;
        path.offset = 0;
        path.core = None;
        path.field = None;
        path.bits = None;
        path.sign = None;
        Ok(())
    }

    /// The address of a path.
    fn path_address(&mut self, path: &Path) -> R<Value> {
        let patch = self.path_patch(path, CoreKind::FieldByteOffset);
        Ok(match patch {
            Some(patch) => {
                let offset = self.symbol(Symbol::Patch(patch), 0);
                let base = self.b.ins().iadd(path.base, offset);
                self.offset(base, path.offset)
            }
            None => self.offset(path.base, path.offset),
        })
    }

    /// The relocated offset of a path, if it has one.
    fn path_patch(&mut self, path: &Path, kind: CoreKind) -> Option<u32> {
        if let Some(field) = &path.field {
            return Some(self.m.tracepoint_patch(field.clone()));
        }
        let (root, access) = path.core.as_ref()?;
        let root = self.m.core.struct_ref(*root);
        Some(self.m.core_patch(CoreReloc {
            root,
            access: access.clone(),
            kind,
        }))
    }

    /// An index known at run time only: out of bounds reads 0, with a warning.
    fn checked_index(&mut self, base: &Expr, index: &Expr, expr: &Expr) -> R<Value> {
        let Ty::Array(element, count, mem) = &base.ty else {
            return self.internal("an index of something that is no array");
        };
        let (element, count, mem) = (element.clone(), *count, *mem);
        let Some(ty) = scalar_type(&expr.ty) else {
            return self.unsupported("a run-time index of an array of this type");
        };
        let path = self.path(base)?;
        let start = self.path_address(&path)?;
        let index = self.scalar(index)?;
        let inside = self.cmp_imm(IntCC::UnsignedLessThan, index, i64::from(count));
        let (fine, outside, after) = (
            self.b.create_block(),
            self.b.create_block(),
            self.b.create_block(),
        );
        let result = self.b.append_block_param(after, ty);
        self.b.set_cold_block(outside);
        self.brif(inside, fine, outside);
        self.enter(fine);
        let offset = self.scale(index, None, &element)?;
        let address = self.b.ins().iadd(start, offset);
        let value = if is_by_address(&expr.ty) {
            address
        } else {
            // Loads at unknown offsets of the stack came late to the kernel, so a helper does it.
            let mem = match mem {
                Mem::Bpf | Mem::Ctx | Mem::Btf => Mem::Kernel,
                other => other,
            };
            self.read_number(mem, ty, address)?
        };
        self.jump(after, &[value]);
        self.enter(outside);
        self.runtime_error(RuntimeError::ArrayOutOfBounds)?;
        let zero = self.int(ty, 0);
        self.jump(after, &[zero]);
        self.enter(after);
        Ok(result)
    }
}

/// Most elements of an array in a struct that are copied one by one, where each has members of its own.
const MAX_COPIED_ELEMENTS: u32 = 16;

/// Adds the offset of a member whose layout is the same on the target.
fn add_fixed(path: &mut Path, bit_offset: u64) {
    path.offset += (bit_offset / 8) as i64;
}
