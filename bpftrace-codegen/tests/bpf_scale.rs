//! Large programs: thousands of statements in one function.

#[path = "support/cpu_time.rs"]
mod cpu_time;

use std::fmt::Write as _;

use bpftrace_codegen::bpf::{BackendOptions, CompiledFunction, compile_function};

/// A program of `n` statements, each of which increments an element of a map: a key on the stack, a
/// look-up, a null check, an update for the element that is not there yet.
fn counting_program(n: usize) -> String {
    // The filter in front skips everything, which is too far for one jump.
    let last = 1 + n * 4;
    let mut text = format!(
        "function u0:0(i64) -> i64 {{
            ss0 = explicit_slot 8, align = 8
            ss1 = explicit_slot 8, align = 8
            gv0 = symbol colocated u3:0
            sig0 = (i64, i64) -> i64 fast
            sig1 = (i64, i64, i64, i64) -> i64 fast
            fn0 = u0:1 sig0
            fn1 = u0:2 sig1

        block0(v0: i64):
            v1 = iconst.i64 0
            v2 = load.i64 v0+8
            brif v2, block1, block{last}\n"
    );
    for nth in 0..n {
        let v = 10 + nth * 20;
        let b = 1 + nth * 4;
        let _ = write!(
            text,
            "
        block{b}:
            v{v} = load.i64 v0+{offset}
            v{a1} = stack_addr.i64 ss0
            store v{v}, v{a1}
            v{a2} = symbol_value.i64 gv0
            v{a3} = stack_addr.i64 ss0
            v{a4} = call fn0(v{a2}, v{a3})
            v{a5} = iconst.i64 1
            brif v{a4}, block{b1}, block{b2}
        block{b1}:
            v{a6} = atomic_rmw.i64 add v{a4}, v{a5}
            jump block{b4}
        block{b2}:
            v{a7} = stack_addr.i64 ss1
            store v{a5}, v{a7}
            v{a8} = symbol_value.i64 gv0
            v{a9} = stack_addr.i64 ss0
            v{a10} = stack_addr.i64 ss1
            v{a11} = call fn1(v{a8}, v{a9}, v{a10}, v1)
            jump block{b4}\n",
            offset = nth % 64 * 8,
            a1 = v + 1,
            a2 = v + 2,
            a3 = v + 3,
            a4 = v + 4,
            a5 = v + 5,
            a6 = v + 6,
            a7 = v + 7,
            a8 = v + 8,
            a9 = v + 9,
            a10 = v + 10,
            a11 = v + 11,
            b1 = b + 1,
            b2 = b + 2,
            b4 = b + 4,
        );
    }
    let _ = write!(text, "\n        block{last}:\n            return v1\n}}");
    text
}

fn compile(n: usize, verify: bool) -> (CompiledFunction, f64) {
    let text = counting_program(n);
    let func = cranelift_reader::parse_functions(&text)
        .expect("parses")
        .remove(0);
    let mut options = BackendOptions::new();
    options.verify = verify;
    let start = cpu_time::of_thread();
    let compiled = compile_function(func, &options).expect("compiles");
    let cost = cpu_time::of_thread() - start;
    (compiled, cost.as_secs_f64())
}

#[test]
fn five_thousand_statements() {
    let (small, _) = compile(10, true);
    let (large, seconds) = compile(5_000, false);
    println!(
        "5,000 statements, {} instructions: {seconds:.3} s",
        large.code.len() / 8
    );
    // No statement costs more than in a small program.
    assert!(large.code.len() / 5_000 <= small.code.len() / 10);
    assert_eq!(large.stack_size, small.stack_size);
}

#[test]
fn compile_time_is_linear() {
    let best = |n| {
        (0..3)
            .map(|_| compile(n, false).1)
            .fold(f64::INFINITY, f64::min)
    };
    let (one, four) = (best(500), best(2_000));
    println!("500 statements {one:.4} s, 2,000 statements {four:.4} s");
    // Four times the work, with room for noise but none for a square.
    assert!(
        four < one * 10.0,
        "500 statements took {one} s, 2,000 took {four} s"
    );
}
