use bpftrace_meta::{
    AggKind, EventKind, FormatPiece, HelperFailure, MapId, MapValue, RuntimeError, SourceRange,
    ValueLayout,
};

use super::{
    FakeMaps, aggregate, arg, event, int, json, manifest, printer, record, run, script_map, words,
};
use crate::print::{Action, CaptureSink, PrinterOptions, WarningMode};

fn literal(text: &str) -> Vec<FormatPiece> {
    vec![FormatPiece::Literal(text.to_owned())]
}

#[test]
fn output_keeps_its_order() {
    let mut manifest = manifest();
    manifest.events = vec![
        event(EventKind::Printf(literal("one ")), vec![]),
        event(EventKind::PrintValue, vec![arg(8, int(8, true))]),
        event(
            EventKind::Join {
                separator: "-".to_owned(),
            },
            vec![arg(
                8,
                ValueLayout::Array {
                    element: Box::new(ValueLayout::Str { size: 4 }),
                    count: 3,
                    stride: 4,
                },
            )],
        ),
        event(EventKind::System(literal("echo out")), vec![]),
        event(EventKind::Time("%%\n".to_owned()), vec![]),
    ];
    let records = [
        record(0, &[]),
        record(1, &words(&[5])),
        record(2, b"a\0\0\0bc\0\0\0\0\0\0"),
        record(3, &[]),
        record(4, &[]),
    ];
    let (output, messages, action) = run(&manifest, &mut FakeMaps::default(), &records);
    // What a command writes ends in a newline of its own, and gets another.
    assert_eq!(output, "one 5\na-bc\nout\n\n%\n");
    assert_eq!(messages, "");
    assert_eq!(action, Action::Continue);

    let mut printer = printer(&manifest, PrinterOptions::default());
    let shown = json(|sink| {
        for record in &records {
            printer
                .handle(record, &mut FakeMaps::default(), sink)
                .expect("written");
        }
    });
    assert_eq!(
        shown,
        "{\"type\": \"printf\", \"data\": \"one \"}\n\
         {\"type\": \"value\", \"data\": 5}\n\
         {\"type\": \"join\", \"data\": \"a-bc\"}\n\
         {\"type\": \"syscall\", \"data\": \"out\\n\"}\n\
         {\"type\": \"time\", \"data\": \"%\\n\"}\n"
    );
}

#[test]
fn actions() {
    let mut manifest = manifest();
    manifest.events = vec![
        event(EventKind::Exit, vec![]),
        event(EventKind::Exit, vec![arg(8, int(8, true))]),
        event(EventKind::Exit, vec![arg(8, int(1, true))]),
        event(EventKind::Unwatch, vec![arg(8, ValueLayout::Pointer)]),
    ];
    for (record, expected) in [
        (record(0, &[]), Action::Exit(0)),
        (record(1, &words(&[300])), Action::Exit(300)),
        (record(2, &[0xff]), Action::Exit(-1)),
        (
            record(3, &words(&[0xffff_0000_0000_0000])),
            Action::Unwatch(0xffff << 48),
        ),
    ] {
        let (_, _, action) = run(&manifest, &mut FakeMaps::default(), &[record]);
        assert_eq!(action, expected);
    }
}

#[test]
fn maps_are_cleared_and_zeroed() {
    let mut manifest = manifest();
    manifest.maps = vec![
        script_map("@a", Some(int(8, true)), MapValue::Plain(int(8, true))),
        aggregate("@b", None, AggKind::Count),
    ];
    let (a, b) = (MapId(0), MapId(1));
    let (top, div) = (0, 0);
    manifest.events = vec![
        event(EventKind::ClearMap(a), vec![]),
        event(EventKind::ZeroMap(a), vec![]),
        event(EventKind::PrintMap { map: a, top, div }, vec![]),
        event(EventKind::ClearMap(b), vec![]),
        event(EventKind::PrintMap { map: b, top, div }, vec![]),
    ];
    let mut maps = FakeMaps::default();
    maps.maps.insert(
        0,
        [(words(&[1]), words(&[5])), (words(&[2]), words(&[6]))].into(),
    );
    let events: Vec<_> = [2, 1, 2, 0, 2]
        .into_iter()
        .map(|e| record(e, &[]))
        .collect();
    let (output, messages, _) = run(&manifest, &mut maps, &events);
    assert_eq!(output, "@a[1]: 5\n@a[2]: 6\n@a[1]: 0\n@a[2]: 0\n");
    assert_eq!(messages, "");
    let (output, messages, _) = run(&manifest, &mut maps, &[record(3, &[]), record(4, &[])]);
    assert_eq!(output, "");
    assert_eq!(
        messages,
        "ERROR: failed to clear map '@b' (Bad file descriptor)\n\
         ERROR: failed to read map '@b' (Bad file descriptor)\n"
    );
}

#[test]
fn files_are_shown_up_to_a_limit() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("file");
    std::fs::write(&path, "0123456789").expect("written");
    let mut manifest = manifest();
    manifest.events = vec![
        event(
            EventKind::Cat(literal(path.to_str().expect("UTF-8"))),
            vec![],
        ),
        event(EventKind::Cat(literal("/nowhere/x")), vec![]),
    ];
    let mut options = PrinterOptions::default();
    options.config.max_cat_bytes = Some(4);
    let mut printer = printer(&manifest, options);
    let mut sink = CaptureSink::default();
    for event in 0..2 {
        printer
            .handle(&record(event, &[]), &mut FakeMaps::default(), &mut sink)
            .expect("written");
    }
    assert_eq!(sink.output, b"0123");
    assert_eq!(
        String::from_utf8_lossy(&sink.messages),
        "ERROR: failed to open file '/nowhere/x' (No such file or directory)\n"
    );
}

#[test]
fn commands_need_unsafe_mode() {
    let mut manifest = manifest();
    manifest.options.unsafe_mode = false;
    manifest.events = vec![event(EventKind::System(literal("echo no")), vec![])];
    let (output, messages, _) = run(&manifest, &mut FakeMaps::default(), &[record(0, &[])]);
    assert_eq!(output, "");
    assert!(messages.contains("--unsafe"), "{messages}");
}

#[test]
fn a_time_that_does_not_fit() {
    let mut manifest = manifest();
    manifest.events = vec![event(EventKind::Time("x".repeat(64)), vec![])];
    let (output, messages, _) = run(&manifest, &mut FakeMaps::default(), &[record(0, &[])]);
    assert_eq!(
        (output.as_str(), messages.as_str()),
        ("", "ERROR: strftime returned zero\n")
    );
}

fn helper(name: &str) -> EventKind {
    EventKind::RuntimeError(RuntimeError::HelperFailed(HelperFailure {
        helper: name.to_owned(),
    }))
}

fn range(line: u32, column: u32, end_line: u32, end_column: u32) -> SourceRange {
    SourceRange {
        file: 0,
        line,
        column,
        end_line,
        end_column,
    }
}

#[test]
fn messages_quote_their_place() {
    let mut manifest = manifest();
    let mut lookup = event(helper("map_lookup_elem"), vec![arg(8, int(8, true))]);
    lookup.place = range(2, 7, 2, 12);
    let mut divide = event(EventKind::RuntimeError(RuntimeError::DivideByZero), vec![]);
    divide.place = range(2, 2, 3, 4);
    let mut macro_call = event(EventKind::Errorf(literal("bad\n")), vec![]);
    macro_call.expanded_from = vec![range(1, 1, 1, 6)];
    let mut nowhere = event(
        EventKind::RuntimeError(RuntimeError::ArrayOutOfBounds),
        vec![],
    );
    nowhere.place = range(90, 1, 90, 2);
    manifest.events = vec![
        lookup,
        divide,
        macro_call,
        event(EventKind::Warnf(literal("hm")), vec![]),
        nowhere,
    ];
    let records: Vec<_> = (0..5).map(|event| record(event, &words(&[0]))).collect();
    let (output, messages, _) = run(&manifest, &mut FakeMaps::default(), &records);
    assert_eq!(output, "");
    assert_eq!(
        messages,
        "stdin:2:7-12: WARNING: Can't lookup map element because it does not exist.\n\
         Additional Info - helper: map_lookup_elem, retcode: 0\n    $b = @m[1];\n         ~~~~~\n\
         stdin:2-3: WARNING: Divide or modulo by 0 detected. This can lead to unexpected results. \
         1 is being used as the result.\n\t$b = @m[1];\n  + 2 }\n\
         stdin:1:9-15: ERROR: bad\n\
         stdin:1:1-6: ERROR: expanded from\nbegin { $a = 1; }\n~~~~~\n\
         stdin:1:9-15: WARNING: hm\n\
         stdin:90:1-2: WARNING: Array access out of bounds. This can lead to unexpected results.\n"
    );

    let mut quoting = printer(&manifest, PrinterOptions::default());
    let shown = json(|sink| {
        for record in &records[..4] {
            quoting
                .handle(record, &mut FakeMaps::default(), sink)
                .expect("written");
        }
    });
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(
        lines[0],
        "{\"type\": \"helper_error\", \"msg\": \"Success\", \
         \"helper\": \"map_lookup_elem\", \"retcode\": 0, \"filename\": \"stdin\", \"line\": 2, \"col\": 7}"
    );
    assert!(lines[1].starts_with("{\"type\": \"runtime_error\", \"msg\": \"Divide"));
    assert_eq!(
        lines[2],
        "{\"type\": \"errorf\", \"msg\": \"bad\\n\", \"filename\": \"stdin\", \"line\": 1, \"col\": 9}"
    );
    assert!(lines[3].starts_with("{\"type\": \"warnf\""));

    let options = PrinterOptions {
        warnings: WarningMode::Off,
        ..PrinterOptions::default()
    };
    let mut silent = printer(&manifest, options);
    let mut sink = CaptureSink::default();
    for record in &records {
        silent
            .handle(record, &mut FakeMaps::default(), &mut sink)
            .expect("written");
    }
    assert!(sink.errorf);
    assert!(sink.messages.starts_with(b"stdin:1:9-15: ERROR: bad\n"));
    assert!(!String::from_utf8_lossy(&sink.messages).contains("WARNING"));
}

#[test]
fn malformed_records_are_skipped_with_one_warning() {
    let mut manifest = manifest();
    manifest.events = vec![
        event(EventKind::PrintValue, vec![arg(8, int(8, true))]),
        event(EventKind::PrintValue, vec![]),
        event(
            EventKind::PrintMap {
                map: MapId(3),
                top: 0,
                div: 0,
            },
            vec![],
        ),
    ];
    let records = [
        vec![],
        vec![0; 3],
        record(0, &[]),
        record(1, &[]),
        record(2, &[]),
        record(77, &[]),
        record(u64::MAX, &[]),
        record(0, &words(&[4])),
    ];
    let (output, messages, action) = run(&manifest, &mut FakeMaps::default(), &records);
    assert_eq!(output, "4\n");
    assert_eq!(
        messages,
        "WARNING: skipped an event that does not fit the program\n"
    );
    assert_eq!(action, Action::Continue);
}
