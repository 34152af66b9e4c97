//! Functions and types by their names.

use std::collections::HashMap;

use gimli::{AttributeValue, DwTag};

use crate::types::TypeName;
use crate::unit::{Entry, Place, Units};

/// A function that has code, or had it before it was inlined everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    pub(crate) place: Place,
    /// As the symbol table has it.
    pub(crate) symbol: String,
    /// Whether it has an address.
    pub(crate) has_code: bool,
}

/// Names to places.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(crate) functions: Vec<Function>,
    /// By symbol, and by the name in the source.
    by_name: HashMap<String, usize>,
    types: HashMap<(TypeName, String), Place>,
    /// The namespaces and types that declarations of functions are in.
    paths: HashMap<Place, String>,
}

/// Namespaces nest no deeper.
const MAX_DEPTH: u32 = 64;

impl Index {
    pub(crate) fn build(units: &Units) -> Self {
        let mut index = Self::default();
        for number in 0..units.units.len() as u32 {
            let (_, unit) = units.at(number);
            let root = Place {
                unit: number,
                offset: unit.header.root_offset(),
            };
            index.scope(units, root, "", 0);
        }
        index
    }

    fn scope(&mut self, units: &Units, place: Place, path: &str, depth: u32) {
        if depth > MAX_DEPTH {
            return;
        }
        for (at, entry) in units.children(place) {
            match entry.tag() {
                gimli::DW_TAG_subprogram => self.function(units, at, &entry, path),
                gimli::DW_TAG_namespace | gimli::DW_TAG_module => {
                    let name = units.name(at, &entry);
                    self.scope(units, at, &qualified(path, &name), depth + 1);
                }
                tag => {
                    let Some(kind) = kind_of(tag) else { continue };
                    let name = units.name(at, &entry);
                    if !name.is_empty() && !is_declaration(&entry) {
                        let full = qualified(path, &name);
                        self.add_type(kind, full, at);
                        // What is at the top level comes first.
                        if !path.is_empty() {
                            self.add_type(kind, name.clone(), at);
                        }
                    }
                    if entry.has_children() && kind == TypeName::Struct {
                        self.scope(units, at, &qualified(path, &name), depth + 1);
                    }
                }
            }
        }
    }

    fn add_type(&mut self, kind: TypeName, name: String, at: Place) {
        self.types.entry((kind, name)).or_insert(at);
    }

    fn function(&mut self, units: &Units, at: Place, entry: &Entry, path: &str) {
        // What is defined or inlined elsewhere was declared where it belongs.
        let declared = entry
            .attr_value(gimli::DW_AT_specification)
            .or_else(|| entry.attr_value(gimli::DW_AT_abstract_origin))
            .and_then(|value| units.follow(at.unit, value))
            .and_then(|declared| self.paths.get(&declared).cloned());
        let path = declared.as_deref().unwrap_or(path);
        if !path.is_empty() {
            self.paths.insert(at, path.to_owned());
        }
        if is_declaration(entry) {
            return;
        }
        let name = units.name(at, entry);
        if name.is_empty() {
            return;
        }
        let linkage = units.text(at, entry, gimli::DW_AT_linkage_name);
        let has_code = entry.has_attr(gimli::DW_AT_low_pc) || entry.has_attr(gimli::DW_AT_ranges);
        let function = Function {
            place: at,
            symbol: linkage.unwrap_or_else(|| name.clone()),
            has_code,
        };
        let number = self.functions.len();
        let keys = [function.symbol.clone(), qualified(path, &name), name];
        self.functions.push(function);
        for key in keys {
            let functions = &self.functions;
            self.by_name
                .entry(key)
                .and_modify(|known| {
                    if has_code && !functions[*known].has_code {
                        *known = number;
                    }
                })
                .or_insert(number);
        }
    }

    pub(crate) fn function_named(&self, name: &str) -> Option<&Function> {
        self.by_name.get(name).map(|at| &self.functions[*at])
    }

    pub(crate) fn type_named(&self, kind: TypeName, name: &str) -> Option<Place> {
        self.types.get(&(kind, name.to_owned())).copied()
    }
}

fn qualified(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}::{name}")
    }
}

fn kind_of(tag: DwTag) -> Option<TypeName> {
    Some(match tag {
        gimli::DW_TAG_structure_type | gimli::DW_TAG_class_type => TypeName::Struct,
        gimli::DW_TAG_union_type => TypeName::Union,
        gimli::DW_TAG_enumeration_type => TypeName::Enum,
        gimli::DW_TAG_typedef | gimli::DW_TAG_base_type => TypeName::Typedef,
        _ => return None,
    })
}

pub(crate) fn is_declaration(entry: &Entry) -> bool {
    matches!(
        entry.attr_value(gimli::DW_AT_declaration),
        Some(AttributeValue::Flag(true))
    )
}
