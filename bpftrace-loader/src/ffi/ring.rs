use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use super::{MapHandle, page_size};

/// Bytes of the buffer that are mapped at a time, if records do not need more.
const WINDOW: u64 = 256 * 1024;

/// The record's program has not submitted it yet (`BPF_RINGBUF_BUSY_BIT`, linux/bpf.h).
const BUSY: u32 = 1 << 31;
/// Its program decided not to send it (`BPF_RINGBUF_DISCARD_BIT`).
const DISCARDED: u32 = 1 << 30;
/// Bytes in front of every record (`BPF_RINGBUF_HDR_SZ`): its length with the two bits above, and a
/// number of the kernel's own.
const HEADER: u64 = 8;

/// What to do after a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// Take the next one.
    Continue,
    /// Stop consuming.
    Stop,
}

/// What programs have to do for the next record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// Make the ring buffer readable, waking who waits for that.
    Yes,
    /// Nothing, if any record has been taken: the consumer comes back by itself, soon. Waking costs a
    /// program more than all the rest that it does.
    No,
}

/// The consumer's end of a BPF ring buffer.
///
/// The kernel offers a file of pages: the consumer's position, the producer's position, and the data
/// twice in a row, so that a record that wraps around is in one piece (`bpf_ringbuf_area_alloc` in
/// kernel/bpf/ringbuf.c). Whatever is mapped is put into the page tables at once and counts as
/// resident memory, twice for the whole buffer. Hence only a window of the data is mapped, and moves
/// along with the consumer.
pub(crate) struct RingBuffer<'a> {
    map: &'a MapHandle,
    positions: Positions,
    window: Option<Window>,
    /// Bytes of the data; a power of two.
    size: u64,
    /// Everything before this has been consumed; the kernel is told by and by.
    consumed: u64,
    page_size: u64,
}

/// Pages of the file.
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    fn new(map: &MapHandle, range: Range<u64>, writable: bool) -> io::Result<Self> {
        let protection = if writable {
            libc::PROT_READ | libc::PROT_WRITE
        } else {
            libc::PROT_READ
        };
        let len = (range.end - range.start) as usize;
        // SAFETY: the kernel chooses the address, so that nothing that is mapped goes away.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                protection,
                libc::MAP_SHARED,
                map.as_fd().as_raw_fd(),
                range.start as libc::off_t,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { start, len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by mmap with this length, and nobody refers to it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// The two counters that the kernel shares with us. They only grow; modulo the size they are places
/// in the data.
struct Positions {
    consumer: Mapping,
    producer: Mapping,
}

impl Positions {
    fn consumer(&self) -> &AtomicU64 {
        // SAFETY: the page begins with the position, is writable and lives as long as we do; both
        // sides access it atomically.
        unsafe { self.consumer.start.cast::<AtomicU64>().as_ref() }
    }

    fn producer(&self) -> &AtomicU64 {
        // SAFETY: as above; only loaded, for the page is not writable.
        unsafe { self.producer.start.cast::<AtomicU64>().as_ref() }
    }
}

/// A part of the data (both copies counted), in bytes from their start.
struct Window {
    range: Range<u64>,
    pages: Mapping,
}

/// What is at a place in the data.
enum Next<'a> {
    Record(&'a [u8]),
    Discarded,
    /// Nothing yet: it is being written, or has not been begun.
    Nothing,
}

impl<'a> RingBuffer<'a> {
    /// Maps the positions.
    pub(crate) fn new(map: &'a MapHandle) -> io::Result<Self> {
        let page_size = page_size();
        let positions = Positions {
            consumer: Mapping::new(map, 0..page_size, true)?,
            producer: Mapping::new(map, page_size..2 * page_size, false)?,
        };
        let consumed = positions.consumer().load(Ordering::Acquire);
        Ok(Self {
            map,
            positions,
            window: None,
            size: u64::from(map.max_entries()),
            consumed,
            page_size,
        })
    }

    /// Readable when there are records.
    pub(crate) fn epoll_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }

    /// Where the next record will be begun; positions only grow.
    pub(crate) fn produced(&self) -> u64 {
        self.positions.producer().load(Ordering::Acquire)
    }

    /// Bytes of the data.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Everything before this position has been taken.
    pub(crate) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Hands records to `visit`, at most `limit`, until there are none or it says stop. Gives the
    /// number of records taken; after a stop, `None`.
    pub(crate) fn consume(
        &mut self,
        limit: usize,
        wake: Wake,
        visit: &mut dyn FnMut(&[u8]) -> Flow,
    ) -> io::Result<Option<usize>> {
        let result = self.consume_until(limit, wake, visit);
        if wake == Wake::Yes || !matches!(result, Ok(Some(_))) {
            self.tell();
        }
        result
    }

    fn consume_until(
        &mut self,
        limit: usize,
        wake: Wake,
        visit: &mut dyn FnMut(&[u8]) -> Flow,
    ) -> io::Result<Option<usize>> {
        // The kernel is told of small steps only together: each one costs all CPUs a cache miss.
        let step = self.size / 16;
        let mut told = self.told();
        let mut produced = self.consumed;
        let mut n = 0;
        while n < limit {
            let consumed = self.consumed;
            if produced <= consumed {
                produced = self.produced();
            }
            let (next, len) = if consumed < produced {
                self.next()?
            } else {
                (Next::Nothing, 0)
            };
            let flow = match next {
                Next::Nothing if told == consumed => break,
                // Programs wake only a consumer that is known to have taken everything.
                Next::Nothing if wake == Wake::No && n > 0 => break,
                Next::Nothing => {
                    // A program wakes us for a record only if everything before it has been consumed
                    // when it is submitted. So tell how far we are, and look once more, in this
                    // order.
                    self.tell();
                    told = consumed;
                    fence(Ordering::SeqCst);
                    continue;
                }
                Next::Discarded => Flow::Continue,
                Next::Record(record) => {
                    n += 1;
                    visit(record)
                }
            };
            self.consumed = consumed + (HEADER + len).next_multiple_of(8);
            if flow == Flow::Stop {
                return Ok(None);
            }
            if self.consumed - told >= step {
                self.tell();
                told = self.consumed;
            }
        }
        Ok(Some(n))
    }

    /// Where the programs think that we are.
    fn told(&self) -> u64 {
        self.positions.consumer().load(Ordering::Relaxed)
    }

    /// Gives room back to the programs.
    fn tell(&self) {
        let position = self.positions.consumer();
        position.store(self.consumed, Ordering::Release);
    }

    /// What is at the consumer's position, which is before the producer's, and its length.
    fn next(&mut self) -> io::Result<(Next<'_>, u64)> {
        let at = self.consumed & (self.size - 1);
        let header = self.bytes(at, HEADER)?;
        // SAFETY: the range is mapped, and headers are aligned to 8 bytes. The kernel writes the word
        // atomically.
        let word = unsafe { header.cast::<AtomicU32>().as_ref() }.load(Ordering::Acquire);
        let len = u64::from(word & !(BUSY | DISCARDED));
        if word & BUSY != 0 {
            return Ok((Next::Nothing, len));
        }
        if word & DISCARDED != 0 {
            return Ok((Next::Discarded, len));
        }
        if HEADER + len > self.size {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a record is longer than the ring buffer",
            ));
        }
        let record = self.bytes(at + HEADER, len)?;
        // SAFETY: the range is mapped until the window moves, for which `self` is needed. The record
        // is submitted: programs leave it alone until the consumer's position is behind it.
        let record = unsafe { std::slice::from_raw_parts(record.as_ptr(), len as usize) };
        Ok((Next::Record(record), len))
    }

    /// Where `len` bytes of the data are, mapped. They are one range of the two copies.
    fn bytes(&mut self, at: u64, len: u64) -> io::Result<NonNull<u8>> {
        let (pages, start) = match &self.window {
            Some(w) if w.range.start <= at && at + len <= w.range.end => (&w.pages, w.range.start),
            _ => {
                // The old pages first: the two together are more than was promised.
                self.window = None;
                let range = window(at, len, self.size, self.page_size);
                let file = 2 * self.page_size + range.start..2 * self.page_size + range.end;
                let pages = Mapping::new(self.map, file, false)?;
                let start = range.start;
                (&self.window.insert(Window { range, pages }).pages, start)
            }
        };
        // SAFETY: the offset is inside of the mapping, as was checked or arranged above.
        Ok(unsafe { pages.start.add((at - start) as usize) })
    }
}

/// The pages to map for `len` bytes at `at`.
fn window(at: u64, len: u64, size: u64, page_size: u64) -> Range<u64> {
    let start = at - at % page_size;
    let needed = (at + len).next_multiple_of(page_size);
    start..needed.max(start + WINDOW).min(2 * size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_holds_what_is_asked_for_and_stays_inside_of_both_copies() {
        let (size, page) = (16 << 20, 4096);
        assert_eq!(window(0, 8, size, page), 0..WINDOW);
        assert_eq!(window(4095, 2, size, page), 0..WINDOW);
        assert_eq!(window(4096, 8, size, page), 4096..4096 + WINDOW);
        assert_eq!(window(8, WINDOW, size, page), 0..WINDOW + 4096);
        assert_eq!(
            window(size - 8, size, size, page),
            size - 4096..2 * size,
            "the longest record at the very end"
        );
        assert_eq!(window(4088, 8, 4096, page), 0..8192, "a buffer of one page");
    }
}
