//! BPF's registers and their roles.

use regalloc2::{MachineEnv, PReg, PRegSet, RegClass};
use std::fmt;

/// A BPF register, r0 to r10.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reg(u8);

impl Reg {
    /// Result of calls and of the program.
    pub const R0: Reg = Reg(0);
    /// The frame pointer; read only.
    pub const FP: Reg = Reg(10);

    /// The register with this number; `None` above 10.
    pub const fn new(number: u8) -> Option<Reg> {
        if number <= 10 {
            Some(Reg(number))
        } else {
            None
        }
    }

    /// The register's number, 0 to 10.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// The register that holds argument `idx` of a call (r1 to r5); `None` from 5 on.
    pub const fn argument(idx: usize) -> Option<Reg> {
        if idx < 5 {
            Some(Reg(idx as u8 + 1))
        } else {
            None
        }
    }

    pub(super) const fn preg(self) -> PReg {
        PReg::new(self.0 as usize, RegClass::Int)
    }

    pub(super) fn from_preg(preg: PReg) -> Reg {
        Reg(preg.hw_enc() as u8)
    }
}

impl fmt::Display for Reg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

impl fmt::Debug for Reg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// r1 to r5: gone after every call.
pub(super) fn call_clobbers() -> PRegSet {
    let mut set = PRegSet::empty();
    for number in 1..=5 {
        set.add(Reg(number).preg());
    }
    set
}

/// What regalloc2 may hand out: r0 to r5 first, then r6 to r9, which survive calls. The kernel saves
/// r6 to r9 around calls between BPF functions, so no function has a prologue.
pub(super) fn machine_env() -> MachineEnv {
    let mut preferred = PRegSet::empty();
    for number in 0..=5 {
        preferred.add(Reg(number).preg());
    }
    let mut non_preferred = PRegSet::empty();
    for number in 6..=9 {
        non_preferred.add(Reg(number).preg());
    }
    MachineEnv {
        preferred_regs_by_class: [preferred, PRegSet::empty(), PRegSet::empty()],
        non_preferred_regs_by_class: [non_preferred, PRegSet::empty(), PRegSet::empty()],
        scratch_by_class: [None, None, None],
        fixed_stack_slots: Vec::new(),
    }
}
