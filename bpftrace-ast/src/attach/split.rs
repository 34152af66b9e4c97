//! From the raw text of an attach point to its parts.

use super::{AttachPoint, Piece, Provider, ProviderKind, ProviderName, Text};
use crate::diag::{Code, Diagnostic};
use crate::source::Span;

impl AttachPoint {
    /// Splits the text of an attach point that stands at `span`. Positional parameters become holes.
    pub fn parse(raw: &str, span: Span) -> (AttachPoint, Vec<Diagnostic>) {
        let mut splitter = Splitter {
            span,
            // Where the text was put together from elsewhere, offsets into it say nothing.
            exact: span.len() as usize == raw.len(),
            part_start: 0,
            pieces: Vec::new(),
            parts: Vec::new(),
            diagnostics: Vec::new(),
        };
        splitter.split(raw);
        let mut parts = splitter.parts.into_iter();
        let mut first = parts.next().unwrap_or(Text {
            span,
            pieces: Vec::new(),
        });
        let name = take_name(&mut first);
        let kind = provider_name(&first);
        let attach_point = AttachPoint {
            span,
            raw: raw.to_owned(),
            name,
            provider: Provider { text: first, kind },
            parts: parts.collect(),
        };
        (attach_point, splitter.diagnostics)
    }

    /// The attach point with its holes filled. What a parameter brings is read like text of the script: it may hold
    /// separators, quotes and further parameters. Parameters that are not given are empty.
    pub fn fill(&self, param: &dyn Fn(u64) -> Option<String>) -> (AttachPoint, Vec<Diagnostic>) {
        /// Parameters may name each other; this many replacements are enough for any sensible use.
        const MAX_REPLACEMENTS: usize = 64;
        let mut raw = self.raw.clone();
        for _ in 0..MAX_REPLACEMENTS {
            let Some((start, end, number)) = first_param(&raw) else {
                break;
            };
            raw.replace_range(start..end, &param(number).unwrap_or_default());
        }
        AttachPoint::parse(&raw, self.span)
    }
}

/// The first `$N` outside quotes, as offsets and number.
fn first_param(raw: &str) -> Option<(usize, usize, u64)> {
    let mut in_quotes = false;
    let mut characters = raw.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => in_quotes = !in_quotes,
            '\\' if in_quotes => {
                characters.next();
            }
            '$' if !in_quotes => {
                let n_digits = n_param_digits(&raw[at + 1..]);
                if n_digits > 0 {
                    let end = at + 1 + n_digits;
                    return raw[at + 1..end]
                        .parse()
                        .ok()
                        .map(|number| (at, end, number));
                }
            }
            _ => {}
        }
    }
    None
}

/// How many digits of a parameter's number follow `$`; the number does not start with 0.
fn n_param_digits(after_dollar: &str) -> usize {
    if after_dollar.starts_with('0') {
        return 0;
    }
    after_dollar.bytes().take_while(u8::is_ascii_digit).count()
}

struct Splitter {
    span: Span,
    exact: bool,
    /// Offset of the part under construction.
    part_start: usize,
    pieces: Vec<Piece>,
    parts: Vec<Text>,
    diagnostics: Vec<Diagnostic>,
}

impl Splitter {
    fn split(&mut self, raw: &str) {
        let mut in_quotes = false;
        let mut characters = raw.char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                ':' | '@' if !in_quotes => {
                    self.end_part(at);
                    if character == '@' {
                        self.part_start = at;
                        self.push('@');
                        self.end_part(at + 1);
                    }
                    self.part_start = at + 1;
                }
                '"' => in_quotes = !in_quotes,
                '\\' if in_quotes => {
                    if let Some((_, escaped)) = characters.next() {
                        self.push(escaped);
                    }
                }
                '$' if !in_quotes => {
                    let n_digits = n_param_digits(&raw[at + 1..]);
                    self.param(&raw[at..], n_digits);
                    for _ in 0..n_digits {
                        characters.next();
                    }
                }
                _ => self.push(character),
            }
        }
        self.end_part(raw.len());
    }

    /// `text` starts at the `$`.
    fn param(&mut self, text: &str, n_digits: usize) {
        let message = match text[1..].chars().next() {
            _ if n_digits > 0 => match text[1..=n_digits].parse() {
                Ok(number) => return self.pieces.push(Piece::Param(number)),
                Err(_) => format!(
                    "positional parameter is not valid: overflow error, maximum value is {}: {}",
                    u64::MAX,
                    &text[1..=n_digits]
                ),
            },
            Some(trailing) => format!(
                "invalid trailing character for positional param: {trailing}. Try quoting this entire part if this \
                 is intentional e.g. \"${trailing}\"."
            ),
            None => "positional parameter is not valid: invalid integer: ".to_owned(),
        };
        self.diagnostics
            .push(Diagnostic::error(Code::ATTACH_POINT, self.span, message));
    }

    fn push(&mut self, character: char) {
        match self.pieces.last_mut() {
            Some(Piece::Literal(text)) => text.push(character),
            _ => self.pieces.push(Piece::Literal(character.to_string())),
        }
    }

    fn end_part(&mut self, end: usize) {
        let span = self.span_of(self.part_start, end);
        self.parts.push(Text {
            span,
            pieces: std::mem::take(&mut self.pieces),
        });
    }

    fn span_of(&self, start: usize, end: usize) -> Span {
        if self.exact {
            Span::new(
                self.span.source,
                self.span.start + start as u32,
                self.span.start + end as u32,
            )
        } else {
            self.span
        }
    }
}

/// Splits `name=` off the first part, if something follows the `=`.
fn take_name(first: &mut Text) -> Option<String> {
    let has_more = first.pieces.len() > 1;
    let Some(Piece::Literal(text)) = first.pieces.first_mut() else {
        return None;
    };
    let (name, provider) = text.split_once('=')?;
    if provider.is_empty() && !has_more {
        return None;
    }
    let name = name.to_owned();
    *text = provider.to_owned();
    if text.is_empty() {
        first.pieces.remove(0);
    }
    Some(name)
}

fn provider_name(text: &Text) -> ProviderName {
    match text.as_str() {
        None => ProviderName::Hole,
        Some(name) if name.contains('*') => ProviderName::Wildcard,
        Some(name) => {
            ProviderKind::from_name(name).map_or(ProviderName::Unknown, ProviderName::Known)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::SourceMap;

    fn split(raw: &str) -> (AttachPoint, Vec<String>) {
        let mut map = SourceMap::new();
        let id = map.add("a.bt", raw);
        let (attach_point, diagnostics) =
            AttachPoint::parse(raw, Span::new(id, 0, raw.len() as u32));
        for part in &attach_point.parts {
            assert!(attach_point.span.contains(part.span));
        }
        (
            attach_point,
            diagnostics
                .into_iter()
                .map(|diagnostic| diagnostic.message)
                .collect(),
        )
    }

    fn parts(raw: &str) -> Vec<String> {
        split(raw).0.parts.iter().map(Text::to_display).collect()
    }

    #[test]
    fn colons_split_outside_quotes_only_and_at_is_a_part() {
        assert_eq!(parts("uprobe:/bin/a:f"), ["/bin/a", "f"]);
        assert_eq!(parts(r#"uprobe:"/bin/a:b@c":f"#), ["/bin/a:b@c", "f"]);
        assert_eq!(parts(r#"usdt:a:"x\"\y""#), ["a", "x\"y"]);
        assert_eq!(
            parts("uprobe:/bin/a@x.c:12:3"),
            ["/bin/a", "@", "x.c", "12", "3"]
        );
        assert_eq!(parts("begin"), Vec::<String>::new());
        assert_eq!(parts("begin:"), [""]);
    }

    #[test]
    fn the_first_part_may_carry_a_name() {
        let (attach_point, _) = split("mine=KProbe:f");
        assert_eq!(attach_point.name.as_deref(), Some("mine"));
        assert_eq!(
            attach_point.provider.kind,
            ProviderName::Known(ProviderKind::Kprobe)
        );
        assert_eq!(split("mine=:f").0.name, None);
        assert_eq!(split("mine=$1:f").0.provider.kind, ProviderName::Hole);
        assert_eq!(split("k*:f").0.provider.kind, ProviderName::Wildcard);
        assert_eq!(split("nothing:f").0.provider.kind, ProviderName::Unknown);
    }

    #[test]
    fn parameters_are_holes_outside_quotes() {
        let (attach_point, diagnostics) = split(r#"kprobe:a$12b:"$1""#);
        assert!(diagnostics.is_empty());
        assert_eq!(
            attach_point.parts[0].pieces,
            [
                Piece::Literal("a".into()),
                Piece::Param(12),
                Piece::Literal("b".into())
            ]
        );
        assert_eq!(attach_point.parts[1].as_str(), Some("$1"));
    }

    #[test]
    fn a_dollar_without_number_is_reported() {
        for (raw, message) in [
            (
                "usdt:a$b:c",
                "invalid trailing character for positional param: b. Try quoting this entire part if this is \
                 intentional e.g. \"$b\".",
            ),
            (
                "kprobe:$",
                "positional parameter is not valid: invalid integer: ",
            ),
        ] {
            assert_eq!(split(raw).1, [message]);
        }
    }

    #[test]
    fn filling_reads_what_it_brings() {
        let (attach_point, _) = split("$1:$2");
        let (filled, diagnostics) = attach_point.fill(&|number| match number {
            1 => Some("uprobe:/bin/$3".into()),
            3 => Some("sh".into()),
            _ => None,
        });
        assert!(diagnostics.is_empty());
        assert_eq!(filled.raw, "uprobe:/bin/sh:");
        assert_eq!(
            filled.provider.kind,
            ProviderName::Known(ProviderKind::Uprobe)
        );
        assert_eq!(filled.parts.len(), 2);
    }
}
