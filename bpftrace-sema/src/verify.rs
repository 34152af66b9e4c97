//! Checks that a typed program keeps the rules of `typed.rs`:
//!
//! - numbers of variables, maps, slots, formats and members exist;
//! - operands of arithmetic are 64-bit integers of one type, compared values have one type, and
//!   conditions are bools;
//! - every cast is between types that its kind converts between;
//! - what is assigned has the type of the variable, the key or the value of the map;
//! - what is stored or sent is no address of somebody else's memory;
//! - jumps are inside loops.
//!
//! It runs in debug builds after the last pass; a violation is a mistake of the compiler.

use crate::join::same_pointee;
use crate::walk::{Node, walk};
use crate::{
    ArithmeticOp, Body, Call, CastKind, Expr, ExprKind, IntTy, LocalIdx, MapIdx, Mem, StepTarget,
    Stmt, StmtKind, Ty, TypedProgram, UnaryOp, is_castable, spell,
};

/// The first rule that is broken.
pub(crate) fn verify(program: &TypedProgram) -> Result<(), String> {
    let bodies = program
        .probes
        .iter()
        .map(|probe| &probe.body)
        .chain(program.functions.iter().map(|function| &function.body));
    let returns = program
        .probes
        .iter()
        .map(|_| None)
        .chain(program.functions.iter().map(|function| Some(&function.ret)));
    for (body, ret) in bodies.zip(returns) {
        let verifier = Verifier { program, body, ret };
        let mut result = verifier.jumps(&body.stmts);
        walk(&body.stmts, &mut |node| {
            if result.is_ok() {
                result = match node {
                    Node::Stmt(stmt) => verifier.stmt(stmt),
                    Node::Expr(expr) => verifier.expr(expr),
                };
            }
        });
        result?;
    }
    for map in &program.maps {
        let stored = |ty: &Ty| is_stored(ty);
        if !stored(&map.value) || !map.key.as_ref().is_none_or(stored) {
            return Err(format!(
                "map {} holds addresses of foreign memory",
                map.name
            ));
        }
    }
    Ok(())
}

struct Verifier<'a> {
    program: &'a TypedProgram,
    body: &'a Body,
    /// What a function returns; `None` in probes.
    ret: Option<&'a Ty>,
}

type Check = Result<(), String>;

fn require(holds: bool, what: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(what()) }
}

impl Verifier<'_> {
    fn spell(&self, ty: &Ty) -> String {
        spell(ty, &self.program.types)
    }

    fn same(&self, what: &str, a: &Ty, b: &Ty) -> Check {
        require(a == b, || format!("{what}: {a:?} is not {b:?}"))
    }

    /// The same type but for the kind of memory.
    fn alike(&self, what: &str, a: &Ty, b: &Ty) -> Check {
        require(same_pointee(a, b, &self.program.types), || {
            format!("{what}: {} is not {}", self.spell(a), self.spell(b))
        })
    }

    /// `break` and `continue` stand in loops.
    fn jumps(&self, stmts: &[Stmt]) -> Check {
        let mut todo: Vec<(&Stmt, bool)> = stmts.iter().map(|stmt| (stmt, false)).collect();
        while let Some((stmt, in_loop)) = todo.pop() {
            match &stmt.kind {
                StmtKind::Break | StmtKind::Continue => {
                    require(in_loop, || "a jump outside of a loop".to_owned())?;
                }
                StmtKind::If {
                    then, otherwise, ..
                } => {
                    todo.extend(then.iter().chain(otherwise).map(|stmt| (stmt, in_loop)));
                }
                StmtKind::Block(body) => todo.extend(body.iter().map(|stmt| (stmt, in_loop))),
                StmtKind::While { body, .. }
                | StmtKind::Unroll { body, .. }
                | StmtKind::ForRange { body, .. }
                | StmtKind::ForMap { body, .. } => {
                    todo.extend(body.iter().map(|stmt| (stmt, true)))
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn local(&self, idx: LocalIdx) -> Result<&Ty, String> {
        match self.body.locals.get(idx.0 as usize) {
            Some(local) => Ok(&local.ty),
            None => Err(format!("no variable {idx:?}")),
        }
    }

    fn key(&self, map: MapIdx, key: Option<&Expr>) -> Check {
        let Some(def) = self.program.maps.get(map.0 as usize) else {
            return Err(format!("no map {map:?}"));
        };
        match (&def.key, key) {
            (None, None) => Ok(()),
            (Some(ty), Some(key)) => self.same(&format!("key of {}", def.name), &key.ty, ty),
            _ => Err(format!("{} is used both with and without keys", def.name)),
        }
    }

    /// The type that reading a map gives.
    fn map_read(&self, map: MapIdx) -> Result<Ty, String> {
        let Some(def) = self.program.maps.get(map.0 as usize) else {
            return Err(format!("no map {map:?}"));
        };
        Ok(match &def.value {
            Ty::Agg(agg) if is_castable(agg) => Ty::Int(crate::lower::merged_int(agg)),
            other => other.clone(),
        })
    }

    fn stmt(&self, stmt: &Stmt) -> Check {
        match &stmt.kind {
            StmtKind::Declare(idx) => self.local(*idx).map(|_| ()),
            StmtKind::AssignLocal(idx, value) => {
                self.same("assignment", &value.ty, self.local(*idx)?)
            }
            StmtKind::AssignMap { map, key, value } => {
                self.key(*map, key.as_ref())?;
                let def = &self.program.maps[map.0 as usize];
                self.same(&format!("value of {}", def.name), &value.ty, &def.value)
            }
            StmtKind::Aggregate {
                map,
                key,
                value,
                time,
            } => {
                self.key(*map, key.as_ref())?;
                let def = &self.program.maps[map.0 as usize];
                require(matches!(def.value, Ty::Agg(_)), || {
                    format!("{} is no aggregation", def.name)
                })?;
                value
                    .iter()
                    .chain(time)
                    .try_for_each(|value| self.wide(&value.ty))
            }
            StmtKind::If { cond, .. } | StmtKind::While { cond, .. } => {
                self.same("condition", &cond.ty, &Ty::Bool)
            }
            StmtKind::ForRange {
                var, start, end, ..
            } => {
                let ty = self.local(*var)?;
                require(matches!(ty, Ty::Int(_)), || {
                    "a range of no integers".to_owned()
                })?;
                self.same("start of a range", &start.ty, ty)?;
                self.same("end of a range", &end.ty, ty)
            }
            StmtKind::ForMap { var, map, .. } => {
                let value = self.map_read(*map)?;
                let Some(key) = &self.program.maps[map.0 as usize].key else {
                    return Err("a loop over a map without keys".to_owned());
                };
                let entry = Ty::Tuple([key.clone(), value].into());
                self.same("loop variable", self.local(*var)?, &entry)
            }
            StmtKind::Return(Some(value)) => match self.ret {
                Some(ret) => self.same("return value", &value.ty, ret),
                None => self.wide(&value.ty),
            },
            StmtKind::Event { args, .. } | StmtKind::TracePrintk { args, .. } => {
                for arg in args {
                    require(is_stored(&arg.ty) && arg.ty != Ty::Void, || {
                        format!("an event cannot carry {}", self.spell(&arg.ty))
                    })?;
                }
                Ok(())
            }
            StmtKind::Unroll { .. }
            | StmtKind::Expr(_)
            | StmtKind::Break
            | StmtKind::Continue
            | StmtKind::Return(None)
            | StmtKind::Block(_) => Ok(()),
        }
    }

    fn wide(&self, ty: &Ty) -> Check {
        require(matches!(ty, Ty::Int(IntTy { size: 8, .. })), || {
            format!("{} is no integer of 64 bits", self.spell(ty))
        })
    }

    fn expr(&self, expr: &Expr) -> Check {
        let ty = &expr.ty;
        match &expr.kind {
            ExprKind::Const(bits) => {
                let size = match ty {
                    Ty::Bool => 1,
                    Ty::Int(int) | Ty::Enum(_, int) => int.size,
                    Ty::Ptr(..) | Ty::Void => 8,
                    _ => return Err(format!("a constant of type {}", self.spell(ty))),
                };
                let fits = size >= 8 || *bits >> (u32::from(size) * 8) == 0;
                require(fits, || format!("constant {bits:#x} in {}", self.spell(ty)))
            }
            ExprKind::Str(bytes) => match ty {
                Ty::Str(n) if bytes.len() <= *n as usize => Ok(()),
                _ => Err(format!("{} bytes as {}", bytes.len(), self.spell(ty))),
            },
            ExprKind::Bytes(bytes) => match ty {
                Ty::Array(_, n, Mem::Bpf) if bytes.len() == *n as usize => Ok(()),
                _ => Err(format!("{} bytes as {}", bytes.len(), self.spell(ty))),
            },
            ExprKind::KernelEnumerator { .. } => {
                require(matches!(ty, Ty::Int(_) | Ty::Enum(..)), || self.spell(ty))
            }
            ExprKind::KernelSizeof(_) | ExprKind::KernelOffsetof(..) => self.wide(ty),
            ExprKind::Slot(idx) => match self.program.slots.get(idx.0 as usize) {
                Some(slot) => self.same("slot", ty, &slot.ty),
                None => Err(format!("no slot {idx:?}")),
            },
            ExprKind::Local(idx) => self.same("variable", ty, self.local(*idx)?),
            ExprKind::LocalAddr(idx) => match ty {
                Ty::Ptr(pointee, _) => self.same("address", pointee, self.local(*idx)?),
                _ => Err("an address that is no pointer".to_owned()),
            },
            ExprKind::Builtin(_) => Ok(()),
            ExprKind::Unary(UnaryOp::Not, inner) => {
                self.same("operand of !", &inner.ty, &Ty::Bool)?;
                self.same("!", ty, &Ty::Bool)
            }
            ExprKind::Unary(_, inner) => {
                self.wide(&inner.ty)?;
                self.same("operator", ty, &inner.ty)
            }
            ExprKind::Binary(op, a, b) => {
                self.wide(&a.ty)?;
                self.same("operands", &a.ty, &b.ty)?;
                self.same("operator", ty, &a.ty)?;
                let _: &ArithmeticOp = op;
                Ok(())
            }
            ExprKind::PtrAdd { ptr, index, .. } => {
                self.wide(&index.ty)?;
                require(matches!(ty, Ty::Ptr(..)), || self.spell(ty))?;
                self.same("pointer", &ptr.ty, ty)
            }
            ExprKind::Compare(op, a, b) => {
                self.same("comparison", ty, &Ty::Bool)?;
                match (&a.ty, &b.ty) {
                    (Ty::Str(_), Ty::Str(_)) => {}
                    (Ty::Array(x, n, _), Ty::Array(y, m, _)) if x == y && n == m => {}
                    (x, y) => self.same("compared values", x, y)?,
                }
                let ordered = matches!(a.ty, Ty::Int(_) | Ty::Ptr(..));
                let equality = matches!(op, crate::CompareOp::Eq | crate::CompareOp::Ne);
                require(ordered || equality, || {
                    format!("no order in {}", self.spell(&a.ty))
                })
            }
            ExprKind::Logical(_, a, b) => {
                self.same("operand", &a.ty, &Ty::Bool)?;
                self.same("operand", &b.ty, &Ty::Bool)?;
                self.same("logical operator", ty, &Ty::Bool)
            }
            ExprKind::Cond(cond, a, b) => {
                self.same("condition", &cond.ty, &Ty::Bool)?;
                self.same("first arm", &a.ty, ty)?;
                self.same("second arm", &b.ty, ty)
            }
            ExprKind::Block(_, value) => self.same("block", &value.ty, ty),
            ExprKind::Cast(kind, inner) => self.cast(*kind, &inner.ty, ty),
            ExprKind::Tuple(elements) => {
                let types: Vec<&Ty> = match ty {
                    Ty::Tuple(types) => types.iter().collect(),
                    Ty::Record(fields) => fields.iter().map(|(_, ty)| ty).collect(),
                    _ => return Err(format!("a tuple of type {}", self.spell(ty))),
                };
                require(types.len() == elements.len(), || {
                    "elements of a tuple".to_owned()
                })?;
                for (element, ty) in elements.iter().zip(types) {
                    self.same("element", &element.ty, ty)?;
                    require(is_stored(ty), || "an address in a tuple".to_owned())?;
                }
                Ok(())
            }
            ExprKind::TupleField(base, idx) => {
                let element = match &base.ty {
                    Ty::Tuple(types) => types.get(*idx as usize),
                    Ty::Record(fields) => fields.get(*idx as usize).map(|(_, ty)| ty),
                    _ => None,
                };
                match element {
                    Some(element) => self.same("element", ty, element),
                    None => Err(format!("element {idx} of {}", self.spell(&base.ty))),
                }
            }
            ExprKind::Member(base, idx) => self.member(base, *idx, ty),
            ExprKind::Deref(ptr) => match &ptr.ty {
                Ty::Ptr(pointee, mem) => {
                    self.alike("*", ty, pointee)?;
                    self.stays(ty, *mem)
                }
                other => Err(format!("* of {}", self.spell(other))),
            },
            ExprKind::Index(base, index) => {
                self.wide(&index.ty)?;
                match &base.ty {
                    Ty::Array(element, _, mem) | Ty::Ptr(element, mem) => {
                        self.alike("element", ty, element)?;
                        self.stays(ty, *mem)
                    }
                    Ty::Str(_) => self.same("character", ty, &Ty::Int(IntTy::I8)),
                    other => Err(format!("an element of {}", self.spell(other))),
                }
            }
            ExprKind::MapGet { map, key } => {
                self.key(*map, key.as_deref())?;
                self.same("map value", ty, &self.map_read(*map)?)
            }
            ExprKind::MapAddr(map) => {
                require(self.program.maps.get(map.0 as usize).is_some(), || {
                    format!("no map {map:?}")
                })?;
                require(matches!(ty, Ty::Ptr(..)), || self.spell(ty))
            }
            ExprKind::Step { target, .. } => match target {
                StepTarget::Local(idx) => self.same("++", ty, self.local(*idx)?),
                StepTarget::Map { map, key } => {
                    self.key(*map, key.as_deref())?;
                    self.same("++", ty, &self.program.maps[map.0 as usize].value)
                }
            },
            ExprKind::Call(call) => self.call(call, ty),
            ExprKind::CallFunction(idx, args) => {
                let Some(function) = self.program.functions.get(idx.0 as usize) else {
                    return Err(format!("no function {idx:?}"));
                };
                self.same("return value", ty, &function.ret)?;
                require(args.len() == function.n_params as usize, || {
                    format!("{} arguments of {}", args.len(), function.name)
                })?;
                for (arg, param) in args.iter().zip(&function.body.locals) {
                    self.same("argument", &arg.ty, &param.ty)?;
                }
                Ok(())
            }
            ExprKind::CallImported(idx, args) => {
                let functions = &self.program.imported_functions;
                let Some(function) = functions.get(idx.0 as usize) else {
                    return Err(format!("no imported function {idx:?}"));
                };
                self.same("return value", ty, &function.ret)?;
                require(args.len() == function.params.len(), || {
                    format!("{} arguments of {}", args.len(), function.name)
                })?;
                for (arg, (_, param)) in args.iter().zip(&function.params) {
                    // Any pointer will do for a pointer.
                    if !matches!((&arg.ty, param), (Ty::Ptr(..), Ty::Ptr(..))) {
                        self.same("argument", &arg.ty, param)?;
                    }
                }
                Ok(())
            }
        }
    }

    /// By-address values stay in the memory they are in.
    fn stays(&self, ty: &Ty, mem: Mem) -> Check {
        match ty {
            Ty::Struct(_, m) | Ty::Array(_, _, m) => {
                require(*m == mem, || format!("{m:?} is not {mem:?}"))
            }
            _ => Ok(()),
        }
    }

    fn member(&self, base: &Expr, idx: u32, ty: &Ty) -> Check {
        let (id, mem) = match &base.ty {
            Ty::Struct(id, mem) => (*id, *mem),
            Ty::Ptr(pointee, mem) => match &**pointee {
                Ty::Struct(id, _) => (*id, *mem),
                other => return Err(format!("a member of {}", self.spell(other))),
            },
            other => return Err(format!("a member of {}", self.spell(other))),
        };
        let def = self.program.types.struct_def(id);
        match def.members.get(idx as usize) {
            Some(member) => {
                self.alike(&member.name, ty, &member.ty)?;
                self.stays(ty, def.member_memory(member, mem))
            }
            None => Err(format!("struct {} has no member {idx}", def.name)),
        }
    }

    fn cast(&self, kind: CastKind, from: &Ty, to: &Ty) -> Check {
        let integer = |ty: &Ty| matches!(ty, Ty::Int(_) | Ty::Enum(..) | Ty::Bool | Ty::Ptr(..));
        let ok = match kind {
            CastKind::Int => integer(from) && integer(to) && *to != Ty::Bool,
            CastKind::Truth => (integer(from) || matches!(from, Ty::Str(_))) && *to == Ty::Bool,
            CastKind::Resize => match (from, to) {
                (Ty::Str(a), Ty::Str(b)) | (Ty::Buf(a), Ty::Buf(b)) => a < b,
                _ => false,
            },
            CastKind::Elements => matches!(
                (from, to),
                (Ty::Tuple(_), Ty::Tuple(_)) | (Ty::Record(_), Ty::Record(_))
            ),
            CastKind::ToArray => {
                matches!(from, Ty::Int(_) | Ty::Bool | Ty::Str(_))
                    && matches!(to, Ty::Array(_, _, Mem::Bpf))
            }
            CastKind::FromArray => {
                matches!((from, to), (Ty::Array(..), Ty::Int(_)))
                    && self.program.types.size(from) == self.program.types.size(to)
            }
            CastKind::Reinterpret => {
                let pointer = |ty: &Ty| matches!(ty, Ty::Ptr(..));
                let by_address = |ty: &Ty| matches!(ty, Ty::Struct(..) | Ty::Array(..));
                (pointer(from) || by_address(from)) && (pointer(to) || by_address(to))
                    || matches!((from, to), (Ty::Str(_), Ty::Ptr(..)))
                    || self.program.types.size(from) == self.program.types.size(to)
            }
            CastKind::ProbeNameToStr => *from == Ty::ProbeName && matches!(to, Ty::Str(_)),
            CastKind::Copy => {
                matches!(from, Ty::Struct(..) | Ty::Array(..))
                    && matches!(to, Ty::Struct(_, Mem::Bpf) | Ty::Array(_, _, Mem::Bpf))
            }
        };
        require(ok, || {
            format!(
                "cast {kind:?} from {} to {}",
                self.spell(from),
                self.spell(to)
            )
        })
    }

    fn call(&self, call: &Call, ty: &Ty) -> Check {
        let text = |expr: &Expr| {
            require(matches!(expr.ty, Ty::Str(_)), || {
                format!("{} is no string", self.spell(&expr.ty))
            })
        };
        match call {
            Call::Str { len, .. } => {
                require(matches!(ty, Ty::Str(_)), || self.spell(ty))?;
                len.as_ref().map_or(Ok(()), |len| self.wide(&len.ty))
            }
            Call::Buf { len, .. } => {
                require(matches!(ty, Ty::Buf(_)), || self.spell(ty))?;
                len.as_ref().map_or(Ok(()), |len| self.wide(&len.ty))
            }
            Call::Strncmp(a, b, _) | Call::Strstr(a, b) => text(a).and_then(|()| text(b)),
            Call::Strlen(a) => text(a),
            Call::StrConcat(a, b) => text(a).and_then(|()| text(b)),
            Call::Memcmp(a, b) => self.same("memcmp", &a.ty, &b.ty),
            Call::Ksym(a) | Call::Usym(a) | Call::UserAddress(a) | Call::CgroupPath(_, a) => {
                self.wide(&a.ty)
            }
            Call::Strftime(format, _, time) => {
                require((*format as usize) < self.program.time_formats.len(), || {
                    format!("no time format {format}")
                })?;
                self.wide(&time.ty)
            }
            Call::Bswap(a) => self.same("bswap", &a.ty, ty),
            Call::Delete(map, key) => self.key(*map, key.as_deref()),
            Call::HasKey(map, key) => self.key(*map, Some(key)),
            Call::Find(map, key, idx) => {
                self.key(*map, Some(key))?;
                self.same("find", self.local(*idx)?, &self.map_read(*map)?)
            }
            Call::StatsOf { map, key, .. } => self.key(*map, key.as_deref()),
            Call::MapLen(map) => require(self.program.maps.len() > map.0 as usize, || {
                format!("no map {map:?}")
            }),
            Call::StackLen(stack) => {
                require(matches!(stack.ty, Ty::KStack(_) | Ty::UStack(_)), || {
                    self.spell(&stack.ty)
                })
            }
            _ => Ok(()),
        }
    }
}

/// Whether values of a type hold nothing by address outside of the program's own memory.
fn is_stored(ty: &Ty) -> bool {
    let mut todo = vec![ty];
    while let Some(ty) = todo.pop() {
        match ty {
            Ty::Struct(_, mem) | Ty::Array(_, _, mem) if *mem != Mem::Bpf => return false,
            Ty::Ptr(_, Mem::Ctx | Mem::Btf) => return false,
            Ty::Tuple(elements) => todo.extend(elements.iter()),
            Ty::Record(fields) => todo.extend(fields.iter().map(|(_, ty)| ty)),
            _ => {}
        }
    }
    true
}
