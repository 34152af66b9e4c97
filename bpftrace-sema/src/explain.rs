//! Pages about diagnostics, one for each code, for `bpftrace --explain CODE`.
//!
//! A page is the code, a summary of one line, what it means, a script that gives it, and the script
//! mended. Tests run the scripts.

/// Every code with its page, sorted.
const PAGES: &[(&str, &str)] = &[
    ("address-space", include_str!("explain/address-space.txt")),
    ("argument-count", include_str!("explain/argument-count.txt")),
    (
        "argument-ignored",
        include_str!("explain/argument-ignored.txt"),
    ),
    ("argument-kind", include_str!("explain/argument-kind.txt")),
    ("attach-point", include_str!("explain/attach-point.txt")),
    ("c-definition", include_str!("explain/c-definition.txt")),
    ("cast", include_str!("explain/cast.txt")),
    ("codegen", include_str!("explain/codegen.txt")),
    ("comptime", include_str!("explain/comptime.txt")),
    ("condition", include_str!("explain/condition.txt")),
    ("config", include_str!("explain/config.txt")),
    ("deprecated", include_str!("explain/deprecated.txt")),
    (
        "discarded-value",
        include_str!("explain/discarded-value.txt"),
    ),
    ("fail", include_str!("explain/fail.txt")),
    ("format", include_str!("explain/format.txt")),
    ("implicit-cast", include_str!("explain/implicit-cast.txt")),
    ("import", include_str!("explain/import.txt")),
    ("index", include_str!("explain/index.txt")),
    ("internal", include_str!("explain/internal.txt")),
    ("jump", include_str!("explain/jump.txt")),
    ("limit", include_str!("explain/limit.txt")),
    ("literal", include_str!("explain/literal.txt")),
    ("loop", include_str!("explain/loop.txt")),
    ("macro", include_str!("explain/macro.txt")),
    (
        "map-declaration",
        include_str!("explain/map-declaration.txt"),
    ),
    ("map-key", include_str!("explain/map-key.txt")),
    ("map-scalar", include_str!("explain/map-scalar.txt")),
    ("map-value", include_str!("explain/map-value.txt")),
    ("no-types", include_str!("explain/no-types.txt")),
    ("not-in-probe", include_str!("explain/not-in-probe.txt")),
    ("operator", include_str!("explain/operator.txt")),
    ("order", include_str!("explain/order.txt")),
    ("overflow", include_str!("explain/overflow.txt")),
    (
        "pointer-comparison",
        include_str!("explain/pointer-comparison.txt"),
    ),
    ("redeclared", include_str!("explain/redeclared.txt")),
    (
        "signed-division",
        include_str!("explain/signed-division.txt"),
    ),
    ("string-length", include_str!("explain/string-length.txt")),
    ("syntax", include_str!("explain/syntax.txt")),
    ("type-mismatch", include_str!("explain/type-mismatch.txt")),
    ("undefined-map", include_str!("explain/undefined-map.txt")),
    (
        "undefined-variable",
        include_str!("explain/undefined-variable.txt"),
    ),
    ("unknown-field", include_str!("explain/unknown-field.txt")),
    (
        "unknown-function",
        include_str!("explain/unknown-function.txt"),
    ),
    (
        "unknown-identifier",
        include_str!("explain/unknown-identifier.txt"),
    ),
    ("unknown-type", include_str!("explain/unknown-type.txt")),
    (
        "unnecessary-cast",
        include_str!("explain/unnecessary-cast.txt"),
    ),
    ("unreachable", include_str!("explain/unreachable.txt")),
    (
        "unresolved-type",
        include_str!("explain/unresolved-type.txt"),
    ),
    ("unsafe", include_str!("explain/unsafe.txt")),
    ("unstable", include_str!("explain/unstable.txt")),
    ("unsupported", include_str!("explain/unsupported.txt")),
    ("unused", include_str!("explain/unused.txt")),
];

/// The page about a code.
#[must_use]
pub fn explain(code: &str) -> Option<&'static str> {
    PAGES
        .binary_search_by_key(&code, |(name, _)| name)
        .ok()
        .map(|at| PAGES[at].1)
}

/// Every code that has a page, with its summary of one line.
pub fn explained() -> impl Iterator<Item = (&'static str, &'static str)> {
    PAGES
        .iter()
        .map(|(name, page)| (*name, page.lines().nth(2).unwrap_or_default()))
}

/// The code that is nearest to a word that is none.
#[must_use]
pub fn nearest_code(word: &str) -> Option<&'static str> {
    crate::suggest::nearest(word, PAGES.iter().map(|(name, _)| *name))
}
