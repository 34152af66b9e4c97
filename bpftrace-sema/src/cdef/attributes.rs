//! Attributes of declarations: what they say of layouts.

use super::parser::{IGNORED_WORDS, Parse, Parser};
use super::token::Token;

/// What `__attribute__` says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attributes {
    pub(super) packed: bool,
    /// Bytes.
    pub(super) align: Option<u64>,
}

impl Attributes {
    pub(super) fn add(&mut self, other: Self) {
        self.packed |= other.packed;
        self.align = self.align.max(other.align);
    }
}

impl Parser<'_> {
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

    /// Attributes behind the name of a struct or the like, where a definition has none.
    pub(super) fn attributes_of_tag(&mut self, has_name: bool) -> Parse<Attributes> {
        let start = self.at;
        let found = self.attributes()?;
        if has_name && self.at > start && self.at_punct("{") {
            return self.fail(
                "expected identifier or '(': attributes stand before the name or behind '}'",
            );
        }
        Ok(found)
    }

    pub(super) fn attribute_list(&mut self) -> Parse<Attributes> {
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
    pub(super) fn alignment(&mut self) -> Parse<u64> {
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
}
