//! `IS JSON [VALUE | OBJECT | ARRAY | SCALAR]`. NULL is NULL; IS NOT JSON is NOT around it.

use arrow::array::ArrayRef;
use sluice_batch::{Expr, Result, TypeKind};

use super::value::{Json, parse};
use crate::kernel::{Args, Body, P};
use crate::{Call, Declaration};

pub(crate) const FUNCTIONS: &[Declaration] = &[
    Declaration { names: &["IS JSON VALUE", "IS JSON"], bind: |c| bind(c, "IS JSON VALUE", |a| test(a, |_| true)) },
    Declaration { names: &["IS JSON OBJECT"], bind: |c| bind(c, "IS JSON OBJECT", |a| test(a, |v| matches!(v, Json::Object(_)))) },
    Declaration { names: &["IS JSON ARRAY"], bind: |c| bind(c, "IS JSON ARRAY", |a| test(a, |v| matches!(v, Json::Array(_)))) },
    Declaration { names: &["IS JSON SCALAR"], bind: |c| bind(c, "IS JSON SCALAR", |a| test(a, |v| v.is_scalar())) },
];

fn bind(call: Call<'_>, name: &'static str, body: Body) -> Result<Expr> {
    call.strict(name, &[P::Str], TypeKind::Boolean, body)
}

fn test(args: &Args<'_>, accepts: fn(&Json<'_>) -> bool) -> Result<ArrayRef> {
    let text = args.str(0)?;
    args.booleans(|row| Some(parse(text.get(row)?).is_ok_and(|v| accepts(&v))))
}
