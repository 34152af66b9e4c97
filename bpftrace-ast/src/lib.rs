//! bpftrace source text to a syntax tree with spans, and diagnostics.
//!
//! [`parse`] takes a text of a [`source::SourceMap`] and gives a [`node::Script`] and a list of
//! [`diag::Diagnostic`]s. It is total: any text gives a script, and whatever could not be understood is in the
//! diagnostics. Time and memory are linear in the length of the text.
//!
//! The crate knows the grammar and nothing else: no types, no probes or functions by name, no files, no kernel.
//! Names are text here; what they mean is found out later.
//!
//! ```text
//!            SourceMap ──▶ parse ──▶ Script ──▶ print   canonical text
//!                            │          └─────▶ dump    tree, for -d ast and tests
//!                            ▼
//!                       Diagnostics ──▶ diag::render    text for people
//! ```
//!
//! Read [`node::Script`] first, then [`node::ExprKind`], then [`attach::AttachPoint`].
//!
//! ```
//! let mut map = bpftrace_ast::source::SourceMap::new();
//! let id = map.add("hello.bt", "begin { print(1 + ) }");
//! let (_script, diagnostics) = bpftrace_ast::parse(id, &map);
//! assert_eq!(diagnostics[0].message, "syntax: expected expression");
//! ```
#![forbid(unsafe_code)]

pub mod attach;
pub mod diag;
pub mod dump;
pub mod integer;
mod lexer;
pub mod node;
pub mod order;
mod parser;
pub mod print;
pub mod source;

pub use parser::{parse, parse_expr, parse_macros};
