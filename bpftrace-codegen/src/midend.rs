//! Cranelift's passes that need no target, in the order of `cranelift_codegen::Context::optimize`.
//!
//! Which loads they may merge or move is written down in [`crate::symbols`] and pinned by the file
//! tests. One rewrite is unwanted: a division by a constant becomes a multiplication whose upper
//! half is used, and BPF has no such instruction but has a divider. So the constant is hidden
//! from the e-graph behind a symbol, see [`hidden_constant`].

use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::cursor::{Cursor, FuncCursor};
use cranelift_codegen::ir::{
    ExternalName, Function, GlobalValueData, InstBuilder, InstructionData, Opcode,
    UserExternalName, Value, ValueDef, immediates::Imm64,
};
use cranelift_codegen::settings::{self, Configurable, Flags};

use crate::bpf::{BackendError, BackendOptions};

/// Namespace of hidden constants; the symbol's offset is the constant.
const NS_HIDDEN_CONSTANT: u32 = u32::MAX;

/// Most blocks of a function that goes through the e-graph. For each expression the pass walks up the
/// dominator tree, as far as its operands are known from: in a function of nothing but conditions one behind the
/// other that takes a time quadratic in their number. The verifier has no use for such a function: of the branches
/// on a path it puts off at most 8,192 (`BPF_COMPLEXITY_LIMIT_JMP_SEQ`).
const MAX_BLOCKS: usize = 65_536;

/// The constant behind a global value that [`optimize`] made, if it is one.
pub(crate) fn hidden_constant(func: &Function, data: &GlobalValueData) -> Option<i64> {
    match data {
        GlobalValueData::Symbol {
            name: ExternalName::User(name),
            offset,
            ..
        } => {
            let name = func.params.user_named_funcs().get(*name)?;
            (name.namespace == NS_HIDDEN_CONSTANT).then_some(offset.bits())
        }
        _ => None,
    }
}

/// Runs the passes; the result is in SSA form, has no unreachable blocks and no value aliases, and
/// its control-flow graph and dominator tree are up to date.
pub(crate) fn optimize(func: Function, options: &BackendOptions) -> Result<Context, BackendError> {
    let name = func.name.to_string();
    let invalid = |message: String| BackendError::InvalidClif {
        function: name.clone(),
        message,
    };
    let mut builder = settings::builder();
    let verifier = if options.verify { "true" } else { "false" };
    builder
        .set("enable_verifier", verifier)
        .map_err(|error| invalid(format!("settings: {error}")))?;
    let flags = Flags::new(builder);
    let pass = |result: Result<(), cranelift_codegen::CodegenError>| {
        result.map_err(|error| invalid(format!("{error:?}")))
    };

    let mut context = Context::for_function(func);
    context.compute_cfg();
    context.compute_domtree();
    pass(context.verify_if(&flags))?;
    pass(context.eliminate_unreachable_code(&flags))?;
    pass(context.remove_constant_phis(&flags))?;
    context.func.dfg.resolve_all_aliases();
    if options.optimize && context.func.dfg.num_blocks() <= MAX_BLOCKS {
        hide_divisors(&mut context.func);
        pass(context.egraph_pass(&flags, &mut ControlPlane::default()))?;
        // Folded branches leave blocks behind.
        pass(context.eliminate_unreachable_code(&flags))?;
        context.func.dfg.resolve_all_aliases();
    }
    Ok(context)
}

/// Replaces constant divisors that are no power of two by symbols.
fn hide_divisors(func: &mut Function) {
    let mut cursor = FuncCursor::new(func);
    while cursor.next_block().is_some() {
        while let Some(inst) = cursor.next_inst() {
            let InstructionData::Binary {
                opcode,
                args: [dividend, divisor],
            } = cursor.func.dfg.insts[inst]
            else {
                continue;
            };
            if !matches!(
                opcode,
                Opcode::Udiv | Opcode::Urem | Opcode::Sdiv | Opcode::Srem
            ) {
                continue;
            }
            let Some(constant) = constant_of(cursor.func, divisor) else {
                continue;
            };
            let both_constant = constant_of(cursor.func, dividend).is_some() && constant != 0;
            if constant.unsigned_abs().is_power_of_two() || both_constant {
                continue;
            }
            let ty = cursor.func.dfg.value_type(divisor);
            let name = UserExternalName {
                namespace: NS_HIDDEN_CONSTANT,
                index: 0,
            };
            let name = cursor.func.declare_imported_user_function(name);
            let global = cursor.func.create_global_value(GlobalValueData::Symbol {
                name: ExternalName::user(name),
                offset: Imm64::new(constant),
                colocated: true,
                tls: false,
            });
            cursor.set_srcloc(cursor.func.srcloc(inst));
            let hidden = cursor.ins().symbol_value(ty, global);
            cursor.func.dfg.inst_args_mut(inst)[1] = hidden;
        }
    }
}

fn constant_of(func: &Function, value: Value) -> Option<i64> {
    let ValueDef::Result(inst, 0) = func.dfg.value_def(value) else {
        return None;
    };
    match func.dfg.insts[inst] {
        InstructionData::UnaryImm {
            opcode: Opcode::Iconst,
            imm,
        } => Some(imm.bits()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use cranelift_codegen::ir::{AbiParam, Signature, UserFuncName, types};
    use cranelift_codegen::isa::CallConv;
    use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};

    use super::*;

    /// Adds 1 and 2, in the first of so many blocks, and whether optimising leaves the addition.
    fn adds(n_blocks: usize) -> bool {
        let mut signature = Signature::new(CallConv::SystemV);
        signature.returns.push(AbiParam::new(types::I64));
        let mut func = Function::with_name_signature(UserFuncName::user(0, 0), signature);
        let mut context = FunctionBuilderContext::new();
        let mut b = FunctionBuilder::new(&mut func, &mut context);
        let block = b.create_block();
        b.switch_to_block(block);
        let (one, two) = (b.ins().iconst(types::I64, 1), b.ins().iconst(types::I64, 2));
        let sum = b.ins().iadd(one, two);
        for _ in 1..n_blocks {
            let next = b.create_block();
            b.ins().jump(next, &[]);
            b.switch_to_block(next);
        }
        b.ins().return_(&[sum]);
        b.seal_all_blocks();
        let options = BackendOptions {
            verify: false,
            ..BackendOptions::new()
        };
        let context = optimize(func, &options).expect("it is valid");
        let func = &context.func;
        let mut insts = func
            .layout
            .blocks()
            .flat_map(|block| func.layout.block_insts(block));
        insts.any(|inst| func.dfg.insts[inst].opcode() == Opcode::Iadd)
    }

    #[test]
    fn functions_too_large_for_any_kernel_stay_as_they_are() {
        assert!(!adds(2));
        assert!(adds(MAX_BLOCKS + 1));
    }
}
