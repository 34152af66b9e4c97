//! Records for user space.

use bpftrace_ast::source::Span;
use bpftrace_meta::{ArgLayout, EventKind, EventMeta, MapId, ValueLayout};
use bpftrace_sema::{Event, Expr, Mem, Ty};
use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::R;
use super::capture;
use super::func::FnCx;
use super::helper::Helper;
use super::memory::{Access, Addr, Fill};
use super::module::{Shared, SpecialMap};
use super::place::{is_by_address, scalar_type};

/// Strings that `join` takes from its array, and bytes of each.
const JOIN_STRINGS: u32 = 16;
const JOIN_STRING_SIZE: u32 = 1024;

/// An argument, perhaps evaluated before the record was there.
enum Evaluated {
    NotYet,
    Number(Value),
    Memory(Addr, Fill),
}

impl FnCx<'_, '_> {
    /// Sends an event.
    pub(super) fn event(&mut self, event: &Event, args: &[Expr], expanded_from: &[Span]) -> R<()> {
        if self.p.kind == Some(bpftrace_meta::ProgramKind::Iter)
            && let Event::Printf(pieces) = event
        {
            return self.seq_printf(pieces, args);
        }
        if let Event::Join(separator) = event {
            return self.join(separator, args, expanded_from);
        }
        let kind = match event {
            Event::Printf(pieces) => EventKind::Printf(pieces.clone()),
            Event::Errorf(pieces) => EventKind::Errorf(pieces.clone()),
            Event::Warnf(pieces) => EventKind::Warnf(pieces.clone()),
            Event::System(pieces) => EventKind::System(pieces.clone()),
            Event::Cat(pieces) => EventKind::Cat(pieces.clone()),
            Event::PrintValue => EventKind::PrintValue,
            Event::PrintMap { map, top, div } => EventKind::PrintMap {
                map: MapId(self.map_row(*map)?),
                top: *top,
                div: *div,
            },
            Event::ClearMap(map) => EventKind::ClearMap(MapId(self.map_row(*map)?)),
            Event::ZeroMap(map) => EventKind::ZeroMap(MapId(self.map_row(*map)?)),
            Event::Exit => EventKind::Exit,
            Event::Time(format) => EventKind::Time(format.clone()),
            Event::Unwatch => EventKind::Unwatch,
            Event::Join(_) => {
                return self.internal("an event that has been taken care of");
            }
        };
        let (layouts, size) = self.arg_layouts(args)?;
        let meta = self.event_meta(kind, layouts.clone(), size, expanded_from);
        // What has side effects, or might leave the probe, comes before the record is reserved; and so do
        // numbers that may come with a warning, as records arrive in the order of their reservation.
        let warns = self.m.program.options.extra_warnings;
        let is_exit = matches!(event, Event::Exit);
        let all_first = warns || is_exit || !args.iter().all(capture::is_pure);
        let mut values = Vec::with_capacity(args.len());
        for arg in args {
            let is_number = scalar_type(&arg.ty).is_some() && !is_by_address(&arg.ty);
            let value = if is_number && (all_first || capture::may_warn(arg)) {
                Evaluated::Number(self.scalar(arg)?)
            } else if !all_first {
                Evaluated::NotYet
            } else {
                let size = self.size_of(&arg.ty)?;
                let temp = self.temp(size);
                self.store_expr(arg, temp, Fill::Exact)?;
                Evaluated::Memory(temp, Fill::Exact)
            };
            values.push(value);
        }
        let code = match (values.first(), args.first()) {
            (Some(Evaluated::Number(code)), Some(arg)) if is_exit => {
                let signed = matches!(&arg.ty, Ty::Int(int) if int.signed);
                Some(self.resize_int(*code, types::I64, signed))
            }
            _ => None,
        };
        let fill = |cx: &mut Self, record: Addr| {
            cx.store_event_number(meta, record);
            for ((value, layout), arg) in values.into_iter().zip(&layouts).zip(args) {
                let dst = record.at(u64::from(layout.offset));
                match value {
                    Evaluated::NotYet => cx.store_expr(arg, dst, Fill::Loose)?,
                    Evaluated::Number(number) => cx.store(number, dst),
                    Evaluated::Memory(src, fill) => {
                        cx.copy_value(&arg.ty, dst, Fill::Loose, src, fill)?;
                    }
                }
            }
            Ok(())
        };
        if is_exit {
            self.send_record_or(size, fill, |cx| cx.leave_exit(code))
        } else {
            self.send_record(size, fill)
        }
    }

    fn store_event_number(&mut self, event: bpftrace_meta::EventId, record: Addr) {
        self.store_imm(types::I64, i64::from(event.0), record);
    }

    fn event_meta(
        &mut self,
        kind: EventKind,
        args: Vec<ArgLayout>,
        size: u32,
        expanded_from: &[Span],
    ) -> bpftrace_meta::EventId {
        let place = self.m.lines.range(self.span);
        let expanded_from = expanded_from
            .iter()
            .map(|&span| self.m.lines.range(span))
            .collect();
        self.m.event(EventMeta {
            kind,
            args,
            size,
            place,
            expanded_from,
        })
    }

    /// Where the arguments are in the record, and its size.
    fn arg_layouts(&mut self, args: &[Expr]) -> R<(Vec<ArgLayout>, u32)> {
        let mut layouts = Vec::with_capacity(args.len());
        let mut end = 8u64;
        for arg in args {
            let size = u64::from(self.size_of(&arg.ty)?);
            // Large values are copied by words, so they are aligned whatever their type says.
            let align = if size >= 8 {
                8
            } else {
                self.m.program.types.align(&arg.ty).clamp(1, 8)
            };
            let offset = end.next_multiple_of(align);
            layouts.push(ArgLayout {
                offset: offset as u32,
                layout: self.m.layout(&arg.ty, arg.span)?,
            });
            end = offset + size;
        }
        let size = end.next_multiple_of(8);
        match u32::try_from(size) {
            Ok(size) if size < 1 << 26 => Ok((layouts, size)),
            _ => self.unsupported("an event of this size"),
        }
    }

    /// `join`: up to 16 strings of the array go into the record.
    fn join(&mut self, separator: &str, args: &[Expr], expanded_from: &[Span]) -> R<()> {
        let [array] = args else {
            return self.internal("`join` of something else than one array");
        };
        let (array_mem, strings_mem) = match &array.ty {
            Ty::Ptr(inner, mem) => match &**inner {
                Ty::Ptr(_, strings) => (*mem, *strings),
                _ => (*mem, *mem),
            },
            Ty::Int(_) => (Mem::Unknown, Mem::Unknown),
            _ => return self.unsupported("`join` of this type"),
        };
        let array = self.scalar(array)?;
        let array = self.zext64(array);
        let layout = ArgLayout {
            offset: 8,
            layout: ValueLayout::Array {
                element: Box::new(ValueLayout::Str {
                    size: JOIN_STRING_SIZE,
                }),
                count: JOIN_STRINGS,
                stride: JOIN_STRING_SIZE,
            },
        };
        let size = 8 + JOIN_STRINGS * JOIN_STRING_SIZE;
        let kind = EventKind::Join {
            separator: separator.to_owned(),
        };
        let meta = self.event_meta(kind, vec![layout], size, expanded_from);
        self.send_record(size, |cx, record| {
            cx.store_event_number(meta, record);
            let read = Shared::JoinString {
                array: by_helper(array_mem),
                strings: by_helper(strings_mem),
                warns: cx.reports_extra().then_some(cx.span),
            };
            let done = cx.b.create_block();
            for index in 0..JOIN_STRINGS {
                let dst = record.at(u64::from(8 + index * JOIN_STRING_SIZE));
                let (dst, slot) = (cx.addr_value(dst), cx.add_imm(array, i64::from(index) * 8));
                let there = cx.call_shared(read, &[dst, slot])?;
                let next = cx.b.create_block();
                cx.brif(there, next, done);
                cx.enter(next);
            }
            cx.jump(done, &[]);
            cx.enter(done);
            Ok(())
        })
    }

    /// Reads one string of an array, and says whether there is one.
    pub(super) fn join_string_body(&mut self, array: Mem, strings: Mem) -> R<()> {
        let [dst, slot] = self.params[..] else {
            return self.internal("a string of an array without two addresses");
        };
        let dst = Addr::value(dst, 8);
        self.store_imm(types::I8, 0, dst);
        let word = self.temp_stack(8);
        self.read_bytes(array, word, 8, slot)?;
        let string = self.load(types::I64, word, Access::Own);
        self.when(string, false, |cx| {
            cx.read_string(strings, dst, JOIN_STRING_SIZE, string)?;
            let there = cx.i64(1);
            cx.b.ins().return_(&[there]);
            cx.enter_unreachable();
            Ok(())
        })?;
        self.return_default();
        Ok(())
    }

    /// `skboutput(path, skb, len, skip)`: the record and the packet go through the packet buffer.
    pub(super) fn skb_output(&mut self, path: &str, skip: u64, skb: &Expr, len: &Expr) -> R<Value> {
        /// `BPF_F_CURRENT_CPU`.
        const CURRENT_CPU: i64 = 0xffff_ffff;
        /// Most bytes of a packet (`BPF_F_CTXLEN_MASK`).
        const MAX_PACKET: i64 = 0xf_ffff;
        const SIZE: u32 = 24;
        let number = |offset| ArgLayout {
            offset,
            layout: ValueLayout::Int {
                size: 8,
                signed: false,
            },
        };
        let kind = EventKind::SkbOutput {
            path: path.to_owned(),
            skip,
        };
        let meta = self.event_meta(kind, vec![number(8), number(16)], SIZE, &[]);
        let map = self.m.special_map(SpecialMap::Packets);
        let skb = self.scalar(skb)?;
        let len = self.scalar(len)?;
        let len = self.at_most(len, MAX_PACKET);
        let record = self.temp_stack(SIZE);
        self.store_event_number(meta, record);
        let now = self.clock(bpftrace_sema::Clock::Boot)?;
        self.store(now, record.at(8));
        self.store(len, record.at(16));
        let shift = self.i64(32);
        let flags = self.b.ins().ishl(len, shift);
        let cpu = self.i64(CURRENT_CPU);
        let flags = self.b.ins().bor(flags, cpu);
        let (map, record, size) = (
            self.map_ptr(map),
            self.addr_value(record),
            self.i64(i64::from(SIZE)),
        );
        Ok(self.call(Helper::SkbOutput, &[skb, map, flags, record, size]))
    }

    /// `printf` of an iterator: into the file that is being read.
    fn seq_printf(&mut self, pieces: &[bpftrace_meta::FormatPiece], args: &[Expr]) -> R<()> {
        let mut format = kernel_format(pieces);
        format.push(0);
        let format_size = format.len();
        let format = self.constant_bytes(&format)?;
        let n_args = args.len() as u32;
        let data = self.temp((n_args * 8).max(8));
        for (index, arg) in args.iter().enumerate() {
            let value = self.kernel_format_arg(arg)?;
            self.store(value, data.at(index as u64 * 8));
        }
        let ctx = self.ctx();
        // Both members of every iterator's context start with the pointer to `struct bpf_iter_meta`,
        // whose first member is the `struct seq_file`.
        let meta = self
            .b
            .ins()
            .load(types::I64, super::func::constant(), ctx, 0);
        let seq = self
            .b
            .ins()
            .load(types::I64, super::func::constant(), meta, 0);
        let (format, format_size, data, data_size) = (
            self.addr_value(format),
            self.i64(format_size as i64),
            self.addr_value(data),
            self.i64(i64::from(n_args * 8)),
        );
        let data = if n_args == 0 { self.i64(0) } else { data };
        self.call(
            Helper::SeqPrintf,
            &[seq, format, format_size, data, data_size],
        );
        Ok(())
    }

    /// An argument of a kernel format: a number of 64 bits, or the address of a string.
    fn kernel_format_arg(&mut self, arg: &Expr) -> R<Value> {
        if scalar_type(&arg.ty).is_some() {
            let signed = matches!(&arg.ty, Ty::Int(int) if int.signed);
            let value = self.scalar(arg)?;
            return Ok(self.resize_int(value, types::I64, signed));
        }
        match &arg.ty {
            Ty::Str(_) => {
                let (addr, _) = self.mem(arg)?;
                Ok(self.addr_value(addr))
            }
            _ => self.unsupported("an argument of this type in a kernel format"),
        }
    }

    /// `debugf`.
    pub(super) fn trace_printk(&mut self, format: &str, args: &[Expr]) -> R<()> {
        let mut bytes = format.as_bytes().to_vec();
        bytes.push(0);
        let size = bytes.len() as i64;
        let mut values = Vec::with_capacity(args.len());
        for arg in args {
            values.push(self.kernel_format_arg(arg)?);
        }
        let format = self.constant_bytes(&bytes)?;
        let mut call_args = vec![self.addr_value(format), self.i64(size)];
        call_args.extend(values);
        if call_args.len() > 5 {
            return self.internal("more than three arguments of a kernel format");
        }
        self.call(Helper::TracePrintk, &call_args);
        Ok(())
    }
}

/// The memory, for code that does not know where a pointer comes from: there is a helper for each.
fn by_helper(mem: Mem) -> Mem {
    match mem {
        Mem::Unknown | Mem::User => mem,
        Mem::Kernel | Mem::Ctx | Mem::Btf | Mem::Bpf => Mem::Kernel,
    }
}

/// A format for the kernel's `printf`.
fn kernel_format(pieces: &[bpftrace_meta::FormatPiece]) -> Vec<u8> {
    use bpftrace_meta::{Conversion as C, FormatPiece, Length};
    let mut format = Vec::new();
    for piece in pieces {
        let spec = match piece {
            FormatPiece::Literal(text) => {
                format.extend_from_slice(text.replace('%', "%%").as_bytes());
                continue;
            }
            FormatPiece::Spec(spec) => spec,
        };
        format.push(b'%');
        if spec.left {
            format.push(b'-');
        }
        if spec.zero {
            format.push(b'0');
        }
        if let Some(width) = spec.width {
            format.extend_from_slice(width.to_string().as_bytes());
        }
        let length: &[u8] = match (spec.conversion, spec.length) {
            (C::Str | C::Pointer | C::Char, _) | (_, Length::None) => b"",
            // The kernel's BPF formats know `l` and `ll` only.
            (_, Length::Hh | Length::H) => b"",
            (_, Length::Long) => b"l",
        };
        format.extend_from_slice(length);
        format.extend_from_slice(match spec.conversion {
            C::Signed => b"d",
            C::Unsigned => b"u",
            C::Octal | C::Hex => b"x",
            C::HexUpper => b"X",
            C::Char => b"c",
            C::Pointer => b"px",
            C::Str | C::Buffer | C::BufferHex | C::BufferHexPlain | C::GfpFlags => b"s",
        });
    }
    format
}
