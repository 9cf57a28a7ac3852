#![allow(clippy::unwrap_used, clippy::expect_used)]

use Datum::{BigInt, Decimal, Double, Float, Int, Null, SmallInt, TinyInt};
use sluice_batch::{Batch, Datum, EvalContext, Expr, TypeKind};

use crate::testing::{call, check, lit, s, typed};

fn dec(v: i128, p: u8, sc: u8) -> Expr {
    typed(Decimal(v), TypeKind::Decimal(p, sc))
}

#[test]
fn elementary() {
    const DOUBLE: &str = "DOUBLE NOT NULL";
    let d = |v: f64| lit(Double(v));
    check(vec![
        ("POWER", vec![lit(Int(2)), d(10.0)], Double(1024.0), DOUBLE),
        ("SQRT", vec![lit(Int(9))], Double(3.0), DOUBLE),
        ("LN", vec![lit(s("1"))], Double(0.0), DOUBLE),
        ("LOG", vec![d(2.0), d(8.0)], Double(8_f64.ln() / 2_f64.ln()), DOUBLE),
        ("LOG", vec![d(1.0)], Double(0.0), DOUBLE),
        ("COS", vec![dec(0, 2, 1)], Double(1.0), DOUBLE),
        ("SIN", vec![Expr::null(TypeKind::Double.nullable())], Null, "DOUBLE"),
        ("DEGREES", vec![lit(Int(0))], Double(0.0), DOUBLE),
        ("ABS", vec![lit(Int(i32::MIN))], Int(i32::MIN), "INT NOT NULL"),
        ("ABS", vec![dec(-15, 2, 1)], Decimal(15), "DECIMAL(2, 1) NOT NULL"),
        ("ABS", vec![lit(Float(-1.5))], Float(1.5), "FLOAT NOT NULL"),
        ("SIGN", vec![dec(-150, 4, 2)], Decimal(-100), "DECIMAL(4, 2) NOT NULL"),
        ("SIGN", vec![lit(TinyInt(-3))], TinyInt(-1), "TINYINT NOT NULL"),
        ("PI", vec![], Double(std::f64::consts::PI), DOUBLE),
    ]);
    assert!(call("ABS", vec![lit(s("a"))]).is_err());
}

#[test]
fn rounding() {
    check(vec![
        ("ROUND", vec![dec(1_234_512_345, 10, 5), lit(Int(2))], Decimal(1_234_512), "DECIMAL(8, 2) NOT NULL"),
        ("ROUND", vec![dec(25, 2, 1)], Decimal(3), "DECIMAL(2, 0) NOT NULL"),
        ("ROUND", vec![dec(-25, 2, 1)], Decimal(-3), "DECIMAL(2, 0) NOT NULL"),
        ("ROUND", vec![lit(Double(2.5))], Double(3.0), "DOUBLE NOT NULL"),
        ("ROUND", vec![lit(Double(1.005)), lit(Int(2))], Double(1.01), "DOUBLE NOT NULL"),
        ("ROUND", vec![lit(Double(-0.5))], Double(-1.0), "DOUBLE NOT NULL"),
        ("ROUND", vec![lit(Int(1250)), lit(Int(-2))], Int(1300), "INT NOT NULL"),
        ("ROUND", vec![lit(SmallInt(7)), lit(Int(2))], SmallInt(7), "SMALLINT NOT NULL"),
        ("ROUND", vec![lit(Double(1e300)), lit(Int(2))], Double(1e300), "DOUBLE NOT NULL"),
        ("TRUNCATE", vec![dec(123_456, 6, 3), lit(Int(2))], Decimal(12_345), "DECIMAL(6, 2) NOT NULL"),
        ("TRUNCATE", vec![lit(Float(42.324)), lit(Int(2))], Float(42.32), "FLOAT NOT NULL"),
        ("TRUNCATE", vec![lit(BigInt(-1299)), lit(Int(-2))], BigInt(-1200), "BIGINT NOT NULL"),
        ("FLOOR", vec![dec(-15, 2, 1)], Decimal(-2), "DECIMAL(2, 0) NOT NULL"),
        ("CEIL", vec![lit(Double(1.2))], Double(2.0), "DOUBLE NOT NULL"),
        ("CEILING", vec![lit(Int(3))], Int(3), "INT NOT NULL"),
    ]);
}

#[test]
fn random_numbers_go_on() {
    let expr = call("RAND", vec![lit(Int(10))]).unwrap();
    assert!(!expr.is_deterministic());
    let batch = Batch::new(vec![], 2);
    let mut seen = std::collections::HashSet::new();
    for _ in 0..2 {
        let values = expr.eval_array(&batch, &EvalContext::default()).unwrap();
        for i in 0..2 {
            seen.insert(format!("{:?}", sluice_batch::datum::from_array(values.as_ref(), i, &expr.ty)));
        }
    }
    assert_eq!(seen.len(), 4);
}
