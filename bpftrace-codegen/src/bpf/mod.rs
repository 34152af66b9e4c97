//! The BPF back end: one CLIF function in, BPF instructions and relocations out.
//!
//! ```text
//!   ir::Function
//!       |  midend     verify, dead blocks, constant block parameters, e-graph
//!   ir::Function (optimised)
//!       |  lower      instruction selection; virtual registers; critical edges split
//!   VCode
//!       |  regalloc   regalloc2; the checker in debug builds
//!   VCode + registers, moves
//!       |  cleanup    drop what is dead, moves within blocks
//!       |  frame      stack slots and spill slots below r10
//!       |  emit       block order, relocations
//!       |  islands    jump distances, far jumps
//!   CompiledFunction
//! ```
//!
//! What the producer of the CLIF must know is written down in [`crate::symbols`].

mod cleanup;
mod copies;
mod disasm;
mod emit;
#[cfg(test)]
mod emit_tests;
mod frame;
mod insn;
mod islands;
mod lower;
mod regalloc;
mod regs;
mod vcode;

use cranelift_codegen::ir::Function;

use crate::midend;

pub use disasm::disassemble;
pub use insn::{
    AluOp, AtomicOp, Endian, Insn, JmpOp, PSEUDO_CALL, PSEUDO_FUNC, PSEUDO_NONE, Size, Src, Width,
};
pub use regs::Reg;

/// What the back end is asked to do besides compiling.
#[derive(Clone, Debug)]
pub struct BackendOptions {
    /// Run Cranelift's verifier after each pass and regalloc2's checker after allocation.
    pub verify: bool,
    /// Run the e-graph pass. Without it the code is correct, but larger.
    pub optimize: bool,
    /// Bytes of stack this function may use, at most [`crate::symbols::STACK_SIZE`].
    pub stack_limit: u32,
    /// Longest jump, in instructions: 32,767, or less in tests of what leads further.
    pub max_jump: u32,
    /// Keep the CLIF after optimisation as text in [`CompiledFunction::clif_opt`].
    pub dump_clif_opt: bool,
    /// Keep the instructions before register allocation as text in [`CompiledFunction::vcode`].
    pub dump_vcode: bool,
}

impl BackendOptions {
    /// Optimise, verify in debug builds only, keep no text.
    pub fn new() -> Self {
        BackendOptions {
            verify: cfg!(debug_assertions),
            optimize: true,
            stack_limit: crate::symbols::STACK_SIZE,
            max_jump: 32_767,
            dump_clif_opt: false,
            dump_vcode: false,
        }
    }
}

impl Default for BackendOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// One function in its final form, but for what the loader fills in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompiledFunction {
    /// The instructions, little endian, 8 bytes each; `ld_imm64` takes two of them.
    pub code: Vec<u8>,
    /// What has to be filled in, in ascending order of `insn_idx`.
    pub relocs: Vec<Reloc>,
    /// Source positions, in ascending order: from this instruction (counted in units of 8 bytes) on,
    /// the code belongs to this `SourceLoc`. The first entry, if any, is at 0.
    pub lines: Vec<(u32, u32)>,
    /// Bytes of stack used below r10, a multiple of 8.
    pub stack_size: u32,
    /// CLIF after the mid-end, if asked for.
    pub clif_opt: Option<String>,
    /// Instructions with virtual registers, if asked for.
    pub vcode: Option<String>,
}

impl CompiledFunction {
    /// Whether another is the same but for the texts.
    pub(crate) fn is_same_code(&self, other: &Self) -> bool {
        self.code == other.code
            && self.relocs == other.relocs
            && self.lines == other.lines
            && self.stack_size == other.stack_size
    }
}

/// A place in the code that somebody else fills in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reloc {
    /// The instruction, counted in units of 8 bytes from the start of the function.
    pub insn_idx: u32,
    /// What belongs there.
    pub kind: RelocKind,
}

/// What a relocation refers to, and so which field of the instruction it fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelocKind {
    /// `call` of a function of the same object (`src_reg` is `BPF_PSEUDO_CALL`, `imm` is -1).
    SubprogCall(u32),
    /// `ld_imm64` of the address of a function of the same object (`src_reg` is `BPF_PSEUDO_FUNC`, both `imm` 0).
    SubprogAddr(u32),
    /// `call` of a kernel function (`src_reg` is `BPF_PSEUDO_CALL`, `imm` is -1, as clang leaves it).
    KfuncCall(u32),
    /// `ld_imm64` of the address of a kernel function (all 0).
    KfuncAddr(u32),
    /// `ld_imm64` of a map (all 0).
    Map(u32),
    /// `ld_imm64` of an address in a data section; the first `imm` already holds `offset`.
    Data {
        /// Number of the section.
        section: u32,
        /// Byte offset within it.
        offset: u32,
    },
    /// A patched constant; the field holds 0.
    Patch {
        /// Row in the object's table of patched constants.
        patch: u32,
        /// The field to write.
        field: PatchField,
    },
}

/// The field of an instruction that holds a patched constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchField {
    /// 16-bit offset of a load or store.
    Offset,
    /// 32-bit immediate of an ALU instruction (add, mov, shifts, ...).
    Imm32,
    /// 64-bit immediate of `ld_imm64`.
    Imm64,
}

/// Why a function could not be compiled.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BackendError {
    /// Cranelift's verifier refused the function. Always a bug in whoever wrote the CLIF.
    #[error("invalid CLIF in {function}: {message}")]
    InvalidClif {
        /// Name of the function.
        function: String,
        /// The verifier's text.
        message: String,
    },
    /// The function needs something that BPF does not have, or breaks the contract in
    /// [`crate::symbols`].
    #[error("cannot be expressed in BPF: {what} ({insn})")]
    Unsupported {
        /// What is missing.
        what: String,
        /// The CLIF instruction.
        insn: String,
        /// Its source position, if it has one.
        srcloc: Option<u32>,
    },
    /// Stack slots and spilled registers do not fit.
    #[error(
        "{needed} bytes of stack needed, of which {spills} for spilled registers; {limit} are available"
    )]
    StackOverflow {
        /// Bytes needed in all.
        needed: u32,
        /// Bytes of them that hold spilled registers.
        spills: u32,
        /// Bytes available.
        limit: u32,
    },
    /// A jump spans more than 32,767 instructions.
    #[error(
        "the program is too large: a jump spans {distance} instructions, and 32,767 are possible"
    )]
    JumpTooFar {
        /// Instructions between the jump and its target.
        distance: i64,
    },
    /// What is unrolled gives more instructions than the kernel takes.
    #[error("the program is too large: more than {limit} instructions, with what is unrolled")]
    TooLong {
        /// How many are possible.
        limit: usize,
    },
    /// Register allocation failed. Always a bug in the back end.
    #[error("register allocation failed: {0}")]
    Regalloc(String),
}

/// Compiles one function.
///
/// # Errors
///
/// See [`BackendError`]; only `StackOverflow` and `JumpTooFar` depend on the script alone.
pub fn compile_function(
    func: Function,
    options: &BackendOptions,
) -> Result<CompiledFunction, BackendError> {
    let context = midend::optimize(func, options)?;
    let clif_opt = options
        .dump_clif_opt
        .then(|| context.func.display().to_string());
    let vcode = lower::lower(&context)?;
    let vcode_text = options.dump_vcode.then(|| vcode.to_string());
    let allocation = regalloc::allocate(&vcode, options.verify)?;
    let slots = emit::used_slots(&vcode);
    let cleaned = cleanup::clean(&vcode, &allocation);
    let is_used = |slot| slots.binary_search(&slot).is_ok();
    let frame = frame::Frame::new(
        &context.func,
        is_used,
        cleaned.n_spills,
        options.stack_limit,
    )?;
    let emitted = emit::emit(&vcode, &cleaned, &frame, options.max_jump)?;
    Ok(CompiledFunction {
        code: emitted.code,
        relocs: emitted.relocs,
        lines: emitted.lines,
        stack_size: frame.size,
        clif_opt,
        vcode: vcode_text,
    })
}
