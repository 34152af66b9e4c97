//! Types of a [`TypeSource`] as [`Ty`]s: structs are taken over by name first and completed when a
//! member is looked at, so that one pointer does not pull in half of the kernel.

use std::collections::HashMap;
use std::rc::Rc;

use bpftrace_debuginfo::TypeName;

use crate::typeinfo::{RawMember, RawType, TypeRef, TypeSource};
use crate::{EnumDef, EnumTyId, IntTy, Mem, Member, Origin, StructDef, StructId, Ty, TypeTable};

/// What has been taken over so far.
#[derive(Debug, Default)]
pub(crate) struct Imported {
    /// Structs and enums.
    pub(crate) table: TypeTable,
    types: HashMap<TypeRef, Ty>,
    /// Enums of user programs that the script names.
    program_enums: HashMap<TypeRef, Ty>,
    /// Raw members of structs that are not completed.
    pending: HashMap<StructId, Vec<RawMember>>,
    /// Members of completed structs whose types nobody has asked for.
    unloaded: HashMap<(StructId, u32), TypeRef>,
    /// Structs and (`true`) unions that the script defines itself: these are meant wherever a type
    /// names them.
    replaced: HashMap<(String, bool), StructId>,
    /// Context structures, by name.
    contexts: HashMap<String, Option<StructId>>,
}

/// Pointers to pointers and arrays of arrays go no deeper.
const MAX_DEPTH: u32 = 32;

impl Imported {
    /// Puts a struct of the script in the place of the source's of the same name.
    pub(crate) fn replace_struct(&mut self, name: (String, bool), id: StructId) {
        self.replaced.insert(name, id);
    }

    /// The type behind a reference. By-address types carry [`Mem::Unknown`].
    pub(crate) fn ty(&mut self, source: &dyn TypeSource, ty: TypeRef) -> Ty {
        self.ty_at(source, ty, 0)
    }

    fn ty_at(&mut self, source: &dyn TypeSource, ty: TypeRef, depth: u32) -> Ty {
        if ty.id == 0 || depth > MAX_DEPTH {
            return Ty::Void;
        }
        if let Some(known) = self.types.get(&ty) {
            return known.clone();
        }
        let imported = match source.resolve(ty) {
            RawType::Void | RawType::Float(_) | RawType::Func { .. } => Ty::Void,
            RawType::Int {
                is_bool: true,
                size: 1,
                ..
            } => Ty::Bool,
            RawType::Int { size, signed, .. } => match size {
                1 | 2 | 4 | 8 => Ty::Int(IntTy { size, signed }),
                // `__int128`: two words.
                16 => Ty::Array(Rc::new(Ty::Int(IntTy::U64)), 2, Mem::Unknown),
                _ => Ty::Void,
            },
            RawType::Ptr(to) => Ty::Ptr(Rc::new(self.ty_at(source, to, depth + 1)), Mem::Unknown),
            RawType::Array { element, count } => match self.ty_at(source, element, depth + 1) {
                Ty::Int(IntTy { size: 1, .. })
                    if count > 0 && (!ty.is_of_program() || is_char(&source.resolve(element))) =>
                {
                    Ty::Str(count)
                }
                Ty::Void => Ty::Void,
                element => Ty::Array(Rc::new(element), count, Mem::Unknown),
            },
            RawType::Struct { name, is_union, .. } | RawType::Fwd { name, is_union }
                if !self.replaced.is_empty()
                    && self.replaced.contains_key(&(name.clone(), is_union)) =>
            {
                Ty::Struct(self.replaced[&(name, is_union)], Mem::Unknown)
            }
            RawType::Struct {
                name,
                is_union,
                size,
                members,
            } => {
                let id = self.table.add_struct(StructDef {
                    name,
                    is_union,
                    size,
                    origin: origin_of(ty),
                    members: Vec::new(),
                    complete: false,
                });
                self.pending.insert(id, members);
                Ty::Struct(id, Mem::Unknown)
            }
            RawType::Fwd { name, is_union } => {
                // The definition may be in another object.
                let found = if ty.is_of_program() {
                    let kind = if is_union {
                        TypeName::Union
                    } else {
                        TypeName::Struct
                    };
                    source.program_type(ty.object, kind, &name)
                } else {
                    source.find_struct(&name, is_union)
                };
                match found {
                    Some(found) if found != ty => self.ty_at(source, found, depth + 1),
                    _ => Ty::Struct(
                        self.table.add_struct(StructDef {
                            name,
                            is_union,
                            size: 0,
                            origin: origin_of(ty),
                            members: Vec::new(),
                            complete: true,
                        }),
                        Mem::Unknown,
                    ),
                }
            }
            // Their names are for those who ask for them by a cast.
            RawType::Enum { size, .. } if ty.is_of_program() => Ty::Int(IntTy {
                size: if matches!(size, 1 | 2 | 4 | 8) {
                    size
                } else {
                    4
                },
                signed: false,
            }),
            RawType::Enum {
                name,
                size,
                signed,
                values,
            } => {
                let size = if matches!(size, 1 | 2 | 4 | 8) {
                    size
                } else {
                    4
                };
                let id = self.table.add_enum(EnumDef {
                    name,
                    values,
                    kernel: true,
                });
                Ty::Enum(id, IntTy { size, signed })
            }
            RawType::Typedef { to, .. } | RawType::Tagged { to, .. } => {
                self.ty_at(source, to, depth + 1)
            }
        };
        self.types.insert(ty, imported.clone());
        imported
    }

    /// An enum of a user program, with its names.
    pub(crate) fn program_enum(&mut self, source: &dyn TypeSource, ty: TypeRef) -> Option<Ty> {
        if let Some(known) = self.program_enums.get(&ty) {
            return Some(known.clone());
        }
        let RawType::Enum {
            name,
            size,
            signed,
            values,
        } = source.resolve(ty)
        else {
            return None;
        };
        let size = if matches!(size, 1 | 2 | 4 | 8) {
            size
        } else {
            4
        };
        let id = self.table.add_enum(EnumDef {
            name,
            values,
            kernel: false,
        });
        let made = Ty::Enum(id, IntTy { size, signed });
        self.program_enums.insert(ty, made.clone());
        Some(made)
    }

    /// Fills in the members of a struct. Types of named members stay [`Ty::Void`] until
    /// [`Self::load_member`] asks for them.
    pub(crate) fn complete(&mut self, source: &dyn TypeSource, id: StructId) {
        let Some(raw) = self.pending.remove(&id) else {
            return;
        };
        let mut members = Vec::with_capacity(raw.len());
        for (idx, member) in (0..).zip(raw) {
            // What is in an anonymous member is looked up by name as well.
            let ty = if member.name.is_empty() {
                self.ty(source, member.ty)
            } else {
                self.unloaded.insert((id, idx), member.ty);
                Ty::Void
            };
            members.push(Member {
                ty,
                tag: None,
                name: member.name,
                bit_offset: member.bit_offset,
                bits: member.bits,
                data_loc: false,
            });
        }
        let def = self.table.struct_def_mut(id);
        def.members = members;
        def.complete = true;
    }

    /// Finds the type of a member of a completed struct.
    pub(crate) fn load_member(&mut self, source: &dyn TypeSource, id: StructId, idx: u32) {
        let Some(raw) = self.unloaded.remove(&(id, idx)) else {
            return;
        };
        let ty = self.ty(source, raw);
        let tag = match ty {
            Ty::Ptr(..) => pointer_tag(source, raw),
            _ => None,
        };
        let member = &mut self.table.struct_def_mut(id).members[idx as usize];
        member.ty = ty;
        member.tag = tag;
    }

    /// Completes everything that a value of the type consists of.
    pub(crate) fn complete_value(&mut self, source: &dyn TypeSource, ty: &Ty) {
        let mut todo = vec![ty.clone()];
        let mut seen = std::collections::HashSet::new();
        while let Some(ty) = todo.pop() {
            match ty {
                Ty::Struct(id, _) if seen.insert(id) => {
                    self.complete(source, id);
                    for idx in 0..self.table.struct_def(id).members.len() {
                        self.load_member(source, id, u32::try_from(idx).unwrap_or(u32::MAX));
                    }
                    todo.extend(
                        self.table
                            .struct_def(id)
                            .members
                            .iter()
                            .map(|m| m.ty.clone()),
                    );
                }
                Ty::Array(element, ..) => todo.push((*element).clone()),
                Ty::Tuple(elements) => todo.extend(elements.iter().cloned()),
                Ty::Record(fields) => todo.extend(fields.iter().map(|(_, ty)| ty.clone())),
                _ => {}
            }
        }
    }

    /// A kernel struct as the layout of a program's context.
    pub(crate) fn context_struct(
        &mut self,
        source: &dyn TypeSource,
        name: &str,
    ) -> Option<StructId> {
        if let Some(known) = self.contexts.get(name) {
            return *known;
        }
        let found = source
            .find_struct(name, false)
            .and_then(|ty| match source.resolve(ty) {
                RawType::Struct {
                    name,
                    is_union,
                    size,
                    members,
                } => {
                    let id = self.table.add_struct(StructDef {
                        name,
                        is_union,
                        size,
                        origin: Origin::Context,
                        members: Vec::new(),
                        complete: false,
                    });
                    self.pending.insert(id, members);
                    Some(id)
                }
                _ => None,
            });
        self.contexts.insert(name.to_owned(), found);
        found
    }

    /// The enum that a kernel enumerator belongs to.
    pub(crate) fn enum_ty(
        &mut self,
        source: &dyn TypeSource,
        ty: TypeRef,
    ) -> Option<(EnumTyId, IntTy)> {
        match self.ty(source, ty) {
            Ty::Enum(id, int) => Some((id, int)),
            _ => None,
        }
    }
}

fn origin_of(ty: TypeRef) -> Origin {
    if ty.is_of_program() {
        Origin::User
    } else if ty.is_of_import() {
        // Its code uses the same layout.
        Origin::Script
    } else {
        Origin::Kernel
    }
}

fn is_char(ty: &RawType) -> bool {
    matches!(ty, RawType::Int { name, .. } if name == "char")
}

/// The tag of a pointer type, as `user`: BTF puts it between the pointer and what it points to.
fn pointer_tag(source: &dyn TypeSource, mut ty: TypeRef) -> Option<String> {
    for _ in 0..MAX_DEPTH {
        match source.resolve(ty) {
            RawType::Typedef { to, .. } => ty = to,
            RawType::Tagged { tag, .. } => return Some(tag),
            RawType::Ptr(to) if to.id != 0 => {
                return match source.resolve(to) {
                    RawType::Tagged { tag, .. } => Some(tag),
                    _ => None,
                };
            }
            _ => return None,
        }
    }
    None
}

/// The tag of a parameter's pointer type.
pub(crate) fn param_tag(source: &dyn TypeSource, ty: TypeRef) -> Option<String> {
    pointer_tag(source, ty)
}
