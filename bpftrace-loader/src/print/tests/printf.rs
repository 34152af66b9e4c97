use bpftrace_meta::{Conversion, EnumId, FormatPiece, FormatSpec, Length, ValueLayout};

use super::super::format::Format;
use super::{arg, decoder, field, int, words};

/// A specification as the compiler parses it; only what these tests write.
fn spec(text: &str) -> FormatSpec {
    let mut spec = FormatSpec {
        left: false,
        plus: false,
        space: false,
        alternate: false,
        zero: false,
        width: None,
        precision: None,
        length: Length::None,
        conversion: Conversion::Signed,
    };
    let mut rest = text.strip_prefix('%').expect("percent");
    while let Some(flag) = rest.chars().next() {
        match flag {
            '-' => spec.left = true,
            '+' => spec.plus = true,
            ' ' => spec.space = true,
            '#' => spec.alternate = true,
            '0' => spec.zero = true,
            _ => break,
        }
        rest = &rest[1..];
    }
    let number = |rest: &mut &str| {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
        let (digits, tail) = rest.split_at(end);
        *rest = tail;
        digits.parse().ok()
    };
    spec.width = number(&mut rest);
    if let Some(tail) = rest.strip_prefix('.') {
        rest = tail;
        spec.precision = number(&mut rest);
    }
    for (prefix, length) in [
        ("hh", Length::Hh),
        ("h", Length::H),
        ("ll", Length::Long),
        ("l", Length::Long),
    ] {
        if let Some(tail) = rest.strip_prefix(prefix) {
            (rest, spec.length) = (tail, length);
        }
    }
    spec.conversion = match rest {
        "d" | "i" => Conversion::Signed,
        "u" => Conversion::Unsigned,
        "o" => Conversion::Octal,
        "x" => Conversion::Hex,
        "X" => Conversion::HexUpper,
        "c" => Conversion::Char,
        "p" => Conversion::Pointer,
        "s" => Conversion::Str,
        "r" => Conversion::Buffer,
        "rx" => Conversion::BufferHex,
        "rh" => Conversion::BufferHexPlain,
        "gr" => Conversion::GfpFlags,
        _ => panic!("no such conversion: {rest}"),
    };
    spec
}

fn formatted(text: &str, layout: ValueLayout, bytes: &[u8]) -> String {
    let format = Format::new(&[FormatPiece::Spec(spec(text))], &[arg(8, layout)]);
    let mut record = words(&[0]);
    record.extend_from_slice(bytes);
    let mut out = b"<".to_vec();
    format.write(&record, &mut decoder(), &mut out);
    assert_eq!(out.remove(0), b'<');
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn integers() {
    for (format, value, expected) in [
        ("%d", 42, "42"),
        // The length says how many bits count.
        ("%d", 0x1_ffff_ffff, "-1"),
        ("%ld", 0x1_ffff_ffff, "8589934591"),
        ("%lld", -5, "-5"),
        ("%u", -1, "4294967295"),
        ("%lu", -1, "18446744073709551615"),
        ("%hd", 0x1_8000, "-32768"),
        ("%hu", 0x1_8000, "32768"),
        ("%hhd", 0xff, "-1"),
        ("%hhu", 0x1ff, "255"),
        ("%hhx", -1, "ff"),
        ("%x", 255, "ff"),
        ("%X", 255, "FF"),
        ("%#x", 255, "0xff"),
        ("%#X", 255, "0XFF"),
        ("%#x", 0, "0"),
        ("%o", 8, "10"),
        ("%#o", 8, "010"),
        ("%#o", 0, "0"),
        ("%lx", -1, "ffffffffffffffff"),
        ("%+d", 5, "+5"),
        ("%+d", -5, "-5"),
        ("% d", 5, "5"),
        ("%5d", -42, "  -42"),
        ("%-5d", -42, "-42  "),
        ("%05d", -42, "00-42"),
        ("%-05d", -42, "-42  "),
        ("%+05d", 42, "00+42"),
        ("%#08x", 255, "00000xff"),
        ("%#8x", 255, "    0xff"),
        ("%08x", 255, "000000ff"),
        ("%2d", 12345, "12345"),
        ("%.2d", 5, "5"),
        ("%c", 65, "A"),
        ("%3c", 65, "  A"),
        ("%03c", 65, "00A"),
        ("%-3c", 65, "A  "),
        ("%p", 255, "0xff"),
        ("%p", 0, "0"),
        ("%8p", 255, "    0xff"),
        ("%s", -7, "-7"),
        ("%4s", -7, "  -7"),
        ("%gr", 0xcc0, "GFP_KERNEL"),
        ("%gr", 0, "0"),
    ] {
        let bytes = i64::to_le_bytes(value);
        assert_eq!(
            formatted(format, int(8, true), &bytes),
            expected,
            "{format}"
        );
    }
}

#[test]
fn narrow_arguments_are_extended_by_their_own_sign() {
    for (format, layout, bytes, expected) in [
        ("%d", int(1, true), &[0x80][..], "-128"),
        ("%d", int(1, false), &[0x80], "128"),
        ("%u", int(1, true), &[0xff], "4294967295"),
        ("%lx", int(2, true), &[0xff, 0xff], "ffffffffffffffff"),
        ("%x", int(2, false), &[0xff, 0xff], "ffff"),
        ("%d", ValueLayout::Bool, &[1], "1"),
        ("%s", ValueLayout::Bool, &[1], "true"),
    ] {
        assert_eq!(formatted(format, layout, bytes), expected, "{format}");
    }
}

#[test]
fn other_arguments() {
    let buffer = ValueLayout::Buffer { capacity: 4 };
    let color = ValueLayout::Enum {
        size: 4,
        signed: false,
        id: EnumId(0),
    };
    let tuple = ValueLayout::Tuple {
        fields: vec![field("", 0, int(1, true)), field("", 1, int(1, true))],
        size: 2,
    };
    let string = ValueLayout::Str { size: 4 };
    for (format, layout, bytes, expected) in [
        ("%s", &string, &b"ab\0\0"[..], "ab"),
        ("%s", &string, b"abcd", "abcd.."),
        ("%6s", &string, b"ab\0\0", "    ab"),
        ("%-6s", &string, b"ab\0\0", "ab    "),
        ("%06s", &string, b"ab\0\0", "0000ab"),
        ("%.1s", &string, b"ab\0\0", "ab"),
        (
            "%d",
            &string,
            b"ab\0\0",
            "!{invalid integer conversion: ab}",
        ),
        (
            "%gr",
            &string,
            b"ab\0\0",
            "!{invalid GFP flags conversion: ab}",
        ),
        ("%r", &buffer, b"\x03\0\0\0a\0z", "a\\x00z"),
        ("%rx", &buffer, b"\x03\0\0\0a\0z", "\\x61\\x00\\x7a"),
        ("%rh", &buffer, b"\x03\0\0\0a\0z", "61 00 7a"),
        ("%10rh", &buffer, b"\x02\0\0\0a\0z", "     61 00"),
        ("%rh", &buffer, b"\0\0\0\0", ""),
        ("%s", &buffer, b"\x01\0\0\0a", "a"),
        ("%r", &string, b"ab\0\0", "ab"),
        ("%d", &color, b"\x01\0\0\0", "1"),
        ("%s", &color, b"\x01\0\0\0", "RED"),
        ("%s", &tuple, b"\x01\x02", "(1, 2)"),
        ("%8s", &tuple, b"\x01\x02", "  (1, 2)"),
        ("%lx", &ValueLayout::Pointer, b"\xff\0\0\0\0\0\0\0", "ff"),
        ("%s", &ValueLayout::Pointer, b"\xff\0\0\0\0\0\0\0", "0xff"),
        (
            "%s",
            &ValueLayout::KernelSymbol,
            b"\x34\x12\0\0\0\0\0\0",
            "k_12",
        ),
        (
            "%s",
            &ValueLayout::ProbeName,
            b"\x01\0\0\0\0\0\0\0",
            "kprobe:f",
        ),
    ] {
        assert_eq!(
            formatted(format, layout.clone(), bytes),
            expected,
            "{format}"
        );
    }
}

#[test]
fn pieces_take_arguments_in_order() {
    let pieces = [
        FormatPiece::Literal("a=".to_owned()),
        FormatPiece::Spec(spec("%d")),
        FormatPiece::Literal(" 100% b=".to_owned()),
        FormatPiece::Spec(spec("%s")),
        FormatPiece::Spec(spec("%s")),
        FormatPiece::Literal("\n".to_owned()),
    ];
    let args = [arg(8, int(4, true)), arg(12, ValueLayout::Str { size: 4 })];
    let format = Format::new(&pieces, &args);
    let mut out = Vec::new();
    let record = b"\0\0\0\0\0\0\0\0\x05\0\0\0xy\0\0";
    format.write(record, &mut decoder(), &mut out);
    assert_eq!(out, b"a=5 100% b=xy!{missing argument}\n");
}

/// Prints how long an event takes to format; not an assertion, for machines differ.
#[test]
fn cost_of_an_event() {
    let text = |text: &str| FormatPiece::Literal(text.to_owned());
    let pieces = [
        FormatPiece::Spec(spec("%-6d")),
        text(" "),
        FormatPiece::Spec(spec("%-16s")),
        text(" fd="),
        FormatPiece::Spec(spec("%d")),
        text(" "),
        FormatPiece::Spec(spec("%s")),
        text("\n"),
    ];
    let args = [
        arg(8, int(4, false)),
        arg(12, ValueLayout::Str { size: 16 }),
        arg(28, int(4, true)),
        arg(32, ValueLayout::Str { size: 64 }),
    ];
    let format = Format::new(&pieces, &args);
    let mut record = words(&[0]);
    record.extend(1234_u32.to_le_bytes());
    record.extend(b"opensnoop\0\0\0\0\0\0\0");
    record.extend(7_i32.to_le_bytes());
    record.extend(b"/etc/ld.so.cache");
    record.resize(96, 0);
    let mut decoder = decoder();
    let mut out = Vec::new();
    let n_events = 2_000_u32;
    // The best of many, for whatever else the machine does.
    let times = (0..50).map(|_| {
        let start = std::time::Instant::now();
        for _ in 0..n_events {
            out.clear();
            format.write(std::hint::black_box(&record), &mut decoder, &mut out);
        }
        start.elapsed() / n_events
    });
    let took = times.min().unwrap_or_default();
    assert_eq!(out, b"1234   opensnoop        fd=7 /etc/ld.so.cache\n");
    println!("a printf of two integers and two strings takes {took:?}");
}
