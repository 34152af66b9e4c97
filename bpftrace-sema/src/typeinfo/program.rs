//! Types of user programs, from their debug information.

use std::cell::RefCell;
use std::rc::Rc;

use bpftrace_debuginfo::{DebugInfo, TypeId, TypeKind, TypeName};

use super::{ProgramParam, RawMember, RawType, TypeRef};

/// The object of the first executable or library that types are taken from.
pub const FIRST_PROGRAM: u32 = 1 << 31;

/// The programs that were asked for.
#[derive(Debug, Default)]
pub(super) struct Programs {
    /// By path; `None` when there is no debug information.
    opened: RefCell<Vec<(String, Option<Rc<DebugInfo>>)>>,
}

impl Programs {
    /// The object of a path, which is opened when it is asked for first.
    pub(super) fn find(&self, path: &str, open: impl FnOnce() -> Option<DebugInfo>) -> Option<u32> {
        let known = self.opened.borrow().iter().position(|(p, _)| p == path);
        let at = known.unwrap_or_else(|| {
            let opened = open().map(Rc::new);
            let mut all = self.opened.borrow_mut();
            all.push((path.to_owned(), opened));
            all.len() - 1
        });
        self.opened.borrow()[at].1.as_ref()?;
        Some(FIRST_PROGRAM + at as u32)
    }

    pub(super) fn get(&self, object: u32) -> Option<Rc<DebugInfo>> {
        let at = object.checked_sub(FIRST_PROGRAM)?;
        self.opened.borrow().get(at as usize)?.1.clone()
    }

    pub(super) fn find_type(&self, object: u32, kind: TypeName, name: &str) -> Option<TypeRef> {
        let id = self.get(object)?.find_type(kind, name)?.0;
        Some(TypeRef { object, id })
    }

    pub(super) fn params(&self, object: u32, function: &str) -> Option<Vec<ProgramParam>> {
        let params = self.get(object)?.function_params(function)?;
        let params = params.into_iter().map(|param| ProgramParam {
            name: param.name,
            ty: TypeRef {
                object,
                id: param.ty.0,
            },
            by_reference: param.by_reference,
        });
        Some(params.collect())
    }

    pub(super) fn resolve(&self, at: TypeRef) -> RawType {
        let Some(info) = self.get(at.object) else {
            return RawType::Void;
        };
        let reference = |ty: TypeId| TypeRef {
            object: at.object,
            id: ty.0,
        };
        let small = |size: u64| u8::try_from(size).unwrap_or(0);
        match info.resolve(TypeId(at.id)) {
            TypeKind::Void => RawType::Void,
            TypeKind::Bool => RawType::Int {
                name: "bool".to_owned(),
                size: 1,
                signed: false,
                is_bool: false,
            },
            TypeKind::Int {
                size,
                signed,
                is_char,
                name,
            } => RawType::Int {
                // Arrays of characters are texts, those of other bytes are not.
                name: if is_char { "char".to_owned() } else { name },
                size: small(size),
                signed,
                is_bool: false,
            },
            TypeKind::Float(size) => RawType::Float(small(size)),
            TypeKind::Pointer(to) => RawType::Ptr(reference(to)),
            TypeKind::Array { element, count } => RawType::Array {
                element: reference(element),
                count: u32::try_from(count).unwrap_or(u32::MAX),
            },
            TypeKind::Struct {
                name,
                is_union,
                size,
                fields,
            } => RawType::Struct {
                name,
                is_union,
                size,
                members: fields
                    .into_iter()
                    .map(|field| RawMember {
                        name: field.name,
                        ty: reference(field.ty),
                        bit_offset: field.bit_offset,
                        bits: field.bits,
                    })
                    .collect(),
            },
            TypeKind::Declared { name, is_union } => RawType::Fwd { name, is_union },
            TypeKind::Enum {
                name,
                size,
                signed,
                values,
            } => RawType::Enum {
                name,
                size: small(size),
                signed,
                values,
            },
            TypeKind::Typedef { name, to } => RawType::Typedef {
                name,
                to: reference(to),
            },
            TypeKind::Function => RawType::Func {
                params: Vec::new(),
                ret: reference(TypeId::VOID),
            },
        }
    }
}
