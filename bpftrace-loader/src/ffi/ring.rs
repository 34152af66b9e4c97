use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

use libbpf_sys as sys;

use super::{MapHandle, check};

/// What to do after a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// Take the next one.
    Continue,
    /// Stop consuming.
    Stop,
}

/// The consumer's end of a BPF ring buffer.
pub(crate) struct RingBuffer {
    ring: NonNull<sys::ring_buffer>,
    /// Where `on_record` finds the closure of the running call of `consume`.
    visitor: Box<Cell<Option<NonNull<Visitor<'static>>>>>,
}

type Visitor<'a> = &'a mut dyn FnMut(&[u8]) -> Flow;

unsafe extern "C" fn on_record(context: *mut c_void, data: *mut c_void, size: u64) -> c_int {
    // SAFETY: the context is the cell that the ring buffer was made with, which lives as long.
    let cell = unsafe { &*context.cast::<Cell<Option<NonNull<Visitor<'static>>>>>() };
    let Some(mut visitor) = cell.get() else {
        return 0;
    };
    // SAFETY: the cell points to the closure only during `consume`, which is what calls us, and
    // libbpf hands out `size` readable bytes until we return.
    let flow = unsafe {
        let record = std::slice::from_raw_parts(data.cast::<u8>(), size as usize);
        (visitor.as_mut())(record)
    };
    match flow {
        Flow::Continue => 0,
        Flow::Stop => -libc::ECANCELED,
    }
}

impl RingBuffer {
    /// Maps the ring buffer.
    pub(crate) fn new(map: &MapHandle) -> io::Result<Self> {
        use std::os::fd::AsFd as _;
        let visitor = Box::new(Cell::new(None));
        let context: *const Cell<Option<NonNull<Visitor<'static>>>> = &raw const *visitor;
        // SAFETY: the context is on the heap and is freed after the ring buffer.
        let ring = unsafe {
            sys::ring_buffer__new(
                map.as_fd().as_raw_fd(),
                Some(on_record),
                context.cast_mut().cast(),
                std::ptr::null(),
            )
        };
        let ring = NonNull::new(ring).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { ring, visitor })
    }

    /// Readable when there are records.
    pub(crate) fn epoll_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor belongs to the ring buffer, which outlives the borrow.
        unsafe { BorrowedFd::borrow_raw(sys::ring_buffer__epoll_fd(self.ring.as_ptr())) }
    }

    /// Hands records to `visit`, at most `limit`, until there are none or it says stop. Gives the
    /// number of records taken; after a stop, `None`.
    pub(crate) fn consume(
        &mut self,
        limit: usize,
        visit: &mut dyn FnMut(&[u8]) -> Flow,
    ) -> io::Result<Option<usize>> {
        let mut visitor: Visitor<'_> = visit;
        let pointer = NonNull::from(&mut visitor).cast::<Visitor<'static>>();
        self.visitor.set(Some(pointer));
        // SAFETY: the ring buffer is live; the closure that the cell points to outlives the call.
        let code = unsafe { sys::ring_buffer__consume_n(self.ring.as_ptr(), limit as u64) };
        self.visitor.set(None);
        match check(i64::from(code)) {
            Ok(n) => Ok(Some(n as usize)),
            Err(e) if e.raw_os_error() == Some(libc::ECANCELED) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

impl Drop for RingBuffer {
    fn drop(&mut self) {
        // SAFETY: made by ring_buffer__new and freed once.
        unsafe { sys::ring_buffer__free(self.ring.as_ptr()) };
    }
}
