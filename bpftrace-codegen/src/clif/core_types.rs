//! The C types that CO-RE relocations refer to, from the types of the typed program.
//!
//! libbpf finds members by name and then compares only the kinds of types (and sizes of nothing), so
//! pointers are written as `void *` and enums without a name: nothing is dragged in that no relocation
//! needs.

use std::collections::BTreeMap;

use bpftrace_sema::{CSignature, CType, Origin, StructId, Ty, TypeTable};

use crate::object::{Enumerator, Member, Type, TypeGraph, TypeRef};

/// Types of the object's BTF, made on demand.
pub(crate) struct CoreTypes<'p> {
    types: &'p TypeTable,
    graph: TypeGraph,
    structs: BTreeMap<StructId, TypeRef>,
    others: BTreeMap<Simple, TypeRef>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Simple {
    Int(u32, bool),
    Bool,
    Char,
    Ptr,
    Enum(u32),
    Array(TypeRef, u32),
    Enumerator(String),
}

impl<'p> CoreTypes<'p> {
    pub(super) fn new(types: &'p TypeTable) -> Self {
        Self {
            types,
            graph: TypeGraph::new(),
            structs: BTreeMap::new(),
            others: BTreeMap::new(),
        }
    }

    pub(super) fn into_graph(self) -> TypeGraph {
        self.graph
    }

    /// Whether relocations can start at the struct: it is the kernel's and has a name.
    pub(super) fn is_root(&self, id: StructId) -> bool {
        let def = self.types.struct_def(id);
        def.origin == Origin::Kernel && !def.name.is_empty()
    }

    /// A struct or union of the kernel.
    pub(super) fn struct_ref(&mut self, id: StructId) -> TypeRef {
        if let Some(&known) = self.structs.get(&id) {
            return known;
        }
        let at = self.graph.declare();
        self.structs.insert(id, at);
        let types = self.types;
        let def = types.struct_def(id);
        let members = def
            .members
            .iter()
            .map(|member| Member {
                name: member.name.clone(),
                ty: self.type_ref(&member.ty),
                bit_offset: member.bit_offset as u32,
                bitfield_bits: member.bits.map(u32::from),
            })
            .collect();
        self.graph.define(
            at,
            Type::Struct {
                name: def.name.clone(),
                is_union: def.is_union,
                size: u32::try_from(def.size).unwrap_or(u32::MAX),
                members,
            },
        );
        at
    }

    fn type_ref(&mut self, ty: &Ty) -> TypeRef {
        match ty {
            Ty::Void => TypeRef::VOID,
            Ty::Bool => self.simple(Simple::Bool),
            Ty::Int(int) => self.simple(Simple::Int(u32::from(int.size), int.signed)),
            Ty::Enum(_, int) => self.simple(Simple::Enum(u32::from(int.size))),
            Ty::Struct(id, _) => self.struct_ref(*id),
            Ty::Array(element, len, _) => {
                let element = self.type_ref(element);
                self.simple(Simple::Array(element, *len))
            }
            Ty::Str(len) => {
                let element = self.simple(Simple::Char);
                self.simple(Simple::Array(element, *len))
            }
            _ => self.simple(Simple::Ptr),
        }
    }

    /// A struct of the kernel with one member, for the relocation of that member.
    pub(super) fn struct_with(&mut self, name: &str, member: &str, ty: TypeRef) -> TypeRef {
        self.graph.add(Type::Struct {
            name: name.to_owned(),
            is_union: false,
            size: 8,
            members: vec![Member {
                name: member.to_owned(),
                ty,
                bit_offset: 0,
                bitfield_bits: None,
            }],
        })
    }

    /// A function type.
    pub(super) fn function(&mut self, params: &[(&str, TypeRef)], ret: TypeRef) -> TypeRef {
        self.graph.add(Type::Function {
            params: params
                .iter()
                .map(|(name, ty)| ((*name).to_owned(), *ty))
                .collect(),
            ret,
        })
    }

    /// The type of a function of another object. Linking compares names and kinds, and behind pointers not
    /// what structs are made of.
    pub(super) fn c_function(&mut self, signature: &CSignature) -> TypeRef {
        let params = signature.params.iter();
        let params = params.map(|ty| (String::new(), self.c_type(ty))).collect();
        let ret = self.c_type(&signature.ret);
        self.graph.add(Type::Function { params, ret })
    }

    fn c_type(&mut self, ty: &CType) -> TypeRef {
        let ty = match ty {
            CType::Void => return TypeRef::VOID,
            CType::Int {
                name,
                size,
                signed,
                is_bool,
            } => Type::Int {
                name: name.clone(),
                size: u32::from(*size),
                signed: *signed,
                boolean: *is_bool,
            },
            CType::Float(size) => Type::Float {
                name: "double".to_owned(),
                size: u32::from(*size),
            },
            CType::Ptr(to) => Type::Ptr(self.c_type(to)),
            CType::Array(element) => Type::Array {
                element: self.c_type(element),
                len: 1,
            },
            CType::Struct { name, is_union } if name.is_empty() => Type::Struct {
                name: String::new(),
                is_union: *is_union,
                size: 0,
                members: Vec::new(),
            },
            CType::Struct { name, is_union } => Type::Forward {
                name: name.clone(),
                is_union: *is_union,
            },
            CType::Enum { name, size, signed } => Type::Enum {
                name: name.clone(),
                size: u32::from(*size),
                signed: *signed,
                values: Vec::new(),
            },
            CType::Func(signature) => return self.c_function(signature),
        };
        self.graph.add(ty)
    }

    /// `int`.
    pub(super) fn int32(&mut self) -> TypeRef {
        self.simple(Simple::Int(4, true))
    }

    /// `bool`.
    pub(super) fn boolean(&mut self) -> TypeRef {
        self.simple(Simple::Bool)
    }

    /// `unsigned long`.
    pub(super) fn word(&mut self) -> TypeRef {
        self.simple(Simple::Int(8, false))
    }

    /// `void *`.
    pub(super) fn pointer(&mut self) -> TypeRef {
        self.simple(Simple::Ptr)
    }

    /// A pointer with what it points to, as functions of the kernel are compared by; the type of a value
    /// that is a pointer to a struct.
    pub(super) fn pointer_to(&mut self, pointer: &Ty) -> TypeRef {
        match pointer {
            Ty::Ptr(pointee, _) if matches!(**pointee, Ty::Struct(..)) => {
                let to = self.type_ref(pointee);
                self.graph.add(Type::Ptr(to))
            }
            _ => self.simple(Simple::Ptr),
        }
    }

    /// An enum of the kernel with one enumerator, for the relocation of its value.
    ///
    /// libbpf looks for an enum of this name, so it needs the real one.
    pub(super) fn enum_ref(&mut self, enum_name: &str, enumerator: &str, value: i64) -> TypeRef {
        let key = Simple::Enumerator(format!("{enum_name}.{enumerator}"));
        if let Some(&known) = self.others.get(&key) {
            return known;
        }
        let wide = i32::try_from(value).is_err() && u32::try_from(value).is_err();
        let at = self.graph.add(Type::Enum {
            name: enum_name.to_owned(),
            size: if wide { 8 } else { 4 },
            signed: value < 0,
            values: vec![Enumerator {
                name: enumerator.to_owned(),
                value,
            }],
        });
        self.others.insert(key, at);
        at
    }

    fn simple(&mut self, key: Simple) -> TypeRef {
        if let Some(&known) = self.others.get(&key) {
            return known;
        }
        let ty = match &key {
            Simple::Int(size, signed) => {
                let name = match (size, signed) {
                    (1, true) => "signed char",
                    (1, false) => "unsigned char",
                    (2, true) => "short",
                    (2, false) => "unsigned short",
                    (4, true) => "int",
                    (4, false) => "unsigned int",
                    (_, true) => "long",
                    (_, false) => "unsigned long",
                };
                Type::Int {
                    name: name.to_owned(),
                    size: *size,
                    signed: *signed,
                    boolean: false,
                }
            }
            Simple::Bool => Type::Int {
                name: "_Bool".to_owned(),
                size: 1,
                signed: false,
                boolean: true,
            },
            Simple::Char => Type::Int {
                name: "char".to_owned(),
                size: 1,
                signed: true,
                boolean: false,
            },
            Simple::Ptr | Simple::Enumerator(_) => Type::Ptr(TypeRef::VOID),
            Simple::Enum(size) => Type::Enum {
                name: String::new(),
                size: *size,
                signed: false,
                values: Vec::new(),
            },
            Simple::Array(element, len) => Type::Array {
                element: *element,
                len: *len,
            },
        };
        let at = self.graph.add(ty);
        self.others.insert(key, at);
        at
    }
}
