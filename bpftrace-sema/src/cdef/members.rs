//! Definitions of structs, unions and enums.

use std::rc::Rc;

use bpftrace_ast::source::Span;

use super::layout::{Layout, Shape};
use super::token::{Kind, Token};
use super::{Reader, consteval};
use crate::lower::named_type;
use crate::{EnumDef, IntTy, Mem, Member, Origin, StructDef, Ty};

/// Structs in structs go no deeper.
const MAX_DEPTH: u32 = 32;

/// A type with what layouts need; types that expressions cannot have are `Void` with a size.
#[derive(Clone, Debug)]
struct CType {
    ty: Ty,
    size: u64,
    align: u64,
}

/// What `__attribute__` says.
#[derive(Clone, Copy, Debug, Default)]
struct Attributes {
    packed: bool,
    align: Option<u64>,
}

pub(super) struct Parser<'r, 'a> {
    reader: &'r mut Reader<'a>,
    span: Span,
    tokens: Vec<Token>,
    at: usize,
    depth: u32,
}

/// A mistake that has been reported; the rest of the definition is skipped.
struct Reported;

type Parse<T> = Result<T, Reported>;

impl<'r, 'a> Parser<'r, 'a> {
    pub(super) fn new(reader: &'r mut Reader<'a>, span: Span, tokens: Vec<Token>) -> Self {
        Self {
            reader,
            span,
            tokens,
            at: 0,
            depth: 0,
        }
    }

    /// `struct name { ... } attributes ;`
    pub(super) fn top_level(&mut self) {
        let done = self.specifier().and_then(|_| {
            self.attributes()?;
            if self.take(";") && self.at == self.tokens.len() {
                Ok(())
            } else {
                self.fail("expected ';' after a C definition")
            }
        });
        // What was wrong has been reported.
        drop(done);
    }

    fn fail<T>(&mut self, message: impl Into<String>) -> Parse<T> {
        let (start, end) = match self.tokens.get(self.at) {
            Some(token) => {
                let len = match &token.kind {
                    Kind::Word(word) => word.len(),
                    _ => 1,
                };
                (token.at, token.at + len)
            }
            None => (usize::MAX / 2, usize::MAX / 2),
        };
        let place = self.reader.place(self.span, start, end);
        self.reader.error(place, message);
        Err(Reported)
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn take(&mut self, punct: &str) -> bool {
        let found = self.peek().is_some_and(|token| token.is_punct(punct));
        self.at += usize::from(found);
        found
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.peek().is_some_and(|token| token.is_word(word));
        self.at += usize::from(found);
        found
    }

    fn name(&mut self) -> Option<String> {
        let name = self.peek()?.word()?.to_owned();
        self.at += 1;
        Some(name)
    }

    fn qualifiers(&mut self) {
        while self.peek().and_then(Token::word).is_some_and(|word| {
            matches!(
                word,
                "const" | "volatile" | "restrict" | "__restrict" | "__user" | "__rcu" | "__percpu"
            )
        }) {
            self.at += 1;
        }
    }

    /// `__attribute__((...))`, any number of them.
    fn attributes(&mut self) -> Parse<Attributes> {
        let mut found = Attributes::default();
        loop {
            if self.take_word("__packed") {
                found.packed = true;
                continue;
            }
            if !self.take_word("__attribute__") && !self.take_word("__attribute") {
                return Ok(found);
            }
            if !self.take("(") || !self.take("(") {
                return self.fail("expected '((' after __attribute__");
            }
            while !self.take(")") {
                match self
                    .name()
                    .as_deref()
                    .map(|name| name.trim_matches('_').to_owned())
                    .as_deref()
                {
                    Some("packed") => found.packed = true,
                    Some("aligned") => {
                        // Without a number: the largest there is.
                        let align = if self.take("(") {
                            self.constant(")")?
                        } else {
                            16
                        };
                        match u64::try_from(align)
                            .ok()
                            .filter(|n| n.is_power_of_two() && *n <= 4096)
                        {
                            Some(align) => found.align = Some(found.align.unwrap_or(1).max(align)),
                            None => return self.fail("requested alignment is not a power of 2"),
                        }
                    }
                    Some(_) => {
                        if self.take("(") {
                            self.skip_to(")")?;
                        }
                    }
                    None => return self.fail("expected the name of an attribute"),
                }
                self.take(",");
            }
            if !self.take(")") {
                return self.fail("expected ')'");
            }
        }
    }

    fn skip_to(&mut self, close: &str) -> Parse<()> {
        let mut open = 1u32;
        while let Some(token) = self.peek() {
            if token.is_punct("(") {
                open += 1;
            } else if token.is_punct(")") {
                open -= 1;
            }
            self.at += 1;
            if open == 0 {
                return Ok(());
            }
        }
        self.fail(format!("expected '{close}'"))
    }

    /// A constant expression up to a closing token, which is consumed.
    fn constant(&mut self, close: &str) -> Parse<i128> {
        let start = self.at;
        let mut open = 0u32;
        while let Some(token) = self.peek() {
            if open == 0 && (token.is_punct(close) || (close == "," && token.is_punct("}"))) {
                break;
            }
            if token.is_punct("(") {
                open += 1;
            } else if token.is_punct(")") {
                open = open.saturating_sub(1);
            }
            self.at += 1;
        }
        let enumerators = &self.reader.defs.enumerators;
        let types = self.reader.types;
        let value = consteval::evaluate(&self.tokens[start..self.at], &|name| {
            let own = enumerators.get(name).map(|(_, value)| i128::from(*value));
            own.or_else(|| {
                types
                    .find_enumerator(name)
                    .map(|(_, value)| i128::from(value))
            })
        });
        let Some(value) = value else {
            self.at = start;
            return self.fail("expected a constant expression");
        };
        if close != "," && !self.take(close) {
            return self.fail(format!("expected '{close}'"));
        }
        Ok(value)
    }

    /// What comes before the names of members: a type, with definitions in it.
    fn specifier(&mut self) -> Parse<CType> {
        self.qualifiers();
        for keyword in ["struct", "union"] {
            if self.take_word(keyword) {
                return self.struct_specifier(keyword == "union");
            }
        }
        if self.take_word("enum") {
            return self.enum_specifier();
        }
        let mut words: Vec<String> = Vec::new();
        while let Some(word) = self.peek().and_then(Token::word) {
            let is_int = matches!(
                word,
                "unsigned" | "signed" | "long" | "short" | "int" | "char" | "__signed__"
            );
            let is_first = words.is_empty();
            let qualifier = matches!(word, "const" | "volatile");
            if !(is_int || is_first || qualifier) {
                break;
            }
            if !qualifier {
                words.push(word.to_owned());
            }
            self.at += 1;
            if !is_int && is_first {
                break;
            }
        }
        self.qualifiers();
        if words.is_empty() {
            return self.fail("expected a type");
        }
        let known = self.named(&words);
        match known {
            Some(ty) => Ok(ty),
            None => {
                self.at -= 1;
                self.fail(format!("unknown type name '{}'", words.join(" ")))
            }
        }
    }

    fn named(&mut self, words: &[String]) -> Option<CType> {
        let has = |word: &str| words.iter().any(|w| w == word);
        let n_longs = words.iter().filter(|word| *word == "long").count();
        let is_int = words.iter().all(|word| {
            matches!(
                word.as_str(),
                "unsigned" | "signed" | "long" | "short" | "int" | "char" | "__signed__"
            )
        });
        if is_int {
            let size = match () {
                () if has("char") => 1,
                () if has("short") => 2,
                () if n_longs > 0 => 8,
                () => 4,
            };
            return Some(self.sized(Ty::Int(IntTy {
                size,
                signed: !has("unsigned"),
            })));
        }
        let [name] = words else { return None };
        let odd = |size| {
            Some(CType {
                ty: Ty::Void,
                size,
                align: size,
            })
        };
        match name.as_str() {
            "void" => {
                return Some(CType {
                    ty: Ty::Void,
                    size: 0,
                    align: 1,
                });
            }
            "_Bool" => return Some(self.sized(Ty::Bool)),
            "float" => return odd(4),
            "double" => return odd(8),
            "__u8" | "__u16" | "__u32" | "__u64" | "__s8" | "__s16" | "__s32" | "__s64" => {
                return named_type(&name[2..]).map(|ty| self.sized(ty));
            }
            _ => {}
        }
        if let Some(found) = self.reader.types.find_typedef(name) {
            let ty = self.reader.imported.ty(self.reader.types, found);
            return Some(self.sized(ty));
        }
        named_type(name).map(|ty| self.sized(ty))
    }

    fn sized(&mut self, ty: Ty) -> CType {
        self.reader.imported.complete_value(self.reader.types, &ty);
        let table = &self.reader.imported.table;
        CType {
            size: table.size(&ty),
            align: table.align(&ty),
            ty,
        }
    }

    fn pointer(to: Ty) -> CType {
        CType {
            ty: Ty::Ptr(Rc::new(to), Mem::Unknown),
            size: 8,
            align: 8,
        }
    }

    fn struct_specifier(&mut self, is_union: bool) -> Parse<CType> {
        let before = self.attributes()?;
        let name = self.name();
        if !self.take("{") {
            let Some(name) = name else {
                return self.fail("expected the name of a struct, or '{'");
            };
            return Ok(self.struct_by_name(name, is_union));
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fail("structs are nested too deeply");
        }
        let name = name.unwrap_or_default();
        let id = self.reader.imported.table.add_struct(StructDef {
            name: name.clone(),
            is_union,
            size: 0,
            origin: Origin::Script,
            members: Vec::new(),
            complete: true,
        });
        if !name.is_empty() {
            let key = (name.clone(), is_union);
            let first = self.reader.defs.structs.insert(key, id);
            // A struct that was only pointed to so far has no members.
            let table = &self.reader.imported.table;
            if first.is_some_and(|first| table.struct_def(first).size > 0) {
                return self.fail(format!("redefinition of '{name}'"));
            }
        }
        let mut members: Vec<(Member, Shape)> = Vec::new();
        while !self.take("}") {
            if self.peek().is_none() {
                return self.fail("expected '}'");
            }
            self.members(&mut members)?;
        }
        let after = self.attributes()?;
        let mut layout = Layout::new(is_union, before.packed || after.packed);
        let mut placed = Vec::with_capacity(members.len());
        for (mut member, shape) in members {
            let named = !member.name.is_empty();
            member.bit_offset = layout.place(shape, named);
            // Padding made of nameless bit-fields holds nothing.
            if named || shape.bits.is_none() {
                placed.push(member);
            }
        }
        for attributes in [before, after] {
            if let Some(align) = attributes.align {
                layout.align_to(align);
            }
        }
        let (size, align) = layout.finish();
        let def = self.reader.imported.table.struct_def_mut(id);
        def.members = placed;
        def.size = size;
        self.depth -= 1;
        Ok(CType {
            ty: Ty::Struct(id, Mem::Unknown),
            size,
            align,
        })
    }

    fn struct_by_name(&mut self, name: String, is_union: bool) -> CType {
        if let Some(id) = self.reader.defs.structs.get(&(name.clone(), is_union)) {
            let ty = Ty::Struct(*id, Mem::Unknown);
            let table = &self.reader.imported.table;
            return CType {
                size: table.size(&ty),
                align: table.align(&ty),
                ty,
            };
        }
        if let Some(found) = self.reader.types.find_struct(&name, is_union) {
            let ty = self.reader.imported.ty(self.reader.types, found);
            let table = &self.reader.imported.table;
            // Whether it is needed as a value is not known yet.
            return CType {
                size: table.size(&ty),
                align: 0,
                ty,
            };
        }
        // Only pointers to it make sense.
        let id = self.reader.imported.table.add_struct(StructDef {
            name: name.clone(),
            is_union,
            size: 0,
            origin: Origin::Script,
            members: Vec::new(),
            complete: true,
        });
        self.reader.defs.structs.insert((name, is_union), id);
        CType {
            ty: Ty::Struct(id, Mem::Unknown),
            size: 0,
            align: 1,
        }
    }

    fn enum_specifier(&mut self) -> Parse<CType> {
        let name = self.name();
        if !self.take("{") {
            let Some(name) = name else {
                return self.fail("expected the name of an enum, or '{'");
            };
            if let Some((id, int)) = self.reader.defs.enums.get(&name) {
                let ty = Ty::Enum(*id, *int);
                return Ok(self.sized(ty));
            }
            return match self.reader.types.find_enum(&name) {
                Some(found) => {
                    let ty = self.reader.imported.ty(self.reader.types, found);
                    Ok(self.sized(ty))
                }
                None => self.fail(format!("unknown enum '{name}'")),
            };
        }
        let name = name.unwrap_or_default();
        let id = self.reader.imported.table.add_enum(EnumDef {
            name: name.clone(),
            values: Vec::new(),
            kernel: false,
        });
        let mut values: Vec<(i64, String)> = Vec::new();
        let mut next: i128 = 0;
        while !self.take("}") {
            let Some(variant) = self.name() else {
                return self.fail("expected the name of an enumerator");
            };
            self.attributes()?;
            if self.take("=") {
                next = self.constant(",")?;
            }
            // Bits of values above the largest signed one stay what they are.
            let value = next as u64 as i64;
            self.reader
                .defs
                .enumerators
                .insert(variant.clone(), (id, value));
            values.push((value, variant));
            next += 1;
            if !self.take(",") && !self.peek().is_some_and(|token| token.is_punct("}")) {
                return self.fail("expected ',' or '}'");
            }
        }
        self.attributes()?;
        let signed = values.iter().any(|(value, _)| *value < 0);
        let wide = values.iter().any(|(value, _)| {
            if signed {
                i32::try_from(*value).is_err()
            } else {
                u32::try_from(*value).is_err()
            }
        });
        let int = IntTy {
            size: if wide { 8 } else { 4 },
            signed,
        };
        // The table keeps enums by value.
        self.reader.imported.table.enum_def_mut(id).values = values;
        if !name.is_empty() {
            self.reader.defs.enums.insert(name, (id, int));
        }
        Ok(self.sized(Ty::Enum(id, int)))
    }

    /// One declaration: a type and the members of it.
    fn members(&mut self, out: &mut Vec<(Member, Shape)>) -> Parse<()> {
        let base = self.specifier()?;
        if self.take(";") {
            // A struct without a name is looked through; one with a name is only defined here.
            if let Ty::Struct(id, _) = base.ty
                && self.reader.imported.table.struct_def(id).name.is_empty()
            {
                out.push((
                    member(String::new(), base.ty.clone(), None),
                    shape(&base, None),
                ));
            }
            return Ok(());
        }
        loop {
            self.declarator(base.clone(), out)?;
            if self.take(";") {
                return Ok(());
            }
            if !self.take(",") {
                return self.fail("expected ';' after a member");
            }
        }
    }

    fn declarator(&mut self, base: CType, out: &mut Vec<(Member, Shape)>) -> Parse<()> {
        let mut ty = base;
        while self.take("*") {
            ty = Self::pointer(ty.ty);
            self.qualifiers();
        }
        // A pointer to a function, or to an array: an address.
        let mut nested = None;
        if self.take("(") {
            if !self.take("*") {
                return self.fail("expected '*'");
            }
            while self.take("*") {}
            self.qualifiers();
            let Some(name) = self.name() else {
                return self.fail("expected the name of a member");
            };
            let mut dims = Vec::new();
            while self.take("[") {
                dims.push(self.dimension()?);
            }
            if !self.take(")") {
                return self.fail("expected ')'");
            }
            if self.take("(") {
                self.skip_to(")")?;
            } else {
                while self.take("[") {
                    self.dimension()?;
                }
            }
            ty = Self::pointer(Ty::Void);
            nested = Some((name, dims));
        }
        let (name, mut dims) = match nested {
            Some(found) => found,
            None => (self.name().unwrap_or_default(), Vec::new()),
        };
        let mut bits = None;
        if self.take(":") {
            let start = self.at;
            while self.peek().is_some_and(|token| {
                !token.is_punct(";") && !token.is_punct(",") && !token.is_word("__attribute__")
            }) {
                self.at += 1;
            }
            let width = consteval::evaluate(&self.tokens[start..self.at], &|_| None);
            let most = i128::from(ty.size * 8);
            match (width, &ty.ty) {
                (Some(width), Ty::Int(_) | Ty::Enum(..) | Ty::Bool)
                    if (0..=most).contains(&width) && (width > 0 || name.is_empty()) =>
                {
                    bits = u64::try_from(width).ok();
                }
                _ => {
                    self.at = start;
                    return self.fail("invalid width of a bit-field");
                }
            }
        } else if name.is_empty() {
            return self.fail("expected the name of a member");
        }
        while self.take("[") {
            dims.push(self.dimension()?);
        }
        let attributes = self.attributes()?;
        if ty.align == 0 {
            // A kernel struct as a value.
            ty = self.sized(ty.ty);
        }
        if ty.size == 0 && dims.is_empty() {
            return self.fail(format!("the type of '{name}' is incomplete"));
        }
        for count in dims.into_iter().rev() {
            let size = ty.size.saturating_mul(u64::from(count));
            if size > 1 << 24 {
                return self.fail(format!("'{name}' is too large"));
            }
            let array = match ty.ty {
                Ty::Void => Ty::Void,
                Ty::Int(IntTy { size: 1, .. }) if count > 0 => Ty::Str(count),
                element => Ty::Array(Rc::new(element), count, Mem::Unknown),
            };
            ty = CType {
                ty: array,
                size,
                align: ty.align,
            };
        }
        if attributes.packed {
            ty.align = 1;
        }
        if let Some(align) = attributes.align {
            ty.align = ty.align.max(align);
        }
        let width = bits.and_then(|bits| u8::try_from(bits).ok());
        out.push((member(name, ty.ty.clone(), width), shape(&ty, bits)));
        Ok(())
    }

    /// What stands between brackets; the closing one is consumed.
    fn dimension(&mut self) -> Parse<u32> {
        if self.take("]") {
            return Ok(0);
        }
        let n = self.constant("]")?;
        match u32::try_from(n) {
            Ok(n) => Ok(n),
            Err(_) => self.fail("invalid size of an array"),
        }
    }
}

fn member(name: String, ty: Ty, bits: Option<u8>) -> Member {
    Member {
        name,
        ty,
        bit_offset: 0,
        bits,
        tag: None,
        data_loc: false,
    }
}

fn shape(ty: &CType, bits: Option<u64>) -> Shape {
    Shape {
        size: ty.size,
        align: ty.align,
        bits,
    }
}
