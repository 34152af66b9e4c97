//! Builtin variables.

use bpftrace_meta::{
    ARGUMENT_REGISTERS, Feature, HostValue, ProbeTarget, ProgramKind, ProviderKind,
};
use bpftrace_sema::{Builtin, Clock, Ty};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::R;
use super::func::{FnCx, constant};
use super::helper::{F_USER_BUILD_ID, F_USER_STACK, Helper};
use super::memory::{Access, Addr, Fill};
use super::module::SpecialMap;
use super::once::NAME_SIZE;
use super::place::scalar_type;
use crate::symbols::Symbol;

/// Byte offsets in the kernel's `struct pt_regs` of x86-64 (arch/x86/include/asm/ptrace.h).
pub(super) mod pt_regs {
    pub(super) const AX: i32 = 80;
    pub(super) const IP: i32 = 128;
    pub(super) const CS: i32 = 136;
    pub(in super::super) const SP: i32 = 152;
    /// `di si dx cx r8 r9`.
    pub(in super::super) const ARGS: [i32; super::ARGUMENT_REGISTERS] = [112, 104, 96, 88, 72, 64];
}

/// Which half of `bpf_get_current_pid_tgid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PidPart {
    /// The process (the kernel's tgid).
    Pid,
    /// The thread (the kernel's pid).
    Tid,
}

impl FnCx<'_, '_> {
    pub(super) fn scalar_builtin(&mut self, builtin: Builtin, ty: &Ty) -> R<Value> {
        let value = match builtin {
            Builtin::Pid(init) => self.pid_or_tid(PidPart::Pid, init)?,
            Builtin::Tid(init) => self.pid_or_tid(PidPart::Tid, init)?,
            Builtin::Uid => {
                let both = self.call(Helper::GetCurrentUidGid, &[]);
                let low = self.resize_int(both, types::I32, false);
                self.zext64(low)
            }
            Builtin::Gid => {
                let both = self.call(Helper::GetCurrentUidGid, &[]);
                self.high_half(both)
            }
            Builtin::Nsecs(clock) => self.clock(clock)?,
            Builtin::Elapsed => {
                let now = self.call(Helper::KtimeGetBootNs, &[]);
                let start = self.host_value(&HostValue::StartTime)?;
                self.b.ins().isub(now, start)
            }
            Builtin::Cpu => self.call32(Helper::GetSmpProcessorId),
            Builtin::Numaid => self.call32(Helper::GetNumaNodeId),
            Builtin::Cgroup => self.call(Helper::GetCurrentCgroupId, &[]),
            Builtin::Curtask => self.call(Helper::GetCurrentTask, &[]),
            Builtin::Rand => self.call32(Helper::GetPrandomU32),
            Builtin::Jiffies => self.call(Helper::Jiffies64, &[]),
            Builtin::Ctx | Builtin::Args => self.ctx(),
            Builtin::Arg(n) => self.arg(n)?,
            Builtin::Retval => self.retval()?,
            Builtin::Func => self.func_address()?,
            Builtin::Probe if self.is_usdt() => self.usdt_number()?,
            Builtin::Probe => self.target_number()?,
            Builtin::Usermode => self.usermode()?,
            Builtin::Reg(offset) => {
                self.register(i32::try_from(offset).unwrap_or(i32::MAX), "`reg`")?
            }
            Builtin::Comm | Builtin::Kstack | Builtin::Ustack | Builtin::DwUstack => {
                return self.internal("a builtin in memory as a scalar");
            }
        };
        match scalar_type(ty) {
            Some(clif) => Ok(self.resize_int(value, clif, false)),
            None => self.internal("a scalar builtin of another type"),
        }
    }

    pub(super) fn store_builtin(
        &mut self,
        builtin: Builtin,
        ty: &Ty,
        dst: Addr,
        fill: Fill,
    ) -> R<()> {
        match (builtin, ty) {
            (Builtin::Comm, Ty::Str(NAME_SIZE)) => {
                self.name_to(dst);
                Ok(())
            }
            (Builtin::Comm, Ty::Str(size)) => {
                let (to, count) = (self.addr_value(dst), self.i64(i64::from(*size)));
                self.call(Helper::GetCurrentComm, &[to, count]);
                Ok(())
            }
            (Builtin::Kstack, Ty::KStack(stack)) => {
                let limit = stack.limit;
                if fill == Fill::Exact {
                    self.zero(dst, 8 + 8 * u64::from(limit));
                }
                self.read_stack(dst, dst.at(8), limit, 8, 0)
            }
            (Builtin::Ustack, Ty::UStack(stack)) => {
                let stack = *stack;
                let (frame, flags) = if stack.mode == bpftrace_meta::StackMode::BuildId {
                    (32, F_USER_STACK | F_USER_BUILD_ID)
                } else {
                    (8, F_USER_STACK)
                };
                if fill == Fill::Exact {
                    let size = 16 + u64::from(frame) * u64::from(stack.limit);
                    self.zero(dst, size);
                }
                self.store_process(dst)?;
                self.read_stack(dst.at(8), dst.at(16), stack.limit, frame, flags)
            }
            (Builtin::Func, Ty::USym) => {
                let address = self.func_address()?;
                self.store(address, dst);
                self.store_process(dst.at(8))
            }
            (Builtin::DwUstack, Ty::UStack(stack)) => self.unwound_stack(*stack, dst, fill),
            _ => self.internal(format!("builtin {builtin:?} of type {ty:?}")),
        }
    }

    /// `u32` pid and `u32` probe id, for symbols of user space.
    pub(super) fn store_process(&mut self, dst: Addr) -> R<()> {
        let pid = self.pid_or_tid(PidPart::Pid, false)?;
        let pid = self.resize_int(pid, types::I32, false);
        self.store(pid, dst);
        let probe = self.p.probe_index as i64;
        self.store_imm(types::I32, probe, dst.at(4));
        Ok(())
    }

    /// A stack: the number of frames, and the frames.
    fn read_stack(
        &mut self,
        count: Addr,
        frames: Addr,
        limit: u32,
        frame: u32,
        flags: i64,
    ) -> R<()> {
        if self.p.kind == Some(ProgramKind::Xdp) {
            return self.unsupported("a stack in a `test` or `bench` probe");
        }
        let (ctx, to, size, flags) = (
            self.ctx(),
            self.addr_value(frames),
            self.i64(i64::from(limit * frame)),
            self.i64(flags),
        );
        let bytes = self.call(Helper::GetStack, &[ctx, to, size, flags]);
        let good = self.cmp_imm(IntCC::SignedGreaterThan, bytes, 0);
        let n = self.choose(
            good,
            types::I64,
            |cx| {
                let frame = cx.i64(i64::from(frame));
                Ok(cx.b.ins().udiv(bytes, frame))
            },
            |cx| Ok(cx.i64(0)),
        )?;
        self.store(n, count);
        Ok(())
    }

    fn call32(&mut self, helper: Helper) -> Value {
        let value = self.call(helper, &[]);
        let low = self.resize_int(value, types::I32, false);
        self.zext64(low)
    }

    fn high_half(&mut self, value: Value) -> Value {
        let shift = self.i64(32);
        self.b.ins().ushr(value, shift)
    }

    /// A process or thread id, 64 bits: of the initial pid namespace, or of the one that bpftrace runs in.
    pub(super) fn pid_or_tid(&mut self, part: PidPart, init: bool) -> R<Value> {
        let both = if init {
            self.call(Helper::GetCurrentPidTgid, &[])
        } else {
            self.pids()?
        };
        Ok(match part {
            PidPart::Pid => self.high_half(both),
            PidPart::Tid => {
                let low = self.resize_int(both, types::I32, false);
                self.zext64(low)
            }
        })
    }

    /// A clock, in nanoseconds.
    pub(super) fn clock(&mut self, clock: Clock) -> R<Value> {
        Ok(match clock {
            Clock::Monotonic => self.call(Helper::KtimeGetNs, &[]),
            Clock::Boot => self.call(Helper::KtimeGetBootNs, &[]),
            Clock::Tai => {
                self.m.require(Feature::KtimeTai, "`nsecs(tai)`", self.span);
                self.call(Helper::KtimeGetTaiNs, &[])
            }
            Clock::SwTai => {
                let boot = self.call(Helper::KtimeGetBootNs, &[]);
                let offset = self.host_value(&HostValue::TaiOffset)?;
                self.b.ins().iadd(boot, offset)
            }
        })
    }

    /// A field of the registers in the context.
    pub(super) fn register(&mut self, offset: i32, what: &str) -> R<Value> {
        if !matches!(
            self.p.kind,
            Some(ProgramKind::Kprobe | ProgramKind::Uprobe | ProgramKind::PerfEvent)
        ) {
            return self.unsupported(format!("{what} in this kind of probe"));
        }
        let ctx = self.ctx();
        Ok(self.b.ins().load(types::I64, constant(), ctx, offset))
    }

    fn targets(&self) -> &[ProbeTarget] {
        match (self.p.kind, self.m.program.probes.get(self.p.probe_index)) {
            (Some(_), Some(probe)) => &probe.targets,
            _ => &[],
        }
    }

    fn is_usdt(&self) -> bool {
        self.targets()
            .iter()
            .any(|target| target.provider() == ProviderKind::Usdt)
    }

    fn arg(&mut self, n: u32) -> R<Value> {
        if self.is_usdt() {
            return self.usdt_arg(n);
        }
        match self.p.kind {
            Some(ProgramKind::TpBtf | ProgramKind::Fentry | ProgramKind::Fexit) => {
                let ctx = self.ctx();
                let offset = i32::try_from(n).unwrap_or(i32::MAX).saturating_mul(8);
                Ok(self.b.ins().load(types::I64, constant(), ctx, offset))
            }
            _ => match pt_regs::ARGS.get(n as usize) {
                Some(&offset) => self.register(offset, "`argN`"),
                None => self.unsupported(format!("`arg{n}`")),
            },
        }
    }

    fn retval(&mut self) -> R<Value> {
        match self.p.kind {
            Some(ProgramKind::Kprobe | ProgramKind::Uprobe) => {
                self.register(pt_regs::AX, "`retval`")
            }
            _ => self.unsupported("`retval` in this kind of probe"),
        }
    }

    fn is_return_probe(&self) -> bool {
        self.targets().iter().any(|target| {
            matches!(
                target.provider(),
                ProviderKind::Kretprobe | ProviderKind::Uretprobe
            )
        })
    }

    /// The address of the function that is being probed.
    fn func_address(&mut self) -> R<Value> {
        match self.p.kind {
            Some(ProgramKind::Kprobe) => {
                let ret = self.is_return_probe();
                let has_helper = self.feature(Feature::FuncIpKprobe)?;
                self.choose(
                    has_helper,
                    types::I64,
                    |cx| {
                        let ctx = cx.ctx();
                        Ok(cx.call(Helper::GetFuncIp, &[ctx]))
                    },
                    |cx| {
                        if ret {
                            // The registers are those of the caller.
                            return Ok(cx.i64(0));
                        }
                        // The probe's breakpoint has one byte, and the address is behind it.
                        let ip = cx.register(pt_regs::IP, "`func`")?;
                        Ok(cx.add_imm(ip, -1))
                    },
                )
            }
            Some(ProgramKind::Uprobe) => {
                let ip = self.register(pt_regs::IP, "`func`")?;
                if !self.is_return_probe() {
                    return Ok(ip);
                }
                let has_helper = self.feature(Feature::FuncIpKprobe)?;
                self.choose(
                    has_helper,
                    types::I64,
                    |cx| {
                        let ctx = cx.ctx();
                        let found = cx.call(Helper::GetFuncIp, &[ctx]);
                        // Kernels before 6.6 know only kprobes and answer 0.
                        cx.choose(found, types::I64, |_| Ok(found), |_| Ok(ip))
                    },
                    |_| Ok(ip),
                )
            }
            Some(ProgramKind::Fentry | ProgramKind::Fexit) => {
                let has_helper = self.feature(Feature::FuncIpTracing)?;
                self.choose(
                    has_helper,
                    types::I64,
                    |cx| {
                        let ctx = cx.ctx();
                        Ok(cx.call(Helper::GetFuncIp, &[ctx]))
                    },
                    |cx| Ok(cx.i64(0)),
                )
            }
            _ => self.unsupported("`func` in this kind of probe"),
        }
    }

    /// Where something of the probed file is in the process: as far from the probe as in the file. What is
    /// not known is left as it is in the file, which is right for executables that are not relocated.
    pub(super) fn address_in_process(&mut self, in_file: Value) -> R<Value> {
        let here = if self.is_return_probe() {
            let has_helper = self.feature(Feature::FuncIpKprobe)?;
            self.choose(
                has_helper,
                types::I64,
                |cx| {
                    let ctx = cx.ctx();
                    // Kernels before 6.6 know only kprobes and answer 0.
                    Ok(cx.call(Helper::GetFuncIp, &[ctx]))
                },
                |cx| Ok(cx.i64(0)),
            )?
        } else {
            self.register(pt_regs::IP, "`uaddr`")?
        };
        let number = self.target_number()?;
        let map = self.m.special_map(SpecialMap::ProbeAddresses);
        let key = self.temp_word();
        let number = self.resize_int(number, types::I32, false);
        self.store(number, key);
        let (map, key) = (self.map_ptr(map), self.addr_value(key));
        let entry = self.call(Helper::MapLookupElem, &[map, key]);
        self.choose(
            entry,
            types::I64,
            |cx| {
                let probe = cx.load(types::I64, Addr::value(entry, 8), Access::Shared);
                cx.choose(
                    here,
                    types::I64,
                    |cx| {
                        let moved = cx.b.ins().isub(here, probe);
                        Ok(cx.b.ins().iadd(in_file, moved))
                    },
                    |_| Ok(in_file),
                )
            },
            |_| Ok(in_file),
        )
    }

    /// The number of the attached target that fired: its cookie, or a constant in a copy of the program.
    pub(super) fn target_number(&mut self) -> R<Value> {
        self.p.uses_target_number = true;
        let feature = match self.p.kind {
            Some(
                ProgramKind::Kprobe
                | ProgramKind::Uprobe
                | ProgramKind::Tracepoint
                | ProgramKind::PerfEvent,
            ) => Some(Feature::AttachCookie),
            Some(ProgramKind::Fentry | ProgramKind::Fexit | ProgramKind::TpBtf) => {
                Some(Feature::TracingCookie)
            }
            _ => None,
        };
        let patch = self.m.target_number_patch();
        let Some(feature) = feature else {
            return Ok(self.symbol(Symbol::Patch(patch), 0));
        };
        let has_cookies = self.feature(feature)?;
        self.choose(
            has_cookies,
            types::I64,
            |cx| {
                let ctx = cx.ctx();
                Ok(cx.call(Helper::GetAttachCookie, &[ctx]))
            },
            |cx| Ok(cx.symbol(Symbol::Patch(patch), 0)),
        )
    }

    fn usermode(&mut self) -> R<Value> {
        match self.p.kind {
            Some(ProgramKind::Kprobe | ProgramKind::Uprobe | ProgramKind::PerfEvent) => {
                let cs = self.register(pt_regs::CS, "`usermode`")?;
                let mask = self.i64(3);
                let ring = self.b.ins().band(cs, mask);
                let user = self.cmp_imm(IntCC::NotEqual, ring, 0);
                Ok(self.zext64(user))
            }
            Some(ProgramKind::RawTracepointRun) => Ok(self.i64(1)),
            _ => Ok(self.i64(0)),
        }
    }
}
