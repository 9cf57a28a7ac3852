//! Syntax errors say where, what was found, what was expected and what was probably meant.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use sluice_sql::parser::parse_script;

#[test]
fn messages() {
    let cases = [
        // text, line:column, message, hint
        ("SELEC * FROM t", "1:1", "found 'SELEC', expected a statement", "did you mean SELECT?"),
        ("SELECT a FORM t", "1:10", "found 'FORM'", "did you mean FROM?"),
        ("SELECT a\nFROM t WERE a > 1", "2:8", "found 'WERE'", "did you mean WHERE?"),
        ("SELECT a FROM t GRUOP BY a", "1:17", "found 'GRUOP'", "did you mean GROUP?"),
        ("SELECT SUM(a) OVER (PARTITON BY k) FROM t", "1:21", "found 'PARTITON'", "did you mean PARTITION?"),
        ("CREATE TABEL t (a INT)", "1:8", "found 'TABEL', expected TABLE or VIEW", "did you mean TABLE?"),
        ("INSERT INOT t SELECT 1", "1:8", "found 'INOT', expected INTO", "did you mean INTO?"),
        ("CREATE TABLE t (a INTT)", "1:19", "unknown data type 'INTT'", "did you mean INT?"),
        ("CREATE TABLE t (a INT PRIMRY KEY)", "1:23", "found 'PRIMRY'", "did you mean PRIMARY?"),
        ("CREATE TABLE t (a INT) WIHT ('a' = 'b')", "1:24", "found 'WIHT'", "did you mean WITH?"),
        ("CREATE TABLE t (a INT) WITH (a = 'b')", "1:30", "found 'a', expected an option key in quotes", "write 'a' in single quotes"),
        ("CREATE TABLE t (a INT) WITH ('a' = 5)", "1:36", "found '5', expected the option's value", "write '5' in single quotes"),
        ("SELECT a AS end FROM t", "1:13", "found 'end', expected an alias", "write `end` in backticks"),
        ("SELECT value FROM t", "1:8", "found 'value', expected an expression", "write `value` in backticks"),
        ("SELECT x.prev FROM t", "1:10", "found 'prev'", "write `prev` in backticks"),
        ("CREATE TABLE t (out INT)", "1:17", "found 'out', expected a column name", "write `out` in backticks"),
        ("SELECT \"a\" FROM t", "1:8", "found '\"a\"'", "write `a` for a name, 'a' for a string"),
        ("SELECT INTERVAL '5' SECNDS", "1:21", "found 'SECNDS', expected a unit of time", "did you mean SECONDS?"),
        ("SELECT EXTRACT(YAER FROM a)", "1:16", "found 'YAER'", "did you mean YEAR?"),
        ("SELECT (a + FROM t", "1:13", "found 'FROM', expected an expression", ""),
        ("SELECT 'é🍍', FROM t", "1:14", "found 'FROM'", ""),
        ("SELECT a FROM t WHERE", "1:22", "found the end of the text, expected an expression", ""),
        ("SELECT f(a", "1:11", "expected ')'", ""),
        ("SELECT 'abc", "1:8", "this string does not end", ""),
        ("SELECT a b c", "1:12", "found 'c', expected ';' or the end of the statement", ""),
        ("SELECT * FROM a JOIN b", "1:23", "expected ON or USING", ""),
        ("SELECT a § b", "1:10", "found '§'", ""),
        ("SELECT CASE WHEN a THEN 1", "1:26", "expected WHEN, ELSE or END", ""),
        ("EXECUTE STATEMENT SET BEGIN SELECT 1; END", "1:29", "expected INSERT or END", ""),
        (
            "SELECT * FROM t MATCH_RECOGNIZE (ORDER BY a PATTERN (A) DEFIN A AS TRUE)",
            "1:57",
            "found 'DEFIN', expected DEFINE",
            "did you mean DEFINE?",
        ),
        ("SELECT 1 /*+ a */ FROM t", "1:10", "found a hint", ""),
    ];
    for (text, place, message, hint) in cases {
        let e = parse_script(text).expect_err(text);
        assert_eq!(format!("{}:{}", e.span().line, e.span().column), place, "{text}: {e}");
        assert!(e.message().contains(message), "{text}: {e}");
        assert!(e.hint_text().unwrap_or("").contains(hint), "{text}: {e}");
        assert_eq!(hint.is_empty(), e.hint_text().is_none(), "{text}: {e}");
    }
}

#[test]
fn unsupported_constructs_are_named() {
    for (text, what) in [
        ("WITH RECURSIVE a AS (SELECT 1) SELECT 1", "WITH RECURSIVE"),
        ("SELECT * FROM t TABLESAMPLE BERNOULLI (10)", "TABLESAMPLE"),
        ("SELECT * FROM t CROSS APPLY f(x)", "CROSS APPLY"),
        ("SELECT JSON_QUERY(a, '$' OMIT QUOTES)", "OMIT QUOTES"),
    ] {
        let e = parse_script(text).expect_err(text);
        assert!(e.message().contains(what) && e.message().contains("not supported") && e.span().is_known(), "{text}: {e}");
    }
}

#[test]
fn nesting_is_limited() {
    let nested = |n: usize| format!("SELECT {}1{}", "(".repeat(n), ")".repeat(n));
    assert!(parse_script(&nested(90)).is_ok());
    let e = parse_script(&nested(101)).unwrap_err();
    assert!(e.message().contains("nests deeper than 100 levels") && e.hint_text().is_some(), "{e}");
    assert!(parse_script(&format!("SELECT 1{}", " + 1".repeat(499))).is_ok());
    let e = parse_script(&format!("SELECT 1{}", " + 1".repeat(501))).unwrap_err();
    assert!(e.message().contains("more than 500 operators in a row"), "{e}");
    // These make no deep trees.
    assert!(parse_script(&format!("SELECT a{}", " OR a".repeat(499))).is_ok());
    assert!(parse_script(&format!("SELECT 1{}", ", 1".repeat(20_000))).is_ok());
}
