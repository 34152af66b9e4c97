//! Properties that hold for any layout and any bytes.

use bpftrace_meta::{
    AggKind, Conversion, EnumId, EventKind, FormatPiece, FormatSpec, Length, MapId, MapValue,
    StackMode, TseriesAgg, ValueLayout,
};
use proptest::prelude::*;

use super::{
    FakeMaps, aggregate, arg, decoder, event, field, int, json, manifest, printer, script_map,
};
use crate::print::PrinterOptions;
use crate::print::format::Format;

fn any_layout() -> impl Strategy<Value = ValueLayout> {
    let size = prop_oneof![Just(1_u8), Just(2), Just(4), Just(8)];
    let mode = prop_oneof![
        Just(StackMode::Bpftrace),
        Just(StackMode::Perf),
        Just(StackMode::Raw),
        Just(StackMode::BuildId),
    ];
    let leaf = prop_oneof![
        Just(ValueLayout::None),
        Just(ValueLayout::Bool),
        (size.clone(), any::<bool>()).prop_map(|(size, signed)| int(size, signed)),
        (size.clone(), any::<bool>(), 0..2_u32).prop_map(|(size, signed, id)| {
            ValueLayout::Enum {
                size,
                signed,
                id: EnumId(id),
            }
        }),
        Just(ValueLayout::Pointer),
        (0..40_u32).prop_map(|size| ValueLayout::Str { size }),
        (0..40_u32).prop_map(|capacity| ValueLayout::Buffer { capacity }),
        (size, any::<u8>(), any::<u8>(), any::<bool>()).prop_map(|(size, shift, bits, signed)| {
            ValueLayout::BitField {
                size,
                shift,
                bits,
                signed,
            }
        }),
        Just(ValueLayout::KernelSymbol),
        Just(ValueLayout::UserSymbol),
        (mode.clone(), 0..5_u32).prop_map(|(mode, limit)| ValueLayout::KernelStack { mode, limit }),
        (mode, 0..5_u32).prop_map(|(mode, limit)| ValueLayout::UserStack { mode, limit }),
        Just(ValueLayout::Inet),
        Just(ValueLayout::Timestamp),
        Just(ValueLayout::MacAddress),
        Just(ValueLayout::ProbeName),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            (inner.clone(), 0..6_u32, 0..20_u32).prop_map(|(element, count, stride)| {
                ValueLayout::Array {
                    element: Box::new(element),
                    count,
                    stride,
                }
            }),
            prop::collection::vec((inner.clone(), 0..30_u32), 0..4).prop_map(|fields| {
                ValueLayout::Tuple {
                    fields: fields
                        .into_iter()
                        .map(|(layout, offset)| field("", offset, layout))
                        .collect(),
                    size: 40,
                }
            }),
            prop::collection::vec((inner, 0..30_u32, ".{0,3}"), 0..4).prop_map(|fields| {
                ValueLayout::Record {
                    fields: fields
                        .into_iter()
                        .map(|(layout, offset, name)| field(&name, offset, layout))
                        .collect(),
                    size: 40,
                }
            }),
        ]
    })
}

fn any_spec() -> impl Strategy<Value = FormatSpec> {
    let conversion = prop_oneof![
        Just(Conversion::Signed),
        Just(Conversion::Unsigned),
        Just(Conversion::Octal),
        Just(Conversion::Hex),
        Just(Conversion::HexUpper),
        Just(Conversion::Char),
        Just(Conversion::Pointer),
        Just(Conversion::Str),
        Just(Conversion::Buffer),
        Just(Conversion::BufferHex),
        Just(Conversion::BufferHexPlain),
        Just(Conversion::GfpFlags),
    ];
    let length = prop_oneof![
        Just(Length::None),
        Just(Length::Hh),
        Just(Length::H),
        Just(Length::Long),
    ];
    (
        any::<[bool; 5]>(),
        prop::option::of(0..50_u32),
        prop::option::of(any::<u32>()),
        length,
        conversion,
    )
        .prop_map(|(flags, width, precision, length, conversion)| FormatSpec {
            left: flags[0],
            plus: flags[1],
            space: flags[2],
            alternate: flags[3],
            zero: flags[4],
            width,
            precision,
            length,
            conversion,
        })
}

fn any_kind() -> impl Strategy<Value = AggKind> {
    let signed = any::<bool>();
    prop_oneof![
        Just(AggKind::Count),
        signed.prop_map(|signed| AggKind::Sum { signed }),
        signed.prop_map(|signed| AggKind::Min { signed }),
        signed.prop_map(|signed| AggKind::Max { signed }),
        signed.prop_map(|signed| AggKind::Avg { signed }),
        signed.prop_map(|signed| AggKind::Stats { signed }),
        (0..8_u8).prop_map(|bits| AggKind::Hist { bits }),
        (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(min, max, step)| AggKind::Lhist {
            min,
            max,
            step
        }),
        (any::<u64>(), 1..50_u64, any::<bool>()).prop_map(|(interval, count, signed)| {
            AggKind::Tseries {
                interval,
                count,
                agg: TseriesAgg::Avg,
                signed,
            }
        }),
    ]
}

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    // Zeros and small numbers are where the interesting cases are.
    let byte = prop_oneof![2 => Just(0), 2 => 0..10_u8, 3 => any::<u8>()];
    prop::collection::vec(byte, 0..most)
}

fn assert_json(lines: &str) {
    for line in lines.lines() {
        if let Err(error) = serde_json::from_str::<serde_json::Value>(line) {
            panic!("{error}: {line}");
        }
    }
}

proptest! {
    #[test]
    fn any_value_is_valid_json(layout in any_layout(), bytes in bytes(80)) {
        let value = decoder().decode(&layout, &bytes);
        let mut out = Vec::new();
        value.write_json(&mut out);
        if let Err(error) = serde_json::from_slice::<serde_json::Value>(&out) {
            panic!("{error}: {}", String::from_utf8_lossy(&out));
        }
        out.clear();
        value.write_json_key(&mut out);
        serde_json::from_slice::<String>(&out).expect("a string");
    }

    #[test]
    fn strings_of_characters_survive_json(text in ".*") {
        let mut out = Vec::new();
        crate::print::json::write_string(text.as_bytes(), &mut out);
        let read: String = serde_json::from_slice(&out).expect("a string");
        prop_assert_eq!(read, text);
    }

    #[test]
    fn text_is_the_same_by_both_ways(layout in any_layout(), bytes in bytes(80)) {
        let mut decoder = decoder();
        let mut direct = Vec::new();
        decoder.write_text(&layout, &bytes, &mut direct);
        prop_assert_eq!(decoder.decode(&layout, &bytes).to_text(), direct);
    }

    #[test]
    fn printf_honours_the_width(
        layout in any_layout(),
        spec in any_spec(),
        offset in 0..20_u32,
        bytes in bytes(80),
    ) {
        let width = spec.width.unwrap_or(0) as usize;
        let format = Format::new(&[FormatPiece::Spec(spec)], &[arg(offset, layout)]);
        let mut out = Vec::new();
        format.write(&bytes, &mut decoder(), &mut out);
        let mismatch = out.starts_with(b"!{");
        prop_assert!(out.len() >= width || mismatch);
    }

    #[test]
    fn any_record_is_handled(layout in any_layout(), record in bytes(120)) {
        let mut manifest = manifest();
        manifest.events = vec![
            event(EventKind::PrintValue, vec![arg(8, layout)]),
            event(EventKind::Join { separator: " ".to_owned() }, vec![arg(8, int(8, true))]),
        ];
        let mut printer = printer(&manifest, PrinterOptions::default());
        assert_json(&json(|sink| {
            printer.handle(&record, &mut FakeMaps::default(), sink).expect("written");
        }));
    }

    #[test]
    fn any_map_is_printed(
        key in prop::option::of(any_layout()),
        kind in any_kind(),
        entries in prop::collection::vec((bytes(60), bytes(60)), 0..6),
        (top, div) in any::<(u64, u64)>(),
    ) {
        let mut manifest = manifest();
        let plain = script_map("@p", key.clone(), MapValue::Plain(int(8, true)));
        manifest.maps = vec![aggregate("@a", key, kind), plain];
        let map = |id| EventKind::PrintMap { map: MapId(id), top, div };
        manifest.events = vec![event(map(0), vec![]), event(map(1), vec![])];
        let mut maps = FakeMaps::default();
        for id in 0..2 {
            maps.maps.insert(id, entries.iter().cloned().collect());
        }
        let mut printer = printer(&manifest, PrinterOptions::default());
        assert_json(&json(|sink| {
            for event in 0..2 {
                printer.handle(&super::record(event, &[]), &mut maps, sink).expect("written");
            }
            printer.finish(&mut maps, sink).expect("written");
        }));
        let mut text = crate::print::CaptureSink::default();
        printer.finish(&mut maps, &mut text).expect("written");
        prop_assert!(text.output.starts_with(b"\n\n"));
    }
}
