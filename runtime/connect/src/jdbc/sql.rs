//! Statements: rows go as one text array a column, and the server makes the column's own type of each text.

use std::fmt::Write;

/// An identifier in quotes.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string as a literal; `None`: one that depends on the server's settings, or cannot be one.
pub(crate) fn text(value: &str) -> Option<String> {
    (!value.contains(['\\', '\0'])).then(|| format!("'{}'", value.replace('\'', "''")))
}

/// A name as SQL reads it, in quotes: without quotes of its own its letters are lower case, and points part it.
pub(crate) fn folded(name: &str) -> String {
    let (mut parts, mut part, mut in_quotes, mut was_quoted) = (vec![], String::new(), false, false);
    let mut chars = name.trim().chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if in_quotes && chars.peek() == Some(&'"') => {
                chars.next();
                part.push('"');
            }
            '"' => (in_quotes, was_quoted) = (!in_quotes, true),
            '.' if !in_quotes => {
                parts.push(quoted(&part));
                (part, was_quoted) = (String::new(), false);
            }
            c if in_quotes => part.push(c),
            c if was_quoted && c == ' ' => {}
            c => part.extend(c.to_lowercase()),
        }
    }
    parts.push(quoted(&part));
    parts.join(".")
}

/// A column as statements name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SqlColumn {
    /// In quotes.
    pub name: String,
    /// The type to cast a text to.
    pub ty: String,
}

/// `(SELECT v.c0::integer AS c0, … FROM unnest($1::text[], …) AS v(c0, …))`; `numbered`: with a column `n`.
fn rows(columns: &[&SqlColumn], numbered: bool) -> String {
    let (mut select, mut arrays, mut names) = (String::new(), String::new(), String::new());
    for (i, column) in columns.iter().enumerate() {
        let comma = if i > 0 { ", " } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(select, "{comma}v.c{i}::{} AS c{i}", column.ty);
        let _ = write!(arrays, "{comma}${}::text[]", i + 1);
        let _ = write!(names, "{comma}c{i}");
    }
    match numbered {
        true => format!("SELECT {select}, v.n FROM unnest({arrays}) WITH ORDINALITY AS v({names}, n)"),
        false => format!("SELECT {select} FROM unnest({arrays}) AS v({names})"),
    }
}

/// The last row of each key.
fn last_rows(columns: &[&SqlColumn], key: &[usize]) -> String {
    let list = |columns: &[usize]| columns.iter().map(|c| format!("c{c}")).collect::<Vec<_>>().join(", ");
    let (all, key) = (list(&(0..columns.len()).collect::<Vec<_>>()), list(key));
    format!("SELECT DISTINCT ON ({key}) {all} FROM ({}) AS r ORDER BY {key}, n DESC", rows(columns, true))
}

/// Inserts; with a key updates the row that has it (Flink: `PostgresDialect.getUpsertStatement`). `merges`: of rows whose keys are equal for
/// the server only the last one counts.
pub(crate) fn insert(table: &str, columns: &[SqlColumn], key: Option<&[usize]>, merges: bool) -> String {
    let all: Vec<&SqlColumn> = columns.iter().collect();
    let names = columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
    let rows = if let (Some(key), true) = (key, merges) { last_rows(&all, key) } else { rows(&all, false) };
    let mut sql = format!("INSERT INTO {table} ({names}) {rows}");
    if let Some(key) = key {
        let keys = key.iter().map(|k| columns[*k].name.as_str()).collect::<Vec<_>>().join(", ");
        let rest = columns.iter().enumerate().filter(|(i, _)| !key.contains(i)).map(|(_, c)| format!("{0} = EXCLUDED.{0}", c.name));
        let rest = rest.collect::<Vec<_>>().join(", ");
        let action = if rest.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {rest}") };
        let _ = write!(sql, " ON CONFLICT ({keys}) DO {action}");
    }
    sql
}

/// Deletes by key.
pub(crate) fn delete(table: &str, columns: &[SqlColumn], key: &[usize]) -> String {
    let keys: Vec<&SqlColumn> = key.iter().map(|k| &columns[*k]).collect();
    let on = keys.iter().enumerate().map(|(i, c)| format!("t.{} = k.c{i}", c.name)).collect::<Vec<_>>().join(" AND ");
    format!("DELETE FROM {table} AS t USING ({}) AS k WHERE {on}", rows(&keys, false))
}

/// The form of a UUID.
const UUID: &str = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$";

/// What a key is compared with: an expression over the table `t`, and one over its text, `{}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LookupKey {
    pub column: String,
    pub value: String,
}

impl LookupKey {
    /// `integer`, `character`: what the key's type is. A text that is none of the column's type is found nowhere, and does not fail.
    pub fn new(column: &SqlColumn, integer: bool, character: bool) -> Self {
        let name = format!("t.{}", column.name);
        let (column, value) = match column.ty.as_str() {
            // As wide as any: indexes of narrower columns are used, too.
            "smallint" | "integer" | "bigint" if integer => (name, "{}::bigint".to_owned()),
            ty @ ("text" | "character varying" | "bpchar" | "name") => (name, format!("{{}}::{ty}")),
            "uuid" if character => (name, format!("CASE WHEN {{}} ~* '{UUID}' THEN {{}}::uuid END")),
            "inet" if character => (super::catalog::as_shown(&name), "{}::text".to_owned()),
            _ if character => (format!("{name}::text"), "{}::text".to_owned()),
            ty => (name, format!("{{}}::{ty}")),
        };
        Self { column, value }
    }
}

/// Looks keys up: the rows that have them, each with the number of its key, from 1, in front.
pub(crate) fn lookup(table: &str, expressions: &[String], keys: &[LookupKey]) -> String {
    let arrays = (1..=keys.len()).map(|i| format!("${i}::text[]")).collect::<Vec<_>>().join(", ");
    let names = (0..keys.len()).map(|i| format!("c{i}")).collect::<Vec<_>>().join(", ");
    let typed = keys.iter().enumerate().map(|(i, k)| format!("{} AS c{i}", k.value.replace("{}", &format!("v.c{i}"))));
    let typed = typed.collect::<Vec<_>>().join(", ");
    let on = keys.iter().enumerate().map(|(i, k)| format!("{} = k.c{i}", k.column)).collect::<Vec<_>>().join(" AND ");
    let columns = expressions.iter().map(|e| format!(", {e}")).collect::<String>();
    format!(
        "SELECT k.n{columns} FROM (SELECT v.n, {typed} FROM unnest({arrays}) WITH ORDINALITY AS v({names}, n)) AS k JOIN {table} AS t ON {on} \
         ORDER BY k.n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Vec<SqlColumn> {
        let column = |name: &str, ty: &str| SqlColumn { name: quoted(name), ty: ty.into() };
        vec![column("id", "bigint"), column("na\"me", "text")]
    }

    #[test]
    fn names_are_read_as_sql_reads_them() {
        for (name, want) in [
            ("public.cpu_thresholds", r#""public"."cpu_thresholds""#),
            ("Public.T", r#""public"."t""#),
            (r#""My Table""#, r#""My Table""#),
            (r#"s."a.b""c""#, r#""s"."a.b""c""#),
        ] {
            assert_eq!(folded(name), want);
        }
    }

    #[test]
    fn look_ups() {
        let keys = [("bigint", true, false), ("text", false, true), ("uuid", false, true), ("mood", false, true), ("date", false, false)];
        let key = |(ty, integer, character): (&str, bool, bool)| {
            LookupKey::new(&SqlColumn { name: "\"a\"".into(), ty: ty.into() }, integer, character)
        };
        assert_eq!(key(("inet", false, true)).column, "abbrev(t.\"a\")");
        let keys = keys.map(key);
        assert_eq!(keys[3], LookupKey { column: "t.\"a\"::text".into(), value: "{}::text".into() });
        let sql = lookup("x", &["t.\"b\"".into()], &keys[..2]);
        assert_eq!(
            sql,
            "SELECT k.n, t.\"b\" FROM (SELECT v.n, v.c0::bigint AS c0, v.c1::text AS c1 FROM unnest($1::text[], $2::text[]) WITH ORDINALITY \
             AS v(c0, c1, n)) AS k JOIN x AS t ON t.\"a\" = k.c0 AND t.\"a\" = k.c1 ORDER BY k.n"
        );
        let sql = lookup("x", &[], &keys[2..]);
        assert!(sql.contains("CASE WHEN v.c0 ~* '^[0-9a-f]{8}-") && sql.contains("THEN v.c0::uuid END AS c0"), "{sql}");
        assert!(sql.contains("v.c2::date AS c2"), "{sql}");
    }

    #[test]
    fn statements() {
        let rows = "SELECT v.c0::bigint AS c0, v.c1::text AS c1 FROM unnest($1::text[], $2::text[]) AS v(c0, c1)";
        assert_eq!(insert("t", &columns(), None, false), format!("INSERT INTO t (\"id\", \"na\"\"me\") {rows}"));
        let upsert = insert("t", &columns(), Some(&[0]), false);
        assert!(upsert.ends_with("ON CONFLICT (\"id\") DO UPDATE SET \"na\"\"me\" = EXCLUDED.\"na\"\"me\""), "{upsert}");
        assert!(insert("t", &columns(), Some(&[0, 1]), false).ends_with("DO NOTHING"));
        let last = "SELECT DISTINCT ON (c1) c0, c1 FROM (SELECT v.c0::bigint AS c0, v.c1::text AS c1, v.n FROM unnest($1::text[], $2::text[]) \
                    WITH ORDINALITY AS v(c0, c1, n)) AS r ORDER BY c1, n DESC";
        let merged = insert("t", &columns(), Some(&[1]), true);
        assert!(merged.starts_with(&format!("INSERT INTO t (\"id\", \"na\"\"me\") {last} ON CONFLICT")), "{merged}");
        let delete = delete("t", &columns(), &[0]);
        assert_eq!(
            delete,
            "DELETE FROM t AS t USING (SELECT v.c0::bigint AS c0 FROM unnest($1::text[]) AS v(c0)) AS k WHERE t.\"id\" = k.c0"
        );
    }
}
