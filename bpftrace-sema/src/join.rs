//! The one type that several values share: what assignments to one variable or map come to (L2.4).

use std::collections::HashMap;
use std::rc::Rc;

use bpftrace_meta::AggKind;

use crate::{Expr, ExprKind, IntTy, Mem, Ty, TypeTable};

/// Bytes of a probe's name where it has to be a string.
pub(crate) const PROBE_NAME_SIZE: u32 = 256;

/// Smallest and largest value of an integer literal, or of all literals seen so far. Such a value
/// has no signedness of its own yet.
pub(crate) type Range = (i128, i128);

/// Where in a value there are integer literals, or have been in all values seen so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Literals {
    /// Nowhere.
    #[default]
    None,
    /// All of it.
    Int(Range),
    /// In elements of a tuple or fields of a record, one by one.
    Elements(Rc<[Literals]>),
}

impl Literals {
    /// Literals in a value; a range marks the whole as one.
    pub(crate) fn of(expr: &Expr, range: Option<Range>) -> Self {
        match (range, &expr.kind, &expr.ty) {
            (Some(range), ..) => Self::Int(range),
            (None, ExprKind::Tuple(elements), _) => Self::Elements(
                elements
                    .iter()
                    .map(|element| Self::of(element, element_range(element)))
                    .collect(),
            ),
            _ => Self::None,
        }
    }

    /// The range of a literal.
    pub(crate) fn range(&self) -> Option<Range> {
        match self {
            Self::Int(range) => Some(*range),
            Self::None | Self::Elements(_) => None,
        }
    }

    /// Those in one element.
    pub(crate) fn element(&self, idx: usize) -> &Self {
        match self {
            Self::Elements(elements) => elements.get(idx).unwrap_or(&Self::None),
            Self::None | Self::Int(_) => &Self::None,
        }
    }
}

/// The range of an element of a tuple that is a literal. What only fits an unsigned type is none: it has
/// signedness.
pub(crate) fn element_range(element: &Expr) -> Option<Range> {
    let (ExprKind::Const(bits), Ty::Int(int)) = (&element.kind, &element.ty) else {
        return None;
    };
    let value = crate::lower::int_value(*bits, *int);
    (value <= i128::from(i64::MAX)).then_some((value, value))
}

/// The smallest signed type that holds a range, or `uint64` above the largest signed one.
pub(crate) fn literal_type(range: Range) -> IntTy {
    for size in [1u8, 2, 4, 8] {
        let int = IntTy { size, signed: true };
        if fits(range, int) {
            return int;
        }
    }
    IntTy::U64
}

/// Whether all of a range can be held by a type.
pub(crate) fn fits(range: Range, int: IntTy) -> bool {
    let bits = u32::from(int.size) * 8;
    let (min, max) = if int.signed {
        (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1)
    } else {
        (0, (1i128 << bits) - 1)
    };
    min <= range.0 && range.1 <= max
}

/// The integer type that two values share. A range marks a literal.
pub(crate) fn join_ints(
    a: IntTy,
    a_range: Option<Range>,
    b: IntTy,
    b_range: Option<Range>,
) -> IntTy {
    match (a_range, b_range) {
        (Some(x), Some(y)) => {
            let both = (x.0.min(y.0), x.1.max(y.1));
            let wider = IntTy {
                size: a.size.max(b.size),
                signed: a.signed,
            };
            if a.signed == b.signed && fits(both, wider) {
                wider
            } else {
                literal_type(both)
            }
        }
        (Some(range), None) if fits(range, b) => b,
        (None, Some(range)) if fits(range, a) => a,
        _ if a.signed == b.signed => IntTy {
            size: a.size.max(b.size),
            signed: a.signed,
        },
        _ => {
            let (signed, unsigned) = if a.signed { (a, b) } else { (b, a) };
            let size = signed.size.max(unsigned.size.saturating_mul(2)).min(8);
            IntTy { size, signed: true }
        }
    }
}

/// The type that two values with literals in them share, and what of it came of literals alone; `None` when
/// there is none.
pub(crate) fn join_with_literals(
    a: (&Ty, &Literals),
    b: (&Ty, &Literals),
    types: &TypeTable,
) -> Option<(Ty, Literals)> {
    Some(match (a.0, b.0) {
        (Ty::Int(x), Ty::Int(y) | Ty::Enum(_, y)) | (Ty::Enum(_, x), Ty::Int(y)) => {
            let (x_range, y_range) = (a.1.range(), b.1.range());
            let both = match (x_range, y_range) {
                (Some(x), Some(y)) => Literals::Int((x.0.min(y.0), x.1.max(y.1))),
                _ => Literals::None,
            };
            (Ty::Int(join_ints(*x, x_range, *y, y_range)), both)
        }
        (Ty::Tuple(x), Ty::Tuple(y)) if x.len() == y.len() => {
            let (elements, literals): (Vec<_>, Vec<_>) = (0..x.len())
                .map(|idx| {
                    let x = (&x[idx], a.1.element(idx));
                    join_with_literals(x, (&y[idx], b.1.element(idx)), types)
                })
                .collect::<Option<Vec<_>>>()?
                .into_iter()
                .unzip();
            (
                Ty::Tuple(elements.into()),
                Literals::Elements(literals.into()),
            )
        }
        (Ty::Record(x), Ty::Record(y)) if x.len() == y.len() => {
            let places = places(y);
            let (fields, literals): (Vec<_>, Vec<_>) = x
                .iter()
                .enumerate()
                .map(|(idx, (name, x))| {
                    let other = *places.get(name.as_str())?;
                    let x = (x, a.1.element(idx));
                    let y = (&y[other].1, b.1.element(other));
                    let (ty, literals) = join_with_literals(x, y, types)?;
                    Some(((name.clone(), ty), literals))
                })
                .collect::<Option<Vec<_>>>()?
                .into_iter()
                .unzip();
            (
                Ty::Record(fields.into()),
                Literals::Elements(literals.into()),
            )
        }
        (x, y) => (join(x, y, types)?, Literals::None),
    })
}

/// The type that two values share; `None` when there is none. Literals are integers of their own
/// type here.
pub(crate) fn join(a: &Ty, b: &Ty, types: &TypeTable) -> Option<Ty> {
    if a == b {
        return Some(a.clone());
    }
    Some(match (a, b) {
        (Ty::Int(x), Ty::Int(y)) => Ty::Int(join_ints(*x, None, *y, None)),
        (Ty::Enum(i, x), Ty::Enum(j, y)) if i == j => Ty::Enum(*i, join_ints(*x, None, *y, None)),
        (Ty::Enum(_, x) | Ty::Int(x), Ty::Enum(_, y) | Ty::Int(y)) => {
            Ty::Int(join_ints(*x, None, *y, None))
        }
        (Ty::Str(x), Ty::Str(y)) => Ty::Str(*x.max(y)),
        (Ty::ProbeName, Ty::Str(n)) | (Ty::Str(n), Ty::ProbeName) => {
            Ty::Str((*n).max(PROBE_NAME_SIZE))
        }
        (Ty::Buf(x), Ty::Buf(y)) => Ty::Buf(*x.max(y)),
        (Ty::Ptr(x, mx), Ty::Ptr(y, my)) => {
            let mem = join_mem(*mx, *my);
            let pointee = if same_pointee(x, y, types) || **y == Ty::Void {
                x
            } else if **x == Ty::Void {
                y
            } else {
                return None;
            };
            Ty::Ptr(pointee.clone(), mem)
        }
        (Ty::Struct(x, mx), Ty::Struct(y, my)) if same_struct(*x, *y, types) => {
            Ty::Struct(*x, join_mem(*mx, *my))
        }
        (Ty::Array(x, n, mx), Ty::Array(y, m, my)) if n == m && same_pointee(x, y, types) => {
            Ty::Array(x.clone(), *n, join_mem(*mx, *my))
        }
        (Ty::Tuple(x), Ty::Tuple(y)) if x.len() == y.len() => Ty::Tuple(
            x.iter()
                .zip(y.iter())
                .map(|(x, y)| join(x, y, types))
                .collect::<Option<Rc<[Ty]>>>()?,
        ),
        (Ty::Record(x), Ty::Record(y)) if x.len() == y.len() => {
            let places = places(y);
            Ty::Record(
                x.iter()
                    .map(|(name, x)| {
                        let (_, y) = &y[*places.get(name.as_str())?];
                        Some((name.clone(), join(x, y, types)?))
                    })
                    .collect::<Option<Rc<[(String, Ty)]>>>()?,
            )
        }
        (Ty::Agg(x), Ty::Agg(y)) => Ty::Agg(join_aggs(x, y)?),
        _ => return None,
    })
}

/// Where the fields of a record are.
fn places(fields: &[(String, Ty)]) -> HashMap<&str, usize> {
    let names = fields.iter().map(|(name, _)| name.as_str());
    names.zip(0..).collect()
}

fn join_aggs(a: &AggKind, b: &AggKind) -> Option<AggKind> {
    use AggKind::{Avg, Max, Min, Stats, Sum};
    Some(match (a, b) {
        (Sum { signed: x }, Sum { signed: y }) => Sum { signed: *x || *y },
        (Min { signed: x }, Min { signed: y }) => Min { signed: *x || *y },
        (Max { signed: x }, Max { signed: y }) => Max { signed: *x || *y },
        (Avg { signed: x }, Avg { signed: y }) => Avg { signed: *x || *y },
        (Stats { signed: x }, Stats { signed: y }) => Stats { signed: *x || *y },
        _ => return None,
    })
}

/// What is known about memory that is one or the other.
pub(crate) fn join_mem(a: Mem, b: Mem) -> Mem {
    match (a, b) {
        _ if a == b => a,
        // What the verifier can follow is the kernel's in any case.
        (Mem::Kernel | Mem::Btf | Mem::Bpf, Mem::Kernel | Mem::Btf | Mem::Bpf) => Mem::Kernel,
        _ => Mem::Unknown,
    }
}

/// Whether two pointees are the same type, whatever memory they are in.
pub(crate) fn same_pointee(a: &Ty, b: &Ty, types: &TypeTable) -> bool {
    match (a, b) {
        (Ty::Ptr(x, _), Ty::Ptr(y, _)) => same_pointee(x, y, types),
        (Ty::Struct(x, _), Ty::Struct(y, _)) => same_struct(*x, *y, types),
        (Ty::Array(x, n, _), Ty::Array(y, m, _)) => n == m && same_pointee(x, y, types),
        _ => a == b,
    }
}

fn same_struct(a: crate::StructId, b: crate::StructId, types: &TypeTable) -> bool {
    if a == b {
        return true;
    }
    let (a, b) = (types.struct_def(a), types.struct_def(b));
    // The same struct as seen by vmlinux and by a module.
    !a.name.is_empty() && a.name == b.name && a.is_union == b.is_union && a.size == b.size
}

#[cfg(test)]
mod tests {
    use super::*;

    const U32: IntTy = IntTy::U32;
    const I64: IntTy = IntTy::I64;

    #[test]
    fn integers_of_mixed_signedness_share_the_smallest_signed_type() {
        assert_eq!(join_ints(U32, None, IntTy::I8, None), I64);
        assert_eq!(
            join_ints(IntTy::U8, None, IntTy::I8, None),
            IntTy {
                size: 2,
                signed: true
            }
        );
        assert_eq!(join_ints(IntTy::U64, None, IntTy::I8, None), I64);
    }

    #[test]
    fn literals_adopt_the_other_sides_signedness_when_they_fit() {
        assert_eq!(join_ints(U32, None, IntTy::I8, Some((5, 5))), U32);
        assert_eq!(join_ints(U32, None, IntTy::I8, Some((-5, -5))), I64);
        assert_eq!(
            join_ints(
                IntTy::U8,
                None,
                IntTy {
                    size: 2,
                    signed: true
                },
                Some((300, 300))
            ),
            IntTy {
                size: 2,
                signed: true
            }
        );
        assert_eq!(
            join_ints(
                IntTy::I8,
                Some((1, 1)),
                IntTy {
                    size: 2,
                    signed: true
                },
                Some((-129, -129))
            ),
            IntTy {
                size: 2,
                signed: true
            }
        );
    }

    #[test]
    fn records_join_by_name() {
        let types = TypeTable::default();
        let a = Ty::Record(Rc::new([
            ("a".to_owned(), Ty::Bool),
            ("b".to_owned(), Ty::Str(2)),
        ]));
        let b = Ty::Record(Rc::new([
            ("b".to_owned(), Ty::Str(5)),
            ("a".to_owned(), Ty::Bool),
        ]));
        let joined = Ty::Record(Rc::new([
            ("a".to_owned(), Ty::Bool),
            ("b".to_owned(), Ty::Str(5)),
        ]));
        assert_eq!(join(&a, &b, &types), Some(joined));
    }
}
