//! JSON_OBJECT, JSON_ARRAY, JSON and JSON_STRING. Keys are sorted; a constructor inside another is taken as JSON, not as a string.

use std::sync::Arc;

use arrow::array::ArrayRef;
use sluice_batch::{Error, EvalContext, Expr, ExprKind, Result, ScalarFunction, SqlType, TypeKind, Value};

use super::render::{Renderer, check};
use super::value::{compare_keys, parse, write_string};
use crate::kernel::{Args, P};
use crate::{Call, Declaration};

pub(crate) const FUNCTIONS: &[Declaration] = &[
    Declaration { names: &["JSON_OBJECT"], bind: bind_object },
    Declaration { names: &["JSON_ARRAY"], bind: bind_array },
    Declaration { names: &["JSON"], bind: bind_json },
    Declaration { names: &["JSON_STRING"], bind: bind_string },
];

const MISPLACED_JSON: &str = "The JSON() function is currently only supported inside JSON_ARRAY() or as the VALUE param of JSON_OBJECT()";

/// `JSON(text)`: checks a text that is put into a document as it is. Only [`value_of`] makes it work.
fn bind_json(call: Call<'_>) -> Result<Expr> {
    call.nullable("JSON", &[P::Str], TypeKind::STRING, |_| Err(Error::plan(MISPLACED_JSON)))
}

fn json(args: &Args<'_>) -> Result<ArrayRef> {
    let text = args.str(0)?;
    args.try_strings(|row, out| {
        let Some(text) = text.get(row).map(str::trim).filter(|t| !t.is_empty()) else { return Ok(None) };
        let value =
            parse(text).map_err(|e| Error::runtime(format!("Invalid JSON string in JSON(value) function: \"{text}\". Error: {e}")))?;
        value.write(out);
        Ok(Some(()))
    })
}

fn function_name(expr: &Expr) -> Option<&str> {
    match &expr.kind {
        ExprKind::Call { function, .. } => Some(function.name()),
        _ => None,
    }
}

/// An argument as a value of a document, and whether it is JSON already.
fn value_of(arg: Expr) -> Result<(Expr, bool)> {
    check(&arg.ty)?;
    let Some(name) = function_name(&arg) else { return Ok((arg, false)) };
    let raw = name.starts_with("JSON_OBJECT[") || name.starts_with("JSON_ARRAY[");
    if name == "JSON"
        && let ExprKind::Call { args, .. } = arg.kind
    {
        let kernel = crate::kernel::Kernel { name: "JSON_TEXT", body: json, deterministic: true };
        return Ok((Expr::call(Arc::new(kernel), args, arg.ty), true));
    }
    Ok((arg, raw))
}

/// The argument as JSON text: what JSON_STRING gives, and what JSON aggregates collect. NULL stays NULL.
///
/// # Errors
/// If its type cannot be JSON.
pub fn to_json(arg: Expr) -> Result<Expr> {
    let (arg, raw) = value_of(arg)?;
    let ty = TypeKind::STRING.with_nullable(arg.ty.nullable);
    let kind = Constructor::String;
    Ok(Expr::call(Arc::new(Construct { name: "JSON_STRING".into(), kind, types: vec![arg.ty.clone()], raw: vec![raw] }), vec![arg], ty))
}

fn bind_string(mut call: Call<'_>) -> Result<Expr> {
    match call.args.len() {
        1 => to_json(call.args.remove(0)),
        _ => Err(call.wrong_count(1)),
    }
}

/// Arguments: key, value, key, value, …
fn bind_object(call: Call<'_>) -> Result<Expr> {
    if !call.args.len().is_multiple_of(2) {
        return Err(call.wrong_count("an even number of"));
    }
    for key in call.args.iter().step_by(2) {
        if function_name(key) == Some("JSON") {
            return Err(Error::plan(MISPLACED_JSON).at(call.span));
        }
        if !key.ty.kind.is_character() {
            return Err(call.invalid("JSON_OBJECT(KEY <CHARACTER> VALUE <ANY>, …)"));
        }
    }
    let absent = call.json.null_on_null == Some(false);
    construct(call, "JSON_OBJECT", Constructor::Object { absent }, absent)
}

fn bind_array(call: Call<'_>) -> Result<Expr> {
    let absent = call.json.null_on_null != Some(true);
    construct(call, "JSON_ARRAY", Constructor::Array { absent }, absent)
}

fn construct(call: Call<'_>, name: &str, kind: Constructor, absent: bool) -> Result<Expr> {
    let (args, raw): (Vec<Expr>, Vec<bool>) = call.args.into_iter().map(value_of).collect::<Result<Vec<_>>>()?.into_iter().unzip();
    let name = format!("{name}[{} ON NULL]", if absent { "ABSENT" } else { "NULL" });
    let types = args.iter().map(|a| a.ty.clone()).collect();
    Ok(Expr::call(Arc::new(Construct { name, kind, types, raw }), args, TypeKind::STRING.not_null()))
}

#[derive(Debug)]
enum Constructor {
    String,
    Array { absent: bool },
    Object { absent: bool },
}

#[derive(Debug)]
struct Construct {
    name: String,
    kind: Constructor,
    types: Vec<SqlType>,
    /// Which arguments are JSON already.
    raw: Vec<bool>,
}

impl ScalarFunction for Construct {
    fn name(&self) -> &str {
        &self.name
    }

    fn eval(&self, values: &[Value], rows: usize, ty: &SqlType, cx: &EvalContext) -> Result<Value> {
        let args = Args::new(values, rows, ty, cx, true);
        let columns = values.iter().zip(&self.types).zip(&self.raw);
        let columns = columns.map(|((v, t), raw)| Renderer::new(v.array(), t, *raw)).collect::<Result<Vec<_>>>()?;
        let out = match self.kind {
            Constructor::String => args.try_strings(|row, out| {
                let Some((column, value)) = columns.first().zip(values.first()) else { return Ok(None) };
                let row = value.index(row);
                if column.is_null(row) {
                    return Ok(None);
                }
                column.write(row, out)?;
                Ok(Some(()))
            })?,
            Constructor::Array { absent } => args.try_strings(|row, out| {
                out.push('[');
                for (column, value) in columns.iter().zip(values) {
                    let row = value.index(row);
                    if absent && column.is_null(row) {
                        continue;
                    }
                    out.push_str(if out.len() > 1 { "," } else { "" });
                    column.write(row, out)?;
                }
                out.push(']');
                Ok(Some(()))
            })?,
            Constructor::Object { absent } => object(&args, &columns, absent)?,
        };
        Ok(if args.is_scalar() { Value::Scalar(out) } else { Value::Array(out) })
    }
}

fn object(args: &Args<'_>, columns: &[Renderer<'_>], absent: bool) -> Result<ArrayRef> {
    let keys = (0..args.count()).step_by(2).map(|i| args.str(i)).collect::<Result<Vec<_>>>()?;
    let mut fields: Vec<(&str, usize)> = Vec::with_capacity(keys.len());
    args.try_strings(|row, out| {
        fields.clear();
        for (i, key) in keys.iter().enumerate() {
            let key = key.get(row).ok_or_else(|| Error::runtime("a key of JSON_OBJECT is NULL"))?;
            let at = 2 * i + 1;
            if absent && columns[at].is_null(args.values[at].index(row)) {
                continue;
            }
            // A later value of a key replaces an earlier one.
            match fields.iter_mut().find(|(k, _)| *k == key) {
                Some(field) => field.1 = at,
                None => fields.push((key, at)),
            }
        }
        fields.sort_by(|a, b| compare_keys(a.0, b.0));
        out.push('{');
        for (n, (key, at)) in fields.iter().enumerate() {
            out.push_str(if n > 0 { "," } else { "" });
            write_string(key, out);
            out.push(':');
            columns[*at].write(args.values[*at].index(row), out)?;
        }
        out.push('}');
        Ok(Some(()))
    })
}
