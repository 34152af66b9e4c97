//! Which declaration of the system's headers defines what. Headers of a system define thousands of
//! things, of which a script uses a few: only those are read.

use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use super::token::{Kind, Token};

/// Definitions in definitions that are read for them, no deeper than this.
const MAX_DEPTH: u32 = 12;

/// Where the definitions of names are among the tokens.
#[derive(Debug, Default)]
pub(super) struct HeaderIndex {
    pub(super) tokens: Vec<Token>,
    structs: HashMap<(Rc<str>, bool), Range<usize>>,
    enums: HashMap<Rc<str>, Range<usize>>,
    typedefs: HashMap<Rc<str>, Range<usize>>,
    enumerators: HashMap<Rc<str>, Range<usize>>,
    depth: u32,
}

impl HeaderIndex {
    pub(super) fn new(tokens: Vec<Token>) -> Self {
        let mut index = Self::default();
        let mut at = 0;
        while at < tokens.len() {
            let (len, is_function) = declaration_len(&tokens[at..]);
            if !is_function {
                index.declaration(&tokens, at..at + len);
            }
            at += len;
        }
        index.tokens = tokens;
        index
    }

    fn declaration(&mut self, tokens: &[Token], range: Range<usize>) {
        let mut is_typedef = false;
        let mut at = range.start;
        while at < range.end {
            match tokens[at].word() {
                Some("typedef") => is_typedef = true,
                Some(keyword @ ("struct" | "union" | "enum")) => {
                    if let Some((name, brace)) = tag(&tokens[at + 1..range.end]) {
                        let brace = at + 1 + brace;
                        match (keyword, name) {
                            ("enum", name) => {
                                if let Some(name) = name {
                                    self.enums.entry(name).or_insert(range.clone());
                                }
                                self.enumerators_of(tokens, brace, &range);
                            }
                            (_, Some(name)) => {
                                let key = (name, keyword == "union");
                                self.structs.entry(key).or_insert(range.clone());
                            }
                            (_, None) => {}
                        }
                        at = brace;
                    }
                }
                _ => {}
            }
            at += 1;
        }
        if is_typedef && let Some(name) = declared_name(&tokens[range.clone()]) {
            self.typedefs.entry(name).or_insert(range);
        }
    }

    fn enumerators_of(&mut self, tokens: &[Token], brace: usize, range: &Range<usize>) {
        let mut at = brace + 1;
        let mut fresh = true;
        let mut open = 0u32;
        while at < range.end {
            let token = &tokens[at];
            match &token.kind {
                Kind::Punct("(") => open += 1,
                Kind::Punct(")") => open = open.saturating_sub(1),
                Kind::Punct("}") => return,
                Kind::Punct(",") if open == 0 => {
                    fresh = true;
                    at += 1;
                    continue;
                }
                Kind::Word(word) if fresh => {
                    self.enumerators
                        .entry(Rc::clone(word))
                        .or_insert(range.clone());
                }
                _ => {}
            }
            fresh = false;
            at += 1;
        }
    }

    // A declaration is read once: what it did not define then it does not define.

    pub(super) fn take_struct(&mut self, name: &str, is_union: bool) -> Option<Range<usize>> {
        self.structs.remove(&(name.into(), is_union))
    }

    pub(super) fn take_enum(&mut self, name: &str) -> Option<Range<usize>> {
        self.enums.remove(name)
    }

    pub(super) fn take_typedef(&mut self, name: &str) -> Option<Range<usize>> {
        self.typedefs.remove(name)
    }

    pub(super) fn take_enumerator(&mut self, name: &str) -> Option<Range<usize>> {
        self.enumerators.remove(name)
    }

    /// Goes into one more declaration; `false` when that is too deep.
    pub(super) fn descend(&mut self) -> bool {
        let fits = self.depth < MAX_DEPTH;
        self.depth += u32::from(fits);
        fits
    }

    pub(super) fn ascend(&mut self) {
        self.depth -= 1;
    }
}

/// Names and keywords of the structs, unions and enums that declarations define.
pub(super) fn tags(tokens: &[Token]) -> Vec<(Rc<str>, &'static str)> {
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let keyword = match token.word() {
            Some("struct") => "struct",
            Some("union") => "union",
            Some("enum") => "enum",
            _ => continue,
        };
        if let Some((Some(name), _)) = tag(&tokens[at + 1..]) {
            found.push((name, keyword));
        }
    }
    found
}

/// Length of the declaration that the tokens start with, and whether it is a function with a body.
pub(super) fn declaration_len(tokens: &[Token]) -> (usize, bool) {
    let mut open = 0u32;
    let mut parameters = false;
    let mut value = false;
    let mut body = false;
    for (at, token) in tokens.iter().enumerate() {
        let Kind::Punct(punct) = token.kind else {
            continue;
        };
        match punct {
            "(" | "[" => {
                let named = at.checked_sub(1).and_then(|before| tokens[before].word());
                parameters |=
                    open == 0 && punct == "(" && named.is_some_and(|name| !is_attribute(name));
                open += 1;
            }
            "{" => {
                body |= open == 0 && parameters && !value;
                open += 1;
            }
            ")" | "]" => open = open.saturating_sub(1),
            "}" => {
                open = open.saturating_sub(1);
                if open == 0 && body {
                    return (at + 1, true);
                }
            }
            "=" if open == 0 => value = true,
            ";" if open == 0 => return (at + 1, false),
            _ => {}
        }
    }
    (tokens.len(), body)
}

fn is_attribute(word: &str) -> bool {
    matches!(
        word,
        "__attribute__" | "__attribute" | "__declspec" | "_Alignas" | "__typeof__" | "typeof"
    )
}

/// The name between a keyword and the brace of a definition, and where the brace is.
fn tag(tokens: &[Token]) -> Option<(Option<Rc<str>>, usize)> {
    let mut name = None;
    let mut open = 0u32;
    for (at, token) in tokens.iter().take(64).enumerate() {
        match &token.kind {
            Kind::Punct("(") => open += 1,
            Kind::Punct(")") => open = open.checked_sub(1)?,
            _ if open > 0 => {}
            Kind::Punct("{") => return Some((name, at)),
            Kind::Word(word) if !is_attribute(word) => name = Some(Rc::clone(word)),
            Kind::Word(_) => {}
            _ => return None,
        }
    }
    None
}

/// The name that a typedef gives: the last word outside of brackets, or the one in `(*name)`.
fn declared_name(tokens: &[Token]) -> Option<Rc<str>> {
    let mut open = 0u32;
    let mut name = None;
    let mut before = None;
    for (at, token) in tokens.iter().enumerate() {
        match &token.kind {
            Kind::Punct("(") if open == 0 && is_pointer(&tokens[at..]) => {
                if let Some(found) = tokens[at..].iter().find_map(Token::word) {
                    return Some(found.into());
                }
            }
            Kind::Punct("(" | "[" | "{") => open += 1,
            Kind::Punct(")" | "]" | "}") => open = open.saturating_sub(1),
            Kind::Word(word) if open == 0 => {
                before = name;
                name = Some(Rc::clone(word));
            }
            _ => {}
        }
    }
    // `typedef long t __attribute__((...));`
    match &name {
        Some(last) if is_attribute(last) => before,
        _ => name,
    }
}

fn is_pointer(tokens: &[Token]) -> bool {
    matches!(tokens, [_, star, ..] if star.is_punct("*"))
}

#[cfg(test)]
mod tests {
    use bpftrace_ast::source::SourceMap;

    use super::super::token::Lexer;
    use super::HeaderIndex;

    #[test]
    fn definitions_are_found_and_functions_are_passed() {
        let text = "struct a { struct b { int x; } y; union { int z; }; };\n\
            static inline int f(struct c { int x; } *p) { struct d { int x; } y; return 0; }\n\
            typedef int (*fn_t)(void); typedef unsigned long t __attribute__((aligned(8)));\n\
            enum color { RED = sizeof(int), GREEN, }; typedef struct { char c; } s_t;\n\
            struct __attribute__((packed)) e { int x; } v = { 1 };\n\
            extern int g(int);";
        let source = SourceMap::new().add("t.h", text);
        let mut index = HeaderIndex::new(Lexer::default().tokens(text, source, 0, u32::MAX));
        for name in ["a", "b", "e"] {
            assert!(index.take_struct(name, false).is_some(), "{name}");
        }
        for name in ["c", "d"] {
            assert!(index.take_struct(name, false).is_none(), "{name}");
        }
        for name in ["fn_t", "t", "s_t"] {
            assert!(index.take_typedef(name).is_some(), "{name}");
        }
        assert!(index.take_enum("color").is_some());
        assert!(index.take_enumerator("RED").is_some());
        assert!(index.take_enumerator("GREEN").is_some());
        assert!(index.take_enumerator("sizeof").is_none());
    }
}
