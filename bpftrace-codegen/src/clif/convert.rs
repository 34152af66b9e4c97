//! Casts.

use std::collections::HashMap;

use bpftrace_sema::{CastKind, Expr, Ty};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{Type, Value, types};

use super::R;
use super::func::FnCx;
use super::helper::Helper;
use super::memory::{Access, Addr, Fill};
use super::module::SpecialMap;
use super::place::{is_by_address, scalar_type};

impl FnCx<'_, '_> {
    /// A cast whose result is a scalar (or a struct or array, by address).
    pub(super) fn scalar_cast(&mut self, kind: CastKind, operand: &Expr, ty: &Ty) -> R<Value> {
        let Some(clif) = scalar_type(ty) else {
            return self.internal("a cast to a value in memory as a scalar");
        };
        match kind {
            CastKind::Int => {
                if let Ty::Tuple(_) | Ty::Record(_) | Ty::Str(_) = operand.ty {
                    return self.internal("a value in memory cast to an integer");
                }
                let signed = matches!(
                    (&operand.ty, ty),
                    (Ty::Int(int) | Ty::Enum(_, int), to) if int.signed && !matches!(to, Ty::Ptr(..))
                );
                let value = self.scalar(operand)?;
                if *ty == Ty::Bool {
                    return Ok(self.cmp_imm(IntCC::NotEqual, value, 0));
                }
                Ok(self.resize_int(value, clif, signed))
            }
            CastKind::Truth => self.truth(operand),
            CastKind::Reinterpret => {
                if let Ty::Str(_) = operand.ty {
                    return Ok(self.string_in_place(operand)?.1);
                }
                if scalar_type(&operand.ty).is_none() {
                    return self.internal("a value in memory seen as a scalar");
                }
                let value = self.scalar(operand)?;
                Ok(self.resize_int(value, clif, false))
            }
            CastKind::FromArray => self.array_to_int(operand, clif),
            CastKind::ToArray => {
                let size = self.size_of(ty)?;
                let dst = self.permanent(size);
                self.bytes_to_array(operand, dst, size)?;
                Ok(self.addr_value(dst))
            }
            CastKind::Copy => {
                let size = self.size_of(ty)?;
                let dst = self.permanent(size);
                self.copy_object(operand, dst)?;
                Ok(self.addr_value(dst))
            }
            CastKind::Resize | CastKind::Elements | CastKind::ProbeNameToStr => {
                self.internal("a cast of a value in memory as a scalar")
            }
        }
    }

    fn truth(&mut self, operand: &Expr) -> R<Value> {
        if let Ty::Str(size) = operand.ty {
            if size == 0 {
                return Ok(self.int(types::I8, 0));
            }
            let (addr, _) = self.mem(operand)?;
            let first = self.load(types::I8, addr, Access::Own);
            return Ok(self.cmp_imm(IntCC::NotEqual, first, 0));
        }
        let value = self.scalar(operand)?;
        Ok(self.cmp_imm(IntCC::NotEqual, value, 0))
    }

    fn array_to_int(&mut self, operand: &Expr, clif: Type) -> R<Value> {
        let mem = match &operand.ty {
            Ty::Array(_, _, mem) | Ty::Struct(_, mem) => *mem,
            Ty::Str(_) | Ty::MacAddr => {
                let (addr, _) = self.mem(operand)?;
                let word = self.temp_word();
                self.store_imm(types::I64, 0, word);
                let size = self.size_of(&operand.ty)?.min(8);
                self.copy(word, addr, u64::from(size));
                return Ok(self.load(clif, word, Access::Own));
            }
            _ => return self.internal("an array cast of something else"),
        };
        let address = self.scalar(operand)?;
        let size = self.size_of(&operand.ty)?;
        let word = self.temp_word();
        self.store_imm(types::I64, 0, word);
        self.read_bytes(mem, word, u64::from(size.min(8)), address)?;
        Ok(self.load(clif, word, Access::Own))
    }

    /// The bytes of an integer or string, as an array.
    fn bytes_to_array(&mut self, operand: &Expr, dst: Addr, size: u32) -> R<()> {
        if scalar_type(&operand.ty).is_some() && !is_by_address(&operand.ty) {
            let value = self.scalar(operand)?;
            let width = self.ty(value).bytes();
            if width > size {
                return self.internal("an array smaller than the integer");
            }
            if width < size {
                self.zero(dst, u64::from(size));
            }
            self.store(value, dst);
            return Ok(());
        }
        let from = self.size_of(&operand.ty)?;
        let (src, _) = match &operand.ty {
            Ty::Array(..) | Ty::Struct(..) => return self.copy_object(operand, dst),
            _ => self.mem(operand)?,
        };
        self.copy(dst, src, u64::from(from.min(size)));
        if from < size {
            self.zero(dst.at(u64::from(from)), u64::from(size - from));
        }
        Ok(())
    }

    /// A cast whose result lives in memory.
    pub(super) fn store_cast(
        &mut self,
        kind: CastKind,
        operand: &Expr,
        ty: &Ty,
        dst: Addr,
        fill: Fill,
    ) -> R<()> {
        match kind {
            CastKind::Resize => {
                // A constant is written in its new size at once, and a string that is read is read there.
                if let bpftrace_sema::ExprKind::Str(bytes) = &operand.kind {
                    return self.store_str(bytes, ty, dst, fill);
                }
                let (src, src_fill) = self.mem(operand)?;
                self.convert_stored(&operand.ty, src, src_fill, ty, dst, fill)
            }
            CastKind::Elements => {
                let (src, src_fill) = self.mem(operand)?;
                self.convert_stored(&operand.ty, src, src_fill, ty, dst, fill)
            }
            CastKind::Reinterpret if scalar_type(&operand.ty).is_none() => {
                self.store_expr(operand, dst, fill)
            }
            CastKind::ProbeNameToStr => self.probe_name_to_str(operand, ty, dst, fill),
            _ => self.internal(format!("a cast {kind:?} to a value in memory")),
        }
    }

    /// Converts a value in memory to another type of the same shape.
    fn convert_stored(
        &mut self,
        from: &Ty,
        src: Addr,
        src_fill: Fill,
        to: &Ty,
        dst: Addr,
        fill: Fill,
    ) -> R<()> {
        match (from, to) {
            (Ty::Str(m), Ty::Str(n)) => {
                self.copy_str(dst, *n, fill, src, *m, src_fill == Fill::Exact);
                Ok(())
            }
            (Ty::Buf(m), Ty::Buf(n)) => {
                let size = u64::from(4 + m.min(n));
                self.copy(dst, src, size);
                if n > m {
                    self.zero(dst.at(size), u64::from(n - m));
                }
                Ok(())
            }
            (Ty::Tuple(a), Ty::Tuple(b)) if a.len() == b.len() => {
                let (from_offsets, _) = self.m.program.types.tuple_layout(from);
                let (to_offsets, size) = self.m.program.types.tuple_layout(to);
                self.zero(dst, size);
                for index in 0..a.len() {
                    self.convert_stored(
                        &a[index],
                        src.at(from_offsets[index]),
                        Fill::Exact,
                        &b[index],
                        dst.at(to_offsets[index]),
                        Fill::Exact,
                    )?;
                }
                Ok(())
            }
            (Ty::Record(a), Ty::Record(b)) if a.len() == b.len() => {
                let (from_offsets, _) = self.m.program.types.tuple_layout(from);
                let (to_offsets, size) = self.m.program.types.tuple_layout(to);
                self.zero(dst, size);
                let names = a.iter().map(|(name, _)| name.as_str());
                let places: HashMap<&str, usize> = names.zip(0..).collect();
                for (to_index, (name, to_ty)) in b.iter().enumerate() {
                    let Some(&from_index) = places.get(name.as_str()) else {
                        return self.internal(format!("no field {name} to convert"));
                    };
                    self.convert_stored(
                        &a[from_index].1,
                        src.at(from_offsets[from_index]),
                        Fill::Exact,
                        to_ty,
                        dst.at(to_offsets[to_index]),
                        Fill::Exact,
                    )?;
                }
                Ok(())
            }
            (from, to) => {
                let scalars = (scalar_type(from), scalar_type(to));
                if let (Some(a), Some(b)) = scalars
                    && !is_by_address(from)
                    && !is_by_address(to)
                {
                    let signed = matches!(from, Ty::Int(int) | Ty::Enum(_, int) if int.signed);
                    let value = self.load(a, src, Access::Own);
                    let value = self.resize_int(value, b, signed);
                    self.store(value, dst);
                    return Ok(());
                }
                let (a, b) = (self.size_of(from)?, self.size_of(to)?);
                if a != b {
                    return self.internal("a conversion between values of different sizes");
                }
                self.copy_value(to, dst, fill, src, src_fill)
            }
        }
    }

    /// The name of the target that fired.
    fn probe_name_to_str(&mut self, operand: &Expr, ty: &Ty, dst: Addr, fill: Fill) -> R<()> {
        let Ty::Str(size) = *ty else {
            return self.internal("the name of a probe as something else than a string");
        };
        let number = self.scalar(operand)?;
        let map = self.m.special_map(SpecialMap::ProbeNames(size));
        let key = self.temp_word();
        let number = self.resize_int(number, types::I32, false);
        self.store(number, key);
        let (map, key) = (self.map_ptr(map), self.addr_value(key));
        let found = self.call(Helper::MapLookupElem, &[map, key]);
        let zeros = self.m.zeros(size)?;
        let src = self.choose(found, types::I64, |_| Ok(found), |cx| Ok(cx.rodata(zeros)))?;
        self.copy_value(ty, dst, fill, Addr::value(src, 8), Fill::Exact)
    }
}
