//! JSON_VALUE, JSON_QUERY, JSON_EXISTS, JSON_LENGTH, JSON_TYPE (Flink: `SqlJsonUtils`).

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::Int32Type;
use hashbrown::HashMap;
use sluice_batch::{Batch, Datum, Error, EvalContext, Expr, Result, ScalarFunction, SqlType, TypeKind, Value, datum};

use super::path::{Found, Path, PathError};
use super::value::{Json, parse};
use crate::cast::parse as text;
use crate::kernel::{Args, Column, P};
use crate::{Call, Declaration, JsonBehavior};

pub(crate) const FUNCTIONS: &[Declaration] = &[
    Declaration { names: &["JSON_VALUE"], bind: bind_value },
    Declaration { names: &["JSON_QUERY"], bind: bind_query },
    Declaration { names: &["JSON_EXISTS"], bind: bind_exists },
    Declaration { names: &["JSON_LENGTH"], bind: |c| c.optional("JSON_LENGTH", &[P::Str, P::Str], 1, TypeKind::Int, length) },
    Declaration { names: &["JSON_TYPE"], bind: |c| c.optional("JSON_TYPE", &[P::Str, P::Str], 1, TypeKind::STRING, json_type) },
];

/// `lax $.a` or `strict $.a`; strict if it does not say.
struct PathSpec {
    lax: bool,
    path: std::result::Result<Path, PathError>,
    text: String,
}

impl PathSpec {
    fn new(spec: &str) -> Self {
        let trimmed = spec.trim_start();
        let mode = |word: &str| {
            let head = trimmed.get(..word.len()).filter(|h| h.eq_ignore_ascii_case(word))?;
            let rest = &trimmed[head.len()..];
            let path = rest.trim_start();
            (path.len() < rest.len() && !path.is_empty()).then_some(path)
        };
        let (lax, path) = match (mode("lax"), mode("strict")) {
            (Some(path), _) => (true, path),
            (None, Some(path)) => (false, path),
            (None, None) => (false, spec),
        };
        Self { lax, path: Path::compile(path), text: spec.to_owned() }
    }

    /// The value in a document, `None` if a lax path finds none; the message of what went wrong.
    fn read<'j, 'a>(&self, root: &'j std::result::Result<Json<'a>, String>) -> std::result::Result<Option<Cow<'j, Json<'a>>>, String> {
        let root = match root {
            Ok(root) => root,
            Err(_) if self.lax => return Ok(None),
            Err(message) => return Err(message.clone()),
        };
        if *root == Json::Null {
            return Err("json object can not be null".into());
        }
        let path = self
            .path
            .as_ref()
            .map_err(|_| format!("Illegal jsonpath spec '{}', format of the spec should be: '<lax|strict> ${{expr}}'", self.text))?;
        let found = match path.read(root) {
            Ok(Found::One(value)) => Some(value),
            Ok(Found::Many(values)) => Some(Cow::Owned(Json::Array(values.into_iter().cloned().collect()))),
            Err(_) if self.lax && path.is_definite() => None,
            Err(_) if self.lax => Some(Cow::Owned(Json::Array(vec![]))),
            Err(e) => return Err(e.to_string()),
        };
        match found.filter(|v| **v != Json::Null) {
            None if !self.lax => Err("Strict jsonpath mode requires a non empty returned value, but is null".into()),
            found => Ok(found),
        }
    }
}

/// The paths of a batch: mostly one for all rows.
struct Paths<'a> {
    column: Column<'a, StringArray>,
    compiled: HashMap<&'a str, PathSpec>,
}

impl<'a> Paths<'a> {
    fn new(column: Column<'a, StringArray>) -> Self {
        Self { column, compiled: HashMap::new() }
    }

    fn get(&mut self, row: usize) -> Option<&PathSpec> {
        let spec = self.column.get(row)?;
        Some(self.compiled.entry(spec).or_insert_with(|| PathSpec::new(spec)))
    }
}

fn document(text: &str) -> std::result::Result<Json<'_>, String> {
    parse(text).map_err(|e| e.to_string())
}

/// JSON_VALUE, JSON_QUERY or JSON_EXISTS with its clauses.
#[derive(Debug)]
struct Query {
    name: String,
    kind: Kind,
    on_empty: JsonBehavior,
    on_error: JsonBehavior,
}

#[derive(Debug)]
enum Kind {
    Exists,
    Value,
    Query { wrapper: Wrapper, array: bool },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Wrapper {
    Without,
    Conditional,
    Unconditional,
}

fn query(mut call: Call<'_>, name: &str, kind: Kind, on_empty: JsonBehavior, on_error: JsonBehavior, ty: SqlType) -> Result<Expr> {
    call.coerce(&[P::Str, P::Str], 2)?;
    if let Some(Datum::String(spec)) = call.args[1].as_literal()
        && let Err(PathError::Invalid(message)) = PathSpec::new(spec).path
    {
        // Flink fails, or gives the ON ERROR value, for each row; a constant path is known to be wrong already.
        if on_error == JsonBehavior::Error {
            return Err(Error::plan(format!("Illegal jsonpath spec '{spec}': {message}")).at(call.span));
        }
    }
    let name = format!("{name}[{ty}, {kind:?}, {on_empty:?} ON EMPTY, {on_error:?} ON ERROR]");
    Ok(Expr::call(Arc::new(Query { name, kind, on_empty, on_error }), call.args, ty))
}

fn bind_exists(call: Call<'_>) -> Result<Expr> {
    let on_error = call.json.on_error.clone().unwrap_or(JsonBehavior::False);
    use JsonBehavior as B;
    if !matches!(on_error, B::True | B::False | B::Unknown | B::Error) {
        return Err(Error::plan("JSON_EXISTS takes TRUE, FALSE, UNKNOWN or ERROR ON ERROR").at(call.span));
    }
    let ty = TypeKind::Boolean.with_nullable(call.any_nullable() || on_error == B::Unknown);
    query(call, "JSON_EXISTS", Kind::Exists, B::Null, on_error, ty)
}

fn bind_value(call: Call<'_>) -> Result<Expr> {
    use TypeKind as T;
    let ty = call.json.returning.clone().unwrap_or(TypeKind::STRING.nullable()).as_nullable();
    let supported = matches!(ty.kind, T::Boolean | T::TinyInt | T::SmallInt | T::Int | T::BigInt | T::Float | T::Double | T::Decimal(..));
    if !supported && !ty.kind.is_character() {
        return Err(Error::plan(format!("Unsupported type '{}' for RETURNING in JSON_VALUE()", ty.kind)).at(call.span));
    }
    let behavior = |clause: &Option<JsonBehavior>, what: &str| match clause.clone().unwrap_or(JsonBehavior::Null) {
        b @ (JsonBehavior::Null | JsonBehavior::Error) => Ok(b),
        JsonBehavior::Default(value, from) => Ok(JsonBehavior::Default(default_of(value, from, &ty, call.span)?, ty.clone())),
        other => Err(Error::plan(format!("JSON_VALUE takes NULL, ERROR or DEFAULT {what}, not {other:?}")).at(call.span)),
    };
    let on_empty = behavior(&call.json.on_empty, "ON EMPTY")?;
    let on_error = behavior(&call.json.on_error, "ON ERROR")?;
    query(call, "JSON_VALUE", Kind::Value, on_empty, on_error, ty)
}

/// A DEFAULT brought to the type that is returned.
fn default_of(value: Datum, from: SqlType, to: &SqlType, span: sluice_batch::Span) -> Result<Datum> {
    if value.is_null() || from.kind == to.kind {
        return Ok(value);
    }
    let cast = crate::cast(Expr::literal(value, from), to, false, span)?;
    let array = cast.eval_array(&Batch::new(vec![], 1), &EvalContext::default()).map_err(|e| e.into_plan().at(span))?;
    Ok(datum::from_array(array.as_ref(), 0, to))
}

fn bind_query(call: Call<'_>) -> Result<Expr> {
    let ty = call.json.returning.clone().unwrap_or(TypeKind::STRING.nullable()).as_nullable();
    let array = match &ty.kind {
        TypeKind::Array(element) if element.kind.is_character() => true,
        TypeKind::Array(element) => {
            let element = if element.kind == TypeKind::Int { "INTEGER".to_owned() } else { element.kind.to_string() };
            let message = format!("Unsupported array element type '{element}' for RETURNING ARRAY in JSON_QUERY()");
            return Err(Error::plan(message).at(call.span));
        }
        kind if kind.is_character() => false,
        kind => return Err(Error::plan(format!("Unsupported type '{kind}' for RETURNING in JSON_QUERY()")).at(call.span)),
    };
    let wrapper = match call.json.wrapper.as_deref() {
        None | Some("WITHOUT") => Wrapper::Without,
        Some("WITH CONDITIONAL") => Wrapper::Conditional,
        Some(_) => Wrapper::Unconditional,
    };
    let behavior = |clause: &Option<JsonBehavior>, what: &str| match clause.clone().unwrap_or(JsonBehavior::Null) {
        b @ (JsonBehavior::Null | JsonBehavior::Error | JsonBehavior::EmptyArray) => Ok(b),
        JsonBehavior::EmptyObject if !array => Ok(JsonBehavior::EmptyObject),
        JsonBehavior::EmptyObject => {
            Err(Error::plan(format!("Illegal on {what} behavior 'EMPTY OBJECT' for return type: VARCHAR(2147483647) ARRAY")).at(call.span))
        }
        other => Err(Error::plan(format!("Illegal on {what} behavior for JSON_QUERY: {other:?}")).at(call.span)),
    };
    let on_empty = behavior(&call.json.on_empty, "empty")?;
    let on_error = behavior(&call.json.on_error, "error")?;
    query(call, "JSON_QUERY", Kind::Query { wrapper, array }, on_empty, on_error, ty)
}

impl ScalarFunction for Query {
    fn name(&self) -> &str {
        &self.name
    }

    fn eval(&self, values: &[Value], rows: usize, ty: &SqlType, cx: &EvalContext) -> Result<Value> {
        let args = Args::new(values, rows, ty, cx, true);
        let (input, mut paths) = (args.str(0)?, Paths::new(args.str(1)?));
        let out = match &self.kind {
            Kind::Exists => {
                let mut results = Vec::with_capacity(args.len());
                for row in 0..args.len() {
                    results.push(match input.get(row).zip(paths.get(row)) {
                        Some((input, path)) => self.exists(path.read(&document(input)).map(|v| v.is_some()))?,
                        None => None,
                    });
                }
                args.booleans(|row| results[row])?
            }
            Kind::Value if ty.kind.is_character() => args.try_strings(|row, out| {
                let Some((input, path)) = input.get(row).zip(paths.get(row)) else { return Ok(None) };
                let root = document(input);
                match self.scalar(path.lax, path.read(&root))? {
                    Ok(value) => value.write_plain(out),
                    Err(Datum::String(default)) => out.push_str(&default),
                    Err(_) => return Ok(None),
                }
                Ok(Some(()))
            })?,
            Kind::Value => args.datums(|row| {
                let Some((input, path)) = input.get(row).zip(paths.get(row)) else { return Ok(Datum::Null) };
                let root = document(input);
                match self.scalar(path.lax, path.read(&root))? {
                    Ok(value) => match converted(&value, &ty.kind) {
                        Some(value) => Ok(value),
                        None => self.failed(&format!("Cannot cast {value:?} to {}", ty.kind)),
                    },
                    Err(default) => Ok(default),
                }
            })?,
            Kind::Query { array: false, .. } => args.try_strings(|row, out| {
                let Some((input, path)) = input.get(row).zip(paths.get(row)) else { return Ok(None) };
                let root = document(input);
                match self.structure(path.lax, path.read(&root))? {
                    Some(value) => value.write(out),
                    None => return Ok(None),
                }
                Ok(Some(()))
            })?,
            Kind::Query { array: true, .. } => args.datums(|row| {
                let Some((input, path)) = input.get(row).zip(paths.get(row)) else { return Ok(Datum::Null) };
                let root = document(input);
                self.strings(self.structure(path.lax, path.read(&root))?)
            })?,
        };
        Ok(if args.is_scalar() { Value::Scalar(out) } else { Value::Array(out) })
    }
}

type Read<'j, 'a> = std::result::Result<Option<Cow<'j, Json<'a>>>, String>;

impl Query {
    fn exists(&self, found: std::result::Result<bool, String>) -> Result<Option<bool>> {
        match found {
            Ok(found) => Ok(Some(found)),
            Err(message) => match self.on_error {
                JsonBehavior::True => Ok(Some(true)),
                JsonBehavior::Unknown => Ok(None),
                JsonBehavior::Error => Err(Error::runtime(message)),
                _ => Ok(Some(false)),
            },
        }
    }

    /// The ON ERROR value.
    fn failed(&self, message: &str) -> Result<Datum> {
        match &self.on_error {
            JsonBehavior::Error => Err(Error::runtime(message)),
            JsonBehavior::Default(value, _) => Ok(value.clone()),
            _ => Ok(Datum::Null),
        }
    }

    /// JSON_VALUE: the scalar, or the value that a clause puts in its place.
    fn scalar<'j, 'a>(&self, lax: bool, found: Read<'j, 'a>) -> Result<std::result::Result<Cow<'j, Json<'a>>, Datum>> {
        match found {
            Ok(Some(value)) if value.is_scalar() => Ok(Ok(value)),
            Ok(Some(value)) if !lax => {
                let message = format!("Strict jsonpath mode requires scalar value, and the actual value is: '{}'", compact(&value));
                self.failed(&message).map(Err)
            }
            Ok(_) => match &self.on_empty {
                JsonBehavior::Error => Err(Error::runtime("Empty result of JSON_VALUE function is not allowed")),
                JsonBehavior::Default(value, _) => Ok(Err(value.clone())),
                _ => Ok(Err(Datum::Null)),
            },
            Err(message) => self.failed(&message).map(Err),
        }
    }

    /// JSON_QUERY: the array or object, wrapped if asked for, or what a clause puts in its place.
    fn structure<'j, 'a>(&self, lax: bool, found: Read<'j, 'a>) -> Result<Option<Cow<'j, Json<'a>>>> {
        let Kind::Query { wrapper, array } = self.kind else { return Ok(None) };
        let error = match found {
            Ok(found) => {
                let wrapped = found.map(|value| match (wrapper, &*value) {
                    (Wrapper::Without, _) | (Wrapper::Conditional, Json::Array(_)) => value,
                    _ => Cow::Owned(Json::Array(vec![value.into_owned()])),
                });
                match wrapped {
                    Some(value) if array && matches!(*value, Json::Object(_)) => "an object is not an array".to_owned(),
                    Some(value) if !value.is_scalar() => return Ok(Some(value)),
                    Some(value) if !lax => {
                        format!("Strict jsonpath mode requires array or object value, and the actual value is: '{}'", compact(&value))
                    }
                    _ => return self.substitute(&self.on_empty, "Empty result of JSON_QUERY function is not allowed"),
                }
            }
            Err(message) => message,
        };
        self.substitute(&self.on_error, &error)
    }

    fn substitute<'j, 'a>(&self, behavior: &JsonBehavior, message: &str) -> Result<Option<Cow<'j, Json<'a>>>> {
        match behavior {
            JsonBehavior::Error => Err(Error::runtime(message)),
            JsonBehavior::EmptyArray => Ok(Some(Cow::Owned(Json::Array(vec![])))),
            JsonBehavior::EmptyObject => Ok(Some(Cow::Owned(Json::Object(vec![])))),
            _ => Ok(None),
        }
    }

    /// RETURNING ARRAY<STRING>: scalars as plain text, the rest as JSON.
    fn strings(&self, value: Option<Cow<'_, Json<'_>>>) -> Result<Datum> {
        let Some(value) = value else { return Ok(Datum::Null) };
        let Json::Array(items) = &*value else { return self.failed("the value is not an array") };
        let item = |item: &Json<'_>| {
            let mut out = String::new();
            item.write_plain(&mut out);
            if *item == Json::Null { Datum::Null } else { Datum::string(out) }
        };
        Ok(Datum::Array(items.iter().map(item).collect()))
    }
}

fn compact(value: &Json<'_>) -> String {
    let mut out = String::new();
    value.write(&mut out);
    out
}

/// A scalar as RETURNING wants it; `None` if it cannot be that.
fn converted(value: &Json<'_>, kind: &TypeKind) -> Option<Datum> {
    let number = match value {
        Json::Boolean(b) => return (*kind == TypeKind::Boolean).then_some(Datum::Boolean(*b)),
        Json::String(s) if *kind == TypeKind::Boolean => {
            return match s.trim().to_lowercase().as_str() {
                "true" | "t" | "yes" | "1" => Some(Datum::Boolean(true)),
                "false" | "f" | "no" | "0" => Some(Datum::Boolean(false)),
                _ => None,
            };
        }
        Json::String(s) => s,
        Json::Number(n) => n,
        _ => return None,
    };
    let integer = |min: i64, max: i64| truncated(number).filter(|v| (i128::from(min)..=i128::from(max)).contains(v)).map(|v| v as i64);
    match kind {
        TypeKind::TinyInt => integer(i8::MIN.into(), i8::MAX.into()).map(|v| Datum::TinyInt(v as i8)),
        TypeKind::SmallInt => integer(i16::MIN.into(), i16::MAX.into()).map(|v| Datum::SmallInt(v as i16)),
        TypeKind::Int => integer(i32::MIN.into(), i32::MAX.into()).map(|v| Datum::Int(v as i32)),
        TypeKind::BigInt => integer(i64::MIN, i64::MAX).map(Datum::BigInt),
        TypeKind::Float => finite(number).and_then(|_| number.parse().ok()).filter(|f: &f32| f.is_finite()).map(Datum::Float),
        TypeKind::Double => finite(number).map(Datum::Double),
        TypeKind::Decimal(p, s) => finite(number).and_then(|_| text::decimal(number, *p, *s)).map(Datum::Decimal),
        _ => None,
    }
}

/// A number with digits only: no NaN, no infinity.
fn finite(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'));
    text.parse::<f64>().ok().filter(|v| plain && v.is_finite())
}

/// A decimal number without its fraction (Java: `BigDecimal.toBigInteger`).
fn truncated(text: &str) -> Option<i128> {
    if let Ok(v) = text.parse::<i128>() {
        return Some(v);
    }
    finite(text)?;
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let shift = exponent.checked_sub(fraction.len() as i32)?;
    match 10i128.checked_pow(shift.unsigned_abs()) {
        Some(factor) if shift >= 0 => digits.checked_mul(factor),
        Some(factor) => Some(digits / factor),
        None => (shift < 0 || digits == 0).then_some(0),
    }
}

/// The one value that JSON_LENGTH and JSON_TYPE look at; `None` if there is none, or the text or path is wrong.
fn looked_at<'j, 'a>(root: &'j Json<'a>, path: Option<&str>) -> Option<Cow<'j, Json<'a>>> {
    let Some(path) = path else { return Some(Cow::Borrowed(root)) };
    if path.is_empty() {
        return None;
    }
    if *root == Json::Null {
        return (path == "$").then_some(Cow::Borrowed(root));
    }
    match Path::compile(path).ok()?.read(root).ok()? {
        Found::One(value) => Some(value),
        Found::Many(values) => match values.as_slice() {
            [only] => Some(Cow::Borrowed(*only)),
            _ => None,
        },
    }
}

fn each<T>(args: &Args<'_>, f: impl Fn(&Json<'_>) -> T) -> Result<Vec<Option<T>>> {
    let input = args.str(0)?;
    let path = if args.has(1) { Some(args.str(1)?) } else { None };
    let one = |row: usize| {
        let root = parse(input.get(row)?).ok()?;
        let path = match path {
            Some(path) => Some(path.get(row)?),
            None => None,
        };
        looked_at(&root, path).map(|v| f(&v))
    };
    Ok((0..args.len()).map(one).collect())
}

fn length(args: &Args<'_>) -> Result<ArrayRef> {
    let lengths = each(args, |v| match v {
        Json::Array(items) => items.len() as i32,
        Json::Object(fields) => fields.len() as i32,
        _ => 1,
    })?;
    args.primitives::<Int32Type>(|row| lengths[row])
}

fn json_type(args: &Args<'_>) -> Result<ArrayRef> {
    let names = each(args, |v| match v {
        Json::Null => "null",
        Json::Boolean(_) => "boolean",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    })?;
    args.map_str(|row| names[row])
}
