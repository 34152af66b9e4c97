//! The only unsafe code of the workspace: libbpf and the system calls that the standard library does
//! not wrap.
//!
//! Everything here owns what it opens and releases it on drop, and takes and gives safe types; what
//! a caller can get wrong shows as an error, never as undefined behaviour. One function turns
//! return codes into errors: [`check`].
#![allow(unsafe_code)]

mod btf;
mod btf_dump;
mod child;
pub(crate) mod clock;
mod link;
mod linker;
mod log;
mod map;
// As `cargo xtask build-static` sets it.
#[cfg(unwind_tables_discarded)]
mod no_unwinding;
mod object;
mod packets;
mod perf;
mod prog;
mod ring;
mod sys;

pub(crate) use btf::{Btf, BtfKind, open_module_btf};
pub(crate) use btf_dump::CText;
pub(crate) use child::Child;
pub(crate) use link::{Link, TracingTarget, UprobeMulti};
pub(crate) use linker::Linker;
pub(crate) use log::{capture_log, take_log};
pub(crate) use map::{MapHandle, hash_map_takes_keys_of};
pub(crate) use object::{OpenObject, OtherPrograms, PreparedObject, ProgramParts};
pub(crate) use packets::PacketBuffer;
pub(crate) use perf::{PerfEvent, PerfSpec};
pub(crate) use prog::{
    Insn, LoadFailure, LoadRequest, Program, ProgramType, attach_type, helper_exists, load_program,
    open_program, program_functions,
};
pub(crate) use ring::{Flow, RingBuffer, Wake};
pub use sys::Mapping;
pub(crate) use sys::{
    Epoll, PidFd, SignalPipe, cgroup_id, clock_nanoseconds, is_root, kernel_release,
    mount_detached, page_size, raise_nofile_limit, reset_signal, unlimit_memlock,
};

use std::io;

/// Turns a return code of libbpf (a negative errno) or of a system call (-1 and `errno`) into a result.
fn check(code: i64) -> io::Result<i64> {
    match code {
        0.. => Ok(code),
        -1 => Err(io::Error::last_os_error()),
        _ => Err(io::Error::from_raw_os_error(
            i32::try_from(-code).unwrap_or(libc::EINVAL),
        )),
    }
}

/// As [`check`], for a new file descriptor.
fn check_fd(code: i32) -> io::Result<std::os::fd::OwnedFd> {
    use std::os::fd::FromRawFd as _;
    let fd = check(i64::from(code))?;
    // SAFETY: the call succeeded, so this is an open descriptor that nobody else owns.
    Ok(unsafe { std::os::fd::OwnedFd::from_raw_fd(fd as i32) })
}

/// Text for C; inner NULs become an error.
fn c_string(text: &str) -> io::Result<std::ffi::CString> {
    std::ffi::CString::new(text)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "NUL character in a name"))
}
