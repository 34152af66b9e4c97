//! Generated CLIF functions, and the statements that they are made of.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AbiParam, AtomicRmwOp, BlockCall, ExtFuncData, ExternalName, Function, InstBuilder,
    JumpTableData, MemFlagsData, Signature, StackSlot, StackSlotData, StackSlotKind, Type,
    UserFuncName, Value, types,
};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};
use proptest::prelude::*;

use bpftrace_codegen::symbols::Symbol;

const TYPES: [Type; 4] = [types::I8, types::I16, types::I32, types::I64];
const VARS_PER_TYPE: usize = 3;
pub(crate) const HELPER_ID: u32 = 5;
const BUFFER_BYTES: u32 = 64;

/// A variable: index of its type, and which of that type.
pub(crate) type Var = (u8, u8);

#[derive(Clone, Debug)]
pub(crate) enum Stmt {
    Const {
        dst: Var,
        value: i64,
    },
    Binary {
        op: u8,
        dst: Var,
        lhs: u8,
        rhs: u8,
    },
    BinaryImm {
        op: u8,
        dst: Var,
        lhs: u8,
        imm: i64,
        left: bool,
    },
    Unary {
        op: u8,
        dst: Var,
        arg: u8,
    },
    Convert {
        signed: bool,
        dst: Var,
        src: Var,
    },
    Compare {
        cc: u8,
        dst: u8,
        lhs: Var,
        rhs: u8,
        imm: Option<i64>,
    },
    Choose {
        cc: u8,
        dst: Var,
        lhs: Var,
        rhs: u8,
        if_true: u8,
        if_false: u8,
    },
    Select {
        dst: Var,
        cond: Var,
        if_true: u8,
        if_false: u8,
        imm: Option<i64>,
    },
    Load {
        dst: Var,
        kind: u8,
        at: u8,
    },
    Store {
        src: Var,
        kind: u8,
        at: u8,
        imm: Option<i64>,
    },
    Atomic {
        op: u8,
        wide: bool,
        dst: u8,
        src: u8,
        at: u8,
    },
    Call {
        dst: u8,
        args: [u8; 5],
    },
    If {
        cond: Cond,
        then: Vec<Stmt>,
        otherwise: Vec<Stmt>,
    },
    Loop {
        count: u8,
        body: Vec<Stmt>,
    },
    Switch {
        value: Var,
        arms: Vec<Vec<Stmt>>,
    },
}

#[derive(Clone, Debug)]
pub(crate) enum Cond {
    Truth(Var),
    Compare {
        cc: u8,
        lhs: Var,
        rhs: u8,
        imm: Option<i64>,
    },
    Bits {
        lhs: Var,
        rhs: u8,
        imm: Option<i64>,
        zero: bool,
    },
}

const CONDITIONS: [IntCC; 10] = [
    IntCC::Equal,
    IntCC::NotEqual,
    IntCC::SignedLessThan,
    IntCC::SignedGreaterThanOrEqual,
    IntCC::SignedGreaterThan,
    IntCC::SignedLessThanOrEqual,
    IntCC::UnsignedLessThan,
    IntCC::UnsignedGreaterThanOrEqual,
    IntCC::UnsignedGreaterThan,
    IntCC::UnsignedLessThanOrEqual,
];

/// Where the function is going to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Anywhere: any access to the stack, a helper, a result of 64 bits.
    UserSpace,
    /// In the kernel: aligned accesses only, a subprogram, a result whose low half is what matters.
    Kernel,
}

impl Purpose {
    fn callee(self) -> Symbol {
        match self {
            Purpose::UserSpace => Symbol::Helper(HELPER_ID),
            Purpose::Kernel => Symbol::Subprog(0),
        }
    }
}

struct Gen<'a, 'b> {
    purpose: Purpose,
    builder: &'a mut FunctionBuilder<'b>,
    vars: [[Variable; VARS_PER_TYPE]; 4],
    buffer: StackSlot,
}

impl Gen<'_, '_> {
    fn ty(var: Var) -> Type {
        TYPES[usize::from(var.0) % 4]
    }

    fn var(&self, var: Var) -> Variable {
        self.vars[usize::from(var.0) % 4][usize::from(var.1) % VARS_PER_TYPE]
    }

    fn get(&mut self, var: Var) -> Value {
        let var = self.var(var);
        self.builder.use_var(var)
    }

    fn set(&mut self, var: Var, value: Value) {
        let var = self.var(var);
        self.builder.def_var(var, value);
    }

    fn iconst(&mut self, ty: Type, value: i64) -> Value {
        let masked = (value as u64 & (u64::MAX >> (64 - ty.bits()))) as i64;
        self.builder.ins().iconst(ty, masked)
    }

    fn binary(&mut self, op: u8, ty: Type, lhs: Value, rhs: Value) -> Value {
        let ins = self.builder.ins();
        match op % 24 {
            0 | 1 => ins.iadd(lhs, rhs),
            2 | 3 => ins.isub(lhs, rhs),
            4 => ins.imul(lhs, rhs),
            5 => ins.band(lhs, rhs),
            6 => ins.bor(lhs, rhs),
            7 => ins.bxor(lhs, rhs),
            8 => ins.ishl(lhs, rhs),
            9 => ins.ushr(lhs, rhs),
            10 => ins.sshr(lhs, rhs),
            11 => ins.rotl(lhs, rhs),
            12 => ins.rotr(lhs, rhs),
            13 => ins.umin(lhs, rhs),
            14 => ins.umax(lhs, rhs),
            15 => ins.smin(lhs, rhs),
            16 => ins.smax(lhs, rhs),
            17 | 18 => {
                let one = self.iconst(ty, 1);
                let rhs = self.builder.ins().bor(rhs, one);
                if op % 24 == 17 {
                    self.builder.ins().udiv(lhs, rhs)
                } else {
                    self.builder.ins().urem(lhs, rhs)
                }
            }
            19 | 20 => {
                // Neither 0 nor -1.
                let mask = self.iconst(ty, 0x3f);
                let odd = self.iconst(ty, 3);
                let rhs = self.builder.ins().band(rhs, mask);
                let rhs = self.builder.ins().bor(rhs, odd);
                let rhs = if op & 0x40 != 0 {
                    self.builder.ins().ineg(rhs)
                } else {
                    rhs
                };
                if op % 24 == 19 {
                    self.builder.ins().sdiv(lhs, rhs)
                } else {
                    self.builder.ins().srem(lhs, rhs)
                }
            }
            21 => ins.umulhi(lhs, rhs),
            22 => ins.smulhi(lhs, rhs),
            _ => {
                let not = ins.bnot(rhs);
                self.builder.ins().band(lhs, not)
            }
        }
    }

    fn unary(&mut self, op: u8, ty: Type, arg: Value) -> Value {
        let ins = self.builder.ins();
        match op % 10 {
            0 => ins.ineg(arg),
            1 => ins.bnot(arg),
            2 => ins.clz(arg),
            3 => ins.ctz(arg),
            4 => ins.popcnt(arg),
            5 if ty != types::I8 => ins.bswap(arg),
            6 => ins.bmask(ty, arg),
            7 => ins.cls(arg),
            8 => ins.iabs(arg),
            _ => ins.ineg(arg),
        }
    }

    fn rhs(&mut self, lhs: Var, rhs: u8, imm: Option<i64>) -> Value {
        match imm {
            Some(imm) => self.iconst(Self::ty(lhs), imm),
            None => self.get((lhs.0, rhs)),
        }
    }

    fn cond(&mut self, cond: &Cond) -> Value {
        match *cond {
            Cond::Truth(var) => self.get(var),
            Cond::Compare { cc, lhs, rhs, imm } => {
                let (left, right) = (self.get(lhs), self.rhs(lhs, rhs, imm));
                self.builder
                    .ins()
                    .icmp(CONDITIONS[usize::from(cc) % 10], left, right)
            }
            Cond::Bits {
                lhs,
                rhs,
                imm,
                zero,
            } => {
                let (left, right) = (self.get(lhs), self.rhs(lhs, rhs, imm));
                let bits = self.builder.ins().band(left, right);
                if zero {
                    let nothing = self.iconst(Self::ty(lhs), 0);
                    self.builder.ins().icmp(IntCC::Equal, bits, nothing)
                } else {
                    bits
                }
            }
        }
    }

    /// Address of a byte of the buffer that leaves room for `ty`, and an offset to add.
    fn place(&mut self, ty: Type, at: u8) -> (Value, i32) {
        let at = match self.purpose {
            Purpose::UserSpace => i32::from(at) % (BUFFER_BYTES - ty.bytes()) as i32,
            Purpose::Kernel => i32::from(at) % (BUFFER_BYTES / 8) as i32 * 8,
        };
        match at % 3 {
            0 => (
                self.builder.ins().stack_addr(types::I64, self.buffer, 0),
                at,
            ),
            1 => (
                self.builder.ins().stack_addr(types::I64, self.buffer, at),
                0,
            ),
            _ => {
                let base = self.builder.ins().stack_addr(types::I64, self.buffer, 2);
                (self.builder.ins().iadd_imm_s(base, i64::from(at - 3)), 1)
            }
        }
    }

    fn stmts(&mut self, stmts: &[Stmt]) {
        for stmt in stmts {
            self.stmt(stmt);
        }
    }

    fn stmt(&mut self, stmt: &Stmt) {
        let flags = MemFlagsData::new().with_notrap();
        match *stmt {
            Stmt::Const { dst, value } => {
                let value = self.iconst(Self::ty(dst), value);
                self.set(dst, value);
            }
            Stmt::Binary { op, dst, lhs, rhs } => {
                let (left, right) = (self.get((dst.0, lhs)), self.get((dst.0, rhs)));
                let value = self.binary(op, Self::ty(dst), left, right);
                self.set(dst, value);
            }
            Stmt::BinaryImm {
                op,
                dst,
                lhs,
                imm,
                left,
            } => {
                let (value, imm) = (self.get((dst.0, lhs)), self.iconst(Self::ty(dst), imm));
                let (lhs, rhs) = if left { (imm, value) } else { (value, imm) };
                let value = self.binary(op, Self::ty(dst), lhs, rhs);
                self.set(dst, value);
            }
            Stmt::Unary { op, dst, arg } => {
                let arg = self.get((dst.0, arg));
                let value = self.unary(op, Self::ty(dst), arg);
                self.set(dst, value);
            }
            Stmt::Convert { signed, dst, src } => {
                let value = self.get(src);
                let (from, to) = (Self::ty(src), Self::ty(dst));
                let ins = self.builder.ins();
                let value = match (from.bits().cmp(&to.bits()), signed) {
                    (std::cmp::Ordering::Greater, _) => ins.ireduce(to, value),
                    (std::cmp::Ordering::Less, true) => ins.sextend(to, value),
                    (std::cmp::Ordering::Less, false) => ins.uextend(to, value),
                    _ => value,
                };
                self.set(dst, value);
            }
            Stmt::Compare {
                cc,
                dst,
                lhs,
                rhs,
                imm,
            } => {
                let value = self.cond(&Cond::Compare { cc, lhs, rhs, imm });
                self.set((0, dst), value);
            }
            Stmt::Choose {
                cc,
                dst,
                lhs,
                rhs,
                if_true,
                if_false,
            } => {
                let cond = self.cond(&Cond::Compare {
                    cc,
                    lhs,
                    rhs,
                    imm: None,
                });
                let (then, otherwise) = (self.get((dst.0, if_true)), self.get((dst.0, if_false)));
                let value = self.builder.ins().select(cond, then, otherwise);
                self.set(dst, value);
            }
            Stmt::Select {
                dst,
                cond,
                if_true,
                if_false,
                imm,
            } => {
                let cond = self.get(cond);
                let then = self.get((dst.0, if_true));
                let otherwise = self.rhs(dst, if_false, imm);
                let value = self.builder.ins().select(cond, then, otherwise);
                self.set(dst, value);
            }
            Stmt::Load { dst, kind, at } => {
                let ty = Self::ty(dst);
                let (base, offset) = self.place(types::I64, at);
                let ins = self.builder.ins();
                let value = match (kind % 7, ty) {
                    (0, types::I16 | types::I32 | types::I64) => {
                        ins.uload8(ty, flags, base, offset)
                    }
                    (1, types::I16 | types::I32 | types::I64) => {
                        ins.sload8(ty, flags, base, offset)
                    }
                    (2, types::I32 | types::I64) => ins.uload16(ty, flags, base, offset),
                    (3, types::I32 | types::I64) => ins.sload16(ty, flags, base, offset),
                    (4, types::I64) => ins.uload32(flags, base, offset),
                    (5, types::I64) => ins.sload32(flags, base, offset),
                    _ => ins.load(ty, flags, base, offset),
                };
                self.set(dst, value);
            }
            Stmt::Store { src, kind, at, imm } => {
                let (base, offset) = self.place(types::I64, at);
                let value = self.rhs(src, src.1, imm);
                let ins = self.builder.ins();
                match (kind % 4, Self::ty(src)) {
                    (0, types::I16 | types::I32 | types::I64) => {
                        ins.istore8(flags, value, base, offset);
                    }
                    (1, types::I32 | types::I64) => {
                        ins.istore16(flags, value, base, offset);
                    }
                    (2, types::I64) => {
                        ins.istore32(flags, value, base, offset);
                    }
                    _ => {
                        ins.store(flags, value, base, offset);
                    }
                }
            }
            Stmt::Atomic {
                op,
                wide,
                dst,
                src,
                at,
            } => {
                let var = if wide { 3 } else { 2 };
                let ty = TYPES[var];
                let at = i32::from(at) % 8 * 8;
                let base = self.builder.ins().stack_addr(types::I64, self.buffer, at);
                let operand = self.get((var as u8, src));
                let ins = self.builder.ins();
                let old = match op % 9 {
                    0 => ins.atomic_rmw(ty, flags, AtomicRmwOp::Add, base, operand),
                    1 => ins.atomic_rmw(ty, flags, AtomicRmwOp::Sub, base, operand),
                    2 => ins.atomic_rmw(ty, flags, AtomicRmwOp::And, base, operand),
                    3 => ins.atomic_rmw(ty, flags, AtomicRmwOp::Or, base, operand),
                    4 => ins.atomic_rmw(ty, flags, AtomicRmwOp::Xor, base, operand),
                    5 => ins.atomic_rmw(ty, flags, AtomicRmwOp::Xchg, base, operand),
                    6 => ins.atomic_load(ty, flags, base),
                    7 => {
                        ins.atomic_store(flags, operand, base);
                        operand
                    }
                    _ => {
                        let expected = self.get((var as u8, dst));
                        self.builder
                            .ins()
                            .atomic_cas(flags, base, expected, operand)
                    }
                };
                self.set((var as u8, dst), old);
            }
            Stmt::Call { dst, args } => {
                let signature = helper_signature();
                let signature = self.builder.import_signature(signature);
                let name = self
                    .builder
                    .func
                    .declare_imported_user_function(self.purpose.callee().name());
                let func = self.builder.import_function(ExtFuncData {
                    name: ExternalName::user(name),
                    signature,
                    colocated: true,
                    patchable: false,
                });
                let args: Vec<Value> = args.iter().map(|&arg| self.get((3, arg))).collect();
                let call = self.builder.ins().call(func, &args);
                let result = self.builder.inst_results(call)[0];
                self.set((3, dst), result);
            }
            Stmt::If {
                ref cond,
                ref then,
                ref otherwise,
            } => {
                let cond = self.cond(cond);
                let then_block = self.builder.create_block();
                let else_block = self.builder.create_block();
                let join = self.builder.create_block();
                self.builder
                    .ins()
                    .brif(cond, then_block, &[], else_block, &[]);
                self.builder.switch_to_block(then_block);
                self.stmts(then);
                self.builder.ins().jump(join, &[]);
                self.builder.switch_to_block(else_block);
                self.stmts(otherwise);
                self.builder.ins().jump(join, &[]);
                self.builder.switch_to_block(join);
            }
            Stmt::Loop { count, ref body } => {
                let counter = self.builder.declare_var(types::I32);
                let start = self.iconst(types::I32, i64::from(count % 4));
                self.builder.def_var(counter, start);
                let header = self.builder.create_block();
                let body_block = self.builder.create_block();
                let exit = self.builder.create_block();
                self.builder.ins().jump(header, &[]);
                self.builder.switch_to_block(header);
                let left = self.builder.use_var(counter);
                self.builder.ins().brif(left, body_block, &[], exit, &[]);
                self.builder.switch_to_block(body_block);
                self.stmts(body);
                let left = self.builder.use_var(counter);
                let left = self.builder.ins().iadd_imm_s(left, -1);
                self.builder.def_var(counter, left);
                self.builder.ins().jump(header, &[]);
                self.builder.switch_to_block(exit);
            }
            Stmt::Switch { value, ref arms } => {
                let value = self.get(value);
                let ty = self.builder.func.dfg.value_type(value);
                let value = match ty {
                    types::I64 => self.builder.ins().ireduce(types::I32, value),
                    types::I32 => value,
                    _ => self.builder.ins().uextend(types::I32, value),
                };
                let mask = self.iconst(types::I32, 3);
                let value = self.builder.ins().band(value, mask);
                let join = self.builder.create_block();
                let blocks: Vec<_> = arms.iter().map(|_| self.builder.create_block()).collect();
                let calls: Vec<BlockCall> = blocks
                    .iter()
                    .map(|&block| self.builder.func.dfg.block_call(block, &[]))
                    .collect();
                let default = self.builder.func.dfg.block_call(join, &[]);
                let table = self
                    .builder
                    .create_jump_table(JumpTableData::new(default, &calls));
                self.builder.ins().br_table(value, table);
                for (&block, arm) in blocks.iter().zip(arms) {
                    self.builder.switch_to_block(block);
                    self.stmts(arm);
                    self.builder.ins().jump(join, &[]);
                }
                self.builder.switch_to_block(join);
            }
        }
    }
}

fn helper_signature() -> Signature {
    let mut signature = Signature::new(CallConv::Fast);
    signature.params = vec![AbiParam::new(types::I64); 5];
    signature.returns = vec![AbiParam::new(types::I64)];
    signature
}

/// The function that generated functions call.
pub(crate) fn helper_function(purpose: Purpose) -> Function {
    let name = purpose.callee().name();
    let (namespace, index) = (name.namespace, name.index);
    let text = format!(
        "function u{namespace}:{index}(i64, i64, i64, i64, i64) -> i64 fast {{
         block0(v0: i64, v1: i64, v2: i64, v3: i64, v4: i64):
            v5 = imul v0, v1
            v6 = bxor v5, v2
            v7 = isub v6, v3
            v8 = imul v7, v4
            v9 = iadd v8, v0
            return v9
         }}"
    );
    cranelift_reader::parse_functions(&text)
        .expect("helper parses")
        .remove(0)
}

pub(crate) fn build(stmts: &[Stmt], live: u16, purpose: Purpose) -> Function {
    let mut func =
        Function::with_name_signature(UserFuncName::testcase("generated"), helper_signature());
    let mut context = FunctionBuilderContext::new();
    let mut builder = FunctionBuilder::new(&mut func, &mut context);
    let entry = builder.create_block();
    builder.append_block_params_for_function_params(entry);
    builder.switch_to_block(entry);
    let params = builder.block_params(entry).to_vec();
    let buffer = builder.create_sized_stack_slot(StackSlotData::new(
        StackSlotKind::ExplicitSlot,
        BUFFER_BYTES,
        3,
    ));
    let vars = TYPES.map(|ty| std::array::from_fn(|_| builder.declare_var(ty)));
    for (of_type, ty) in vars.iter().zip(TYPES) {
        for (nth, &var) in of_type.iter().enumerate() {
            let param = params[(nth + ty.bytes() as usize) % 5];
            let value = if ty == types::I64 {
                param
            } else {
                builder.ins().ireduce(ty, param)
            };
            builder.def_var(var, value);
        }
    }
    for at in (0..BUFFER_BYTES as i32).step_by(8) {
        let address = builder.ins().stack_addr(types::I64, buffer, at);
        builder
            .ins()
            .store(MemFlagsData::new(), params[at as usize / 8 % 5], address, 0);
    }
    let mut generator = Gen {
        purpose,
        builder: &mut builder,
        vars,
        buffer,
    };
    generator.stmts(stmts);
    // What is not observed is dead.
    let mut sum = builder.ins().iconst(types::I64, 0);
    for (nth, &var) in vars.iter().flatten().enumerate() {
        if live >> nth & 1 == 0 {
            continue;
        }
        let value = builder.use_var(var);
        let ty = builder.func.dfg.value_type(value);
        let value = if ty == types::I64 {
            value
        } else {
            builder.ins().uextend(types::I64, value)
        };
        let three = builder.ins().iconst(types::I64, 3);
        sum = builder.ins().imul(sum, three);
        sum = builder.ins().iadd(sum, value);
    }
    for at in (0..BUFFER_BYTES as i32).step_by(8) {
        let address = builder.ins().stack_addr(types::I64, buffer, at);
        let value = builder
            .ins()
            .load(types::I64, MemFlagsData::new(), address, 0);
        sum = builder.ins().bxor(sum, value);
    }
    if purpose == Purpose::Kernel {
        let half = builder.ins().iconst(types::I64, 32);
        let high = builder.ins().ushr(sum, half);
        sum = builder.ins().bxor(sum, high);
        let low = builder.ins().iconst(types::I64, 0xffff_ffff);
        sum = builder.ins().band(sum, low);
    }
    builder.ins().return_(&[sum]);
    builder.seal_all_blocks();
    func
}

pub(crate) fn number() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => -3i64..20,
        1 => prop::sample::select(vec![
            0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x7fff_ffff, 0x8000_0000,
            0xffff_ffff, 0x1_0000_0000, i64::MIN, i64::MAX, -0x8000_0000, -0x8000_0001,
        ]),
        1 => (0u32..64).prop_map(|shift| 1i64 << shift),
        1 => any::<i64>(),
    ]
}

fn var() -> impl Strategy<Value = Var> {
    (0u8..4, 0u8..VARS_PER_TYPE as u8)
}

fn cond() -> impl Strategy<Value = Cond> {
    prop_oneof![
        var().prop_map(Cond::Truth),
        (any::<u8>(), var(), any::<u8>(), prop::option::of(number()))
            .prop_map(|(cc, lhs, rhs, imm)| Cond::Compare { cc, lhs, rhs, imm }),
        (
            var(),
            any::<u8>(),
            prop::option::of(number()),
            any::<bool>()
        )
            .prop_map(|(lhs, rhs, imm, zero)| Cond::Bits {
                lhs,
                rhs,
                imm,
                zero
            }),
    ]
}

pub(crate) fn simple() -> impl Strategy<Value = Stmt> {
    let imm = || prop::option::of(number());
    let b = any::<u8>;
    prop_oneof![
        1 => (var(), number()).prop_map(|(dst, value)| Stmt::Const { dst, value }),
        6 => (b(), var(), b(), b()).prop_map(|(op, dst, lhs, rhs)| Stmt::Binary { op, dst, lhs, rhs }),
        6 => (b(), var(), b(), number(), prop::bool::weighted(0.2))
            .prop_map(|(op, dst, lhs, imm, left)| Stmt::BinaryImm { op, dst, lhs, imm, left }),
        3 => (b(), var(), b()).prop_map(|(op, dst, arg)| Stmt::Unary { op, dst, arg }),
        5 => (any::<bool>(), var(), var())
            .prop_map(|(signed, dst, src)| Stmt::Convert { signed, dst, src }),
        3 => (b(), b(), var(), b(), imm())
            .prop_map(|(cc, dst, lhs, rhs, imm)| Stmt::Compare { cc, dst, lhs, rhs, imm }),
        3 => (b(), var(), var(), b(), b(), b()).prop_map(
            |(cc, dst, lhs, rhs, if_true, if_false)| Stmt::Choose { cc, dst, lhs, rhs, if_true, if_false }
        ),
        2 => (var(), var(), b(), b(), imm()).prop_map(
            |(dst, cond, if_true, if_false, imm)| Stmt::Select { dst, cond, if_true, if_false, imm }
        ),
        2 => (var(), b(), b()).prop_map(|(dst, kind, at)| Stmt::Load { dst, kind, at }),
        2 => (var(), b(), b(), imm()).prop_map(|(src, kind, at, imm)| Stmt::Store { src, kind, at, imm }),
        1 => (b(), any::<bool>(), b(), b(), b())
            .prop_map(|(op, wide, dst, src, at)| Stmt::Atomic { op, wide, dst, src, at }),
        1 => (b(), any::<[u8; 5]>()).prop_map(|(dst, args)| Stmt::Call { dst, args }),
    ]
}

pub(crate) fn stmt() -> impl Strategy<Value = Stmt> {
    simple().prop_recursive(3, 40, 6, |inner| {
        let list = prop::collection::vec(inner, 0..6);
        prop_oneof![
            3 => (cond(), list.clone(), list.clone())
                .prop_map(|(cond, then, otherwise)| Stmt::If { cond, then, otherwise }),
            1 => (any::<u8>(), list.clone()).prop_map(|(count, body)| Stmt::Loop { count, body }),
            1 => (var(), prop::collection::vec(list, 1..4))
                .prop_map(|(value, arms)| Stmt::Switch { value, arms }),
        ]
    })
}
