//! Types as written in the script.

use std::rc::Rc;

use bpftrace_ast::diag::Diagnostic;
use bpftrace_ast::node::{TypeOrExpr, TypeSpec, TypeSpecKind};
use bpftrace_ast::source::Span;
use bpftrace_debuginfo::TypeName;

use super::Lowerer;
use crate::env::KeyState;
use crate::{IntTy, Mem, Ty, codes, suggest};

/// Names of types that are there without any headers.
const NAMES: &[(&str, Ty)] = &[
    ("bool", Ty::Bool),
    ("int8", int(1, true)),
    ("int16", int(2, true)),
    ("int32", int(4, true)),
    ("int64", int(8, true)),
    ("uint8", int(1, false)),
    ("uint16", int(2, false)),
    ("uint32", int(4, false)),
    ("uint64", int(8, false)),
    ("int8_t", int(1, true)),
    ("int16_t", int(2, true)),
    ("int32_t", int(4, true)),
    ("int64_t", int(8, true)),
    ("uint8_t", int(1, false)),
    ("uint16_t", int(2, false)),
    ("uint32_t", int(4, false)),
    ("uint64_t", int(8, false)),
    ("u8", int(1, false)),
    ("u16", int(2, false)),
    ("u32", int(4, false)),
    ("u64", int(8, false)),
    ("s8", int(1, true)),
    ("s16", int(2, true)),
    ("s32", int(4, true)),
    ("s64", int(8, true)),
    ("char", int(1, true)),
    ("short", int(2, true)),
    ("int", int(4, true)),
    ("long", int(8, true)),
    ("size_t", int(8, false)),
    ("ssize_t", int(8, true)),
    ("uintptr_t", int(8, false)),
    ("intptr_t", int(8, true)),
    ("pid_t", int(4, true)),
    ("void", Ty::Void),
    ("inet", Ty::Inet),
    ("username_t", Ty::Username),
    ("timestamp", Ty::Timestamp),
    ("macaddr_t", Ty::MacAddr),
    ("cgroup_path_t", Ty::CgroupPath),
];

const fn int(size: u8, signed: bool) -> Ty {
    Ty::Int(IntTy { size, signed })
}

/// A type that is there without any headers.
pub(crate) fn named_type(name: &str) -> Option<Ty> {
    NAMES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, ty)| ty.clone())
}

impl Lowerer<'_, '_> {
    /// The type that is written; `None` with an error when there is none. By-address types and
    /// pointers carry [`Mem::Unknown`]; `string` without size is `Str(0)`.
    pub(super) fn type_spec(&mut self, spec: &TypeSpec) -> Option<Ty> {
        let span = spec.span;
        match &spec.kind {
            TypeSpecKind::Named(name) => self.named_type(span, name),
            TypeSpecKind::Struct(name) => self.tagged_type(span, "struct", name),
            TypeSpecKind::Union(name) => self.tagged_type(span, "union", name),
            TypeSpecKind::Enum(name) => self.tagged_type(span, "enum", name),
            TypeSpecKind::Pointer(to) => {
                if !self.descend(span) {
                    return None;
                }
                let to = self.type_spec(to);
                self.depth -= 1;
                Some(Ty::Ptr(Rc::new(to?), Mem::Unknown))
            }
            TypeSpecKind::Array { element, len } => self.array_type(span, element, len.as_ref()),
            TypeSpecKind::Typeof(of) => self.type_of_operand("typeof or typeinfo", of),
        }
    }

    fn array_type(
        &mut self,
        span: Span,
        element: &TypeSpec,
        len: Option<&bpftrace_ast::node::IntegerLit>,
    ) -> Option<Ty> {
        let len = match len.map(|len| u32::try_from(len.value)) {
            None => 0,
            Some(Ok(len)) => len,
            Some(Err(_)) => {
                self.error(codes::UNKNOWN_TYPE, span, "the array is too large");
                return None;
            }
        };
        // `string[n]` and `buffer[n]` are sizes, not arrays.
        if let TypeSpecKind::Named(name) = &element.kind {
            let max = self.s.settings.max_strlen;
            match name.as_str() {
                "string" if len > max => {
                    self.error_hint(
                        codes::STRING_LENGTH,
                        span,
                        format!("String type is too long (over {max} bytes): string[{len}]"),
                        "Increase BPFTRACE_MAX_STRLEN.",
                    );
                    return None;
                }
                "string" => return Some(Ty::Str(len)),
                "buffer" => return Some(Ty::Buf(len)),
                _ => {}
            }
        }
        if !self.descend(span) {
            return None;
        }
        let element = self.type_spec(element);
        self.depth -= 1;
        match element? {
            Ty::Void => {
                self.error(codes::UNKNOWN_TYPE, span, "there are no arrays of void");
                None
            }
            element => {
                let size = self.s.imported.table.size(&element) * u64::from(len);
                if size > 1 << 20 {
                    self.error(codes::UNKNOWN_TYPE, span, "the array is too large");
                    return None;
                }
                Some(Ty::Array(Rc::new(element), len, Mem::Unknown))
            }
        }
    }

    fn named_type(&mut self, span: Span, name: &str) -> Option<Ty> {
        let found = self.find_named_type(name);
        if found.is_none() {
            self.unknown_type(span, name);
        }
        found
    }

    fn find_named_type(&mut self, name: &str) -> Option<Ty> {
        if name == "string" {
            return Some(Ty::Str(0));
        }
        if name == "buffer" {
            return Some(Ty::Buf(0));
        }
        if let Some(ty) = named_type(name) {
            return Some(ty);
        }
        if let Some(ty) = self.s.c.own_typedef(name) {
            return Some(ty);
        }
        if let Some(ty) = self.program_type(&[TypeName::Typedef, TypeName::Struct], name) {
            return Some(ty);
        }
        if let Some(found) = self.s.types.find_typedef(name) {
            let ty = self.s.imported.ty(self.s.types, found);
            self.complete_if_by_address(&ty);
            return Some(ty);
        }
        let (c, mut asker) = self.s.c_headers();
        if let Some(ty) = c.header_typedef(&mut asker, name) {
            self.complete_if_by_address(&ty);
            return Some(ty);
        }
        self.struct_without_keyword(name)
    }

    /// `(task_struct *)` for `(struct task_struct *)`, as scripts from before BTF have it.
    fn struct_without_keyword(&mut self, name: &str) -> Option<Ty> {
        let own = |is_union| self.s.c.own_struct(name, is_union);
        if let Some(id) = own(false).or_else(|| own(true)) {
            return Some(Ty::Struct(id, Mem::Unknown));
        }
        let types = self.s.types;
        let found = types
            .find_struct(name, false)
            .or_else(|| types.find_struct(name, true))?;
        let ty = self.s.imported.ty(types, found);
        self.complete_if_by_address(&ty);
        Some(ty)
    }

    fn unknown_type(&mut self, span: Span, name: &str) {
        let near = suggest::nearest(name, NAMES.iter().map(|(name, _)| *name));
        let mut diag = Diagnostic::error(
            codes::UNKNOWN_TYPE,
            span,
            format!("Cannot resolve unknown type \"{name}\""),
        );
        if let Some(form) = crate::stdlib::forms(name).first() {
            diag = diag.with_hint(format!(
                "A bare name is a type here: write {form} for the value"
            ));
        } else if let Some(near) = near {
            diag = diag.with_hint(format!("Did you mean: {near}?"));
        }
        self.s.diags.push(diag);
    }

    /// A type of the program that is probed.
    fn program_type(&mut self, kinds: &[TypeName], name: &str) -> Option<Ty> {
        let program = self.s.types.program(self.unit.path.as_deref()?)?;
        let found = kinds
            .iter()
            .find_map(|kind| self.s.types.program_type(program, *kind, name))?;
        self.s.program_used = Some(program);
        let named_enum = self.s.imported.program_enum(self.s.types, found);
        let ty = named_enum.unwrap_or_else(|| self.s.imported.ty(self.s.types, found));
        self.complete_if_by_address(&ty);
        Some(ty)
    }

    fn tagged_type(&mut self, span: Span, keyword: &str, name: &str) -> Option<Ty> {
        let own = match keyword {
            "enum" => self.s.c.own_enum(name).map(|(id, int)| Ty::Enum(id, int)),
            _ => {
                let own = self.s.c.own_struct(name, keyword == "union");
                own.map(|id| Ty::Struct(id, Mem::Unknown))
            }
        };
        if own.is_some() {
            return own;
        }
        let kind = match keyword {
            "enum" => TypeName::Enum,
            "union" => TypeName::Union,
            _ => TypeName::Struct,
        };
        if let Some(ty) = self.program_type(&[kind], name) {
            return Some(ty);
        }
        let found = match keyword {
            "enum" => self.s.types.find_enum(name),
            _ => self.s.types.find_struct(name, keyword == "union"),
        };
        let Some(found) = found else {
            let (c, mut asker) = self.s.c_headers();
            let found = match keyword {
                "enum" => c
                    .header_enum(&mut asker, name)
                    .map(|(id, int)| Ty::Enum(id, int)),
                _ => c
                    .header_struct(&mut asker, name, keyword == "union")
                    .map(|id| Ty::Struct(id, Mem::Unknown)),
            };
            if found.is_none() {
                let mut diag = Diagnostic::error(
                    codes::UNKNOWN_TYPE,
                    span,
                    format!("Cannot resolve unknown type \"{keyword} {name}\""),
                );
                if let Some(hint) = self.s.missing_header_hint() {
                    diag = diag.with_hint(hint);
                }
                self.s.diags.push(diag);
            }
            return found;
        };
        let ty = self.s.imported.ty(self.s.types, found);
        self.complete_if_by_address(&ty);
        Some(ty)
    }

    /// The type of the operand of `sizeof` and the like (`what`), which is not evaluated.
    pub(super) fn type_of_operand(&mut self, what: &'static str, of: &TypeOrExpr) -> Option<Ty> {
        match of {
            TypeOrExpr::Type(spec) => {
                let ty = self.type_spec(spec)?;
                Some(match ty {
                    Ty::Str(0) => Ty::Str(self.s.settings.max_strlen),
                    other => other,
                })
            }
            TypeOrExpr::Name(ident) => {
                let found = self.find_named_type(&ident.name);
                let found = found.or_else(|| self.type_of_enumerator(ident.span, &ident.name));
                let Some(ty) = found else {
                    self.unknown_type(ident.span, &ident.name);
                    return None;
                };
                Some(match ty {
                    Ty::Str(0) => Ty::Str(self.s.settings.max_strlen),
                    other => other,
                })
            }
            TypeOrExpr::Expr(expr) => {
                // A keyed map without key stands for its keys.
                if let bpftrace_ast::node::ExprKind::Map(name) = &expr.kind {
                    self.note_map(expr.span, name);
                    match &self.s.maps[name.as_str()].key {
                        KeyState::Keyed(key) => return key.ty.clone(),
                        KeyState::Unused => return None,
                        KeyState::Scalar => {}
                    }
                }
                // The argument of a macro, which may be a name of a type.
                if let bpftrace_ast::node::ExprKind::Ident(name) = &expr.kind
                    && let Some(ty) = named_type(name)
                {
                    return Some(ty);
                }
                self.unevaluated += 1;
                let outer = self.operand_of.replace(what);
                let val = self.expr(expr);
                self.operand_of = outer;
                self.unevaluated -= 1;
                val.known.then(|| val.ty().clone())
            }
        }
    }

    /// The type of a name that stands for no type but for an enumerator.
    fn type_of_enumerator(&mut self, span: Span, name: &str) -> Option<Ty> {
        let val = self.enumerator(span, name)?;
        Some(match val.ty() {
            Ty::Enum(id, int) => Ty::Enum(*id, *int),
            // Constants that belong to no type are as wide as numbers get.
            _ => Ty::Int(IntTy::U64),
        })
    }
}
