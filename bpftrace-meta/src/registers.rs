/// How many words of arguments are passed in registers on x86-64.
///
/// Trampolines of older kernels know no other arguments: patterns leave out functions that have more
/// parameters.
pub const ARGUMENT_REGISTERS: usize = 6;
