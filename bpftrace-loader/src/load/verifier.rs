use bpftrace_meta::{SourceMeta, SourceRange};

/// What the verifier did not like, out of its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    /// Its last words.
    pub(super) reason: String,
    /// Text of the script's line that it was at.
    pub(super) line: Option<String>,
    /// The helper or kernel function that it was at a call of.
    pub(super) helper: Option<String>,
    /// File and line number, which kernels name since 6.9.
    at: Option<(String, u32)>,
}

/// Finds the complaint in a log; `None` when there is nothing in it.
pub(super) fn complaint(log: &str) -> Option<Complaint> {
    if let Some(found) = report(log) {
        return Some(found);
    }
    let mut reason: Option<&str> = None;
    let mut source: Option<&str> = None;
    let mut helper = None;
    for line in log.lines() {
        let text = line.trim();
        if text.is_empty() || is_summary(text) {
            continue;
        }
        if let Some(quoted) = text.strip_prefix("; ") {
            source = Some(quoted);
        } else if is_trace(text) {
            helper = called(text).or(helper.filter(|_| !is_instruction(text)));
        } else {
            reason = Some(text);
        }
    }
    let reason = reason?.to_owned();
    let (line, at) = match source {
        None => (None, None),
        Some(text) => match text.rsplit_once(" @ ") {
            Some((line, place)) => {
                let at = place
                    .rsplit_once(':')
                    .and_then(|(file, number)| Some((file.to_owned(), number.parse().ok()?)));
                (Some(line.trim().to_owned()), at)
            }
            None => (Some(text.trim().to_owned()), None),
        },
    };
    Some(Complaint {
        reason,
        line,
        helper: helper.map(str::to_owned),
        at,
    })
}

/// Reads the report that kernels write from 7.3 on about some mistakes, with a heading over each part and what
/// is meant in lines that begin with `>>>`.
fn report(log: &str) -> Option<Complaint> {
    let (_, report) = log.rsplit_once("\nReason:\n")?;
    let mut lines = report.lines().map(str::trim);
    let reason: Vec<&str> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    let mut complaint = Complaint {
        reason: reason.join(" "),
        line: None,
        helper: None,
        at: None,
    };
    for line in lines {
        if let Some((_, call)) = line.strip_prefix(">>>").and_then(|it| it.split_once(" | ")) {
            match called(call) {
                Some(name) => complaint.helper = Some(name.to_owned()),
                None => drop(complaint.line.get_or_insert_with(|| call.trim().to_owned())),
            }
        } else if let Some((_, place)) = line.split_once(" @ ") {
            // File, line and column.
            let mut parts = place.rsplitn(3, ':').skip(1);
            if let (Some(number), Some(file)) = (parts.next(), parts.next()) {
                complaint.at = number.parse().ok().map(|number| (file.to_owned(), number));
            }
        }
    }
    (!complaint.reason.is_empty()).then_some(complaint)
}

/// Statistics behind the complaint.
fn is_summary(text: &str) -> bool {
    [
        "processed ",
        "verification time",
        "stack depth",
        "max_states_per_insn",
    ]
    .iter()
    .any(|start| text.starts_with(start))
}

/// Whether a line of the log is about an instruction.
fn is_instruction(text: &str) -> bool {
    text.split_once(": (").is_some_and(|(number, _)| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// The helper that an instruction calls: `12: (85) call bpf_d_path#147`.
fn called(text: &str) -> Option<&str> {
    let (_, call) = text.split_once("(85) call ")?;
    let (name, _) = call.split_once('#')?;
    name.starts_with("bpf_").then_some(name)
}

/// An instruction, or the state of registers: `12: (85) call ...`, `from 3 to 7: R0=...`, `R0=...`.
fn is_trace(text: &str) -> bool {
    let number_then_colon = text
        .split_once(':')
        .is_some_and(|(start, _)| !start.is_empty() && start.bytes().all(|b| b.is_ascii_digit()));
    let registers = text.starts_with('R')
        && text
            .split_once(['=', '_'])
            .is_some_and(|(start, _)| start[1..].bytes().all(|b| b.is_ascii_digit()));
    number_then_colon
        || registers
        || text.starts_with("from ")
        || text.starts_with("cur state:")
        || text.starts_with("old state:")
        || text.starts_with("mark_precise")
        || text.starts_with("func#")
        || text.starts_with("Func#")
}

impl Complaint {
    /// The whole line of the script, when the kernel names it and the artifact has it.
    pub(super) fn place(&self, source: &SourceMeta) -> Option<SourceRange> {
        let (file, line) = self.at.as_ref()?;
        let file = source.files.iter().position(|known| known == file)? as u32;
        let text = source.line(file, *line)?;
        let indent = text.len() - text.trim_start().len();
        Some(SourceRange {
            file,
            line: *line,
            column: indent as u32 + 1,
            end_line: *line,
            end_column: text.trim_end().len() as u32 + 1,
        })
    }

    /// The helper that this kernel does not let a program of this kind call.
    pub(super) fn refused_helper(&self) -> Option<&str> {
        let refused = self.reason.contains("helper call is not allowed in probe")
            || self
                .reason
                .contains("program of this type cannot use helper")
            || self.reason.starts_with("unknown func ")
            || (self.reason.starts_with("The helper ") && self.reason.contains(" is not allowed"));
        self.helper.as_deref().filter(|_| refused)
    }

    /// What the user can do about it.
    pub(super) fn hint(&self) -> Option<&'static str> {
        let reason = &self.reason;
        if reason.contains("pointer arithmetic on ptr_or_null_")
            || reason.contains("'map_value_or_null'")
        {
            Some("result needs to be null-checked before accessing fields")
        } else if reason.contains("combined stack size") || reason.contains("invalid stack off") {
            Some(
                "Stack size is too large. Trying moving some scratch variables into maps or try \
                 setting a lower on_stack_limit (e.g. `config = { on_stack_limit=16 }`)",
            )
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_reason_and_line() {
        let log = "func#0 @0\n0: R1=ctx() R10=fp0\n; @a = *(uint64*)$x; @ stdin:3\n\
                   0: (79) r1 = *(u64 *)(r1 +8192)\ninvalid bpf_context access off=8192 size=8\n\
                   processed 1 insns (limit 1000000) max_states_per_insn 0 total_states 0\n";
        let complaint = complaint(log).unwrap();
        assert_eq!(
            complaint,
            Complaint {
                reason: "invalid bpf_context access off=8192 size=8".into(),
                line: Some("@a = *(uint64*)$x;".into()),
                helper: None,
                at: Some(("stdin".into(), 3)),
            }
        );
        let source = SourceMeta {
            files: vec!["stdin".into()],
            lines: vec![(0, 3, "  @a = *(uint64*)$x;".into())],
        };
        let place = complaint.place(&source).unwrap();
        assert_eq!((place.line, place.column, place.end_column), (3, 3, 21));
    }

    #[test]
    fn finds_the_helper_that_is_refused() {
        let log = "; print(path(args.file.f_path)); @ stdin:1\n11: (85) call bpf_d_path#147\n\
                   helper call is not allowed in probe\nprocessed 1 insns (limit 1000000)\n";
        let found = complaint(log).unwrap();
        assert_eq!(found.refused_helper(), Some("bpf_d_path"));
        let log = "1: (85) call bpf_override_return#58\nunknown func bpf_override_return#58\n";
        assert_eq!(
            complaint(log).unwrap().refused_helper(),
            Some("bpf_override_return")
        );
        // The call was fine, what came behind it was not.
        let log =
            "1: (85) call bpf_ktime_get_ns#5\n2: (95) exit\nhelper call is not allowed in probe\n";
        assert_eq!(complaint(log).unwrap().refused_helper(), None);
        let log = "1: (85) call bpf_d_path#147\nR1 type=scalar expected=ptr_\n";
        assert_eq!(complaint(log).unwrap().refused_helper(), None);
    }

    // F226
    #[test]
    fn reads_reports_with_headings() {
        let log = "0: (85) call bpf_d_path#147\n\nReason:\n  The helper bpf_d_path#147 is not allowed: \
                   policy rejected this\n  program.\n\nAt:\n  fentry_vfs_read_1 @ stdin:1:25\n  Source \
                   context:\n\n  >>> 1 | fentry:vfs_read { print(path(args.file.f_path)); }\n        | ^-- \
                   error: policy\n  Instruction context:\n      38 | (b7) r3 = 1024\n  >>> 39 | (85) call \
                   bpf_d_path#147\n\nSuggestion:\n  Use the helper elsewhere.\n\nprocessed 19 insns\n";
        let found = complaint(log).unwrap();
        assert_eq!(
            found,
            Complaint {
                reason: "The helper bpf_d_path#147 is not allowed: policy rejected this program."
                    .into(),
                line: Some("fentry:vfs_read { print(path(args.file.f_path)); }".into()),
                helper: Some("bpf_d_path".into()),
                at: Some(("stdin".into(), 1)),
            }
        );
        assert_eq!(found.refused_helper(), Some("bpf_d_path"));
    }

    // F226
    #[test]
    fn what_an_endless_loop_is_in_is_no_reason() {
        let log = "0: (05) goto pc-1\ninfinite loop detected at insn 0\n\
                   cur state: R1=ctx() R10=fp0\nold state: R1=ctx() R10=fp0\nprocessed 9 insns\n";
        let complaint = complaint(log).unwrap();
        assert_eq!(complaint.reason, "infinite loop detected at insn 0");
    }

    #[test]
    fn old_kernels_name_no_place() {
        let complaint = complaint("; $x = 1;\n0: (b7) r0 = 0\nR0 !read_ok\n").unwrap();
        assert_eq!(complaint.reason, "R0 !read_ok");
        assert_eq!(complaint.line.as_deref(), Some("$x = 1;"));
        assert_eq!(complaint.at, None);
        assert_eq!(super::complaint(""), None);
    }
}
