//! Attach points: how their text splits into parts, and what the parts mean to each provider.

mod read;
mod split;

use bpftrace_meta::ProviderKind;

pub use read::Reading;

/// One attach point of a probe, split into parts.
#[derive(Clone, Debug, PartialEq)]
pub struct AttachPoint {
    /// The text as written, with the user's name for the probe.
    pub raw: String,
    /// The name the user gave the probe: `name=provider:...`.
    pub name: Option<String>,
    /// The first part: who provides the events. Quotes and the user's name are removed.
    pub provider: Text,
    /// What follows the provider, split at `:` (and `@`, which is a part of its own).
    pub parts: Vec<Text>,
}

/// What the first part of an attach point names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderName {
    /// One provider.
    Known(ProviderKind),
    /// A pattern with `*`: every provider that it matches.
    Wildcard,
    /// It has a positional parameter in it, and is known only at start.
    Hole,
    /// No provider has this name.
    Unknown,
}

/// A part of an attach point, quotes and escapes resolved, with holes for positional parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// Literal text and holes. No two literals are adjacent and none is empty; an empty text has no pieces.
    pub pieces: Vec<Piece>,
}

/// A run of literal text, or a hole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Text as it is.
    Literal(String),
    /// `$N`, N from 1 (or 0, which is always empty).
    Param(u64),
}

/// A mistake in an attach point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// What it is.
    pub message: String,
    /// What to do instead.
    pub hint: Option<String>,
    /// Whether it is only allowed in unsafe mode.
    pub needs_unsafe: bool,
}

impl From<String> for Wrong {
    fn from(message: String) -> Self {
        Self {
            message,
            hint: None,
            needs_unsafe: false,
        }
    }
}

impl From<&str> for Wrong {
    fn from(message: &str) -> Self {
        message.to_owned().into()
    }
}

impl AttachPoint {
    /// What the first part names.
    #[must_use]
    pub fn provider_name(&self) -> ProviderName {
        match self.provider.as_str() {
            None => ProviderName::Hole,
            Some(name) if name.contains('*') => ProviderName::Wildcard,
            Some(name) => {
                ProviderKind::from_name(name).map_or(ProviderName::Unknown, ProviderName::Known)
            }
        }
    }

    /// Whether a positional parameter is part of it, so that it can be read only at start.
    #[must_use]
    pub fn has_hole(&self) -> bool {
        self.provider.has_hole() || self.parts.iter().any(Text::has_hole)
    }

    /// The text as written, without the user's name for the probe.
    #[must_use]
    pub fn unnamed(&self) -> &str {
        match &self.name {
            Some(name) => self
                .raw
                .strip_prefix(name.as_str())
                .and_then(|rest| rest.strip_prefix('='))
                .unwrap_or(&self.raw),
            None => &self.raw,
        }
    }
}

impl Text {
    /// The text, if it has no holes.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [] => Some(""),
            [Piece::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// Whether a positional parameter is part of it.
    #[must_use]
    pub fn has_hole(&self) -> bool {
        self.pieces
            .iter()
            .any(|piece| matches!(piece, Piece::Param(_)))
    }

    /// The text with `$N` in place of its holes.
    #[must_use]
    pub fn to_display(&self) -> String {
        self.pieces
            .iter()
            .map(|piece| match piece {
                Piece::Literal(text) => text.clone(),
                Piece::Param(number) => format!("${number}"),
            })
            .collect()
    }
}
