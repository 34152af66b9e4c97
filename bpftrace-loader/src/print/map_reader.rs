use std::io;

use bpftrace_meta::MapId;

/// Access to the maps of a loaded script, by their index in [`bpftrace_meta::Manifest::maps`].
///
/// Printing and aggregating is written against this trait, so that it is tested without a kernel.
/// Errors are those of the `bpf` system call. An entry that a BPF program removes while the map is
/// read is skipped, not an error.
pub trait MapReader {
    /// Calls `visit` with the key and the value of every entry, in the kernel's order.
    ///
    /// For a per-CPU map the value is the cells of all possible CPUs one after the other, each
    /// padded to a multiple of 8 bytes (the form in which the kernel returns it). For other maps it
    /// is exactly the map's value.
    fn for_each_entry(&mut self, map: MapId, visit: &mut dyn FnMut(&[u8], &[u8]))
    -> io::Result<()>;

    /// Deletes all entries.
    fn clear(&mut self, map: MapId) -> io::Result<()>;

    /// Sets the value of every entry to zero bytes, on every CPU; keys stay.
    fn zero(&mut self, map: MapId) -> io::Result<()>;
}
