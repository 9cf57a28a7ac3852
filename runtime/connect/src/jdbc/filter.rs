//! Which conditions PostgreSQL looks at, so that rows that no one wants do not come (Flink: `JdbcFilterPushdownPreparedStatementVisitor`, which
//! has the same operators). The plan looks at them again: what is asked for here may be less than the condition, never more. So types whose
//! values may be others on the way to us (times and decimals that are rounded, strings that are cut), and orders that are others there (strings
//! by a collation, NaN), stay with us.

use sluice_batch::{Datum, Expr, ExprKind, TypeKind};

use super::sql::text;

/// A condition in PostgreSQL's SQL; `None`: it is not pushed down. `column` gives a column's SQL and type.
pub(crate) fn condition(expr: &Expr, column: &dyn Fn(usize) -> Option<(String, TypeKind)>) -> Option<String> {
    let all = |parts: &[Expr], word: &str| {
        let parts: Option<Vec<String>> = parts.iter().map(|p| condition(p, column)).collect();
        parts.filter(|p| !p.is_empty()).map(|p| format!("({})", p.join(word)))
    };
    let tested = |inner: &Expr, test: &str| column(inner.as_column()?).map(|(sql, _)| format!("{sql} IS {test}"));
    match &expr.kind {
        ExprKind::And(parts) => all(parts, " AND "),
        ExprKind::Or(parts) => all(parts, " OR "),
        ExprKind::IsNull(inner) => tested(inner, "NULL"),
        ExprKind::IsNotNull(inner) => tested(inner, "NOT NULL"),
        ExprKind::Column(at) => column(*at).filter(|(_, kind)| *kind == TypeKind::Boolean).map(|(sql, _)| sql),
        ExprKind::Not(inner) => match inner.kind {
            ExprKind::Column(_) => condition(inner, column).map(|sql| format!("NOT {sql}")),
            _ => None,
        },
        ExprKind::Call { function, args } => match &args[..] {
            [left, right] => comparison(function.name(), left, right, column),
            _ => None,
        },
        ExprKind::Literal(_) | ExprKind::Case { .. } => None,
    }
}

fn comparison(operator: &str, left: &Expr, right: &Expr, column: &dyn Fn(usize) -> Option<(String, TypeKind)>) -> Option<String> {
    let operator = ["=", "<>", "<", "<=", ">", ">="].into_iter().find(|o| *o == operator)?;
    let (at, value, flipped) = match (left.as_column(), right.as_column()) {
        (Some(at), None) => (at, right.as_literal()?, false),
        (None, Some(at)) => (at, left.as_literal()?, true),
        _ => return None,
    };
    let (sql, kind) = column(at)?;
    let value = literal(&kind, value)?;
    if matches!(kind, TypeKind::VarChar(_)) && operator != "=" {
        return None;
    }
    Some(if flipped { format!("{value} {operator} {sql}") } else { format!("{sql} {operator} {value}") })
}

fn literal(kind: &TypeKind, value: &Datum) -> Option<String> {
    match (kind, value) {
        (TypeKind::Boolean, Datum::Boolean(b)) => Some(b.to_string()),
        (TypeKind::SmallInt, Datum::SmallInt(n)) => Some(format!("'{n}'::smallint")),
        (TypeKind::Int, Datum::Int(n)) => Some(format!("'{n}'::integer")),
        (TypeKind::BigInt, Datum::BigInt(n)) => Some(format!("'{n}'::bigint")),
        // The end of the calendar of four digits; PostgreSQL writes the rest in another way.
        (TypeKind::Date, Datum::Date(days)) => {
            let date = chrono::NaiveDate::from_epoch_days(*days)?;
            let text = date.format("%Y-%m-%d").to_string();
            (text.len() == 10).then(|| format!("'{text}'::date"))
        }
        (kind, Datum::String(s)) if *kind == TypeKind::STRING => text(s),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn column(at: usize) -> Option<(String, TypeKind)> {
        let kinds = [TypeKind::Int, TypeKind::STRING, TypeKind::Boolean, TypeKind::Timestamp(3), TypeKind::VarChar(3), TypeKind::Date];
        Some((format!("t.c{at}"), kinds.get(at)?.clone()))
    }

    fn col(at: usize) -> Expr {
        Expr::column(at, column(at).unwrap().1.nullable())
    }

    fn compare(operator: &str, left: Expr, right: Expr) -> Expr {
        let json = sluice_functions::JsonClauses::default();
        let call =
            sluice_functions::Call { name: operator, args: vec![left, right], symbols: vec![], json, span: sluice_batch::Span::NONE };
        sluice_functions::bind(call).unwrap()
    }

    fn int(n: i32) -> Expr {
        Expr::literal(Datum::Int(n), TypeKind::Int.not_null())
    }

    fn string(s: &str) -> Expr {
        Expr::literal(Datum::string(s), TypeKind::STRING.not_null())
    }

    #[test]
    fn what_is_the_same_there_is_asked_for() {
        let boolean = TypeKind::Boolean.nullable();
        let of = |kind| Expr { kind, ty: boolean.clone() };
        let less = compare("<", col(0), int(-7));
        let named = compare("=", col(1), string("it's"));
        let date = Expr::literal(Datum::Date(19_000), TypeKind::Date.not_null());
        for (expr, wanted) in [
            (less.clone(), Some("t.c0 < '-7'::integer")),
            (compare(">=", int(1), col(0)), Some("'1'::integer >= t.c0")),
            (named.clone(), Some("t.c1 = 'it''s'")),
            (of(ExprKind::And(vec![less.clone(), named.clone()])), Some("(t.c0 < '-7'::integer AND t.c1 = 'it''s')")),
            (of(ExprKind::Or(vec![less.clone(), of(ExprKind::IsNull(Box::new(col(3))))])), Some("(t.c0 < '-7'::integer OR t.c3 IS NULL)")),
            (of(ExprKind::IsNotNull(Box::new(col(4)))), Some("t.c4 IS NOT NULL")),
            (of(ExprKind::Not(Box::new(col(2)))), Some("NOT t.c2")),
            (compare("=", col(5), date), Some("t.c5 = '2022-01-08'::date")),
            // Collations; a backslash; lengths; columns only; a negation that is no column's.
            (compare("<", col(1), string("a")), None),
            (compare("<>", col(1), string("a")), None),
            (compare("=", col(1), string("a\\")), None),
            (compare("=", col(4), string("abc")), None),
            (compare("=", col(0), col(0)), None),
            (compare("=", col(0), Expr::null(TypeKind::Int.nullable())), None),
            (of(ExprKind::Not(Box::new(less.clone()))), None),
            (of(ExprKind::Or(vec![less, compare("<", col(1), string("a"))])), None),
        ] {
            assert_eq!(condition(&expr, &column).as_deref(), wanted, "{expr:?}");
        }
    }
}
