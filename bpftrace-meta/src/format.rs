use serde::{Deserialize, Serialize};

/// A piece of a parsed `printf` format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FormatPiece {
    /// Text as it is; `%%` is already one percent sign.
    Literal(String),
    /// The next argument.
    Spec(FormatSpec),
}

/// A conversion specification, `%[flags][width][.precision][length]conversion`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormatSpec {
    /// `-`: left-adjust.
    pub left: bool,
    /// `+`: always a sign.
    pub plus: bool,
    /// space: accepted, without effect.
    pub space: bool,
    /// `#`: alternate form.
    pub alternate: bool,
    /// `0`: pad with zeros.
    pub zero: bool,
    /// Least width in characters.
    pub width: Option<u32>,
    /// Precision; used by integer conversions only where C does and upstream does.
    pub precision: Option<u32>,
    /// Length modifier.
    pub length: Length,
    /// What to print.
    pub conversion: Conversion,
}

/// The length modifier: how many bits of an integer argument are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Length {
    /// None: 32 bits for `d i u x X o`.
    None,
    /// `hh`: 8 bits.
    Hh,
    /// `h`: 16 bits.
    H,
    /// `l`, `ll`, `j`, `z`, `t`: 64 bits.
    Long,
}

/// The conversion character.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Conversion {
    /// `d`, `i`.
    Signed,
    /// `u`.
    Unsigned,
    /// `o`.
    Octal,
    /// `x`.
    Hex,
    /// `X`.
    HexUpper,
    /// `c`.
    Char,
    /// `p`.
    Pointer,
    /// `s`: any value, as `print` shows it.
    Str,
    /// `r`: a buffer, printable bytes as they are and others as `\xNN`.
    Buffer,
    /// `rx`: a buffer, every byte as `\xNN`.
    BufferHex,
    /// `rh`: a buffer, every byte as `NN`, with spaces between.
    BufferHexPlain,
    /// `gr`: names of page allocation flags.
    GfpFlags,
}
