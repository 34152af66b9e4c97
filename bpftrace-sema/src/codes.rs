//! The stable names of the mistakes that analysis finds. Tests and tools match these, not wordings.

use bpftrace_ast::diag::Code;

/// A part of the language that this version does not have yet.
pub const UNSUPPORTED: Code = Code::new("unsupported");
/// A key or value of the config block.
pub const CONFIG: Code = Code::new("config");
/// An attach point that makes no sense, or that matches nothing in the types given.
pub const ATTACH_POINT: Code = Code::ATTACH_POINT;
/// A bare name that means nothing.
pub const UNKNOWN_IDENTIFIER: Code = Code::new("unknown-identifier");
/// A call of something that is not there.
pub const UNKNOWN_FUNCTION: Code = Code::new("unknown-function");
/// A type name that means nothing.
pub const UNKNOWN_TYPE: Code = Code::new("unknown-type");
/// A struct, union or record has no such field.
pub const UNKNOWN_FIELD: Code = Code::new("unknown-field");
/// A variable that is not in scope.
pub const UNDEFINED_VARIABLE: Code = Code::new("undefined-variable");
/// A name is declared twice.
pub const REDECLARED: Code = Code::new("redeclared");
/// A map that nothing is ever assigned to, where a value is needed.
pub const UNDEFINED_MAP: Code = Code::new("undefined-map");
/// A value of one type where another is expected.
pub const TYPE_MISMATCH: Code = Code::new("type-mismatch");
/// A variable or map whose type nothing says.
pub const UNRESOLVED_TYPE: Code = Code::new("unresolved-type");
/// A conversion that does not exist.
pub const CAST: Code = Code::new("cast");
/// An operator on types it does not take.
pub const OPERATOR: Code = Code::new("operator");
/// A condition that is neither true nor false.
pub const CONDITION: Code = Code::new("condition");
/// Constant arithmetic without a result.
pub const OVERFLOW: Code = Code::new("overflow");
/// A call with too few or too many arguments.
pub const ARGUMENT_COUNT: Code = Code::new("argument-count");
/// A call with arguments of the wrong kind.
pub const ARGUMENT_KIND: Code = Code::new("argument-kind");
/// Not available in probes of this kind.
pub const NOT_IN_PROBE: Code = Code::new("not-in-probe");
/// A map with a key is used without, or the other way round.
pub const MAP_SCALAR: Code = Code::new("map-scalar");
/// A map declaration.
pub const MAP_DECLARATION: Code = Code::new("map-declaration");
/// A map key that cannot be one.
pub const MAP_KEY: Code = Code::new("map-key");
/// A map value that cannot be used as is.
pub const MAP_VALUE: Code = Code::new("map-value");
/// A format string and its arguments.
pub const FORMAT: Code = Code::new("format");
/// A jump with nothing to jump out of.
pub const JUMP: Code = Code::new("jump");
/// A loop that cannot be.
pub const LOOP: Code = Code::new("loop");
/// An index outside its array or tuple.
pub const INDEX: Code = Code::new("index");
/// An unsafe function in safe mode.
pub const UNSAFE: Code = Code::new("unsafe");
/// A feature that has to be enabled.
pub const UNSTABLE: Code = Code::new("unstable");
/// The script asked for this failure.
pub const FAIL: Code = Code::new("fail");
/// Compile-time evaluation that did not come to a value.
pub const COMPTIME: Code = Code::new("comptime");
/// Kernel types are needed, and there are none.
pub const NO_TYPES: Code = Code::new("no-types");
/// A C definition or preprocessor line.
pub const C_DEFINITION: Code = Code::new("c-definition");
/// An import that cannot be had.
pub const IMPORT: Code = Code::new("import");
/// A macro definition or call.
pub const MACRO: Code = Code::new("macro");
/// Nested too deeply.
pub const LIMIT: Code = Code::LIMIT;
/// A string that does not fit.
pub const STRING_LENGTH: Code = Code::new("string-length");

/// Warning: a value that nothing uses.
pub const DISCARDED: Code = Code::new("discarded-value");
/// Warning: code that is never reached.
pub const UNREACHABLE: Code = Code::new("unreachable");
/// Warning: a variable or map that is never set or never used.
pub const UNUSED: Code = Code::new("unused");
/// Warning: an implicit conversion that can change the value.
pub const IMPLICIT_CAST: Code = Code::new("implicit-cast");
/// Warning: a cast to the type that is there already.
pub const UNNECESSARY_CAST: Code = Code::new("unnecessary-cast");
/// Warning: division of signed integers.
pub const SIGNED_DIVISION: Code = Code::new("signed-division");
/// Warning: pointers to different types are compared.
pub const POINTER_COMPARISON: Code = Code::new("pointer-comparison");
/// Warning: a pointer of which nothing says whether it is the kernel's or the user's.
pub const ADDRESS_SPACE: Code = Code::new("address-space");
/// Warning: something that goes away.
pub const DEPRECATED: Code = Code::new("deprecated");
/// Warning: an argument that has no effect or is changed.
pub const ARGUMENT_IGNORED: Code = Code::new("argument-ignored");
/// A mistake of the compiler, not of the script.
pub const INTERNAL: Code = Code::new("internal");

/// A script that is right, but cannot be made a program.
pub const CODEGEN: Code = Code::new("codegen");

/// Every code that a diagnostic can have, those of the parser included.
pub const ALL: &[Code] = &[
    Code::SYNTAX,
    Code::LITERAL,
    Code::ORDER,
    UNSUPPORTED,
    CONFIG,
    ATTACH_POINT,
    UNKNOWN_IDENTIFIER,
    UNKNOWN_FUNCTION,
    UNKNOWN_TYPE,
    UNKNOWN_FIELD,
    UNDEFINED_VARIABLE,
    REDECLARED,
    UNDEFINED_MAP,
    TYPE_MISMATCH,
    UNRESOLVED_TYPE,
    CAST,
    OPERATOR,
    CONDITION,
    OVERFLOW,
    ARGUMENT_COUNT,
    ARGUMENT_KIND,
    NOT_IN_PROBE,
    MAP_SCALAR,
    MAP_DECLARATION,
    MAP_KEY,
    MAP_VALUE,
    FORMAT,
    JUMP,
    LOOP,
    INDEX,
    UNSAFE,
    UNSTABLE,
    FAIL,
    COMPTIME,
    NO_TYPES,
    C_DEFINITION,
    IMPORT,
    MACRO,
    LIMIT,
    STRING_LENGTH,
    DISCARDED,
    UNREACHABLE,
    UNUSED,
    IMPLICIT_CAST,
    UNNECESSARY_CAST,
    SIGNED_DIVISION,
    POINTER_COMPARISON,
    ADDRESS_SPACE,
    DEPRECATED,
    ARGUMENT_IGNORED,
    INTERNAL,
    CODEGEN,
];
