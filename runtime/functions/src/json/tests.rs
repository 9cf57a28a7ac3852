#![allow(clippy::unwrap_used, clippy::expect_used)]

use sluice_batch::datum::from_array;
use sluice_batch::{Batch, Datum, EvalContext, Expr, Result, Span, SqlType, TypeKind};

use crate::testing::{call, check, lit, s};
use crate::{Call, JsonBehavior as B, JsonClauses};

const DOCUMENT: &str = r#"{"a":{"b":[1,2.50,"x"]},"n":null,"t":true,"d":"12"}"#;

fn query(name: &str, path: &str, json: JsonClauses) -> Result<Datum> {
    let args = vec![lit(s(DOCUMENT)), lit(s(path))];
    value(&crate::bind(Call { name, args, symbols: vec![], json, span: Span::NONE })?)
}

fn value(expr: &Expr) -> Result<Datum> {
    let column = expr.eval_array(&Batch::new(vec![], 1), &EvalContext::default())?;
    Ok(from_array(column.as_ref(), 0, &expr.ty))
}

fn clauses(on_empty: B, on_error: B) -> JsonClauses {
    JsonClauses { on_empty: Some(on_empty), on_error: Some(on_error), ..JsonClauses::default() }
}

fn returning(ty: SqlType) -> JsonClauses {
    JsonClauses { returning: Some(ty), ..JsonClauses::default() }
}

#[test]
fn json_value() {
    for (path, expected) in [
        ("$.a.b[1]", s("2.50")),
        ("$['a']['b'][2]", s("x")),
        ("lax $.t", s("true")),
        ("$.a", Datum::Null),
        ("lax $.n", Datum::Null),
        ("strict $.missing", Datum::Null),
        ("$.a.b.length()", s("3")),
    ] {
        assert_eq!(query("JSON_VALUE", path, JsonClauses::default()).unwrap(), expected, "{path}");
    }
    let number = |path| query("JSON_VALUE", path, returning(TypeKind::Int.nullable())).unwrap();
    assert_eq!((number("$.d"), number("$.a.b[0]")), (Datum::Int(12), Datum::Int(1)));
    let default = || B::Default(s("e"), TypeKind::STRING.not_null());
    assert_eq!(query("JSON_VALUE", "lax $.x", clauses(default(), B::Null)).unwrap(), s("e"));
    assert_eq!(query("JSON_VALUE", "strict $.x", clauses(B::Null, default())).unwrap(), s("e"));
    assert!(query("JSON_VALUE", "lax $.x", clauses(B::Error, B::Null)).is_err());
    assert!(query("JSON_VALUE", "strict $.a", clauses(B::Null, B::Error)).is_err());
    assert!(query("JSON_VALUE", "$.d", returning(TypeKind::Date.nullable())).is_err());
}

#[test]
fn json_query() {
    let wrapped = |w: &str| JsonClauses { wrapper: Some(w.into()), ..JsonClauses::default() };
    for (path, json, expected) in [
        ("$.a", JsonClauses::default(), s(r#"{"b":[1,2.50,"x"]}"#)),
        ("lax $.t", JsonClauses::default(), Datum::Null),
        ("$.t", wrapped("WITH CONDITIONAL"), s("[true]")),
        ("$.a.b", wrapped("WITH CONDITIONAL"), s(r#"[1,2.50,"x"]"#)),
        ("$.a.b", wrapped("WITH UNCONDITIONAL"), s(r#"[[1,2.50,"x"]]"#)),
        ("$.a.b[?(@ == 'x')]", JsonClauses::default(), s(r#"["x"]"#)),
        ("lax $.x", clauses(B::EmptyArray, B::Null), s("[]")),
        ("strict $.x", clauses(B::Null, B::EmptyObject), s("{}")),
        (
            "$.a.b",
            returning(TypeKind::Array(Box::new(TypeKind::STRING.nullable())).nullable()),
            Datum::Array([s("1"), s("2.50"), s("x")].into()),
        ),
    ] {
        assert_eq!(query("JSON_QUERY", path, json).unwrap(), expected, "{path}");
    }
    let ints = TypeKind::Array(Box::new(TypeKind::Int.nullable())).nullable();
    assert!(query("JSON_QUERY", "$.a.b", returning(ints)).is_err());
}

#[test]
fn json_exists() {
    let on_error = |b| JsonClauses { on_error: Some(b), ..JsonClauses::default() };
    for (path, json, expected) in [
        ("lax $.a.b", JsonClauses::default(), Datum::Boolean(true)),
        ("lax $.x", JsonClauses::default(), Datum::Boolean(false)),
        ("strict $.x", on_error(B::True), Datum::Boolean(true)),
        ("strict $.x", on_error(B::Unknown), Datum::Null),
    ] {
        assert_eq!(query("JSON_EXISTS", path, json).unwrap(), expected, "{path}");
    }
    assert!(query("JSON_EXISTS", "strict $.x", on_error(B::Error)).is_err());
}

#[test]
fn predicates_and_quotes() {
    let (yes, no) = (|| Datum::Boolean(true), || Datum::Boolean(false));
    let test = |name, text, expected| (name, vec![lit(s(text))], expected, "BOOLEAN NOT NULL");
    check(vec![
        test("IS JSON", "1", yes()),
        test("IS JSON", "{", no()),
        test("IS JSON OBJECT", "{}", yes()),
        test("IS JSON ARRAY", "{}", no()),
        test("IS JSON SCALAR", "\"a\"", yes()),
    ]);
    let quote = |name, text, expected| (name, vec![lit(s(text))], s(expected), "STRING NOT NULL");
    check(vec![
        quote("JSON_QUOTE", "a\"/\\\n\u{e9}", r#""a\"\/\\\n\u00e9""#),
        quote("JSON_UNQUOTE", r#""a\"\/\\\n\u00e9""#, "a\"/\\\n\u{e9}"),
        quote("JSON_UNQUOTE", r#"{"a":1}"#, r#"{"a":1}"#),
        quote("JSON_UNQUOTE", "\"no", "\"no"),
    ]);
}

#[test]
fn constructors() {
    let bind = |name, args, null_on_null| {
        let json = JsonClauses { null_on_null, ..JsonClauses::default() };
        crate::bind(Call { name, args, symbols: vec![], json, span: Span::NONE })
    };
    let object =
        |null_on_null| bind("JSON_OBJECT", vec![lit(s("b")), lit(Datum::Null), lit(s("a")), lit(Datum::Int(1))], null_on_null).unwrap();
    assert_eq!(value(&object(None)).unwrap(), s(r#"{"a":1,"b":null}"#));
    assert_eq!(value(&object(Some(false))).unwrap(), s(r#"{"a":1}"#));
    let array = |null_on_null| bind("JSON_ARRAY", vec![object(None), lit(Datum::Null), lit(s("x"))], null_on_null).unwrap();
    assert_eq!(value(&array(None)).unwrap(), s(r#"[{"a":1,"b":null},"x"]"#));
    assert_eq!(value(&array(Some(true))).unwrap(), s(r#"[{"a":1,"b":null},null,"x"]"#));
    let text = call("JSON", vec![lit(s(" [1] "))]).unwrap();
    assert_eq!(value(&bind("JSON_ARRAY", vec![text.clone()], None).unwrap()).unwrap(), s("[[1]]"));
    assert!(value(&text).is_err(), "JSON() alone");
    assert!(bind("JSON_OBJECT", vec![lit(s("a"))], None).is_err());
    check(vec![("JSON_STRING", vec![lit(s("a\"b"))], s(r#""a\"b""#), "STRING NOT NULL")]);
}
