use bpftrace_meta::Period;

/// A period as probe names have it: unit and number.
pub(super) fn text(period: Period) -> String {
    match period {
        Period::Hertz(n) => format!("hz:{n}"),
        Period::Seconds(n) => format!("s:{n}"),
        Period::Milliseconds(n) => format!("ms:{n}"),
        Period::Microseconds(n) => format!("us:{n}"),
    }
}
