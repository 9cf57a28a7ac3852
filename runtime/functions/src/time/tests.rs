#![allow(clippy::unwrap_used, clippy::expect_used)]

use Datum::{BigInt, Boolean, Date, Int, IntervalDayTime, IntervalYearMonth, Null, Time, Timestamp};
use sluice_batch::datum::from_array;
use sluice_batch::{Batch, Datum, EvalContext, Expr, Result, Span, TypeKind, WATERMARK_NONE};

use super::Local;
use super::formatter::Formatter;
use crate::calendar::days_from_civil;
use crate::testing::{call, check, eval, eval_in, lit, s, typed};
use crate::{Call, JsonClauses};

fn t(text: &str) -> Expr {
    lit(s(text))
}

/// Seconds since the epoch.
fn seconds(text: &str) -> i64 {
    crate::cast::parse::timestamp_parts(text).unwrap().0
}

/// A TIMESTAMP(6) literal.
fn ts(text: &str) -> Expr {
    typed(Timestamp(crate::cast::parse::timestamp(text, 6).unwrap()), TypeKind::Timestamp(6))
}

fn ltz(text: &str) -> Expr {
    typed(Timestamp(crate::cast::parse::timestamp(text, 3).unwrap()), TypeKind::TimestampLtz(3))
}

fn date(y: i64, m: u32, d: u32) -> Expr {
    lit(Date(days_from_civil(y, m, d) as i32))
}

/// A call with a unit at `at`.
fn unit_call(name: &str, unit: &str, at: usize, mut args: Vec<Expr>) -> Result<Expr> {
    args.insert(at, Expr::null(TypeKind::Null.nullable()));
    let mut symbols = vec![None; args.len()];
    symbols[at] = Some(unit.to_string());
    crate::bind(Call { name, args, symbols, json: JsonClauses::default(), span: Span::NONE })
}

fn value_of(bound: &Expr, cx: &EvalContext) -> Datum {
    let array = bound.eval_array(&Batch::new(vec![], 1), cx).unwrap();
    assert_eq!(*array.data_type(), bound.ty.to_arrow());
    from_array(array.as_ref(), 0, &bound.ty)
}

fn shanghai() -> EvalContext {
    EvalContext { time_zone: chrono_tz::Tz::Asia__Shanghai, now: 1_709_251_200_999, watermark: 5000 }
}

/// How a time prints.
fn shown(bound: &Expr, cx: &EvalContext) -> String {
    let text = crate::cast(bound.clone(), &TypeKind::STRING.nullable(), false, Span::NONE).unwrap();
    match value_of(&text, cx) {
        Datum::String(s) => s.to_string(),
        other => format!("{other:?}"),
    }
}

#[test]
fn extract() {
    let time = || ts("2020-02-29 01:56:59.987654");
    let cases = [
        ("NANOSECOND", time(), 987_654_000),
        ("MICROSECOND", time(), 987_654),
        ("MILLISECOND", time(), 987),
        ("SECOND", time(), 59),
        ("MINUTE", time(), 56),
        ("HOUR", time(), 1),
        ("DAY", time(), 29),
        ("WEEK", time(), 9),
        ("MONTH", time(), 2),
        ("QUARTER", time(), 1),
        ("YEAR", time(), 2020),
        ("DECADE", time(), 202),
        ("CENTURY", time(), 21),
        ("MILLENNIUM", time(), 3),
        ("DOW", time(), 7),
        ("ISODOW", time(), 6),
        ("DOY", time(), 60),
        ("ISOYEAR", time(), 2020),
        ("EPOCH", time(), 1_582_941_419),
        ("CENTURY", ts("2000-12-31 00:00:00"), 20),
        ("HOUR", ltz("1970-01-01 20:00:00"), 4),
        ("DAY", ltz("1970-01-01 20:00:00"), 2),
        ("SECOND", ts("1969-12-31 23:59:59"), 59),
        ("DAY", ts("1969-12-31 23:59:59"), 31),
        ("MINUTE", lit(Time(45_296_123)), 34),
        ("DAY", lit(IntervalDayTime(19 * 86_400_000 + 43_810_123)), 19),
        ("HOUR", lit(IntervalDayTime(19 * 86_400_000 + 43_810_123)), 12),
        ("YEAR", lit(IntervalYearMonth(30)), 2),
        ("MONTH", lit(IntervalYearMonth(30)), 6),
        ("EPOCH", date(2018, 1, 1), 1_514_764_800),
    ];
    for (unit, arg, expected) in cases {
        let bound = unit_call("EXTRACT", unit, 0, vec![arg]).unwrap();
        assert_eq!((value_of(&bound, &shanghai()), bound.ty.to_string()), (BigInt(expected), "BIGINT NOT NULL".into()), "{unit}");
    }
    for (unit, arg) in [("NANOSECOND", date(1990, 10, 14)), ("YEAR", lit(Time(0))), ("HOUR", t("x")), ("DAY", lit(IntervalYearMonth(1)))] {
        assert!(unit_call("EXTRACT", unit, 0, vec![arg]).is_err(), "{unit}");
    }
    check(vec![
        ("YEAR", vec![ts("2020-02-29 01:56:59")], BigInt(2020), "BIGINT NOT NULL"),
        ("DAYOFWEEK", vec![date(2024, 2, 29)], BigInt(5), "BIGINT NOT NULL"),
        ("QUARTER", vec![date(2016, 4, 12)], BigInt(2), "BIGINT NOT NULL"),
        ("SECOND", vec![lit(Null)], Null, "BIGINT"),
    ]);
}

#[test]
fn floor_and_ceil() {
    // Flink: TemporalTypesTest, TimeFunctionsITCase
    let cases = [
        (ts("2020-02-29 01:56:59.987654"), "MILLISECOND", "2020-02-29 01:56:59.987000", "2020-02-29 01:56:59.988000"),
        (ts("2020-02-29 01:56:59.987654"), "MINUTE", "2020-02-29 01:56:00.000000", "2020-02-29 01:57:00.000000"),
        (ts("2018-03-01 00:00:00"), "DAY", "2018-03-01 00:00:00.000000", "2018-03-01 00:00:00.000000"),
        (ts("2021-03-01 00:00:00"), "WEEK", "2021-02-28 00:00:00.000000", "2021-03-07 00:00:00.000000"),
        (ts("2018-03-01 21:00:01"), "MONTH", "2018-03-01 00:00:00.000000", "2018-03-01 00:00:00.000000"),
        (ts("2018-12-02 00:00:00"), "MONTH", "2018-12-01 00:00:00.000000", "2019-01-01 00:00:00.000000"),
        (ts("2018-01-02 21:00:01"), "YEAR", "2018-01-01 00:00:00.000000", "2019-01-01 00:00:00.000000"),
        (ts("1999-01-01 00:00:00"), "CENTURY", "1901-01-01 00:00:00.000000", "2001-01-01 00:00:00.000000"),
        (ts("1969-12-31 23:59:59.5"), "SECOND", "1969-12-31 23:59:59.000000", "1970-01-01 00:00:00.000000"),
        (date(1990, 10, 14), "QUARTER", "1990-10-01", "1991-01-01"),
        (date(1990, 10, 14), "DECADE", "1990-01-01", "2000-01-01"),
        (date(1990, 10, 14), "DAY", "1990-10-14", "1990-10-15"),
        (date(1990, 10, 14), "WEEK", "1990-10-14", "1990-10-14"),
        (date(1990, 10, 14), "HOUR", "1990-10-14", "1990-10-14"),
        (typed(Time(40_953_123), TypeKind::Time(3)), "SECOND", "11:22:33.0", "11:22:34.0"),
        // 2024-03-01 00:00 in UTC is 08:00 in Shanghai.
        (ltz("2024-03-01 00:30:00"), "DAY", "2024-03-01 00:00:00.000", "2024-03-02 00:00:00.000"),
    ];
    for (arg, unit, floor, ceil) in cases {
        let ty = arg.ty.clone();
        for (name, expected) in [("FLOOR", floor), ("CEIL", ceil)] {
            let bound = unit_call(name, unit, 1, vec![arg.clone()]).unwrap();
            assert_eq!(bound.ty, ty);
            assert_eq!(shown(&bound, &shanghai()), expected, "{name} to {unit}");
        }
    }
    assert!(unit_call("FLOOR", "DOW", 1, vec![date(1990, 10, 14)]).is_err());
    assert!(unit_call("FLOOR", "DAY", 1, vec![lit(Time(0))]).is_err());
}

#[test]
fn adding() {
    let cases = [
        ("HOUR", 8, ts("2017-11-29 10:58:58.998"), "2017-11-29 18:58:58.998000", "TIMESTAMP(6) NOT NULL"),
        ("MONTH", 1, date(2024, 1, 31), "2024-02-29", "DATE NOT NULL"),
        ("QUARTER", -1, date(2024, 5, 31), "2024-02-29", "DATE NOT NULL"),
        ("WEEK", 2, date(2024, 1, 1), "2024-01-15", "DATE NOT NULL"),
        ("MINUTE", 90, date(2024, 1, 1), "2024-01-01 01:30:00", "TIMESTAMP(0) NOT NULL"),
        ("SECOND", -1, lit(Time(0)), "23:59:59.0", "TIME(3) NOT NULL"),
    ];
    for (unit, count, time, expected, ty) in cases {
        let bound = unit_call("TIMESTAMPADD", unit, 0, vec![lit(Int(count)), time]).unwrap();
        assert_eq!((shown(&bound, &shanghai()).as_str(), bound.ty.to_string().as_str()), (expected, ty), "{unit}");
    }
    for (unit, time) in [("WEEK", date(2024, 1, 1)), ("DAY", ts("2024-01-01 00:00:00")), ("YEAR", date(2024, 1, 1)), ("HOUR", lit(Time(0)))]
    {
        // no panic beyond the range
        unit_call("TIMESTAMPADD", unit, 0, vec![lit(Int(i32::MAX)), time.clone()]).map(|e| shown(&e, &shanghai())).ok();
        unit_call("TIMESTAMPADD", unit, 0, vec![lit(BigInt(i64::MAX)), time]).map(|e| shown(&e, &shanghai())).ok();
    }
    assert!(unit_call("TIMESTAMPADD", "EPOCH", 0, vec![lit(Int(1)), date(2024, 1, 1)]).is_err());
    assert!(unit_call("TIMESTAMPADD", "DAY", 0, vec![t("1"), date(2024, 1, 1)]).is_err());
}

#[test]
fn differences() {
    let cases = [
        ("DAY", ts("2024-01-01 00:00:00"), ts("2024-02-29 13:14:15"), 59),
        ("DAY", ts("2024-01-01 00:00:00"), ts("1969-12-31 23:59:59"), -19_723),
        ("SECOND", date(2024, 1, 1), ts("2024-01-01 00:01:00.999"), 60),
        ("MONTH", date(2024, 1, 31), date(2024, 2, 29), 1),
        ("MONTH", ts("2024-01-15 12:00:00"), ts("2024-02-15 11:59:59"), 0),
        ("MONTH", ts("2024-02-15 11:59:59"), ts("2024-01-15 12:00:00"), 0),
        ("MONTH", date(2024, 3, 1), date(2024, 1, 2), -1),
        ("YEAR", date(2020, 2, 29), date(2024, 2, 28), 3),
        ("QUARTER", date(2020, 1, 1), date(2020, 12, 31), 3),
        ("WEEK", date(2020, 1, 1), date(2020, 1, 15), 2),
    ];
    for (unit, from, to, expected) in cases {
        let bound = unit_call("TIMESTAMPDIFF", unit, 0, vec![from, to]).unwrap();
        assert_eq!((value_of(&bound, &shanghai()), bound.ty.to_string()), (Int(expected), "INT NOT NULL".into()), "{unit}");
    }
    assert!(unit_call("TIMESTAMPDIFF", "MILLISECOND", 0, vec![date(2024, 1, 1), date(2024, 1, 1)]).is_err());
}

#[test]
fn overlapping() {
    let time = |h: i32, m: i32| lit(Time((h * 60 + m) * 60_000));
    let hours = |h: i64| lit(IntervalDayTime(h * 3_600_000));
    let cases = [
        (vec![time(9, 0), time(9, 30), time(9, 29), time(9, 31)], true),
        (vec![time(9, 0), time(9, 30), time(9, 31), time(9, 59)], false),
        (vec![time(9, 0), time(9, 30), time(9, 30), time(9, 31)], true),
        (vec![time(9, 30), time(9, 0), time(9, 10), time(9, 11)], true),
        (vec![time(2, 55), hours(1), time(3, 30), hours(2)], true),
        (vec![time(2, 55), hours(1), time(4, 30), hours(-2)], true),
        (vec![time(2, 55), hours(1), time(4, 30), hours(2)], false),
    ];
    for (args, expected) in cases {
        assert_eq!(value_of(&call("OVERLAPS", args).unwrap(), &shanghai()), Boolean(expected));
    }
    assert!(call("OVERLAPS", vec![lit(Int(1)), lit(Int(2)), lit(Int(3)), lit(Int(4))]).is_err());
}

#[test]
fn the_present() {
    let cx = shanghai();
    let now = Timestamp(1_709_251_200_999_000);
    let local = Timestamp(1_709_251_200_999_000 + 8 * 3_600_000_000);
    let cases = [
        ("PROCTIME", now.clone(), "TIMESTAMP_LTZ(3) NOT NULL"),
        ("CURRENT_TIMESTAMP", now.clone(), "TIMESTAMP_LTZ(3) NOT NULL"),
        ("NOW", now.clone(), "TIMESTAMP_LTZ(3) NOT NULL"),
        ("CURRENT_ROW_TIMESTAMP", now, "TIMESTAMP_LTZ(3) NOT NULL"),
        ("LOCALTIMESTAMP", local, "TIMESTAMP(3) NOT NULL"),
        ("CURRENT_DATE", Date(19_783), "DATE NOT NULL"),
        ("CURRENT_TIME", Time(28_800_000), "TIME(0) NOT NULL"),
        ("LOCALTIME", Time(28_800_000), "TIME(0) NOT NULL"),
        ("UNIX_TIMESTAMP", BigInt(1_709_251_200), "BIGINT NOT NULL"),
    ];
    for (name, expected, ty) in cases {
        assert_eq!(eval_in(name, vec![], &cx).unwrap().0, expected, "{name}");
        let bound = call(name, vec![]).unwrap();
        assert_eq!(bound.ty.to_string(), ty, "{name}");
        assert!(!bound.is_deterministic() && crate::fold_constant(&bound).is_none(), "{name}");
        assert!(call(name, vec![lit(Int(1)), lit(Int(1)), lit(Int(1))]).is_err(), "{name}");
    }
    let rowtime = || ltz("2024-01-01 00:00:00");
    assert_eq!(eval_in("CURRENT_WATERMARK", vec![rowtime()], &cx).unwrap().0, Timestamp(5_000_000));
    let none = EvalContext { watermark: WATERMARK_NONE, ..shanghai() };
    assert_eq!(eval_in("CURRENT_WATERMARK", vec![rowtime()], &none).unwrap().0, Null);
    assert!(call("CURRENT_WATERMARK", vec![t("x")]).is_err());
}

#[test]
fn texts_by_patterns() {
    let iso = "yyyy-MM-dd'T'HH:mm:ss.SSS";
    check(vec![
        ("DATE_FORMAT", vec![ts("2024-02-29 13:14:15.123456"), t(iso)], s("2024-02-29T13:14:15.123"), "STRING"),
        ("DATE_FORMAT", vec![ts("2024-02-29 13:14:15.123456"), t("SSSSSS S")], s("123456 1"), "STRING"),
        ("DATE_FORMAT", vec![date(2024, 2, 29), t("dd.MM.yy")], s("29.02.24"), "STRING"),
        ("DATE_FORMAT", vec![t("2018-03-14 01:02:03"), t("yyyy/MM/dd HH:mm:ss")], s("2018/03/14 01:02:03"), "STRING"),
        ("DATE_FORMAT", vec![t("no time"), t("yyyy")], Null, "STRING"),
        ("TO_TIMESTAMP", vec![t("2024-03-01 01:02:03.4567")], Timestamp(1_709_254_923_456_000), "TIMESTAMP(3)"),
        ("TO_TIMESTAMP", vec![t("2024-03-01")], Timestamp(1_709_251_200_000_000), "TIMESTAMP(3)"),
        ("TO_TIMESTAMP", vec![t("nonsense")], Null, "TIMESTAMP(3)"),
        ("TO_TIMESTAMP", vec![t("01/03/2024"), t("dd/MM/yyyy")], Timestamp(1_709_251_200_000_000), "TIMESTAMP(3)"),
        ("TO_TIMESTAMP", vec![t("2024-3-1"), t("dd/MM/yyyy")], Timestamp(1_709_251_200_000_000), "TIMESTAMP(3)"),
        ("TO_TIMESTAMP", vec![t("20240301"), t("bad pattern {")], Null, "TIMESTAMP(3)"),
        ("TO_DATE", vec![t("2024-03-01")], Date(19_783), "DATE"),
        ("TO_DATE", vec![t("01.03.2024"), t("dd.MM.yyyy")], Date(19_783), "DATE"),
        ("TO_DATE", vec![t("x"), t("dd.MM.yyyy")], Null, "DATE"),
        ("FROM_UNIXTIME", vec![lit(Int(1_709_251_200))], s("2024-03-01 00:00:00"), "STRING"),
        ("FROM_UNIXTIME", vec![lit(BigInt(44)), t("yy-MM-dd HH-mm-ss")], s("70-01-01 00-00-44"), "STRING"),
        ("UNIX_TIMESTAMP", vec![t("2024-03-01 00:00:00")], BigInt(1_709_251_200), "BIGINT NOT NULL"),
        ("UNIX_TIMESTAMP", vec![t("01/03/2024"), t("dd/MM/yyyy")], BigInt(1_709_251_200), "BIGINT NOT NULL"),
        ("UNIX_TIMESTAMP", vec![t("x")], BigInt(i64::MIN), "BIGINT NOT NULL"),
        ("CONVERT_TZ", vec![t("2018-03-14 11:00:00"), t("UTC"), t("Asia/Shanghai")], s("2018-03-14 19:00:00"), "STRING"),
        ("CONVERT_TZ", vec![t("x"), t("UTC"), t("Asia/Shanghai")], Null, "STRING"),
    ]);
    for (pattern, args) in [("bb", "DATE_FORMAT"), ("yyyy VV", "DATE_FORMAT")] {
        assert!(eval(args, vec![ts("2024-02-29 13:14:15"), t(pattern)]).is_err(), "{pattern}");
    }
    let cx = shanghai();
    assert_eq!(eval_in("DATE_FORMAT", vec![ltz("2024-02-29 20:00:00"), t("dd HH")], &cx).unwrap().0, s("01 04"));
    assert_eq!(eval_in("FROM_UNIXTIME", vec![lit(Int(0))], &cx).unwrap().0, s("1970-01-01 08:00:00"));
    assert_eq!(eval_in("UNIX_TIMESTAMP", vec![t("1970-01-01 08:00:00")], &cx).unwrap().0, BigInt(0));
}

#[test]
fn instants() {
    let t3 = "TIMESTAMP_LTZ(3)";
    check(vec![
        ("TO_TIMESTAMP_LTZ", vec![lit(Datum::Double(100.0))], Timestamp(100_000), t3),
        ("TO_TIMESTAMP_LTZ", vec![lit(BigInt(1_709_251_200_123)), lit(Int(3))], Timestamp(1_709_251_200_123_000), t3),
        ("TO_TIMESTAMP_LTZ", vec![lit(Int(-100)), lit(Int(0))], Timestamp(-100_000_000), t3),
        ("TO_TIMESTAMP_LTZ", vec![lit(BigInt(i64::MAX)), lit(Int(0))], Null, t3),
        ("TO_TIMESTAMP_LTZ", vec![typed(Datum::Decimal(10_001), TypeKind::Decimal(5, 2)), lit(Int(3))], Timestamp(100_000), t3),
        ("TO_TIMESTAMP_LTZ", vec![t("2023-01-01 00:00:00")], Timestamp(seconds("2023-01-01") * 1_000_000), t3),
        ("TO_TIMESTAMP_LTZ", vec![lit(Null)], Null, t3),
    ]);
    let literal = |args: Vec<Expr>| {
        let bound = call("TO_TIMESTAMP_LTZ", args).unwrap();
        (shown(&bound, &EvalContext::default()), bound.ty.to_string())
    };
    let cases = [
        (vec![lit(BigInt(1_234_567)), lit(Int(6))], "1970-01-01 00:00:01.234567", "TIMESTAMP_LTZ(6)"),
        (vec![t("1234567"), t("SSSSSSS")], "1970-01-01 00:00:00.1234567", "TIMESTAMP_LTZ(7)"),
        (vec![t("2023-01-01 00:00:00"), t("yyyy-MM-dd HH:mm:ss"), t("Asia/Shanghai")], "2022-12-31 16:00:00.000", t3),
        (vec![t("2023-01-01 00:00:00.1234Z"), t("yyyy-MM-dd HH:mm:ss.SSSSX")], "2023-01-01 00:00:00.1234", "TIMESTAMP_LTZ(4)"),
    ];
    for (args, expected, ty) in cases {
        assert_eq!(literal(args), (expected.into(), ty.into()));
    }
    let bad = [
        vec![lit(Int(1)), lit(Int(10))],
        vec![lit(Int(1)), lit(BigInt(3))],
        vec![lit(Int(1)), t("yyyy")],
        vec![lit(Boolean(true))],
        vec![t("x"), lit(Null)],
        vec![t("x"), t("invalid")],
        vec![t("x"), t("yyyy"), t("Nowhere/Land")],
        vec![],
    ];
    for args in bad {
        assert!(call("TO_TIMESTAMP_LTZ", args.clone()).is_err(), "{args:?}");
    }
}

#[test]
fn formatter_prints() {
    let local = Local { seconds: seconds("2024-02-29 00:05:07"), nanos: 123_456_789 };
    let cases = [
        ("yyyy-MM-dd HH:mm:ss.SSSSSSSSS", "2024-02-29 00:05:07.123456789"),
        ("yy u y M d H m s S", "24 2024 2024 2 29 0 5 7 1"),
        ("h hh K k a", "12 12 0 24 AM"),
        ("MMM MMMM MMMMM LLL", "Feb February F Feb"),
        ("E EEEE EEEEE e", "Thu Thursday T 5"),
        ("D DDD Q QQQ QQQQ", "60 060 1 Q1 1st quarter"),
        ("G GGGG", "AD Anno Domini"),
        ("w W Y F", "9 5 2024 1"),
        ("n A N", "123456789 307123 307123456789"),
        ("'it''s' yyyy''", "it's 2024'"),
        ("yyyy[-MM[ VV]]", "2024-02"),
    ];
    for (pattern, expected) in cases {
        let mut out = String::new();
        Formatter::compile(pattern).unwrap().print(local, &mut out).unwrap();
        assert_eq!(out, expected, "{pattern}");
    }
    let mut far = String::new();
    Formatter::compile("yyyy yyyyyy").unwrap().print(Local { seconds: 300_000_000_000, nanos: 0 }, &mut far).unwrap();
    assert_eq!(far, "+11476 011476");
    for bad in ["b", "ddd", "HHH", "MMMMMM", "yyyy'", "]", "{", "SSSSSSSSSS", "aa", "V"] {
        assert!(Formatter::compile(bad).is_err(), "{bad}");
    }
}

#[test]
fn formatter_reads() {
    let cases = [
        ("yyyy-MM-dd HH:mm:ss", "2024-02-29 01:02:03", Some("2024-02-29 01:02:03")),
        ("yyyyMMddHHmmssSSS", "20240229010203456", Some("2024-02-29 01:02:03")),
        ("yyyy-MM-dd", "2024-02-31", Some("2024-02-29")),
        ("yyyy-MM-dd", "2024-2-29", None),
        ("yyyy-M-d", "2024-2-9", Some("2024-02-09")),
        ("yyyy-MM-dd", "12024-02-29", None),
        ("yyyy-MM-dd", "2024-13-01", None),
        ("yyyy-MM-dd", "2024-02-29 ", None),
        ("yyyy-DDD", "2024-060", Some("2024-02-29")),
        ("yyyy-DDD", "2023-366", None),
        ("dd MMM yy", "29 Feb 24", Some("2024-02-29")),
        ("dd MMM yy", "29 feb 24", None),
        ("EEE, d MMMM uuuu", "Thu, 29 February 2024", Some("2024-02-29")),
        ("EEE, d MMMM uuuu", "Fri, 29 February 2024", None),
        ("yyyy-MM-dd hh:mm a", "2024-02-29 12:30 AM", Some("2024-02-29 00:30:00")),
        ("yyyy-MM-dd hh:mm a", "2024-02-29 01:30 PM", Some("2024-02-29 13:30:00")),
        ("yyyy-MM-dd HH:mm", "2024-02-29 24:00", Some("2024-03-01")),
        ("yyyy-MM-dd HH:mm", "2024-02-29 24:01", None),
        ("HH:mm", "10:20", Some("1970-01-01 10:20:00")),
        ("yyyy[-MM[-dd]]", "2024", Some("2024-01-01")),
        ("yyyy[-MM[-dd]]", "2024-02", Some("2024-02-01")),
        ("yyyy-MM-dd HH:mm:ss XXX", "2024-02-29 01:02:03 +08:00", Some("2024-02-29 01:02:03")),
        ("yyyy-MM-dd HH:mm:ss VV", "2024-02-29 01:02:03 Europe/Berlin", Some("2024-02-29 01:02:03")),
    ];
    for (pattern, text, expected) in cases {
        let read = Formatter::compile(pattern).unwrap().read(text).map(|l| l.seconds);
        let expected = expected.map(|e| seconds(&if e.contains(' ') { e.to_string() } else { format!("{e} 00:00:00") }));
        assert_eq!(read, expected, "{text} by {pattern}");
    }
}

proptest::proptest! {
    #[test]
    fn what_is_printed_is_read(seconds in -62_000_000_000_i64..253_402_300_799, nanos in 0_u32..1_000_000_000) {
        let local = Local { seconds, nanos };
        for pattern in ["yyyy-MM-dd HH:mm:ss.SSSSSSSSS", "uuuuMMddHHmmssSSSSSSSSS", "EEEE, d MMMM y h:m:s.n a", "y D N"] {
            let format = Formatter::compile(pattern).unwrap();
            let mut text = String::new();
            format.print(local, &mut text).unwrap();
            proptest::prop_assert_eq!(format.read(&text), Some(local), "{} by {}", text, pattern);
        }
    }

    #[test]
    fn no_text_or_pattern_panics(pattern in "\\PC*", text in "\\PC*") {
        if let Ok(format) = Formatter::compile(&pattern) {
            let _ = format.read(&text);
            let _ = format.print(Local { seconds: 0, nanos: 0 }, &mut String::new());
        }
        if let Ok(format) = super::simple::SimpleFormat::compile(&pattern) {
            let _ = format.read(&text, super::zone::Zone::UTC, 2024);
            format.print(0, super::zone::Zone::UTC, &mut String::new());
        }
        let _ = super::zone::Zone::parse(&text);
    }

    #[test]
    fn no_letters_panic(pattern in "[yMdHhmsSaEXzZGDw\\[\\]' -]{0,12}", text in "[0-9A-Za-z+:' -]{0,16}") {
        if let Ok(format) = Formatter::compile(&pattern) {
            let _ = format.read(&text);
        }
        if let Ok(format) = super::simple::SimpleFormat::compile(&pattern) {
            let _ = format.read(&text, super::zone::Zone::UTC, 2024);
        }
    }
}
