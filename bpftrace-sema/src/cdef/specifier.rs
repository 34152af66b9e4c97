//! What declarations start with: a type, with definitions in it.

use std::rc::Rc;

use super::attributes::Attributes;
use super::parser::{IGNORED_WORDS, Parse, Parser};
use super::scope::Asker;
use super::token::Token;
use crate::lower::named_type;
use crate::{IntTy, Mem, Ty};

/// A type with what layouts need; types that expressions cannot have are `Void` with a size.
#[derive(Clone, Debug)]
pub(super) struct CType {
    pub(super) ty: Ty,
    /// Bytes.
    pub(super) size: u64,
    /// Bytes; 0 for a kernel struct that nobody has asked a value of.
    pub(super) align: u64,
    /// How many pointers and arrays are around what C text names.
    pub(super) height: u32,
    /// Plain `char`: arrays of it are texts. Those of `signed char` and `unsigned char` are not.
    pub(super) is_text: bool,
}

impl CType {
    pub(super) fn void() -> Self {
        Self {
            ty: Ty::Void,
            size: 0,
            align: 1,
            height: 0,
            is_text: false,
        }
    }

    /// A type whose values scripts cannot read, aligned to its size.
    fn opaque(size: u64) -> Self {
        Self {
            ty: Ty::Void,
            size,
            align: size,
            height: 0,
            is_text: false,
        }
    }

    pub(super) fn pointer(to: Self) -> Self {
        Self {
            ty: Ty::Ptr(Rc::new(to.ty), Mem::Unknown),
            size: 8,
            align: 8,
            height: to.height + 1,
            is_text: false,
        }
    }
}

/// What a declaration starts with.
pub(super) struct Specifier {
    pub(super) ty: CType,
    pub(super) is_typedef: bool,
    pub(super) attributes: Attributes,
}

pub(super) const INT_WORDS: &[&str] = &[
    "unsigned",
    "signed",
    "long",
    "short",
    "int",
    "char",
    "__signed__",
    "__signed",
    "__int128",
];

impl Parser<'_> {
    /// What comes before the names: a type, with definitions in it.
    pub(super) fn specifier(&mut self) -> Parse<Specifier> {
        let mut attributes = Attributes::default();
        let mut is_typedef = false;
        let mut ints: Vec<String> = Vec::new();
        let mut ty: Option<CType> = None;
        let mut was_double = false;
        let start = self.at;
        while let Some(word) = self.peek().and_then(Token::word) {
            match word {
                "typedef" => {
                    is_typedef = true;
                    self.at += 1;
                }
                "__attribute__" | "__attribute" | "_Alignas" | "__packed" => {
                    let found = self.attributes()?;
                    attributes.add(found);
                }
                word if IGNORED_WORDS.contains(&word) => self.at += 1,
                word if INT_WORDS.contains(&word) && ty.is_none() => {
                    ints.push(word.to_owned());
                    self.at += 1;
                }
                "double" if ints == ["long"] => {
                    ints.clear();
                    ty = Some(CType::opaque(16));
                    self.at += 1;
                }
                "long" if was_double => {
                    was_double = false;
                    ty = Some(CType::opaque(16));
                    self.at += 1;
                }
                _ if ty.is_some() || !ints.is_empty() => break,
                "struct" | "union" => {
                    let is_union = word == "union";
                    self.at += 1;
                    ty = Some(self.struct_specifier(is_union)?);
                }
                "enum" => {
                    self.at += 1;
                    ty = Some(self.enum_specifier()?);
                }
                "typeof" | "__typeof__" | "__typeof" => {
                    self.at += 1;
                    if !self.take("(") {
                        return self.fail("expected '(' after typeof");
                    }
                    let inner = self.nested(Self::type_name)?;
                    if !self.take(")") {
                        return self.fail("expected ')' after a type");
                    }
                    ty = Some(inner);
                }
                word => {
                    let word = word.to_owned();
                    match self.named(&word) {
                        Some(found) => ty = Some(found),
                        None => return self.fail(format!("unknown type name '{word}'")),
                    }
                    was_double = word == "double";
                    self.at += 1;
                }
            }
        }
        let ty = match ty {
            Some(ty) => ty,
            None if !ints.is_empty() => self.integer(&ints),
            None => {
                self.at = self.at.max(start);
                return self.fail("expected a type");
            }
        };
        Ok(Specifier {
            ty,
            is_typedef,
            attributes,
        })
    }

    pub(super) fn integer(&mut self, words: &[String]) -> CType {
        let has = |word: &str| words.iter().any(|w| w == word);
        let size = match () {
            () if has("__int128") => {
                return CType {
                    ty: Ty::Array(Rc::new(Ty::Int(IntTy::U64)), 2, Mem::Unknown),
                    size: 16,
                    align: 16,
                    height: 0,
                    is_text: false,
                };
            }
            () if has("char") => 1,
            () if has("short") => 2,
            () if has("long") => 8,
            () => 4,
        };
        CType {
            is_text: size == 1 && !has("signed") && !has("unsigned"),
            ..self.sized(Ty::Int(IntTy {
                size,
                signed: !has("unsigned"),
            }))
        }
    }

    /// A type that a single word names.
    pub(super) fn named(&mut self, name: &str) -> Option<CType> {
        match name {
            "void" => return Some(CType::void()),
            // A number in structs of scripts and of programs, a truth value in those of the kernel.
            "_Bool" | "bool" => return Some(self.sized(Ty::Int(IntTy::U8))),
            "_Float16" => return Some(CType::opaque(2)),
            "float" | "_Float32" => return Some(CType::opaque(4)),
            "double" | "_Float64" => return Some(CType::opaque(8)),
            "__float128" | "_Float128" => return Some(CType::opaque(16)),
            "__builtin_va_list" => return Some(CType::opaque(8)),
            "__u8" | "__u16" | "__u32" | "__u64" | "__s8" | "__s16" | "__s32" | "__s64" => {
                return named_type(&name[2..]).map(|ty| self.sized(ty));
            }
            // Names of this language, not of C.
            "string" | "buffer" | "inet" | "username_t" | "timestamp" | "macaddr_t"
            | "cgroup_path_t" => return None,
            _ => {}
        }
        if let Some(own) = self.defs.own.typedefs.get(name) {
            return Some(own.clone());
        }
        if self.system
            && let Some(known) = self.defs.system.typedefs.get(name)
        {
            return Some(known.clone());
        }
        if let Some(found) = self.types.find_typedef(name) {
            let ty = self.imported.ty(self.types, found);
            return Some(self.sized(ty));
        }
        if let Some(ty) = named_type(name) {
            return Some(self.sized(ty));
        }
        let mut asker = Asker {
            imported: self.imported,
            types: self.types,
        };
        self.defs.header_ctype(&mut asker, name)
    }

    /// The size and alignment of a type that is there.
    pub(super) fn sized(&mut self, ty: Ty) -> CType {
        self.imported.complete_value(self.types, &ty);
        let table = &self.imported.table;
        let align = match ty {
            Ty::Struct(id, _) => self.defs.aligns.get(&id).copied(),
            _ => None,
        };
        CType {
            size: table.size(&ty),
            align: align.unwrap_or_else(|| table.align(&ty)),
            height: 0,
            is_text: false,
            ty,
        }
    }

    /// A type whose size is needed.
    pub(super) fn with_size(&mut self, ty: CType) -> CType {
        if ty.align == 0 { self.sized(ty.ty) } else { ty }
    }
}
