use bpftrace_meta::{EnumId, StackMode, ValueLayout};

use super::{decoder, field, int, words};

/// Bytes after another.
fn bytes(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

#[test]
fn values_as_text_and_json() {
    let color = |size, signed| ValueLayout::Enum {
        size,
        signed,
        id: EnumId(0),
    };
    let string = |size| ValueLayout::Str { size };
    let bit_field = |size, shift, bits, signed| ValueLayout::BitField {
        size,
        shift,
        bits,
        signed,
    };
    let pair = |a: ValueLayout, b: ValueLayout| {
        let at = a.size();
        ValueLayout::Tuple {
            size: at + b.size(),
            fields: vec![field("", 0, a), field("", at, b)],
        }
    };
    let kernel_stack = |mode| ValueLayout::KernelStack { mode, limit: 3 };
    let user_stack = |mode| ValueLayout::UserStack { mode, limit: 2 };
    let inet4 = bytes(&[&words(&[2]), &[10, 0, 0, 1], &[0; 12]]);
    let table: Vec<(ValueLayout, Vec<u8>, &str, &str)> = vec![
        (ValueLayout::None, vec![], "null", "null"),
        (ValueLayout::Bool, vec![1], "true", "true"),
        (ValueLayout::Bool, vec![0], "false", "false"),
        (int(1, true), vec![0xff], "-1", "-1"),
        (int(1, false), vec![0xff], "255", "255"),
        (int(2, true), vec![0, 0x80], "-32768", "-32768"),
        (int(4, false), vec![0xff; 4], "4294967295", "4294967295"),
        (
            int(8, true),
            words(&[1 << 63]),
            "-9223372036854775808",
            "-9223372036854775808",
        ),
        // What a double cannot hold goes into quotes.
        (
            int(8, false),
            words(&[u64::MAX]),
            "18446744073709551615",
            "\"18446744073709551615\"",
        ),
        (
            int(8, true),
            words(&[(1 << 53) + 1]),
            "9007199254740993",
            "\"9007199254740993\"",
        ),
        (
            int(8, true),
            words(&[1 << 53]),
            "9007199254740992",
            "9007199254740992",
        ),
        (
            int(8, true),
            words(&[i64::MAX as u64]),
            "9223372036854775807",
            "\"9223372036854775807\"",
        ),
        (color(4, false), vec![1, 0, 0, 0], "RED", "1"),
        // Of two names the first declared.
        (color(4, false), vec![2, 0, 0, 0], "GREEN", "2"),
        (color(4, false), vec![9, 0, 0, 0], "9", "9"),
        (color(4, true), vec![0xff; 4], "NONE", "-1"),
        (color(1, true), vec![0xfe], "-2", "-2"),
        (
            ValueLayout::Pointer,
            words(&[0xffff_8000_0000_0abc]),
            "0xffff800000000abc",
            "\"18446603336221199036\"",
        ),
        (ValueLayout::Pointer, words(&[0]), "0x0", "0"),
        (string(4), b"ab\0\0".to_vec(), "ab", "\"ab\""),
        (string(4), b"abcd".to_vec(), "abcd..", "\"abcd..\""),
        (string(4), vec![0; 4], "", "\"\""),
        (string(0), vec![], "", "\"\""),
        (
            string(12),
            b"a\"\\\n\r\t\x01\x7f\xc3\xa4\xff\0".to_vec(),
            "a\"\\\n\r\t\u{1}\u{7f}ä\u{fffd}",
            "\"a\\\"\\\\\\n\\r\\t\\u0001\u{7f}ä\\u00ff\"",
        ),
        (
            ValueLayout::Buffer { capacity: 8 },
            bytes(&[&[5, 0, 0, 0], b"a\x00\xffz~", b"xxx"]),
            "a\\x00\\xffz~",
            "[97,0,-1,122,126]",
        ),
        // A length beyond the capacity is not believed.
        (
            ValueLayout::Buffer { capacity: 2 },
            bytes(&[&[0xff; 4], b"ab"]),
            "ab",
            "[97,98]",
        ),
        (
            ValueLayout::Array {
                element: Box::new(int(2, true)),
                count: 3,
                stride: 4,
            },
            vec![1, 0, 9, 9, 0xfe, 0xff, 9, 9, 3, 0, 9, 9],
            "[1,-2,3]",
            "[1,-2,3]",
        ),
        (
            pair(int(1, true), string(3)),
            vec![1, b'a', b'b', 0],
            "(1, ab)",
            "[1,\"ab\"]",
        ),
        (
            pair(int(1, true), pair(int(1, true), int(1, true))),
            vec![1, 2, 3],
            "(1, (2, 3))",
            "[1,[2,3]]",
        ),
        (
            ValueLayout::Tuple {
                fields: vec![field("", 0, int(1, true))],
                size: 1,
            },
            vec![7],
            "(7)",
            "[7]",
        ),
        (
            ValueLayout::Record {
                fields: vec![
                    field("a", 0, int(4, true)),
                    field("b", 4, string(2)),
                    field("bits", 6, bit_field(1, 2, 3, false)),
                    field("sign", 6, bit_field(1, 2, 3, true)),
                ],
                size: 8,
            },
            vec![1, 0, 0, 0, b'x', 0, 0b0001_1000, 0],
            "{ .a = 1, .b = x, .bits = 6, .sign = -2 }",
            "{\"a\": 1, \"b\": \"x\", \"bits\": 6, \"sign\": -2}",
        ),
        (
            ValueLayout::Record {
                fields: vec![],
                size: 0,
            },
            vec![],
            "{}",
            "{}",
        ),
        (bit_field(8, 0, 64, true), vec![0xff; 8], "-1", "-1"),
        (bit_field(1, 200, 200, true), vec![0xff], "0", "0"),
        (
            ValueLayout::KernelSymbol,
            words(&[0x1234]),
            "k_12",
            "\"k_12\"",
        ),
        (
            ValueLayout::KernelSymbol,
            words(&[0x34]),
            "0x34",
            "\"0x34\"",
        ),
        (ValueLayout::KernelSymbol, words(&[0]), "0", "\"0\""),
        (
            ValueLayout::UserSymbol,
            words(&[0x1f00, 5]),
            "u_1f",
            "\"u_1f\"",
        ),
        (
            kernel_stack(StackMode::Bpftrace),
            words(&[2, 0x1001, 0x2000, 0x1002]),
            "\n        k_10+1\n        0x2000\n",
            "\"\\n        k_10+1\\n        0x2000\\n\"",
        ),
        (
            kernel_stack(StackMode::Raw),
            words(&[9, 0x1001, 0x2000, 0x1002]),
            "\n1001\n2000\n1002\n",
            "\"\\n1001\\n2000\\n1002\\n\"",
        ),
        (
            user_stack(StackMode::Perf),
            words(&[7, 1, 0x1101, 0]),
            "\n\t1101 u_11+1 ([unknown])\n",
            "\"\\n\\t1101 u_11+1 ([unknown])\\n\"",
        ),
        (
            user_stack(StackMode::Bpftrace),
            words(&[7, 0, 0, 0]),
            "\n",
            "\"\\n\"",
        ),
        (ValueLayout::Inet, inet4, "10.0.0.1", "\"10.0.0.1\""),
        (
            ValueLayout::MacAddress,
            vec![0, 0x80, 0xff, 1, 2, 0xab],
            "00:80:FF:01:02:AB",
            "\"00:80:FF:01:02:AB\"",
        ),
        // Boot time, TAI, and a format that gives no text.
        (
            ValueLayout::Timestamp,
            words(&[1_005_000_000, 1]),
            "00:01:41.005",
            "\"00:01:41.005\"",
        ),
        (
            ValueLayout::Timestamp,
            words(&[1_005_000_000, 2]),
            "00:00:01.005",
            "\"00:00:01.005\"",
        ),
        (
            ValueLayout::Timestamp,
            words(&[1_005_000_000, 1 | 1 << 32]),
            "(?)",
            "\"(?)\"",
        ),
        (
            ValueLayout::Timestamp,
            words(&[1_005_000_000, 1 | 7 << 32]),
            "(?)",
            "\"(?)\"",
        ),
        (
            ValueLayout::ProbeName,
            words(&[1]),
            "kprobe:f",
            "\"kprobe:f\"",
        ),
        (ValueLayout::ProbeName, words(&[2]), "", "\"\""),
    ];
    let mut decoder = decoder();
    for (layout, bytes, text, json) in table {
        assert_eq!(layout.size() as usize, bytes.len(), "{layout:?}");
        let value = decoder.decode(&layout, &bytes);
        let shown = |out: &[u8]| String::from_utf8_lossy(out).into_owned();
        assert_eq!(shown(&value.to_text()), text, "{layout:?}");
        let mut out = Vec::new();
        decoder.write_text(&layout, &bytes, &mut out);
        assert_eq!(shown(&out), text, "{layout:?}");
        let mut out = Vec::new();
        value.write_json(&mut out);
        assert_eq!(shown(&out), json, "{layout:?}");
        serde_json::from_slice::<serde_json::Value>(&out).expect("valid");
    }
}

#[test]
fn keys_lose_one_pair_of_parentheses() {
    for (text, key, json) in [
        ("(a, (b))", "a, (b)", "\"a,(b)\""),
        ("a b", "a b", "\"ab\""),
        ("()", "", "\"\""),
        ("(", "(", "\"(\""),
        ("(a", "(a", "\"(a\""),
        ("", "", "\"\""),
    ] {
        let value = super::super::Value::Str(text.as_bytes().to_vec());
        let mut out = b"@[".to_vec();
        value.write_key(&mut out);
        assert_eq!(out, format!("@[{key}").into_bytes(), "{text:?}");
        let mut out = Vec::new();
        value.write_json_key(&mut out);
        assert_eq!(out, json.as_bytes(), "{text:?}");
    }
}
