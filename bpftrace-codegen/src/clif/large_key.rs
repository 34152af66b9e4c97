//! Map keys that old kernels find too large.
//!
//! Before Linux 5.11, the key of a hash map has at most 512 bytes, which a stack of the usual depth exceeds.
//! Such a map is compiled for both: where the kernel takes the key, it is used as it is; where it does
//! not, the loader gives the map keys of 16 bytes, a hash of the key (and the bucket behind it), and a
//! second map tells which key a hash stands for. The loader puts the keys back when it reads the map.

use bpftrace_meta::Feature;
use bpftrace_sema::{Expr, MapIdx};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::R;
use super::func::FnCx;
use super::helper::Helper;
use super::memory::{Access, Addr, Fill};
use super::module::Shared;

/// Bytes of a hash.
const HASH_SIZE: u32 = 16;

/// `BPF_NOEXIST` of `bpf_map_update_elem`.
const NO_EXIST: i64 = 1;

/// `EEXIST` as helpers return it.
const ALREADY_THERE: i64 = -17;

/// The two lanes of the hash: the multiplier (odd, so that no bit is lost) and how far the product is
/// folded into itself.
const LANES: [(i64, i64); 2] = [
    (0x9e37_79b9_7f4a_7c15_u64 as i64, 32),
    (0xc2b2_ae3d_27d4_eb4f_u64 as i64, 29),
];

/// The key of an entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    /// The address to give to helpers.
    pub(super) at: Value,
    /// The key as the script has it, when `at` may be the address of a hash.
    full: Option<Value>,
    /// Where the bucket is, when it has one.
    pub(super) bucket: Option<[Addr; 2]>,
}

impl Key {
    /// A key that every kernel takes.
    pub(super) fn plain(at: Value) -> Self {
        Self {
            at,
            full: None,
            bucket: None,
        }
    }
}

impl FnCx<'_, '_> {
    /// A key of a map that has a second map for its keys.
    pub(super) fn large_key(&mut self, keys: u32, key: &Expr, bucket: Option<Value>) -> R<Key> {
        let size = self.size_of(&key.ty)?;
        let padded = size.next_multiple_of(8);
        let full = match bucket {
            None if padded == size => self.plain_key(key)?,
            _ => {
                let dst = self.temp(padded + 8);
                self.zero(dst.at(u64::from(padded - 8)), 16);
                self.store_expr(key, dst, Fill::Exact)?;
                dst
            }
        };
        if let Some(bucket) = bucket {
            self.store(bucket, full.at(u64::from(padded)));
        }
        debug_assert!(self.m.key_map_size(keys) == padded);
        let hash = self.temp_stack(HASH_SIZE + 8);
        let address = self.addr_value(full);
        let takes_large = self.feature(Feature::LargeMapKeys)?;
        let at = self.choose(
            takes_large,
            types::I64,
            |_| Ok(address),
            |cx| {
                let (to, n_words) = (cx.addr_value(hash), cx.i64(i64::from(padded / 8)));
                cx.call_shared(Shared::HashKey, &[address, n_words, to])?;
                if let Some(bucket) = bucket {
                    cx.store(bucket, hash.at(u64::from(HASH_SIZE)));
                }
                Ok(to)
            },
        )?;
        let of_hash = hash.at(u64::from(HASH_SIZE));
        Ok(Key {
            at,
            full: Some(address),
            bucket: bucket.map(|_| [full.at(u64::from(padded)), of_hash]),
        })
    }

    /// Changes the bucket of a key.
    pub(super) fn set_bucket(&mut self, places: [Addr; 2], bucket: Value) -> R<()> {
        let takes_large = self.feature(Feature::LargeMapKeys)?;
        let (then, otherwise, after) = (
            self.b.create_block(),
            self.b.create_block(),
            self.b.create_block(),
        );
        self.brif(takes_large, then, otherwise);
        for (block, place) in [(then, places[0]), (otherwise, places[1])] {
            self.enter(block);
            self.store(bucket, place);
            self.jump(after, &[]);
        }
        self.enter(after);
        Ok(())
    }

    /// Notes what the hash of a key stands for, before there is an entry of that key. Gives 0, or why that
    /// failed.
    pub(super) fn keep_key(&mut self, map: MapIdx, key: Key) -> R<Option<Value>> {
        let (Some(keys), Some(full)) = (self.m.key_map(map), key.full) else {
            return Ok(None);
        };
        let takes_large = self.feature(Feature::LargeMapKeys)?;
        let result = self.choose(
            takes_large,
            types::I64,
            |cx| Ok(cx.i64(0)),
            |cx| {
                let (keys, flags) = (cx.map_ptr(keys), cx.i64(NO_EXIST));
                let result = cx.call(Helper::MapUpdateElem, &[keys, key.at, full, flags]);
                let known = cx.cmp_imm(IntCC::Equal, result, ALREADY_THERE);
                let zero = cx.i64(0);
                Ok(cx.b.ins().select(known, zero, result))
            },
        )?;
        Ok(Some(result))
    }

    /// Forgets what the hash of a key stands for, after its entries are gone.
    pub(super) fn forget_key(&mut self, map: MapIdx, key: Key) -> R<()> {
        let Some(keys) = self.m.key_map(map) else {
            return Ok(());
        };
        let takes_large = self.feature(Feature::LargeMapKeys)?;
        let small = self.is_zero(takes_large);
        self.when(small, false, |cx| {
            let keys = cx.map_ptr(keys);
            cx.call(Helper::MapDeleteElem, &[keys, key.at]);
            Ok(())
        })
    }

    /// `(key, number of words, where the hash goes)`.
    pub(super) fn hash_key_body(&mut self) -> R<()> {
        let (key, n_words, to) = (self.params[0], self.params[1], self.params[2]);
        let (head, after) = (self.b.create_block(), self.b.create_block());
        let index = self.temp_var(types::I64);
        let lanes = LANES.map(|_| self.temp_var(types::I64));
        let zero = self.i64(0);
        self.b.def_var(index, zero);
        for (lane, (multiplier, _)) in lanes.into_iter().zip(LANES) {
            let start = self.i64(multiplier);
            self.b.def_var(lane, start);
        }
        self.jump(head, &[]);
        self.b.switch_to_block(head);
        let i = self.b.use_var(index);
        let three = self.i64(3);
        let offset = self.b.ins().ishl(i, three);
        let at = self.b.ins().iadd(key, offset);
        let word = self.load(types::I64, Addr::value(at, 8), Access::Shared);
        for (lane, (multiplier, shift)) in lanes.into_iter().zip(LANES) {
            let so_far = self.b.use_var(lane);
            let (multiplier, shift) = (self.i64(multiplier), self.i64(shift));
            let mixed = self.b.ins().bxor(so_far, word);
            let product = self.b.ins().imul(mixed, multiplier);
            let high = self.b.ins().ushr(product, shift);
            let folded = self.b.ins().bxor(product, high);
            self.b.def_var(lane, folded);
        }
        let next = self.add_imm(i, 1);
        self.b.def_var(index, next);
        let more = self.b.ins().icmp(IntCC::UnsignedLessThan, next, n_words);
        self.brif(more, head, after);
        self.b.seal_block(head);
        self.enter(after);
        for (lane, offset) in lanes.into_iter().zip([0, 8]) {
            let hash = self.b.use_var(lane);
            self.store(hash, Addr::value(to, 8).at(offset));
        }
        self.return_default();
        Ok(())
    }
}
