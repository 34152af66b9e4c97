//! Parameters of functions.

use bpftrace_meta::wildcard_match;
use gimli::AttributeValue;

use crate::DebugInfo;
use crate::demangle::demangle;
use crate::types::{TypeId, is_qualifier};
use crate::unit::{MAX_HOPS, Place};

/// A parameter of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// Name; empty when it has none.
    pub name: String,
    /// Type.
    pub ty: TypeId,
    /// Whether its address is passed in its place.
    pub by_reference: bool,
}

impl DebugInfo {
    /// The parameters of the function of a name: as the symbol table has it, or as its source has it.
    #[must_use]
    pub fn function_params(&self, name: &str) -> Option<Vec<Param>> {
        let function = self.index().function_named(name)?;
        let children = self.units.children(function.place);
        let params = children
            .into_iter()
            .filter(|(_, entry)| entry.tag() == gimli::DW_TAG_formal_parameter);
        Some(
            params
                .map(|(at, entry)| {
                    let ty = self.units.type_of(at, &entry);
                    Param {
                        name: self.units.name(at, &entry),
                        by_reference: ty.is_some_and(|ty| self.is_passed_by_reference(ty)),
                        ty: self.intern(ty),
                    }
                })
                .collect(),
        )
    }

    /// Objects of some classes of C++, and large ones of Rust, are passed by their address.
    fn is_passed_by_reference(&self, mut ty: Place) -> bool {
        for _ in 0..MAX_HOPS {
            let Some(entry) = self.units.entry(ty) else {
                return false;
            };
            match entry.tag() {
                tag if is_qualifier(tag) || tag == gimli::DW_TAG_typedef => {
                    match self.units.type_of(ty, &entry) {
                        Some(next) => ty = next,
                        None => return false,
                    }
                }
                gimli::DW_TAG_structure_type
                | gimli::DW_TAG_class_type
                | gimli::DW_TAG_union_type => {
                    let convention = entry.attr_value(gimli::DW_AT_calling_convention);
                    let by_reference = matches!(
                        convention,
                        Some(AttributeValue::CallingConvention(
                            gimli::DW_CC_pass_by_reference
                        ))
                    );
                    let size = entry.attr_value(gimli::DW_AT_byte_size);
                    let size = size.and_then(|size| size.udata_value()).unwrap_or(0);
                    return by_reference
                        || (size > 16 && self.is_rust(ty))
                        || self.is_copied_by_code(ty, 0);
                }
                _ => return false,
            }
        }
        false
    }

    /// Whether objects of a class cannot be copied as bytes: it, or a part of it, has a destructor, a copy
    /// constructor or virtual functions of its own (Itanium C++ ABI, "non-trivial for the purposes of calls").
    fn is_copied_by_code(&self, class: Place, depth: usize) -> bool {
        let Some(entry) = self.units.entry(class).filter(|_| depth < MAX_HOPS) else {
            return false;
        };
        let name = self.units.name(class, &entry);
        self.units.children(class).iter().any(|(at, child)| {
            let is_virtual = child.has_attr(gimli::DW_AT_virtuality);
            match child.tag() {
                gimli::DW_TAG_subprogram => {
                    let by_compiler = child.has_attr(gimli::DW_AT_artificial)
                        || child.has_attr(gimli::DW_AT_defaulted);
                    let function = self.units.name(*at, child);
                    is_virtual
                        || (!by_compiler && function.starts_with('~'))
                        || (!by_compiler && function == name && self.takes_reference(*at, class))
                }
                gimli::DW_TAG_inheritance if is_virtual => true,
                gimli::DW_TAG_member | gimli::DW_TAG_inheritance
                    if !child.has_attr(gimli::DW_AT_external) =>
                {
                    let part = self.units.type_of(*at, child);
                    part.is_some_and(|part| self.is_copied_by_code(part, depth + 1))
                }
                _ => false,
            }
        })
    }

    /// Whether a function has one parameter beside `this`, a reference to an object of the class.
    fn takes_reference(&self, function: Place, class: Place) -> bool {
        let params = self.units.children(function).into_iter();
        let params = params.filter(|(_, param)| {
            param.tag() == gimli::DW_TAG_formal_parameter
                && !param.has_attr(gimli::DW_AT_artificial)
        });
        let params: Vec<_> = params.collect();
        let [(at, param)] = params.as_slice() else {
            return false;
        };
        let mut next = self.units.type_of(*at, param);
        let mut is_reference = false;
        for _ in 0..MAX_HOPS {
            let Some(place) = next else { return false };
            if place == class {
                return is_reference;
            }
            let Some(entry) = self.units.entry(place) else {
                return false;
            };
            is_reference |= matches!(
                entry.tag(),
                gimli::DW_TAG_reference_type | gimli::DW_TAG_rvalue_reference_type
            );
            next = self.units.type_of(place, &entry);
        }
        false
    }

    fn is_rust(&self, place: Place) -> bool {
        let (_, unit) = self.units.at(place.unit);
        let root = unit.entry(unit.header.root_offset());
        root.is_ok_and(|root| {
            matches!(
                root.attr_value(gimli::DW_AT_language),
                Some(AttributeValue::Language(gimli::DW_LANG_Rust))
            )
        })
    }

    /// Symbols of the functions with code whose name matches a pattern, each once and sorted; with
    /// `demangled`, names as the source has them match too.
    #[must_use]
    pub fn functions_matching(&self, pattern: &str, demangled: bool) -> Vec<String> {
        // Parameters only count where the pattern has some.
        let with_parameters = pattern.contains('(');
        let in_source = |symbol: &str| {
            demangle(symbol, with_parameters).is_some_and(|name| wildcard_match(pattern, &name))
        };
        let matches = self.index().functions.iter().filter(|function| {
            function.has_code
                && (wildcard_match(pattern, &function.symbol)
                    || (demangled && in_source(&function.symbol)))
        });
        let mut names: Vec<String> = matches.map(|function| function.symbol.clone()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}
