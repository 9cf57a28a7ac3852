//! Statements: rows go as one text array a column, and the server makes the column's own type of each text.

use std::fmt::Write;

/// An identifier in quotes.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
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

/// `(SELECT v.c0::integer AS c0, … FROM unnest($1::text[], …) AS v(c0, …))`
fn rows(columns: &[&SqlColumn]) -> String {
    let (mut select, mut arrays, mut names) = (String::new(), String::new(), String::new());
    for (i, column) in columns.iter().enumerate() {
        let comma = if i > 0 { ", " } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(select, "{comma}v.c{i}::{} AS c{i}", column.ty);
        let _ = write!(arrays, "{comma}${}::text[]", i + 1);
        let _ = write!(names, "{comma}c{i}");
    }
    format!("SELECT {select} FROM unnest({arrays}) AS v({names})")
}

/// Inserts; with a key updates the row that has it (Flink: `PostgresDialect.getUpsertStatement`).
pub(crate) fn insert(table: &str, columns: &[SqlColumn], key: Option<&[usize]>) -> String {
    let all: Vec<&SqlColumn> = columns.iter().collect();
    let names = columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
    let mut sql = format!("INSERT INTO {table} ({names}) {}", rows(&all));
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
    format!("DELETE FROM {table} AS t USING ({}) AS k WHERE {on}", rows(&keys))
}

/// Looks keys up: the rows that have them, each with the number of its key, from 1, in front. Keys are cast to `key_types`.
pub(crate) fn lookup(table: &str, expressions: &[String], keys: &[SqlColumn]) -> String {
    let arrays = (1..=keys.len()).map(|i| format!("${i}::text[]")).collect::<Vec<_>>().join(", ");
    let names = (0..keys.len()).map(|i| format!("c{i}")).collect::<Vec<_>>().join(", ");
    let typed = keys.iter().enumerate().map(|(i, k)| format!("v.c{i}::{} AS c{i}", k.ty)).collect::<Vec<_>>().join(", ");
    let on = keys.iter().enumerate().map(|(i, k)| format!("t.{} = k.c{i}", k.name)).collect::<Vec<_>>().join(" AND ");
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
    fn statements() {
        let rows = "SELECT v.c0::bigint AS c0, v.c1::text AS c1 FROM unnest($1::text[], $2::text[]) AS v(c0, c1)";
        assert_eq!(insert("t", &columns(), None), format!("INSERT INTO t (\"id\", \"na\"\"me\") {rows}"));
        let upsert = insert("t", &columns(), Some(&[0]));
        assert!(upsert.ends_with("ON CONFLICT (\"id\") DO UPDATE SET \"na\"\"me\" = EXCLUDED.\"na\"\"me\""), "{upsert}");
        assert!(insert("t", &columns(), Some(&[0, 1])).ends_with("DO NOTHING"));
        let delete = delete("t", &columns(), &[0]);
        assert_eq!(
            delete,
            "DELETE FROM t AS t USING (SELECT v.c0::bigint AS c0 FROM unnest($1::text[]) AS v(c0)) AS k WHERE t.\"id\" = k.c0"
        );
    }
}
