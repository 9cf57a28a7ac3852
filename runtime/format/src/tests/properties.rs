//! What holds for any value and any bytes.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use TypeKind::*;

fn columns() -> Vec<Field> {
    fields(&[
        ("i", Int),
        ("l", BigInt),
        ("d", Double),
        ("f", Float),
        ("dec", Decimal(20, 5)),
        ("s", TypeKind::STRING),
        ("bin", TypeKind::BYTES),
        ("b", Boolean),
        ("dt", Date),
        ("tm", Time(3)),
        ("ts", Timestamp(6)),
        ("tn", Timestamp(9)),
        ("z", TimestampLtz(3)),
    ])
}

fn nested() -> Vec<Field> {
    let mut all = columns();
    all.push(Field::new("a", array(row(&[("x", TypeKind::STRING), ("y", array(Int))])).nullable()));
    all.push(Field::new("m", map(TypeKind::STRING, Double).nullable()));
    all
}

/// NULL now and then.
fn or_null(values: impl Strategy<Value = Datum>) -> impl Strategy<Value = Datum> {
    option::weighted(0.85, values).prop_map(|v| v.unwrap_or(Datum::Null))
}

fn scalars() -> impl Strategy<Value = Vec<Datum>> {
    let finite = any::<f64>().prop_filter("finite", |v| v.is_finite());
    (
        or_null(any::<i32>().prop_map(Datum::Int)),
        or_null(any::<i64>().prop_map(Datum::BigInt)),
        or_null(finite.prop_map(Datum::Double)),
        or_null(any::<f32>().prop_filter("finite", |v| v.is_finite()).prop_map(Datum::Float)),
        or_null((-99_999_999_999_999_999_999_i128..=99_999_999_999_999_999_999).prop_map(Datum::Decimal)),
        // CSV cannot tell NULL from the empty string
        or_null("(?s).{1,30}".prop_map(Datum::string)),
        or_null(vec(any::<u8>(), 1..20).prop_map(|b| Datum::Bytes(b.into()))),
        or_null(any::<bool>().prop_map(Datum::Boolean)),
        or_null((-700_000..700_000).prop_map(Datum::Date)),
        or_null((0..86_400_000).prop_map(Datum::Time)),
    )
        .prop_flat_map(|(a, b, c, d, e, f, g, h, i, j)| {
            let times = (
                or_null((-60_000_000_000_000_000_i64..200_000_000_000_000_000).prop_map(Datum::Timestamp)),
                or_null(any::<i64>().prop_map(Datum::Timestamp)),
                or_null((-60_000_000_000_000_i64..200_000_000_000_000).prop_map(|ms| Datum::Timestamp(ms * 1000))),
            );
            (Just([a, b, c, d, e, f, g, h, i, j]), times)
        })
        .prop_map(|(first, (k, l, m))| first.into_iter().chain([k, l, m]).collect())
}

fn rows_with_nested() -> impl Strategy<Value = Vec<Datum>> {
    let text = || or_null("(?s).{0,12}".prop_map(Datum::string));
    let numbers = || or_null(vec(or_null(any::<i32>().prop_map(Datum::Int)), 0..4).prop_map(|v| Datum::Array(v.into())));
    let item = or_null((text(), numbers()).prop_map(|(x, y)| Datum::Row([x, y].into())));
    let list = or_null(vec(item, 0..4).prop_map(|v| Datum::Array(v.into())));
    let entries = proptest::collection::btree_map(".{0,5}", any::<i32>(), 0..20);
    let map =
        or_null(entries.prop_map(|m| Datum::Map(m.into_iter().map(|(k, v)| (Datum::string(k), Datum::Double(f64::from(v)))).collect())));
    (scalars(), list, map).prop_map(|(mut row, list, map)| {
        row.extend([list, map]);
        row
    })
}

fn round_trip(format: &str, given: &[(&str, &str)], columns: &[Field], rows: &[Vec<Datum>]) {
    let records = encode(format, given, columns, &batch(columns, rows)).unwrap();
    let texts: Vec<&str> = records.iter().map(|r| r.as_deref().unwrap()).collect();
    assert_eq!(decode(format, given, columns, &texts).unwrap(), rows, "{texts:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn json_round_trips(rows in vec(rows_with_nested(), 1..4)) {
        round_trip("json", &[], &nested(), &rows);
        round_trip("json", &[("timestamp-format.standard", "ISO-8601"), ("encode.decimal-as-plain-number", "true")], &nested(), &rows);
        round_trip("changelog-json", &[], &nested(), &rows);
    }

    #[test]
    fn csv_round_trips(rows in vec(scalars(), 1..4)) {
        for given in [
            &[("null-literal", "\u{1}NULL")][..],
            &[("null-literal", "\u{1}NULL"), ("field-delimiter", "¦"), ("quote-character", "'"), ("escape-character", "\\")],
            &[("null-literal", "\u{1}NULL"), ("field-delimiter", "\\t"), ("escape-character", "^"), ("disable-quote-character", "true")],
        ] {
            // a quote without quoting, or at the start of an unquoted field, is just text
            round_trip("csv", given, &columns(), &rows);
        }
    }

    #[test]
    fn decoders_never_panic_on_bytes(bytes in vec(any::<u8>(), 0..200)) {
        never_panics(&bytes);
    }

    #[test]
    fn decoders_never_panic_on_almost_json(text in "[\\[\\]{},:\"\\\\ a-z0-9.eE+tfn-]{0,80}") {
        never_panics(text.as_bytes());
    }

    /// Valid records with one byte changed, cut at any place.
    #[test]
    fn decoders_never_panic_on_broken_records(row in rows_with_nested(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        for format in ["json", "changelog-json"] {
            let mut bytes = encode(format, &[], &nested(), &batch(&nested(), std::slice::from_ref(&row))).unwrap()[0].clone().unwrap().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            never_panics(&bytes);
            never_panics(&bytes[..cut.index(bytes.len())]);
        }
    }
}

/// Decodes with every format, and sees that what was appended is what was said.
fn never_panics(bytes: &[u8]) {
    let ignore = &[("ignore-parse-errors", "true")][..];
    let csv_columns = columns();
    for (format, given, columns) in [
        ("json", &[][..], nested()),
        ("json", ignore, nested()),
        ("changelog-json", &[("changelog-mode", "all")], nested()),
        ("csv", &[], csv_columns.clone()),
        ("csv", ignore, csv_columns),
        ("raw", &[], fields(&[("i", Int)])),
        ("debezium-json", &[], nested()),
        ("debezium-json", ignore, nested()),
    ] {
        let Ok(mut decoder) = decoder(options(format, given), Schema::new(columns.clone()), UTC) else { continue };
        let count = decoder.decode(Some(bytes)).unwrap_or(0);
        let (arrays, kinds) = decoder.finish().unwrap();
        assert!(arrays.iter().all(|a| a.len() == count), "{format}");
        assert!(kinds.is_none_or(|k| k.len() == count), "{format}");
    }
}
