//! Aggregations: cells that every CPU updates on its own, and their merged values.

use bpftrace_meta::{AggKind, Feature, HostValue, TseriesAgg};
use bpftrace_sema::{Expr, MapIdx, StatsPart, Ty};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{BlockArg, InstBuilder, Value, types};

use super::R;
use super::func::FnCx;
use super::helper::Helper;
use super::memory::{Access, Addr};
use super::module::Shared;

/// More CPUs than any kernel is built for: the verifier wants a bound.
const MAX_CPUS: i64 = 8192;

/// Searches for the bucket of a `hist` that are built in place; further ones call a subprogram.
const HIST_BUCKETS_IN_PLACE: u32 = 16;

impl FnCx<'_, '_> {
    /// `@m[key] = count()` and the like.
    pub(super) fn aggregate(
        &mut self,
        map: MapIdx,
        key: Option<&Expr>,
        value: Option<&Expr>,
        time: Option<&Expr>,
    ) -> R<()> {
        let Ty::Agg(agg) = self.map_value(map)? else {
            return self.internal("an aggregation in a map of plain values");
        };
        let value = match value {
            Some(value) => {
                let signed = matches!(&value.ty, Ty::Int(int) if int.signed);
                let value = self.scalar(value)?;
                self.resize_int(value, types::I64, signed)
            }
            None => self.i64(1),
        };
        match agg {
            AggKind::Hist { bits } => {
                let bucket = self.hist_bucket(value, u32::from(*bits))?;
                let one = self.i64(1);
                self.bump(map, key, Some(bucket), one)
            }
            AggKind::Lhist { min, max, step } => {
                let bucket = self.lhist_bucket(value, *min, *max, *step);
                let one = self.i64(1);
                self.bump(map, key, Some(bucket), one)
            }
            AggKind::Count | AggKind::Sum { .. } => self.bump(map, key, None, value),
            AggKind::Min { signed } => self.extreme(map, key, value, less(*signed)),
            AggKind::Max { signed } => self.extreme(map, key, value, greater(*signed)),
            AggKind::Avg { .. } | AggKind::Stats { .. } => {
                self.update_cell(map, key, None, 16, |cx, cell, fresh| {
                    let one = cx.i64(1);
                    cx.accumulate(cell, value, fresh);
                    cx.accumulate(cell.at(8), one, fresh);
                    Ok(())
                })
            }
            AggKind::Tseries {
                interval,
                count,
                agg,
                signed,
            } => {
                let now = match time {
                    Some(time) => self.scalar(time)?,
                    None => self.clock(bpftrace_sema::Clock::SwTai)?,
                };
                self.tseries(map, key, (now, value), *interval, *count, *agg, *signed)
            }
        }
    }

    /// Looks the cell up and changes it in place, or makes a new one.
    fn update_cell(
        &mut self,
        map: MapIdx,
        key: Option<&Expr>,
        bucket: Option<Value>,
        size: u32,
        change: impl Fn(&mut Self, Addr, bool) -> R<()>,
    ) -> R<()> {
        let key = self.map_key(map, key, bucket)?;
        let found = self.lookup(map, key)?;
        let (there, missing, after) = (
            self.b.create_block(),
            self.b.create_block(),
            self.b.create_block(),
        );
        self.brif(found, there, missing);
        self.enter(there);
        change(self, Addr::value(found, 8), false)?;
        self.jump(after, &[]);
        self.enter(missing);
        let cell = self.temp_stack(size);
        change(self, cell, true)?;
        self.update(map, key, cell)?;
        self.jump(after, &[]);
        self.enter(after);
        Ok(())
    }

    /// Adds to a counter.
    fn bump(&mut self, map: MapIdx, key: Option<&Expr>, bucket: Option<Value>, by: Value) -> R<()> {
        self.update_cell(map, key, bucket, 8, |cx, cell, fresh| {
            cx.accumulate(cell, by, fresh);
            Ok(())
        })
    }

    fn accumulate(&mut self, cell: Addr, value: Value, fresh: bool) {
        if fresh {
            self.store(value, cell);
            return;
        }
        let old = self.load(types::I64, cell, Access::Shared);
        let new = self.b.ins().iadd(old, value);
        self.store(new, cell);
    }

    fn extreme(&mut self, map: MapIdx, key: Option<&Expr>, value: Value, better: IntCC) -> R<()> {
        self.update_cell(map, key, None, 16, |cx, cell, fresh| {
            if fresh {
                cx.store(value, cell);
                cx.store_imm(types::I64, 1, cell.at(8));
                return Ok(());
            }
            cx.improve(cell, value, better)
        })
    }

    /// Replaces the value of a `{value, is set}` cell when it has none or a worse one.
    fn improve(&mut self, cell: Addr, value: Value, better: IntCC) -> R<()> {
        let (check, replace, after) = (
            self.b.create_block(),
            self.b.create_block(),
            self.b.create_block(),
        );
        let is_set = self.load(types::I64, cell.at(8), Access::Shared);
        self.brif(is_set, check, replace);
        self.enter(check);
        let old = self.load(types::I64, cell, Access::Shared);
        let wins = self.b.ins().icmp(better, value, old);
        self.brif(wins, replace, after);
        self.enter(replace);
        self.store(value, cell);
        self.store_imm(types::I64, 1, cell.at(8));
        self.jump(after, &[]);
        self.enter(after);
        Ok(())
    }

    /// 0 below, one for each step, the last at and above the upper bound.
    fn lhist_bucket(&mut self, value: Value, min: u64, max: u64, step: u64) -> Value {
        let step = step.max(1);
        let (min_value, step_value) = (self.i64(min as i64), self.i64(step as i64));
        let above = self.b.ins().isub(value, min_value);
        let inside = self.b.ins().udiv(above, step_value);
        let inside = self.add_imm(inside, 1);
        let last = self.i64(1 + (max.saturating_sub(min) / step) as i64);
        let too_large = self.cmp_imm(IntCC::SignedGreaterThan, value, max as i64);
        let bucket = self.b.ins().select(too_large, last, inside);
        let too_small = self.cmp_imm(IntCC::SignedLessThan, value, min as i64);
        let zero = self.i64(0);
        self.b.ins().select(too_small, zero, bucket)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the parameters of the aggregation"
    )]
    fn tseries(
        &mut self,
        map: MapIdx,
        key: Option<&Expr>,
        (now, value): (Value, Value),
        interval: u64,
        count: u64,
        agg: TseriesAgg,
        signed: bool,
    ) -> R<()> {
        let (interval, count) = (
            self.i64(interval.max(1) as i64),
            self.i64(count.max(1) as i64),
        );
        let epoch = self.b.ins().udiv(now, interval);
        let slot = self.b.ins().urem(epoch, count);
        self.update_cell(map, key, Some(slot), 24, |cx, cell, fresh| {
            let (meta, epoch_cell) = (cell.at(8), cell.at(16));
            if fresh {
                cx.store(value, cell);
                let first = match agg {
                    TseriesAgg::Last => now,
                    TseriesAgg::Sum => cx.i64(0),
                    TseriesAgg::Avg | TseriesAgg::Min | TseriesAgg::Max => cx.i64(1),
                };
                cx.store(first, meta);
                cx.store(epoch, epoch_cell);
                return Ok(());
            }
            if agg != TseriesAgg::Last {
                let old = cx.load(types::I64, epoch_cell, Access::Shared);
                let stale = cx.b.ins().icmp(IntCC::NotEqual, old, epoch);
                cx.when(stale, false, |cx| {
                    cx.store_imm(types::I64, 0, cell);
                    cx.store_imm(types::I64, 0, meta);
                    Ok(())
                })?;
            }
            match agg {
                TseriesAgg::Last => {
                    cx.store(value, cell);
                    cx.store(now, meta);
                }
                TseriesAgg::Avg => {
                    let one = cx.i64(1);
                    cx.accumulate(cell, value, false);
                    cx.accumulate(meta, one, false);
                }
                TseriesAgg::Sum => cx.accumulate(cell, value, false),
                TseriesAgg::Min => cx.improve(cell, value, less(signed))?,
                TseriesAgg::Max => cx.improve(cell, value, greater(signed))?,
            }
            cx.store(epoch, epoch_cell);
            Ok(())
        })
    }

    /// Notes that cells of other CPUs are read.
    pub(super) fn require_percpu_lookup(&mut self) {
        self.m.require(
            Feature::MapLookupPercpuElem,
            "reading an aggregation",
            self.span,
        );
    }

    /// The merged value of an aggregation, of 64 bits; 0 for a missing key.
    pub(super) fn merge_aggregate(&mut self, map: MapIdx, agg: &AggKind, key: Value) -> R<Value> {
        let which = match agg {
            AggKind::Count | AggKind::Sum { .. } => Shared::MergeSum,
            AggKind::Min { signed } => Shared::MergeMin { signed: *signed },
            AggKind::Max { signed } => Shared::MergeMax { signed: *signed },
            AggKind::Avg { signed } => Shared::MergeAvg { signed: *signed },
            _ => return self.internal("an aggregation that cannot be read"),
        };
        let row = self.map_row(map)?;
        let map = self.map_ptr(row);
        self.call_shared(which, &[map, key])
    }

    /// A number of the merged entry of a `stats` map.
    pub(super) fn stats_of(
        &mut self,
        map: MapIdx,
        key: Option<&Expr>,
        part: StatsPart,
    ) -> R<Value> {
        let Ty::Agg(AggKind::Stats { signed }) = self.map_value(map)? else {
            return self.internal("numbers of a map that has none");
        };
        let which = match part {
            StatsPart::Count => Shared::MergeCount,
            StatsPart::Average => Shared::MergeAvg { signed: *signed },
            StatsPart::Total => Shared::MergeSum,
        };
        self.require_percpu_lookup();
        let key = self.map_key(map, key, None)?;
        let row = self.map_row(map)?;
        let map = self.map_ptr(row);
        self.call_shared(which, &[map, key.at])
    }

    /// Visits the cells of all CPUs; `map` and `key` are the function's parameters.
    fn for_each_cpu(&mut self, visit: impl FnOnce(&mut Self, Addr) -> R<()>) -> R<()> {
        let (map, key) = (self.params[0], self.params[1]);
        let n_cpus = self.host_value(&HostValue::NumCpus)?;
        let (head, inside, after) = (
            self.b.create_block(),
            self.b.create_block(),
            self.b.create_block(),
        );
        let counter = self.temp_var(types::I64);
        let zero = self.i64(0);
        self.b.def_var(counter, zero);
        self.jump(head, &[]);
        self.b.switch_to_block(head);
        let cpu = self.b.use_var(counter);
        let more = self.b.ins().icmp(IntCC::UnsignedLessThan, cpu, n_cpus);
        self.brif(more, inside, after);
        self.enter(inside);
        let cell = self.call(Helper::MapLookupPercpuElem, &[map, key, cpu]);
        let there = self.b.create_block();
        self.brif(cell, there, after);
        self.enter(there);
        visit(self, Addr::value(cell, 8))?;
        let cpu = self.b.use_var(counter);
        let next = self.add_imm(cpu, 1);
        self.b.def_var(counter, next);
        let sane = self.cmp_imm(IntCC::UnsignedLessThan, next, MAX_CPUS);
        self.brif(sane, head, after);
        self.b.seal_block(head);
        self.enter(after);
        Ok(())
    }

    /// Adds up the numbers at an offset in the cells.
    pub(super) fn merge_sum_body(&mut self, offset: u64) -> R<()> {
        let sum = self.temp_var(types::I64);
        let zero = self.i64(0);
        self.b.def_var(sum, zero);
        self.for_each_cpu(|cx, cell| {
            let value = cx.load(types::I64, cell.at(offset), Access::Shared);
            let so_far = cx.b.use_var(sum);
            let so_far = cx.b.ins().iadd(so_far, value);
            cx.b.def_var(sum, so_far);
            Ok(())
        })?;
        let result = self.b.use_var(sum);
        self.b.ins().return_(&[result]);
        Ok(())
    }

    pub(super) fn merge_avg_body(&mut self, signed: bool) -> R<()> {
        let (total, count) = (self.temp_var(types::I64), self.temp_var(types::I64));
        let zero = self.i64(0);
        self.b.def_var(total, zero);
        self.b.def_var(count, zero);
        self.for_each_cpu(|cx, cell| {
            for (variable, offset) in [(total, 0), (count, 8)] {
                let value = cx.load(types::I64, cell.at(offset), Access::Shared);
                let so_far = cx.b.use_var(variable);
                let so_far = cx.b.ins().iadd(so_far, value);
                cx.b.def_var(variable, so_far);
            }
            Ok(())
        })?;
        let (total, count) = (self.b.use_var(total), self.b.use_var(count));
        let result = self.choose(
            count,
            types::I64,
            |cx| {
                Ok(if signed {
                    cx.b.ins().sdiv(total, count)
                } else {
                    cx.b.ins().udiv(total, count)
                })
            },
            |cx| Ok(cx.i64(0)),
        )?;
        self.b.ins().return_(&[result]);
        Ok(())
    }

    pub(super) fn merge_extreme_body(&mut self, signed: bool, greatest: bool) -> R<()> {
        let better = if greatest {
            greater(signed)
        } else {
            less(signed)
        };
        let (best, any) = (self.temp_var(types::I64), self.temp_var(types::I64));
        let zero = self.i64(0);
        self.b.def_var(best, zero);
        self.b.def_var(any, zero);
        self.for_each_cpu(|cx, cell| {
            let is_set = cx.load(types::I64, cell.at(8), Access::Shared);
            cx.when(is_set, false, |cx| {
                let value = cx.load(types::I64, cell, Access::Shared);
                let (check, replace, after) = (
                    cx.b.create_block(),
                    cx.b.create_block(),
                    cx.b.create_block(),
                );
                let known = cx.b.use_var(any);
                cx.brif(known, check, replace);
                cx.enter(check);
                let so_far = cx.b.use_var(best);
                let wins = cx.b.ins().icmp(better, value, so_far);
                cx.brif(wins, replace, after);
                cx.enter(replace);
                cx.b.def_var(best, value);
                let one = cx.i64(1);
                cx.b.def_var(any, one);
                cx.jump(after, &[]);
                cx.enter(after);
                Ok(())
            })
        })?;
        let result = self.b.use_var(best);
        self.b.ins().return_(&[result]);
        Ok(())
    }

    /// The bucket of `hist`. The search for it is in place where a script has a few, which saves a call, and
    /// in a subprogram where it has many: it is a lot of code.
    fn hist_bucket(&mut self, n: Value, bits: u32) -> R<Value> {
        if self.m.n_hist_buckets >= HIST_BUCKETS_IN_PLACE {
            return self.call_shared(Shared::HistBucket { bits }, &[n]);
        }
        self.m.n_hist_buckets += 1;
        Ok(self.hist_search(n, bits))
    }

    /// Searches the bucket of `hist`: see the language reference for the numbering. A number is halved until
    /// it has no more than `bits + 1` bits; the bucket follows from how often, and from what is left.
    pub(super) fn hist_search(&mut self, n: Value, bits: u32) -> Value {
        let (negative, natural, after) = (
            self.b.create_block(),
            self.b.create_block(),
            self.b.create_block(),
        );
        let bucket = self.b.append_block_param(after, types::I64);
        let is_negative = self.cmp_imm(IntCC::SignedLessThan, n, 0);
        self.brif(is_negative, negative, natural);
        self.enter(negative);
        let zero = self.i64(0);
        self.jump(after, &[zero]);
        self.enter(natural);
        let (mut rest, mut start) = (n, self.i64(1));
        for shift in [32, 16, 8, 4, 2, 1] {
            let (large, joined) = (self.b.create_block(), self.b.create_block());
            let next_rest = self.b.append_block_param(joined, types::I64);
            let next_start = self.b.append_block_param(joined, types::I64);
            let amount = self.i64(shift);
            let small = [BlockArg::Value(rest), BlockArg::Value(start)];
            // Only a limit of 32 bits or fewer fits a jump.
            let (is_large, early) = if shift == 32 {
                let high = self.b.ins().ushr(rest, amount);
                let is_large = self.cmp_imm(IntCC::UnsignedGreaterThanOrEqual, high, 1 << bits);
                (is_large, Some(high))
            } else {
                let limit = 1 << (bits + shift as u32);
                let is_large = self.cmp_imm(IntCC::UnsignedGreaterThanOrEqual, rest, limit);
                (is_large, None)
            };
            self.b.ins().brif(is_large, large, &[], joined, &small);
            self.enter(large);
            let halved = match early {
                Some(high) => high,
                None => self.b.ins().ushr(rest, amount),
            };
            let further = self.add_imm(start, shift << bits);
            self.jump(joined, &[halved, further]);
            self.enter(joined);
            (rest, start) = (next_rest, next_start);
        }
        let sum = self.b.ins().iadd(start, rest);
        self.jump(after, &[sum]);
        self.enter(after);
        bucket
    }
}

fn less(signed: bool) -> IntCC {
    if signed {
        IntCC::SignedLessThan
    } else {
        IntCC::UnsignedLessThan
    }
}

fn greater(signed: bool) -> IntCC {
    if signed {
        IntCC::SignedGreaterThan
    } else {
        IntCC::UnsignedGreaterThan
    }
}
