use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

use libbpf_sys as sys;

use super::{MapHandle, check};

/// Pages of the buffer of each CPU.
const PAGES: u64 = 64;

/// The consumer's end of a perf event array: a buffer for each CPU.
pub(crate) struct PacketBuffer {
    buffer: NonNull<sys::perf_buffer>,
    /// What the callbacks write to during [`Self::consume`]. It is theirs alone while libbpf runs.
    taken: NonNull<Taken>,
}

#[derive(Default)]
struct Taken {
    records: Vec<Vec<u8>>,
    n_lost: u64,
}

unsafe extern "C" fn on_record(context: *mut c_void, _cpu: c_int, data: *mut c_void, size: u32) {
    // SAFETY: the context is what the buffer was made with, and lives as long; nobody else touches it
    // while libbpf runs, and `size` bytes of data are readable until we return.
    unsafe {
        let record = std::slice::from_raw_parts(data.cast::<u8>(), size as usize);
        (*context.cast::<Taken>()).records.push(record.to_vec());
    }
}

unsafe extern "C" fn on_lost(context: *mut c_void, _cpu: c_int, n_lost: u64) {
    // SAFETY: as in `on_record`.
    unsafe { (*context.cast::<Taken>()).n_lost += n_lost };
}

impl PacketBuffer {
    /// Opens and maps the buffers of all CPUs.
    pub(crate) fn new(map: &MapHandle) -> io::Result<Self> {
        use std::os::fd::AsFd as _;
        let taken = NonNull::from(Box::leak(Box::<Taken>::default()));
        // SAFETY: the context is on the heap and is freed after the buffers; no options are given.
        let buffer = unsafe {
            sys::perf_buffer__new(
                map.as_fd().as_raw_fd(),
                PAGES,
                Some(on_record),
                Some(on_lost),
                taken.as_ptr().cast(),
                std::ptr::null(),
            )
        };
        match NonNull::new(buffer) {
            Some(buffer) => Ok(Self { buffer, taken }),
            None => {
                let error = io::Error::last_os_error();
                // SAFETY: it came from a box, and libbpf has failed to take it.
                drop(unsafe { Box::from_raw(taken.as_ptr()) });
                Err(error)
            }
        }
    }

    /// Readable when there are records.
    pub(crate) fn epoll_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor belongs to the buffers, which outlive the borrow.
        unsafe { BorrowedFd::borrow_raw(sys::perf_buffer__epoll_fd(self.buffer.as_ptr())) }
    }

    /// Takes all records that are there. Gives them, and how many found their buffer full.
    pub(crate) fn consume(&mut self) -> io::Result<(Vec<Vec<u8>>, u64)> {
        // SAFETY: the buffers are live.
        let code = unsafe { sys::perf_buffer__consume(self.buffer.as_ptr()) };
        check(i64::from(code))?;
        // SAFETY: libbpf has returned, so that the callbacks are done with it.
        let taken = std::mem::take(unsafe { self.taken.as_mut() });
        Ok((taken.records, taken.n_lost))
    }
}

impl Drop for PacketBuffer {
    fn drop(&mut self) {
        // SAFETY: made by perf_buffer__new and freed once; the context is not used after that.
        unsafe {
            sys::perf_buffer__free(self.buffer.as_ptr());
            drop(Box::from_raw(self.taken.as_ptr()));
        }
    }
}
