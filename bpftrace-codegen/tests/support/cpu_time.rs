//! What something costs: time of the processor, which other tests and processes have no part in.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The time that the processor has spent on this thread.
pub(crate) fn of_thread() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
