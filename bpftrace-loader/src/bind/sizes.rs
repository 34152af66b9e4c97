use bpftrace_meta::{Manifest, MapRole, MapSize};

use super::{Found, Place, Settings, UnwindTables};
use crate::error::LoadError;
use crate::host::Host;

/// Largest ring buffer that is chosen without being asked for, bytes.
const MAX_RING_BUFFER: u64 = 16544 * 1024;
/// Smallest one, bytes.
const MIN_RING_BUFFER: u64 = 256 * 1024;

/// Number of entries of each map, where it is not as compiled; for the ring buffer, bytes.
pub(super) fn entries(
    manifest: &Manifest,
    settings: &Settings,
    targets: &[Found],
    unwind: Option<&UnwindTables>,
    host: &dyn Host,
) -> Result<Vec<Option<u32>>, LoadError> {
    manifest
        .maps
        .iter()
        .map(|map| {
            let entries = match map.size {
                MapSize::Fixed => return Ok(None),
                MapSize::MaxMapKeys => settings.max_map_keys(),
                MapSize::MaxMapKeysTimes(buckets) => {
                    settings.max_map_keys().saturating_mul(u64::from(buckets))
                }
                MapSize::Targets => targets.len() as u64,
                MapSize::Unwind => match (unwind, &map.role) {
                    (Some(tables), MapRole::Unwind(table)) => tables.len(*table) as u64,
                    _ => 0,
                },
                MapSize::RingBuffer => match sent_in_all(manifest, targets) {
                    Some(bytes) if settings.perf_rb_pages() == 0 => {
                        // One byte always stays free (`__bpf_ringbuf_reserve`).
                        let bytes = bytes.saturating_add(1).checked_next_power_of_two();
                        let most = ring_buffer(settings, host)?;
                        bytes.unwrap_or(most).clamp(host.page_size(), most)
                    }
                    _ => ring_buffer(settings, host)?,
                },
            };
            // Hash tables may have 2^31 buckets at most (kernel/bpf/hashtab.c).
            Ok(Some(entries.clamp(1, 1 << 31) as u32))
        })
        .collect()
}

/// Bytes that the whole script sends at most, where that is known: when all there is are probes that
/// run once, and none of them sends from inside of a loop.
fn sent_in_all(manifest: &Manifest, targets: &[Found]) -> Option<u64> {
    let mut sum = 0u64;
    for Found { target, .. } in targets {
        if !matches!(target.place, Place::Begin | Place::End) {
            return None;
        }
        let probe = manifest.probes.get(target.probe.0 as usize)?;
        sum = sum.checked_add(probe.sent_per_run?)?;
    }
    Some(sum)
}

/// Size of the ring buffer in bytes where it is not known what is sent: a power of two and a multiple of the page size.
fn ring_buffer(settings: &Settings, host: &dyn Host) -> Result<u64, LoadError> {
    let page_size = host.page_size();
    let pages = match settings.perf_rb_pages() {
        0 => {
            let available = host.available_memory().unwrap_or(MAX_RING_BUFFER);
            let bytes = available.clamp(MIN_RING_BUFFER, MAX_RING_BUFFER);
            (bytes / page_size).max(1)
        }
        pages => {
            let cpus = host
                .possible_cpus()
                .map_err(|e| LoadError::io("Failed to read the list of CPUs", &e))?;
            pages.max(u64::from(cpus))
        }
    };
    let above = pages.checked_next_power_of_two().unwrap_or(1 << 62);
    let nearest = if above > pages && pages - above / 2 < above - pages {
        above / 2
    } else {
        above
    };
    // The kernel takes rings below 2^32 bytes.
    Ok(nearest.saturating_mul(page_size).min(1 << 31))
}
