use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::ptr::NonNull;

use libbpf_sys as sys;

use super::{check, check_fd};

/// Joins BPF objects into one.
pub(crate) struct Linker {
    linker: NonNull<sys::bpf_linker>,
    /// Where the joined object is written to.
    output: OwnedFd,
}

impl Drop for Linker {
    fn drop(&mut self) {
        // SAFETY: the pointer came from bpf_linker__new_fd and is freed once. It does not own the descriptor.
        unsafe { sys::bpf_linker__free(self.linker.as_ptr()) };
    }
}

impl Linker {
    /// With nothing in it.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: the name is NUL-terminated.
        let output =
            check_fd(unsafe { libc::memfd_create(c"bpf-object".as_ptr(), libc::MFD_CLOEXEC) })?;
        // SAFETY: the descriptor is open and outlives the linker; there are no options.
        let linker =
            unsafe { sys::bpf_linker__new_fd(output.as_fd().as_raw_fd(), std::ptr::null_mut()) };
        match NonNull::new(linker) {
            Some(linker) => Ok(Self { linker, output }),
            None => Err(io::Error::last_os_error()),
        }
    }

    /// Adds an object.
    pub(crate) fn add(&mut self, object: &[u8]) -> io::Result<()> {
        // SAFETY: libbpf copies the bytes, which it does not change, and takes no options.
        let code = unsafe {
            sys::bpf_linker__add_buf(
                self.linker.as_ptr(),
                object.as_ptr().cast_mut().cast(),
                object.len() as u64,
                std::ptr::null(),
            )
        };
        check(i64::from(code)).map(drop)
    }

    /// The joined object.
    pub(crate) fn finish(self) -> io::Result<Vec<u8>> {
        // SAFETY: the linker is finished once, since this takes it.
        check(i64::from(unsafe {
            sys::bpf_linker__finalize(self.linker.as_ptr())
        }))?;
        let mut file = File::from(self.output.try_clone()?);
        file.rewind()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}
