//! Generated CLIF functions run in Cranelift's interpreter and, compiled, on two BPF machines and in
//! the running kernel, if that is possible; all must agree.

mod generate;
mod kernel;
mod machine;

use cranelift_codegen::data_value::DataValue;
use cranelift_codegen::ir::Function;
use cranelift_interpreter::environment::FunctionStore;
use cranelift_interpreter::interpreter::{Interpreter, InterpreterState};
use cranelift_interpreter::step::ControlFlow;
use proptest::prelude::*;

use bpftrace_codegen::bpf::{
    BackendError, BackendOptions, CompiledFunction, Insn, JmpOp, Reg, Src, Width, compile_function,
    disassemble,
};
use generate::{HELPER_ID, Purpose, Stmt, build, helper_function, number, simple, stmt};
use kernel::Outcome;
use machine::Machine;

/// Longest jump of BPF, and one that makes generated programs need islands.
const MAX_JUMP: u32 = 32_767;
const SHORT_JUMP: u32 = 40;

fn helper([a, b, c, d, e]: [u64; 5]) -> u64 {
    (a.wrapping_mul(b) ^ c)
        .wrapping_sub(d)
        .wrapping_mul(e)
        .wrapping_add(a)
}

fn rbpf_helper(a: u64, b: u64, c: u64, d: u64, e: u64) -> u64 {
    helper([a, b, c, d, e])
}

fn interpret(func: &Function, purpose: Purpose, args: [u64; 5]) -> Option<u64> {
    let helper = helper_function(purpose);
    let mut store = FunctionStore::default();
    store.add(func.name.to_string(), func);
    store.add(helper.name.to_string(), &helper);
    let state = InterpreterState::default().with_function_store(store);
    let mut interpreter = Interpreter::new(state);
    let args = args.map(|arg| DataValue::I64(arg as i64));
    match interpreter.call_by_name(&func.name.to_string(), &args) {
        Ok(ControlFlow::Return(values)) => match values[0] {
            DataValue::I64(value) => Some(value as u64),
            ref other => panic!("unexpected result {other}"),
        },
        // A trap, which ends a BPF program early.
        Ok(_) => None,
        Err(error) => panic!("interpreter: {error}\n{func}"),
    }
}

/// rbpf compares 64-bit registers with zero-extended immediates, where the kernel extends the sign;
/// and it has no atomics.
fn rbpf_can_run(code: &[u8]) -> bool {
    let mut rest = code;
    while let Some(insn) = Insn::decode(rest) {
        match insn {
            Insn::Atomic { .. } => return false,
            Insn::JumpIf {
                op,
                width: Width::W64,
                rhs: Src::Imm(imm),
                ..
            } => {
                let extended = matches!(
                    op,
                    JmpOp::Sgt | JmpOp::Sge | JmpOp::Slt | JmpOp::Sle | JmpOp::Set
                );
                if imm < 0 && !extended {
                    return false;
                }
            }
            _ => {}
        }
        rest = &rest[insn.slots() as usize * 8..];
    }
    true
}

fn run_rbpf(code: &[u8], args: [u64; 5]) -> Result<u64, String> {
    let mut program = Vec::new();
    for (idx, &value) in args.iter().enumerate() {
        let dst = Reg::argument(idx).expect("five arguments");
        Insn::LdImm64 {
            dst,
            pseudo: 0,
            value,
        }
        .encode(&mut program);
    }
    program.extend(code);
    let mut vm = rbpf::EbpfVmNoData::new(Some(&program)).map_err(|error| error.to_string())?;
    vm.register_helper(HELPER_ID, rbpf_helper)
        .map_err(|error| error.to_string())?;
    vm.execute_program().map_err(|error| error.to_string())
}

fn compile(
    func: &Function,
    optimize: bool,
    max_jump: u32,
) -> Result<CompiledFunction, TestCaseError> {
    let mut options = BackendOptions::new();
    options.verify = true;
    options.optimize = optimize;
    options.dump_vcode = true;
    options.dump_clif_opt = true;
    options.max_jump = max_jump;
    // Leaves room for a callee.
    options.stack_limit = 448;
    compile_function(func.clone(), &options).map_err(|error| match error {
        BackendError::StackOverflow { .. } => TestCaseError::reject("stack"),
        // One comparison of a chain may be longer than a short jump.
        BackendError::JumpTooFar { .. } if max_jump < MAX_JUMP => TestCaseError::reject("jump"),
        error => TestCaseError::fail(format!("{error}\n{func}")),
    })
}

fn explain(func: &Function, compiled: &CompiledFunction) -> String {
    format!(
        "{func}\n{}\n{}\n{}",
        compiled.clif_opt.as_deref().unwrap_or_default(),
        compiled.vcode.as_deref().unwrap_or_default(),
        disassemble(&compiled.code, &compiled.relocs)
    )
}

fn check(stmts: &[Stmt], live: u16, args: [u64; 5]) -> Result<(), TestCaseError> {
    let purpose = Purpose::UserSpace;
    let func = build(stmts, live, purpose);
    let Some(expected) = interpret(&func, purpose, args) else {
        return Err(TestCaseError::reject("traps"));
    };
    for (optimize, max_jump) in [(true, MAX_JUMP), (false, SHORT_JUMP)] {
        let compiled = compile(&func, optimize, max_jump)?;
        let explain = || explain(&func, &compiled);
        let mut machine = Machine::new(&args);
        machine.helper(HELPER_ID as i32, 5, helper);
        prop_assert_eq!(machine.run(&compiled.code), Ok(expected), "{}", explain());
        if rbpf_can_run(&compiled.code) {
            prop_assert_eq!(
                run_rbpf(&compiled.code, args),
                Ok(expected),
                "rbpf: {}",
                explain()
            );
        }
    }
    Ok(())
}

/// The verifier must accept the program, and it must give what the interpreter gives.
fn check_in_kernel(stmts: &[Stmt], live: u16, args: [u64; 5]) -> Result<(), TestCaseError> {
    let purpose = Purpose::Kernel;
    let func = build(stmts, live, purpose);
    let Some(expected) = interpret(&func, purpose, args) else {
        return Err(TestCaseError::reject("traps"));
    };
    let subprog = compile(&helper_function(purpose), true, MAX_JUMP)?;
    for (optimize, max_jump) in [(true, MAX_JUMP), (false, SHORT_JUMP)] {
        let compiled = compile(&func, optimize, max_jump)?;
        match kernel::run(&compiled, &subprog, args) {
            Outcome::TooComplex => return Err(TestCaseError::reject("complexity")),
            Outcome::Refused(log) => {
                let log = &log[log.len().saturating_sub(2_000)..];
                return Err(TestCaseError::fail(format!(
                    "{log}\n{}",
                    explain(&func, &compiled)
                )));
            }
            Outcome::Returned(actual) => {
                prop_assert_eq!(u64::from(actual), expected, "{}", explain(&func, &compiled));
            }
        }
    }
    Ok(())
}

/// Few cases for everyday runs; `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    let mut config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 64;
    }
    config
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn straight_line(
        stmts in prop::collection::vec(simple(), 1..12),
        live in any::<u16>(),
        args in any::<[u64; 5]>(),
    ) {
        check(&stmts, live, args)?;
    }

    #[test]
    fn control_flow(
        stmts in prop::collection::vec(stmt(), 1..12),
        live in any::<u16>(),
        args in prop::array::uniform5(number().prop_map(|value| value as u64)),
    ) {
        check(&stmts, live, args)?;
    }
}

#[test]
fn kernel_agrees() {
    if let Some(reason) = kernel::unavailable() {
        println!("skipped: {reason}");
        return;
    }
    let statements = prop::collection::vec(stmt(), 1..12);
    let args = prop::array::uniform5(number().prop_map(|value| value as u64));
    let mut config = config();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        // The verifier takes its time.
        config.cases = 24;
    }
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let result = runner.run(&(statements, any::<u16>(), args), |(stmts, live, args)| {
        check_in_kernel(&stmts, live, args)
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}
