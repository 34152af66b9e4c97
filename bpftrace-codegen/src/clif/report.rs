//! Warnings of the running program, lost events, and the subprograms that all probes share.

use bpftrace_ast::source::Span;
use bpftrace_meta::{
    ArgLayout, EventId, EventKind, EventMeta, HelperFailure, LostLayout, RuntimeError, SourceRange,
    ValueLayout,
};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{AtomicRmwOp, InstBuilder, MemFlagsData, Value, types};

use super::R;
use super::func::{FnCx, FunctionSpec, Role, build};
use super::helper::Helper;
use super::memory::Addr;
use super::module::{BSS, Module, Shared, SpecialMap};
use super::program::Program;
use crate::symbols::Symbol;

impl FnCx<'_, '_> {
    /// Tells user space about a mistake of the script at run time, if warnings are wanted.
    pub(super) fn runtime_error(&mut self, error: RuntimeError) -> R<()> {
        let (place, expanded_from) = self.where_from();
        let event = self.m.event(EventMeta {
            kind: EventKind::RuntimeError(error),
            args: Vec::new(),
            size: 8,
            place,
            expanded_from,
        });
        let event = self.i64(i64::from(event.0));
        self.call_shared(Shared::Report0, &[event])?;
        Ok(())
    }

    /// The place of what is being compiled, and for a place inside macros, where each was expanded.
    fn where_from(&mut self) -> (SourceRange, Vec<SourceRange>) {
        let place = self.m.lines.range(self.span);
        let calls = self.m.program.expanded_from(self.span);
        let calls = calls.into_iter().map(|call| self.m.lines.range(call));
        (place, calls.collect())
    }

    /// The warning that a helper failed.
    fn helper_failure(&mut self, helper: Helper) -> EventId {
        let (place, expanded_from) = self.where_from();
        self.m.event(EventMeta {
            kind: EventKind::RuntimeError(RuntimeError::HelperFailed(HelperFailure {
                helper: helper.name().to_owned(),
            })),
            args: vec![ArgLayout {
                offset: 8,
                layout: ValueLayout::Int {
                    size: 8,
                    signed: true,
                },
            }],
            size: 16,
            place,
            expanded_from,
        })
    }

    /// Whether such failures are reported (`-k`).
    pub(super) fn reports_extra(&self) -> bool {
        self.m.program.options.extra_warnings
    }

    /// As [`Self::check_helper`], for failures that programs commonly put up with: reads of memory, and
    /// deleting what is not there.
    pub(super) fn check_extra(&mut self, helper: Helper, result: Value) -> R<()> {
        if self.reports_extra() {
            self.check_helper(helper, result)?;
        }
        Ok(())
    }

    /// Tells user space that a look-up in a map found nothing, if that is wanted.
    pub(super) fn check_lookup(&mut self, found: Value) -> R<()> {
        if !self.reports_extra() {
            return Ok(());
        }
        let event = self.helper_failure(Helper::MapLookupElem);
        let missing = self.is_zero(found);
        self.when(missing, true, |cx| {
            let (event, result) = (cx.i64(i64::from(event.0)), cx.i64(0));
            cx.call_shared(Shared::Report1, &[event, result])?;
            Ok(())
        })
    }

    /// Tells user space that a helper failed, if it did and warnings are wanted.
    pub(super) fn check_helper(&mut self, helper: Helper, result: Value) -> R<()> {
        let event = self.helper_failure(helper);
        // Helpers of old kernels that the verifier calls directly leave the upper half undefined.
        let low = self.resize_int(result, types::I32, true);
        let failed = self.cmp_imm(IntCC::SignedLessThan, low, 0);
        self.when(failed, true, |cx| {
            let event = cx.i64(i64::from(event.0));
            cx.call_shared(Shared::Report1, &[event, result])?;
            Ok(())
        })
    }

    /// Reserves a record, fills it and sends it off; counts it as lost when there is no room.
    pub(super) fn send_record(
        &mut self,
        size: u32,
        fill: impl FnOnce(&mut Self, Addr) -> R<()>,
    ) -> R<()> {
        self.send_record_or(size, fill, |cx| {
            let (counter, one) = (cx.lost_word(0)?, cx.i64(1));
            let flags = MemFlagsData::new();
            let add = AtomicRmwOp::Add;
            cx.b.ins().atomic_rmw(types::I64, flags, add, counter, one);
            Ok(())
        })
    }

    /// Reserves a record, fills it and sends it off; does something else when there is no room.
    pub(super) fn send_record_or(
        &mut self,
        size: u32,
        fill: impl FnOnce(&mut Self, Addr) -> R<()>,
        otherwise: impl FnOnce(&mut Self) -> R<()>,
    ) -> R<()> {
        // A header is in front of each record, and both are padded (`bpf_ringbuf_reserve`).
        let record_bytes = (u64::from(size) + 8).next_multiple_of(8);
        self.note_sent(Some(record_bytes));
        let ring = self.m.special_map(SpecialMap::RingBuffer);
        // Whoever sends records has a place to count the lost ones.
        self.m.lost_events()?;
        let (ring, size, flags) = (self.map_ptr(ring), self.i64(i64::from(size)), self.i64(0));
        let record = self.call(Helper::RingbufReserve, &[ring, size, flags]);
        let (reserved, lost, after) = (
            self.b.create_block(),
            self.b.create_block(),
            self.b.create_block(),
        );
        self.b.set_cold_block(lost);
        self.brif(record, reserved, lost);
        self.enter(reserved);
        fill(self, Addr::value(record, 8))?;
        let flags = self.i64(0);
        self.call_submit(record, flags);
        self.jump(after, &[]);
        self.enter(lost);
        otherwise(self)?;
        self.jump(after, &[]);
        self.enter(after);
        Ok(())
    }

    /// Leaves word that `exit` was called, for it must not be lost.
    pub(super) fn leave_exit(&mut self, code: Option<Value>) -> R<()> {
        let word = self.lost_word(LostLayout::EXIT)?;
        let mut asked = self.i64(LostLayout::EXIT_ASKED.cast_signed());
        if let Some(code) = code {
            let status = self.i64(0xff);
            let code = self.b.ins().band(code, status);
            asked = self.b.ins().bor(asked, code);
        }
        self.store(asked, Addr::value(word, 8));
        Ok(())
    }

    /// The address of a word about lost events.
    fn lost_word(&mut self, number: usize) -> R<Value> {
        let offset = self.m.lost_events()? + 8 * number as u32;
        Ok(self.symbol(Symbol::Data(BSS), offset))
    }

    fn call_submit(&mut self, record: Value, flags: Value) {
        self.call(Helper::RingbufSubmit, &[record, flags]);
    }
}

/// Builds a shared subprogram.
pub(super) fn build_shared(m: &mut Module<'_>, which: Shared, index: u32) -> R<()> {
    let (name, n_params): (String, u32) = match which {
        Shared::Report0 => ("report".into(), 1),
        Shared::Report1 => ("report_value".into(), 2),
        Shared::HashKey => ("hash_key".into(), 3),
        Shared::MergeSum => ("merge_sum".into(), 2),
        Shared::MergeCount => ("merge_count".into(), 2),
        Shared::MergeAvg { signed: false } => ("merge_avg".into(), 2),
        Shared::MergeAvg { signed: true } => ("merge_avg_signed".into(), 2),
        Shared::MergeMin { signed: false } => ("merge_min".into(), 2),
        Shared::MergeMin { signed: true } => ("merge_min_signed".into(), 2),
        Shared::MergeMax { signed: false } => ("merge_max".into(), 2),
        Shared::MergeMax { signed: true } => ("merge_max_signed".into(), 2),
        Shared::HistBucket { bits } => (format!("hist_bucket_{bits}"), 1),
        // They differ in what no name says.
        Shared::JoinString { .. } => (format!("join_string_{index}"), 2),
        Shared::UsdtArg => ("usdt_arg".into(), 2),
        Shared::Unwind => ("unwind".into(), 2),
        Shared::UnwindFrame => ("unwind_frame".into(), 0),
        Shared::UnwindReturn => ("unwind_return".into(), 0),
    };
    let spec = FunctionSpec {
        index,
        name: name.clone(),
        role: Role::Subprogram,
        n_params,
        span: match which {
            Shared::JoinString {
                warns: Some(span), ..
            } => span,
            _ => some_span(m),
        },
        has_span: false,
    };
    let mut program = Program::without_script(name);
    build(m, &mut program, spec, |cx| match which {
        Shared::Report0 => cx.report_body(false),
        Shared::Report1 => cx.report_body(true),
        Shared::HashKey => cx.hash_key_body(),
        Shared::MergeSum => cx.merge_sum_body(0),
        Shared::MergeCount => cx.merge_sum_body(8),
        Shared::MergeAvg { signed } => cx.merge_avg_body(signed),
        Shared::MergeMin { signed } => cx.merge_extreme_body(signed, false),
        Shared::MergeMax { signed } => cx.merge_extreme_body(signed, true),
        Shared::HistBucket { bits } => {
            let bucket = cx.hist_search(cx.params[0], bits);
            cx.b.ins().return_(&[bucket]);
            Ok(())
        }
        Shared::JoinString { array, strings, .. } => cx.join_string_body(array, strings),
        Shared::UsdtArg => cx.usdt_arg_body(),
        Shared::Unwind => cx.unwind_body(),
        Shared::UnwindFrame => cx.unwind_frame_body(),
        Shared::UnwindReturn => cx.unwind_return_body(),
    })?;
    if matches!(
        which,
        Shared::Unwind | Shared::UnwindFrame | Shared::UnwindReturn
    ) {
        m.verify_alone(index);
    }
    Ok(())
}

/// Any place in the script: the lines of shared code have to say something.
fn some_span(m: &Module<'_>) -> Span {
    match m.program.probes.first() {
        Some(probe) => probe.span,
        None => match m.sources.files().next() {
            Some((id, _)) => Span::new(id, 0, 0),
            None => Span::new(bpftrace_ast::source::SourceMap::new().add("", ""), 0, 0),
        },
    }
}

impl FnCx<'_, '_> {
    /// Sends a record, if warnings are wanted. A value is what a helper returned: of its upper half nothing
    /// is known.
    fn report_body(&mut self, with_value: bool) -> R<()> {
        let size = if with_value { 16 } else { 8 };
        let wanted = self.warnings_on()?;
        self.when(wanted, false, |cx| {
            cx.send_record(size, |cx, record| {
                let event = cx.params[0];
                cx.store(event, record);
                if with_value {
                    let value = cx.params[1];
                    let value = cx.resize_int(value, types::I32, true);
                    let value = cx.resize_int(value, types::I64, true);
                    cx.store(value, record.at(8));
                }
                Ok(())
            })
        })?;
        self.return_default();
        Ok(())
    }
}
