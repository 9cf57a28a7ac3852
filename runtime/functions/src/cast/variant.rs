//! Casts of VARIANT to scalars. Numbers convert as Java's `Number` does; everything else must be of the type.

use arrow::array::{Array, ArrayRef, BooleanBuilder, StringArray, new_null_array};
use arrow::datatypes::{Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type};
use serde_json::Value as Json;
use sluice_batch::{Result, SqlType, TypeKind};

use super::numeric::JavaCast;
use super::{Casted, Env, Outcome, convert, failure, parse, typed, unknown};

/// Integers stay integers, as everything with a fraction or exponent is a DOUBLE here.
enum Number {
    Long(i64),
    Double(f64),
}

fn number(text: &str) -> Option<Number> {
    match serde_json::from_str::<Json>(text).ok()? {
        Json::Number(n) => Some(n.as_i64().map_or_else(|| Number::Double(n.as_f64().unwrap_or(f64::NAN)), Number::Long)),
        _ => None,
    }
}

pub(super) fn from_variant(input: &ArrayRef, from: &SqlType, to: &SqlType, env: &Env<'_>) -> Result<Casted> {
    let array: &StringArray = typed(input)?;
    macro_rules! number {
        ($t:ty) => {
            convert::<$t>(array, from, to, env, |row| match (array.value(row), number(array.value(row))) {
                ("null", _) => Outcome::Null,
                (_, Some(Number::Long(v))) => Outcome::Value(v.java()),
                (_, Some(Number::Double(v))) => Outcome::Value(v.java()),
                _ => Outcome::Failed,
            })
        };
    }
    match &to.kind {
        TypeKind::Boolean => boolean(array, from, to, env),
        TypeKind::TinyInt => number!(Int8Type),
        TypeKind::SmallInt => number!(Int16Type),
        TypeKind::Int => number!(Int32Type),
        TypeKind::BigInt => number!(Int64Type),
        TypeKind::Float => number!(Float32Type),
        TypeKind::Double => number!(Float64Type),
        TypeKind::Decimal(p, s) => convert::<Decimal128Type>(array, from, to, env, |row| {
            let text = array.value(row);
            match number(text) {
                Some(_) => parse::decimal(text, *p, *s).map_or(Outcome::Null, Outcome::Value),
                None if text == "null" => Outcome::Null,
                None => Outcome::Failed,
            }
        }),
        // JSON has no values of the other types.
        kind if kind.is_binary() || kind.is_timestamp() || *kind == TypeKind::Date => refused(array, from, to, env),
        _ => Err(unknown(from, to)),
    }
}

/// NULL of `null`; every other value fails.
fn refused(array: &StringArray, from: &SqlType, to: &SqlType, env: &Env<'_>) -> Result<Casted> {
    let failed: Vec<u32> = array.iter().zip(0u32..).filter(|(text, _)| !matches!(text, None | Some("null"))).map(|(_, row)| row).collect();
    if let Some(row) = failed.first().filter(|_| !env.try_cast) {
        return Err(failure(array.value(*row as usize), from, to));
    }
    Ok(Casted { array: new_null_array(&to.to_arrow(), array.len()), failed })
}

fn boolean(array: &StringArray, from: &SqlType, to: &SqlType, env: &Env<'_>) -> Result<Casted> {
    let mut builder = BooleanBuilder::with_capacity(array.len());
    let mut failed = vec![];
    for (row, text) in array.iter().enumerate() {
        match text {
            None | Some("null") => builder.append_null(),
            Some("true") => builder.append_value(true),
            Some("false") => builder.append_value(false),
            Some(_) if env.try_cast => {
                failed.push(row as u32);
                builder.append_null();
            }
            Some(other) => return Err(failure(other, from, to)),
        }
    }
    Ok(Casted { array: std::sync::Arc::new(builder.finish()), failed })
}
