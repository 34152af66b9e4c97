//! Integer literals as the scanner sees them.

use nom::branch::alt;
use nom::bytes::complete::{tag, tag_no_case, take_while, take_while1};
use nom::character::complete::one_of;
use nom::combinator::{opt, recognize};
use nom::{IResult, Parser};

pub(crate) use bpftrace_notation::parse_uint;

/// An integer literal as the scanner sees it.
pub(crate) struct Literal<'a> {
    /// Digits, exponent and suffix.
    pub(crate) body: &'a str,
    /// Letters glued on that are no suffix.
    pub(crate) bad_suffix: &'a str,
    /// Length of the text up to an underscore that ends the digits or the exponent.
    pub(crate) trailing_underscore: Option<usize>,
}

/// Scans an integer literal at the start of `input`, which must start with a digit.
pub(crate) fn literal(input: &str) -> IResult<&str, Literal<'_>> {
    let hex: IResult<&str, &str> = recognize((
        tag_no_case("0x"),
        take_while(|c: char| c.is_ascii_hexdigit() || c == '_'),
    ))
    .parse(input);
    if let Ok((rest, body)) = hex {
        let trailing_underscore = body.ends_with('_').then_some(body.len());
        return Ok((
            rest,
            Literal {
                body,
                bad_suffix: "",
                trailing_underscore,
            },
        ));
    }
    let digit = |c: char| c.is_ascii_digit() || c == '_';
    let (rest, digits) = take_while1(digit).parse(input)?;
    let (rest, exponent) = opt(recognize((one_of("eE"), take_while(digit)))).parse(rest)?;
    let n_number = digits.len() + exponent.map_or(0, str::len);
    let trailing_underscore = if digits.ends_with('_') {
        Some(digits.len())
    } else {
        exponent
            .is_some_and(|exponent| exponent.ends_with('_'))
            .then_some(n_number)
    };
    let (rest, suffix) = opt(suffix).parse(rest)?;
    let body = &input[..n_number + suffix.map_or(0, str::len)];
    let (rest, bad_suffix) =
        take_while(|c: char| c.is_ascii_alphanumeric() || c == '_').parse(rest)?;
    Ok((
        rest,
        Literal {
            body,
            bad_suffix,
            trailing_underscore,
        },
    ))
}

fn suffix(input: &str) -> IResult<&str, &str> {
    alt((
        tag("ns"),
        tag("us"),
        tag("ms"),
        tag("s"),
        tag("m"),
        tag("h"),
        tag("d"),
        recognize((one_of("uU"), opt(one_of("lL")), opt(one_of("lL")))),
        recognize((one_of("lL"), opt(one_of("lL")))),
    ))
    .parse(input)
}
