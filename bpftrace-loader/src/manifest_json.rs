//! What `--manifest` shows of a compiled script.

use std::fmt::Write as _;

use bpftrace_meta::{HostValue, Manifest, MapRole, ParamExpr, ParamStep};
use serde_json::{Value, json};

use crate::features;

/// The manifest for people and tools, as indented JSON: which script, its probes and maps, what is
/// bound at start, and what it requires of a kernel.
#[must_use]
pub fn manifest_json(manifest: &Manifest) -> String {
    let mut hash = String::new();
    for byte in manifest.script.sha256 {
        let _ = write!(hash, "{byte:02x}");
    }
    let probes: Vec<Value> = manifest
        .probes
        .iter()
        .map(|probe| {
            json!({
                "program": probe.program,
                "kind": format!("{:?}", probe.kind),
                "name": probe.name,
                "targets": probe
                    .targets
                    .iter()
                    .map(|target| format!("{target:?}"))
                    .collect::<Vec<_>>(),
                "instructions": probe.n_insns,
            })
        })
        .collect();
    let maps: Vec<Value> = manifest
        .maps
        .iter()
        .map(|map| {
            let name = match &map.role {
                MapRole::Script { name, .. } => Some(name),
                _ => None,
            };
            json!({
                "symbol": map.symbol,
                "name": name,
                "size": format!("{:?}", map.size),
            })
        })
        .collect();
    let slots: Vec<Value> = manifest
        .slots
        .iter()
        .map(|slot| Value::String(slot_text(&slot.value)))
        .collect();
    let fields: Vec<Value> = manifest
        .tracepoint_patches
        .iter()
        .map(|patch| {
            Value::String(format!(
                "tracepoint {}:{} field {}",
                patch.category, patch.event, patch.field
            ))
        })
        .collect();
    let requirements: Vec<Value> = manifest
        .requirements
        .iter()
        .map(|requirement| {
            let (major, minor) = requirement.feature.since();
            json!({
                "feature": features::name(requirement.feature),
                "since": format!("{major}.{minor}"),
                "needed_by": requirement.what,
                "line": requirement.place.line,
            })
        })
        .collect();
    let document = json!({
        "script": {
            "name": manifest.script.name,
            "sha256": hash,
            "compiler": manifest.script.compiler,
        },
        "options": {
            "max_strlen": manifest.options.max_strlen,
            "on_stack_limit": manifest.options.on_stack_limit,
            "unsafe": manifest.options.unsafe_mode,
        },
        "probes": probes,
        "maps": maps,
        "bound_at_start": slots.into_iter().chain(fields).collect::<Vec<_>>(),
        "named_parameters": manifest
            .named_params
            .iter()
            .map(|param| format!("--{}", param.name))
            .collect::<Vec<_>>(),
        "positional_parameters": manifest.n_params,
        "default_options": manifest.default_options,
        "requires": requirements,
    });
    serde_json::to_string_pretty(&document).unwrap_or_default()
}

/// An expression of parameters, with all its parentheses.
fn param_text(expr: &ParamExpr) -> String {
    let mut stack: Vec<String> = Vec::new();
    for step in &expr.0 {
        let last = match step {
            ParamStep::Number(number) => number.to_string(),
            ParamStep::Text(text) => format!("{:?}", String::from_utf8_lossy(text)),
            ParamStep::Param(index) => format!("${index}"),
            ParamStep::ParamText(index) => format!("str(${index})"),
            ParamStep::Count => "$#".to_owned(),
            ParamStep::Neg => format!("-{}", stack.pop().unwrap_or_default()),
            ParamStep::BitNot => format!("~{}", stack.pop().unwrap_or_default()),
            ParamStep::Binary(op) => {
                let (b, a) = (stack.pop(), stack.pop());
                let (a, b) = (a.unwrap_or_default(), b.unwrap_or_default());
                format!("({a} {} {b})", op.as_str())
            }
            ParamStep::Cut => {
                let (b, a) = (stack.pop(), stack.pop());
                format!("str({}, {})", a.unwrap_or_default(), b.unwrap_or_default())
            }
        };
        stack.push(last);
    }
    stack.pop().unwrap_or_default()
}

fn slot_text(value: &HostValue) -> String {
    match value {
        HostValue::Param { index, .. } => format!("${index}"),
        HostValue::ParamCount => "$#".to_owned(),
        HostValue::ParamFold { expr, .. } => param_text(expr),
        HostValue::NamedParam(index) => format!("named parameter {index}"),
        HostValue::KernelSymbol(name) => format!("address of kernel symbol {name}"),
        HostValue::UserSymbol { name, .. } => format!("address of user symbol {name}"),
        HostValue::CgroupId(path) => format!("id of cgroup {path}"),
        HostValue::KernelFunction { name, caller } => match caller {
            Some(kind) => format!("whether {kind:?} programs may call {name}"),
            None => format!("whether the kernel has the function {name}"),
        },
        HostValue::Feature(feature) => format!("feature {}", features::name(*feature)),
        other => format!("{other:?}"),
    }
}
