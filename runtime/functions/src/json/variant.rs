//! PARSE_JSON and TRY_PARSE_JSON: a VARIANT is kept as the JSON text that Flink's `BinaryVariant.toJson` makes of it: compact,
//! keys sorted, numbers as the BIGINT, DECIMAL or DOUBLE that they are kept as.

use arrow::array::ArrayRef;
use sluice_batch::{Error, Expr, Result, TypeKind};

use super::value::{Json, parse_first};
use crate::cast::render::push_double;
use crate::kernel::{Args, P};
use crate::{Call, Declaration};

pub(crate) const FUNCTIONS: &[Declaration] = &[
    Declaration { names: &["PARSE_JSON"], bind: |c| bind(c, false) },
    Declaration { names: &["TRY_PARSE_JSON"], bind: |c| bind(c, true) },
];

/// `PARSE_JSON(text [, allow_duplicate_keys])`; the TRY variant gives NULL for what is not JSON.
fn bind(mut call: Call<'_>, tries: bool) -> Result<Expr> {
    call.coerce(&[P::Str, P::Bool], 1)?;
    let ty = TypeKind::Variant.with_nullable(tries || call.any_nullable());
    Ok(if tries { call.kernel("TRY_PARSE_JSON", ty, try_parse_json) } else { call.kernel("PARSE_JSON", ty, parse_json) })
}

fn parse_json(args: &Args<'_>) -> Result<ArrayRef> {
    parsed(args, false)
}

fn try_parse_json(args: &Args<'_>) -> Result<ArrayRef> {
    parsed(args, true)
}

fn parsed(args: &Args<'_>, tries: bool) -> Result<ArrayRef> {
    let text = args.str(0)?;
    let duplicates = if args.has(1) { Some(args.boolean(1)?) } else { None };
    args.try_strings(|row, out| {
        let allow = duplicates.map_or(Some(false), |d| d.get(row));
        let (Some(text), Some(allow)) = (text.get(row), allow) else { return Ok(None) };
        let parsed = parse_first(text, !allow).map_err(|e| e.to_string());
        match parsed.and_then(|value| write(&value, out)) {
            Ok(()) => Ok(Some(())),
            Err(_) if tries => Ok(None),
            Err(e) => Err(Error::runtime(format!("Failed to parse json string: {text}, {e}"))),
        }
    })
}

/// Appends a parsed document as the text of a VARIANT; the message if a number is out of range.
fn write(value: &Json<'_>, out: &mut String) -> std::result::Result<(), String> {
    let mut failed = None;
    value.write_with(out, &mut |text, out| {
        if !write_number(text, out) {
            failed = Some(format!("Numeric value '{text}' is out of the range of double precision and cannot be stored as a Variant."));
        }
    });
    failed.map_or(Ok(()), Err)
}

/// The digits of a DECIMAL (Flink: `BinaryVariantInternalBuilder`).
const MAX_PRECISION: usize = 38;

/// A BIGINT if it is whole and fits; a DECIMAL without zeros at its end if it has no exponent and fits; else a DOUBLE.
/// `false` if that would be infinite.
fn write_number(text: &str, out: &mut String) -> bool {
    use std::fmt::Write;
    if let Ok(value) = text.parse::<i64>() {
        // Writing to a string cannot fail.
        let _ = write!(out, "{value}");
        return true;
    }
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole = whole.trim_start_matches('0');
    let precision = if whole.is_empty() { fraction.trim_start_matches('0').len() } else { whole.len() + fraction.len() };
    if !text.contains(['e', 'E']) && precision <= MAX_PRECISION && fraction.len() <= MAX_PRECISION {
        let fraction = fraction.trim_end_matches('0');
        let zero = whole.is_empty() && fraction.is_empty();
        out.push_str(if zero { "" } else { sign });
        out.push_str(if whole.is_empty() { "0" } else { whole });
        out.push_str(if fraction.is_empty() { "" } else { "." });
        out.push_str(fraction);
        return true;
    }
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => {
            push_double(out, value);
            true
        }
        _ => false,
    }
}

/// Appends a part of a VARIANT, whose numbers have their form already.
pub(crate) fn write_part(value: &Json<'_>, out: &mut String) {
    value.write_with(out, &mut |text, out| out.push_str(text));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use sluice_batch::Datum;

    use crate::testing::{call, check, eval, lit, s};

    #[test]
    fn variants_are_written_as_by_flink() {
        let cases = [
            ("{ \"b\" : [1, null, true] , \"a\" : \"x\\u0041\" }", r#"{"a":"xA","b":[1,null,true]}"#),
            ("2.50", "2.5"),
            ("1.0", "1"),
            ("-0", "0"),
            ("-0.00", "0"),
            ("-0.5", "-0.5"),
            ("0.000001", "0.000001"),
            ("1e2", "100.0"),
            ("1E20", "1.0E20"),
            ("12345678901234567890", "12345678901234567890"),
            ("123456789012345678901234567890123456789", "1.2345678901234568E38"),
            ("1 2", "1"),
        ];
        for (text, expected) in cases {
            check(vec![("PARSE_JSON", vec![lit(s(text))], s(expected), "VARIANT NOT NULL")]);
        }
    }

    #[test]
    fn what_is_no_variant_fails_or_is_null() {
        for text in ["", "{", r#"{"a":1,"a":2}"#, "1e400", "nan"] {
            assert!(eval("PARSE_JSON", vec![lit(s(text))]).is_err(), "{text}");
            assert_eq!(eval("TRY_PARSE_JSON", vec![lit(s(text))]).unwrap().0, Datum::Null, "{text}");
        }
        let duplicates = vec![lit(s(r#"{"a":1,"a":2}"#)), lit(Datum::Boolean(true))];
        assert_eq!(eval("PARSE_JSON", duplicates).unwrap().0, s(r#"{"a":2}"#));
        assert!(call("PARSE_JSON", vec![lit(Datum::Int(1)), lit(Datum::Int(1))]).is_err());
    }

    #[test]
    fn parts_keep_their_numbers() {
        let variant = call("PARSE_JSON", vec![lit(s(r#"{"a":[1e20,2.50]}"#))]).unwrap();
        let array = call("ITEM", vec![variant, lit(s("a"))]).unwrap();
        let item = call("JSON_STRING", vec![call("ITEM", vec![array, lit(Datum::Int(1))]).unwrap()]).unwrap();
        let column = item.eval_array(&sluice_batch::Batch::new(vec![], 1), &sluice_batch::EvalContext::default()).unwrap();
        assert_eq!(sluice_batch::datum::from_array(column.as_ref(), 0, &item.ty), s("1.0E20"));
    }
}
