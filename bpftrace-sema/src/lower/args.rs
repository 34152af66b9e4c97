//! `args`: the typed arguments of a probe as a struct.

use std::rc::Rc;

use bpftrace_ast::source::Span;
use bpftrace_meta::ARGUMENT_REGISTERS;

use super::types::named_type;
use super::{Lowerer, Val};
use crate::import::param_tag;
use crate::pass::units::ArgsOf;
use crate::typeinfo::{FormatField, FunctionInfo, RawType, TypeRef};
use crate::{Builtin, ExprKind, IntTy, Mem, Member, Origin, StructDef, StructId, Ty, codes};

/// Words of arguments that are passed in registers; the others are on the stack.
const IN_REGISTERS: u64 = ARGUMENT_REGISTERS as u64;

impl Lowerer<'_, '_> {
    /// `args`.
    pub(super) fn args(&mut self, span: Span) -> Val {
        use bpftrace_ast::attach::ProviderKind as P;
        match self.unit.provider {
            P::Tracepoint | P::Rawtracepoint | P::Fentry | P::Fexit | P::Uprobe => {}
            other => {
                let label = crate::pass::attach::probe_type(other);
                self.error(
                    codes::NOT_IN_PROBE,
                    span,
                    format!(
                        "The args builtin can only be used with tracepoint, rawtracepoint, \
                         fentry/fexit, and uprobe probes ({label} used here)"
                    ),
                );
                return Val::unknown(span);
            }
        }
        match self.args_struct(span) {
            Some(id) => {
                self.complete(id);
                Val::new(
                    Ty::Struct(id, Mem::Ctx),
                    span,
                    ExprKind::Builtin(Builtin::Args),
                )
            }
            None => Val::unknown(span),
        }
    }

    /// `retval` of fexit: what comes behind the arguments.
    pub(super) fn typed_retval(&mut self, span: Span) -> Val {
        let Some(id) = self.args_struct(span) else {
            return Val::unknown(span);
        };
        let def = self.s.imported.table.struct_def(id);
        if def
            .members
            .iter()
            .any(|member| member.name == RETVAL && member.ty != Ty::Void)
        {
            let base = Val::new(
                Ty::Struct(id, Mem::Ctx),
                span,
                ExprKind::Builtin(Builtin::Args),
            );
            let ident = bpftrace_ast::node::Ident {
                span,
                name: RETVAL.to_owned(),
            };
            return self.field(span, base, &ident);
        }
        self.error(
            codes::NOT_IN_PROBE,
            span,
            "the probed function returns nothing",
        );
        Val::unknown(span)
    }

    fn args_struct(&mut self, span: Span) -> Option<StructId> {
        let (key, made) = match &self.unit.args {
            ArgsOf::Nothing => {
                if !self.s.types.has_kernel_types() {
                    self.error(
                        codes::NO_TYPES,
                        span,
                        "the types of arguments need kernel BTF, and there is none",
                    );
                } else {
                    self.error(
                        codes::NOT_IN_PROBE,
                        span,
                        "the arguments of this attach point have no known types",
                    );
                }
                return None;
            }
            ArgsOf::Tracepoint { category, event } => {
                let key = format!("t:{category}:{event}");
                let known = self.s.args_structs.get(&key).cloned();
                let made = known.unwrap_or_else(|| {
                    let (category, event) = (category.clone(), event.clone());
                    self.tracepoint_struct(&category, &event)
                });
                (key, made)
            }
            ArgsOf::Function(info) => {
                let with_retval = self.unit.kind == bpftrace_meta::ProgramKind::Fexit;
                let raw = self.unit.kind == bpftrace_meta::ProgramKind::TpBtf;
                let key = format!("{with_retval}{raw}:{}:{}", info.module, info.name);
                let known = self.s.args_structs.get(&key).cloned();
                let made = known.unwrap_or_else(|| {
                    let info = info.clone();
                    self.function_struct(&info, with_retval, raw)
                });
                (key, made)
            }
            ArgsOf::Program { program, function } => {
                let key = format!("u:{program}:{function}");
                self.s.program_used = Some(*program);
                let known = self.s.args_structs.get(&key).cloned();
                let made = known.unwrap_or_else(|| {
                    let (program, function) = (*program, function.clone());
                    Ok(self.program_struct(program, &function))
                });
                (key, made)
            }
        };
        self.s.args_structs.insert(key, made.clone());
        match made {
            Ok(id) => Some(id),
            Err(message) => {
                self.error(codes::ATTACH_POINT, self.unit.span, message);
                None
            }
        }
    }

    fn tracepoint_struct(&mut self, category: &str, event: &str) -> Result<StructId, String> {
        let Some(fields) = self.s.types.tracepoint_format(category, event) else {
            return Err(format!("No matches for tracepoint {category}:{event}."));
        };
        if !self.s.types.has_kernel_types() {
            return Err("BTF is required for parsing tracepoint arguments".to_owned());
        }
        let syscalls = category == "syscalls";
        let mut size = 0;
        let mut members = Vec::with_capacity(fields.len());
        for field in fields {
            size = size.max(u64::from(field.offset) + u64::from(field.size));
            let user = syscalls || field.c_type.contains("__user");
            members.push(Member {
                ty: self.format_field_type(&field),
                name: field.name,
                bit_offset: u64::from(field.offset) * 8,
                bits: None,
                tag: user.then(|| "user".to_owned()),
                data_loc: field.data_loc,
            });
        }
        let origin = Origin::Tracepoint {
            category: category.to_owned(),
            event: event.to_owned(),
        };
        Ok(self.s.imported.table.add_struct(StructDef {
            name: format!("tracepoint:{category}:{event}_args"),
            is_union: false,
            size,
            origin,
            members,
            complete: true,
        }))
    }

    fn format_field_type(&mut self, field: &FormatField) -> Ty {
        if field.data_loc {
            return Ty::Int(IntTy::I64);
        }
        let scalar = |size: u32| match size {
            1 | 2 | 4 | 8 => Ty::Int(IntTy {
                size: size as u8,
                signed: field.signed,
            }),
            n => Ty::Str(n),
        };
        let named = self.c_type(&field.c_type);
        if let Some(count) = field.array {
            if count == 0 {
                return Ty::Array(
                    Rc::new(named.unwrap_or(Ty::Int(IntTy::U8))),
                    0,
                    Mem::Unknown,
                );
            }
            let size = field.size / count;
            return match named {
                Some(Ty::Int(int)) if int.size == 1 => Ty::Str(field.size),
                Some(ty) if self.s.imported.table.size(&ty) == u64::from(size) => {
                    Ty::Array(Rc::new(ty), count, Mem::Unknown)
                }
                _ if size == 1 => Ty::Str(field.size),
                _ => Ty::Array(Rc::new(scalar(size)), count, Mem::Unknown),
            };
        }
        match named {
            Some(Ty::Ptr(to, mem)) if field.size == 8 => Ty::Ptr(to, mem),
            Some(Ty::Enum(id, _)) if matches!(field.size, 1 | 2 | 4 | 8) => Ty::Enum(
                id,
                IntTy {
                    size: field.size as u8,
                    signed: field.signed,
                },
            ),
            Some(Ty::Bool) if field.size == 1 => Ty::Bool,
            Some(ty @ (Ty::Struct(..) | Ty::Array(..) | Ty::Str(_)))
                if self.s.imported.table.size(&ty) == u64::from(field.size) =>
            {
                ty
            }
            _ => scalar(field.size),
        }
    }

    /// A C type as a format file spells it.
    fn c_type(&mut self, text: &str) -> Option<Ty> {
        let n_stars = text.matches('*').count();
        let words: Vec<&str> = text
            .split(|c: char| c.is_whitespace() || c == '*')
            .filter(|word| {
                !word.is_empty()
                    && !matches!(
                        *word,
                        "const" | "volatile" | "__user" | "__rcu" | "__kernel"
                    )
            })
            .collect();
        if words.is_empty() {
            return None;
        }
        let found = known_type(&words).or_else(|| {
            let types = self.s.types;
            let found = match words.as_slice() {
                ["struct", name] => types.find_struct(name, false),
                ["union", name] => types.find_struct(name, true),
                ["enum", name] => types.find_enum(name),
                words => types.find_typedef(&words.join(" ")),
            };
            found.map(|found| self.s.imported.ty(types, found))
        });
        let mut ty = match found {
            Some(ty) => ty,
            None if n_stars > 0 => Ty::Void,
            None => return None,
        };
        for _ in 0..n_stars.min(4) {
            ty = Ty::Ptr(Rc::new(ty), Mem::Unknown);
        }
        Some(ty)
    }

    fn function_struct(
        &mut self,
        info: &FunctionInfo,
        with_retval: bool,
        raw: bool,
    ) -> Result<StructId, String> {
        if info.params.len() > ARGUMENT_REGISTERS && !raw {
            return Err("functions with more than 6 parameters are not supported.".to_owned());
        }
        let mut members = Vec::with_capacity(info.params.len() + 1);
        let returned = crate::typeinfo::RawParam {
            name: RETVAL.to_owned(),
            ty: info.ret,
        };
        let all = info.params.iter().chain(with_retval.then_some(&returned));
        // Each argument takes as many registers as its type needs: small structs are passed in two.
        let mut n_registers = 0;
        for param in all {
            let ty = match self.s.types.resolve(param.ty) {
                // `_Bool` and the like come as whole registers; the low byte is theirs.
                RawType::Void => Ty::Void,
                _ => self.s.imported.ty(self.s.types, param.ty),
            };
            let registers = match ty {
                Ty::Void => 1,
                _ => self.s.imported.table.size(&ty).div_ceil(8).max(1),
            };
            let bit_offset = 64 * n_registers;
            n_registers += registers;
            members.push(Member {
                name: param.name.clone(),
                ty,
                bit_offset,
                bits: None,
                tag: param_tag(self.s.types, param.ty).filter(|tag| tag == "user"),
                data_loc: false,
            });
        }
        let kind = if raw {
            "rawtracepoint"
        } else if with_retval {
            "fexit"
        } else {
            "fentry"
        };
        Ok(self.s.imported.table.add_struct(StructDef {
            name: format!("{kind}_{}_{}_args", info.module, info.name),
            is_union: false,
            size: 8 * n_registers,
            origin: Origin::Arguments,
            members,
            complete: true,
        }))
    }
}

impl Lowerer<'_, '_> {
    /// The arguments of a function of a user program, where its calling convention has them.
    fn program_struct(&mut self, program: u32, function: &str) -> StructId {
        let params = self.s.types.program_params(program, function);
        let mut members = Vec::new();
        let (mut n_registers, mut n_stacked) = (0, 0);
        for param in params.unwrap_or_default() {
            let mut ty = self.s.imported.ty(self.s.types, param.ty);
            if param.by_reference {
                ty = Ty::Ptr(Rc::new(ty), Mem::Unknown);
            }
            self.complete_argument(&ty);
            let size = self.s.imported.table.size(&ty);
            let n_words = size.div_ceil(8);
            let in_memory = match &ty {
                // Numbers with a point have registers of their own, which nobody can read.
                Ty::Void => {
                    members.push(argument(param.name, Ty::Void, 0));
                    continue;
                }
                Ty::Struct(..) if n_words == 0 => {
                    members.push(argument(param.name, Ty::Void, 0));
                    continue;
                }
                Ty::Struct(..) => {
                    let floats = self.has_float(param.ty, 0);
                    if size <= 16 && floats {
                        members.push(argument(param.name, Ty::Void, 0));
                        continue;
                    }
                    size > 16
                }
                _ => false,
            };
            let word = if in_memory || n_registers + n_words > IN_REGISTERS {
                let word = IN_REGISTERS + n_stacked;
                n_stacked += n_words;
                word
            } else {
                let word = n_registers;
                n_registers += n_words;
                word
            };
            members.push(argument(param.name, ty, 64 * word));
        }
        self.s.imported.table.add_struct(StructDef {
            name: format!("uprobe_{function}_args"),
            is_union: false,
            size: 8 * (IN_REGISTERS + n_stacked),
            origin: Origin::Registers,
            members,
            complete: true,
        })
    }

    /// Values of structs are copied with `args`.
    fn complete_argument(&mut self, ty: &Ty) {
        if matches!(ty, Ty::Struct(..)) {
            self.s.imported.complete_value(self.s.types, ty);
        }
    }

    /// Whether a number with a point is in a value of the type.
    fn has_float(&self, ty: TypeRef, depth: u32) -> bool {
        if depth > 8 {
            return false;
        }
        match self.s.types.resolve(ty) {
            RawType::Float(_) => true,
            RawType::Typedef { to, .. } | RawType::Array { element: to, .. } => {
                self.has_float(to, depth + 1)
            }
            RawType::Struct { members, .. } => {
                let mut members = members.iter();
                members.any(|member| self.has_float(member.ty, depth + 1))
            }
            _ => false,
        }
    }
}

fn argument(name: String, ty: Ty, bit_offset: u64) -> Member {
    Member {
        name,
        ty,
        bit_offset,
        bits: None,
        tag: None,
        data_loc: false,
    }
}

/// Name of the member that is the return value.
const RETVAL: &str = "retval";

/// A type that nobody has to be asked for. Most are: looking a name up costs more than all else.
fn known_type(words: &[&str]) -> Option<Ty> {
    if let [word] = words
        && let Some(ty @ (Ty::Int(_) | Ty::Bool | Ty::Void)) = named_type(word)
    {
        return Some(ty);
    }
    c_integer(words).map(Ty::Int)
}

/// An integer type that C has by itself, as kernels are compiled.
fn c_integer(words: &[&str]) -> Option<IntTy> {
    let has = |word: &str| words.contains(&word);
    let is_int = words.iter().all(|word| {
        matches!(
            *word,
            "unsigned" | "signed" | "long" | "short" | "int" | "char"
        )
    });
    let size = match () {
        () if !is_int => return None,
        () if has("char") => 1,
        () if has("short") => 2,
        () if has("long") => 8,
        () => 4,
    };
    Some(IntTy {
        size,
        signed: !has("unsigned"),
    })
}
