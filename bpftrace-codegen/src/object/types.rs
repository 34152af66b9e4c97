//! Full descriptions of C types, from which the writer takes what it needs.

/// A type in a [`TypeGraph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeRef(u32);

impl TypeRef {
    /// `void`, which every graph has.
    pub const VOID: TypeRef = TypeRef(0);

    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// The types that an object talks about, complete as the producer knows them.
///
/// Adding a type costs nothing in the object: only what a map, a function, an extern or a CO-RE
/// relocation needs of it is written.
///
/// A type that refers to itself is made in two steps, [`TypeGraph::declare`] and
/// [`TypeGraph::define`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeGraph {
    types: Vec<Type>,
}

/// A C type. Sizes are in bytes, on the BPF target (pointers take 8).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// `void`; also what a pointer to an unknown type points to.
    Void,
    /// An integer, including `char` and `bool`.
    Int {
        /// Its C name, such as "unsigned int".
        name: String,
        /// Size: 1, 2, 4, 8 or 16.
        size: u32,
        /// Whether it is signed.
        signed: bool,
        /// Whether it is `_Bool`.
        boolean: bool,
    },
    /// A floating-point number.
    Float {
        /// Its C name.
        name: String,
        /// Size: 2, 4, 8, 12 or 16.
        size: u32,
    },
    /// A pointer.
    Ptr(TypeRef),
    /// An array.
    Array {
        /// Type of the elements.
        element: TypeRef,
        /// Number of elements; 0 for a flexible array member.
        len: u32,
    },
    /// A struct or union.
    Struct {
        /// Its tag; empty when anonymous.
        name: String,
        /// Whether it is a union.
        is_union: bool,
        /// Size.
        size: u32,
        /// All its members, in the order of the declaration.
        members: Vec<Member>,
    },
    /// An enumeration.
    Enum {
        /// Its tag; empty when anonymous.
        name: String,
        /// Size: 1, 2, 4 or 8.
        size: u32,
        /// Whether its values are signed.
        signed: bool,
        /// Its enumerators, in the order of the declaration.
        values: Vec<Enumerator>,
    },
    /// A struct or union that is declared and never defined.
    Forward {
        /// Its tag.
        name: String,
        /// Whether it is a union.
        is_union: bool,
    },
    /// Another name for a type.
    Typedef {
        /// The name.
        name: String,
        /// The type.
        target: TypeRef,
    },
    /// A `const` type.
    Const(TypeRef),
    /// A `volatile` type.
    Volatile(TypeRef),
    /// A type with a tag, such as `__user` or `__rcu` behind a pointer.
    TypeTag {
        /// The tag, such as "user".
        tag: String,
        /// The type.
        target: TypeRef,
    },
    /// A function, as a pointer to it or an extern needs it.
    Function {
        /// Names (possibly empty) and types of the parameters.
        params: Vec<(String, TypeRef)>,
        /// Type of the result.
        ret: TypeRef,
    },
}

/// A member of a struct or union.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    /// Its name; empty for an anonymous struct or union.
    pub name: String,
    /// Its type.
    pub ty: TypeRef,
    /// Offset in bits from the start of the struct.
    pub bit_offset: u32,
    /// Its width, if it is a bit-field.
    pub bitfield_bits: Option<u32>,
}

/// One value of an enumeration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Enumerator {
    /// Its name.
    pub name: String,
    /// Its value; for an unsigned enumeration the bits of the unsigned number.
    pub value: i64,
}

impl Default for TypeGraph {
    fn default() -> Self {
        TypeGraph {
            types: vec![Type::Void],
        }
    }
}

impl TypeGraph {
    /// A graph that knows `void` only.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a type.
    pub fn add(&mut self, ty: Type) -> TypeRef {
        let index = u32::try_from(self.types.len()).expect("fewer than 2^32 types");
        self.types.push(ty);
        TypeRef(index)
    }

    /// Reserves a place for a type that is still to be [defined](TypeGraph::define). Until then it is
    /// `void`.
    pub fn declare(&mut self) -> TypeRef {
        self.add(Type::Void)
    }

    /// Fills in a declared type.
    pub fn define(&mut self, at: TypeRef, ty: Type) {
        self.types[at.index()] = ty;
    }

    /// The type behind a reference that this graph handed out.
    pub fn get(&self, at: TypeRef) -> &Type {
        &self.types[at.index()]
    }

    /// Shorthand for an integer that is not `bool`.
    pub fn int(&mut self, name: &str, size: u32, signed: bool) -> TypeRef {
        self.add(Type::Int {
            name: name.to_owned(),
            size,
            signed,
            boolean: false,
        })
    }

    /// Shorthand for a pointer.
    pub fn ptr(&mut self, target: TypeRef) -> TypeRef {
        self.add(Type::Ptr(target))
    }

    /// The type without typedefs, qualifiers and tags, and a reference to it.
    pub fn resolve(&self, at: TypeRef) -> (TypeRef, &Type) {
        let mut at = at;
        // A chain longer than the graph goes in circles.
        for _ in 0..self.types.len() {
            match self.get(at) {
                Type::Typedef { target, .. }
                | Type::Const(target)
                | Type::Volatile(target)
                | Type::TypeTag { target, .. } => at = *target,
                ty => return (at, ty),
            }
        }
        (TypeRef::VOID, self.get(TypeRef::VOID))
    }

    /// The size of a type in bytes; `None` for one without a size.
    pub fn size_of(&self, at: TypeRef) -> Option<u32> {
        let mut at = at;
        let mut factor = 1u32;
        for _ in 0..=self.types.len() {
            let (_, ty) = self.resolve(at);
            let size = match ty {
                Type::Int { size, .. }
                | Type::Float { size, .. }
                | Type::Struct { size, .. }
                | Type::Enum { size, .. } => *size,
                Type::Ptr(_) => 8,
                Type::Array { element, len } => {
                    factor = factor.checked_mul(*len)?;
                    at = *element;
                    continue;
                }
                _ => return None,
            };
            return factor.checked_mul(size);
        }
        None
    }
}
