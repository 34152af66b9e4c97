//! Declarators: what stands around a name and makes pointers, arrays and functions of a type.

use std::rc::Rc;

use super::names::starts_type;
use super::parser::{Parse, Parser};
use super::specifier::CType;
use super::token::Token;
use crate::{Mem, Ty};

/// Pointers and arrays nest no deeper.
const MAX_HEIGHT: u32 = 64;

/// Arrays have no more bytes.
const MAX_SIZE: u64 = 1 << 24;

impl Parser<'_> {
    /// `*name[2]`, `(*name)(int)`: the name, when there is one, and the type it has.
    pub(super) fn declarator(&mut self, base: CType) -> Parse<(Option<String>, CType)> {
        let mut ty = base;
        while self.take("*") {
            ty = CType::pointer(ty);
            if ty.height > MAX_HEIGHT {
                return self.fail("the type is nested too deeply");
            }
            self.qualifiers();
            self.attributes()?;
        }
        if self.starts_inner() {
            // What stands in the parentheses is about what stands around them.
            let inner = self.at + 1;
            self.at = inner;
            self.skip_to_close()?;
            let ty = self.suffixes(ty)?;
            let end = self.at;
            self.at = inner;
            let found = self.nested(|parser| parser.declarator(ty))?;
            if !self.take(")") {
                return self.fail("expected ')'");
            }
            self.at = end;
            return Ok(found);
        }
        self.attributes()?;
        let name = self.name();
        let ty = self.suffixes(ty)?;
        Ok((name, ty))
    }

    /// Whether a parenthesis holds a declarator, and not parameters.
    fn starts_inner(&self) -> bool {
        let next = &self.tokens[self.at.min(self.tokens.len())..];
        match next {
            [open, first, ..] if open.is_punct("(") => {
                first.is_punct("*")
                    || first.is_punct("(")
                    || first.is_word("__attribute__")
                    || first.word().is_some()
                        && next
                            .get(2)
                            .is_some_and(|after: &Token| after.is_punct(")") || after.is_punct("["))
                        && !starts_type(self, first)
            }
            _ => false,
        }
    }

    /// `[2][3]` or `(parameters)` behind a name.
    fn suffixes(&mut self, base: CType) -> Parse<CType> {
        if self.take("(") {
            self.skip_to_close()?;
            // A function: of no size, and pointers to it are plain addresses.
            return Ok(CType::void());
        }
        let mut counts = Vec::new();
        while self.at_punct("[") {
            let place = self.at;
            self.at += 1;
            counts.push((self.dimension()?, place));
        }
        if counts.is_empty() {
            return Ok(base);
        }
        let mut ty = self.with_size(base);
        for (count, place) in counts.into_iter().rev() {
            let size = ty.size.saturating_mul(u64::from(count));
            if size > MAX_SIZE {
                self.at = place;
                return self.fail("the array is too large");
            }
            let array = match ty.ty {
                Ty::Void => Ty::Void,
                _ if ty.is_text && count > 0 => Ty::Str(count),
                element => Ty::Array(Rc::new(element), count, Mem::Unknown),
            };
            ty = CType {
                ty: array,
                size,
                align: ty.align,
                height: ty.height + 1,
                is_text: false,
            };
            if ty.height > MAX_HEIGHT {
                self.at = place;
                return self.fail("the type is nested too deeply");
            }
        }
        Ok(ty)
    }

    /// What stands between brackets; the closing one is consumed.
    fn dimension(&mut self) -> Parse<u32> {
        if self.take("]") {
            return Ok(0);
        }
        let start = self.at;
        let n = self.constant("]")?;
        match u32::try_from(n) {
            Ok(n) => Ok(n),
            Err(_) => {
                self.at = start;
                self.fail("invalid size of an array")
            }
        }
    }
}
