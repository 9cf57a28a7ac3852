#![allow(clippy::unwrap_used, clippy::expect_used)]

use Datum::{BigInt, Boolean, Decimal, Double, Float, Int, IntervalDayTime, IntervalYearMonth, Null, SmallInt, Timestamp, TinyInt};
use sluice_batch::{Datum, Expr, TypeKind};

use crate::testing::{call, check, eval, lit, s, typed};

fn dec(v: i128, p: u8, sc: u8) -> Expr {
    typed(Decimal(v), TypeKind::Decimal(p, sc))
}

#[test]
fn arithmetic() {
    let l = |a: Datum, b: Datum| vec![lit(a), lit(b)];
    check(vec![
        ("+", l(Int(i32::MAX), Int(1)), Int(i32::MIN), "INT NOT NULL"),
        ("+", l(TinyInt(100), TinyInt(100)), TinyInt(-56), "TINYINT NOT NULL"),
        ("+", l(Int(1), BigInt(2)), BigInt(3), "BIGINT NOT NULL"),
        ("+", l(Int(1), Float(0.5)), Float(1.5), "FLOAT NOT NULL"),
        ("-", l(SmallInt(1), Null), Null, "SMALLINT"),
        ("*", l(Int(3), Double(0.5)), Double(1.5), "DOUBLE NOT NULL"),
        ("/", l(Int(7), Int(2)), Int(3), "INT NOT NULL"),
        ("/", l(Int(-7), Int(2)), Int(-3), "INT NOT NULL"),
        ("/", l(Int(i32::MIN), Int(-1)), Int(i32::MIN), "INT NOT NULL"),
        ("/", l(Double(1.0), Double(0.0)), Double(f64::INFINITY), "DOUBLE NOT NULL"),
        ("%", l(BigInt(-7), Int(2)), Int(-1), "INT NOT NULL"),
        ("MOD", l(Int(7), BigInt(4)), BigInt(3), "BIGINT NOT NULL"),
        ("/", vec![dec(1000, 10, 2), lit(Int(3))], Decimal(33_333_333_333_333), "DECIMAL(21, 13) NOT NULL"),
        ("+", vec![dec(150, 3, 2), dec(25, 2, 1)], Decimal(400), "DECIMAL(4, 2) NOT NULL"),
        ("*", vec![dec(150, 3, 2), lit(Int(2))], Decimal(300), "DECIMAL(14, 2) NOT NULL"),
        ("*", vec![dec(150, 3, 2), lit(Double(2.0))], Double(3.0), "DOUBLE NOT NULL"),
        ("-", vec![lit(Int(i32::MIN))], Int(i32::MIN), "INT NOT NULL"),
        ("-", vec![dec(5, 2, 1)], Decimal(-5), "DECIMAL(2, 1) NOT NULL"),
    ]);
    assert!(eval("/", l(Int(1), Int(0))).is_err());
    assert!(eval("%", vec![dec(1, 2, 1), dec(0, 2, 1)]).is_err());
    for args in [l(s("a"), Int(1)), l(Int(1), Boolean(true))] {
        assert!(call("+", args).is_err());
    }
}

#[test]
fn datetimes() {
    let stamp = 1_706_659_200_000_000; // 2024-01-31 00:00:00
    check(vec![
        ("+", vec![lit(Timestamp(stamp)), lit(IntervalDayTime(1))], Timestamp(stamp + 1000), "TIMESTAMP(3) NOT NULL"),
        ("-", vec![lit(Timestamp(stamp)), lit(IntervalYearMonth(-1))], Timestamp(stamp + 29 * 86_400_000_000), "TIMESTAMP(3) NOT NULL"),
        ("+", vec![lit(IntervalDayTime(86_400_000)), lit(Datum::Date(5))], Datum::Date(6), "DATE NOT NULL"),
        ("-", vec![lit(Datum::Time(0)), lit(IntervalDayTime(1))], Datum::Time(86_399_999), "TIME(3) NOT NULL"),
        ("-", vec![lit(Timestamp(stamp)), lit(Timestamp(0))], IntervalDayTime(stamp / 1000), "INTERVAL DAY TO SECOND(3) NOT NULL"),
        ("*", vec![lit(Int(3)), lit(IntervalDayTime(5))], IntervalDayTime(15), "INTERVAL DAY TO SECOND(3) NOT NULL"),
    ]);
    assert!(call("+", vec![lit(Timestamp(0)), lit(Timestamp(0))]).is_err());
    assert!(call("+", vec![lit(Timestamp(0)), lit(Int(0))]).is_err());
}

#[test]
fn comparisons() {
    let l = |a: Datum, b: Datum| vec![lit(a), lit(b)];
    let (yes, no) = (|| Boolean(true), || Boolean(false));
    check(vec![
        ("IS NOT DISTINCT FROM", l(Null, Null), yes(), "BOOLEAN NOT NULL"),
        ("IS DISTINCT FROM", l(Null, Null), no(), "BOOLEAN NOT NULL"),
        ("=", l(Int(1), BigInt(1)), yes(), "BOOLEAN NOT NULL"),
        ("=", l(Int(1), Null), Null, "BOOLEAN"),
        ("<", l(s("10"), Int(9)), no(), "BOOLEAN NOT NULL"),
        (">", vec![lit(s("3.7")), dec(35, 2, 1)], yes(), "BOOLEAN NOT NULL"),
        ("=", l(Double(f64::NAN), Double(f64::NAN)), no(), "BOOLEAN NOT NULL"),
        ("=", l(Double(0.0), Double(-0.0)), yes(), "BOOLEAN NOT NULL"),
        ("=", vec![dec(10, 2, 1), dec(100, 3, 2)], yes(), "BOOLEAN NOT NULL"),
        ("<=", l(Timestamp(86_400_000_000), s("1970-01-02")), yes(), "BOOLEAN NOT NULL"),
        ("<", l(Datum::Date(1), Timestamp(86_400_000_001)), yes(), "BOOLEAN NOT NULL"),
        ("IS DISTINCT FROM", l(Null, Int(1)), yes(), "BOOLEAN NOT NULL"),
        (
            "IS NOT DISTINCT FROM",
            vec![Expr::null(TypeKind::Int.nullable()), Expr::null(TypeKind::Int.nullable())],
            yes(),
            "BOOLEAN NOT NULL",
        ),
        ("IN", l(Int(1), Int(1)), yes(), "BOOLEAN NOT NULL"),
        ("IN", [s("2"), s("1"), s("2"), s("3"), s("4")].map(lit).to_vec(), yes(), "BOOLEAN NOT NULL"),
        ("IN", [s("2"), s("1"), s("3")].map(lit).to_vec(), no(), "BOOLEAN NOT NULL"),
        ("IN", vec![lit(s("2")), lit(Int(1)), lit(Int(2))], yes(), "BOOLEAN NOT NULL"),
        ("IN", [Int(7), Int(1), BigInt(2), Null, Int(4)].map(lit).to_vec(), Null, "BOOLEAN"),
        ("IS NOT TRUE", vec![Expr::null(TypeKind::Boolean.nullable())], yes(), "BOOLEAN NOT NULL"),
        ("IS UNKNOWN", vec![Expr::null(TypeKind::Boolean.nullable())], yes(), "BOOLEAN NOT NULL"),
        ("LIKE", l(s("test"), s("t%t")), yes(), "BOOLEAN NOT NULL"),
        ("NOT LIKE", l(s("test"), s("t%t")), no(), "BOOLEAN NOT NULL"),
        ("SIMILAR TO", l(s("test"), s("(t|e|s)*")), yes(), "BOOLEAN NOT NULL"),
    ]);
    for args in [l(s("1"), Int(1)), l(Int(1), Timestamp(1)), l(Int(1), IntervalDayTime(1))] {
        assert!(call("=", args).is_err());
    }
    assert!(call("LIKE", vec![lit(s("a")), lit(s("te_st")), lit(s("_"))]).is_err());
}

#[test]
fn nested_equality() {
    let row = TypeKind::Row(vec![sluice_batch::Field::new("a", TypeKind::Int.nullable())]);
    let value = |v: Datum| typed(Datum::Row(std::sync::Arc::from([v])), row.clone());
    check(vec![
        ("=", vec![value(Int(1)), value(Int(1))], Boolean(true), "BOOLEAN NOT NULL"),
        ("<>", vec![value(Int(1)), value(Null)], Boolean(true), "BOOLEAN NOT NULL"),
        ("=", vec![value(Null), value(Null)], Boolean(true), "BOOLEAN NOT NULL"),
    ]);
}

#[test]
fn unknown_functions_are_named() {
    let error = call("SIMILAR T", vec![]).unwrap_err();
    assert_eq!(error.hint_text(), Some("did you mean SIMILAR TO?"));
}
