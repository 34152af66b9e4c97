//! Names in constant expressions, and words that types start with.

use super::consteval::Names;
use super::parser::{IGNORED_WORDS, MAX_DEPTH, Parser};
use super::records::is_incomplete;
use super::scope::{Asker, CDefs};
use super::specifier::INT_WORDS;
use super::token::Token;
use crate::lower::named_type;
use crate::{IntTy, Ty};

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
