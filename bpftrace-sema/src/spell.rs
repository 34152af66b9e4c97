//! How types are spelled in messages and dumps.

use bpftrace_meta::{AggKind, StackMode};

use crate::{Ty, TypeTable};

/// The spelling of a type, as in `(int8,string[3])`.
#[must_use]
pub fn spell(ty: &Ty, types: &TypeTable) -> String {
    let mut out = String::new();
    write_ty(ty, types, &mut out, 0);
    out
}

/// The kind of a type in one word, without sizes, names and elements.
pub(crate) fn base_type(ty: &Ty) -> &'static str {
    match ty {
        Ty::Void => "void",
        Ty::Bool => "bool",
        // Enums are integers that know their names.
        Ty::Int(_) | Ty::Enum(..) => "int",
        Ty::Ptr(..) => "pointer",
        Ty::Struct(..) => "struct",
        Ty::Array(..) => "array",
        Ty::Str(_) | Ty::ProbeName => "string",
        Ty::Buf(_) => "buffer",
        Ty::Tuple(_) => "tuple",
        Ty::Record(_) => "record",
        Ty::KStack(_) => "kstack",
        Ty::UStack(_) => "ustack",
        Ty::KSym => "ksym_t",
        Ty::USym => "usym_t",
        Ty::Inet => "inet",
        Ty::Username => "username_t",
        Ty::Timestamp => "timestamp",
        Ty::MacAddr => "mac_address",
        Ty::CgroupPath => "cgroup_path_t",
        Ty::Agg(agg) => spell_agg(agg),
    }
}

/// Types nest no deeper than this in messages.
const MAX_DEPTH: u32 = 64;

fn write_ty(ty: &Ty, types: &TypeTable, out: &mut String, depth: u32) {
    if depth > MAX_DEPTH {
        out.push_str("...");
        return;
    }
    match ty {
        Ty::Void => out.push_str("void"),
        Ty::Bool => out.push_str("bool"),
        Ty::Int(int) => {
            if !int.signed {
                out.push('u');
            }
            out.push_str("int");
            out.push_str(&(u32::from(int.size) * 8).to_string());
        }
        Ty::Enum(id, _) => {
            out.push_str("enum ");
            out.push_str(name_or_anonymous(&types.enum_def(*id).name));
        }
        Ty::Ptr(pointee, _) => {
            write_ty(pointee, types, out, depth + 1);
            out.push_str(" *");
        }
        Ty::Struct(id, _) => {
            let def = types.struct_def(*id);
            out.push_str(if def.is_union { "union " } else { "struct " });
            out.push_str(name_or_anonymous(&def.name));
        }
        Ty::Array(element, count, _) => {
            write_ty(element, types, out, depth + 1);
            out.push_str(&format!("[{count}]"));
        }
        Ty::Str(n) => out.push_str(&format!("string[{n}]")),
        Ty::Buf(n) => out.push_str(&format!("buffer[{}]", u64::from(*n) + 4)),
        Ty::Tuple(elements) => {
            out.push('(');
            for (i, element) in elements.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_ty(element, types, out, depth + 1);
            }
            out.push(')');
        }
        Ty::Record(fields) => {
            out.push_str("record {");
            for (i, (name, field)) in fields.iter().enumerate() {
                out.push_str(if i > 0 { ", ." } else { " ." });
                out.push_str(name);
                out.push_str(" = ");
                write_ty(field, types, out, depth + 1);
            }
            out.push_str(" }");
        }
        Ty::KStack(stack) => {
            out.push_str(&format!(
                "kstack_{}_{}",
                spell_mode(stack.mode),
                stack.limit
            ));
        }
        Ty::UStack(stack) => {
            out.push_str(&format!(
                "ustack_{}_{}",
                spell_mode(stack.mode),
                stack.limit
            ));
        }
        Ty::KSym => out.push_str("ksym_t"),
        Ty::USym => out.push_str("usym_t"),
        Ty::Inet => out.push_str("inet[24]"),
        Ty::Username => out.push_str("username_t"),
        Ty::Timestamp => out.push_str("timestamp"),
        Ty::MacAddr => out.push_str("mac_address"),
        Ty::CgroupPath => out.push_str("cgroup_path_t"),
        Ty::ProbeName => out.push_str("string"),
        Ty::Agg(agg) => out.push_str(spell_agg(agg)),
    }
}

/// The spelling of an aggregation: `count_t`, `usum_t`.
#[must_use]
pub(crate) fn spell_agg(agg: &AggKind) -> &'static str {
    match agg {
        AggKind::Count => "count_t",
        AggKind::Sum { signed: true } => "sum_t",
        AggKind::Sum { signed: false } => "usum_t",
        AggKind::Min { signed: true } => "min_t",
        AggKind::Min { signed: false } => "umin_t",
        AggKind::Max { signed: true } => "max_t",
        AggKind::Max { signed: false } => "umax_t",
        AggKind::Avg { signed: true } => "avg_t",
        AggKind::Avg { signed: false } => "uavg_t",
        AggKind::Stats { signed: true } => "stats_t",
        AggKind::Stats { signed: false } => "ustats_t",
        AggKind::Hist { .. } => "hist_t",
        AggKind::Lhist { .. } => "lhist_t",
        AggKind::Tseries { .. } => "tseries_t",
    }
}

fn spell_mode(mode: StackMode) -> &'static str {
    match mode {
        StackMode::Bpftrace => "bpftrace",
        StackMode::Perf => "perf",
        StackMode::Raw => "raw",
        StackMode::BuildId => "build_id",
    }
}

fn name_or_anonymous(name: &str) -> &str {
    if name.is_empty() { "<anonymous>" } else { name }
}
