//! Functions of imported BPF objects: what they take and return, and calls of them.

use bpftrace_ast::diag::Diagnostic;
use bpftrace_ast::node;
use bpftrace_ast::source::Span;

use super::functions::MAX_IMPORTED_PARAMS;
use super::{Lowerer, Session, Val};
use crate::pass::imports::ImportedObject;
use crate::typeinfo::{RawType, TypeRef, TypeSource, WithObjects};
use crate::{
    CSignature, CType, CastKind, Expr, ExprKind, ImportedFunction, ImportedFunctionIdx, Mem, Ty,
    codes,
};

/// Finds out which functions the imported objects have for the script.
pub(crate) fn read_imported(
    session: &mut Session<'_>,
    objects: &[ImportedObject],
    types: &WithObjects<'_>,
    diags: &mut Vec<Diagnostic>,
) {
    for (at, object) in objects.iter().enumerate() {
        let span = object.import.span;
        if let Err(error) = btf_rs::Btf::from_bytes(&object.file.btf) {
            diags.push(Diagnostic::error(
                codes::IMPORT,
                span,
                format!("cannot read the BTF of '{}': {error}", object.path),
            ));
            continue;
        }
        for name in &object.file.functions {
            if let Some(&own) = session.function_numbers.get(name) {
                let own = &session.functions[own];
                diags.push(
                    Diagnostic::error(
                        codes::REDECLARED,
                        own.span,
                        format!("Redefinition of function: {name}"),
                    )
                    .with_context(span, format!("'{}' has one of this name.", object.path)),
                );
                continue;
            }
            match imported_function(session, types, at, name, span) {
                Ok(function) => session.imported_functions.push(function),
                Err(reason) => {
                    session.unfit_functions.insert(name.clone(), reason);
                }
            }
        }
    }
}

fn imported_function(
    session: &mut Session<'_>,
    types: &WithObjects<'_>,
    object: usize,
    name: &str,
    span: Span,
) -> Result<ImportedFunction, String> {
    let Some(info) = types.function(object, name) else {
        return Err("the object's BTF does not describe it".to_owned());
    };
    if info.params.len() > MAX_IMPORTED_PARAMS {
        return Err(format!(
            "functions take at most {MAX_IMPORTED_PARAMS} arguments"
        ));
    }
    let mut passed = |what: &str, ty: TypeRef| match session.imported.ty(session.types, ty) {
        ty @ (Ty::Int(_) | Ty::Bool | Ty::Enum(..)) => Ok(ty),
        Ty::Ptr(pointee, _) => Ok(Ty::Ptr(pointee, Mem::Kernel)),
        other => {
            let spelled = crate::spell(&other, &session.imported.table);
            Err(format!(
                "{what} of type {spelled} cannot be passed in a register"
            ))
        }
    };
    let mut params = Vec::with_capacity(info.params.len());
    for param in &info.params {
        params.push((param.name.clone(), passed("a parameter", param.ty)?));
    }
    let signature = CSignature {
        params: info
            .params
            .iter()
            .map(|param| c_type(types, param.ty, 0))
            .collect(),
        ret: c_type(types, info.ret, 0),
    };
    let whole = signature.params.iter().chain([&signature.ret]);
    if !whole.into_iter().all(is_whole) {
        return Err("a type of its signature is malformed".to_owned());
    }
    let ret = match signature.ret {
        CType::Void => Ty::Void,
        _ => passed("a result", info.ret)?,
    };
    Ok(ImportedFunction {
        name: name.to_owned(),
        params,
        ret,
        signature,
        span,
    })
}

/// Types in types go no deeper.
const MAX_DEPTH: u32 = 32;

fn c_type(types: &dyn TypeSource, ty: TypeRef, depth: u32) -> CType {
    if ty.id == 0 || depth > MAX_DEPTH {
        return CType::Void;
    }
    let inner = |ty| c_type(types, ty, depth + 1);
    match types.resolve(ty) {
        RawType::Void => CType::Void,
        RawType::Int {
            name,
            size,
            signed,
            is_bool,
        } => CType::Int {
            name,
            size,
            signed,
            is_bool,
        },
        RawType::Float(size) => CType::Float(size),
        RawType::Ptr(to) => CType::Ptr(Box::new(inner(to))),
        RawType::Array { element, .. } => CType::Array(Box::new(inner(element))),
        RawType::Struct { name, is_union, .. } | RawType::Fwd { name, is_union } => {
            CType::Struct { name, is_union }
        }
        RawType::Enum {
            name, size, signed, ..
        } => CType::Enum { name, size, signed },
        RawType::Typedef { to, .. } | RawType::Tagged { to, .. } => inner(to),
        RawType::Func { params, ret } => CType::Func(Box::new(CSignature {
            params: params.iter().map(|param| inner(param.ty)).collect(),
            ret: inner(ret),
        })),
    }
}

/// Whether BTF of an object can say this again: one that is damaged may have what nobody can write.
fn is_whole(ty: &CType) -> bool {
    match ty {
        CType::Int { name, size, .. } => !name.is_empty() && [1, 2, 4, 8, 16].contains(size),
        CType::Enum { size, .. } => [1, 2, 4, 8].contains(size),
        CType::Float(size) => [2, 4, 8, 12, 16].contains(size),
        CType::Ptr(to) | CType::Array(to) => is_whole(to),
        CType::Func(signature) => signature.params.iter().all(is_whole) && is_whole(&signature.ret),
        CType::Void | CType::Struct { .. } => true,
    }
}

impl Lowerer<'_, '_> {
    /// A call of a function of an imported object; `None` when there is none of that name.
    pub(super) fn imported_call(&mut self, span: Span, call: &node::Call) -> Option<Val> {
        let name = &call.name.name;
        if let Some(reason) = self.s.unfit_functions.get(name) {
            let message = format!("Function `{name}` cannot be called: {reason}");
            self.error(codes::UNSUPPORTED, span, message);
            return Some(Val::unknown(span));
        }
        let functions = &self.s.imported_functions;
        let at = functions.iter().position(|known| known.name == *name)?;
        let function = functions[at].clone();
        let Some(args) = self.passed_args(span, call, &function.params, Self::imported_arg) else {
            return Some(Val::unknown(span));
        };
        let idx = ImportedFunctionIdx(u32::try_from(at).unwrap_or(u32::MAX));
        let val = Val::new(function.ret, span, ExprKind::CallImported(idx, args));
        Some(val.with_space(Mem::Kernel))
    }

    /// An argument as C converts it; any pointer will do for a pointer.
    fn imported_arg(&mut self, val: Val, to: &Ty) -> Option<Expr> {
        match (val.ty(), to) {
            (Ty::Ptr(..), Ty::Ptr(..)) => Some(val.expr),
            (Ty::Bool, Ty::Int(int)) => Some(self.int_of(val, *int)),
            (Ty::Int(_), Ty::Enum(_, int)) => {
                let number = self.coerce(val, &Ty::Int(*int))?;
                Some(self.cast_to(number, to.clone(), CastKind::Int))
            }
            _ => self.coerce(val, to),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(name: &str, size: u8) -> CType {
        CType::Int {
            name: name.to_owned(),
            size,
            signed: false,
            is_bool: false,
        }
    }

    // F013
    #[test]
    fn damaged_types_are_found_wherever_they_are() {
        let pointer = |to| CType::Ptr(Box::new(to));
        assert!(is_whole(&pointer(pointer(int("u8", 1)))));
        assert!(!is_whole(&pointer(int("", 4))));
        assert!(!is_whole(&CType::Array(Box::new(int("int", 3)))));
        let signature = CSignature {
            params: vec![int("int", 4)],
            ret: pointer(int("", 1)),
        };
        assert!(!is_whole(&CType::Func(Box::new(signature))));
    }
}
