//! Functions that are evaluated in the program.

use bpftrace_meta::{Feature, HostValue, TimeMode};
use bpftrace_sema::{Call, Clock, Expr, Mem, Ty};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::R;
use super::condition::Verdict;
use super::func::FnCx;
use super::helper::Helper;
use super::memory::{Access, Addr, Fill};
use super::place::{is_by_address, scalar_type};

const AF_INET: i64 = 2;
const AF_INET6: i64 = 10;

impl FnCx<'_, '_> {
    /// A function whose value is a scalar.
    pub(super) fn scalar_call(&mut self, call: &Call, ty: &Ty) -> R<Value> {
        let value = match call {
            Call::Strncmp(a, b, n) => {
                let differ = self.decided(|cx, unequal, equal| {
                    cx.strncmp(a, b, *n, Verdict { equal, unequal })
                })?;
                self.zext64(differ)
            }
            Call::Strstr(haystack, needle) => self.strstr(haystack, needle)?,
            Call::Strlen(string) => self.strlen(string)?,
            Call::Ksym(address) => {
                let value = self.scalar(address)?;
                self.zext64(value)
            }
            Call::Bswap(number) => {
                let value = self.scalar(number)?;
                if self.ty(value) == types::I8 {
                    value
                } else {
                    self.b.ins().bswap(value)
                }
            }
            Call::Delete(map, key) => self.delete(*map, key.as_deref(), false)?,
            Call::HasKey(map, key) => self.has_key(*map, key)?,
            Call::Find(map, key, local) => self.find(*map, key, *local)?,
            Call::StatsOf { map, key, part } => self.stats_of(*map, key.as_deref(), *part)?,
            Call::MapLen(map) => self.map_len(*map)?,
            Call::StackLen(stack) => {
                let at = match &stack.ty {
                    Ty::KStack(_) => 0,
                    Ty::UStack(_) => 8,
                    _ => return self.internal("the length of something that is no stack"),
                };
                let (addr, _) = self.mem(stack)?;
                self.load(types::I64, addr.at(at), Access::Own)
            }
            Call::PercpuKaddr(symbol, cpu) => self.percpu_kaddr(symbol, cpu.as_deref())?,
            Call::SocketCookie(socket) => {
                self.m
                    .require(Feature::SocketCookie, "`socket_cookie`", self.span);
                let socket = self.scalar(socket)?;
                self.call(Helper::GetSocketCookie, &[socket])
            }
            Call::SkbOutput {
                path,
                skb,
                len,
                skip,
            } => self.skb_output(path, *skip, skb, len)?,
            Call::Signal { signal, thread } => {
                let number = self.scalar(signal)?;
                let number = self.zext64(number);
                let helper = if *thread {
                    Helper::SendSignalThread
                } else {
                    Helper::SendSignal
                };
                self.call(helper, &[number])
            }
            Call::Override(rc) => {
                self.m.require(Feature::Override, "`override`", self.span);
                let rc = self.scalar(rc)?;
                let rc = self.resize_int(rc, types::I64, true);
                let ctx = self.ctx();
                self.call(Helper::OverrideReturn, &[ctx, rc])
            }
            Call::WriteUser(to, from, len) => self.write_user(to, from, len)?,
            Call::Memcmp(a, b) => self.memcmp(a, b)?,
            Call::TaskFromPid(pid) => {
                let pid = self.scalar(pid)?;
                let pid = self.resize_int(pid, types::I64, true);
                let kfunc = self.m.task_from_pid(ty);
                self.call_kfunc(kfunc, &[pid])
            }
            Call::UserAddress(address) => {
                let address = self.scalar(address)?;
                self.address_in_process(address)?
            }
            Call::TaskRelease(task) => {
                let kfunc = self.m.task_release(&task.ty);
                let task = self.scalar(task)?;
                self.call_kfunc(kfunc, &[task])
            }
            Call::Str { .. }
            | Call::Buf { .. }
            | Call::Usym(_)
            | Call::Ntop(..)
            | Call::Macaddr(_)
            | Call::Strftime(..)
            | Call::CgroupPath(..)
            | Call::StrConcat(..)
            | Call::Path(_) => return self.internal("a call in memory as a scalar"),
        };
        match scalar_type(ty) {
            Some(clif) => Ok(self.resize_int(value, clif, true)),
            None => self.internal("a scalar call of another type"),
        }
    }

    /// A function whose value nobody wants, or that has none.
    pub(super) fn void_call(&mut self, call: &Call) -> R<()> {
        let ty = match call {
            Call::Delete(..) | Call::HasKey(..) | Call::Find(..) => Ty::Bool,
            _ => Ty::Int(bpftrace_sema::IntTy::I64),
        };
        self.scalar_call(call, &ty)?;
        Ok(())
    }

    /// A function whose value lives in memory.
    pub(super) fn store_call(&mut self, call: &Call, ty: &Ty, dst: Addr, fill: Fill) -> R<()> {
        // Elements of tuples stand at any address, and not every kind of memory can be written to in
        // words there.
        let by_words = match call {
            Call::Usym(_) | Call::Ntop(..) | Call::Strftime(..) | Call::CgroupPath(..) => true,
            Call::Buf { .. } => dst.alignment() < 4,
            _ => false,
        };
        if by_words && dst.alignment() < 8 {
            let size = self.size_of(ty)?;
            let temp = self.temp(size);
            self.store_call(call, ty, temp, fill)?;
            self.copy(dst, temp, u64::from(size));
            return Ok(());
        }
        match call {
            Call::Str { addr, len } => self.str_call(addr, len.as_deref(), ty, dst, fill),
            Call::Buf { addr, len } => self.buf_call(addr, len.as_deref(), ty, dst),
            Call::Usym(address) => {
                let address = self.scalar(address)?;
                let address = self.zext64(address);
                self.store(address, dst);
                self.store_process(dst.at(8))
            }
            Call::Ntop(family, address) => self.ntop(family.as_deref(), address, dst),
            Call::Macaddr(address) => self.macaddr(address, dst),
            Call::Strftime(format, clock, time) => {
                let time = self.scalar(time)?;
                let time = self.zext64(time);
                let mode = match clock {
                    Clock::Monotonic => TimeMode::Monotonic,
                    Clock::Boot => TimeMode::Boot,
                    Clock::Tai => TimeMode::Tai,
                    Clock::SwTai => TimeMode::SwTai,
                };
                self.store(time, dst);
                self.store_imm(types::I32, i64::from(mode as u32), dst.at(8));
                self.store_imm(types::I32, i64::from(*format), dst.at(12));
                Ok(())
            }
            Call::CgroupPath(filter, id) => {
                let id = self.scalar(id)?;
                let id = self.zext64(id);
                self.store_imm(types::I64, i64::from(*filter), dst);
                self.store(id, dst.at(8));
                Ok(())
            }
            Call::Path(path) => self.path_call(path, ty, dst),
            Call::StrConcat(first, second) => self.str_concat(first, second, ty, dst, fill),
            _ => self.internal("a scalar call stored in memory"),
        }
    }

    /// `u64` family, 16 bytes of address.
    fn ntop(&mut self, family: Option<&Expr>, address: &Expr, dst: Addr) -> R<()> {
        let size = self.size_of(&address.ty)?;
        let by_size = if size == 16 { AF_INET6 } else { AF_INET };
        match family {
            Some(family) => {
                let signed = matches!(&family.ty, Ty::Int(int) if int.signed);
                let family = self.scalar(family)?;
                let family = self.resize_int(family, types::I64, signed);
                self.store(family, dst);
            }
            None => self.store_imm(types::I64, by_size, dst),
        }
        let bytes = dst.at(8);
        self.zero(bytes, 16);
        match &address.ty {
            Ty::Array(..) | Ty::Struct(..) if size <= 16 => self.copy_object(address, bytes),
            Ty::Str(_) | Ty::MacAddr if size <= 16 => {
                let temp = self.temp(size);
                self.store_expr(address, temp, Fill::Loose)?;
                self.copy(bytes, temp, u64::from(size));
                Ok(())
            }
            _ if scalar_type(&address.ty).is_some() && !is_by_address(&address.ty) => {
                let value = self.scalar(address)?;
                let value = self.resize_int(value, types::I32, false);
                self.store(value, bytes);
                Ok(())
            }
            _ => self.unsupported("`ntop` of this type"),
        }
    }

    fn macaddr(&mut self, address: &Expr, dst: Addr) -> R<()> {
        match &address.ty {
            Ty::Array(_, _, mem) | Ty::Struct(_, mem) | Ty::Ptr(_, mem) => {
                let mem = *mem;
                let value = self.scalar(address)?;
                self.read_bytes(mem, dst, 6, value)?;
                Ok(())
            }
            Ty::Str(size) if *size >= 6 => {
                let (mem, value) = self.string_source(address)?;
                self.read_bytes(mem, dst, 6, value)?;
                Ok(())
            }
            Ty::MacAddr => self.store_expr(address, dst, Fill::Exact),
            _ => {
                let value = self.scalar(address)?;
                let value = self.zext64(value);
                let mem = self.default_mem();
                self.read_bytes(mem, dst, 6, value)?;
                Ok(())
            }
        }
    }

    /// `path(p)`: `bpf_d_path` wants a trusted `struct path *`.
    fn path_call(&mut self, path: &Expr, ty: &Ty, dst: Addr) -> R<()> {
        let Ty::Str(size) = *ty else {
            return self.internal("`path` of another type than a string");
        };
        self.m.require(Feature::DPath, "`path`", self.span);
        self.zero(dst, u64::from(size));
        let path = self.scalar(path)?;
        let (to, count) = (self.addr_value(dst), self.i64(i64::from(size)));
        let result = self.call(Helper::DPath, &[path, to, count]);
        self.check_helper(Helper::DPath, result)
    }

    /// The address of a per-CPU variable: its place in the area of each CPU, and where that area is.
    fn percpu_kaddr(&mut self, symbol: &Expr, cpu: Option<&Expr>) -> R<Value> {
        let variable = self.scalar(symbol)?;
        let offsets = self.host_value(&HostValue::KernelSymbol("__per_cpu_offset".to_owned()))?;
        let cpu = match cpu {
            Some(cpu) => {
                let cpu = self.scalar(cpu)?;
                self.zext64(cpu)
            }
            None => self.scalar_builtin(
                bpftrace_sema::Builtin::Cpu,
                &Ty::Int(bpftrace_sema::IntTy::U64),
            )?,
        };
        let n_cpus = self.host_value(&HostValue::NumCpus)?;
        let exists = self.b.ins().icmp(IntCC::UnsignedLessThan, cpu, n_cpus);
        self.choose(
            exists,
            types::I64,
            |cx| {
                let three = cx.i64(3);
                let at = cx.b.ins().ishl(cpu, three);
                let at = cx.b.ins().iadd(offsets, at);
                let area = cx.read_number(Mem::Kernel, types::I64, at)?;
                Ok(cx.b.ins().iadd(area, variable))
            },
            |cx| Ok(cx.i64(0)),
        )
    }

    /// `write_user(dst, src, len)`: whether it worked.
    fn write_user(&mut self, to: &Expr, from: &Expr, len: &Expr) -> R<Value> {
        let Some(len) = super::capture::constant(len) else {
            return self.unsupported("`write_user` of a number of bytes known at run time only");
        };
        let size = u32::try_from(len).unwrap_or(0);
        let to_value = self.scalar(to)?;
        // The helper reads the program's own memory only.
        let src = self.temp(size.max(1));
        match &from.ty {
            Ty::Ptr(_, mem) | Ty::Array(_, _, mem) | Ty::Struct(_, mem) => {
                let mem = *mem;
                let value = self.scalar(from)?;
                self.read_bytes(mem, src, u64::from(size), value)?;
            }
            Ty::Str(_) | Ty::Buf(_) => {
                let (mem, value) = self.string_source(from)?;
                self.read_bytes(mem, src, u64::from(size), value)?;
            }
            _ => return self.unsupported("`write_user` from a value of this type"),
        }
        let (src, size) = (self.addr_value(src), self.i64(i64::from(size)));
        let result = self.call(Helper::ProbeWriteUser, &[to_value, src, size]);
        Ok(self.is_zero(result))
    }
}
