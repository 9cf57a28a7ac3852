#![allow(clippy::unwrap_used, clippy::expect_used)]

use Datum::{BigInt, Boolean, Bytes, Decimal, Double, Int, Null, Timestamp};
use sluice_batch::{Datum, Expr, TypeKind};

use crate::testing::{call, check, eval, lit, s, typed};

fn t(text: &str) -> Expr {
    lit(s(text))
}

fn i(v: i32) -> Expr {
    lit(Int(v))
}

fn bytes(b: &[u8]) -> Expr {
    lit(Bytes(b.into()))
}

const STRING: &str = "STRING NOT NULL";

#[test]
fn basic() {
    let source = || t("This is a test String.");
    check(vec![
        ("UPPER", vec![typed(s("straße"), TypeKind::Char(6))], s("STRASSE"), "CHAR(6) NOT NULL"),
        ("LOWER", vec![t("ÄB")], s("äb"), STRING),
        ("INITCAP", vec![t("hello wORLD-x1y")], s("Hello World-X1y"), STRING),
        ("CHAR_LENGTH", vec![t("✅a")], Int(2), "INT NOT NULL"),
        ("SUBSTRING", vec![source(), i(2), i(3)], s("his"), "STRING"),
        ("SUBSTRING", vec![source(), i(-7)], s("String."), "STRING"),
        ("SUBSTRING", vec![source(), i(-100)], s(""), "STRING"),
        ("SUBSTRING", vec![source(), i(2), i(-1)], Null, "STRING"),
        ("SUBSTRING", vec![source(), i(0), i(4)], s("This"), "STRING"),
        ("SUBSTR", vec![typed(s("1世3"), TypeKind::Char(3)), i(1), i(2)], s("1世"), "VARCHAR(3)"),
        ("SUBSTR", vec![lit(Int(123)), i(2)], s("23"), "STRING"),
        ("LEFT", vec![t("abc"), i(2)], s("ab"), "STRING"),
        ("RIGHT", vec![t("abc"), i(2)], s("bc"), "STRING"),
        ("RIGHT", vec![t("abc"), i(-2)], s(""), "STRING"),
        ("TRIM", vec![typed(s(" a "), TypeKind::Char(3))], s("a"), "VARCHAR(3) NOT NULL"),
        ("LTRIM", vec![t("xxabc"), t("x")], s("abc"), STRING),
        ("RTRIM", vec![t(" a ")], s(" a"), STRING),
        ("BTRIM", vec![t("  😀www  \u{c}   "), t(" 😀")], s("www  \u{c}"), STRING),
        ("LPAD", vec![t("hi"), i(5), t("ab")], s("abahi"), "STRING"),
        ("RPAD", vec![t("hi"), i(1), t("ab")], s("h"), "STRING"),
        ("LPAD", vec![t("hi"), i(-1), t("ab")], Null, "STRING"),
        ("LPAD", vec![t("hi"), i(5), t("")], Null, "STRING"),
        ("REPEAT", vec![t("ab"), i(2)], s("abab"), STRING),
        ("REVERSE", vec![t("a✅b")], s("b✅a"), "STRING"),
        ("REPLACE", vec![t("hello"), t("l"), t("LL")], s("heLLLLo"), STRING),
        ("TRANSLATE", vec![t("www.apache.org"), t("abcae"), t("12345")], s("www.1p13h5.org"), STRING),
        ("TRANSLATE", vec![t("a"), Expr::null(TypeKind::STRING.nullable()), t("x")], s("a"), STRING),
        (
            "OVERLAY",
            vec![typed(s("xxxxxtest"), TypeKind::Char(9)), typed(s("xxxx"), TypeKind::Char(4)), i(6)],
            s("xxxxxxxxx"),
            "VARCHAR(13) NOT NULL",
        ),
        ("OVERLAY", vec![t("xxxxxtest"), t("xxxx"), i(6), i(2)], s("xxxxxxxxxst"), STRING),
    ]);
    assert!(call("BTRIM", vec![i(1)]).is_err());
    // an error, not the memory of the machine
    assert!(eval("REPEAT", vec![t("x"), i(i32::MAX)]).is_err());
    assert!(eval("LPAD", vec![t("x"), i(i32::MAX), t("y")]).is_err());
    assert_eq!(eval("REPEAT", vec![t(""), i(i32::MAX)]).unwrap().0, s(""));
    let error = call("UPPER", vec![]).unwrap_err();
    assert!(error.message().contains("Invalid number of arguments"), "{error}");
}

#[test]
fn concatenation() {
    check(vec![
        ("||", vec![typed(s("a"), TypeKind::Char(1)), typed(s("bc"), TypeKind::Char(2))], s("abc"), "CHAR(3) NOT NULL"),
        ("||", vec![t("a"), lit(Null)], Null, "STRING"),
        ("||", vec![bytes(b"a"), bytes(b"b")], Bytes(b"ab".as_slice().into()), "BYTES NOT NULL"),
        ("CONCAT", vec![t("a"), t("b"), i(1)], s("ab1"), STRING),
        ("CONCAT_WS", vec![t(","), t("a"), Expr::null(TypeKind::STRING.nullable()), t("c")], s("a,c"), "STRING"),
        ("CONCAT_WS", vec![lit(Null), t("a")], Null, "STRING"),
        ("ELT", vec![i(2), typed(s("a"), TypeKind::Char(1)), typed(s("bc"), TypeKind::Char(2))], s("bc"), "VARCHAR(2)"),
        ("ELT", vec![lit(BigInt(i64::MAX)), t("a")], Null, "STRING"),
    ]);
    for args in [vec![i(-1), t("a")], vec![t("1"), t("a")], vec![i(1), t("a"), bytes(b"a")]] {
        assert!(call("ELT", args).is_err());
    }
    assert!(call("||", vec![t("a"), i(1)]).is_err());
}

#[test]
fn searching() {
    check(vec![
        ("POSITION", vec![t("✅"), t("a✅b")], Int(2), "INT NOT NULL"),
        ("LOCATE", vec![t("a"), t("banana"), i(3)], Int(4), "INT NOT NULL"),
        ("INSTR", vec![t("banana"), t("a"), i(1), i(2)], Int(4), "INT NOT NULL"),
        ("INSTR", vec![t("Corporate Floor"), t("or"), i(-3), i(2)], Int(2), "INT NOT NULL"),
        ("SPLIT_INDEX", vec![t("a,b,,c"), t(","), i(2)], s(""), "STRING"),
        ("SPLIT_INDEX", vec![t("a,b"), lit(Int(44)), i(1)], s("b"), "STRING"),
        ("SPLIT_INDEX", vec![t(""), t(","), i(0)], Null, "STRING"),
        ("STARTSWITH", vec![t(""), t("")], Boolean(true), "BOOLEAN NOT NULL"),
        ("ENDSWITH", vec![bytes(&[1, 2, 3]), bytes(&[2, 3])], Boolean(true), "BOOLEAN NOT NULL"),
        ("IS_ALPHA", vec![t("abcä")], Boolean(true), "BOOLEAN NOT NULL"),
        ("IS_DIGIT", vec![t("12a")], Boolean(false), "BOOLEAN NOT NULL"),
        ("IS_DIGIT", vec![i(3)], Boolean(true), "BOOLEAN NOT NULL"),
        ("IS_DECIMAL", vec![t("-1.5e3")], Boolean(true), "BOOLEAN NOT NULL"),
        ("IS_ALPHA", vec![Expr::null(TypeKind::STRING.nullable())], Boolean(false), "BOOLEAN NOT NULL"),
    ]);
    assert!(call("STARTSWITH", vec![t("a"), bytes(b"a")]).is_err());
}

#[test]
fn encoding() {
    check(vec![
        ("ASCII", vec![t("abc")], Int(97), "INT NOT NULL"),
        ("ASCII", vec![t("")], Int(0), "INT NOT NULL"),
        ("CHR", vec![i(353)], s("a"), "STRING"),
        ("CHR", vec![i(-1)], s(""), "STRING"),
        ("ENCODE", vec![t("aé"), t("UTF-16BE")], Bytes([0, 97, 0, 233].as_slice().into()), "BYTES NOT NULL"),
        ("DECODE", vec![bytes(b"Hello"), t("utf-8")], s("Hello"), STRING),
        ("TO_BASE64", vec![t("hello world")], s("aGVsbG8gd29ybGQ="), STRING),
        ("FROM_BASE64", vec![t("aGVsbG8gd29ybGQ=")], s("hello world"), STRING),
        ("HEX", vec![lit(BigInt(-1))], s("FFFFFFFFFFFFFFFF"), STRING),
        ("HEX", vec![t("kl")], s("6B6C"), STRING),
        ("UNHEX", vec![t("1")], Bytes([0].as_slice().into()), "BYTES"),
        ("UNHEX", vec![t("4D79")], Bytes(b"My".as_slice().into()), "BYTES"),
        ("UNHEX", vec![t("z")], Null, "BYTES"),
        ("BIN", vec![i(4)], s("100"), STRING),
        ("IS_VALID_UTF8", vec![bytes(&[0xC0, 0xAF])], Boolean(false), "BOOLEAN NOT NULL"),
        ("MAKE_VALID_UTF8", vec![bytes(b"Hello")], s("Hello"), STRING),
    ]);
    assert!(eval("DECODE", vec![bytes(b"a"), t("klingon")]).is_err());
}

#[test]
fn regular_expressions() {
    let words = |w: &[&str]| Datum::Array(w.iter().map(|w| s(w)).collect());
    check(vec![
        ("REGEXP", vec![t("foobar"), t("foo")], Boolean(true), "BOOLEAN NOT NULL"),
        ("REGEXP_COUNT", vec![t("abc123xyz456"), t("\\d")], Int(6), "INT"),
        ("REGEXP_COUNT", vec![t("a"), t("(")], Null, "INT"),
        ("REGEXP_EXTRACT", vec![t("foothebar"), t("foo(.*?)(bar)"), i(2)], s("bar"), "STRING"),
        ("REGEXP_EXTRACT", vec![t("22"), t("[A-Z]+")], Null, "STRING"),
        ("REGEXP_EXTRACT_ALL", vec![t("100-200, 300-400"), t("(\\d+)-(\\d+)"), i(1)], words(&["100", "300"]), "ARRAY<STRING>"),
        ("REGEXP_EXTRACT_ALL", vec![t("ab"), t(""), i(0)], words(&["", "", ""]), "ARRAY<STRING>"),
        ("REGEXP_EXTRACT_ALL", vec![t("ab"), t("ab")], Null, "ARRAY<STRING>"),
        ("REGEXP_INSTR", vec![t("Helloworld! Hello everyone!"), t("\\bHello\\b")], Int(13), "INT"),
        ("REGEXP_REPLACE", vec![t("foobar"), t("o+"), t("$1")], s("f$1bar"), "STRING"),
        ("REGEXP_SUBSTR", vec![t("100-200, 300-400"), t("(\\d+)-(\\d+)$")], s("300-400"), "STRING"),
    ]);
    for (name, args) in
        [("REGEXP_EXTRACT", vec![t("a"), t("(")]), ("REGEXP_REPLACE", vec![t("a"), t("("), t("x")]), ("REGEXP_COUNT", vec![i(1), t("a")])]
    {
        assert!(call(name, args).is_err(), "{name}");
    }
}

#[test]
fn printf() {
    let d = |v: f64| lit(Datum::Double(v));
    let p = |format: &str, args: Vec<Expr>| std::iter::once(t(format)).chain(args).collect::<Vec<_>>();
    check(vec![
        ("PRINTF", p("%s %s", vec![i(1), i(2), i(3)]), s("1 2"), "STRING"),
        ("PRINTF", p("%s", vec![]), Null, "STRING"),
        ("PRINTF", p("%08d", vec![i(1024)]), s("00001024"), "STRING"),
        ("PRINTF", p("%d", vec![t("x")]), Null, "STRING"),
        ("PRINTF", p("%,d|%+d|%(d|%-5d|", vec![i(1_234_567), i(5), i(-5), i(7)]), s("1,234,567|+5|(5)|7    |"), "STRING"),
        (
            "PRINTF",
            p("%.2f %f %e", vec![lit(Double(1.005)), lit(Double(2.5)), lit(Double(1500.0))]),
            s("1.01 2.500000 1.500000e+03"),
            "STRING",
        ),
        (
            "PRINTF",
            p("%s %.1f", vec![typed(Decimal(1024), TypeKind::Decimal(4, 2)), typed(Decimal(1025), TypeKind::Decimal(4, 2))]),
            s("10.24 10.3"),
            "STRING",
        ),
        ("PRINTF", p("%2$s%1$S%%%x", vec![t("a"), t("b"), i(255)]), Null, "STRING"),
        ("PRINTF", p("%2$s%1$S%%", vec![t("a"), t("b")]), s("bA%"), "STRING"),
        ("PRINTF", p("%s%<s%s", vec![t("a"), t("b")]), s("aab"), "STRING"),
        ("PRINTF", p("%<s", vec![t("a")]), Null, "STRING"),
        ("PRINTF", p("%x %o", vec![i(-1), i(8)]), s("ffffffff 10"), "STRING"),
        ("PRINTF", p("%-d", vec![i(1)]), Null, "STRING"),
        ("PRINTF", p("%.2d", vec![i(1)]), Null, "STRING"),
        ("PRINTF", p("%.2f %.1f %.0f", vec![d(1.005), d(0.25), d(0.5)]), s("1.01 0.3 1"), "STRING"),
        ("PRINTF", p("%.2f %.2f %f", vec![d(99.999), d(0.001), d(1e10)]), s("100.00 0.00 10000000000.000000"), "STRING"),
        ("PRINTF", p("%e %.1E %e", vec![d(12345.678), d(9.96), d(0.0)]), s("1.234568e+04 1.0E+01 0.000000e+00"), "STRING"),
        ("PRINTF", p("%.0f %.3f %e", vec![d(0.04), d(0.0), d(-1.5e-300)]), s("0 0.000 -1.500000e-300"), "STRING"),
        ("PRINTF", p("%g %g %g %.3g", vec![d(1.5), d(0.00001), d(1e6), d(999.9)]), s("1.50000 1.00000e-05 1.00000e+06 1.00e+03"), "STRING"),
        ("PRINTF", p("%s", vec![lit(Timestamp(1_722_335_040_000_000))]), s("2024-07-30T10:24"), "STRING"),
        ("PRINTF", p("%s %s", vec![lit(Datum::Date(19_934)), lit(Boolean(true))]), s("19934 true"), "STRING"),
        ("PRINTF", p("%d %s", vec![Expr::null(TypeKind::Int.nullable()), lit(Null)]), s("null null"), "STRING"),
    ]);
}
