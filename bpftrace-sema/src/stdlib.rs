//! The library: builtins and functions that are macros, written in the language itself.
//!
//! The texts are part of the compiler. A macro of them is parsed when a script, or another macro that is
//! parsed, mentions its name; what no name leads to costs nothing. Names that start with `__builtin_`
//! are what the macros stand on: the compiler knows those by itself.
//!
//! A script's own macro wins over one of the library that takes the same arguments, except in the
//! library itself.

use bpftrace_ast::order::sort_by_number;
use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::OnceLock;

use bpftrace_ast::node::{CStatementKind, Item, Macro, Script};
use bpftrace_ast::source::{SourceId, SourceMap, Span};

use crate::pass::mentions::{Mention, mentioned_calls};

/// The texts, under the names that diagnostics show.
const FILES: &[(&str, &str)] = &[
    ("stdlib/base.bt", include_str!("stdlib/base.bt")),
    ("stdlib/maps.bt", include_str!("stdlib/maps.bt")),
    ("stdlib/meta.bt", include_str!("stdlib/meta.bt")),
    ("stdlib/process.bt", include_str!("stdlib/process.bt")),
    ("stdlib/strings.bt", include_str!("stdlib/strings.bt")),
];

/// A macro of the texts, before it is parsed.
#[derive(Clone, Copy, Debug)]
struct Entry {
    name: &'static str,
    n_params: usize,
    file: usize,
    start: usize,
    end: usize,
}

/// Where each macro is; sorted by name. Macros start at the first column, and `}` ends them there.
fn index() -> &'static [Entry] {
    static INDEX: OnceLock<Vec<Entry>> = OnceLock::new();
    INDEX.get_or_init(|| {
        let mut entries = Vec::new();
        for (file, (_, text)) in FILES.iter().enumerate() {
            let mut from = 0;
            while let Some(at) = text[from..].find("\nmacro ") {
                let start = from + at + 1;
                let end = text[start..]
                    .find("\n}")
                    .map_or(text.len(), |len| start + len + 2);
                let head = &text[start + "macro ".len()..end];
                let head = head.split(')').next().unwrap_or(head);
                let (name, params) = head.split_once('(').unwrap_or((head, ""));
                entries.push(Entry {
                    name,
                    n_params: match params.trim() {
                        "" => 0,
                        params => params.split(',').count(),
                    },
                    file,
                    start,
                    end,
                });
                from = end;
            }
        }
        entries.sort_by_key(|entry| entry.name);
        entries
    })
}

fn entries(name: &str) -> impl Iterator<Item = &'static Entry> {
    let index = index();
    let first = index.partition_point(|entry| entry.name < name);
    index[first..]
        .iter()
        .take_while(move |entry| entry.name == name)
}

/// The names of all macros of the library, those for its own use included.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    index().iter().map(|entry| entry.name)
}

/// Macros that have to be parsed.
#[derive(Default)]
struct Wanted {
    seen: HashSet<(usize, usize)>,
    todo: Vec<&'static Entry>,
}

impl Wanted {
    fn want(&mut self, entry: &'static Entry) {
        if self.seen.insert((entry.file, entry.start)) {
            self.todo.push(entry);
        }
    }

    fn add(&mut self, mentions: &[Mention<'_>]) {
        for (name, args) in mentions {
            let n_args = args.map_or(0, <[_]>::len);
            for entry in entries(name).filter(|entry| entry.n_params == n_args) {
                self.want(entry);
            }
        }
    }
}

/// How a macro of the library can be called: `comm()`, `comm(task_pid)`. Nothing when there is none of that
/// name.
pub(crate) fn forms(name: &str) -> Vec<&'static str> {
    entries(name)
        .map(|entry| {
            let head = &FILES[entry.file].1[entry.start + "macro ".len()..entry.end];
            head.split('\n').next().unwrap_or(head)
        })
        .collect()
}

/// The macros of the library that a script can come to use.
#[derive(Debug, Default)]
pub(crate) struct Library {
    /// Parsed definitions.
    pub(crate) macros: Vec<Macro>,
    /// The texts in the source map that are of the library.
    texts: Option<RangeInclusive<SourceId>>,
}

impl Library {
    /// Parses what a script mentions, and what that mentions.
    pub(crate) fn load(script: &Script, sources: &mut SourceMap) -> Self {
        let mut wanted = Wanted::default();
        for item in &script.items {
            let (predicate, body) = match item {
                Item::Probe(probe) => (probe.predicate.as_ref(), &probe.body),
                Item::Macro(definition) => (None, &definition.body),
                Item::Subprog(function) => (None, &function.body),
                Item::MapDecl(_) => continue,
            };
            wanted.add(&mentioned_calls(predicate, body));
        }
        // What C macros stand for is read when one is used, which is too late to parse something.
        for line in &script.c_statements {
            if line.kind == CStatementKind::Preprocessor {
                let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
                for word in line.text.split(|c: char| !is_part(c)) {
                    for entry in entries(word) {
                        wanted.want(entry);
                    }
                }
            }
        }
        let mut library = Self::default();
        let mut loaded: Vec<Option<SourceId>> = vec![None; FILES.len()];
        while let Some(entry) = wanted.todo.pop() {
            let source = *loaded[entry.file].get_or_insert_with(|| {
                let (name, text) = FILES[entry.file];
                sources.add_static(name, text)
            });
            library.texts = Some(match library.texts {
                Some(texts) => *texts.start().min(&source)..=*texts.end().max(&source),
                None => source..=source,
            });
            let (mut macros, diags) =
                bpftrace_ast::parse_macros(source, sources, entry.start..entry.end);
            debug_assert!(diags.is_empty(), "the library is not right: {diags:?}");
            for definition in &macros {
                wanted.add(&mentioned_calls(None, &definition.body));
            }
            library.macros.append(&mut macros);
        }
        // Definitions of one name are tried in their order.
        sort_by_number(&mut library.macros, |definition| definition.span.place());
        library
    }

    /// Whether a place is in the library.
    pub(crate) fn has(&self, span: Span) -> bool {
        self.texts
            .as_ref()
            .is_some_and(|texts| texts.contains(&span.source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_macro_can_be_parsed_and_is_named_as_the_index_says() {
        let mut sources = SourceMap::new();
        for entry in index() {
            let (name, text) = FILES[entry.file];
            let source = sources.add_static(name, text);
            let (macros, diags) =
                bpftrace_ast::parse_macros(source, &sources, entry.start..entry.end);
            assert!(diags.is_empty(), "{}: {diags:?}", entry.name);
            assert_eq!(macros.len(), 1, "{}", entry.name);
            assert_eq!(macros[0].name.name, entry.name);
            assert_eq!(macros[0].params.len(), entry.n_params, "{}", entry.name);
        }
    }

    #[test]
    fn the_index_has_every_macro_of_the_texts() {
        for (name, text) in FILES {
            let mut sources = SourceMap::new();
            let source = sources.add_static(name, text);
            let (script, diags) = bpftrace_ast::parse(source, &sources);
            assert!(diags.is_empty(), "{name}: {diags:?}");
            for item in &script.items {
                let Item::Macro(definition) = item else {
                    panic!("{name}: only macros belong here");
                };
                let start = definition.span.start as usize;
                assert!(
                    entries(&definition.name.name).any(|entry| entry.start == start),
                    "{}",
                    definition.name.name
                );
            }
        }
    }

    #[test]
    fn a_script_that_mentions_nothing_loads_nothing() {
        let mut sources = SourceMap::new();
        let source = sources.add("t.bt", "begin { print(\"hello world\"); exit(); }");
        let (script, _) = bpftrace_ast::parse(source, &sources);
        let library = Library::load(&script, &mut sources);
        assert!(library.macros.is_empty());
        assert_eq!(sources.files().count(), 1);
    }

    #[test]
    fn what_a_macro_mentions_is_loaded_with_it() {
        let mut sources = SourceMap::new();
        let source = sources.add("t.bt", "begin { print(username); }");
        let (script, _) = bpftrace_ast::parse(source, &sources);
        let library = Library::load(&script, &mut sources);
        let mut names: Vec<&str> = library
            .macros
            .iter()
            .map(|definition| definition.name.name.as_str())
            .collect();
        names.sort_unstable();
        assert_eq!(names, ["uid", "username"]);
    }
}
