//! Declarations: types, and the names they are given.

use std::rc::Rc;

use bpftrace_ast::diag::Diagnostic;
use bpftrace_ast::source::Span;

use super::consteval::{self, Names};
use super::layout::{Layout, Shape};
use super::scope::{Asker, CDefs, Scope};
use super::token::{Kind, Token};
use crate::import::Imported;
use crate::lower::named_type;
use crate::typeinfo::TypeSource;
use crate::{EnumDef, IntTy, Mem, Member, Origin, StructDef, StructId, Ty, codes};

/// Structs in structs, and declarators in declarators, go no deeper.
const MAX_DEPTH: u32 = 32;

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

/// What `__attribute__` says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attributes {
    pub(super) packed: bool,
    /// Bytes.
    pub(super) align: Option<u64>,
}

impl Attributes {
    fn add(&mut self, other: Self) {
        self.packed |= other.packed;
        self.align = self.align.max(other.align);
    }
}

/// What a declaration starts with.
struct Specifier {
    ty: CType,
    is_typedef: bool,
    attributes: Attributes,
}

pub(super) struct Parser<'r> {
    pub(super) defs: &'r mut CDefs,
    pub(super) imported: &'r mut Imported,
    pub(super) types: &'r dyn TypeSource,
    diags: &'r mut Vec<Diagnostic>,
    pub(super) tokens: Vec<Token>,
    pub(super) at: usize,
    pub(super) depth: u32,
    /// Whether the declaration is a system header's.
    system: bool,
}

/// A mistake that has been reported; the rest of the declaration is skipped.
pub(super) struct Reported;

pub(super) type Parse<T> = Result<T, Reported>;

const INT_WORDS: &[&str] = &[
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

/// Words that say nothing about a type's layout.
const IGNORED_WORDS: &[&str] = &[
    "const",
    "volatile",
    "restrict",
    "register",
    "extern",
    "static",
    "inline",
    "auto",
    "__const",
    "__volatile__",
    "__restrict",
    "__restrict__",
    "__inline",
    "__inline__",
    "__extension__",
    "__user",
    "__kernel",
    "__iomem",
    "__rcu",
    "__percpu",
    "__force",
    "_Noreturn",
    "_Atomic",
];

/// Whether a declaration is about types, and not only about variables or functions.
pub(super) fn declares_types(tokens: &[Token]) -> bool {
    let word = tokens
        .iter()
        .find_map(|token| token.word().filter(|word| !IGNORED_WORDS.contains(word)));
    matches!(word, Some("typedef" | "struct" | "union" | "enum"))
        || tokens.iter().any(|token| token.is_word("typedef"))
}

impl<'r> Parser<'r> {
    pub(super) fn new(
        defs: &'r mut CDefs,
        imported: &'r mut Imported,
        types: &'r dyn TypeSource,
        diags: &'r mut Vec<Diagnostic>,
        tokens: Vec<Token>,
        system: bool,
    ) -> Self {
        Self {
            defs,
            imported,
            types,
            diags,
            tokens,
            at: 0,
            depth: 0,
            system,
        }
    }

    fn scope(&mut self) -> &mut Scope {
        if self.system {
            &mut self.defs.system
        } else {
            &mut self.defs.own
        }
    }

    /// A declaration up to its `;`.
    pub(super) fn declaration(&mut self) {
        // What is wrong is reported where it is found.
        drop(self.whole_declaration());
    }

    fn whole_declaration(&mut self) -> Parse<()> {
        let specifier = self.specifier()?;
        let mut first = true;
        loop {
            if first && self.take(";") {
                return Ok(());
            }
            first = false;
            let start = self.at;
            let (name, mut ty) = self.declarator(specifier.ty.clone())?;
            let attributes = self.attributes()?;
            for attributes in [specifier.attributes, attributes] {
                if let Some(align) = attributes.align {
                    ty.align = ty.align.max(align);
                }
            }
            match name {
                Some(name) if specifier.is_typedef => {
                    let known = named_type(&name).is_some() || name == "string" || name == "buffer";
                    if !known {
                        self.scope().typedefs.insert(name, ty);
                    }
                }
                Some(_) => {}
                None => {
                    self.at = start;
                    return self.fail("expected ';' after a C definition");
                }
            }
            if self.take("=") {
                self.skip_value();
            }
            if self.take(";") {
                return Ok(());
            }
            if !self.take(",") {
                return self.fail("expected ';' after a C definition");
            }
        }
    }

    /// Skips a value up to `,` or `;`.
    fn skip_value(&mut self) {
        let mut open = 0u32;
        while let Some(token) = self.peek() {
            match token.kind {
                Kind::Punct("(" | "[" | "{") => open += 1,
                Kind::Punct(")" | "]" | "}") => open = open.saturating_sub(1),
                Kind::Punct("," | ";") if open == 0 => return,
                _ => {}
            }
            self.at += 1;
        }
    }

    /// All tokens as one constant expression.
    pub(super) fn whole_constant(&mut self) -> Option<i128> {
        let tokens = std::mem::take(&mut self.tokens);
        consteval::evaluate(&tokens, &mut ParserNames(self))
    }

    /// The place of the current token, or the end.
    fn here(&self) -> Option<Span> {
        match self.tokens.get(self.at) {
            Some(token) => Some(token.span),
            None => self.tokens.last().map(|token| Span {
                start: token.span.end,
                ..token.span
            }),
        }
    }

    pub(super) fn fail<T>(&mut self, message: impl Into<String>) -> Parse<T> {
        let place = self.here();
        if let Some(place) = place {
            self.diags
                .push(Diagnostic::error(codes::C_DEFINITION, place, message));
        }
        Err(Reported)
    }

    pub(super) fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    pub(super) fn at_punct(&self, punct: &str) -> bool {
        self.peek().is_some_and(|token| token.is_punct(punct))
    }

    pub(super) fn take(&mut self, punct: &str) -> bool {
        let found = self.at_punct(punct);
        self.at += usize::from(found);
        found
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.peek().is_some_and(|token| token.is_word(word));
        self.at += usize::from(found);
        found
    }

    pub(super) fn name(&mut self) -> Option<String> {
        let name = self.peek()?.word()?.to_owned();
        self.at += 1;
        Some(name)
    }

    pub(super) fn qualifiers(&mut self) {
        while self
            .peek()
            .and_then(Token::word)
            .is_some_and(|word| IGNORED_WORDS.contains(&word))
        {
            self.at += 1;
        }
    }

    /// `__attribute__((...))` and its like, any number of them.
    pub(super) fn attributes(&mut self) -> Parse<Attributes> {
        let mut found = Attributes::default();
        loop {
            let Some(word) = self.peek().and_then(Token::word) else {
                return Ok(found);
            };
            match word {
                "__packed" => {
                    self.at += 1;
                    found.packed = true;
                }
                "_Alignas" => {
                    self.at += 1;
                    found.align = found.align.max(Some(self.alignment()?));
                }
                "__asm__" | "asm" | "__asm" => {
                    self.at += 1;
                    if self.take("(") {
                        self.skip_to_close()?;
                    }
                }
                "__attribute__" | "__attribute" => {
                    self.at += 1;
                    found.add(self.attribute_list()?);
                }
                word if IGNORED_WORDS.contains(&word) => self.at += 1,
                _ => return Ok(found),
            }
        }
    }

    fn attribute_list(&mut self) -> Parse<Attributes> {
        let mut found = Attributes::default();
        if !self.take("(") || !self.take("(") {
            return self.fail("expected '((' after __attribute__");
        }
        while !self.take(")") {
            if self.take(",") {
                continue;
            }
            let name = self.name();
            match name.as_deref().map(|name| name.trim_matches('_')) {
                Some("packed") => found.packed = true,
                Some("aligned") => {
                    // Without a number: the largest there is.
                    let align = if self.at_punct("(") {
                        self.alignment()?
                    } else {
                        16
                    };
                    found.align = found.align.max(Some(align));
                }
                Some(_) => {
                    if self.take("(") {
                        self.skip_to_close()?;
                    }
                }
                None => return self.fail("expected the name of an attribute"),
            }
        }
        if !self.take(")") {
            return self.fail("expected ')'");
        }
        Ok(found)
    }

    /// `(n)`: an alignment in bytes.
    fn alignment(&mut self) -> Parse<u64> {
        if !self.take("(") {
            return self.fail("expected '('");
        }
        let start = self.at;
        let align = self.constant(")")?;
        match u64::try_from(align)
            .ok()
            .filter(|n| n.is_power_of_two() && *n <= 4096)
        {
            Some(align) => Ok(align),
            None => {
                self.at = start;
                self.fail("requested alignment is not a power of 2, or over 4096")
            }
        }
    }

    /// Skips past the parenthesis that closes an open one.
    pub(super) fn skip_to_close(&mut self) -> Parse<()> {
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
        self.fail("expected ')'")
    }

    /// A constant expression up to a closing token, which is consumed; `,` stands for the end of an
    /// enumerator and stays.
    pub(super) fn constant(&mut self, close: &str) -> Parse<i128> {
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
        let expression = self.tokens[start..self.at].to_vec();
        let value = consteval::evaluate(&expression, &mut ParserNames(self));
        let Some(value) = value else {
            self.at = start;
            return self.fail("expected a constant expression");
        };
        if close != "," && !self.take(close) {
            return self.fail(format!("expected '{close}'"));
        }
        Ok(value)
    }

    /// A type without a name, as the operand of `sizeof`.
    pub(super) fn type_name(&mut self) -> Parse<CType> {
        let specifier = self.specifier()?;
        let (_, ty) = self.declarator(specifier.ty)?;
        Ok(self.with_size(ty))
    }

    /// What comes before the names: a type, with definitions in it.
    fn specifier(&mut self) -> Parse<Specifier> {
        let mut attributes = Attributes::default();
        let mut is_typedef = false;
        let mut ints: Vec<String> = Vec::new();
        let mut ty: Option<CType> = None;
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

    /// One level deeper.
    pub(super) fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parse<T>) -> Parse<T> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fail("C definitions are nested too deeply");
        }
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    fn integer(&mut self, words: &[String]) -> CType {
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
    fn named(&mut self, name: &str) -> Option<CType> {
        let odd = |size| {
            Some(CType {
                ty: Ty::Void,
                size,
                align: size,
                height: 0,
                is_text: false,
            })
        };
        match name {
            "void" => return Some(CType::void()),
            "_Bool" => return Some(self.sized(Ty::Bool)),
            "float" => return odd(4),
            "double" => return odd(8),
            "__builtin_va_list" => return odd(8),
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

    fn struct_specifier(&mut self, is_union: bool) -> Parse<CType> {
        let mut attributes = self.attributes()?;
        let name_at = self.at;
        let name = self.name();
        let between = self.attributes()?;
        attributes.add(between);
        if !self.take("{") {
            let Some(name) = name else {
                return self.fail("expected the name of a struct, or '{'");
            };
            return Ok(self.struct_by_name(name, is_union));
        }
        let name = name.unwrap_or_default();
        let id = self.new_struct(&name, is_union);
        if !self.defs.defined.insert(id) {
            self.at = name_at;
            return self.fail(format!("redefinition of '{name}'"));
        }
        let mut members: Vec<(Member, Shape)> = Vec::new();
        self.nested(|parser| {
            while !parser.take("}") {
                if parser.peek().is_none() {
                    return parser.fail("expected '}'");
                }
                if parser.take_word("_Static_assert") {
                    if parser.take("(") {
                        parser.skip_to_close()?;
                    }
                    parser.take(";");
                } else if !parser.take(";") {
                    parser.members(&mut members)?;
                }
            }
            Ok(())
        })?;
        attributes.add(self.attributes()?);
        let mut layout = Layout::new(is_union, attributes.packed);
        let mut placed = Vec::with_capacity(members.len());
        for (mut member, shape) in members {
            let named = !member.name.is_empty();
            member.bit_offset = layout.place(shape, named);
            // Padding made of nameless bit-fields holds nothing.
            if named || shape.bits.is_none() {
                placed.push(member);
            }
        }
        if let Some(align) = attributes.align {
            layout.align_to(align);
        }
        let (size, align) = layout.finish();
        let def = self.imported.table.struct_def_mut(id);
        def.members = placed;
        def.size = size;
        self.defs.aligns.insert(id, align);
        Ok(CType {
            ty: Ty::Struct(id, Mem::Unknown),
            size,
            align,
            height: 0,
            is_text: false,
        })
    }

    /// The struct that a definition is of: one that was only pointed to so far, or a new one.
    fn new_struct(&mut self, name: &str, is_union: bool) -> StructId {
        let key = (name.to_owned(), is_union);
        if !name.is_empty()
            && let Some(known) = self.scope().structs.get(&key)
        {
            return *known;
        }
        let id = self.imported.table.add_struct(StructDef {
            name: name.to_owned(),
            is_union,
            size: 0,
            origin: Origin::Script,
            members: Vec::new(),
            complete: true,
        });
        if !name.is_empty() {
            self.scope().structs.insert(key, id);
        }
        id
    }

    fn known_struct(&self, id: StructId) -> CType {
        let ty = Ty::Struct(id, Mem::Unknown);
        CType {
            size: self.imported.table.size(&ty),
            align: self.defs.aligns.get(&id).copied().unwrap_or(1),
            height: 0,
            is_text: false,
            ty,
        }
    }

    fn struct_by_name(&mut self, name: String, is_union: bool) -> CType {
        let key = (name, is_union);
        let own = self.defs.own.structs.get(&key);
        if let Some(id) = own.or(self.defs.system.structs.get(&key).filter(|_| self.system)) {
            return self.known_struct(*id);
        }
        if (self.system || !self.defs.shadows)
            && let Some(found) = self.types.find_struct(&key.0, is_union)
        {
            let ty = self.imported.ty(self.types, found);
            // Whether it is needed as a value is not known yet.
            return CType {
                size: self.imported.table.size(&ty),
                align: 0,
                height: 0,
                is_text: false,
                ty,
            };
        }
        let mut asker = Asker {
            imported: self.imported,
            types: self.types,
        };
        if let Some(id) = self.defs.header_struct(&mut asker, &key.0, is_union) {
            return self.known_struct(id);
        }
        // Only pointers to it make sense.
        let id = self.new_struct(&key.0, is_union);
        self.known_struct(id)
    }

    fn enum_specifier(&mut self) -> Parse<CType> {
        let mut attributes = self.attributes()?;
        let name = self.name();
        attributes.add(self.attributes()?);
        if !self.take("{") {
            let Some(name) = name else {
                return self.fail("expected the name of an enum, or '{'");
            };
            return self.enum_by_name(&name);
        }
        let name = name.unwrap_or_default();
        let id = self.imported.table.add_enum(EnumDef {
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
            self.scope()
                .enumerators
                .insert(variant.clone(), (id, value));
            values.push((value, variant));
            next += 1;
            if !self.take(",") && !self.at_punct("}") {
                return self.fail("expected ',' or '}'");
            }
        }
        attributes.add(self.attributes()?);
        let signed = values.iter().any(|(value, _)| *value < 0);
        let needs = |size: u8| {
            values.iter().all(|(value, _)| match (size, signed) {
                (1, true) => i8::try_from(*value).is_ok(),
                (1, false) => u8::try_from(*value).is_ok(),
                (2, true) => i16::try_from(*value).is_ok(),
                (2, false) => u16::try_from(*value).is_ok(),
                (_, true) => i32::try_from(*value).is_ok(),
                (_, false) => u32::try_from(*value).is_ok(),
            })
        };
        let size = match () {
            () if attributes.packed && needs(1) => 1,
            () if attributes.packed && needs(2) => 2,
            () if needs(4) => 4,
            () => 8,
        };
        let int = IntTy { size, signed };
        // The table keeps enums by value.
        self.imported.table.enum_def_mut(id).values = values;
        if !name.is_empty() {
            self.scope().enums.insert(name, (id, int));
        }
        Ok(self.sized(Ty::Enum(id, int)))
    }

    fn enum_by_name(&mut self, name: &str) -> Parse<CType> {
        let known = self.defs.own.enums.get(name);
        if let Some((id, int)) = known.or(self.defs.system.enums.get(name)) {
            let ty = Ty::Enum(*id, *int);
            return Ok(self.sized(ty));
        }
        if let Some(found) = self.types.find_enum(name) {
            let ty = self.imported.ty(self.types, found);
            return Ok(self.sized(ty));
        }
        let mut asker = Asker {
            imported: self.imported,
            types: self.types,
        };
        match self.defs.header_enum(&mut asker, name) {
            Some((id, int)) => Ok(self.sized(Ty::Enum(id, int))),
            None => {
                self.at -= 1;
                self.fail(format!("unknown enum '{name}'"))
            }
        }
    }

    /// One declaration: a type and the members of it.
    fn members(&mut self, out: &mut Vec<(Member, Shape)>) -> Parse<()> {
        let specifier = self.specifier()?;
        let base = specifier.ty;
        if self.take(";") {
            // A struct without a name is looked through; one with a name is only defined here.
            if let Ty::Struct(id, _) = base.ty
                && self.imported.table.struct_def(id).name.is_empty()
            {
                let mut base = base;
                if let Some(align) = specifier.attributes.align {
                    base.align = base.align.max(align);
                }
                out.push((
                    member(String::new(), base.ty.clone(), None),
                    shape(&base, None),
                ));
            }
            return Ok(());
        }
        loop {
            self.member(base.clone(), specifier.attributes, out)?;
            // The last one may do without.
            if self.take(";") || self.at_punct("}") {
                return Ok(());
            }
            // The last member may do without, as C compilers have it.
            if self.at_punct("}") {
                return Ok(());
            }
            // Compilers take a last member without its semicolon.
            if self.at_punct("}") {
                return Ok(());
            }
            if !self.take(",") {
                return self.fail("expected ';' after a member");
            }
        }
    }

    fn member(
        &mut self,
        base: CType,
        attributes: Attributes,
        out: &mut Vec<(Member, Shape)>,
    ) -> Parse<()> {
        let start = self.at;
        let (name, ty) = if self.at_punct(":") {
            (None, base)
        } else {
            self.declarator(base)?
        };
        let mut ty = self.with_size(ty);
        let mut bits = None;
        if self.take(":") {
            bits = Some(self.width(&ty, name.is_some())?);
        } else if name.is_none() {
            return self.fail("expected the name of a member");
        }
        let mut all = attributes;
        all.add(self.attributes()?);
        let name = name.unwrap_or_default();
        if bits.is_none() && is_incomplete(&ty, &self.imported.table) {
            // The mistake is the name's, which is the last token of a plain declarator.
            let end = self.at;
            self.at = (start..end)
                .rev()
                .find(|at| self.tokens[*at].is_word(&name))
                .unwrap_or(start);
            let message = match &ty.ty {
                Ty::Struct(id, _) => {
                    let def = self.imported.table.struct_def(*id);
                    let keyword = if def.is_union { "union" } else { "struct" };
                    format!(
                        "C type error: '{name}' has the incomplete type '{keyword} {}'",
                        def.name
                    )
                }
                _ => format!("the type of '{name}' is incomplete"),
            };
            return self.fail(message);
        }
        if all.packed {
            ty.align = 1;
        }
        if let Some(align) = all.align {
            ty.align = ty.align.max(align);
        }
        let width = bits.and_then(|bits| u8::try_from(bits).ok());
        out.push((member(name, ty.ty.clone(), width), shape(&ty, bits)));
        Ok(())
    }

    /// The width of a bit-field.
    fn width(&mut self, ty: &CType, named: bool) -> Parse<u64> {
        let start = self.at;
        while self.peek().is_some_and(|token| {
            !token.is_punct(";")
                && !token.is_punct(",")
                && !token.is_punct("}")
                && !token.is_word("__attribute__")
        }) {
            self.at += 1;
        }
        let expression = self.tokens[start..self.at].to_vec();
        let width = consteval::evaluate(&expression, &mut ParserNames(self));
        let most = i128::from(ty.size * 8);
        match (width, &ty.ty) {
            (Some(width), Ty::Int(_) | Ty::Enum(..) | Ty::Bool)
                if (0..=most).contains(&width) && (width > 0 || !named) =>
            {
                Ok(u64::try_from(width).unwrap_or(0))
            }
            _ => {
                self.at = start;
                self.fail("invalid width of a bit-field")
            }
        }
    }
}

/// Whether a type has no values: `void`, functions, and structs that are not defined. An array without
/// elements has none either, but may end a struct.
fn is_incomplete(ty: &CType, table: &crate::TypeTable) -> bool {
    match &ty.ty {
        Ty::Void => ty.size == 0,
        Ty::Struct(id, _) => {
            let def = table.struct_def(*id);
            def.size == 0 && def.members.is_empty() && ty.align == 1
        }
        _ => false,
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

/// Names in constant expressions of declarations.
pub(super) struct ParserNames<'p, 'r>(pub(super) &'p mut Parser<'r>);

impl Names for ParserNames<'_, '_> {
    fn value(&mut self, name: &str) -> Option<i128> {
        let parser = &mut *self.0;
        let own = parser.defs.own.enumerators.get(name);
        if let Some((_, value)) = own.or(parser.defs.system.enumerators.get(name)) {
            return Some(i128::from(*value));
        }
        if let Some((_, value)) = parser.types.find_enumerator(name) {
            return Some(i128::from(value));
        }
        let mut asker = Asker {
            imported: parser.imported,
            types: parser.types,
        };
        let found = parser.defs.header_enumerator(&mut asker, name);
        found
            .map(|(_, value)| value)
            .or_else(|| CDefs::known_constant(name))
            .map(i128::from)
    }

    fn type_of(&mut self, tokens: &[Token]) -> Option<(u64, bool)> {
        let parser = &mut *self.0;
        if parser.depth >= MAX_DEPTH {
            return None;
        }
        let mut mistakes = Vec::new();
        let mut inner = Parser::new(
            parser.defs,
            parser.imported,
            parser.types,
            &mut mistakes,
            tokens.to_vec(),
            parser.system,
        );
        inner.depth = parser.depth + 1;
        let ty = inner.type_name().ok()?;
        if inner.at != inner.tokens.len() || is_incomplete(&ty, &parser.imported.table) {
            return None;
        }
        let signed = matches!(
            ty.ty,
            Ty::Int(IntTy { signed: true, .. }) | Ty::Enum(_, IntTy { signed: true, .. })
        );
        Some((ty.size, signed))
    }

    fn starts_type(&self, token: &Token) -> bool {
        starts_type(self.0, token)
    }
}

/// Whether a word is a type, or one that types start with.
pub(super) fn starts_type(parser: &Parser<'_>, token: &Token) -> bool {
    let Some(word) = token.word() else {
        return false;
    };
    INT_WORDS.contains(&word)
        || IGNORED_WORDS.contains(&word)
        || matches!(
            word,
            "struct" | "union" | "enum" | "void" | "_Bool" | "float" | "double" | "typeof"
        )
        || named_type(word.trim_start_matches("__")).is_some()
        || parser.defs.own.typedefs.contains_key(word)
        || parser.defs.system.typedefs.contains_key(word)
        || parser.types.find_typedef(word).is_some()
}
