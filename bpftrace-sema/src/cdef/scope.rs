//! What C text defines, and the headers' part of it that is only read when somebody asks.

use std::collections::HashMap;
use std::rc::Rc;

use super::expand::{MacroOrigin, Macros};
use super::index::HeaderIndex;
use super::parser::Parser;
use super::specifier::CType;
use super::token::spelled;
use crate::import::Imported;
use crate::typeinfo::TypeSource;
use crate::{EnumTyId, IntTy, StructId, Ty, constants};

/// Names that C text gives a meaning.
#[derive(Debug, Default)]
pub(super) struct Scope {
    /// Structs, and (`true`) unions.
    pub(super) structs: HashMap<(String, bool), StructId>,
    /// Enums.
    pub(super) enums: HashMap<String, (EnumTyId, IntTy)>,
    /// Enumerators: their enum and value.
    pub(super) enumerators: HashMap<String, (EnumTyId, i64)>,
    /// Typedefs.
    pub(super) typedefs: HashMap<String, CType>,
}

/// What the C part of a script defines.
#[derive(Debug, Default)]
pub(crate) struct CDefs {
    /// The script's own definitions.
    pub(super) own: Scope,
    /// Definitions of the system's headers that somebody has asked for.
    pub(super) system: Scope,
    pub(super) index: HeaderIndex,
    pub(super) macros: Macros,
    /// Sizes and alignments that the table of types does not keep.
    pub(super) aligns: HashMap<StructId, u64>,
    /// Structs whose members are known.
    pub(super) defined: std::collections::HashSet<StructId>,
    /// The script defines a type that the kernel has as well. Its C text then stands on its own feet:
    /// of the kernel's types only pointers are known to it.
    pub(super) shadows: bool,
    /// Headers of the system that are not installed.
    pub(super) missing: Vec<String>,
}

/// What asks for definitions has, beside the definitions.
pub(crate) struct Asker<'a> {
    /// Where structs and enums are added.
    pub(crate) imported: &'a mut Imported,
    /// The kernel's types.
    pub(crate) types: &'a dyn TypeSource,
}

impl CDefs {
    /// A struct or union that the script defines.
    pub(crate) fn own_struct(&self, name: &str, is_union: bool) -> Option<StructId> {
        let key = (name.to_owned(), is_union);
        self.own.structs.get(&key).copied()
    }

    /// An enum that the script defines.
    pub(crate) fn own_enum(&self, name: &str) -> Option<(EnumTyId, IntTy)> {
        self.own.enums.get(name).copied()
    }

    /// A typedef of the script.
    pub(crate) fn own_typedef(&self, name: &str) -> Option<Ty> {
        self.own.typedefs.get(name).map(|found| found.ty.clone())
    }

    /// An enumerator of the script: its enum and value.
    pub(crate) fn own_enumerator(&self, name: &str) -> Option<(EnumTyId, i64)> {
        self.own.enumerators.get(name).copied()
    }

    /// A struct or union of a header.
    pub(crate) fn header_struct(
        &mut self,
        asker: &mut Asker<'_>,
        name: &str,
        is_union: bool,
    ) -> Option<StructId> {
        let key = (name.to_owned(), is_union);
        if !self.system.structs.contains_key(&key) {
            let range = self.index.take_struct(name, is_union)?;
            self.read(asker, range);
        }
        self.system.structs.get(&key).copied()
    }

    /// An enum of a header.
    pub(crate) fn header_enum(
        &mut self,
        asker: &mut Asker<'_>,
        name: &str,
    ) -> Option<(EnumTyId, IntTy)> {
        if !self.system.enums.contains_key(name) {
            let range = self.index.take_enum(name)?;
            self.read(asker, range);
        }
        self.system.enums.get(name).copied()
    }

    /// A typedef of a header.
    pub(crate) fn header_typedef(&mut self, asker: &mut Asker<'_>, name: &str) -> Option<Ty> {
        self.header_ctype(asker, name).map(|found| found.ty)
    }

    pub(super) fn header_ctype(&mut self, asker: &mut Asker<'_>, name: &str) -> Option<CType> {
        if !self.system.typedefs.contains_key(name) {
            let range = self.index.take_typedef(name)?;
            self.read(asker, range);
        }
        self.system.typedefs.get(name).cloned()
    }

    /// An enumerator of a header: its enum and value.
    pub(crate) fn header_enumerator(
        &mut self,
        asker: &mut Asker<'_>,
        name: &str,
    ) -> Option<(EnumTyId, i64)> {
        if !self.system.enumerators.contains_key(name) {
            let range = self.index.take_enumerator(name)?;
            self.read(asker, range);
        }
        self.system.enumerators.get(name).copied()
    }

    /// Reads a declaration of a header. What cannot be read is left out.
    fn read(&mut self, asker: &mut Asker<'_>, range: std::ops::Range<usize>) {
        if !self.index.descend() {
            return;
        }
        let tokens = self.index.tokens[range].to_vec();
        let tokens = self.macros.expand(tokens);
        let mut mistakes = Vec::new();
        Parser::new(
            self,
            asker.imported,
            asker.types,
            &mut mistakes,
            tokens,
            true,
        )
        .declaration();
        self.index.ascend();
    }

    /// The replacement text of an object-like macro that the script (or, with `system`, a header of the
    /// system) defines. Numbers are as this language writes them.
    pub(crate) fn macro_text(&self, name: &str, system: bool) -> Option<String> {
        let definition = self.macros.get(name)?;
        let origin = if system {
            MacroOrigin::System
        } else {
            MacroOrigin::Own
        };
        if definition.params.is_some() || definition.origin != origin {
            return None;
        }
        let mut body = definition.body.clone();
        for token in &mut body {
            let text = token.text();
            let is_char = matches!(token.kind, super::token::Kind::Char(_));
            let foreign = is_char || text.starts_with("0b") || text.ends_with(['u', 'U', 'l', 'L']);
            if foreign && let Some(value) = token.value() {
                token.kind = super::token::Kind::Number(Rc::from(value.to_string()));
            }
        }
        Some(spelled(&body))
    }

    /// Whether there is a macro of this name that takes arguments.
    pub(crate) fn has_function_like(&self, name: &str) -> bool {
        self.macros
            .get(name)
            .is_some_and(|definition| definition.params.is_some())
    }

    /// The value of an object-like macro as a constant expression of C.
    pub(crate) fn macro_constant(&mut self, asker: &mut Asker<'_>, name: &str) -> Option<i128> {
        let definition = self.macros.get(name)?;
        let body = definition.body.clone();
        let tokens = self.macros.expand(body);
        let mut mistakes = Vec::new();
        let mut parser = Parser::new(
            self,
            asker.imported,
            asker.types,
            &mut mistakes,
            tokens,
            true,
        );
        parser.whole_constant()
    }

    /// The value of a constant that headers define and BTF does not know, from the built-in table.
    pub(crate) fn known_constant(name: &str) -> Option<i64> {
        constants::value(name)
    }

    /// Headers of the system that the script asks for and that are not installed.
    pub(crate) fn missing_headers(&self) -> &[String] {
        &self.missing
    }
}
