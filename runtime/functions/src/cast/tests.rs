#![allow(clippy::unwrap_used, clippy::expect_used)]

use TypeKind::*;
use sluice_batch::datum::{from_array, from_datums};

use super::{Arc, Datum, EvalContext, Expr, Result, Span, TypeKind, cast, cast_array, implicit_cast};

fn run(value: Datum, from: TypeKind, to: TypeKind, try_cast: bool) -> Result<Datum> {
    let (from, to) = (from.nullable(), to.nullable());
    let input = from_datums([&value, &Datum::Null], &from).unwrap();
    let cx = EvalContext { time_zone: chrono_tz::Tz::Asia__Shanghai, ..EvalContext::default() };
    let out = cast_array(&input, &from, &to, try_cast, &cx)?;
    assert_eq!(*out.data_type(), to.to_arrow());
    assert_eq!(from_array(out.as_ref(), 1, &to), Datum::Null);
    Ok(from_array(out.as_ref(), 0, &to))
}

fn s(text: &str) -> Datum {
    Datum::string(text)
}

#[test]
fn results() {
    let string = TypeKind::STRING;
    let stamp = 1_632_486_896_123_456; // 2021-09-24 12:34:56.123456
    let cases = [
        (Datum::SmallInt(-12345), SmallInt, TinyInt, Datum::TinyInt(-57)),
        (Datum::BigInt(12_345_678_901), BigInt, TinyInt, Datum::TinyInt(53)),
        (Datum::Float(123_456.78), Float, SmallInt, Datum::SmallInt(-7616)),
        (Datum::Double(9_234_567_891.123), Double, Int, Datum::Int(i32::MAX)),
        (Datum::Double(f64::MIN), Double, Float, Datum::Float(f32::NEG_INFINITY)),
        (Datum::Decimal(3_276_913_443_134_870), Decimal(20, 3), Int, Datum::Int(-146_603_714)),
        (Datum::Int(12345), Int, Decimal(8, 4), Datum::Null),
        (Datum::Double(3.123456), Double, Decimal(8, 4), Datum::Decimal(31235)),
        (Datum::Float(-12.345), Float, Decimal(5, 3), Datum::Decimal(-12345)),
        (Datum::Boolean(true), Boolean, Decimal(5, 3), Datum::Decimal(1000)),
        (Datum::Int(-3), Int, Boolean, Datum::Boolean(true)),
        (s("3.9"), string.clone(), Int, Datum::Int(3)),
        (s("foo"), Char(3), Char(5), s("foo  ")),
        (s("foobar"), Char(6), VarChar(3), s("foo")),
        (Datum::Bytes(Arc::from([0, 1, 2].as_slice())), VarBinary(3), Binary(2), Datum::Bytes(Arc::from([0, 1].as_slice()))),
        (s("a"), string.clone(), Binary(2), Datum::Bytes(Arc::from([97, 0].as_slice()))),
        (Datum::Timestamp(stamp), Timestamp(6), string.clone(), s("2021-09-24 12:34:56.123456")),
        (Datum::Timestamp(stamp), TimestampLtz(6), string.clone(), s("2021-09-24 20:34:56.123456")),
        (Datum::Timestamp(stamp), Timestamp(6), Date, Datum::Date(18_894)),
        (Datum::Timestamp(stamp), Timestamp(6), Time(3), Datum::Time(45_296_123)),
        (Datum::Timestamp(stamp), Timestamp(6), Timestamp(9), Datum::Timestamp(stamp * 1000)),
        (Datum::Timestamp(stamp), Timestamp(6), TimestampLtz(3), Datum::Timestamp(stamp - 456 - 28_800_000_000)),
        (Datum::Date(18_894), Date, TimestampLtz(0), Datum::Timestamp((18_894 * 86_400 - 28_800) * 1_000_000)),
        (s("2021-09-24 12:34:56.123456"), string.clone(), TimestampLtz(6), Datum::Timestamp(stamp - 28_800_000_000)),
    ];
    for (value, from, to, expected) in cases {
        let name = format!("{value:?} {from} -> {to}");
        assert_eq!(run(value, from, to, false).unwrap(), expected, "{name}");
    }
}

#[test]
fn nested() {
    let array = |kind: TypeKind| Array(Box::new(kind.nullable()));
    let ints = Datum::Array(Arc::from([Datum::Null, Datum::Int(456)]));
    assert_eq!(run(ints.clone(), array(Int), TypeKind::STRING, false).unwrap(), s("[NULL, 456]"));
    assert_eq!(run(ints, array(Int), array(BigInt), false).unwrap(), Datum::Array(Arc::from([Datum::Null, Datum::BigInt(456)])));
    let words = Datum::Array(Arc::from([s("1"), s("a")]));
    assert_eq!(run(words.clone(), array(TypeKind::STRING), array(Int), true).unwrap(), Datum::Null);
    let error = run(words, array(TypeKind::STRING), array(Int), false).unwrap_err();
    assert!(error.message().contains("'a' of type STRING to INT"), "{error}");
    let map = |k: TypeKind, v: TypeKind| Map(Box::new(k.nullable()), Box::new(v.nullable()));
    let entries = Datum::Map(Arc::from([(s("a"), Datum::Int(2))]));
    assert_eq!(run(entries.clone(), map(TypeKind::STRING, Int), TypeKind::STRING, false).unwrap(), s("{a=2}"));
    assert_eq!(run(entries, map(TypeKind::STRING, Int), map(Int, Int), true).unwrap(), Datum::Null);
    let row =
        |a: TypeKind, b: TypeKind| Row(vec![sluice_batch::Field::new("x", a.nullable()), sluice_batch::Field::new("y", b.nullable())]);
    let value = Datum::Row(Arc::from([Datum::Null, s("7")]));
    assert_eq!(run(value.clone(), row(Int, TypeKind::STRING), TypeKind::STRING, false).unwrap(), s("(NULL, 7)"));
    assert_eq!(run(value.clone(), row(Null, TypeKind::STRING), TypeKind::STRING, false).unwrap(), s("(NULL, 7)"));
    assert_eq!(
        run(value, row(Int, TypeKind::STRING), row(BigInt, Int), false).unwrap(),
        Datum::Row(Arc::from([Datum::Null, Datum::Int(7)]))
    );
}

#[test]
fn failures() {
    let bad = [(s("foo"), Int), (s(""), Boolean), (s("2021/09/27"), Date), (s("123"), Time(0)), (s("Apache"), Decimal(5, 3))];
    for (value, to) in bad {
        assert!(run(value.clone(), TypeKind::STRING, to.clone(), false).is_err(), "{value:?} to {to}");
        assert_eq!(run(value, TypeKind::STRING, to, true).unwrap(), Datum::Null);
    }
    assert!(run(Datum::Double(f64::NAN), Double, Decimal(5, 3), false).is_err());
    assert!(run(Datum::Bytes(Arc::from([0x80].as_slice())), VarBinary(1), TypeKind::STRING, false).is_err());
}

#[test]
fn typing_of_casts() {
    let column = |kind: TypeKind| Expr::column(0, kind.not_null());
    let int = cast(column(TypeKind::STRING), &Int.nullable(), false, Span::NONE).unwrap();
    assert_eq!(int.ty, Int.not_null());
    assert_eq!(int.to_string(), "CAST[INT]($0)");
    assert_eq!(cast(column(Int), &Int.nullable(), true, Span::NONE).unwrap().ty, Int.nullable());
    assert!(cast(column(Date), &Int.nullable(), false, Span::NONE).is_err());
    assert!(implicit_cast(column(TypeKind::STRING), &Int.nullable(), Span::NONE).is_err());
    assert_eq!(implicit_cast(column(Char(3)), &TypeKind::STRING.nullable(), Span::NONE).unwrap().as_column(), Some(0));
}

#[test]
fn blanks_of_char_come_back() {
    for (to, expected) in [(TypeKind::STRING, "ab  "), (VarChar(3), "ab "), (Char(5), "ab   ")] {
        let kind = Char(4).nullable();
        let batch = sluice_batch::Batch::new(vec![from_datums([&s("ab"), &Datum::Null], &kind).unwrap()], 2);
        for (input, second) in [(Expr::column(0, kind.clone()), Datum::Null), (Expr::literal(s("ab  "), kind.clone()), s(expected))] {
            let e = cast(input, &to.clone().nullable(), false, Span::NONE).unwrap();
            let out = e.eval_array(&batch, &EvalContext::default()).unwrap();
            assert_eq!((from_array(&out, 0, &e.ty), from_array(&out, 1, &e.ty)), (s(expected), second), "{e}");
        }
    }
}
