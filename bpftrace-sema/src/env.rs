//! What is known about variables and maps while types are being found out. It only ever grows, but for
//! pointers to variables that have grown: rounds over the script go on until nothing changes.

use std::collections::{BTreeMap, HashMap, HashSet};

use bpftrace_ast::source::Span;

use crate::join::{self, Literals};
use crate::{DeclaredMap, LocalIdx, Mem, Ty, TypeTable};

/// The type of a variable, key or value, as far as it is known.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TyState {
    /// `None`: nothing says yet.
    pub(crate) ty: Option<Ty>,
    /// Where only integer literals were seen.
    pub(crate) literals: Literals,
    /// The memory that the number, if it is an address, points to.
    pub(crate) space: Mem,
    /// Declared in the script, so that it does not widen.
    pub(crate) fixed: bool,
    /// Declared with a type that does not say whose memory an address is in.
    pub(crate) learns_space: bool,
    /// Declared, and assigned addresses in memory of several kinds.
    pub(crate) mixed: bool,
}

impl Default for TyState {
    fn default() -> Self {
        Self {
            ty: None,
            literals: Literals::None,
            space: Mem::Unknown,
            fixed: false,
            learns_space: false,
            mixed: false,
        }
    }
}

/// The memory that a value of this type is in or points to.
fn mem_of(ty: &Ty) -> Option<Mem> {
    match ty {
        Ty::Ptr(_, mem) | Ty::Struct(_, mem) | Ty::Array(_, _, mem) => Some(*mem),
        _ => None,
    }
}

fn with_mem(ty: Ty, mem: Mem) -> Ty {
    match ty {
        Ty::Ptr(pointee, _) => Ty::Ptr(pointee, mem),
        Ty::Struct(id, _) => Ty::Struct(id, mem),
        Ty::Array(element, n, _) => Ty::Array(element, n, mem),
        other => other,
    }
}

/// Whether there are pointers to one of these types in a type, at any depth.
fn points_to(ty: &Ty, pointees: &HashSet<Ty>) -> bool {
    match ty {
        Ty::Ptr(to, _) => pointees.contains(&**to) || points_to(to, pointees),
        Ty::Array(element, ..) => points_to(element, pointees),
        Ty::Tuple(elements) => elements.iter().any(|ty| points_to(ty, pointees)),
        Ty::Record(fields) => fields.iter().any(|(_, ty)| points_to(ty, pointees)),
        _ => false,
    }
}

/// What came of an attempt to take over a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Merged {
    /// Nothing new.
    Same,
    /// The type is wider now, or known for the first time.
    Changed,
    /// The types have nothing in common.
    Mismatch,
}

impl TyState {
    /// Takes over the type of one more value.
    pub(crate) fn merge(
        &mut self,
        ty: &Ty,
        literals: &Literals,
        space: Mem,
        types: &TypeTable,
    ) -> Merged {
        let Some(old) = &self.ty else {
            self.ty = Some(ty.clone());
            self.literals = literals.clone();
            self.space = space;
            return Merged::Changed;
        };
        if self.fixed {
            return self.learn_space(ty);
        }
        let space = join::join_mem(self.space, space);
        let space_changed = space != self.space;
        self.space = space;
        let Some((new, literals)) =
            join::join_with_literals((old, &self.literals), (ty, literals), types)
        else {
            return Merged::Mismatch;
        };
        if new == *old && literals == self.literals {
            return if space_changed {
                Merged::Changed
            } else {
                Merged::Same
            };
        }
        self.ty = Some(new);
        self.literals = literals;
        Merged::Changed
    }

    /// Forgets the type if it is that of pointers to something of one of these types: the next round finds it again.
    pub(crate) fn forget_pointers_to(&mut self, pointees: &HashSet<Ty>) {
        if !self.fixed && self.ty.as_ref().is_some_and(|ty| points_to(ty, pointees)) {
            *self = Self::default();
        }
    }

    /// Takes over a declared type, but for whose memory its values have turned out to be in.
    pub(crate) fn declare(&mut self, declared: Ty) -> Merged {
        let known = self.ty.as_ref().and_then(mem_of);
        self.learns_space = mem_of(&declared) == Some(Mem::Unknown);
        let ty = match known {
            Some(mem) if self.fixed && self.learns_space => with_mem(declared, mem),
            _ => declared,
        };
        if self.fixed && self.ty.as_ref() == Some(&ty) {
            return Merged::Same;
        }
        self.ty = Some(ty);
        self.fixed = true;
        Merged::Changed
    }

    /// Where a declared type does not say whose memory an address is in, what is assigned does.
    fn learn_space(&mut self, given: &Ty) -> Merged {
        let Some(declared) = &self.ty else {
            return Merged::Same;
        };
        let (Some(known), Some(mem)) = (mem_of(declared), mem_of(given)) else {
            return Merged::Same;
        };
        // It may be nowhere yet, so that none is followed without the kernel's help.
        let learnt = match mem {
            Mem::Unknown => return Merged::Same,
            Mem::User => Mem::User,
            Mem::Kernel | Mem::Btf | Mem::Bpf | Mem::Ctx => Mem::Kernel,
        };
        let joined = match known {
            _ if self.mixed || !self.learns_space => return Merged::Same,
            Mem::Unknown => learnt,
            _ if known == learnt => return Merged::Same,
            _ => {
                self.mixed = true;
                Mem::Unknown
            }
        };
        self.ty = Some(with_mem(declared.clone(), joined));
        Merged::Changed
    }
}

/// Whether a map has keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum KeyState {
    /// Not used yet.
    #[default]
    Unused,
    /// One value, no key.
    Scalar,
    /// A value for each key.
    Keyed(TyState),
}

/// A map of the script.
#[derive(Clone, Debug)]
pub(crate) struct MapState {
    /// Key.
    pub(crate) key: KeyState,
    /// Value.
    pub(crate) value: TyState,
    /// First use, or declaration.
    pub(crate) span: Span,
    /// `let @m = ...`.
    pub(crate) declared: Option<DeclaredMap>,
    /// Whether anything but a declaration names it.
    pub(crate) used: bool,
    /// Whether anything is ever written to it.
    pub(crate) written: bool,
    /// Whether its values are integers only because nothing says otherwise.
    pub(crate) assumed: bool,
    /// Where something asks for it that makes no sense without values.
    pub(crate) asked: Option<Span>,
    /// Whether it was counted up or down when its type was not known.
    pub(crate) stepped: bool,
}

/// A variable of a unit.
#[derive(Clone, Debug)]
pub(crate) struct LocalState {
    /// Name without sigil.
    pub(crate) name: String,
    /// Declaration or first assignment.
    pub(crate) span: Span,
    /// Type.
    pub(crate) state: TyState,
    /// How many assignments this round has seen.
    pub(crate) n_assignments: u32,
    /// How many of these are `++` and `--`, which give no first value.
    pub(crate) n_steps: u32,
    /// There are several assignments: what the verifier knows about a pointer is lost then.
    pub(crate) several: bool,
    /// Assigned so far in this round.
    pub(crate) assigned: bool,
    /// Declared with `let`, so that nothing may ever be assigned.
    pub(crate) declared: bool,
    /// What is said of the place where it comes from.
    pub(crate) origin: &'static str,
    /// Whether something reads it.
    pub(crate) used: bool,
    /// Whether something has its address.
    pub(crate) address_taken: bool,
}

/// Variables of one unit. Numbers stay the same from round to round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Locals {
    all: Vec<LocalState>,
    by_place: HashMap<(String, Span), LocalIdx>,
}

impl Locals {
    /// The variable that is declared at a place.
    pub(crate) fn declare(&mut self, name: &str, span: Span) -> LocalIdx {
        let key = (name.to_owned(), span);
        if let Some(&known) = self.by_place.get(&key) {
            return known;
        }
        let idx = LocalIdx(u32::try_from(self.all.len()).unwrap_or(u32::MAX));
        self.all.push(LocalState {
            name: name.to_owned(),
            span,
            state: TyState::default(),
            n_assignments: 0,
            n_steps: 0,
            several: false,
            assigned: false,
            declared: false,
            origin: "This is the initial assignment.",
            used: false,
            address_taken: false,
        });
        self.by_place.insert(key, idx);
        idx
    }

    /// A variable.
    pub(crate) fn get(&self, idx: LocalIdx) -> &LocalState {
        &self.all[idx.0 as usize]
    }

    /// A variable.
    pub(crate) fn get_mut(&mut self, idx: LocalIdx) -> &mut LocalState {
        &mut self.all[idx.0 as usize]
    }

    /// All variables in the order of their numbers.
    pub(crate) fn all(&self) -> &[LocalState] {
        &self.all
    }

    /// Takes over the type of one more value of a variable. Its old type is given back where others may have
    /// its address, and what they know is out of date.
    pub(crate) fn merge(
        &mut self,
        idx: LocalIdx,
        ty: &Ty,
        literals: &Literals,
        space: Mem,
        types: &TypeTable,
    ) -> (Merged, Option<Ty>) {
        self.change(idx, |state| state.merge(ty, literals, space, types))
    }

    /// Takes over the declared type of a variable, and gives its old one back as [`Locals::merge`] does: what
    /// `typeof` gives may grow from round to round.
    pub(crate) fn declare_type(&mut self, idx: LocalIdx, ty: Ty) -> (Merged, Option<Ty>) {
        self.change(idx, |state| state.declare(ty))
    }

    fn change(
        &mut self,
        idx: LocalIdx,
        change: impl FnOnce(&mut TyState) -> Merged,
    ) -> (Merged, Option<Ty>) {
        let local = self.get_mut(idx);
        let old = local.state.ty.clone().filter(|_| local.address_taken);
        let merged = change(&mut local.state);
        let widened = old.filter(|old| local.state.ty.as_ref() != Some(old));
        (merged, widened)
    }

    /// Forgets the types of all variables that point to something of one of these types.
    pub(crate) fn forget_pointers_to(&mut self, pointees: &HashSet<Ty>) {
        for local in &mut self.all {
            local.state.forget_pointers_to(pointees);
        }
    }

    /// Forgets what belongs to one round only.
    pub(crate) fn start_round(&mut self) {
        for local in &mut self.all {
            local.several |= local.n_assignments > 1;
            local.assigned = false;
            local.used = false;
            local.n_assignments = 0;
            local.n_steps = 0;
        }
    }
}

/// Maps by name, without sigil.
pub(crate) type Maps = BTreeMap<String, MapState>;
