//! The parser takes or rejects any text; it never panics, hangs or exhausts the stack, and errors point into the text.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;
use sluice_sql::parser::{parse_expression, parse_query, parse_script, parse_type};
use sluice_sql::substitute_variables;

/// Parses `text` in every way.
fn check(text: &str) {
    check_script(text);
    let _ = parse_query(text);
    let _ = parse_expression(text);
    let _ = parse_type(text);
    let _ = substitute_variables(text, &|_| None);
}

fn check_script(text: &str) {
    if let Err(e) = parse_script(text) {
        let (line, column) = (e.span().line as usize, e.span().column as usize);
        let at = text.split('\n').nth(line.wrapping_sub(1));
        // One past the end of a line is the place of what is missing there.
        assert!(at.is_some_and(|l| (1..=l.chars().count() + 1).contains(&column)), "{line}:{column} is not in {text:?}: {e}");
    }
}

fn statements() -> Vec<String> {
    include_str!("flink-statements.sql").split("\n\n-- ").skip(1).map(|s| s.split_once('\n').unwrap().1.to_string()).collect()
}

/// Words, symbols and white space of a text, so that mutations stay near SQL.
fn pieces(text: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    let mut word = false;
    for c in text.chars() {
        let part = c.is_alphanumeric() || c == '_';
        match pieces.last_mut() {
            Some(last) if part && word => last.push(c),
            _ => pieces.push(c.to_string()),
        }
        word = part;
    }
    pieces
}

#[test]
fn every_beginning_of_every_statement() {
    for statement in statements() {
        for (i, _) in statement.char_indices() {
            check_script(&statement[..i]);
        }
    }
}

#[test]
fn deep_and_long_texts() {
    for (open, close) in [
        ("(", ")"),
        ("((SELECT ", ") + 1)"),
        ("SELECT * FROM (", ")"),
        ("f(", ")"),
        ("a[", "]"),
        ("NOT ", ""),
        ("- ", ""),
        ("CASE WHEN ", " END"),
        ("CAST(", " AS INT)"),
        ("ARRAY<", ">"),
        ("ROW(a ", ")"),
        ("INTERVAL ", " DAY"),
        ("POSITION(", " IN a)"),
        ("a AT TIME ZONE ", ""),
        ("EXPLAIN ", ""),
        ("a BETWEEN ", " AND 1"),
        ("GROUPING SETS (", ")"),
        ("SELECT 1 UNION (", ")"),
        ("SELECT * FROM t MATCH_RECOGNIZE (PATTERN (A", ") DEFINE A AS TRUE)"),
        ("SELECT * FROM t MATCH_RECOGNIZE (PATTERN ((", ")"),
        ("FINAL f(", ")"),
        ("x IN (", ")"),
        ("EXISTS (SELECT ", ")"),
    ] {
        for n in [50, 90, 400] {
            let text = format!("{}1{}", open.repeat(n), close.repeat(n));
            check(&text);
            check(&format!("SELECT {text}"));
        }
    }
    for chain in [
        " + 1",
        " AND a",
        " OR NOT a",
        ".a",
        "[1]",
        " = 1",
        " IS NULL",
        " || b",
        " UNION SELECT 1",
        ", a",
        " CROSS JOIN t",
        " ARRAY",
        " 'x'\n",
    ] {
        check(&format!("SELECT a FROM t{}", chain.repeat(2_000)));
        check(&format!("SELECT a{}", chain.repeat(2_000)));
        check(&format!("INT{}", chain.repeat(2_000)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text in "\\PC{0,60}") {
        check(&text);
    }

    #[test]
    fn any_sql_like_text(text in "(SELECT|FROM|WHERE|[a-z(),.;*+<>=|?{}\\[\\]$^:-]|'|`|\"| |\n|/\\*\\+?|\\*/|--|[0-9]|U&'|x'|é|🍍|CASE|END|AS|INTERVAL|WITH|NOT|IN){0,40}") {
        check(&text);
    }

    #[test]
    fn mutated_statements(which in any::<prop::sample::Index>(), edits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0u8..4), 1..4)) {
        let all = statements();
        let mut parts = pieces(&all[which.index(all.len())]);
        for (a, b, edit) in edits {
            if parts.is_empty() {
                break;
            }
            let (a, b) = (a.index(parts.len()), b.index(parts.len()));
            match edit {
                0 => { parts.remove(a); }
                1 => parts.swap(a, b),
                2 => { let copy = parts[b].clone(); parts.insert(a, copy); }
                _ => { let other = pieces(&all[(b * 31 + a) % all.len()]); parts.insert(a, other[b % other.len()].clone()); }
            }
        }
        check(&parts.concat());
    }
}
