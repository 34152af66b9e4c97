//! Strings and buffers.
//!
//! A string of capacity `n` is `n` bytes up to a NUL. One that was cut off has no NUL: its last byte is not
//! 0. The helpers that read strings always write a NUL, so the last byte is fetched again when they filled
//! the buffer.

use bpftrace_sema::{Expr, ExprKind, Mem, Ty};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::R;
use super::capture;
use super::condition::Verdict;
use super::func::FnCx;
use super::helper::Helper;
use super::memory::{Access, Addr, Fill};

impl FnCx<'_, '_> {
    /// A constant string.
    pub(super) fn store_str(&mut self, bytes: &[u8], ty: &Ty, dst: Addr, fill: Fill) -> R<()> {
        let size = self.size_of(ty)? as usize;
        let mut padded = bytes.to_vec();
        padded.truncate(size);
        if fill == Fill::Exact || dst.is_stack() || size <= bytes.len() + 16 {
            padded.resize(size, 0);
            return self.store_bytes(&padded, dst);
        }
        padded.push(0);
        self.store_bytes(&padded, dst)?;
        self.store_imm(types::I8, 0, dst.at(size as u64 - 1));
        Ok(())
    }

    /// Copies a string within the program's own memory, possibly to one of another capacity.
    pub(super) fn copy_str(
        &mut self,
        dst: Addr,
        dst_size: u32,
        fill: Fill,
        src: Addr,
        src_size: u32,
        src_exact: bool,
    ) {
        let size = dst_size.min(src_size);
        if size == 0 {
            return;
        }
        let fill = if dst.is_stack() { Fill::Exact } else { fill };
        // Few bytes, or all of them wanted: as they are.
        if src_exact && (fill == Fill::Exact || size <= 32) {
            self.copy(dst, src, u64::from(size));
            if dst_size > size {
                let rest = u64::from(dst_size - size);
                let from = dst.at(u64::from(size));
                match fill {
                    Fill::Exact => self.zero(from, rest),
                    Fill::Loose => {
                        self.store_imm(types::I8, 0, from);
                        self.store_imm(types::I8, 0, dst.at(u64::from(dst_size) - 1));
                    }
                }
            }
            return;
        }
        if fill == Fill::Exact {
            self.zero(dst, u64::from(dst_size));
        }
        let (to, count, from) = (
            self.addr_value(dst),
            self.i64(i64::from(size)),
            self.addr_value(src),
        );
        self.call(Helper::ProbeReadKernelStr, &[to, count, from]);
        let last = u64::from(size) - 1;
        let byte = self.load(types::I8, src.at(last), Access::Own);
        self.store(byte, dst.at(last));
        if dst_size > size && fill == Fill::Loose {
            self.store_imm(types::I8, 0, dst.at(u64::from(size)));
            self.store_imm(types::I8, 0, dst.at(u64::from(dst_size) - 1));
        }
    }

    fn string_helper(mem: Mem) -> Helper {
        match mem {
            Mem::User => Helper::ProbeReadUserStr,
            Mem::Unknown => Helper::ProbeReadStr,
            Mem::Kernel | Mem::Ctx | Mem::Btf | Mem::Bpf => Helper::ProbeReadKernelStr,
        }
    }

    /// Reads a string of at most `size` bytes into a buffer of that size.
    pub(super) fn read_string(&mut self, mem: Mem, dst: Addr, size: u32, address: Value) -> R<()> {
        if size == 0 {
            return Ok(());
        }
        let (to, count) = (self.addr_value(dst), self.i64(i64::from(size)));
        let length = self.call(Self::string_helper(mem), &[to, count, address]);
        self.check_extra(Self::string_helper(mem), length)?;
        self.finish_string(mem, dst, size, address, length)
    }

    /// Sets the last byte of a buffer into which `length` bytes of a string were read.
    fn finish_string(
        &mut self,
        mem: Mem,
        dst: Addr,
        size: u32,
        address: Value,
        length: Value,
    ) -> R<()> {
        let last = dst.at(u64::from(size) - 1);
        let full = self.cmp_imm(IntCC::Equal, length, i64::from(size));
        let (again, clear, after) = (
            self.b.create_block(),
            self.b.create_block(),
            self.b.create_block(),
        );
        self.brif(full, again, clear);
        self.enter(again);
        // Never null here; but the verifier may not know, and allows no arithmetic before it does.
        let (known, null) = (self.b.create_block(), after);
        let is_null = self.cmp_imm(IntCC::Equal, address, 0);
        self.brif(is_null, null, known);
        self.enter(known);
        let from = self.add_imm(address, i64::from(size) - 1);
        self.read_bytes(mem, last, 1, from)?;
        self.jump(after, &[]);
        self.enter(clear);
        self.store_imm(types::I8, 0, last);
        self.jump(after, &[]);
        self.enter(after);
        Ok(())
    }

    /// `str(address, length)`.
    pub(super) fn str_call(
        &mut self,
        addr: &Expr,
        len: Option<&Expr>,
        ty: &Ty,
        dst: Addr,
        fill: Fill,
    ) -> R<()> {
        let Ty::Str(capacity) = *ty else {
            return self.internal("`str` of another type than a string");
        };
        if capacity == 0 {
            return Ok(());
        }
        let fill = if dst.is_stack() { Fill::Exact } else { fill };
        let known = len.map_or(Some(i64::from(capacity)), capture::constant);
        let dynamic = match (known, len) {
            (None, Some(len)) => Some(self.scalar(len)?),
            _ => None,
        };
        let (mem, address) = self.string_source(addr)?;
        if fill == Fill::Exact {
            self.zero(dst, u64::from(capacity));
        }
        if let Some(known) = known {
            let size = u32::try_from(known.max(0))
                .unwrap_or(capacity)
                .min(capacity);
            if size == 0 {
                self.store_imm(types::I8, 0, dst);
                self.store_imm(types::I8, 0, dst.at(u64::from(capacity) - 1));
                return Ok(());
            }
            if size == capacity {
                return self.read_string(mem, dst, capacity, address);
            }
            let (to, count) = (self.addr_value(dst), self.i64(i64::from(size)));
            let length = self.call(Self::string_helper(mem), &[to, count, address]);
            self.check_extra(Self::string_helper(mem), length)?;
            self.store_imm(types::I8, 0, dst.at(u64::from(capacity) - 1));
            return Ok(());
        }
        let Some(length) = dynamic else {
            return self.internal("a length that is neither known nor computed");
        };
        if fill == Fill::Loose {
            self.store_imm(types::I8, 0, dst);
        }
        let size = self.at_most(length, i64::from(capacity));
        let to = self.addr_value(dst);
        let length = self.call(Self::string_helper(mem), &[to, size, address]);
        self.check_extra(Self::string_helper(mem), length)?;
        self.finish_string(mem, dst, capacity, address, length)
    }

    /// A number, or the limit if that is smaller, as unsigned numbers.
    pub(super) fn at_most(&mut self, value: Value, limit: i64) -> Value {
        let limit_value = self.i64(limit);
        self.b.ins().umin(value, limit_value)
    }

    /// Where `str` and `buf` read: a pointer, a number, an array, or a string of the program.
    pub(super) fn string_source(&mut self, addr: &Expr) -> R<(Mem, Value)> {
        match &addr.ty {
            Ty::Ptr(_, mem) | Ty::Array(_, _, mem) | Ty::Struct(_, mem) => {
                let mem = *mem;
                Ok((mem, self.scalar(addr)?))
            }
            Ty::Str(_) => {
                if let ExprKind::Member(..) | ExprKind::Deref(_) = &addr.kind {
                    return self.string_in_place(addr);
                }
                let (place, _) = self.mem(addr)?;
                Ok((Mem::Bpf, self.addr_value(place)))
            }
            Ty::Buf(_) => {
                let (place, _) = self.mem(addr)?;
                Ok((Mem::Bpf, self.addr_value(place.at(4))))
            }
            Ty::Int(_) | Ty::KSym => {
                let value = self.scalar(addr)?;
                Ok((self.default_mem(), self.zext64(value)))
            }
            _ => self.unsupported("reading memory through a value of this type"),
        }
    }

    /// The kind of memory that a bare number points to, as far as the probe says.
    pub(super) fn default_mem(&self) -> Mem {
        use bpftrace_meta::ProgramKind as K;
        match self.p.kind {
            Some(K::Kprobe | K::Fentry | K::Fexit | K::Tracepoint | K::TpBtf | K::Iter) | None => {
                Mem::Kernel
            }
            Some(K::Uprobe) => Mem::User,
            Some(K::RawTracepointRun | K::Xdp | K::PerfEvent) => Mem::Unknown,
        }
    }

    /// `buf(address, length)`: four bytes of length, then the bytes.
    pub(super) fn buf_call(
        &mut self,
        addr: &Expr,
        len: Option<&Expr>,
        ty: &Ty,
        dst: Addr,
    ) -> R<()> {
        let Ty::Buf(capacity) = *ty else {
            return self.internal("`buf` of another type than a buffer");
        };
        let known = len.map_or(Some(i64::from(capacity)), capture::constant);
        let dynamic = match (known, len) {
            (None, Some(len)) => Some(self.scalar(len)?),
            _ => None,
        };
        let (mem, address) = self.string_source(addr)?;
        let data = dst.at(4);
        if let Some(known) = known {
            let size = known.clamp(0, i64::from(capacity)) as u32;
            self.store_imm(types::I32, i64::from(size), dst);
            if size > 0 {
                self.read_bytes(mem, data, u64::from(size), address)?;
            }
            if size < capacity {
                self.zero(data.at(u64::from(size)), u64::from(capacity - size));
            }
            return Ok(());
        }
        let Some(length) = dynamic else {
            return self.internal("a length that is neither known nor computed");
        };
        self.zero(data, u64::from(capacity));
        let size = self.at_most(length, i64::from(capacity));
        let stored = self.resize_int(size, types::I32, false);
        self.store(stored, dst);
        self.read_bytes_dynamic(mem, data, size, address)?;
        Ok(())
    }

    /// `$s[i]`: a byte of a string.
    pub(super) fn string_index(&mut self, base: &Expr, size: u32, index: &Expr) -> R<Value> {
        let (addr, _) = self.mem(base)?;
        if let Some(known) = capture::constant(index) {
            if known < 0 || known >= i64::from(size) {
                return Ok(self.int(types::I8, 0));
            }
            return Ok(self.load(types::I8, addr.at(known as u64), Access::Own));
        }
        let start = self.addr_value(addr);
        let index = self.scalar(index)?;
        let inside = self.cmp_imm(IntCC::UnsignedLessThan, index, i64::from(size));
        let byte = self.temp_word();
        self.store_imm(types::I64, 0, byte);
        self.when(inside, false, |cx| {
            let from = cx.b.ins().iadd(start, index);
            cx.read_bytes(Mem::Bpf, byte, 1, from)?;
            Ok(())
        })?;
        Ok(self.load(types::I8, byte, Access::Own))
    }

    /// Whether two strings are equal, up to the first NUL and within the smaller of both sizes.
    pub(super) fn strings_equal(&mut self, lhs: &Expr, rhs: &Expr, verdict: Verdict) -> R<()> {
        let (Ty::Str(m), Ty::Str(n)) = (&lhs.ty, &rhs.ty) else {
            return self.internal("a comparison of strings with something else");
        };
        let size = (*m).min(*n);
        self.strings_equal_within(lhs, rhs, size, verdict)
    }

    /// `strncmp(a, b, n)`.
    pub(super) fn strncmp(&mut self, lhs: &Expr, rhs: &Expr, n: u32, verdict: Verdict) -> R<()> {
        let (Ty::Str(a), Ty::Str(b)) = (&lhs.ty, &rhs.ty) else {
            return self.unsupported("`strncmp` of something that is no string");
        };
        let size = n.min(*a).min(*b);
        self.strings_equal_within(lhs, rhs, size, verdict)
    }

    fn strings_equal_within(
        &mut self,
        lhs: &Expr,
        rhs: &Expr,
        size: u32,
        verdict: Verdict,
    ) -> R<()> {
        if size == 0 {
            self.jump(verdict.equal, &[]);
            return Ok(());
        }
        for (constant, other) in [(lhs, rhs), (rhs, lhs)] {
            if let ExprKind::Str(bytes) = &constant.kind {
                let (addr, _) = self.mem(other)?;
                self.equals_constant(addr, bytes, size, verdict);
                return Ok(());
            }
        }
        let (a, _) = self.mem(lhs)?;
        let (b, _) = self.mem(rhs)?;
        self.strings_equal_loop(a, b, size, verdict);
        Ok(())
    }

    /// Compares with constant bytes, word by word, the NUL included if it is within `size`.
    fn equals_constant(&mut self, addr: Addr, bytes: &[u8], size: u32, verdict: Verdict) {
        let mut wanted: Vec<u8> = bytes.iter().copied().take_while(|&b| b != 0).collect();
        if wanted.len() < size as usize {
            wanted.push(0);
        }
        wanted.truncate(size as usize);
        for (at, ty) in self.common_pieces(addr, addr, wanted.len() as u64) {
            let mut word = [0; 8];
            let width = ty.bytes() as usize;
            word[..width].copy_from_slice(&wanted[at as usize..at as usize + width]);
            let value = self.load(ty, addr.at(at), Access::Own);
            let same = self.cmp_imm(IntCC::Equal, value, i64::from_le_bytes(word));
            let next = self.b.create_block();
            self.brif(same, next, verdict.unequal);
            self.enter(next);
        }
        self.jump(verdict.equal, &[]);
    }

    /// Compares two strings in memory with a loop over words (or bytes, where they are not aligned).
    fn strings_equal_loop(&mut self, a: Addr, b: Addr, size: u32, verdict: Verdict) {
        let pieces = self.common_pieces(a, b, u64::from(size));
        let ty = match pieces.first() {
            Some(&(_, ty)) if pieces.iter().all(|&(_, other)| other == ty) => ty,
            _ => types::I8,
        };
        let step = i64::from(ty.bytes());
        let (a, b) = (self.addr_value(a), self.addr_value(b));
        let head = self.b.create_block();
        let at = self.b.append_block_param(head, types::I64);
        let zero = self.i64(0);
        self.jump(head, &[zero]);
        self.b.switch_to_block(head);
        let (x, y) = (self.b.ins().iadd(a, at), self.b.ins().iadd(b, at));
        let x = self.load(ty, Addr::value(x, ty.bytes()), Access::Own);
        let y = self.load(ty, Addr::value(y, ty.bytes()), Access::Own);
        // The lowest 0x80 of `ends` marks the first NUL; higher ones may be wrong, and do not matter.
        let ones = self.int(ty, 0x0101_0101_0101_0101);
        let tops = self.int(ty, 0x8080_8080_8080_8080_u64 as i64);
        let less = self.b.ins().isub(x, ones);
        let not = self.b.ins().bnot(x);
        let ends = self.b.ins().band(less, not);
        let ends = self.b.ins().band(ends, tops);
        let (same, differ) = (self.b.create_block(), self.b.create_block());
        let equal = self.b.ins().icmp(IntCC::Equal, x, y);
        self.brif(equal, same, differ);
        self.enter(differ);
        // Equal after all if the NUL comes before the first byte that differs.
        let difference = self.b.ins().bxor(x, y);
        let first_difference = self.lowest_bit(difference);
        let first_end = self.lowest_bit(ends);
        let ended = self.b.create_block();
        self.brif(first_end, ended, verdict.unequal);
        self.enter(ended);
        let before = self
            .b
            .ins()
            .icmp(IntCC::UnsignedLessThan, first_end, first_difference);
        self.brif(before, verdict.equal, verdict.unequal);
        self.enter(same);
        let go_on = self.b.create_block();
        self.brif(ends, verdict.equal, go_on);
        self.enter(go_on);
        let next = self.add_imm(at, step);
        let more = self.cmp_imm(IntCC::UnsignedLessThan, next, i64::from(size));
        let again = self.b.create_block();
        self.brif(more, again, verdict.equal);
        self.enter(again);
        self.jump(head, &[next]);
        self.b.seal_block(head);
    }

    fn lowest_bit(&mut self, value: Value) -> Value {
        let negated = self.b.ins().ineg(value);
        self.b.ins().band(value, negated)
    }

    /// `strlen`: bytes before the NUL.
    pub(super) fn strlen(&mut self, string: &Expr) -> R<Value> {
        let size = match &string.ty {
            Ty::Str(size) => *size,
            _ => {
                // A pointer: the string is read to be measured.
                let size = self.m.program.options.max_strlen;
                let (mem, address) = self.string_source(string)?;
                let dst = self.temp(size);
                let (to, count) = (self.addr_value(dst), self.i64(i64::from(size)));
                let length = self.call(Self::string_helper(mem), &[to, count, address]);
                return self.length_before_nul(length);
            }
        };
        let (addr, _) = self.mem(string)?;
        // The kernel measures: reading the string onto itself changes nothing but its last byte.
        let last = addr.at(u64::from(size.max(1)) - 1);
        let tail = self.load(types::I8, last, Access::Own);
        let dst = self.temp(size.max(1));
        let (to, count, from) = (
            self.addr_value(dst),
            self.i64(i64::from(size)),
            self.addr_value(addr),
        );
        let length = self.call(Helper::ProbeReadKernelStr, &[to, count, from]);
        let length = self.length_before_nul(length)?;
        let cut = self.cmp_imm(IntCC::NotEqual, tail, 0);
        let at_end = self.cmp_imm(IntCC::Equal, length, i64::from(size) - 1);
        let both = self.b.ins().band(cut, at_end);
        let one = self.zext64(both);
        Ok(self.b.ins().iadd(length, one))
    }

    /// `str_concat(a, b)`: the second string is read to where the NUL of the first one is.
    pub(super) fn str_concat(
        &mut self,
        first: &Expr,
        second: &Expr,
        ty: &Ty,
        dst: Addr,
        fill: Fill,
    ) -> R<()> {
        let (Ty::Str(m), Ty::Str(n), Ty::Str(capacity)) = (&first.ty, &second.ty, ty) else {
            return self.internal("`str_concat` of something that is no string");
        };
        let (m, n, capacity) = ((*m).max(1), (*n).max(1), *capacity);
        // The verifier wants room for both strings at their longest.
        let whole = m + n;
        let fits = whole <= capacity && !dst.is_stack();
        let (a, _) = self.mem(first)?;
        let (b, _) = self.mem(second)?;
        let joined = if fits { dst } else { self.temp(whole) };
        if fits && fill == Fill::Exact {
            self.zero(joined, u64::from(capacity));
        } else if joined.is_stack() {
            self.zero(joined, u64::from(whole));
        }
        let start = self.addr_value(joined);
        let (count, from) = (self.i64(i64::from(m)), self.addr_value(a));
        let length = self.call(Helper::ProbeReadKernelStr, &[start, count, from]);
        let length = self.length_before_nul(length)?;
        let length = self.at_most(length, i64::from(m) - 1);
        let rest = self.b.ins().iadd(start, length);
        let (count, from) = (self.i64(i64::from(n)), self.addr_value(b));
        self.call(Helper::ProbeReadKernelStr, &[rest, count, from]);
        if fits {
            // Not cut off.
            self.store_imm(types::I8, 0, dst.at(u64::from(capacity) - 1));
            return Ok(());
        }
        self.store_imm(types::I8, 0, joined.at(u64::from(whole) - 1));
        self.copy_str(dst, capacity, fill, joined, whole, false);
        Ok(())
    }

    /// `memcmp` of two buffers of one size: the difference of the first bytes that differ.
    pub(super) fn memcmp(&mut self, a: &Expr, b: &Expr) -> R<Value> {
        let (Ty::Buf(m), Ty::Buf(n)) = (&a.ty, &b.ty) else {
            return self.internal("`memcmp` of something that is no buffer");
        };
        let size = i64::from(*m.min(n));
        let (a, _) = self.mem(a)?;
        let (b, _) = self.mem(b)?;
        // A buffer starts with its length.
        let (a, b) = (self.addr_value(a.at(4)), self.addr_value(b.at(4)));
        let (head, after) = (self.b.create_block(), self.b.create_block());
        let at = self.b.append_block_param(head, types::I64);
        let result = self.b.append_block_param(after, types::I64);
        let zero = self.i64(0);
        self.jump(head, &[zero]);
        self.b.switch_to_block(head);
        let (x, y) = (self.b.ins().iadd(a, at), self.b.ins().iadd(b, at));
        let x = self.load(types::I8, Addr::value(x, 1), Access::Own);
        let y = self.load(types::I8, Addr::value(y, 1), Access::Own);
        let (x, y) = (self.zext64(x), self.zext64(y));
        let difference = self.b.ins().isub(x, y);
        let (same, differ) = (self.b.create_block(), self.b.create_block());
        self.brif(difference, differ, same);
        self.enter(differ);
        self.jump(after, &[difference]);
        self.enter(same);
        let next = self.add_imm(at, 1);
        let more = self.cmp_imm(IntCC::UnsignedLessThan, next, size);
        let (again, end) = (self.b.create_block(), self.b.create_block());
        self.brif(more, again, end);
        self.enter(again);
        self.jump(head, &[next]);
        self.b.seal_block(head);
        self.enter(end);
        self.jump(after, &[zero]);
        self.enter(after);
        Ok(result)
    }

    /// What a reading helper returned, without the NUL; 0 when it failed.
    fn length_before_nul(&mut self, length: Value) -> R<Value> {
        let positive = self.cmp_imm(IntCC::SignedGreaterThan, length, 0);
        self.choose(
            positive,
            types::I64,
            |cx| Ok(cx.add_imm(length, -1)),
            |cx| Ok(cx.i64(0)),
        )
    }

    /// `strstr(haystack, needle)`: where the needle starts, or -1.
    pub(super) fn strstr(&mut self, haystack: &Expr, needle: &Expr) -> R<Value> {
        let (Ty::Str(h), Ty::Str(n)) = (&haystack.ty, &needle.ty) else {
            return self.unsupported("`strstr` of something that is no string");
        };
        let (h, n) = (*h, *n);
        let (hay, _) = self.mem(haystack)?;
        let (pin, _) = self.mem(needle)?;
        if h == 0 || n == 0 {
            return Ok(self.i64(-1));
        }
        // Comparing starts over at each byte, by going back to `start + 1`: one loop for the verifier.
        let (hay, pin) = (self.addr_value(hay), self.addr_value(pin));
        let (start, matched) = (self.temp_var(types::I64), self.temp_var(types::I64));
        let zero = self.i64(0);
        self.b.def_var(start, zero);
        self.b.def_var(matched, zero);
        let (head, check, after) = (
            self.b.create_block(),
            self.b.create_block(),
            self.b.create_block(),
        );
        let result = self.b.append_block_param(after, types::I64);
        self.jump(head, &[]);
        self.b.switch_to_block(head);
        let j = self.b.use_var(matched);
        let complete = self.cmp_imm(IntCC::UnsignedGreaterThanOrEqual, j, i64::from(n));
        let found = self.b.create_block();
        self.brif(complete, found, check);
        self.enter(check);
        let y = self.b.ins().iadd(pin, j);
        let y = self.load(types::I8, Addr::value(y, 1), Access::Own);
        let more = self.b.create_block();
        self.brif(y, more, found);
        self.enter(more);
        let i = self.b.use_var(start);
        let at = self.b.ins().iadd(i, j);
        let inside = self.cmp_imm(IntCC::UnsignedLessThan, at, i64::from(h));
        let (load, absent) = (self.b.create_block(), self.b.create_block());
        self.brif(inside, load, absent);
        self.enter(load);
        let x = self.b.ins().iadd(hay, at);
        let x = self.load(types::I8, Addr::value(x, 1), Access::Own);
        let same = self.b.ins().icmp(IntCC::Equal, x, y);
        let (step, differ) = (self.b.create_block(), self.b.create_block());
        self.brif(same, step, differ);
        self.enter(step);
        let j = self.add_imm(j, 1);
        self.b.def_var(matched, j);
        self.jump(head, &[]);
        self.enter(differ);
        let again = self.b.create_block();
        self.brif(x, again, absent);
        self.enter(again);
        let i = self.add_imm(i, 1);
        self.b.def_var(start, i);
        self.b.def_var(matched, zero);
        self.jump(head, &[]);
        self.b.seal_block(head);
        self.enter(absent);
        let no = self.i64(-1);
        self.jump(after, &[no]);
        self.enter(found);
        let i = self.b.use_var(start);
        self.jump(after, &[i]);
        self.enter(after);
        Ok(result)
    }
}
