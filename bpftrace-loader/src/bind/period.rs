use bpftrace_meta::Period;

/// A period as probe names have it: unit and number, in the largest unit that needs no fraction.
pub(super) fn text(period: Period) -> String {
    match period {
        Period::Hertz(hertz) => format!("hz:{hertz}"),
        Period::Nanoseconds(ns) => {
            for (unit, factor) in [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000)] {
                if ns >= factor && ns.is_multiple_of(factor) {
                    return format!("{unit}:{}", ns / factor);
                }
            }
            ns.to_string()
        }
    }
}
