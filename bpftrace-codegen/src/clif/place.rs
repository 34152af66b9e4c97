//! Where variables and temporaries are.

use bpftrace_sema::{LocalIdx, Ty};
use cranelift_codegen::ir::{StackSlot, Type, Value, types};
use cranelift_frontend::Variable;

use super::R;
use super::func::{FnCx, Role};
use super::memory::{Access, Addr, Fill};
use super::stack::StackArena;
use crate::meta_out::stored_size;

/// Bytes of a string below which all of them are always defined.
pub(super) const SMALL_STRING: u32 = 64;

/// Where a variable is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// In a register.
    Register(Variable, Type),
    /// In memory.
    Memory(Addr, Alloc),
    /// The entry of a map that a loop is at: the tuple of key and value is nowhere as a whole.
    Entry {
        /// The key.
        key: Addr,
        /// The value, or the merged value of an aggregation.
        value: EntryValue,
    },
}

/// The value of the entry that a loop is at.
#[derive(Clone, Copy, Debug)]
pub(super) enum EntryValue {
    Memory(Addr),
    Number(Value),
}

/// Variables of a script that may be in registers at a time, however little stack there is. There are ten registers;
/// what they have no room for takes stack.
const MIN_VARIABLES: u32 = 8;

/// The variables of a function. For each of them the way from variables to values takes memory in proportion to the
/// number of blocks, so what is out of scope makes room for others.
#[derive(Debug, Default)]
pub(super) struct Variables {
    free: Vec<(Variable, Type)>,
    n_taken: u32,
}

impl Variables {
    fn has_room(&self, stack_budget: u32) -> bool {
        self.n_taken < MIN_VARIABLES + stack_budget / 4
    }

    /// Takes one that is free; `None`: there has to be a new one.
    fn reuse(&mut self, ty: Type) -> Option<Variable> {
        self.n_taken += 1;
        let at = self.free.iter().rposition(|(_, free)| *free == ty)?;
        Some(self.free.swap_remove(at).0)
    }

    fn release(&mut self, variable: Variable, ty: Type) {
        self.n_taken = self.n_taken.saturating_sub(1);
        self.free.push((variable, ty));
    }
}

/// Who a piece of memory has to be given back to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Alloc {
    Slot(StackSlot, u32),
    Scratch(u32, u32),
    Frame(u32, u32),
    Variable(Variable, Type),
}

/// A temporary, free again when its statement ends.
pub(super) type Temp = Alloc;

/// The CLIF type of a scalar; `None` for types that live in memory.
pub(super) fn scalar_type(ty: &Ty) -> Option<Type> {
    Some(match ty {
        Ty::Bool => types::I8,
        Ty::Int(int) | Ty::Enum(_, int) => match int.size {
            1 => types::I8,
            2 => types::I16,
            4 => types::I32,
            _ => types::I64,
        },
        Ty::Ptr(..) | Ty::Struct(..) | Ty::Array(..) | Ty::KSym | Ty::Username | Ty::ProbeName => {
            types::I64
        }
        Ty::Void
        | Ty::Str(_)
        | Ty::Buf(_)
        | Ty::Tuple(_)
        | Ty::Record(_)
        | Ty::KStack(_)
        | Ty::UStack(_)
        | Ty::USym
        | Ty::Inet
        | Ty::Timestamp
        | Ty::MacAddr
        | Ty::CgroupPath
        | Ty::Agg(_) => return None,
    })
}

/// Whether a value of the type is represented by an address while it is in an expression.
pub(super) fn is_by_address(ty: &Ty) -> bool {
    matches!(ty, Ty::Struct(..) | Ty::Array(..))
}

/// Whether functions take and return values of the type by address.
pub(super) fn is_in_memory(ty: &Ty) -> bool {
    is_by_address(ty) || *ty != Ty::Void && scalar_type(ty).is_none()
}

impl<'p> FnCx<'_, 'p> {
    pub(super) fn size_of(&self, ty: &Ty) -> R<u32> {
        match u32::try_from(stored_size(&self.m.program.types, ty)) {
            // What fits neither a map value nor a record does not have to be told apart.
            Ok(size) if size <= 1 << 24 => Ok(size),
            _ => self.unsupported("a value of this size"),
        }
    }

    /// Memory for a value, on the stack if it is small and there is room.
    fn alloc(&mut self, size: u32) -> (Addr, Alloc) {
        self.alloc_from(size, StackArena::reuse_booked)
    }

    fn alloc_from(
        &mut self,
        size: u32,
        reuse: fn(&mut StackArena, u32) -> Option<StackSlot>,
    ) -> (Addr, Alloc) {
        if size <= self.m.program.options.on_stack_limit
            && let Some(slot) = reuse(&mut self.arena, size).or_else(|| self.book_slot(size))
        {
            return (Addr::slot(slot), Alloc::Slot(slot, size));
        }
        let offset = self.p.scratch.alloc(size);
        (Addr::scratch(offset), Alloc::Scratch(offset, size))
    }

    fn book_slot(&mut self, size: u32) -> Option<StackSlot> {
        if !self.arena.book(size, self.m.stack_budget) {
            return None;
        }
        let slot = self.new_slot(size);
        self.arena.note_booked(slot);
        Some(slot)
    }

    fn release(&mut self, alloc: Alloc) {
        match alloc {
            Alloc::Slot(slot, size) => self.arena.release(slot, size),
            Alloc::Scratch(offset, size) => self.p.scratch.release(offset, size),
            Alloc::Frame(offset, size) => self.p.frame.release(offset, size),
            Alloc::Variable(variable, ty) => self.variables.release(variable, ty),
        }
    }

    /// A variable of the function until the end of the statement. Whoever takes it assigns to it first.
    pub(super) fn temp_var(&mut self, ty: Type) -> Variable {
        let variable = self.variable(ty);
        self.temps.push(Alloc::Variable(variable, ty));
        variable
    }

    fn variable(&mut self, ty: Type) -> Variable {
        match self.variables.reuse(ty) {
            Some(variable) => variable,
            None => self.b.declare_var(ty),
        }
    }

    /// Memory until the end of the statement.
    pub(super) fn temp(&mut self, size: u32) -> Addr {
        let (addr, alloc) = self.alloc_from(size, StackArena::reuse);
        self.temps.push(alloc);
        addr
    }

    /// Memory until the end of the function, for values that variables may point to.
    pub(super) fn permanent(&mut self, size: u32) -> Addr {
        self.alloc(size).0
    }

    /// Eight bytes of stack until the end of the statement: what helpers fill in and keys of numbers.
    pub(super) fn temp_word(&mut self) -> Addr {
        self.temp_stack(8)
    }

    /// Stack for a few bytes, whatever the limit for values is.
    pub(super) fn temp_stack(&mut self, size: u32) -> Addr {
        let slot = match self.arena.reuse(size) {
            Some(slot) => slot,
            None => self.new_slot(size),
        };
        self.temps.push(Alloc::Slot(slot, size));
        Addr::slot(slot)
    }

    /// Frees the temporaries made since there were `mark` of them.
    pub(super) fn release_temps(&mut self, mark: usize) {
        while self.temps.len() > mark {
            if let Some(alloc) = self.temps.pop() {
                self.release(alloc);
            }
        }
    }

    fn local_ty(&self, local: LocalIdx) -> R<&'p Ty> {
        match self.p.locals.get(local.0 as usize) {
            Some(local) => Ok(&local.ty),
            None => self.internal(format!("no variable {}", local.0)),
        }
    }

    /// Gives a variable its place, if it has none yet.
    fn place(&mut self, local: LocalIdx) -> R<Place> {
        let index = local.0 as usize;
        if let Some(Some(place)) = self.p.places.get(index) {
            return Ok(*place);
        }
        let ty = self.local_ty(local)?;
        let usage = self.p.usage[index];
        let place = match scalar_type(ty) {
            Some(clif)
                if !usage.captured
                    && !usage.address_taken
                    && self.variables.has_room(self.m.stack_budget) =>
            {
                Place::Register(self.variable(clif), clif)
            }
            Some(_) if usage.captured => {
                let offset = self.p.frame.alloc(8);
                if !self.p.frame.zeroed.contains(&offset) {
                    self.p.frame.zeroed.push(offset);
                }
                Place::Memory(Addr::frame(offset), Alloc::Frame(offset, 8))
            }
            Some(_) => {
                let (addr, alloc) = self.alloc(8);
                Place::Memory(addr, alloc)
            }
            None => {
                let size = self.size_of(ty)?;
                let small = size <= self.m.program.options.on_stack_limit
                    && self.p.frame.size() + size <= self.m.stack_budget;
                if usage.captured && small {
                    let offset = self.p.frame.alloc(size);
                    Place::Memory(Addr::frame(offset), Alloc::Frame(offset, size))
                } else if usage.captured {
                    // Not on the stack of this function, which others cannot reach.
                    let offset = self.p.scratch.alloc(size);
                    Place::Memory(Addr::scratch(offset), Alloc::Scratch(offset, size))
                } else {
                    let (addr, alloc) = self.alloc(size);
                    Place::Memory(addr, alloc)
                }
            }
        };
        self.p.places[index] = Some(place);
        Ok(place)
    }

    /// Sets where a variable is.
    pub(super) fn set_place(&mut self, local: LocalIdx, place: Place) {
        if let Some(entry) = self.p.places.get_mut(local.0 as usize) {
            *entry = Some(place);
        }
    }

    /// Forgets where a variable is, and frees its memory.
    pub(super) fn drop_local(&mut self, local: LocalIdx) {
        let place = self
            .p
            .places
            .get_mut(local.0 as usize)
            .and_then(Option::take);
        match place {
            Some(Place::Memory(_, alloc)) => self.release(alloc),
            Some(Place::Register(variable, ty)) => self.variables.release(variable, ty),
            Some(Place::Entry { .. }) | None => {}
        }
    }

    /// A variable comes into scope; `assigned` when a value follows at once.
    pub(super) fn declare_local(&mut self, local: LocalIdx, assigned: bool) -> R<()> {
        let place = self.place(local)?;
        if assigned {
            return Ok(());
        }
        let ty = self.local_ty(local)?;
        match place {
            Place::Register(variable, clif) => {
                let zero = self.int(clif, 0);
                self.b.def_var(variable, zero);
            }
            Place::Memory(addr, _) => {
                let size = self
                    .size_of(ty)?
                    .max(u32::from(scalar_type(ty).is_some()) * 8);
                self.zero(addr, u64::from(size));
            }
            Place::Entry { .. } => {}
        }
        Ok(())
    }

    /// A parameter of the function: it has its value already.
    pub(super) fn define_param(&mut self, local: LocalIdx, value: Value) -> R<()> {
        let ty = self.local_ty(local)?;
        if let Some(clif) = scalar_type(ty) {
            let value = self.resize_int(value, clif, false);
            return self.set_local(local, value);
        }
        // Where the caller has the value; the function may change its own.
        match self.place(local)? {
            Place::Memory(addr, _) => {
                self.copy_value(ty, addr, Fill::Exact, Addr::value(value, 8), Fill::Exact)
            }
            _ => self.internal("a parameter in memory that has no memory"),
        }
    }

    /// The value of a scalar variable.
    pub(super) fn get_local(&mut self, local: LocalIdx) -> R<Value> {
        let ty = self.local_ty(local)?;
        let Some(clif) = scalar_type(ty) else {
            return self.internal("a variable in memory where a scalar is expected");
        };
        match self.known_place(local)? {
            Place::Register(variable, _) => Ok(self.b.use_var(variable)),
            Place::Memory(addr, _) => Ok(self.load(clif, addr, Access::Own)),
            Place::Entry { .. } => self.internal("a map entry where a scalar is expected"),
        }
    }

    /// The place of a variable that is read; one that never came into scope does so now.
    fn known_place(&mut self, local: LocalIdx) -> R<Place> {
        if let Some(Some(place)) = self.p.places.get(local.0 as usize) {
            return Ok(*place);
        }
        self.declare_local(local, false)?;
        self.place(local)
    }

    /// Assigns to a scalar variable.
    pub(super) fn set_local(&mut self, local: LocalIdx, value: Value) -> R<()> {
        match self.place(local)? {
            Place::Register(variable, _) => self.b.def_var(variable, value),
            Place::Memory(addr, _) => self.store(value, addr),
            Place::Entry { .. } => {
                return self.unsupported("assigning to the variable of a loop over a map");
            }
        }
        Ok(())
    }

    /// Where a variable that lives in memory is, and which of its bytes are defined.
    pub(super) fn local_memory(&mut self, local: LocalIdx) -> R<(Addr, Fill)> {
        match self.known_place(local)? {
            Place::Memory(addr, _) => {
                let fill = self.local_fill(local)?;
                Ok((addr, fill))
            }
            Place::Register(..) => self.internal("a scalar where a value in memory is expected"),
            Place::Entry { key, value } => self.materialize_entry(local, key, value),
        }
    }

    /// The parts of a loop's variable, if it is not in memory as a whole.
    pub(super) fn local_entry(&self, local: LocalIdx) -> Option<(Addr, EntryValue)> {
        match self.p.places.get(local.0 as usize) {
            Some(Some(Place::Entry { key, value })) => Some((*key, *value)),
            _ => None,
        }
    }

    /// Where a variable that is assigned as a whole is.
    pub(super) fn local_destination(&mut self, local: LocalIdx) -> R<(Addr, Fill)> {
        match self.place(local)? {
            Place::Memory(addr, _) => {
                let fill = self.local_fill(local)?;
                Ok((addr, fill))
            }
            _ => self.unsupported("assigning to the variable of a loop over a map"),
        }
    }

    /// Large strings leave the bytes behind the NUL undefined; all else is exact.
    fn local_fill(&self, local: LocalIdx) -> R<Fill> {
        Ok(match self.local_ty(local)? {
            Ty::Str(n) if *n > SMALL_STRING => Fill::Loose,
            _ => Fill::Exact,
        })
    }

    /// A variable that may not have come into scope yet does so, and is zero.
    pub(super) fn declare_if_new(&mut self, local: LocalIdx) -> R<()> {
        self.known_place(local)?;
        Ok(())
    }

    /// `&$x`.
    pub(super) fn local_address(&mut self, local: LocalIdx) -> R<Value> {
        match self.known_place(local)? {
            Place::Memory(addr, _) => Ok(self.addr_value(addr)),
            _ => self.internal("the address of a variable in a register"),
        }
    }

    /// Copies a map entry that a loop is at into a tuple in memory.
    fn materialize_entry(
        &mut self,
        local: LocalIdx,
        key: Addr,
        value: EntryValue,
    ) -> R<(Addr, Fill)> {
        let ty = self.local_ty(local)?;
        let Ty::Tuple(elements) = ty else {
            return self.internal("the variable of a loop over a map is no tuple");
        };
        let [key_ty, value_ty] = &elements[..] else {
            return self.internal("the variable of a loop over a map is no pair");
        };
        let (offsets, size) = self.m.program.types.tuple_layout(ty);
        let dst = self.temp(u32::try_from(size).unwrap_or(u32::MAX));
        self.zero(dst, size);
        let key_size = u64::from(self.size_of(key_ty)?);
        self.copy(dst.at(offsets[0]), key, key_size);
        match value {
            EntryValue::Number(number) => self.store(number, dst.at(offsets[1])),
            EntryValue::Memory(addr) => {
                let value_size = u64::from(self.size_of(value_ty)?);
                self.copy(dst.at(offsets[1]), addr, value_size);
            }
        }
        Ok((dst, Fill::Exact))
    }

    /// Whether the function runs as a callback of a loop.
    pub(super) fn is_callback(&self) -> bool {
        self.role == Role::Callback
    }
}
