//! Types of a program.

use std::collections::HashMap;

use gimli::{AttributeValue, DwTag};

use crate::DebugInfo;
use crate::elf::Bytes;
use crate::index::is_declaration;
use crate::unit::{Entry, Place};

/// A type of a [`DebugInfo`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TypeId(pub u32);

impl TypeId {
    /// `void`.
    pub const VOID: Self = Self(0);
}

/// What a name is looked up as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TypeName {
    /// `struct` and `class`.
    Struct,
    /// `union`.
    Union,
    /// `enum`.
    Enum,
    /// A typedef or a type of the language.
    Typedef,
}

/// A type. Qualifiers are gone, typedefs are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TypeKind {
    /// `void`, and what nothing is known about.
    Void,
    /// `bool`.
    Bool,
    /// An integer.
    Int {
        /// Name.
        name: String,
        /// Bytes.
        size: u64,
        /// Two's complement.
        signed: bool,
        /// Whether it is a character.
        is_char: bool,
    },
    /// A floating-point number of so many bytes.
    Float(u64),
    /// A pointer or reference.
    Pointer(TypeId),
    /// An array.
    Array {
        /// Element.
        element: TypeId,
        /// Number of elements; 0 when the type does not say.
        count: u64,
    },
    /// A struct, class or union.
    Struct {
        /// Name; empty when anonymous.
        name: String,
        /// Whether it is a union.
        is_union: bool,
        /// Bytes.
        size: u64,
        /// Members in order; base classes are members without name.
        fields: Vec<Field>,
    },
    /// A struct, class or union that is declared only.
    Declared {
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
        size: u64,
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
        to: TypeId,
    },
    /// A function.
    Function,
}

/// A member of a [`TypeKind::Struct`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Name; empty when anonymous.
    pub name: String,
    /// Type.
    pub ty: TypeId,
    /// Offset in bits.
    pub bit_offset: u64,
    /// Width in bits of a bit-field.
    pub bits: Option<u8>,
}

/// What a number of a type stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Known {
    place: Place,
    /// Of an array: how many of its dimensions are left out.
    dimension: u32,
}

/// Types that were asked for. Numbers are one more than the index; 0 is `void`.
#[derive(Debug, Default)]
pub(crate) struct Interned {
    known: Vec<Known>,
    numbers: HashMap<Known, TypeId>,
}

/// Qualifiers and names in spellings nest no deeper.
const MAX_DEPTH: u32 = 32;

pub(crate) fn is_qualifier(tag: DwTag) -> bool {
    matches!(
        tag,
        gimli::DW_TAG_const_type
            | gimli::DW_TAG_volatile_type
            | gimli::DW_TAG_restrict_type
            | gimli::DW_TAG_atomic_type
            | gimli::DW_TAG_immutable_type
            | gimli::DW_TAG_packed_type
    )
}

impl DebugInfo {
    pub(crate) fn intern(&self, place: Option<Place>) -> TypeId {
        match place {
            Some(place) => self.intern_array(place, 0),
            None => TypeId::VOID,
        }
    }

    fn intern_array(&self, place: Place, dimension: u32) -> TypeId {
        let known = Known { place, dimension };
        let mut types = self.types.borrow_mut();
        if let Some(number) = types.numbers.get(&known) {
            return *number;
        }
        types.known.push(known);
        let number = TypeId(types.known.len() as u32);
        types.numbers.insert(known, number);
        number
    }

    /// The type of a name; qualified names (`a::b`) are looked up as such.
    #[must_use]
    pub fn find_type(&self, kind: TypeName, name: &str) -> Option<TypeId> {
        let place = self.index().type_named(kind, name)?;
        Some(self.intern(Some(place)))
    }

    /// What a type is.
    #[must_use]
    pub fn resolve(&self, ty: TypeId) -> TypeKind {
        self.resolve_at(ty, 0).unwrap_or(TypeKind::Void)
    }

    fn known(&self, ty: TypeId) -> Option<Known> {
        let at = (ty.0 as usize).checked_sub(1)?;
        self.types.borrow().known.get(at).copied()
    }

    fn resolve_at(&self, ty: TypeId, depth: u32) -> Option<TypeKind> {
        let Known { place, dimension } = self.known(ty)?;
        let units = &self.units;
        let entry = units.entry(place)?;
        let to = || self.intern(units.type_of(place, &entry));
        let name = || units.name(place, &entry);
        Some(match entry.tag() {
            gimli::DW_TAG_base_type => self.base_type(place, &entry),
            gimli::DW_TAG_pointer_type
            | gimli::DW_TAG_reference_type
            | gimli::DW_TAG_rvalue_reference_type => TypeKind::Pointer(to()),
            gimli::DW_TAG_typedef => TypeKind::Typedef {
                name: name(),
                to: to(),
            },
            tag if is_qualifier(tag) && depth < MAX_DEPTH => self.resolve_at(to(), depth + 1)?,
            gimli::DW_TAG_structure_type | gimli::DW_TAG_class_type | gimli::DW_TAG_union_type => {
                let is_union = entry.tag() == gimli::DW_TAG_union_type;
                if is_declaration(&entry) {
                    return Some(TypeKind::Declared {
                        name: name(),
                        is_union,
                    });
                }
                TypeKind::Struct {
                    name: name(),
                    is_union,
                    size: number(&entry, gimli::DW_AT_byte_size).unwrap_or(0),
                    fields: self.fields(place),
                }
            }
            gimli::DW_TAG_enumeration_type => self.enumeration(place, &entry),
            gimli::DW_TAG_array_type => {
                let counts = self.dimensions(place);
                let last = counts.len().saturating_sub(1);
                let at = dimension as usize;
                TypeKind::Array {
                    element: if at < last {
                        self.intern_array(place, dimension + 1)
                    } else {
                        to()
                    },
                    count: counts.get(at).copied().unwrap_or(0),
                }
            }
            gimli::DW_TAG_subroutine_type => TypeKind::Function,
            _ => TypeKind::Void,
        })
    }

    fn base_type(&self, place: Place, entry: &Entry) -> TypeKind {
        let size = number(entry, gimli::DW_AT_byte_size).unwrap_or(0);
        let encoding = match entry.attr_value(gimli::DW_AT_encoding) {
            Some(AttributeValue::Encoding(encoding)) => encoding,
            _ => return TypeKind::Void,
        };
        let int = |signed, is_char| TypeKind::Int {
            name: self.units.name(place, entry),
            size,
            signed,
            is_char,
        };
        match encoding {
            gimli::DW_ATE_boolean => TypeKind::Bool,
            gimli::DW_ATE_signed => int(true, false),
            gimli::DW_ATE_signed_char => int(true, true),
            gimli::DW_ATE_unsigned | gimli::DW_ATE_address => int(false, false),
            gimli::DW_ATE_unsigned_char => int(false, true),
            gimli::DW_ATE_UTF => int(false, size == 1),
            gimli::DW_ATE_float => TypeKind::Float(size),
            _ => TypeKind::Void,
        }
    }

    fn enumeration(&self, place: Place, entry: &Entry) -> TypeKind {
        let mut values = Vec::new();
        for (at, child) in self.units.children(place) {
            if child.tag() == gimli::DW_TAG_enumerator {
                let value = child.attr_value(gimli::DW_AT_const_value);
                let value = value.and_then(|v| {
                    v.sdata_value()
                        .or_else(|| v.udata_value().map(u64::cast_signed))
                });
                values.push((value.unwrap_or(0), self.units.name(at, &child)));
            }
        }
        let base = self.units.type_of(place, entry);
        let base = base.map(|base| self.resolve(self.intern(Some(base))));
        let signed = match base {
            Some(TypeKind::Int { signed, .. }) => signed,
            _ => values.iter().any(|(value, _)| *value < 0),
        };
        TypeKind::Enum {
            name: self.units.name(place, entry),
            size: number(entry, gimli::DW_AT_byte_size).unwrap_or(4),
            signed,
            values,
        }
    }

    /// Numbers of elements of an array, outermost first.
    fn dimensions(&self, place: Place) -> Vec<u64> {
        let children = self.units.children(place).into_iter();
        children
            .filter(|(_, child)| child.tag() == gimli::DW_TAG_subrange_type)
            .map(|(_, child)| {
                let bound = number(&child, gimli::DW_AT_upper_bound);
                // An array without any elements has an upper bound of -1.
                bound
                    .map(|bound| bound.wrapping_add(1))
                    .or_else(|| number(&child, gimli::DW_AT_count))
                    .unwrap_or(0)
            })
            .collect()
    }

    fn fields(&self, place: Place) -> Vec<Field> {
        let mut fields = Vec::new();
        for (at, child) in self.units.children(place) {
            match child.tag() {
                gimli::DW_TAG_member | gimli::DW_TAG_inheritance => {
                    fields.extend(self.field(at, &child));
                }
                // Of a Rust enum: the members of every variant, by the variants' names.
                gimli::DW_TAG_variant_part => {
                    for (variant, _) in self.units.children(at) {
                        for (at, member) in self.units.children(variant) {
                            if member.tag() == gimli::DW_TAG_member {
                                fields.extend(self.field(at, &member));
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        fields
    }

    fn field(&self, at: Place, entry: &Entry) -> Option<Field> {
        // Static members are elsewhere.
        if is_declaration(entry) || entry.has_attr(gimli::DW_AT_external) {
            return None;
        }
        let start = match entry.attr_value(gimli::DW_AT_data_member_location) {
            None => 0,
            Some(value) => constant(&value)?.checked_mul(8)?,
        };
        let bits = number(entry, gimli::DW_AT_bit_size);
        let bit_offset = match (bits, number(entry, gimli::DW_AT_data_bit_offset)) {
            (_, Some(offset)) => offset,
            // Counted from the most significant bit of what holds it.
            (Some(bits), None) => match number(entry, gimli::DW_AT_bit_offset) {
                Some(from_top) => {
                    let size = match number(entry, gimli::DW_AT_byte_size) {
                        Some(size) => size,
                        None => self.size(self.intern(self.units.type_of(at, entry)), 0),
                    };
                    let end = (start + size * 8).checked_sub(from_top)?;
                    end.checked_sub(bits)?
                }
                None => start,
            },
            (None, None) => start,
        };
        let is_base = entry.tag() == gimli::DW_TAG_inheritance;
        Some(Field {
            name: if is_base {
                String::new()
            } else {
                self.units.name(at, entry)
            },
            ty: self.intern(self.units.type_of(at, entry)),
            bit_offset,
            bits: bits
                .and_then(|bits| u8::try_from(bits).ok())
                .filter(|b| *b > 0),
        })
    }

    fn size(&self, ty: TypeId, depth: u32) -> u64 {
        match self.resolve(ty) {
            TypeKind::Bool => 1,
            TypeKind::Int { size, .. }
            | TypeKind::Float(size)
            | TypeKind::Enum { size, .. }
            | TypeKind::Struct { size, .. } => size,
            TypeKind::Pointer(_) => 8,
            TypeKind::Typedef { to, .. } if depth < MAX_DEPTH => self.size(to, depth + 1),
            _ => 0,
        }
    }

    /// A type as listings spell it.
    #[must_use]
    pub fn spell(&self, ty: TypeId) -> String {
        self.spell_at(self.known(ty).map(|known| known.place), 0)
    }

    fn spell_at(&self, place: Option<Place>, depth: u32) -> String {
        const UNKNOWN: &str = "<unknown type>";
        let Some(place) = place else {
            return UNKNOWN.to_owned();
        };
        let Some(entry) = self.units.entry(place).filter(|_| depth < MAX_DEPTH) else {
            return UNKNOWN.to_owned();
        };
        let to = self.units.type_of(place, &entry);
        let tagged = |keyword: &str| {
            let name = self.units.name(place, &entry);
            let name = if name.is_empty() {
                "<anonymous>"
            } else {
                &name
            };
            format!("{keyword} {name}")
        };
        match entry.tag() {
            gimli::DW_TAG_base_type | gimli::DW_TAG_typedef => self.units.name(place, &entry),
            gimli::DW_TAG_pointer_type => match to {
                Some(to) => format!("{}*", self.spell_at(Some(to), depth + 1)),
                None => "void*".to_owned(),
            },
            gimli::DW_TAG_reference_type => format!("{}&", self.spell_at(to, depth + 1)),
            gimli::DW_TAG_rvalue_reference_type => format!("{}&&", self.spell_at(to, depth + 1)),
            gimli::DW_TAG_structure_type => tagged("struct"),
            gimli::DW_TAG_class_type => tagged("class"),
            gimli::DW_TAG_union_type => tagged("union"),
            gimli::DW_TAG_enumeration_type => tagged("enum"),
            gimli::DW_TAG_const_type => {
                let is_pointer = to
                    .and_then(|to| self.units.entry(to))
                    .is_some_and(|entry| entry.tag() == gimli::DW_TAG_pointer_type);
                let inner = match to {
                    Some(_) => self.spell_at(to, depth + 1),
                    None => "void".to_owned(),
                };
                if is_pointer {
                    format!("{inner} const")
                } else {
                    format!("const {inner}")
                }
            }
            _ => UNKNOWN.to_owned(),
        }
    }
}

fn constant(value: &AttributeValue<Bytes>) -> Option<u64> {
    value
        .udata_value()
        .or_else(|| value.sdata_value().map(i64::cast_unsigned))
}

fn number(entry: &Entry, name: gimli::DwAt) -> Option<u64> {
    constant(&entry.attr_value(name)?)
}
