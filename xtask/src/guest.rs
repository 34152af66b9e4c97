//! Virtual machines with real kernels, under QEMU's software emulation.
//!
//! ```text
//!   Debian package ─▶ kernel ─▶ vmlinuz ─┐
//!   busybox, agent, bpftrace ─▶ rootfs ──┴─▶ machine: QEMU ◀── frames over a serial port ──▶ agent
//!   job: [Task] ──▶ in the rootfs            Report, Report, …                       case
//! ```
//!
//! A guest is booted for a job, a list of tasks; it does them in order, reports, and powers off.
//! Nothing here judges results, and nothing depends on KVM. Read [`protocol`] first.

pub(crate) mod agent;
pub(crate) mod case;
mod cpio;
pub(crate) mod kernel;
pub(crate) mod machine;
pub(crate) mod protocol;
pub(crate) mod rootfs;
mod terminal;
