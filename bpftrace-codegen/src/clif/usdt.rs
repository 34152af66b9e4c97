//! Arguments of USDT probes: where they are is known on the target only, so they are read by a
//! subprogram that looks it up in a map. See [`UsdtArg`] for what the loader writes there.

use bpftrace_meta::{USDT_FIRST_TARGET, USDT_MAX_ARGS, UsdtArg};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Type, Value, types};

use super::R;
use super::func::FnCx;
use super::helper::Helper;
use super::memory::{Access, Addr};
use super::module::{Shared, SpecialMap};

impl FnCx<'_, '_> {
    /// Argument `n` of the USDT probe that fired, 64 bits; 0 where it has none.
    pub(super) fn usdt_arg(&mut self, n: u32) -> R<Value> {
        if n as usize >= USDT_MAX_ARGS {
            return self.internal(format!("argument {n} of a USDT probe"));
        }
        self.m.note_usdt_arg(n);
        let entry = self.usdt_entry()?;
        self.choose(
            entry,
            types::I64,
            |cx| {
                let place = cx.add_imm(entry, i64::from(n) * UsdtArg::SIZE as i64);
                let ctx = cx.ctx();
                cx.call_shared(Shared::UsdtArg, &[ctx, place])
            },
            |cx| Ok(cx.i64(0)),
        )
    }

    /// The number that stands for the USDT probe that fired, whichever of its places it was.
    pub(super) fn usdt_number(&mut self) -> R<Value> {
        let entry = self.usdt_entry()?;
        self.choose(
            entry,
            types::I64,
            |cx| {
                let number = Addr::value(entry, 8).at(USDT_FIRST_TARGET as u64);
                Ok(cx.load(types::I64, number, Access::Shared))
            },
            |cx| Ok(cx.i64(0)),
        )
    }

    /// What the loader wrote about the target that fired.
    fn usdt_entry(&mut self) -> R<Value> {
        let number = self.target_number()?;
        let map = self.m.special_map(SpecialMap::UsdtArgs);
        let key = self.temp_word();
        let number = self.resize_int(number, types::I32, false);
        self.store(number, key);
        let (map, key) = (self.map_ptr(map), self.addr_value(key));
        Ok(self.call(Helper::MapLookupElem, &[map, key]))
    }

    /// The subprogram: takes the context and the entry of the argument.
    pub(super) fn usdt_arg_body(&mut self) -> R<()> {
        let (ctx, place) = (self.params[0], Addr::value(self.params[1], 8));
        let constant = self.usdt_field(types::I64, place, UsdtArg::VALUE);
        let base = self.usdt_field(types::I16, place, UsdtArg::BASE);
        let index = self.usdt_field(types::I16, place, UsdtArg::INDEX);
        let base = self.usdt_register(ctx, base)?;
        let index = self.usdt_register(ctx, index)?;
        let scale = self.usdt_field(types::I8, place, UsdtArg::SCALE);
        let index = self.b.ins().ishl(index, scale);
        let sum = self.b.ins().iadd(constant, base);
        let sum = self.b.ins().iadd(sum, index);

        let unused = self.usdt_field(types::I8, place, UsdtArg::UNUSED_BITS);
        let in_memory = self.usdt_field(types::I8, place, UsdtArg::IN_MEMORY);
        let value = self.choose(
            in_memory,
            types::I64,
            |cx| {
                // No more than the argument has: what is behind it may not be there.
                let word = cx.temp_word();
                cx.store_imm(types::I64, 0, word);
                let bits = cx.i64(64);
                let used = cx.b.ins().isub(bits, unused);
                let three = cx.i64(3);
                let size = cx.b.ins().ushr(used, three);
                let fits = cx.cmp_imm(IntCC::UnsignedLessThanOrEqual, size, 8);
                cx.when(fits, false, |cx| {
                    let dst = cx.addr_value(word);
                    cx.call(Helper::ProbeReadUser, &[dst, size, sum]);
                    Ok(())
                })?;
                Ok(cx.load(types::I64, word, Access::Own))
            },
            |_| Ok(sum),
        )?;
        let high = self.b.ins().ishl(value, unused);
        let signed = self.usdt_field(types::I8, place, UsdtArg::SIGNED);
        let value = self.choose(
            signed,
            types::I64,
            |cx| Ok(cx.b.ins().sshr(high, unused)),
            |cx| Ok(cx.b.ins().ushr(high, unused)),
        )?;
        self.b.ins().return_(&[value]);
        Ok(())
    }

    /// A field of the entry, with zeros in front.
    fn usdt_field(&mut self, ty: Type, place: Addr, offset: usize) -> Value {
        let value = self.load(ty, place.at(offset as u64), Access::Shared);
        self.zext64(value)
    }

    /// The register at an offset of the context, or 0 where there is none. The offset is not known
    /// to the verifier, so a helper reads it.
    fn usdt_register(&mut self, ctx: Value, offset: Value) -> R<Value> {
        let none = i64::from(UsdtArg::NO_REGISTER);
        let there = self.cmp_imm(IntCC::NotEqual, offset, none);
        self.choose(
            there,
            types::I64,
            |cx| {
                let word = cx.temp_word();
                let address = cx.b.ins().iadd(ctx, offset);
                let (dst, size) = (cx.addr_value(word), cx.i64(8));
                cx.call(Helper::ProbeReadKernel, &[dst, size, address]);
                Ok(cx.load(types::I64, word, Access::Own))
            },
            |cx| Ok(cx.i64(0)),
        )
    }
}
