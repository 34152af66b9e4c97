//! Structs, unions and enums: their members, and what they are when only their names are there.

use std::collections::HashSet;

use super::attributes::Attributes;
use super::consteval;
use super::layout::{Layout, Shape};
use super::names::ParserNames;
use super::parser::{Parse, Parser};
use super::scope::Asker;
use super::specifier::CType;
use crate::{EnumDef, IntTy, Mem, Member, Origin, StructDef, StructId, Ty};

impl Parser<'_> {
    pub(super) fn struct_specifier(&mut self, is_union: bool) -> Parse<CType> {
        let mut attributes = self.attributes()?;
        let name_at = self.at;
        let name = self.name();
        attributes.add(self.attributes_of_tag(name.is_some())?);
        if !self.take("{") {
            let Some(name) = name else {
                return self.fail("expected the name of a struct, or '{'");
            };
            return Ok(self.struct_by_name(name, is_union));
        }
        let name = name.unwrap_or_default();
        let other = (name.clone(), !is_union);
        let other = self.scope().structs.get(&other).copied();
        if other.is_some_and(|id| self.defs.defined.contains(&id)) {
            self.at = name_at;
            return self.fail(format!(
                "use of '{name}' with tag type that does not match previous declaration"
            ));
        }
        let id = self.new_struct(&name, is_union);
        if !self.defs.defined.insert(id) {
            self.at = name_at;
            return self.fail(format!("redefinition of '{name}'"));
        }
        let mut members: Vec<(Member, Shape)> = Vec::new();
        let mut names = HashSet::new();
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
                    parser.members(&mut members, &mut names)?;
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
    pub(super) fn new_struct(&mut self, name: &str, is_union: bool) -> StructId {
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

    pub(super) fn known_struct(&self, id: StructId) -> CType {
        let ty = Ty::Struct(id, Mem::Unknown);
        CType {
            size: self.imported.table.size(&ty),
            align: self.defs.aligns.get(&id).copied().unwrap_or(1),
            height: 0,
            is_text: false,
            ty,
        }
    }

    pub(super) fn struct_by_name(&mut self, name: String, is_union: bool) -> CType {
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

    pub(super) fn enum_specifier(&mut self) -> Parse<CType> {
        let mut attributes = self.attributes()?;
        let name_at = self.at;
        let name = self.name();
        attributes.add(self.attributes_of_tag(name.is_some())?);
        if !self.take("{") {
            let Some(name) = name else {
                return self.fail("expected the name of an enum, or '{'");
            };
            return self.enum_by_name(&name);
        }
        let name = name.unwrap_or_default();
        if self.scope().enums.contains_key(&name) {
            self.at = name_at;
            return self.fail(format!("redefinition of '{name}'"));
        }
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
            if self.scope().enumerators.contains_key(&variant) {
                self.at -= 1;
                return self.fail(format!("redefinition of enumerator '{variant}'"));
            }
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

    pub(super) fn enum_by_name(&mut self, name: &str) -> Parse<CType> {
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

    /// One declaration: a type and the members of it. `names` are those of the struct so far.
    pub(super) fn members(
        &mut self,
        out: &mut Vec<(Member, Shape)>,
        names: &mut HashSet<String>,
    ) -> Parse<()> {
        let specifier = self.specifier()?;
        let base = specifier.ty;
        if self.take(";") {
            // A struct without a name is looked through; one with a name is only defined here.
            if let Ty::Struct(id, _) = base.ty
                && self.imported.table.struct_def(id).name.is_empty()
            {
                let inner = self.names_in(id);
                if let Some(name) = inner.iter().find(|name| !names.insert((*name).clone())) {
                    let message = format!("member of anonymous struct redeclares '{name}'");
                    self.at -= 1;
                    return self.fail(message);
                }
                let mut base = base;
                if let Some(align) = specifier.attributes.align {
                    base.align = base.align.max(align);
                }
                out.push((
                    member(String::new(), base.ty.clone(), None),
                    shape(&base, None, specifier.attributes.align),
                ));
            }
            return Ok(());
        }
        loop {
            self.member(base.clone(), specifier.attributes, out, names)?;
            // The last one may do without, as C compilers have it.
            if self.take(";") || self.at_punct("}") {
                return Ok(());
            }
            if !self.take(",") {
                return self.fail("expected ';' after a member");
            }
        }
    }

    pub(super) fn member(
        &mut self,
        base: CType,
        attributes: Attributes,
        out: &mut Vec<(Member, Shape)>,
        names: &mut HashSet<String>,
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
        // A mistake is the name's, which is the last token of a plain declarator.
        let name_at = (start..self.at)
            .rev()
            .find(|at| self.tokens[*at].is_word(&name))
            .unwrap_or(start);
        if !name.is_empty() && !names.insert(name.clone()) {
            self.at = name_at;
            return self.fail(format!("duplicate member '{name}'"));
        }
        if bits.is_none() && is_incomplete(&ty, &self.imported.table) {
            self.at = name_at;
            let message = match &ty.ty {
                Ty::Struct(id, _) => {
                    let def = self.imported.table.struct_def(*id);
                    let keyword = if def.is_union { "union" } else { "struct" };
                    format!(
                        "C type error: field has incomplete type '{keyword} {}'",
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
        out.push((
            member(name, ty.ty.clone(), width),
            shape(&ty, bits, all.align),
        ));
        Ok(())
    }

    /// The names of a struct's members, with those of members without a name.
    fn names_in(&self, id: StructId) -> Vec<String> {
        let members = &self.imported.table.struct_def(id).members;
        let names = members.iter().map(|member| match &member.ty {
            Ty::Struct(inner, _) if member.name.is_empty() => self.names_in(*inner),
            _ => vec![member.name.clone()],
        });
        names.flatten().filter(|name| !name.is_empty()).collect()
    }

    /// The width of a bit-field.
    pub(super) fn width(&mut self, ty: &CType, named: bool) -> Parse<u64> {
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
pub(super) fn is_incomplete(ty: &CType, table: &crate::TypeTable) -> bool {
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

fn shape(ty: &CType, bits: Option<u64>, asked: Option<u64>) -> Shape {
    Shape {
        size: ty.size,
        align: ty.align,
        asked: asked.unwrap_or(1),
        bits,
    }
}
