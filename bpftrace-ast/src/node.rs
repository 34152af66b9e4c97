//! The tree. Boxes, not arenas: macro expansion clones subtrees, and every consumer walks the tree anyway.
//!
//! Names stay text: nothing here knows which probes, functions, types or builtins exist. Names are stored without
//! their sigil (`$x` is `x`, `@m` is `m`, the nameless map `@` is the empty name). Nothing is desugared except that
//! the last expression of a body that yields no value is an ordinary statement.

mod operator;

use crate::attach::AttachPoint;
use crate::source::{SourceId, Span};

pub use operator::{BinaryOp, Fixity, IncDecOp, UnaryOp};

/// A name with its place. The span includes the sigil of a variable or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ident {
    /// Where.
    pub span: Span,
    /// The name, without sigil.
    pub name: String,
}

/// A whole script.
#[derive(Clone, Debug, PartialEq)]
pub struct Script {
    /// The text it was parsed from.
    pub source: SourceId,
    /// The whole text.
    pub span: Span,
    /// The `#!` line, without its line end.
    pub shebang: Option<Verbatim>,
    /// Preprocessor lines and C definitions, in order.
    pub c_statements: Vec<CStatement>,
    /// The `config = { ... }` block.
    pub config: Option<Config>,
    /// Imports at the top level, in order.
    pub imports: Vec<Import>,
    /// Probes, macros, functions and map declarations, in order.
    pub items: Vec<Item>,
    /// Every comment, in order, wherever it stands. C definitions keep theirs inside their text.
    pub comments: Vec<Span>,
}

/// A piece of text taken over as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verbatim {
    /// Where.
    pub span: Span,
    /// The text.
    pub text: String,
}

/// A piece of C at the top of a script. The text of a definition ends in `;` even if the script leaves it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CStatement {
    /// Where.
    pub span: Span,
    /// Preprocessor line or definition.
    pub kind: CStatementKind,
    /// The text, as it stands in the script.
    pub text: String,
}

/// The two kinds of C that a script may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CStatementKind {
    /// A line that starts with `#`.
    Preprocessor,
    /// A `struct`, `union`, `enum` or `typedef` definition.
    Definition,
}

/// `config = { key = value; ... }`.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// From `config` to `}`.
    pub span: Span,
    /// The settings, in order.
    pub entries: Vec<ConfigEntry>,
}

/// `key = value` in a config block.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigEntry {
    /// From the key to the end of the value.
    pub span: Span,
    /// The key as written.
    pub key: Ident,
    /// Where the value stands.
    pub value_span: Span,
    /// The value.
    pub value: ConfigValue,
}

/// What a config block may assign.
#[derive(Clone, Debug, PartialEq)]
pub enum ConfigValue {
    /// `"text"`, escapes resolved.
    String(StringLit),
    /// `true` or `false`.
    Bool(bool),
    /// An integer literal.
    Integer(IntegerLit),
    /// A bare word.
    Word(String),
}

/// `import "path";`, at the top level or in a block.
#[derive(Clone, Debug, PartialEq)]
pub struct Import {
    /// From `import` to the end of the string.
    pub span: Span,
    /// What is imported.
    pub path: StringLit,
}

/// Something at the top level after C, config and imports.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// A probe.
    Probe(Probe),
    /// `macro name(params) { ... }`.
    Macro(Macro),
    /// `fn name(params) : type { ... }`.
    Subprog(Subprog),
    /// `let @m = kind(n);`.
    MapDecl(MapDecl),
}

impl Item {
    /// The whole item.
    pub fn span(&self) -> Span {
        match self {
            Item::Probe(probe) => probe.span,
            Item::Macro(definition) => definition.span,
            Item::Subprog(subprog) => subprog.span,
            Item::MapDecl(map_decl) => map_decl.span,
        }
    }
}

/// Attach points, perhaps a predicate, and a body.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// From the first attach point to `}`.
    pub span: Span,
    /// At least one.
    pub attach_points: Vec<AttachPoint>,
    /// `/expr/`: the body runs only where it holds.
    pub predicate: Option<Predicate>,
    /// The body; it has no value.
    pub body: Block,
}

impl Probe {
    /// From the first attach point to the last one, which is what diagnostics about the probe point at.
    pub fn head_span(&self) -> Span {
        match (self.attach_points.first(), self.attach_points.last()) {
            (Some(first), Some(last)) => first.span.to(last.span),
            _ => self.span,
        }
    }
}

/// `/expr/` between attach points and body.
#[derive(Clone, Debug, PartialEq)]
pub struct Predicate {
    /// With both slashes.
    pub span: Span,
    /// The condition.
    pub expr: Expr,
}

/// A macro definition.
#[derive(Clone, Debug, PartialEq)]
pub struct Macro {
    /// From `macro` to `}`.
    pub span: Span,
    /// Its name; several macros may share one.
    pub name: Ident,
    /// The parameters.
    pub params: Vec<MacroParam>,
    /// The body, with or without value.
    pub body: Block,
}

impl Macro {
    /// From `macro` to the name, which is what diagnostics about the definition point at.
    pub fn head_span(&self) -> Span {
        self.span.start_to(self.name.span)
    }
}

/// A parameter of a macro.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MacroParam {
    /// Its name.
    pub name: Ident,
    /// What it binds.
    pub kind: MacroParamKind,
}

/// What a macro parameter binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MacroParamKind {
    /// `$x`: a variable of the caller.
    Variable,
    /// `@m`: a map of the caller.
    Map,
    /// `x`: an expression, type or field name, substituted at each use.
    Expr,
}

/// A function definition.
#[derive(Clone, Debug, PartialEq)]
pub struct Subprog {
    /// From `fn` to `}`.
    pub span: Span,
    /// Its name.
    pub name: Ident,
    /// The parameters.
    pub params: Vec<SubprogParam>,
    /// What it returns.
    pub return_type: TypeSpec,
    /// The body; it has no value.
    pub body: Block,
}

/// `$x : type` in a function definition.
#[derive(Clone, Debug, PartialEq)]
pub struct SubprogParam {
    /// From the variable to the end of the type.
    pub span: Span,
    /// The variable.
    pub var: Ident,
    /// Its type.
    pub ty: TypeSpec,
}

/// `let @m = kind(max_entries);`.
#[derive(Clone, Debug, PartialEq)]
pub struct MapDecl {
    /// From `let` to `)`, or `;` where it stands.
    pub span: Span,
    /// The map.
    pub map: Ident,
    /// The kind of map, as written.
    pub kind: Ident,
    /// Where the number stands.
    pub max_entries_span: Span,
    /// How many entries.
    pub max_entries: IntegerLit,
}

/// `{ statements; value }`.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// With both braces.
    pub span: Span,
    /// The statements.
    pub stmts: Vec<Stmt>,
    /// The trailing expression, in blocks that may have a value. Always `None` for the bodies of probes, functions
    /// and loops, where a trailing expression is an ordinary statement.
    pub value: Option<Box<Expr>>,
}

/// A statement.
#[derive(Clone, Debug, PartialEq)]
pub struct Stmt {
    /// Without the closing `;`.
    pub span: Span,
    /// Which.
    pub kind: StmtKind,
}

/// The kinds of statements.
#[derive(Clone, Debug, PartialEq)]
pub enum StmtKind {
    /// An expression for its effect; `if` and bare blocks too.
    Expr(Expr),
    /// `import "path"` inside a block.
    Import(Import),
    /// `let $x : ty = value`.
    Let {
        /// The variable.
        var: Ident,
        /// The declared type.
        ty: Option<TypeSpec>,
        /// The initial value.
        value: Option<Expr>,
    },
    /// `target = value`.
    Assign {
        /// What is written.
        target: Place,
        /// The new value.
        value: Expr,
    },
    /// `target op= value`.
    CompoundAssign {
        /// What is read and written; a key is evaluated twice.
        target: Place,
        /// Where the operator stands, with its `=`.
        op_span: Span,
        /// The operator without `=`.
        op: BinaryOp,
        /// The right operand.
        value: Expr,
    },
    /// `_ = value`.
    Discard(Expr),
    /// `while cond { ... }`.
    While {
        /// The condition.
        cond: Expr,
        /// The body.
        body: Block,
    },
    /// `unroll count { ... }`.
    Unroll {
        /// How many times.
        count: Expr,
        /// The body.
        body: Block,
    },
    /// `for $x : over { ... }`.
    For {
        /// The loop variable.
        var: Ident,
        /// What is iterated.
        over: ForOver,
        /// The body.
        body: Block,
    },
    /// `break`.
    Break,
    /// `continue`.
    Continue,
    /// `return`, perhaps with a value.
    Return(Option<Expr>),
}

/// What a `for` loop goes through.
#[derive(Clone, Debug, PartialEq)]
pub enum ForOver {
    /// The entries of a map.
    Map(Ident),
    /// `start..end`, half open.
    Range {
        /// First value.
        start: Expr,
        /// One past the last value.
        end: Expr,
    },
}

/// Something that can be assigned to, incremented and decremented.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// `$x`.
    Variable(Ident),
    /// `@m`.
    Map(Ident),
    /// `@m[key]`.
    MapAccess(MapAccess),
}

impl Place {
    /// The whole place.
    pub fn span(&self) -> Span {
        match self {
            Place::Variable(ident) | Place::Map(ident) => ident.span,
            Place::MapAccess(access) => access.span,
        }
    }

    /// The expression that reads the place.
    pub fn to_expr(&self) -> Expr {
        let kind = match self.clone() {
            Place::Variable(ident) => ExprKind::Variable(ident.name),
            Place::Map(ident) => ExprKind::Map(ident.name),
            Place::MapAccess(access) => ExprKind::MapAccess(access),
        };
        Expr {
            span: self.span(),
            kind,
        }
    }
}

/// `@m[key, ...]`.
#[derive(Clone, Debug, PartialEq)]
pub struct MapAccess {
    /// From `@` to `]`.
    pub span: Span,
    /// The map.
    pub map: Ident,
    /// At least one key expression; two or more make a tuple.
    pub keys: Vec<Expr>,
}

/// An expression. Parentheses leave no trace; the span is that of the expression inside them.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    /// Where.
    pub span: Span,
    /// Which.
    pub kind: ExprKind,
}

/// The kinds of expressions.
#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    /// `42`, `0x2a`, `1e6`, `5ms`.
    Integer(IntegerLit),
    /// `"text"`.
    String(StringLit),
    /// `true`, `false`.
    Bool(bool),
    /// A bare name: builtin, macro, enumerator, C macro.
    Ident(String),
    /// `$x`.
    Variable(String),
    /// `@m` without key.
    Map(String),
    /// `@m[key]`.
    MapAccess(MapAccess),
    /// `$1`; never 0.
    PositionalParam(u64),
    /// `$#`.
    PositionalCount,
    /// `-x`, `!x`, `~x`, `*x`.
    Unary {
        /// The operator.
        op: UnaryOp,
        /// The operand.
        operand: Box<Expr>,
    },
    /// `++x`, `x++`, `--x`, `x--`.
    IncDec {
        /// Up or down.
        op: IncDecOp,
        /// Before or after the operand: the value is the new or the old one.
        fixity: Fixity,
        /// What changes.
        target: Box<Place>,
    },
    /// `&$x`.
    AddressOfVariable(Ident),
    /// `&@m`.
    AddressOfMap(Ident),
    /// `left op right`.
    Binary {
        /// The operator.
        op: BinaryOp,
        /// Where the operator stands.
        op_span: Span,
        /// Left operand.
        left: Box<Expr>,
        /// Right operand.
        right: Box<Expr>,
    },
    /// `cond ? then : otherwise`; `then` is absent in `cond ?: otherwise`, whose value is then the condition itself.
    Ternary {
        /// The condition.
        cond: Box<Expr>,
        /// The value where it holds.
        then: Option<Box<Expr>>,
        /// The value where it does not.
        otherwise: Box<Expr>,
    },
    /// `if cond { ... } else { ... }`.
    If(Box<If>),
    /// `{ ... }`.
    Block(Box<Block>),
    /// `()`, `(a,)`, `(a, b)`.
    Tuple(Vec<Expr>),
    /// `(a = 1, b = 2)`; names are unique and there is at least one.
    Record(Vec<RecordField>),
    /// `(type) operand`.
    Cast {
        /// The type.
        ty: TypeSpec,
        /// From `(` to `)`.
        head_span: Span,
        /// What is converted.
        operand: Box<Expr>,
    },
    /// `sizeof(x)`.
    Sizeof(TypeOrExpr),
    /// `offsetof(x, a.b)`.
    Offsetof {
        /// The type, or something of the type.
        of: TypeOrExpr,
        /// The path of fields, at least one.
        fields: Vec<Ident>,
    },
    /// `typeinfo(x)`.
    Typeinfo(TypeOrExpr),
    /// `comptime x`.
    Comptime(Box<Expr>),
    /// `name(args)`.
    Call(Call),
    /// `base.name` or `base->name`, which mean the same.
    Field {
        /// What the field is in.
        base: Box<Expr>,
        /// The field.
        field: Ident,
        /// Whether it was written with `->`.
        arrow: bool,
    },
    /// `base.0`.
    TupleIndex {
        /// The tuple.
        base: Box<Expr>,
        /// Where the number stands.
        index_span: Span,
        /// Which element.
        index: u64,
    },
    /// `base[index]`, for anything but maps.
    Index {
        /// Array, pointer, tuple or string.
        base: Box<Expr>,
        /// Which element.
        index: Box<Expr>,
    },
    /// Stands where no expression could be read; there is a diagnostic for it.
    Error,
}

/// `if cond then else otherwise`.
#[derive(Clone, Debug, PartialEq)]
pub struct If {
    /// From `if` to the last `}`.
    pub span: Span,
    /// The condition.
    pub cond: Expr,
    /// What to do where it holds.
    pub then: Block,
    /// What to do where it does not.
    pub otherwise: Option<Else>,
}

/// What follows `else`.
#[derive(Clone, Debug, PartialEq)]
pub enum Else {
    /// `else { ... }`.
    Block(Block),
    /// `else if ...`.
    If(Box<If>),
}

/// `name = value` in a record.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordField {
    /// From the name to the end of the value.
    pub span: Span,
    /// The name.
    pub name: Ident,
    /// The value.
    pub value: Expr,
}

/// `name(args)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The name as written.
    pub name: Ident,
    /// The arguments, in order.
    pub args: Vec<Arg>,
}

/// An argument of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Arg {
    /// A value.
    Expr(Expr),
    /// `typeof(x)`: a type, for macros only.
    Type(TypeSpec),
}

impl Arg {
    /// The whole argument.
    pub fn span(&self) -> Span {
        match self {
            Arg::Expr(expr) => expr.span,
            Arg::Type(ty) => ty.span,
        }
    }
}

/// A type as written.
#[derive(Clone, Debug, PartialEq)]
pub struct TypeSpec {
    /// Where.
    pub span: Span,
    /// Which.
    pub kind: TypeSpecKind,
}

/// The kinds of written types.
#[derive(Clone, Debug, PartialEq)]
pub enum TypeSpecKind {
    /// A bare name: integer types, `string`, `void`, typedefs, a macro's type parameter.
    Named(String),
    /// `struct name`.
    Struct(String),
    /// `union name`.
    Union(String),
    /// `enum name`.
    Enum(String),
    /// `pointee *`.
    Pointer(Box<TypeSpec>),
    /// `element[len]`, or `element[]`.
    Array {
        /// The type of the elements.
        element: Box<TypeSpec>,
        /// How many; absent in `element[]`.
        len: Option<IntegerLit>,
    },
    /// `typeof(x)`.
    Typeof(Box<TypeOrExpr>),
}

/// What `sizeof`, `offsetof`, `typeinfo` and `typeof` take.
#[derive(Clone, Debug, PartialEq)]
pub enum TypeOrExpr {
    /// Certainly a type: `struct x`, `x *`, `x[4]`, `typeof(x)`.
    Type(TypeSpec),
    /// A bare name that is not a builtin variable: a type, or a macro's parameter. Never a macro call.
    Name(Ident),
    /// An expression, which is not evaluated.
    Expr(Box<Expr>),
}

impl TypeOrExpr {
    /// The whole operand.
    pub fn span(&self) -> Span {
        match self {
            TypeOrExpr::Type(ty) => ty.span,
            TypeOrExpr::Name(ident) => ident.span,
            TypeOrExpr::Expr(expr) => expr.span,
        }
    }
}

/// An integer literal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntegerLit {
    /// The value; durations are in nanoseconds.
    pub value: u64,
    /// The spelling in the script.
    pub text: String,
}

/// A string literal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StringLit {
    /// The bytes it stands for: any bytes, NUL included.
    pub value: Vec<u8>,
}

impl StringLit {
    /// The bytes as text; anything that is not UTF-8 becomes a replacement character.
    pub fn to_text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.value)
    }
}
