/// A software or hardware event of the kernel's perf subsystem, as attach points name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerfEvent {
    /// Its name, then its alias when it has one.
    pub names: &'static [&'static str],
    /// `perf_event_attr.config` (`enum perf_sw_ids`, `enum perf_hw_id` in
    /// include/uapi/linux/perf_event.h).
    pub config: u64,
    /// Sample period when the attach point gives none.
    pub default_period: u64,
}

const fn event(names: &'static [&'static str], config: u64, default_period: u64) -> PerfEvent {
    PerfEvent {
        names,
        config,
        default_period,
    }
}

/// `PERF_TYPE_SOFTWARE`, sorted by name.
pub const SOFTWARE_EVENTS: &[PerfEvent] = &[
    event(&["alignment-faults"], 7, 1),
    event(&["bpf-output"], 10, 1),
    event(&["context-switches", "cs"], 3, 1_000),
    event(&["cpu-clock", "cpu"], 0, 1_000_000),
    event(&["cpu-migrations"], 4, 1),
    event(&["dummy"], 9, 1),
    event(&["emulation-faults"], 8, 1),
    event(&["major-faults"], 6, 1),
    event(&["minor-faults"], 5, 100),
    event(&["page-faults", "faults"], 2, 100),
    event(&["task-clock"], 1, 1),
];

/// `PERF_TYPE_HARDWARE`, sorted by name.
pub const HARDWARE_EVENTS: &[PerfEvent] = &[
    event(&["backend-stalls"], 8, 1_000_000),
    event(&["branch-instructions", "branches"], 4, 100_000),
    event(&["branch-misses"], 5, 100_000),
    event(&["bus-cycles"], 6, 100_000),
    event(&["cache-misses"], 3, 1_000_000),
    event(&["cache-references"], 2, 1_000_000),
    event(&["cpu-cycles", "cycles"], 0, 1_000_000),
    event(&["frontend-stalls"], 7, 1_000_000),
    event(&["instructions"], 1, 1_000_000),
    event(&["ref-cycles"], 9, 1_000_000),
];

impl PerfEvent {
    /// The event of a name or alias in one of the tables.
    #[must_use]
    pub fn find(table: &'static [Self], name: &str) -> Option<&'static Self> {
        table.iter().find(|event| event.names.contains(&name))
    }
}
