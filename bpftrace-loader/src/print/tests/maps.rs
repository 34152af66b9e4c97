use std::fs;
use std::path::PathBuf;

use bpftrace_meta::{AggKind, EventKind, MapId, MapMeta, MapValue, TseriesAgg, ValueLayout};

use super::{
    FakeMaps, aggregate, event, field, int, json, manifest, printer, record, script_map, words,
};
use crate::print::{CaptureSink, PrinterOptions, Sink};

/// Compares with a file beside the tests; `BLESS=1` writes the file instead.
fn check_golden(name: &str, actual: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("src/print/tests/golden")
        .join(name);
    if std::env::var_os("BLESS").is_some() {
        fs::create_dir_all(path.parent().expect("has one")).expect("created");
        fs::write(&path, actual).expect("written");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(actual, expected, "{name}; BLESS=1 writes it anew");
}

/// Key and value bytes of entries.
type Entries = Vec<(Vec<u8>, Vec<u8>)>;

fn fake(entries: &Entries) -> FakeMaps {
    let mut maps = FakeMaps::default();
    maps.maps.insert(0, entries.iter().cloned().collect());
    maps
}

/// What `print` with arguments, and what the end of the run says about a map.
fn say(map: MapMeta, entries: &Entries, top: u64, div: u64, sink: &mut dyn Sink) {
    let mut manifest = manifest();
    manifest.maps = vec![map];
    let map = MapId(0);
    manifest.events = vec![event(EventKind::PrintMap { map, top, div }, vec![])];
    printer(&manifest, PrinterOptions::default())
        .handle(&record(0, &[]), &mut fake(entries), sink)
        .expect("written");
}

fn text(map: MapMeta, entries: &Entries, top: u64, div: u64) -> String {
    let mut sink = CaptureSink::default();
    say(map, entries, top, div, &mut sink);
    assert_eq!(sink.messages, b"");
    String::from_utf8(sink.output).expect("UTF-8")
}

fn at_exit(maps: Vec<MapMeta>, entries: &[Entries], sink: &mut dyn Sink) {
    let mut manifest = manifest();
    manifest.maps = maps;
    let mut fake = FakeMaps::default();
    for (id, entries) in (0..).zip(entries) {
        fake.maps.insert(id, entries.iter().cloned().collect());
    }
    printer(&manifest, PrinterOptions::default())
        .finish(&mut fake, sink)
        .expect("written");
}

/// Entries of single integers.
fn entries(pairs: &[(i64, &[i64])]) -> Entries {
    pairs
        .iter()
        .map(|(key, cells)| {
            let cells: Vec<u64> = cells.iter().map(|cell| *cell as u64).collect();
            (key.to_le_bytes().to_vec(), words(&cells))
        })
        .collect()
}

#[test]
fn aggregations_merge_their_cells() {
    let key = || Some(int(8, true));
    let signed = true;
    for (kind, cells, expected) in [
        (AggKind::Count, vec![1, 0, 5], "@[7]: 6\n"),
        (AggKind::Sum { signed }, vec![-3, 1], "@[7]: -2\n"),
        (
            AggKind::Sum { signed: false },
            vec![-3, 1],
            "@[7]: 18446744073709551614\n",
        ),
        // Value and is-set flag; cells that are not set do not count.
        (
            AggKind::Min { signed },
            vec![5, 1, -3, 1, -9, 0],
            "@[7]: -3\n",
        ),
        (
            AggKind::Max { signed },
            vec![5, 1, -3, 1, 90, 0],
            "@[7]: 5\n",
        ),
        (
            AggKind::Max { signed: false },
            vec![5, 1, -1, 1],
            "@[7]: 18446744073709551615\n",
        ),
        (AggKind::Min { signed }, vec![4, 0], "@[7]: 0\n"),
        // Total and count.
        (AggKind::Avg { signed }, vec![-7, 1, -2, 1], "@[7]: -4\n"),
        (AggKind::Avg { signed }, vec![0, 0], "@[7]: 0\n"),
        (
            AggKind::Stats { signed },
            vec![4, 2, 2, 1],
            "@[7]: { .count = 3, .average = 2, .total = 6 }\n",
        ),
    ] {
        let entries = entries(&[(7, &cells)]);
        assert_eq!(
            text(aggregate("@", key(), kind.clone()), &entries, 0, 0),
            expected,
            "{kind:?}"
        );
    }
}

#[test]
fn order_top_and_div() {
    let key = || Some(int(8, true));
    let plain = |layout| script_map("@a", key(), MapValue::Plain(layout));
    let three = entries(&[(1, &[30]), (2, &[-10]), (3, &[20])]);
    // Integers by value, also those narrower than a word.
    assert_eq!(
        text(plain(int(8, true)), &three, 0, 0),
        "@a[2]: -10\n@a[3]: 20\n@a[1]: 30\n"
    );
    let narrow: Entries = three
        .iter()
        .map(|(key, value)| (key.clone(), value[..1].to_vec()))
        .collect();
    assert_eq!(
        text(plain(int(1, true)), &narrow, 0, 0),
        "@a[2]: -10\n@a[3]: 20\n@a[1]: 30\n"
    );
    assert_eq!(
        text(plain(int(8, true)), &three, 2, 0),
        "@a[3]: 20\n@a[1]: 30\n"
    );
    assert_eq!(
        text(plain(int(8, true)), &three, 9, 10),
        "@a[2]: -1\n@a[3]: 2\n@a[1]: 3\n"
    );
    // Other values by key.
    assert_eq!(
        text(plain(ValueLayout::Pointer), &three, 1, 7),
        "@a[3]: 0x14\n"
    );
    // Extremes compare as unsigned.
    let extremes = entries(&[(1, &[-1, 1]), (2, &[5, 1])]);
    let max = aggregate("@a", key(), AggKind::Max { signed: true });
    assert_eq!(text(max, &extremes, 0, 0), "@a[2]: 5\n@a[1]: -1\n");
    // Averages by average; their division comes after the merge.
    let averages = entries(&[(1, &[90, 3]), (2, &[20, 1]), (3, &[80, 1])]);
    let avg = |signed| aggregate("@a", key(), AggKind::Avg { signed });
    assert_eq!(text(avg(true), &averages, 2, 10), "@a[1]: 3\n@a[3]: 8\n");
    // Of `stats` maps only averages are divided, whatever the compiler says.
    let stats = aggregate("@a", key(), AggKind::Stats { signed: false });
    assert_eq!(
        text(stats, &averages, 1, 10),
        "@a[3]: { .count = 1, .average = 8, .total = 80 }\n"
    );
    // Integers inside a tuple are divided too.
    let pair = ValueLayout::Tuple {
        fields: vec![field("", 0, int(8, true)), field("", 8, ValueLayout::Bool)],
        size: 16,
    };
    let tuples = entries(&[(1, &[100, 1])]);
    assert_eq!(text(plain(pair), &tuples, 0, 10), "@a[1]: (10, true)\n");
}

#[test]
fn keys_sort_field_by_field() {
    let key = ValueLayout::Tuple {
        fields: vec![
            field("", 0, ValueLayout::Str { size: 4 }),
            field("", 4, int(4, true)),
        ],
        size: 8,
    };
    let map = script_map("@x", Some(key), MapValue::Plain(ValueLayout::Bool));
    let entry =
        |name: &[u8; 4], number: i32| ([&name[..], &number.to_le_bytes()].concat(), vec![1]);
    let entries = vec![
        entry(b"b\0\0\0", -1),
        entry(b"a\0\0\0", 2),
        entry(b"a\0\0\0", -2),
    ];
    assert_eq!(
        text(map.clone(), &entries, 0, 0),
        "@x[a, -2]: true\n@x[a, 2]: true\n@x[b, -1]: true\n"
    );
    assert_eq!(
        json(|sink| say(map, &entries, 0, 0, sink)),
        "{\"type\": \"map\", \"data\": {\"@x\": {\"a,-2\": true, \"a,2\": true, \"b,-1\": true}}}\n"
    );
}

#[test]
fn scalars_and_empty_maps() {
    let plain = |layout| script_map("@s", None, MapValue::Plain(layout));
    let scalar = entries(&[(0, &[5])]);
    assert_eq!(text(plain(int(8, true)), &scalar, 0, 0), "@s: 5\n");
    let none = Entries::new();
    let stats = || aggregate("@s", None, AggKind::Stats { signed: true });
    for (map, shown, shown_json) in [
        (
            plain(int(8, true)),
            "@s: 0\n",
            "{\"type\": \"map\", \"data\": {\"@s\": 0}}\n",
        ),
        (
            plain(ValueLayout::Str { size: 8 }),
            "@s: \n",
            "{\"type\": \"map\", \"data\": {\"@s\": \"\"}}\n",
        ),
        (
            aggregate("@s", None, AggKind::Count),
            "@s: 0\n",
            "{\"type\": \"map\", \"data\": {\"@s\": 0}}\n",
        ),
        (
            stats(),
            "@s: { .count = 0, .average = 0, .total = 0 }\n",
            "{\"type\": \"stats\", \"data\": {\"@s\": {\"count\": 0, \"average\": 0, \"total\": 0}}}\n",
        ),
        (aggregate("@s", None, AggKind::Hist { bits: 0 }), "", ""),
        (aggregate("@s", Some(int(8, true)), AggKind::Count), "", ""),
        (
            aggregate("@s", Some(int(8, true)), AggKind::Avg { signed: true }),
            "",
            "{\"type\": \"stats\", \"data\": {\"@s\": {}}}\n",
        ),
    ] {
        assert_eq!(text(map.clone(), &none, 0, 0), shown, "{map:?}");
        assert_eq!(json(|sink| say(map, &none, 0, 0, sink)), shown_json);
    }
    // At the end nothing that has no entries is shown, but for `stats` in JSON.
    let mut sink = CaptureSink::default();
    let maps = || vec![plain(int(8, true)), stats()];
    at_exit(maps(), &[none.clone(), none.clone()], &mut sink);
    assert_eq!(sink.output, b"\n\n");
    let keyed = aggregate("@k", Some(int(8, true)), AggKind::Stats { signed: true });
    assert_eq!(
        json(|sink| at_exit(vec![stats(), keyed], &[none.clone(), none.clone()], sink)),
        "{\"type\": \"stats\", \"data\": {\"@k\": {}}}\n{\"type\": \"stats\", \"data\": {\"@s\": {}}}\n"
    );
}

#[test]
fn the_end_shows_maps_by_name() {
    let map = |name| script_map(name, None, MapValue::Plain(int(8, true)));
    let one = |value| entries(&[(0, &[value])]);
    let mut sink = CaptureSink::default();
    at_exit(
        vec![map("@b"), map("@"), map("@a")],
        &[one(1), one(2), one(3)],
        &mut sink,
    );
    assert_eq!(sink.output, b"\n\n@: 2\n@a: 3\n@b: 1\n");
    // A map that cannot be read does not take the others with it.
    let mut sink = CaptureSink::default();
    at_exit(vec![map("@a"), map("@b")], &[one(1)], &mut sink);
    assert_eq!(sink.output, b"\n\n@a: 1\n");
    assert_eq!(
        sink.messages,
        b"ERROR: failed to read map '@b' (Bad file descriptor)\n"
    );
}

/// Entries of a map whose keys are an integer and a bucket.
fn buckets(counts: &[(i64, u64, u64)]) -> Entries {
    counts
        .iter()
        .map(|(key, bucket, count)| (words(&[*key as u64, *bucket]), words(&[*count, 0])))
        .collect()
}

fn scalar_buckets(counts: &[(u64, u64)]) -> Entries {
    counts
        .iter()
        .map(|(bucket, count)| (words(&[*bucket]), words(&[*count, 0])))
        .collect()
}

/// The bucket of `hist`, as the compiled program computes it.
fn log2_bucket(n: i64, bits: u32) -> u64 {
    let mask = (1 << bits) - 1;
    match n {
        ..0 => 0,
        n if n <= mask => n as u64 + 1,
        n => {
            let log2 = n.ilog2();
            ((u64::from(log2 - bits + 1)) << bits) + ((n >> (log2 - bits)) & mask) as u64 + 1
        }
    }
}

#[test]
fn histograms() {
    let hist = |bits| aggregate("@h", None, AggKind::Hist { bits });
    let keyed = aggregate("@h", Some(int(8, true)), AggKind::Hist { bits: 0 });
    let small = scalar_buckets(&[(0, 4), (2, 1), (3, 8), (6, 2)]);
    check_golden("hist-small.txt", &text(hist(0), &small, 0, 0));
    check_golden(
        "hist-small.json",
        &json(|sink| say(hist(0), &small, 0, 0, sink)),
    );
    // Division acts on counts, before the bars.
    check_golden("hist-div.txt", &text(hist(0), &small, 0, 4));
    let every_power: Vec<(u64, u64)> = (0..63).map(|power| (power + 2, power + 1)).collect();
    let every_power = scalar_buckets(&every_power);
    check_golden("hist-powers.txt", &text(hist(0), &every_power, 0, 0));
    let mut counts = std::collections::BTreeMap::new();
    for n in 0..5000 {
        *counts.entry(log2_bucket(n, 3)).or_insert(0) += 1;
    }
    let fine: Vec<(u64, u64)> = counts.into_iter().collect();
    let fine = scalar_buckets(&fine);
    check_golden("hist-fine.txt", &text(hist(3), &fine, 0, 0));
    check_golden(
        "hist-fine.json",
        &json(|sink| say(hist(3), &fine, 0, 0, sink)),
    );
    // Keys by the number of values, and the largest of them.
    let three = buckets(&[(1, 3, 9), (2, 4, 1), (2, 5, 2), (3, 1, 5)]);
    check_golden("hist-keys.txt", &text(keyed.clone(), &three, 0, 0));
    check_golden("hist-top.txt", &text(keyed.clone(), &three, 1, 0));
    check_golden(
        "hist-keys.json",
        &json(|sink| say(keyed, &three, 0, 0, sink)),
    );
    // All zero, as after `zero()`.
    let zeros = scalar_buckets(&[(3, 0), (9, 0)]);
    assert_eq!(text(hist(0), &zeros, 0, 0), "@h:\n\n");
    assert_eq!(
        json(|sink| say(hist(0), &zeros, 0, 0, sink)),
        "{\"type\": \"hist\", \"data\": {\"@h\": []}}\n"
    );
    // Buckets that no program writes do not break anything.
    let wild = scalar_buckets(&[(u64::MAX, 1), (2_000, 1)]);
    assert!(text(hist(0), &wild, 0, 0).ends_with("|\n\n"));
}

#[test]
fn every_integer_falls_between_the_edges_of_its_bucket() {
    use crate::print::hist::{Counts, Histogram};
    for bits in 0..=5 {
        for n in (0..3000).chain((12..63).flat_map(|p| [(1 << p) - 1, 1 << p, (1 << p) + 1])) {
            let bucket = log2_bucket(n, bits);
            let histogram = Histogram::log2(&Counts::from([(bucket, 1)]), bits as u8, 1);
            let edges = &histogram.buckets[0];
            let lower = edges.lower.as_ref().expect("has one").value;
            let upper = edges.upper.as_ref().expect("has one").value;
            assert!(
                (lower..upper).contains(&i128::from(n)),
                "{n} with {bits} bits: [{lower}, {upper})"
            );
        }
    }
}

#[test]
fn linear_histograms() {
    let lhist = |min, max, step| aggregate("@", None, AggKind::Lhist { min, max, step });
    let counts = scalar_buckets(&[(0, 1), (1, 3), (3, 6), (11, 2)]);
    check_golden("lhist.txt", &text(lhist(10, 110, 10), &counts, 0, 0));
    check_golden(
        "lhist.json",
        &json(|sink| say(lhist(10, 110, 10), &counts, 0, 0, sink)),
    );
    // Division is for logarithmic ones only.
    assert_eq!(
        text(lhist(10, 110, 10), &counts, 0, 3),
        text(lhist(10, 110, 10), &counts, 0, 0)
    );
    // Steps of one have buckets of one integer, those of whole K suffixes.
    check_golden(
        "lhist-ones.txt",
        &text(
            lhist(0, 5, 1),
            &scalar_buckets(&[(1, 1), (3, 2), (6, 1)]),
            0,
            0,
        ),
    );
    check_golden(
        "lhist-suffixes.txt",
        &text(
            lhist(0, 2 << 20, 512 << 10),
            &scalar_buckets(&[(1, 1), (2, 2), (3, 1), (4, 1), (5, 7)]),
            0,
            0,
        ),
    );
    // Only what is beyond the end.
    check_golden(
        "lhist-beyond.txt",
        &text(lhist(0, 5, 1), &scalar_buckets(&[(6, 3)]), 0, 0),
    );
}

/// A cell of a time series: value, meta, epoch.
type Cell = (i64, u64, u64);

/// Entries of a scalar time series: slots, and the cells of their CPUs.
fn series(cells: &[(u64, &[Cell])]) -> Entries {
    cells
        .iter()
        .map(|(slot, cells)| {
            let words_of = |(value, meta, epoch): &Cell| [*value as u64, *meta, *epoch];
            let cells: Vec<u64> = cells.iter().flat_map(words_of).collect();
            (words(&[*slot]), words(&cells))
        })
        .collect()
}

#[test]
fn time_series() {
    let tseries = |interval, agg, signed| {
        let kind = AggKind::Tseries {
            interval,
            count: 10,
            agg,
            signed,
        };
        aggregate("@t", None, kind)
    };
    let ms = 100_000_000;
    // Two CPUs: the newest value of the newest epoch counts; 42 has no value.
    let cells = series(&[
        (0, &[(5, 10, 40), (7, 20, 40)]),
        (1, &[(-3, 10, 41), (9, 20, 31)]),
        (3, &[(12, 5, 43), (0, 0, 0)]),
    ]);
    check_golden(
        "tseries.txt",
        &text(tseries(ms, TseriesAgg::Last, true), &cells, 0, 0),
    );
    check_golden(
        "tseries.json",
        &json(|sink| say(tseries(ms, TseriesAgg::Last, true), &cells, 0, 0, sink)),
    );
    for (agg, expected) in [
        (TseriesAgg::Last, 7),
        (TseriesAgg::Sum, 12),
        (TseriesAgg::Min, 5),
        (TseriesAgg::Max, 7),
        (TseriesAgg::Avg, 12 / 30),
    ] {
        let one = series(&[(0, &[(5, 10, 40), (7, 20, 40), (99, 90, 39)])]);
        let shown = json(|sink| say(tseries(ms, agg, true), &one, 0, 0, sink));
        assert_eq!(
            shown,
            format!(
                "{{\"type\": \"tseries\", \"data\": {{\"@t\": [{{\"interval_start\":\
                 \"1970-01-01 00:00:04.000000000\",\"value\":{expected}}}]}}}}\n"
            )
        );
    }
    // One row shows nanoseconds, and a lowest value of 0 cannot sink.
    let one = series(&[(4, &[(0, 1, 4_000)])]);
    check_golden(
        "tseries-one.txt",
        &text(tseries(ms, TseriesAgg::Last, false), &one, 0, 0),
    );
    let flat = series(&[(4, &[(6, 1, 4)]), (5, &[(6, 1, 5)])]);
    for (name, interval) in [("s", 1_000_000_000), ("us", 7_000), ("ns", 7)] {
        check_golden(
            &format!("tseries-{name}.txt"),
            &text(tseries(interval, TseriesAgg::Sum, true), &flat, 0, 0),
        );
    }
    // Never written, as after `zero()`.
    let zeros = series(&[(4, &[(0, 0, 0)])]);
    assert_eq!(
        json(|sink| say(tseries(ms, TseriesAgg::Last, true), &zeros, 0, 0, sink)),
        "{\"type\": \"tseries\", \"data\": {\"@t\": []}}\n"
    );
}

#[test]
fn time_series_of_keys_end_together() {
    let kind = AggKind::Tseries {
        interval: 1_000_000_000,
        count: 4,
        agg: TseriesAgg::Last,
        signed: true,
    };
    let map = aggregate("@t", Some(int(8, true)), kind);
    let entry =
        |key: u64, value: u64, epoch: u64| (words(&[key, epoch % 4]), words(&[value, 1, epoch]));
    // Epoch 94 is older than the four newest intervals, and a zeroed slot is older still.
    let entries = vec![
        (words(&[1, 3]), words(&[0, 0, 0])),
        entry(1, 5, 100),
        entry(1, 6, 98),
        entry(2, 7, 99),
        entry(2, 8, 94),
    ];
    check_golden("tseries-keys.txt", &text(map, &entries, 0, 0));
}
