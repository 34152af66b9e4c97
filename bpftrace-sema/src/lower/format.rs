//! Format strings of `printf` and its relatives (L7.4).

use bpftrace_ast::node::{self, Arg, ExprKind as Ast};
use bpftrace_ast::source::Span;
use bpftrace_meta::{Conversion, FormatPiece, FormatSpec, Length, ParamKind};

use super::{Lowerer, Val};
use crate::{Expr, Ty, codes};

/// Most arguments of one call.
const MAX_ARGS: usize = 127;

/// Most columns that a value in a message is padded to.
const MAX_WIDTH: u32 = 256;

/// A format, in pieces. `Err`: a conversion that cannot be.
pub(super) fn parse_format(text: &str) -> Result<Vec<FormatPiece>, char> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        literal.push_str(&rest[..at]);
        rest = &rest[at..];
        match parse_spec(&rest[1..]) {
            Some((None, behind)) => {
                literal.push('%');
                rest = behind;
            }
            Some((Some(spec), behind)) => {
                if !literal.is_empty() {
                    pieces.push(FormatPiece::Literal(std::mem::take(&mut literal)));
                }
                pieces.push(FormatPiece::Spec(spec));
                rest = behind;
            }
            None => {
                if let Some(c) = floating(&rest[1..]) {
                    return Err(c);
                }
                literal.push('%');
                rest = &rest[1..];
            }
        }
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        pieces.push(FormatPiece::Literal(literal));
    }
    Ok(pieces)
}

/// A literal in a message that is made while compiling.
pub(super) enum Literal {
    Int(i128),
    Bool(bool),
    Text(String),
}

/// The text of a format with literals, as the loader writes that of records.
pub(super) fn format_literals(pieces: &[FormatPiece], values: &[Literal]) -> String {
    let mut values = values.iter();
    let mut text = String::new();
    for piece in pieces {
        match piece {
            FormatPiece::Literal(literal) => text.push_str(literal),
            FormatPiece::Spec(spec) => {
                if let Some(value) = values.next() {
                    push_padded(spec, &converted(spec, value), &mut text);
                }
            }
        }
    }
    text
}

fn converted(spec: &FormatSpec, value: &Literal) -> String {
    let number = match value {
        Literal::Text(text) => return text.clone(),
        Literal::Bool(truth) if spec.conversion == Conversion::Str => return truth.to_string(),
        Literal::Bool(truth) => u64::from(*truth),
        // Within `int64` or `uint64`: the lowest 64 bits are the number.
        Literal::Int(number) if spec.conversion == Conversion::Str => return number.to_string(),
        Literal::Int(number) => *number as u64,
    };
    let unused = match spec.length {
        Length::Hh => 56,
        Length::H => 48,
        Length::None => 32,
        Length::Long => 0,
    };
    let unsigned = number << unused >> unused;
    let prefix = |prefix: &'static str| {
        if spec.alternate && unsigned != 0 {
            prefix
        } else {
            ""
        }
    };
    match spec.conversion {
        Conversion::Signed => {
            let signed = (number << unused) as i64 >> unused;
            let plus = if spec.plus && signed >= 0 { "+" } else { "" };
            format!("{plus}{signed}")
        }
        Conversion::Unsigned => unsigned.to_string(),
        Conversion::Octal => format!("{}{unsigned:o}", prefix("0")),
        Conversion::Hex => format!("{}{unsigned:x}", prefix("0x")),
        Conversion::HexUpper => format!("{}{unsigned:X}", prefix("0X")),
        Conversion::Char => char::from(number as u8).to_string(),
        Conversion::Pointer if number == 0 => "0".to_owned(),
        Conversion::Pointer => format!("{number:#x}"),
        _ => number.to_string(),
    }
}

fn push_padded(spec: &FormatSpec, value: &str, text: &mut String) {
    let width = spec.width.unwrap_or(0).min(MAX_WIDTH) as usize;
    let missing = width.saturating_sub(value.chars().count());
    // Behind a number, zeros would make it another one.
    let fill = if spec.zero && !spec.left { "0" } else { " " };
    if spec.left {
        text.push_str(value);
    }
    text.push_str(&fill.repeat(missing));
    if !spec.left {
        text.push_str(value);
    }
}

/// The conversion of C that cannot be done here, if that is what stands behind a `%`.
fn floating(text: &str) -> Option<char> {
    let c = text
        .trim_start_matches(|c: char| "-+ #0123456789.*lhLjzt".contains(c))
        .chars()
        .next()?;
    "eEfFgGaAn".contains(c).then_some(c)
}

/// What a `%` begins, and what is behind that. A percent sign is no conversion, whatever flags and width it
/// has.
fn parse_spec(text: &str) -> Option<(Option<FormatSpec>, &str)> {
    let mut spec = FormatSpec {
        left: false,
        plus: false,
        space: false,
        alternate: false,
        zero: false,
        width: None,
        precision: None,
        length: Length::None,
        conversion: Conversion::Str,
    };
    let mut rest = text;
    loop {
        let flag = match rest.as_bytes().first()? {
            b'-' => &mut spec.left,
            b'+' => &mut spec.plus,
            b' ' => &mut spec.space,
            b'#' => &mut spec.alternate,
            b'0' => &mut spec.zero,
            _ => break,
        };
        *flag = true;
        rest = &rest[1..];
    }
    let width;
    (width, rest) = number(rest)?;
    spec.width = width;
    if let Some(behind) = rest.strip_prefix('.') {
        let precision;
        (precision, rest) = number(behind)?;
        spec.precision = Some(precision.unwrap_or(0));
    }
    let behind = rest.trim_start_matches(['h', 'l', 'L', 'j', 'z', 't']);
    spec.length = match &rest[..rest.len() - behind.len()] {
        "hh" => Length::Hh,
        "h" => Length::H,
        "l" | "ll" | "j" | "z" | "t" => Length::Long,
        // `L` is for floating point; other letters together mean nothing.
        _ => Length::None,
    };
    rest = behind;
    for (name, conversion) in [
        ("d", Conversion::Signed),
        ("i", Conversion::Signed),
        ("u", Conversion::Unsigned),
        ("o", Conversion::Octal),
        ("x", Conversion::Hex),
        ("X", Conversion::HexUpper),
        ("c", Conversion::Char),
        ("p", Conversion::Pointer),
        ("s", Conversion::Str),
        ("rx", Conversion::BufferHex),
        ("rh", Conversion::BufferHexPlain),
        ("r", Conversion::Buffer),
        ("gr", Conversion::GfpFlags),
    ] {
        if let Some(behind) = rest.strip_prefix(name) {
            spec.conversion = conversion;
            return Some((Some(spec), behind));
        }
    }
    Some((None, rest.strip_prefix('%')?))
}

/// Digits, or a `*` that is ignored. Wider than anything anybody prints: not a number.
fn number(text: &str) -> Option<(Option<u32>, &str)> {
    if let Some(behind) = text.strip_prefix('*') {
        return Some((None, behind));
    }
    let n_digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if n_digits == 0 {
        return Some((None, text));
    }
    let value: u32 = text[..n_digits].parse().ok().filter(|n| *n <= 65_535)?;
    Some((Some(value), &text[n_digits..]))
}

fn letter(conversion: Conversion) -> &'static str {
    match conversion {
        Conversion::Signed => "d",
        Conversion::Unsigned => "u",
        Conversion::Octal => "o",
        Conversion::Hex => "x",
        Conversion::HexUpper => "X",
        Conversion::Char => "c",
        Conversion::Pointer => "p",
        Conversion::Str => "s",
        Conversion::Buffer => "r",
        Conversion::BufferHex => "rx",
        Conversion::BufferHexPlain => "rh",
        Conversion::GfpFlags => "gr",
    }
}

impl Lowerer<'_, '_> {
    /// A format and what goes into it; `None` with errors when they do not fit.
    pub(super) fn formatted(
        &mut self,
        span: Span,
        call: &node::Call,
    ) -> Option<(Vec<FormatPiece>, Vec<Expr>)> {
        let name = &call.name.name;
        let (Some(first), args) = (call.args.first(), call.args.get(1..).unwrap_or(&[])) else {
            self.error(
                codes::ARGUMENT_COUNT,
                span,
                format!("{name}() requires at least one argument (0 provided)"),
            );
            return None;
        };
        let text = self.literal_text(name, first)?;
        let pieces = match parse_format(&text) {
            Ok(pieces) => pieces,
            Err(c) => {
                self.error(
                    codes::FORMAT,
                    span,
                    format!("unsupported format specifier: {c}"),
                );
                return None;
            }
        };
        let specs: Vec<&FormatSpec> = pieces
            .iter()
            .filter_map(|piece| match piece {
                FormatPiece::Spec(spec) => Some(spec),
                FormatPiece::Literal(_) => None,
            })
            .collect();
        let (n_args, n_specs) = (args.len(), specs.len());
        let mut ok = true;
        if n_args != n_specs {
            let word = if n_args < n_specs {
                "not enough"
            } else {
                "too many"
            };
            self.error(
                codes::FORMAT,
                span,
                format!(
                    "{word} arguments for format string ({n_args} supplied, {n_specs} expected)"
                ),
            );
            ok = false;
        }
        if n_args > MAX_ARGS {
            self.error(
                codes::FORMAT,
                span,
                format!("{name}() takes at most {MAX_ARGS} arguments"),
            );
            ok = false;
        }
        let mut exprs = Vec::with_capacity(n_args);
        for (i, arg) in args.iter().enumerate() {
            match self.format_argument(arg, specs.get(i).copied()) {
                Some(expr) => exprs.push(expr),
                None => ok = false,
            }
        }
        ok.then_some((pieces, exprs))
    }

    fn format_argument(&mut self, arg: &Arg, spec: Option<&FormatSpec>) -> Option<Expr> {
        let tree = self.value_arg(arg)?;
        let is_text = spec.is_some_and(|spec| spec.conversion == Conversion::Str);
        let val = match &tree.kind {
            // A parameter that is printed as text is text.
            Ast::PositionalParam(n)
                if is_text && self.s.options.param_kinds.get(*n as usize - 1).is_none() =>
            {
                self.positional(tree.span, *n, Some(ParamKind::Str))
            }
            _ => self.expr(tree),
        };
        if !val.known {
            return None;
        }
        let val = if is_text {
            self.stats_as_record(val)
        } else {
            val
        };
        if let Some(message) = self.not_printable(&val) {
            self.error(codes::FORMAT, val.span(), message);
            return None;
        }
        if let Some(spec) = spec
            && !fits(&val, spec.conversion)
        {
            let spelled = self.spell_val(&val);
            self.error(
                codes::FORMAT,
                val.span(),
                format!(
                    "unsupported format specifier for type '{spelled}': {}",
                    letter(spec.conversion)
                ),
            );
            return None;
        }
        Some(self.stored(val).expr)
    }

    /// Why a value cannot be printed.
    pub(super) fn not_printable(&self, val: &Val) -> Option<String> {
        match val.ty() {
            Ty::Void => Some("none type passed to printf() is not printable".to_owned()),
            Ty::Ptr(_, crate::Mem::Ctx) => Some(format!(
                "{} type passed to printf() is not printable",
                self.spell(val.ty())
            )),
            Ty::Agg(agg) => {
                let agg = crate::spell::spell_agg(agg);
                Some(format!("{agg} type passed to printf() is not printable"))
            }
            _ => None,
        }
    }
}

/// Whether a value can be printed by a conversion.
fn fits(val: &Val, conversion: Conversion) -> bool {
    if val.agg.is_some() {
        return conversion == Conversion::Str;
    }
    match conversion {
        Conversion::Str => true,
        Conversion::Signed
        | Conversion::Unsigned
        | Conversion::Octal
        | Conversion::Hex
        | Conversion::HexUpper
        | Conversion::Pointer => {
            matches!(val.ty(), Ty::Int(_) | Ty::Bool | Ty::Enum(..) | Ty::Ptr(..))
        }
        Conversion::Char | Conversion::GfpFlags => matches!(val.ty(), Ty::Int(_) | Ty::Enum(..)),
        Conversion::Buffer | Conversion::BufferHex | Conversion::BufferHexPlain => {
            matches!(val.ty(), Ty::Buf(_))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specs(text: &str) -> Vec<FormatSpec> {
        parse_format(text)
            .expect("a format")
            .into_iter()
            .filter_map(|piece| match piece {
                FormatPiece::Spec(spec) => Some(spec),
                FormatPiece::Literal(_) => None,
            })
            .collect()
    }

    #[test]
    fn flags_width_precision_and_length_are_read() {
        let spec = &specs("%-+ #08.3lld")[0];
        assert!(spec.left && spec.plus && spec.space && spec.alternate && spec.zero);
        assert_eq!((spec.width, spec.precision), (Some(8), Some(3)));
        assert_eq!(
            (spec.length, spec.conversion),
            (Length::Long, Conversion::Signed)
        );
        assert_eq!(specs("%rh %rx %r %gr").len(), 4);
    }

    #[test]
    fn what_is_no_conversion_stays_text() {
        assert_eq!(
            parse_format("100%").expect("text"),
            [FormatPiece::Literal("100%".to_owned())]
        );
        assert_eq!(
            parse_format("%%d %k").expect("text"),
            [FormatPiece::Literal("%d %k".to_owned())]
        );
        assert_eq!(
            parse_format("%5%|%-l%|%%%").expect("text"),
            [FormatPiece::Literal("%|%|%%".to_owned())]
        );
        assert_eq!(parse_format("%5.2f"), Err('f'));
        assert_eq!(parse_format("%99999999999d").map(|p| p.len()), Ok(1));
    }
}
