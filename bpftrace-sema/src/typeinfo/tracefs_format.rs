//! Tracepoint `format` files.

use super::FormatField;

/// Reads the fields of a tracepoint from the text of its `format` file
/// (`/sys/kernel/tracing/events/CATEGORY/EVENT/format`). The common fields, which every record
/// starts with and BPF programs may not read, are left out; so are lines that are not understood.
#[must_use]
pub fn parse_format(text: &str) -> Vec<FormatField> {
    text.lines()
        .filter_map(parse_line)
        .filter(|field| !(field.offset < 8 && field.name.starts_with("common_")))
        .collect()
}

/// One line: `field:` declaration, `offset:`, `size:` and `signed:`, with semicolons behind them.
fn parse_line(line: &str) -> Option<FormatField> {
    let mut parts = line.trim().split(';').map(str::trim);
    let declaration = parts.next()?.strip_prefix("field:")?.trim();
    let (mut offset, mut size, mut signed) = (None, None, false);
    for part in parts {
        match part.split_once(':') {
            Some(("offset", n)) => offset = n.trim().parse().ok(),
            Some(("size", n)) => size = n.trim().parse().ok(),
            Some(("signed", n)) => signed = n.trim() == "1",
            _ => {}
        }
    }
    let (declaration, data_loc) = match declaration.strip_prefix("__data_loc ") {
        Some(rest) => (rest, true),
        None => match declaration.strip_prefix("__rel_loc ") {
            // The offset counts from behind the field; nothing is read through it yet.
            Some(_) => return None,
            None => (declaration, false),
        },
    };
    let (declaration, array) = if data_loc {
        // `__data_loc char[] name`
        let (c_type, name) = declaration.rsplit_once(' ')?;
        let c_type = c_type.trim_end().strip_suffix("[]").unwrap_or(c_type);
        (format!("{c_type} {name}"), None)
    } else {
        match declaration
            .strip_suffix(']')
            .and_then(|d| d.split_once('['))
        {
            // A length that is an expression of constants unknown here: the size tells.
            Some((before, count)) => {
                let count = count.rsplit('[').next().unwrap_or(count);
                (before.to_owned(), Some(count.trim().parse().ok()))
            }
            None => (declaration.to_owned(), None),
        }
    };
    let split = declaration
        .trim_end()
        .rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))?;
    let (c_type, name) = declaration.split_at(split + 1);
    let (offset, size) = (offset?, size?);
    let c_type = c_type.trim().to_owned();
    let array = array.map(|count| count.unwrap_or_else(|| size / element_size(&c_type)));
    Some(FormatField {
        name: name.trim().to_owned(),
        c_type,
        offset,
        size,
        signed,
        array,
        data_loc,
    })
}

/// Bytes of an array element whose C type is a basic one; 1 for others.
fn element_size(c_type: &str) -> u32 {
    match c_type.trim_start_matches("unsigned ").trim() {
        "short" | "u16" | "__u16" | "s16" | "__be16" => 2,
        "int" | "u32" | "__u32" | "s32" | "__be32" | "unsigned" => 4,
        "long" | "u64" | "__u64" | "s64" | "__be64" | "long long" => 8,
        t if t.ends_with('*') => 8,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(line: &str) -> FormatField {
        parse_line(line).unwrap_or_else(|| panic!("not parsed: {line}"))
    }

    #[test]
    fn fields_of_every_shape() {
        let f = field("\tfield:const char * filename;\toffset:24;\tsize:8;\tsigned:0;");
        assert_eq!(
            (f.name.as_str(), f.c_type.as_str()),
            ("filename", "const char *")
        );
        assert_eq!((f.offset, f.size, f.signed, f.array), (24, 8, false, None));

        let f = field("\tfield:char prev_comm[16];\toffset:8;\tsize:16;\tsigned:0;");
        assert_eq!(
            (f.name.as_str(), f.c_type.as_str(), f.array),
            ("prev_comm", "char", Some(16))
        );

        let f = field("\tfield:char comm[TASK_COMM_LEN];\toffset:8;\tsize:16;\tsigned:0;");
        assert_eq!(f.array, Some(16));

        let f = field("\tfield:unsigned long args[6];\toffset:16;\tsize:48;\tsigned:0;");
        assert_eq!((f.c_type.as_str(), f.array), ("unsigned long", Some(6)));

        let f = field("\tfield:__data_loc char[] name;\toffset:8;\tsize:4;\tsigned:0;");
        assert_eq!(
            (f.name.as_str(), f.c_type.as_str(), f.data_loc),
            ("name", "char", true)
        );

        let f = field("\tfield:struct foo *p;\toffset:8;\tsize:8;\tsigned:0;");
        assert_eq!((f.name.as_str(), f.c_type.as_str()), ("p", "struct foo *"));

        let f = field("\tfield:pid_t pid;\toffset:24;\tsize:4;\tsigned:1;");
        assert_eq!((f.c_type.as_str(), f.signed), ("pid_t", true));
    }

    #[test]
    fn common_fields_and_other_lines_are_left_out() {
        let text = "name: sched_wakeup\nID: 320\nformat:\n\
            \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
            \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
            \tfield:int prio;\toffset:28;\tsize:4;\tsigned:1;\n\n\
            print fmt: \"comm=%s\", REC->comm\n";
        let names: Vec<_> = parse_format(text).into_iter().map(|f| f.name).collect();
        assert_eq!(names, ["prio"]);
    }
}
