//! The typed program: what analysis hands to code generation.
//!
//! Rules that hold in every typed program:
//!
//! - Operands of arithmetic, comparisons and assignments already have the same type; every
//!   conversion is an [`ExprKind::Cast`].
//! - Arithmetic is on 64-bit integers (the language widens operands first), except that casts may
//!   narrow results.
//! - Macros, C macros, `sizeof`, `offsetof`, `typeof` and other compile-time questions about types
//!   that do not depend on the target are gone; those that do (the size of a kernel struct) are
//!   [`ExprKind::KernelSizeof`] and [`ExprKind::KernelOffsetof`].
//! - Probes with several attach points that see different types are split; attach points that can
//!   share one program share one [`Probe`].

use bpftrace_ast::source::{SourceMap, Span};
pub use bpftrace_meta::ArithmeticOp;
use bpftrace_meta::{
    AggKind, FormatPiece, HostValue, NamedParam, ProbeTarget, ProgramKind, Requirement, RunConfig,
    UserLayout,
};

use crate::ty::{StructId, Ty, TypeTable};

/// Index of a map in [`TypedProgram::maps`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MapIdx(pub u32);

/// Index of a slot in [`TypedProgram::slots`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotIdx(pub u32);

/// Index of a variable in [`Body::locals`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LocalIdx(pub u32);

/// Index of a subprogram in [`TypedProgram::functions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FunctionIdx(pub u32);

/// Index of a function of an imported object in [`TypedProgram::imported_functions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImportedFunctionIdx(pub u32);

/// A script, typed.
#[derive(Clone, Debug)]
pub struct TypedProgram {
    /// Structs and enums that occur in types.
    pub types: TypeTable,
    /// Maps, sorted by name.
    pub maps: Vec<MapDef>,
    /// Probes in the order of the script.
    pub probes: Vec<Probe>,
    /// Subprograms (`fn`).
    pub functions: Vec<Function>,
    /// BPF objects to link with the script's, in order.
    pub objects: Vec<ImportedObject>,
    /// Functions of those that the script can call.
    pub imported_functions: Vec<ImportedFunction>,
    /// Values bound at start, each once.
    pub slots: Vec<SlotDef>,
    /// Formats of `strftime` calls, each once.
    pub time_formats: Vec<String>,
    /// Filters of `cgroup_path` calls, each once.
    pub cgroup_filters: Vec<String>,
    /// Named parameters (`getopt`), each once.
    pub named_params: Vec<NamedParam>,
    /// Highest positional parameter named; 0 for none.
    pub n_params: u32,
    /// Positional parameters, by number, whose values types come from: the program is for these only.
    /// Number 0 stands for `$#`.
    pub typed_params: Vec<(u32, String)>,
    /// Run-time configuration set by the script.
    pub config: RunConfig,
    /// License of the programs.
    pub license: String,
    /// What shapes code.
    pub options: CodeOptions,
    /// Kernel features the script cannot do without.
    pub requirements: Vec<Requirement>,
    /// Calls of macros, by the number of their expansion less one.
    pub expansions: Vec<Span>,
}

impl TypedProgram {
    /// For a place inside macros: where each was called, innermost first.
    #[must_use]
    pub fn expanded_from(&self, place: Span) -> Vec<Span> {
        expanded_from(&self.expansions, place)
    }
}

/// As [`TypedProgram::expanded_from`], with the calls of macros by the number of their expansion less one.
pub(crate) fn expanded_from(expansions: &[Span], place: Span) -> Vec<Span> {
    let call_of = |span: &Span| {
        let number = span.expansion?.0.get();
        expansions.get(number as usize - 1).copied()
    };
    std::iter::successors(call_of(&place), call_of).collect()
}

/// The place in somebody's own text that a place stands for: code of the library is there because that
/// place calls it.
pub(crate) fn outside_library(place: Span, expanded_from: &[Span], sources: &SourceMap) -> Span {
    let mut places = std::iter::once(place).chain(expanded_from.iter().copied());
    let own = |place: &Span| !sources.file(place.source).is_built_in();
    places.find(own).unwrap_or(place)
}

/// Options that shape code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeOptions {
    /// Bytes of the buffer of `str()` (`max_strlen`).
    pub max_strlen: u32,
    /// Bytes above which a value is not kept on the BPF stack (`on_stack_limit`).
    pub on_stack_limit: u32,
    /// Whether unsafe functions are allowed.
    pub unsafe_mode: bool,
    /// Whether look-ups in maps and reads of memory that fail are reported as well (`-k`).
    pub extra_warnings: bool,
}

/// A map of the script.
#[derive(Clone, Debug, PartialEq)]
pub struct MapDef {
    /// Name with `@`.
    pub name: String,
    /// Key; `None` for a scalar map.
    pub key: Option<Ty>,
    /// Value; [`Ty::Agg`] for aggregations.
    pub value: Ty,
    /// Kind and size from a `let @m = hash(…)` declaration.
    pub declared: Option<DeclaredMap>,
    /// First use.
    pub span: Span,
}

/// What a map declaration fixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeclaredMap {
    /// Kind of BPF map.
    pub kind: MapKind,
    /// Most entries.
    pub max_entries: u32,
}

/// Kinds of BPF maps that a script can declare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    /// `hash`.
    Hash,
    /// `lruhash`.
    LruHash,
    /// `percpuhash`.
    PercpuHash,
    /// `percpulruhash`.
    PercpuLruHash,
}

/// A value bound at start.
#[derive(Clone, Debug, PartialEq)]
pub struct SlotDef {
    /// What it is.
    pub value: HostValue,
    /// Type: an integer of 8 bytes, `Bool`, or `Str`.
    pub ty: Ty,
    /// Where the script first asks for it, if it does so itself.
    pub span: Option<Span>,
}

/// A probe: one BPF program.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Kind of program, and so the layout of its context.
    pub kind: ProgramKind,
    /// Attach points that share the program.
    pub targets: Vec<ProbeTarget>,
    /// Where each of them is written.
    pub target_spans: Vec<Span>,
    /// Name that the script gave (`NAME=provider:…`).
    pub name: Option<String>,
    /// All attach points together.
    pub span: Span,
    /// Code. A predicate is already an `if` around it.
    pub body: Body,
    /// Program returns this when the script does not say (1 for tracepoints, otherwise 0).
    pub default_return: i64,
    /// Whether events of other processes are to be filtered out in the program when `-p` names one
    /// (`HostValue::TargetPid`; probes that cannot be attached to one process). The slot is 0 without
    /// `-p`.
    pub pid_filter: Option<SlotIdx>,
    /// The executable or library that layouts of types come from: the code is for this build of it only.
    pub layout: Option<UserLayout>,
    /// Whether the attach point is one match of the pattern that was written.
    pub from_pattern: bool,
}

/// A subprogram.
#[derive(Clone, Debug)]
pub struct Function {
    /// Name.
    pub name: String,
    /// Parameters: the first `n_params` locals.
    pub n_params: u32,
    /// Return type.
    pub ret: Ty,
    /// Code.
    pub body: Body,
    /// The definition.
    pub span: Span,
}

/// A BPF object that the script imports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedObject {
    /// Its path.
    pub path: String,
    /// Where the script imports it.
    pub span: Span,
    /// The file.
    pub bytes: Vec<u8>,
}

/// A function of an imported object.
#[derive(Clone, Debug, PartialEq)]
pub struct ImportedFunction {
    /// Name.
    pub name: String,
    /// Parameters: names, which may be empty, and types.
    pub params: Vec<(String, Ty)>,
    /// Return type.
    pub ret: Ty,
    /// The parameters and the return type as C has them.
    pub signature: CSignature,
    /// Where the script imports the object.
    pub span: Span,
}

/// Types of a C function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CSignature {
    /// Of the parameters.
    pub params: Vec<CType>,
    /// Of what it returns.
    pub ret: CType,
}

/// As much of a C type as tells whether two declarations of a function agree. Typedefs and qualifiers are
/// gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CType {
    /// `void`.
    Void,
    /// An integer.
    Int {
        /// C name.
        name: String,
        /// Bytes.
        size: u8,
        /// Two's complement.
        signed: bool,
        /// `_Bool`.
        is_bool: bool,
    },
    /// A floating-point number of so many bytes.
    Float(u8),
    /// A pointer.
    Ptr(Box<CType>),
    /// An array.
    Array(Box<CType>),
    /// A struct or union.
    Struct {
        /// Name; empty when anonymous.
        name: String,
        /// Whether it is a union.
        is_union: bool,
    },
    /// An enum.
    Enum {
        /// Name; empty when anonymous.
        name: String,
        /// Bytes.
        size: u8,
        /// Two's complement.
        signed: bool,
    },
    /// A function.
    Func(Box<CSignature>),
}

/// Code with its variables.
#[derive(Clone, Debug, Default)]
pub struct Body {
    /// Variables of all scopes; zero-initialised at their declaration.
    pub locals: Vec<Local>,
    /// Statements.
    pub stmts: Vec<Stmt>,
}

/// A variable.
#[derive(Clone, Debug, PartialEq)]
pub struct Local {
    /// Name with `$`; scopes may use a name several times.
    pub name: String,
    /// Type.
    pub ty: Ty,
    /// Declaration or first assignment.
    pub span: Span,
}

/// A statement.
#[derive(Clone, Debug)]
pub struct Stmt {
    /// Where it is.
    pub span: Span,
    /// What it is.
    pub kind: StmtKind,
}

/// Kinds of statements.
#[derive(Clone, Debug)]
pub enum StmtKind {
    /// Evaluate and forget.
    Expr(Expr),
    /// A variable comes into scope (again, in a loop) and is zero.
    Declare(LocalIdx),
    /// `$x = value`.
    AssignLocal(LocalIdx, Expr),
    /// `@m = value`, `@m[key] = value`.
    AssignMap {
        /// Map.
        map: MapIdx,
        /// Key of a keyed map.
        key: Option<Expr>,
        /// Value, of the map's value type.
        value: Expr,
    },
    /// `@m[key] = count()` and the like.
    Aggregate {
        /// Map; its value type says which aggregation.
        map: MapIdx,
        /// Key of a keyed map.
        key: Option<Expr>,
        /// The number (of 64 bits); `None` for `count()`.
        value: Option<Expr>,
        /// What time it is, for a time series that does not go by the clock (`BPFTRACE_DUMMY_TS_MAP`).
        time: Option<Expr>,
    },
    /// `if`.
    If {
        /// A `Bool`.
        cond: Expr,
        /// When it holds.
        then: Vec<Stmt>,
        /// When it does not.
        otherwise: Vec<Stmt>,
    },
    /// `while`.
    While {
        /// A `Bool`.
        cond: Expr,
        /// Body.
        body: Vec<Stmt>,
    },
    /// `unroll`: body so many times; the count is 1 to 100, or a slot's value up to 100.
    Unroll {
        /// How often.
        count: UnrollCount,
        /// Body.
        body: Vec<Stmt>,
    },
    /// `for $i : start..end`.
    ForRange {
        /// Loop variable, an integer.
        var: LocalIdx,
        /// First value, of the variable's type.
        start: Expr,
        /// Behind the last value, of the variable's type.
        end: Expr,
        /// Body.
        body: Vec<Stmt>,
    },
    /// `for $kv : @map`: the variable is a tuple of key and value (aggregations: the merged integer).
    ForMap {
        /// Loop variable.
        var: LocalIdx,
        /// Map, keyed.
        map: MapIdx,
        /// Body.
        body: Vec<Stmt>,
    },
    /// `break`.
    Break,
    /// `continue`.
    Continue,
    /// `return`; the value has 64 bits, or in a function the function's type. `None`: the probe's
    /// default, or zero.
    Return(Option<Expr>),
    /// A record for user space. The arguments are of the types user space will see (their
    /// [`bpftrace_meta::ValueLayout`] is derived from them).
    Event {
        /// What user space does about it.
        event: Event,
        /// Values that travel with it.
        args: Vec<Expr>,
        /// For a call inside macros: where each was expanded, innermost first.
        expanded_from: Vec<Span>,
    },
    /// A block with a scope of its own.
    Block(Vec<Stmt>),
    /// `debugf`: `bpf_trace_printk` with at most three integer or string arguments.
    TracePrintk {
        /// Kernel format.
        format: String,
        /// Arguments.
        args: Vec<Expr>,
    },
}

/// How often `unroll` repeats its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnrollCount {
    /// Known.
    Const(u32),
    /// Bound at start; at most 100.
    Slot(SlotIdx),
}

/// Asynchronous actions. `exit()` is followed by a `Return`.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// `printf`.
    Printf(Vec<FormatPiece>),
    /// `errorf`.
    Errorf(Vec<FormatPiece>),
    /// `warnf`.
    Warnf(Vec<FormatPiece>),
    /// `system`.
    System(Vec<FormatPiece>),
    /// `cat`.
    Cat(Vec<FormatPiece>),
    /// `print(value)`.
    PrintValue,
    /// `print(@map, top, div)`.
    PrintMap {
        /// Map.
        map: MapIdx,
        /// Entries to print; 0: all.
        top: u64,
        /// Divisor; 0 and 1: none.
        div: u64,
    },
    /// `clear(@map)`.
    ClearMap(MapIdx),
    /// `zero(@map)`.
    ZeroMap(MapIdx),
    /// `exit(code)`.
    Exit,
    /// `time(format)`.
    Time(String),
    /// `join(array, separator)`: the argument is a `char **`.
    Join(String),
    /// `unwatch(address)`.
    Unwatch,
}

/// An expression.
#[derive(Clone, Debug)]
pub struct Expr {
    /// Its type.
    pub ty: Ty,
    /// Where it is.
    pub span: Span,
    /// What it is.
    pub kind: ExprKind,
}

/// Kinds of expressions.
#[derive(Clone, Debug)]
pub enum ExprKind {
    /// An integer, enum value, pointer or bool constant: its low bits, in the width of the type.
    Const(u64),
    /// A string constant, without NUL; shorter than the capacity of its type, or as long (then it
    /// counts as truncated).
    Str(Vec<u8>),
    /// A constant array of bytes (`pton`), by address.
    Bytes(Vec<u8>),
    /// An enumerator of the kernel, relocated to the target's value; compiled with this one.
    KernelEnumerator {
        /// Name of the enumerator.
        name: String,
        /// Value in the types compiled against.
        value: i64,
    },
    /// Size in bytes of a kernel struct on the target.
    KernelSizeof(StructId),
    /// Byte offset of a (nested) member of a kernel struct on the target: member indices.
    KernelOffsetof(StructId, Vec<u32>),
    /// A value bound at start.
    Slot(SlotIdx),
    /// Value of a variable.
    Local(LocalIdx),
    /// `&$x`: address of a variable.
    LocalAddr(LocalIdx),
    /// A builtin without arguments.
    Builtin(Builtin),
    /// `-x`, `~x`, `!x`.
    Unary(UnaryOp, Box<Expr>),
    /// Arithmetic on 64-bit integers of one signedness. `>>` is logical, `/` and `%` are unsigned and
    /// give 1 (with a run-time warning) when the divisor is 0.
    Binary(ArithmeticOp, Box<Expr>, Box<Expr>),
    /// Pointer plus (or minus) a number of elements, already a 64-bit integer; scaled by the size of
    /// the pointee.
    PtrAdd {
        /// Pointer.
        ptr: Box<Expr>,
        /// Elements.
        index: Box<Expr>,
        /// Whether they are subtracted.
        negative: bool,
    },
    /// Comparison of two values of one type: integers by their signedness, pointers unsigned,
    /// strings up to the first NUL within the smaller size (`==` and `!=` only), others by bytes.
    Compare(CompareOp, Box<Expr>, Box<Expr>),
    /// `&&` and `||` of bools, short-circuit.
    Logical(LogicalOp, Box<Expr>, Box<Expr>),
    /// `cond ? a : b` of one type (void arms included).
    Cond(Box<Expr>, Box<Expr>, Box<Expr>),
    /// Statements, then a value.
    Block(Vec<Stmt>, Box<Expr>),
    /// A conversion to the expression's type.
    Cast(CastKind, Box<Expr>),
    /// A tuple or record: elements in the order of the type. `eval_order` of a record whose
    /// initialisers were written in another order is the order to evaluate in.
    Tuple(Vec<Expr>),
    /// Element of a tuple or record value.
    TupleField(Box<Expr>, u32),
    /// Member of a struct. The base is a struct or a pointer to one; the index is that of the
    /// member in its definition. Anonymous members on the way are `Member`s of their own.
    /// Scalars, pointers and strings are read; structs and arrays stay addresses.
    Member(Box<Expr>, u32),
    /// `*p`: reads a scalar; a struct or array stays an address.
    Deref(Box<Expr>),
    /// Element of an array (by address), of a string (an `int8`), or behind a pointer; the index is a
    /// 64-bit integer. A run-time index outside an array reads 0, with a warning.
    Index(Box<Expr>, Box<Expr>),
    /// `@m`, `@m[key]`: a missing entry is the zero value. Of aggregations that can be read
    /// (count, sum, min, max, avg) the merged 64-bit integer.
    MapGet {
        /// Map.
        map: MapIdx,
        /// Key of a keyed map.
        key: Option<Box<Expr>>,
    },
    /// `&@m`: address of a scalar map's value, 0 when it is not set; of a keyed map, address of the kernel's
    /// `struct bpf_map`.
    MapAddr(MapIdx),
    /// `++` and `--` on a variable or map entry; the value is the old one (post) or the new one.
    Step {
        /// What.
        target: StepTarget,
        /// Whether it is `--`.
        decrement: bool,
        /// Whether the value is the one before.
        post: bool,
        /// Step: 1, or the size of the pointee.
        by: u64,
    },
    /// A function.
    Call(Call),
    /// A subprogram of the script.
    CallFunction(FunctionIdx, Vec<Expr>),
    /// A function of an imported object.
    CallImported(ImportedFunctionIdx, Vec<Expr>),
}

/// What `++` and `--` change.
#[derive(Clone, Debug)]
pub enum StepTarget {
    /// A variable.
    Local(LocalIdx),
    /// A map entry; a missing one counts from 0.
    Map {
        /// Map.
        map: MapIdx,
        /// Key of a keyed map.
        key: Option<Box<Expr>>,
    },
}

/// Unary operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnaryOp {
    /// `-`, 64 bits.
    Neg,
    /// `~`, 64 bits.
    BitNot,
    /// `!` of a bool.
    Not,
}

/// Comparison operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the operators of C")]
pub enum CompareOp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// Logical operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the operators of C")]
pub enum LogicalOp {
    And,
    Or,
}

/// Conversions. From and to types are those of the operand and the expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CastKind {
    /// Integer, enum, bool or pointer to integer, enum or pointer: truncate, or extend by the
    /// signedness of the source (to a pointer: with zeros).
    Int,
    /// To `bool`: whether an integer or pointer is not 0, or a string is not empty.
    Truth,
    /// A string or buffer to one of a larger capacity (padded with NUL).
    Resize,
    /// A tuple or record to one with other element types, element by element; a record by names.
    Elements,
    /// An integer, bool or string to an array of bytes-sized elements.
    ToArray,
    /// An array to an integer of the same size.
    FromArray,
    /// The same bits under another type (`Username`, another pointee, another kind of memory). A string in a
    /// struct, to a pointer to it.
    Reinterpret,
    /// A `ProbeName` to a string.
    ProbeNameToStr,
    /// A struct or array in memory, to a copy of it (kind of memory `Bpf`).
    Copy,
}

/// The numbers of a `stats` entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StatsPart {
    /// How many values, `uint64`.
    Count,
    /// Their mean, of the signedness of the map.
    Average,
    /// Their total, of the signedness of the map.
    Total,
}

/// Builtins without arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Builtin {
    /// `pid`; `true`: in the initial pid namespace (`pid(init)`), otherwise in bpftrace's.
    Pid(bool),
    /// `tid`; as `Pid`.
    Tid(bool),
    /// `uid`.
    Uid,
    /// `gid`.
    Gid,
    /// `comm`.
    Comm,
    /// `nsecs` and `nsecs(mode)`.
    Nsecs(Clock),
    /// `elapsed`.
    Elapsed,
    /// `cpu`.
    Cpu,
    /// `numaid`.
    Numaid,
    /// `cgroup`.
    Cgroup,
    /// `curtask`.
    Curtask,
    /// `rand`.
    Rand,
    /// `jiffies`.
    Jiffies,
    /// `ctx`.
    Ctx,
    /// `args`, by address in the context.
    Args,
    /// `argN`.
    Arg(u32),
    /// `retval`.
    Retval,
    /// `func`.
    Func,
    /// `probe`.
    Probe,
    /// `usermode`.
    Usermode,
    /// `kstack` (the type says mode and limit).
    Kstack,
    /// `ustack` (the type says mode and limit).
    Ustack,
    /// `ustack` by DWARF unwinding.
    DwUstack,
    /// `reg("name")`: byte offset in `pt_regs` of the target architecture (x86-64), size 8.
    Reg(u32),
}

/// Clocks of `nsecs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Clock {
    /// `CLOCK_MONOTONIC`.
    Monotonic,
    /// `CLOCK_BOOTTIME`.
    Boot,
    /// TAI from the kernel.
    Tai,
    /// Boot time plus an offset measured at start.
    SwTai,
}

/// Functions that are evaluated in the BPF program.
#[derive(Clone, Debug)]
pub enum Call {
    /// `str(p, n)`: the string at an address; bytes of the buffer are those of the type. The length
    /// is the run-time buffer size, a 64-bit integer.
    Str {
        /// A pointer, integer or array.
        addr: Box<Expr>,
        /// Most bytes, the NUL included.
        len: Option<Box<Expr>>,
    },
    /// `buf(p, n)`.
    Buf {
        /// A pointer, integer, array or string.
        addr: Box<Expr>,
        /// Bytes; `None`: all of the array or string.
        len: Option<Box<Expr>>,
    },
    /// `strncmp(a, b, n)`: 0 when equal.
    Strncmp(Box<Expr>, Box<Expr>, u32),
    /// `strcontains`/`strstr`: index of the second in the first, or -1.
    Strstr(Box<Expr>, Box<Expr>),
    /// `strlen`.
    Strlen(Box<Expr>),
    /// `str_concat(a, b)`: both strings, cut off at the size of the result.
    StrConcat(Box<Expr>, Box<Expr>),
    /// `memcmp` of two buffers of one size: the difference of the first bytes that differ, or 0.
    Memcmp(Box<Expr>, Box<Expr>),
    /// `ksym(address)`.
    Ksym(Box<Expr>),
    /// `usym(address)`.
    Usym(Box<Expr>),
    /// Where something of the probed file is in the process, by its address in the file.
    UserAddress(Box<Expr>),
    /// `ntop(af, address)`: the address is an integer or an array of 4 or 16 bytes.
    Ntop(Option<Box<Expr>>, Box<Expr>),
    /// `macaddr(address)`.
    Macaddr(Box<Expr>),
    /// `bswap(n)`.
    Bswap(Box<Expr>),
    /// `strftime(format, ns)`: index into [`TypedProgram::time_formats`], clock of the time.
    Strftime(u32, Clock, Box<Expr>),
    /// `cgroup_path(id, filter)`: index into [`TypedProgram::cgroup_filters`].
    CgroupPath(u32, Box<Expr>),
    /// `path(p)`.
    Path(Box<Expr>),
    /// `delete(@m, key)`: whether there was an entry.
    Delete(MapIdx, Option<Box<Expr>>),
    /// `has_key(@m, key)`.
    HasKey(MapIdx, Box<Expr>),
    /// `find(@m, key, $v)`: whether there is an entry; the variable is set when there is.
    Find(MapIdx, Box<Expr>, LocalIdx),
    /// `len(@m)`.
    MapLen(MapIdx),
    /// A number of the merged entry of a `stats` map; 0 of a missing one.
    StatsOf {
        /// Map.
        map: MapIdx,
        /// Key of a keyed map.
        key: Option<Box<Expr>>,
        /// Which.
        part: StatsPart,
    },
    /// `len(stack)`.
    StackLen(Box<Expr>),
    /// `percpu_kaddr(symbol, cpu)`: the symbol's slot, and the CPU unless it is the program's own.
    PercpuKaddr(Box<Expr>, Option<Box<Expr>>),
    /// `socket_cookie(sk)`.
    SocketCookie(Box<Expr>),
    /// `skboutput(path, skb, len, skip)`: `int32`, 0 or a negative errno.
    SkbOutput {
        /// File.
        path: String,
        /// Pointer to a `struct sk_buff` of the kernel's own.
        skb: Box<Expr>,
        /// Bytes of the packet, counted from its start.
        len: Box<Expr>,
        /// Of which so many are not written.
        skip: u64,
    },
    /// `signal(n)`, `signal_thread(n)`: 0, or what the kernel says against it.
    Signal {
        /// Number.
        signal: Box<Expr>,
        /// To the thread only.
        thread: bool,
    },
    /// `override(rc)`.
    Override(Box<Expr>),
    /// `write_user(dst, src, len)`.
    WriteUser(Box<Expr>, Box<Expr>, Box<Expr>),
    /// The task with an id in the initial pid namespace (an `int32`), or null: `bpf_task_from_pid`. Only reachable where
    /// the kernel lets programs of this kind call it. What is not null must be released.
    TaskFromPid(Box<Expr>),
    /// Gives such a task back: `bpf_task_release`.
    TaskRelease(Box<Expr>),
}

/// Which aggregations can be read as one integer in an expression.
#[must_use]
pub fn is_castable(agg: &AggKind) -> bool {
    matches!(
        agg,
        AggKind::Count
            | AggKind::Sum { .. }
            | AggKind::Min { .. }
            | AggKind::Max { .. }
            | AggKind::Avg { .. }
    )
}
