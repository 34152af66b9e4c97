//! Functions that read memory, and functions on strings.

use std::net::IpAddr;
use std::rc::Rc;

use bpftrace_ast::node::{self, ExprKind as Ast};
use bpftrace_ast::source::Span;
use bpftrace_meta::ParamKind;

use super::call::call_val;
use super::expr::Operand;
use super::{Lowerer, Val};
use crate::builtin::{Func, shown};
use crate::{Call, CastKind, Expr, ExprKind, IntTy, Mem, Ty, codes};

impl Lowerer<'_, '_> {
    pub(super) fn memory_call(&mut self, span: Span, call: &node::Call, func: Func) -> Val {
        match func {
            Func::Str => self.str_call(span, call),
            Func::Buf => self.buf_call(span, call),
            Func::Strncmp => self.strncmp(span, call),
            Func::Strstr => self.strstr(span, call),
            Func::Strlen => self.strlen(span, call),
            Func::Kptr => self.set_space(span, call, Mem::Kernel),
            Func::Uptr => self.set_space(span, call, Mem::User),
            Func::Macaddr => self.macaddr(span, call),
            Func::Ntop => self.ntop(span, call),
            Func::Pton => self.pton(span, call),
            Func::Bswap => self.bswap(span, call),
            Func::Path => self.path(span, call),
            Func::StrConcat => self.str_concat(span, call),
            Func::Memcmp => self.memcmp(span, call),
            Func::WriteUser => self.write_user(span, call),
            _ => self.unsupported(span, &format!("{}()", call.name.name)),
        }
    }

    fn str_call(&mut self, span: Span, call: &node::Call) -> Val {
        let Some(tree) = call.args.first().and_then(|arg| self.value_arg(arg)) else {
            return Val::unknown(span);
        };
        let before = self.slots_so_far();
        // Parameters are text here; what is added to them skips characters.
        let val = match &tree.kind {
            Ast::PositionalParam(n) => self.positional(tree.span, *n, Some(ParamKind::Str)),
            Ast::Binary {
                op: op @ node::BinaryOp::Add,
                op_span,
                left,
                right,
            } if let Ast::PositionalParam(n) = left.kind => {
                let text = self.positional(left.span, n, Some(ParamKind::Str));
                self.binary(tree.span, *op, *op_span, before, Operand::Done(text), right)
            }
            _ => self.expr(tree),
        };
        let max = self.s.settings.max_strlen;
        let len = match call.args.get(1) {
            None => None,
            Some(_) => match self.int_arg(call, 1) {
                Some(len) => Some(len),
                None => return Val::unknown(span),
            },
        };
        if !val.known {
            return Val::unknown(span);
        }
        let literal_len = len.as_ref().and_then(Val::as_literal);
        let cut = len.as_ref().filter(|_| literal_len.is_none());
        let (val, len) = match self.text_at_start(span, before, &val, cut) {
            Some(text) => (text, len.filter(|_| literal_len.is_some())),
            None => (val, len),
        };
        // Of a parameter, as of a literal, it counts characters.
        let (len, literal_len) = match literal_len {
            Some(chars) if chars >= 0 && self.is_of_params(&val) => {
                let bytes = chars.saturating_add(1);
                (Some(Val::literal(span, bytes)), Some(bytes))
            }
            _ => (len, literal_len),
        };
        if literal_len.is_some_and(|len| len < 0) {
            self.error(
                codes::ARGUMENT_KIND,
                span,
                "str() cannot use negative length (must be non-negative)",
            );
            return Val::unknown(span);
        }
        // Literals are folded: an integer is its digits.
        let text = match (val.as_str_literal(), val.as_literal()) {
            (Some(text), _) => Some(text.to_vec()),
            (None, Some(n)) if val.range.is_some() => Some(n.to_string().into_bytes()),
            _ => None,
        };
        if let Some(mut text) = text
            && (len.is_none() || literal_len.is_some())
        {
            if let Some(len) = literal_len {
                text.truncate(usize::try_from(len).unwrap_or(usize::MAX));
            }
            return Val::string(span, text);
        }
        if let Some(len) = literal_len
            && len > i128::from(max)
        {
            self.warn(
                codes::ARGUMENT_IGNORED,
                span,
                format!(
                    "length param ({len}) is too long and will be shortened to {max} bytes (see \
                     BPFTRACE_MAX_STRLEN)"
                ),
            );
        }
        let size = match literal_len {
            Some(len) => u32::try_from(len)
                .unwrap_or(u32::MAX)
                .saturating_add(1)
                .min(max),
            None => max,
        };
        // A string that is there already is only shortened.
        if let Ty::Str(have) = *val.ty()
            && len.is_none()
        {
            let _ = have;
            return val;
        }
        match val.ty() {
            Ty::Int(_) | Ty::Ptr(..) | Ty::Array(..) | Ty::Str(_) => {}
            _ => {
                return self.wrong_kind(
                    &val,
                    &format!(
                        "{}() expects an integer or a pointer type as first argument",
                        call.name.name
                    ),
                );
            }
        }
        let addr = self.address(val);
        let len = len.map(|len| Box::new(self.int_of(len, IntTy::U64)));
        call_val(
            span,
            Ty::Str(size),
            Call::Str {
                addr: Box::new(addr),
                len,
            },
        )
        .with_space(Mem::Kernel)
    }

    /// Something to read from: a pointer that says which memory it is about. Integers become
    /// pointers to bytes.
    fn address(&mut self, val: Val) -> Expr {
        let span = val.span();
        match val.ty() {
            Ty::Int(_) => {
                let space = val.space;
                self.warn_if_space_unknown(space, span);
                let ty = Ty::Ptr(Rc::new(Ty::Int(IntTy::I8)), space);
                self.cast_to(val.expr, ty, CastKind::Int)
            }
            Ty::Ptr(_, mem) | Ty::Array(_, _, mem) | Ty::Struct(_, mem) => {
                self.warn_if_space_unknown(*mem, span);
                val.expr
            }
            _ => val.expr,
        }
    }

    fn buf_call(&mut self, span: Span, call: &node::Call) -> Val {
        let Some(val) = self.arg_val(call, 0) else {
            return Val::unknown(span);
        };
        let len = match call.args.get(1) {
            None => None,
            Some(_) => match self.int_arg(call, 1) {
                Some(len) => Some(len),
                None => return Val::unknown(span),
            },
        };
        let whole = match val.ty() {
            Ty::Array(..) => Some(self.s.imported.table.size(val.ty())),
            Ty::Int(_) | Ty::Ptr(..) | Ty::Str(_) => None,
            _ => {
                return self.wrong_kind(
                    &val,
                    "buf() only supports int, pointer, string and array arguments",
                );
            }
        };
        let max = u64::from(self.s.settings.max_strlen.saturating_sub(4).max(1));
        let literal = len.as_ref().and_then(Val::as_literal);
        let wanted = match (literal, &len, whole) {
            (Some(n), ..) if n < 0 => {
                self.error(
                    codes::ARGUMENT_KIND,
                    span,
                    "buf() cannot use negative length (must be non-negative)",
                );
                return Val::unknown(span);
            }
            (Some(n), ..) => u64::try_from(n).unwrap_or(u64::MAX),
            (None, Some(_), _) => max,
            (None, None, Some(whole)) => whole,
            (None, None, None) => {
                let kind = self.kind_word(&val);
                self.error(
                    codes::ARGUMENT_COUNT,
                    span,
                    format!("buf() expects a length argument for non-array type {kind}"),
                );
                return Val::unknown(span);
            }
        };
        if wanted > max {
            self.warn(
                codes::ARGUMENT_IGNORED,
                span,
                format!(
                    "length param ({wanted}) is too long and will be shortened to {max} bytes (see \
                     BPFTRACE_MAX_STRLEN)"
                ),
            );
        }
        let size = u32::try_from(wanted.min(max)).unwrap_or(u32::MAX);
        let addr = Box::new(self.address(val));
        let len = len.map(|len| Box::new(self.int_of(len, IntTy::U64)));
        call_val(span, Ty::Buf(size), Call::Buf { addr, len })
    }

    /// A string argument: `str` is understood where a positional parameter stands.
    fn text_arg(&mut self, call: &node::Call, at: usize) -> Option<Val> {
        let tree = self.value_arg(call.args.get(at)?)?;
        let val = match &tree.kind {
            Ast::PositionalParam(n) => self.positional(tree.span, *n, Some(ParamKind::Str)),
            _ => self.expr(tree),
        };
        if !val.known {
            return None;
        }
        match val.ty() {
            Ty::Str(_) => Some(val),
            Ty::ProbeName => Some(Val::from_expr(self.text_of(val.expr))),
            Ty::Ptr(..) | Ty::Array(..) if is_text_like(val.ty()) => {
                Some(Val::from_expr(self.read_text(val)))
            }
            _ => {
                let name = shown(&call.name.name);
                let kind = self.kind_word(&val);
                self.error(
                    codes::ARGUMENT_KIND,
                    val.span(),
                    format!("{name}() only supports string arguments ({kind} provided)"),
                );
                None
            }
        }
    }

    /// The characters that a pointer points to, or that an array has.
    fn read_text(&mut self, val: Val) -> Expr {
        let span = val.span();
        let size = match val.ty() {
            Ty::Array(_, n, _) => *n,
            _ => self.s.settings.max_strlen,
        };
        let addr = Box::new(self.address(val));
        call_val(span, Ty::Str(size), Call::Str { addr, len: None }).expr
    }

    fn strncmp(&mut self, span: Span, call: &node::Call) -> Val {
        let (a, b) = (self.text_arg(call, 0), self.text_arg(call, 1));
        let n = self.literal_int(call, 2);
        let (Some(a), Some(b), Some(n)) = (a, b, n) else {
            return Val::unknown(span);
        };
        let Ok(n) = u32::try_from(n) else {
            self.error(
                codes::ARGUMENT_KIND,
                span,
                "Builtin strncmp requires a non-negative size",
            );
            return Val::unknown(span);
        };
        call_val(
            span,
            Ty::Int(IntTy::U64),
            Call::Strncmp(Box::new(a.expr), Box::new(b.expr), n),
        )
    }

    fn strstr(&mut self, span: Span, call: &node::Call) -> Val {
        let (a, b) = (self.text_arg(call, 0), self.text_arg(call, 1));
        let (Some(a), Some(b)) = (a, b) else {
            return Val::unknown(span);
        };
        if let (Some(a), Some(b)) = (a.as_str_literal(), b.as_str_literal()) {
            let (a, b) = (until_nul(a), until_nul(b));
            let at = (0..=a.len()).find(|at| a[*at..].starts_with(b));
            return Val::literal(span, at.map_or(-1, |at| at as i128));
        }
        let found = Call::Strstr(Box::new(a.expr), Box::new(b.expr));
        call_val(span, Ty::Int(IntTy::I32), found)
    }

    /// `str_concat(a, b)`: as much of it as fits.
    fn str_concat(&mut self, span: Span, call: &node::Call) -> Val {
        /// Bytes of the result, whatever the arguments are.
        const SIZE: u32 = 1024;
        let (a, b) = (self.text_arg(call, 0), self.text_arg(call, 1));
        let (Some(a), Some(b)) = (a, b) else {
            return Val::unknown(span);
        };
        let joined = Call::StrConcat(Box::new(a.expr), Box::new(b.expr));
        call_val(span, Ty::Str(SIZE), joined).with_space(Mem::Kernel)
    }

    /// `memcmp(a, b, n)`: the difference of the first bytes that differ. What pointers point to is read.
    fn memcmp(&mut self, span: Span, call: &node::Call) -> Val {
        let (a, b) = (self.arg_val(call, 0), self.arg_val(call, 1));
        let Some(n) = self.literal_int(call, 2) else {
            return Val::unknown(span);
        };
        let (Some(a), Some(b)) = (a, b) else {
            return Val::unknown(span);
        };
        let max = self.s.settings.max_strlen.saturating_sub(4).max(1);
        let n = match u32::try_from(n) {
            // Nothing differs in nothing.
            Ok(0) => return Val::new(Ty::Int(IntTy::I32), span, ExprKind::Const(0)),
            Ok(n) if (1..=max).contains(&n) => n,
            _ => {
                let message = format!("memcmp() compares 1 to {max} bytes ({n} provided)");
                self.error(codes::ARGUMENT_KIND, span, message);
                return Val::unknown(span);
            }
        };
        let mut sides = Vec::new();
        for val in [a, b] {
            let size = match val.ty() {
                Ty::Str(_) | Ty::Array(..) => self.s.imported.table.size(val.ty()),
                Ty::Buf(size) => u64::from(*size),
                Ty::Ptr(..) => u64::from(n),
                _ => {
                    return self.wrong_kind(
                        &val,
                        "memcmp() only supports string, buffer, array and pointer arguments",
                    );
                }
            };
            if size < u64::from(n) {
                let spelled = self.spell(val.ty());
                self.error(
                    codes::ARGUMENT_KIND,
                    val.span(),
                    format!("memcmp() of {n} bytes, but {spelled} has only {size}"),
                );
                return Val::unknown(span);
            }
            let len = super::expr::constant(Ty::Int(IntTy::U64), span, u64::from(n));
            let bytes = match val.ty() {
                Ty::Buf(size) if *size == n => val.expr,
                _ => {
                    let addr = Box::new(self.address(val));
                    let len = Some(Box::new(len));
                    call_val(span, Ty::Buf(n), Call::Buf { addr, len }).expr
                }
            };
            sides.push(Box::new(bytes));
        }
        let (Some(b), Some(a)) = (sides.pop(), sides.pop()) else {
            return Val::unknown(span);
        };
        call_val(span, Ty::Int(IntTy::I32), Call::Memcmp(a, b))
    }

    fn strlen(&mut self, span: Span, call: &node::Call) -> Val {
        let Some(val) = self.arg_val(call, 0) else {
            return Val::unknown(span);
        };
        if let Some(text) = val.as_str_literal() {
            return Val::literal(span, until_nul(text).len() as i128);
        }
        let text = match val.ty() {
            Ty::Str(_) => val.expr,
            Ty::ProbeName => self.text_of(val.expr),
            Ty::Ptr(..) | Ty::Array(..) if is_text_like(val.ty()) => self.read_text(val),
            _ => return self.wrong_kind(&val, "strlen() only supports string arguments"),
        };
        call_val(span, Ty::Int(IntTy::U64), Call::Strlen(Box::new(text)))
    }

    fn set_space(&mut self, span: Span, call: &node::Call, space: Mem) -> Val {
        let Some(mut val) = self.arg_val(call, 0) else {
            return Val::unknown(span);
        };
        match val.ty().clone() {
            Ty::Int(_) => val.with_space(space),
            Ty::Ptr(pointee, _) => {
                let ty = Ty::Ptr(pointee, space);
                val.expr = self.reinterpret(val.expr, &ty);
                val.with_space(space)
            }
            _ => {
                let name = &call.name.name;
                self.wrong_kind(
                    &val,
                    &format!("{name}() only supports int and pointer arguments"),
                )
            }
        }
    }

    fn macaddr(&mut self, span: Span, call: &node::Call) -> Val {
        let Some(val) = self.arg_val(call, 0) else {
            return Val::unknown(span);
        };
        if val.as_str_literal().is_some() {
            self.error(
                codes::ARGUMENT_KIND,
                span,
                "macaddr() does not support literal string arguments",
            );
            return Val::unknown(span);
        }
        match val.ty() {
            Ty::Array(..) | Ty::Str(_) if self.s.imported.table.size(val.ty()) < 6 => {
                self.error(
                    codes::ARGUMENT_KIND,
                    span,
                    "macaddr() argument must be at least 6 bytes in size",
                );
                return Val::unknown(span);
            }
            Ty::Array(..) | Ty::Str(_) | Ty::Int(_) | Ty::Ptr(..) => {}
            _ => {
                return self.wrong_kind(&val, "macaddr() only supports array or pointer arguments");
            }
        }
        let addr = Box::new(self.address(val));
        call_val(span, Ty::MacAddr, Call::Macaddr(addr))
    }

    fn ntop(&mut self, span: Span, call: &node::Call) -> Val {
        let at = call.args.len() - 1;
        let family = match at {
            0 => None,
            _ => match self.int_arg(call, 0) {
                Some(family) => Some(Box::new(self.int_of(family, IntTy::U64))),
                None => return Val::unknown(span),
            },
        };
        let Some(val) = self.arg_val(call, at) else {
            return Val::unknown(span);
        };
        let address = match val.ty() {
            Ty::Int(_) => self.int_of(val, IntTy::U32),
            Ty::Array(..) | Ty::Str(_) => {
                if !matches!(self.s.imported.table.size(val.ty()), 4 | 16) {
                    self.error(
                        codes::ARGUMENT_KIND,
                        span,
                        "ntop() argument must be 4 or 16 bytes in size",
                    );
                    return Val::unknown(span);
                }
                self.address(val)
            }
            Ty::Ptr(..) => self.address(val),
            _ => return self.wrong_kind(&val, "ntop() expects an integer or array argument"),
        };
        call_val(span, Ty::Inet, Call::Ntop(family, Box::new(address)))
    }

    fn pton(&mut self, span: Span, call: &node::Call) -> Val {
        let Some(text) = self.literal_arg(call, 0) else {
            return Val::unknown(span);
        };
        let bytes = match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => address.octets().to_vec(),
            Ok(IpAddr::V6(address)) => address.octets().to_vec(),
            Err(_) => {
                self.error(
                    codes::ARGUMENT_KIND,
                    span,
                    format!("pton() expects a valid IPv4/IPv6 address, got {text}"),
                );
                return Val::unknown(span);
            }
        };
        let n = u32::try_from(bytes.len()).unwrap_or(4);
        let ty = Ty::Array(Rc::new(Ty::Int(IntTy::U8)), n, Mem::Bpf);
        Val::new(ty, span, ExprKind::Bytes(bytes))
    }

    fn bswap(&mut self, span: Span, call: &node::Call) -> Val {
        let Some(val) = self.int_arg(call, 0) else {
            return Val::unknown(span);
        };
        let size = self.as_int(&val).map_or(8, |int| int.size);
        let int = IntTy {
            size,
            signed: false,
        };
        if let Some(value) = val.as_literal() {
            let bytes = (value as u64).to_le_bytes();
            let mut swapped = [0u8; 8];
            for (i, byte) in bytes[..usize::from(size)].iter().enumerate() {
                swapped[usize::from(size) - 1 - i] = *byte;
            }
            let kind = ExprKind::Const(u64::from_le_bytes(swapped));
            return Val::new(Ty::Int(int), span, kind);
        }
        let inner = Box::new(self.int_of(val, int));
        call_val(span, Ty::Int(int), Call::Bswap(inner))
    }

    fn path(&mut self, span: Span, call: &node::Call) -> Val {
        let Some(val) = self.arg_val(call, 0) else {
            return Val::unknown(span);
        };
        let size = match call.args.get(1) {
            None => self.s.settings.max_strlen,
            Some(_) => match self.literal_int(call, 1).map(u32::try_from) {
                Some(Ok(n)) if n > 0 => n.min(self.s.settings.max_strlen),
                Some(_) => {
                    self.error(
                        codes::ARGUMENT_KIND,
                        span,
                        "path: invalid size value, need non-negative literal",
                    );
                    return Val::unknown(span);
                }
                None => return Val::unknown(span),
            },
        };
        match val.ty() {
            Ty::Ptr(..) | Ty::Struct(..) => {
                call_val(span, Ty::Str(size), Call::Path(Box::new(val.expr)))
            }
            _ => self.wrong_kind(&val, "path() only supports pointer arguments"),
        }
    }

    fn write_user(&mut self, span: Span, call: &node::Call) -> Val {
        let args = (
            self.arg_val(call, 0),
            self.arg_val(call, 1),
            self.int_arg(call, 2),
        );
        let (Some(dst), Some(src), Some(len)) = args else {
            return Val::unknown(span);
        };
        for val in [&dst, &src] {
            if !matches!(
                val.ty(),
                Ty::Int(_) | Ty::Ptr(..) | Ty::Str(_) | Ty::Array(..)
            ) {
                return self.wrong_kind(val, "write_user() only supports pointer arguments");
            }
        }
        let len = self.int_of(len, IntTy::U64);
        let write = Call::WriteUser(Box::new(dst.expr), Box::new(src.expr), Box::new(len));
        call_val(span, Ty::Bool, write)
    }
}

/// What a string is for the functions on strings.
fn until_nul(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|byte| *byte == 0);
    &text[..end.unwrap_or(text.len())]
}

/// Whether a pointer or array is one of characters.
fn is_text_like(ty: &Ty) -> bool {
    match ty {
        Ty::Ptr(of, _) | Ty::Array(of, ..) => matches!(**of, Ty::Int(IntTy { size: 1, .. })),
        _ => false,
    }
}
