use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use libbpf_sys as sys;

use super::check;

/// Entries that one batch system call is asked for at first.
const BATCH: u32 = 256;

/// `ENOTSUPP` of the kernel, which has no name in user space.
const ENOTSUPP: i32 = 524;

/// A map in the kernel, with the sizes that its buffers need.
pub(crate) struct MapHandle {
    fd: OwnedFd,
    key_size: usize,
    /// Bytes of an entry's value as user space sees it: of all CPUs, for a per-CPU map.
    value_size: usize,
    max_entries: u32,
    batches: bool,
}

impl MapHandle {
    pub(super) fn new(
        fd: OwnedFd,
        kind: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        possible_cpus: u32,
    ) -> io::Result<Self> {
        let per_cpu = matches!(
            kind,
            sys::BPF_MAP_TYPE_PERCPU_HASH
                | sys::BPF_MAP_TYPE_PERCPU_ARRAY
                | sys::BPF_MAP_TYPE_LRU_PERCPU_HASH
        );
        let value_size = value_size as usize;
        let value_size = if per_cpu {
            value_size.next_multiple_of(8) * possible_cpus as usize
        } else {
            value_size
        };
        let batches = matches!(
            kind,
            sys::BPF_MAP_TYPE_HASH
                | sys::BPF_MAP_TYPE_PERCPU_HASH
                | sys::BPF_MAP_TYPE_LRU_HASH
                | sys::BPF_MAP_TYPE_LRU_PERCPU_HASH
        );
        Ok(Self {
            fd,
            key_size: key_size as usize,
            value_size,
            max_entries,
            batches,
        })
    }

    /// Number of entries; bytes, for a ring buffer.
    pub(crate) fn max_entries(&self) -> u32 {
        self.max_entries
    }

    /// Bytes of a value, of all possible CPUs for a per-CPU map.
    pub(crate) fn value_size(&self) -> usize {
        self.value_size
    }

    /// The value of a key, or `None`.
    pub(crate) fn lookup(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.check_key(key)?;
        let mut value = vec![0u8; self.value_size];
        // SAFETY: the key and the value are as long as the kernel reads and writes for this map.
        let code = unsafe {
            sys::bpf_map_lookup_elem(
                self.fd.as_raw_fd(),
                key.as_ptr().cast(),
                value.as_mut_ptr().cast(),
            )
        };
        match check(i64::from(code)) {
            Ok(_) => Ok(Some(value)),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Sets the value of a key.
    pub(crate) fn update(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.check_key(key)?;
        if value.len() != self.value_size {
            return Err(wrong_size());
        }
        // SAFETY: the key and the value are as long as the kernel reads for this map.
        check(i64::from(unsafe {
            sys::bpf_map_update_elem(
                self.fd.as_raw_fd(),
                key.as_ptr().cast(),
                value.as_ptr().cast(),
                u64::from(sys::BPF_ANY),
            )
        }))?;
        Ok(())
    }

    /// Sets the entries of an array from the first on.
    pub(crate) fn update_array<const N: usize>(
        &self,
        values: impl Iterator<Item = [u8; N]>,
    ) -> io::Result<()> {
        if (self.key_size, self.value_size) != (4, N) {
            return Err(wrong_size());
        }
        let opts = sys::bpf_map_batch_opts {
            sz: size_of::<sys::bpf_map_batch_opts>() as u64,
            ..Default::default()
        };
        let mut values = (0u32..).zip(values).peekable();
        while values.peek().is_some() {
            let (keys, values): (Vec<u32>, Vec<[u8; N]>) = values.by_ref().take(4096).unzip();
            let mut count = keys.len() as u32;
            // SAFETY: there are as many keys and values as `count` says, of the map's sizes.
            check(i64::from(unsafe {
                sys::bpf_map_update_batch(
                    self.fd.as_raw_fd(),
                    keys.as_ptr().cast(),
                    values.as_ptr().cast(),
                    &mut count,
                    &opts,
                )
            }))?;
        }
        Ok(())
    }

    fn delete(&self, key: &[u8]) -> io::Result<()> {
        self.check_key(key)?;
        // SAFETY: the key is as long as the kernel reads for this map.
        let code = unsafe { sys::bpf_map_delete_elem(self.fd.as_raw_fd(), key.as_ptr().cast()) };
        match check(i64::from(code)) {
            Err(e) if e.raw_os_error() != Some(libc::ENOENT) => Err(e),
            _ => Ok(()),
        }
    }

    fn check_key(&self, key: &[u8]) -> io::Result<()> {
        if key.len() == self.key_size {
            Ok(())
        } else {
            Err(wrong_size())
        }
    }

    /// The key behind `key` in the kernel's order; `None`: the first.
    fn next_key(&self, key: Option<&[u8]>) -> io::Result<Option<Vec<u8>>> {
        let mut next = vec![0u8; self.key_size];
        // SAFETY: both keys are as long as the kernel reads and writes for this map.
        let code = unsafe {
            sys::bpf_map_get_next_key(
                self.fd.as_raw_fd(),
                key.map_or(std::ptr::null(), |k| k.as_ptr().cast()),
                next.as_mut_ptr().cast(),
            )
        };
        match check(i64::from(code)) {
            Ok(_) => Ok(Some(next)),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// All keys.
    fn keys(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        while let Some(key) = self.next_key(keys.last().map(Vec::as_slice))? {
            keys.push(key);
            // A key that is deleted under our feet starts the walk anew; do not walk forever.
            if keys.len() > 2 * self.max_entries as usize {
                break;
            }
        }
        keys.sort_unstable();
        keys.dedup();
        Ok(keys)
    }

    /// Calls `visit` with key and value of every entry.
    pub(crate) fn for_each(&self, visit: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<()> {
        if self.batches {
            match self.for_each_in_batches(visit) {
                Err(e)
                    if matches!(
                        e.raw_os_error(),
                        Some(libc::EINVAL | libc::EOPNOTSUPP | ENOTSUPP)
                    ) => {}
                done => return done,
            }
        }
        for key in self.keys()? {
            if let Some(value) = self.lookup(&key)? {
                visit(&key, &value);
            }
        }
        Ok(())
    }

    /// As [`Self::for_each`], with several entries in a system call (5.6; per-CPU hashes too). Fails
    /// with one of the "not supported" errors before the first visit, or not with those.
    fn for_each_in_batches(&self, visit: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<()> {
        let mut capacity = BATCH.min(self.max_entries).max(1);
        // The cursor is a bucket number for hashes and a key for others.
        let mut cursor = vec![0u8; self.key_size.max(8)];
        let mut next = cursor.clone();
        let mut first = true;
        let mut keys = Vec::new();
        let mut values = Vec::new();
        let opts = sys::bpf_map_batch_opts {
            sz: size_of::<sys::bpf_map_batch_opts>() as u64,
            ..Default::default()
        };
        loop {
            keys.resize(capacity as usize * self.key_size, 0);
            values.resize(capacity as usize * self.value_size, 0);
            let mut count = capacity;
            // SAFETY: the cursors hold at least a key or a bucket number, and the buffers hold
            // `count` keys and values.
            let code = unsafe {
                sys::bpf_map_lookup_batch(
                    self.fd.as_raw_fd(),
                    if first {
                        std::ptr::null_mut()
                    } else {
                        cursor.as_mut_ptr().cast()
                    },
                    next.as_mut_ptr().cast(),
                    keys.as_mut_ptr().cast(),
                    values.as_mut_ptr().cast(),
                    &mut count,
                    &opts,
                )
            };
            let last = match check(i64::from(code)) {
                Ok(_) => false,
                Err(e) => match e.raw_os_error() {
                    Some(libc::ENOENT) => true,
                    // One bucket has more entries than we have room for.
                    Some(libc::ENOSPC) => {
                        capacity = capacity.saturating_mul(2);
                        if capacity > self.max_entries.saturating_mul(2).max(BATCH * 2) {
                            return Err(e);
                        }
                        continue;
                    }
                    Some(libc::EINTR) => continue,
                    _ => return Err(e),
                },
            };
            let n = count.min(capacity) as usize;
            for i in 0..n {
                visit(
                    &keys[i * self.key_size..][..self.key_size],
                    &values[i * self.value_size..][..self.value_size],
                );
            }
            if last {
                return Ok(());
            }
            std::mem::swap(&mut cursor, &mut next);
            first = false;
        }
    }

    /// Deletes all entries.
    pub(crate) fn clear(&self) -> io::Result<()> {
        for key in self.keys()? {
            self.delete(&key)?;
        }
        Ok(())
    }

    /// Sets all values to zero; keys stay.
    pub(crate) fn zero(&self) -> io::Result<()> {
        let value = vec![0u8; self.value_size];
        for key in self.keys()? {
            self.update(&key, &value)?;
        }
        Ok(())
    }
}

/// Whether the kernel makes hash maps with keys of so many bytes.
pub(crate) fn hash_map_takes_keys_of(bytes: u32) -> bool {
    // SAFETY: there are no options and the name is NUL-terminated.
    let fd = unsafe {
        sys::bpf_map_create(
            sys::BPF_MAP_TYPE_HASH,
            c"probe_large_key".as_ptr(),
            bytes,
            8,
            1,
            std::ptr::null(),
        )
    };
    super::check_fd(fd).is_ok()
}

impl AsFd for MapHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn wrong_size() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "wrong size of a map's key or value",
    )
}
