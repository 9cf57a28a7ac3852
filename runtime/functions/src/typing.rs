//! Which type results from which, and which casts exist.
//!
//! Source of the rules: Flink's `LogicalTypeMerging` (common types, decimal arithmetic) and `LogicalTypeCasts`.

use sluice_batch::{Field, SqlType, TypeKind};

/// The largest precision of a DECIMAL.
pub const MAX_PRECISION: u8 = 38;
/// How many fractional digits a result keeps when its precision must be cut (SQL Server's rule).
const MINIMUM_ADJUSTED_SCALE: i32 = 6;

/// The type to which CASE results, VALUES rows, array elements and set operations are brought; `None` if there is none.
/// NULL literals adapt to the others; a common type of NULLs alone is NULL.
pub fn common_type(types: &[SqlType]) -> Option<SqlType> {
    let nullable = types.iter().any(|t| t.nullable);
    let kind = common_kind(types).or_else(|| common_castable(types))?;
    Some(kind.with_nullable(nullable))
}

fn common_kind(types: &[SqlType]) -> Option<TypeKind> {
    let mut result: Option<TypeKind> = None;
    for ty in types {
        let kind = &ty.kind;
        if *kind == TypeKind::Null {
            continue;
        }
        let Some(so_far) = result else {
            result = Some(kind.clone());
            continue;
        };
        let constructed = matches!(kind, TypeKind::Array(_) | TypeKind::Map(..) | TypeKind::Multiset(_) | TypeKind::Row(_));
        if constructed {
            return common_constructed(types);
        }
        result = Some(merge(&so_far, kind)?);
    }
    match result {
        Some(TypeKind::Array(_) | TypeKind::Map(..) | TypeKind::Multiset(_) | TypeKind::Row(_)) => common_constructed(types),
        Some(kind) => Some(kind),
        None => (!types.is_empty()).then_some(TypeKind::Null),
    }
}

fn common_castable(types: &[SqlType]) -> Option<TypeKind> {
    let mut result: Option<&SqlType> = None;
    for ty in types.iter().filter(|t| t.kind != TypeKind::Null) {
        match result {
            Some(so_far) if supports_implicit_cast(&so_far.as_nullable(), &ty.as_nullable()) => result = Some(ty),
            Some(so_far) if !supports_implicit_cast(&ty.as_nullable(), &so_far.as_nullable()) => return None,
            Some(_) => {}
            None => result = Some(ty),
        }
    }
    result.map(|t| t.kind.clone())
}

/// The common type of two types that are not constructed.
fn merge(a: &TypeKind, b: &TypeKind) -> Option<TypeKind> {
    use TypeKind::*;
    if a == b {
        return Some(a.clone());
    }
    match (a, b) {
        (d, i) | (i, d) if d.is_datetime() && i.is_interval() => return Some(d.clone()),
        (d, n) | (n, d) if (d.is_timestamp() || *d == Date) && n.is_exact_numeric() => return Some(d.clone()),
        _ => {}
    }
    match (a, b) {
        (Char(n), Char(m)) | (Char(n), VarChar(m)) | (VarChar(n), Char(m)) | (VarChar(n), VarChar(m)) => Some(VarChar(*n.max(m))),
        (Binary(n), Binary(m)) | (Binary(n), VarBinary(m)) | (VarBinary(n), Binary(m)) | (VarBinary(n), VarBinary(m)) => {
            Some(VarBinary(*n.max(m)))
        }
        _ if a.is_exact_numeric() && b.is_exact_numeric() => merge_exact(a, b),
        _ if a.is_numeric() && b.is_numeric() => {
            let double = [a, b].iter().any(|t| matches!(t, Double | Decimal(..)));
            Some(if double { Double } else { Float })
        }
        (Time(n), Time(m)) => Some(Time(*n.max(m))),
        (Timestamp(n), Timestamp(m)) => Some(Timestamp(*n.max(m))),
        (Timestamp(n) | TimestampLtz(n), Timestamp(m) | TimestampLtz(m)) => Some(TimestampLtz(*n.max(m))),
        _ => None,
    }
}

fn merge_exact(a: &TypeKind, b: &TypeKind) -> Option<TypeKind> {
    let ((p1, s1), (p2, s2)) = (as_decimal(a)?, as_decimal(b)?);
    if a.is_integer() && b.is_integer() {
        return Some(if p2 > p1 { b.clone() } else { a.clone() });
    }
    let digits = (p1 - s1).max(p2 - s2).min(MAX_PRECISION);
    let scale = s1.max(s2).min(MAX_PRECISION - digits);
    Some(TypeKind::Decimal(digits + scale, scale))
}

fn children(kind: &TypeKind) -> Vec<SqlType> {
    match kind {
        TypeKind::Array(e) | TypeKind::Multiset(e) => vec![(**e).clone()],
        TypeKind::Map(k, v) => vec![(**k).clone(), (**v).clone()],
        TypeKind::Row(fields) => fields.iter().map(|f| f.ty.clone()).collect(),
        _ => vec![],
    }
}

fn with_children(kind: &TypeKind, mut children: Vec<SqlType>) -> Option<TypeKind> {
    Some(match kind {
        TypeKind::Array(_) => TypeKind::Array(Box::new(children.pop()?)),
        TypeKind::Multiset(_) => TypeKind::Multiset(Box::new(children.pop()?)),
        TypeKind::Map(..) => {
            let value = children.pop()?;
            TypeKind::Map(Box::new(children.pop()?), Box::new(value))
        }
        TypeKind::Row(fields) => TypeKind::Row(fields.iter().zip(children).map(|(f, ty)| Field::new(&f.name, ty)).collect()),
        _ => return None,
    })
}

fn same_root(a: &TypeKind, b: &TypeKind) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

fn common_constructed(types: &[SqlType]) -> Option<TypeKind> {
    let types: Vec<&SqlType> = types.iter().filter(|t| t.kind != TypeKind::Null).collect();
    let first = types.first()?;
    let parts: Vec<Vec<SqlType>> = types.iter().map(|t| children(&t.kind)).collect();
    let width = parts.first()?.len();
    if !types.iter().all(|t| same_root(&t.kind, &first.kind)) || parts.iter().any(|p| p.len() != width) {
        return None;
    }
    let merged = (0..width).map(|i| common_type(&parts.iter().map(|p| p[i].clone()).collect::<Vec<_>>())).collect::<Option<Vec<_>>>()?;
    with_children(&first.kind, merged)
}

/// Precision and scale of an exact number.
pub fn as_decimal(kind: &TypeKind) -> Option<(u8, u8)> {
    Some(match kind {
        TypeKind::TinyInt => (3, 0),
        TypeKind::SmallInt => (5, 0),
        TypeKind::Int => (10, 0),
        TypeKind::BigInt => (19, 0),
        TypeKind::Decimal(p, s) => (*p, *s),
        _ => return None,
    })
}

/// Keeps a computed precision within 38: the scale gives way, but not below 6 digits.
fn adjust(precision: i32, scale: i32) -> TypeKind {
    let max = i32::from(MAX_PRECISION);
    if precision <= max {
        return TypeKind::Decimal(precision as u8, scale as u8);
    }
    let digits = precision - scale;
    let scale = (max - digits).max(scale.min(MINIMUM_ADJUSTED_SCALE));
    TypeKind::Decimal(MAX_PRECISION, scale as u8)
}

fn ints((p1, s1): (u8, u8), (p2, s2): (u8, u8)) -> (i32, i32, i32, i32) {
    (i32::from(p1), i32::from(s1), i32::from(p2), i32::from(s2))
}

/// The type of `a + b` and `a - b`.
pub fn decimal_sum(a: (u8, u8), b: (u8, u8)) -> TypeKind {
    let (p1, s1, p2, s2) = ints(a, b);
    let scale = s1.max(s2);
    adjust((p1 - s1).max(p2 - s2) + scale + 1, scale)
}

/// The type of `a * b`.
pub fn decimal_product(a: (u8, u8), b: (u8, u8)) -> TypeKind {
    let (p1, s1, p2, s2) = ints(a, b);
    adjust(p1 + p2 + 1, s1 + s2)
}

/// The type of `a / b`.
pub fn decimal_quotient(a: (u8, u8), b: (u8, u8)) -> TypeKind {
    let (p1, s1, p2, s2) = ints(a, b);
    let scale = 6.max(s1 + p2 + 1);
    adjust(p1 - s1 + s2 + scale, scale)
}

/// The type of `a % b`.
pub fn decimal_modulo(a: (u8, u8), b: (u8, u8)) -> TypeKind {
    let (p1, s1, p2, s2) = ints(a, b);
    let scale = s1.max(s2);
    adjust((p1 - s1).min(p2 - s2) + scale, scale)
}

/// The type of `ROUND(decimal, digits)` with constant digits.
pub fn decimal_round(precision: u8, scale: u8, digits: i32) -> TypeKind {
    let (p, s) = (i32::from(precision), i32::from(scale));
    if digits >= s {
        TypeKind::Decimal(precision, scale)
    } else if digits < 0 {
        TypeKind::Decimal((1 + p - s).min(38) as u8, 0)
    } else {
        TypeKind::Decimal((1 + p - s + digits).min(38) as u8, digits as u8)
    }
}

/// The type of SUM over a column of this type (Flink: `findSumAggType`).
pub fn sum_type(kind: &TypeKind) -> TypeKind {
    match kind {
        TypeKind::Decimal(_, s) => TypeKind::Decimal(MAX_PRECISION, *s),
        other => other.clone(),
    }
}

/// The type of AVG over a column of this type (Flink: `findAvgAggType`).
pub fn avg_type(kind: &TypeKind) -> TypeKind {
    match kind {
        TypeKind::Decimal(_, s) => decimal_quotient((MAX_PRECISION, *s), (20, 0)),
        other => other.clone(),
    }
}

/// Whether values of one type go into the other without CAST.
pub fn supports_implicit_cast(from: &SqlType, to: &SqlType) -> bool {
    supports_cast(from, to, false)
}

/// Whether CAST from one type to the other exists.
pub fn supports_explicit_cast(from: &SqlType, to: &SqlType) -> bool {
    supports_cast(from, to, true)
}

fn supports_cast(from: &SqlType, to: &SqlType, explicit: bool) -> bool {
    use TypeKind::*;
    if from.nullable && !to.nullable && !explicit {
        return false;
    }
    if from.kind == to.kind || from.kind == Null {
        return true;
    }
    let constructed = |k: &TypeKind| matches!(k, Array(_) | Map(..) | Multiset(_) | Row(_));
    if constructed(&from.kind) && constructed(&to.kind) {
        let (a, b) = (children(&from.kind), children(&to.kind));
        return same_root(&from.kind, &to.kind) && a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| supports_cast(a, b, explicit));
    }
    if from.kind == Variant {
        let scalar = to.kind.is_numeric() || to.kind.is_binary() || to.kind.is_timestamp() || matches!(to.kind, Boolean | Date);
        return explicit && scalar;
    }
    implicit_root(&from.kind, &to.kind) || explicit && explicit_root(&from.kind, &to.kind)
}

fn implicit_root(from: &TypeKind, to: &TypeKind) -> bool {
    use TypeKind::*;
    match to {
        Char(_) => matches!(from, Char(_)),
        VarChar(_) => from.is_character(),
        Binary(_) => matches!(from, Binary(_)),
        VarBinary(_) => from.is_binary(),
        SmallInt => matches!(from, TinyInt),
        Int => matches!(from, TinyInt | SmallInt),
        BigInt => from.is_integer(),
        Decimal(..) | Double => from.is_numeric(),
        Float => from.is_exact_numeric(),
        Date => matches!(from, Timestamp(_)),
        Time(_) => matches!(from, Time(_) | Timestamp(_)),
        Timestamp(_) | TimestampLtz(_) => from.is_timestamp(),
        _ => false,
    }
}

fn explicit_root(from: &TypeKind, to: &TypeKind) -> bool {
    use TypeKind::*;
    match to {
        Char(_) | VarChar(_) => *from != Variant,
        Binary(_) | VarBinary(_) => from.is_character() || from.is_binary(),
        _ if to.is_numeric() => from.is_numeric() || from.is_character() || *from == Boolean,
        Boolean => from.is_character() || from.is_integer(),
        Date => from.is_timestamp() || from.is_character(),
        Time(_) => from.is_timestamp() || from.is_character(),
        Timestamp(_) | TimestampLtz(_) => from.is_datetime() || from.is_character(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use TypeKind::*;

    use super::*;

    #[test]
    fn common_types() {
        let string = TypeKind::STRING;
        let cases: Vec<(Vec<TypeKind>, Option<TypeKind>)> = vec![
            (vec![Int, BigInt], Some(BigInt)),
            (vec![Int, Null], Some(Int)),
            (vec![Int, BigInt, Decimal(2, 2)], Some(Decimal(21, 2))),
            (vec![Int, Float], Some(Float)),
            (vec![Decimal(3, 1), Float], Some(Double)),
            (vec![Char(2), Char(3)], Some(VarChar(3))),
            (vec![Char(2), Char(2)], Some(Char(2))),
            (vec![Char(2), string.clone()], Some(string.clone())),
            (vec![Timestamp(3), TimestampLtz(6)], Some(TimestampLtz(6))),
            (vec![Timestamp(3), Date], Some(Date)),
            (vec![Int, string], None),
            (vec![Null], Some(Null)),
            (vec![Array(Box::new(Int.not_null())), Array(Box::new(BigInt.nullable()))], Some(Array(Box::new(BigInt.nullable())))),
        ];
        for (types, expected) in cases {
            let types: Vec<_> = types.into_iter().map(TypeKind::nullable).collect();
            assert_eq!(common_type(&types).map(|t| t.kind), expected, "{types:?}");
        }
    }

    #[test]
    fn decimal_arithmetic() {
        assert_eq!(decimal_sum((10, 2), (10, 0)), Decimal(13, 2));
        assert_eq!(decimal_quotient((10, 2), (10, 0)), Decimal(21, 13));
        assert_eq!(decimal_product((20, 10), (30, 10)), Decimal(38, 7));
        assert_eq!(avg_type(&Decimal(10, 2)), Decimal(38, 6));
        assert_eq!(decimal_round(10, 4, 2), Decimal(9, 2));
    }

    #[test]
    fn casts() {
        let yes = [(Int, BigInt), (Char(3), VarChar(2)), (Decimal(3, 1), Float), (TimestampLtz(3), Timestamp(3))];
        for (from, to) in yes {
            assert!(supports_implicit_cast(&from.clone().nullable(), &to.clone().nullable()), "{from} to {to}");
        }
        let explicit = [(BigInt, Int), (TypeKind::STRING, Int), (Boolean, Decimal(5, 3)), (Date, Timestamp(3)), (Int, Boolean)];
        for (from, to) in explicit {
            let (from, to) = (from.nullable(), to.nullable());
            assert!(!supports_implicit_cast(&from, &to) && supports_explicit_cast(&from, &to), "{from} to {to}");
        }
        let no = [(Timestamp(3), Int), (Date, Int), (Int, Timestamp(3)), (Double, Boolean), (Boolean, Binary(1)), (Date, Time(0))];
        for (from, to) in no {
            assert!(!supports_explicit_cast(&from.clone().nullable(), &to.clone().nullable()), "{from} to {to}");
        }
    }
}
