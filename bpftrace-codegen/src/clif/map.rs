//! Maps of the script.

use std::collections::HashSet;

use bpftrace_meta::{Feature, MapId, MapMeta, MapRole, MapSize, MapValue};
use bpftrace_sema::{Expr, ExprKind, LocalIdx, MapDef, MapIdx, MapKind, Ty, TypedProgram};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{AtomicRmwOp, InstBuilder, MemFlagsData, Value, types};

use super::R;
use super::func::{FnCx, FunctionSpec, Role, build};
use super::helper::{Helper, map_type};
use super::large_key::Key;
use super::memory::{Access, Addr, Fill};
use super::place::{is_by_address, scalar_type};
use super::program::Program;
use crate::error::CodegenError;
use crate::meta_out::{identifier, stored_size, value_layout};
use crate::object;

/// Entries until the loader knows better.
const DEFAULT_ENTRIES: u32 = 4096;

/// Kernels without [`Feature::LargeMapKeys`] refuse larger keys in hash maps (`MAX_BPF_STACK` in
/// kernel/bpf/hashtab.c).
const MAX_OLD_KEY_SIZE: u64 = 512;

/// Larger keys are refused here.
const MAX_KEY_SIZE: u64 = 1 << 20;

/// The most values of a histogram's bucket number, plus one.
fn n_buckets(agg: &bpftrace_meta::AggKind) -> u32 {
    use bpftrace_meta::AggKind as A;
    match agg {
        // Bucket 0, and 2^bits for each power of two, 64 of them at most.
        A::Hist { bits } => (65 << bits) + 1,
        A::Lhist { min, max, step } => {
            let span = max.saturating_sub(*min) / (*step).max(1);
            u32::try_from(span).unwrap_or(u32::MAX).saturating_add(2)
        }
        A::Tseries { count, .. } => u32::try_from(*count).unwrap_or(u32::MAX),
        _ => 1,
    }
}

/// A map of the script as the object and the manifest describe it; `symbols` has the names of those before it.
pub(super) fn define(
    program: &TypedProgram,
    map: &MapDef,
    symbols: &mut HashSet<String>,
) -> R<(object::MapDef, MapMeta)> {
    let types = &program.types;
    let unsupported = |what: String| CodegenError::Unsupported {
        span: map.span,
        what,
    };
    let plain_key = map.key.as_ref().map_or(0, |key| stored_size(types, key));
    let bucketed = matches!(&map.value, Ty::Agg(agg) if agg.is_bucketed());
    let key_size = match (&map.key, bucketed) {
        (None, _) => 8,
        (Some(_), false) => plain_key.max(1),
        (Some(_), true) => plain_key.next_multiple_of(8) + 8,
    };
    if key_size > MAX_KEY_SIZE {
        return Err(unsupported(format!("a map key of {key_size} bytes")));
    }
    let value_size = stored_size(types, &map.value);
    if value_size == 0 || value_size > 1 << 24 {
        return Err(unsupported(format!("a map value of {value_size} bytes")));
    }
    let per_cpu = matches!(map.value, Ty::Agg(_));
    let kind = match map.declared.map(|declared| declared.kind) {
        None if per_cpu => map_type::PERCPU_HASH,
        None | Some(MapKind::Hash) => map_type::HASH,
        Some(MapKind::LruHash) => map_type::LRU_HASH,
        Some(MapKind::PercpuHash) => map_type::PERCPU_HASH,
        Some(MapKind::PercpuLruHash) => map_type::LRU_PERCPU_HASH,
    };
    let (entries, size) = match (&map.declared, &map.key, &map.value) {
        (Some(declared), ..) => (declared.max_entries, MapSize::Fixed),
        (None, None, Ty::Agg(agg)) => (n_buckets(agg), MapSize::Fixed),
        (None, None, _) => (1, MapSize::Fixed),
        (None, Some(_), _) => (DEFAULT_ENTRIES, MapSize::MaxMapKeys),
    };
    let mut symbol = format!("AT_{}", identifier(map.name.trim_start_matches('@')));
    if map.name == "@" {
        symbol = "AT_".to_owned();
    }
    while !symbols.insert(symbol.clone()) {
        symbol.push('_');
    }
    let def = object::MapDef::new(
        &symbol,
        kind,
        key_size as u32,
        value_size as u32,
        entries.max(1),
    );
    let value = match &map.value {
        Ty::Agg(agg) => MapValue::Aggregate(agg.clone()),
        ty => MapValue::Plain(value_layout(types, ty, map.span)?),
    };
    let key = match &map.key {
        Some(key) => Some(value_layout(types, key, map.span)?),
        None => None,
    };
    let meta = MapMeta {
        symbol,
        role: MapRole::Script {
            name: map.name.clone(),
            key,
            value,
            per_cpu: matches!(kind, map_type::PERCPU_HASH | map_type::LRU_PERCPU_HASH),
        },
        size,
    };
    Ok((def, meta))
}

/// The map that holds the keys of a map of the script on kernels that find them too large; `None` when no
/// kernel does. `main`: the other map, and how many entries it gets.
pub(super) fn define_keys(
    program: &TypedProgram,
    map: &MapDef,
    of: MapId,
    main: (&object::MapDef, MapSize),
) -> Option<(object::MapDef, MapMeta)> {
    let (main, size) = main;
    if u64::from(main.key_size) <= MAX_OLD_KEY_SIZE {
        return None;
    }
    let key = map.key.as_ref()?;
    let key_size = stored_size(&program.types, key).next_multiple_of(8);
    let kind = match main.map_type {
        map_type::LRU_HASH | map_type::LRU_PERCPU_HASH => map_type::LRU_HASH,
        _ => map_type::HASH,
    };
    // The kernel knows maps by 15 characters.
    let symbol = format!("keys_{}_{}", of.0, main.name);
    let def = object::MapDef::new(&symbol, kind, 16, key_size as u32, main.max_entries);
    let meta = MapMeta {
        symbol,
        role: MapRole::Keys { of },
        size,
    };
    Some((def, meta))
}

impl<'p> FnCx<'_, 'p> {
    fn map_def(&self, map: MapIdx) -> R<&'p MapDef> {
        match self.m.program.maps.get(map.0 as usize) {
            Some(def) => Ok(def),
            None => self.internal(format!("no map {}", map.0)),
        }
    }

    /// The map's row in the object, which is its index in the script.
    pub(super) fn map_row(&self, map: MapIdx) -> R<u32> {
        self.map_def(map)?;
        Ok(map.0)
    }

    /// The type of the map's values.
    pub(super) fn map_value(&self, map: MapIdx) -> R<&'p Ty> {
        Ok(&self.map_def(map)?.value)
    }

    /// The address of a key. `bucket` goes behind it.
    pub(super) fn map_key(
        &mut self,
        map: MapIdx,
        key: Option<&Expr>,
        bucket: Option<Value>,
    ) -> R<Key> {
        if let (Some(keys), Some(key)) = (self.m.key_map(map), key) {
            return self.large_key(keys, key, bucket);
        }
        let addr = match (key, bucket) {
            (None, None) => Addr::rodata(self.m.zeros(8)?),
            (None, Some(bucket)) => {
                let dst = self.temp_word();
                self.store(bucket, dst);
                dst
            }
            (Some(key), None) => self.plain_key(key)?,
            (Some(key), Some(bucket)) => {
                let size = self.size_of(&key.ty)?;
                let padded = size.next_multiple_of(8);
                let dst = self.temp(padded + 8);
                if padded != size {
                    self.zero(dst.at(u64::from(padded - 8)), 8);
                }
                self.store_expr(key, dst, Fill::Exact)?;
                self.store(bucket, dst.at(u64::from(padded)));
                dst
            }
        };
        self.map_def(map)?;
        Ok(Key::plain(self.addr_value(addr)))
    }

    /// A key in memory, every byte of it defined. What is in memory already is used where it is.
    pub(super) fn plain_key(&mut self, key: &Expr) -> R<Addr> {
        let in_place = scalar_type(&key.ty).is_none()
            && matches!(
                key.kind,
                ExprKind::Local(_)
                    | ExprKind::Str(_)
                    | ExprKind::Slot(_)
                    | ExprKind::TupleField(..)
            );
        if in_place {
            let (addr, fill) = self.mem(key)?;
            if fill == Fill::Exact {
                return Ok(addr);
            }
        }
        if let (ExprKind::Const(bits), false) = (&key.kind, is_by_address(&key.ty)) {
            let size = self.size_of(&key.ty)? as usize;
            return self.constant_bytes(&bits.to_le_bytes()[..size.min(8)]);
        }
        let size = self.size_of(&key.ty)?;
        let dst = if size <= 8 {
            self.temp_word()
        } else {
            self.temp(size)
        };
        self.store_expr(key, dst, Fill::Exact)?;
        Ok(dst)
    }

    pub(super) fn lookup(&mut self, map: MapIdx, key: Key) -> R<Value> {
        let row = self.map_row(map)?;
        let map = self.map_ptr(row);
        Ok(self.call(Helper::MapLookupElem, &[map, key.at]))
    }

    /// Sets an entry, and reports when that fails.
    pub(super) fn update(&mut self, map: MapIdx, key: Key, value: Addr) -> R<()> {
        let row = self.map_row(map)?;
        let update = |cx: &mut Self| {
            let (map, value, flags) = (cx.map_ptr(row), cx.addr_value(value), cx.i64(0));
            cx.call(Helper::MapUpdateElem, &[map, key.at, value, flags])
        };
        let result = match self.keep_key(map, key)? {
            None => update(self),
            // Without its key, nobody would know what the entry is about.
            Some(failed) => self.choose(failed, types::I64, |_| Ok(failed), |cx| Ok(update(cx)))?,
        };
        self.check_helper(Helper::MapUpdateElem, result)
    }

    /// Whether values of a map are numbers that nobody has to merge.
    pub(super) fn is_plain_number(&self, map: MapIdx, ty: &Ty) -> R<bool> {
        let is_merged = matches!(self.map_value(map)?, Ty::Agg(_));
        Ok(!is_merged && !is_by_address(ty) && scalar_type(ty).is_some())
    }

    /// Where the entry of a key is, or 0; with a warning, if that is wanted.
    pub(super) fn map_find(&mut self, map: MapIdx, key: Option<&Expr>) -> R<Value> {
        let key = self.map_key(map, key, None)?;
        self.find_entry(map, key)
    }

    fn find_entry(&mut self, map: MapIdx, key: Key) -> R<Value> {
        let found = self.lookup(map, key)?;
        self.check_lookup(found)?;
        Ok(found)
    }

    /// The number in an entry that is there.
    pub(super) fn map_number(&mut self, found: Value, ty: &Ty) -> R<Value> {
        match scalar_type(ty) {
            Some(clif) => Ok(self.load(clif, Addr::value(found, 8), Access::Shared)),
            None => self.internal("a map value in memory as a scalar"),
        }
    }

    /// `@m`, `@m[key]` of a scalar type, or by address; 0 when it is not there.
    pub(super) fn map_get_scalar(&mut self, map: MapIdx, key: Option<&Expr>, ty: &Ty) -> R<Value> {
        let def = self.map_def(map)?;
        let Some(clif) = scalar_type(ty) else {
            return self.internal("a map value in memory as a scalar");
        };
        let key = self.map_key(map, key, None)?;
        if let Ty::Agg(agg) = &def.value {
            self.require_percpu_lookup();
            if self.m.program.options.extra_warnings {
                let found = self.lookup(map, key)?;
                self.check_lookup(found)?;
            }
            let value = self.merge_aggregate(map, agg, key.at)?;
            return Ok(self.resize_int(value, clif, false));
        }
        let found = self.find_entry(map, key)?;
        if is_by_address(ty) {
            let zeros = self.m.zeros(self.size_of(ty)?)?;
            return self.choose(found, types::I64, |_| Ok(found), |cx| Ok(cx.rodata(zeros)));
        }
        self.choose(
            found,
            clif,
            |cx| cx.map_number(found, ty),
            // What was found is nothing, which is the number 0, in its register already.
            |cx| Ok(cx.resize_int(found, clif, false)),
        )
    }

    /// `@m`, `@m[key]` of another type: where the value is, or zeros.
    pub(super) fn map_get_mem(&mut self, map: MapIdx, key: Option<&Expr>, ty: &Ty) -> R<Addr> {
        let found = self.map_find(map, key)?;
        let zeros = self.m.zeros(self.size_of(ty)?)?;
        let addr = self.choose(found, types::I64, |_| Ok(found), |cx| Ok(cx.rodata(zeros)))?;
        Ok(Addr::value(addr, 8))
    }

    /// `&@m`.
    pub(super) fn map_address(&mut self, map: MapIdx) -> R<Value> {
        if self.map_def(map)?.key.is_some() {
            let row = self.map_row(map)?;
            return Ok(self.map_ptr(row));
        }
        let key = self.map_key(map, None, None)?;
        self.lookup(map, key)
    }

    /// `@m = value`, `@m[key] = value`.
    pub(super) fn assign_map(&mut self, map: MapIdx, key: Option<&Expr>, value: &Expr) -> R<()> {
        let in_place = scalar_type(&value.ty).is_none()
            && matches!(
                value.kind,
                ExprKind::Local(_)
                    | ExprKind::Str(_)
                    | ExprKind::Slot(_)
                    | ExprKind::TupleField(..)
            );
        let mut src = None;
        if in_place {
            let (addr, fill) = self.mem(value)?;
            if fill == Fill::Exact {
                src = Some(addr);
            }
        } else if let (ExprKind::Const(bits), false) = (&value.kind, is_by_address(&value.ty)) {
            let size = self.size_of(&value.ty)? as usize;
            src = Some(self.constant_bytes(&bits.to_le_bytes()[..size.min(8)])?);
        }
        let src = match src {
            Some(src) => src,
            None => {
                let size = self.size_of(&value.ty)?;
                let dst = if size <= 8 {
                    self.temp_word()
                } else {
                    self.temp(size)
                };
                self.store_expr(value, dst, Fill::Exact)?;
                dst
            }
        };
        let key = self.map_key(map, key, None)?;
        self.update(map, key, src)
    }

    /// `++` and `--` of an entry: the value before and after.
    pub(super) fn map_step(
        &mut self,
        map: MapIdx,
        key: Option<&Expr>,
        by: i64,
    ) -> R<(Value, Value)> {
        let ty = self.map_value(map)?;
        let Some(clif) = scalar_type(ty) else {
            return self.internal("a step of a map value that is no number");
        };
        let key = self.map_key(map, key, None)?;
        let found = self.lookup(map, key)?;
        let (there, missing, after) = (
            self.b.create_block(),
            self.b.create_block(),
            self.b.create_block(),
        );
        let old = self.b.append_block_param(after, clif);
        self.brif(found, there, missing);
        self.enter(there);
        let value = self.load(clif, Addr::value(found, 8), Access::Shared);
        let stepped = self.add_imm(value, by);
        self.store(stepped, Addr::value(found, 8));
        self.jump(after, &[value]);
        self.enter(missing);
        let cell = self.temp_word();
        self.store_imm(clif, by, cell);
        self.update(map, key, cell)?;
        let zero = self.int(clif, 0);
        self.jump(after, &[zero]);
        self.enter(after);
        let new = self.add_imm(old, by);
        Ok((old, new))
    }

    /// `++` and `--` of an entry whose value nobody wants: other CPUs' steps are not lost.
    pub(super) fn map_step_effect(&mut self, map: MapIdx, key: Option<&Expr>, by: i64) -> R<()> {
        let ty = self.map_value(map)?;
        let clif = match scalar_type(ty) {
            Some(clif) if clif == types::I64 || clif == types::I32 => clif,
            _ => {
                self.map_step(map, key, by)?;
                return Ok(());
            }
        };
        let key = self.map_key(map, key, None)?;
        let found = self.lookup(map, key)?;
        let (there, missing, after) = (
            self.b.create_block(),
            self.b.create_block(),
            self.b.create_block(),
        );
        self.brif(found, there, missing);
        self.enter(there);
        let step = self.int(clif, by);
        self.b
            .ins()
            .atomic_rmw(clif, MemFlagsData::new(), AtomicRmwOp::Add, found, step);
        self.jump(after, &[]);
        self.enter(missing);
        let cell = self.temp_word();
        self.store_imm(clif, by, cell);
        self.update(map, key, cell)?;
        self.jump(after, &[]);
        self.enter(after);
        Ok(())
    }

    /// `delete(@m, key)`: whether there was an entry. That there was none is worth a warning (with `-k`) only
    /// if nobody looks at the result.
    pub(super) fn delete(&mut self, map: MapIdx, key: Option<&Expr>, discarded: bool) -> R<Value> {
        let row = self.map_row(map)?;
        if matches!(self.map_value(map)?, Ty::Agg(agg) if agg.is_bucketed()) {
            let (deleted, key) = self.any_bucket(map, key, |cx, map, key| {
                let result = cx.call(Helper::MapDeleteElem, &[map, key]);
                let result = cx.resize_int(result, types::I32, true);
                Ok(cx.is_zero(result))
            })?;
            self.forget_key(map, key)?;
            return Ok(deleted);
        }
        let key = self.map_key(map, key, None)?;
        let map_ptr = self.map_ptr(row);
        let result = self.call(Helper::MapDeleteElem, &[map_ptr, key.at]);
        self.forget_key(map, key)?;
        if discarded {
            self.check_extra(Helper::MapDeleteElem, result)?;
        }
        let result = self.resize_int(result, types::I32, true);
        Ok(self.is_zero(result))
    }

    /// `has_key(@m, key)`.
    pub(super) fn has_key(&mut self, map: MapIdx, key: &Expr) -> R<Value> {
        if matches!(self.map_value(map)?, Ty::Agg(agg) if agg.is_bucketed()) {
            let (found, _) = self.any_bucket(map, Some(key), |cx, map, key| {
                let found = cx.call(Helper::MapLookupElem, &[map, key]);
                Ok(cx.cmp_imm(IntCC::NotEqual, found, 0))
            })?;
            return Ok(found);
        }
        let key = self.map_key(map, Some(key), None)?;
        let found = self.lookup(map, key)?;
        Ok(self.cmp_imm(IntCC::NotEqual, found, 0))
    }

    /// `find(@m, key, $v)`.
    pub(super) fn find(&mut self, map: MapIdx, key: &Expr, local: LocalIdx) -> R<Value> {
        let ty = self.map_value(map)?.clone();
        let key = self.map_key(map, Some(key), None)?;
        let found = self.lookup(map, key)?;
        self.declare_if_new(local)?;
        self.when(found, false, |cx| match (&ty, scalar_type(&ty)) {
            (Ty::Agg(agg), _) => {
                cx.require_percpu_lookup();
                let value = cx.merge_aggregate(map, agg, key.at)?;
                cx.set_local(local, value)
            }
            (_, Some(_)) if is_by_address(&ty) => cx.set_local(local, found),
            (_, Some(clif)) => {
                let value = cx.load(clif, Addr::value(found, 8), Access::Shared);
                cx.set_local(local, value)
            }
            (_, None) => {
                let (dst, fill) = cx.local_destination(local)?;
                cx.copy_value(&ty, dst, fill, Addr::value(found, 8), Fill::Exact)
            }
        })?;
        Ok(self.cmp_imm(IntCC::NotEqual, found, 0))
    }

    /// `len(@m)`: walks over the entries and counts them.
    pub(super) fn map_len(&mut self, map: MapIdx) -> R<Value> {
        self.m
            .require(Feature::ForEachMapElem, "`len` of a map", self.span);
        let row = self.map_row(map)?;
        let index = self.m.reserve_function();
        self.p.n_callbacks += 1;
        let spec = FunctionSpec {
            index,
            name: format!("{}_count_{}", self.p.name, self.p.n_callbacks),
            role: Role::Subprogram,
            n_params: 4,
            span: self.span,
            has_span: false,
        };
        let mut program = Program::without_script(spec.name.clone());
        build(&mut *self.m, &mut program, spec, |cx| {
            // What an atomic addition leaves on the stack is unknown to the verifier. Otherwise it
            // would follow the loop once for every number that the script compares the length with.
            let (counter, one) = (cx.params[3], cx.i64(1));
            cx.b.ins().atomic_rmw(
                types::I64,
                MemFlagsData::new(),
                AtomicRmwOp::Add,
                counter,
                one,
            );
            cx.return_default();
            Ok(())
        })?;
        let counter = self.temp_word();
        self.hidden_zero(counter);
        let (map, callback, arg, flags) = (
            self.map_ptr(row),
            self.subprog_addr(index, 4),
            self.addr_value(counter),
            self.i64(0),
        );
        self.call(Helper::ForEachMapElem, &[map, callback, arg, flags]);
        Ok(self.load(types::I64, counter, Access::Own))
    }

    /// Visits all buckets of a key of a histogram or time series, there or not. Gives whether the visit
    /// said yes to any, and the key.
    fn any_bucket(
        &mut self,
        map: MapIdx,
        key: Option<&Expr>,
        visit: impl FnOnce(&mut Self, Value, Value) -> R<Value>,
    ) -> R<(Value, Key)> {
        let (row, Ty::Agg(agg)) = (self.map_row(map)?, self.map_value(map)?) else {
            return self.internal("buckets of a map that has none");
        };
        let n = n_buckets(agg);
        if n > 4096 {
            return self.unsupported("an entry of a map with so many buckets in one step");
        }
        let zero = self.i64(0);
        let key_value = self.map_key(map, key, Some(zero))?;
        let size = match key {
            Some(key) => u64::from(self.size_of(&key.ty)?.next_multiple_of(8)),
            None => 0,
        };
        let bucket = Addr::value(key_value.at, 8).at(size);
        let (head, after) = (self.b.create_block(), self.b.create_block());
        let (counter, any) = (
            self.b.declare_var(types::I64),
            self.b.declare_var(types::I8),
        );
        let none = self.int(types::I8, 0);
        self.b.def_var(counter, zero);
        self.b.def_var(any, none);
        self.jump(head, &[]);
        self.b.switch_to_block(head);
        let i = self.b.use_var(counter);
        match key_value.bucket {
            Some(places) => self.set_bucket(places, i)?,
            None => self.store(i, bucket),
        }
        let map_ptr = self.map_ptr(row);
        let hit = visit(self, map_ptr, key_value.at)?;
        let so_far = self.b.use_var(any);
        let so_far = self.b.ins().bor(so_far, hit);
        self.b.def_var(any, so_far);
        let i = self.b.use_var(counter);
        let i = self.add_imm(i, 1);
        self.b.def_var(counter, i);
        let more = self.cmp_imm(IntCC::UnsignedLessThan, i, i64::from(n));
        self.brif(more, head, after);
        self.b.seal_block(head);
        self.enter(after);
        Ok((self.b.use_var(any), key_value))
    }
}
