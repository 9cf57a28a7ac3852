//! PARSE_JSON and TRY_PARSE_JSON: a VARIANT is kept as compact JSON text with sorted keys.

use arrow::array::ArrayRef;
use sluice_batch::{Error, Expr, Result, TypeKind};

use super::value::parse_all;
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
        match parse_all(text, !allow) {
            Ok(value) => {
                value.write(out);
                Ok(Some(()))
            }
            Err(_) if tries => Ok(None),
            Err(e) => Err(Error::runtime(format!("Failed to parse json string: {text}, {e}"))),
        }
    })
}
