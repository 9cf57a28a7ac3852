//! What a table looks like in PostgreSQL, and which of its types are read and written as which of ours (Flink: the PostgreSQL column of
//! the JDBC connector's type mapping; beyond it everything can be read as STRING, and STRING can be written to everything).

use sluice_batch::{Error, Result, SqlType, TypeKind};

use super::client::{Connection, Failure};
use super::sql::{SqlColumn, folded, quoted};
use crate::TableSpec;
use crate::options::closest;

/// A table that is there.
pub(crate) struct Relation {
    /// In quotes.
    pub name: String,
    /// Rows have a place in one heap (`ctid`): a table or materialised view. Tables that inherit from one have heaps of their own.
    pub is_heap: bool,
    columns: Vec<Actual>,
}

struct Actual {
    name: String,
    /// Without length or precision; of a domain its own name.
    ty: String,
    /// The same; of a domain the type below.
    base: String,
    /// With length or precision.
    full: String,
}

impl Relation {
    /// Looks the table up.
    ///
    /// # Errors
    /// If there is none of that name, or the server cannot be asked.
    pub async fn find(connection: &Connection, table_name: &str) -> Result<Self, Failure> {
        let name = folded(table_name);
        let what = "cannot look the table up";
        let sql = "SELECT c.oid, c.relkind IN ('r', 'm') AND NOT c.relhassubclass FROM pg_class AS c WHERE c.oid = to_regclass($1)::oid";
        let found = connection.ask(what, connection.client.query_opt(sql, &[&name])).await?;
        let Some(found) = found else { return Err(Self::missing(connection, table_name).await) };
        let (oid, is_heap): (u32, bool) = (get(&found, 0)?, get(&found, 1)?);
        let sql = "SELECT a.attname::text, format_type(a.atttypid, -1), \
                   CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, -1) ELSE format_type(a.atttypid, -1) END, \
                   format_type(a.atttypid, a.atttypmod) \
                   FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid \
                   WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";
        let rows = connection.ask(what, connection.client.query(sql, &[&oid])).await?;
        let column = |row| Ok(Actual { name: get(row, 0)?, ty: get(row, 1)?, base: get(row, 2)?, full: get(row, 3)? });
        let columns = rows.iter().map(column).collect::<Result<_, Failure>>()?;
        Ok(Self { name, is_heap, columns })
    }

    async fn missing(connection: &Connection, table_name: &str) -> Failure {
        let error = Error::plan(format!("PostgreSQL {} has no table '{table_name}'", connection.place));
        let sql = "SELECT CASE WHEN pg_table_is_visible(c.oid) THEN c.relname::text ELSE n.nspname || '.' || c.relname END \
                   FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace \
                   WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') \
                   ORDER BY length(c.relname) DESC LIMIT 1000";
        let names = connection.client.query(sql, &[]).await.unwrap_or_default();
        let names: Vec<String> = names.iter().filter_map(|r| r.try_get(0).ok()).collect();
        let plain = table_name.rsplit('.').next().unwrap_or(table_name);
        let near = closest(table_name, names.iter().map(String::as_str)).or_else(|| closest(plain, names.iter().map(String::as_str)));
        Failure::lasting(match near {
            Some(near) => error.hint(format!("did you mean '{near}'?")),
            None => error.hint("see the options 'table-name' and 'url' (currentSchema)"),
        })
    }

    /// The column that a declared name means: the same name, or as SQL reads it without quotes.
    fn column(&self, table: &TableSpec, place: &str, name: &str) -> Result<&Actual> {
        let plain = name.strip_prefix('"').and_then(|n| n.strip_suffix('"')).unwrap_or(name);
        let found = self.columns.iter().find(|c| c.name == plain).or_else(|| self.columns.iter().find(|c| c.name == plain.to_lowercase()));
        found.ok_or_else(|| {
            let error = Error::plan(format!("PostgreSQL {place}: table {} has no column '{name}'", self.name)).at(table.span);
            match closest(name, self.columns.iter().map(|c| c.name.as_str())) {
                Some(near) => error.hint(format!("did you mean '{near}'?")),
                None => error.hint(format!("its columns: {}", self.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", "))),
            }
        })
    }

    /// How a physical column of the table is selected, so that it comes as [`super::decode`] reads it.
    ///
    /// # Errors
    /// If it is not there, or its type is not read as the declared one.
    pub fn read(&self, table: &TableSpec, place: &str, column: usize) -> Result<String> {
        let field = &table.physical[column];
        let actual = self.column(table, place, &field.name)?;
        let cast = readable(&field.ty.kind, &actual.base).ok_or_else(|| mismatch(table, place, &field.name, &field.ty, actual, "read"))?;
        let name = format!("t.{}", quoted(&actual.name));
        Ok(match cast {
            Some(_) if actual.base == "inet" => as_shown(&name),
            Some(cast) => format!("{name}::{cast}"),
            None => name,
        })
    }

    /// A physical column of the table as statements name it.
    ///
    /// # Errors
    /// If it is not there.
    pub fn named(&self, table: &TableSpec, place: &str, column: usize) -> Result<SqlColumn> {
        let actual = self.column(table, place, &table.physical[column].name)?;
        Ok(SqlColumn { name: quoted(&actual.name), ty: actual.ty.clone() })
    }

    /// A physical column as a value of `kind` is compared with it.
    ///
    /// # Errors
    /// If it is not there.
    pub fn compared(&self, table: &TableSpec, place: &str, column: usize, kind: &TypeKind) -> Result<SqlColumn> {
        let actual = self.column(table, place, &table.physical[column].name)?;
        Ok(SqlColumn { name: quoted(&actual.name), ty: from_text(kind, &actual.ty, &actual.base) })
    }

    /// The same for a name that need not be declared.
    ///
    /// # Errors
    /// If it is not there.
    pub fn by_name(&self, table: &TableSpec, place: &str, name: &str) -> Result<SqlColumn> {
        let actual = self.column(table, place, name)?;
        Ok(SqlColumn { name: quoted(&actual.name), ty: actual.base.clone() })
    }

    /// Whether values of a key column that are different with us may be equal in PostgreSQL, and as which type they are then.
    ///
    /// # Errors
    /// If it is not there.
    pub fn merges(&self, table: &TableSpec, place: &str, column: usize) -> Result<Option<String>> {
        let field = &table.physical[column];
        let actual = self.column(table, place, &field.name)?;
        Ok(merges(&field.ty.kind, actual).then(|| {
            let ty = if rounds(&actual.base) { &actual.full } else { &actual.ty };
            from_text(&field.ty.kind, ty, &actual.base)
        }))
    }

    /// A physical column as it is written.
    ///
    /// # Errors
    /// If it is not there, or the declared type is not written to its type.
    pub fn written(&self, table: &TableSpec, place: &str, column: usize) -> Result<SqlColumn> {
        let field = &table.physical[column];
        let actual = self.column(table, place, &field.name)?;
        if !writable(&field.ty.kind, &actual.base) {
            return Err(mismatch(table, place, &field.name, &field.ty, actual, "written"));
        }
        Ok(SqlColumn { name: quoted(&actual.name), ty: from_text(&field.ty.kind, &actual.ty, &actual.base) })
    }
}

/// An address as PostgreSQL shows it: its cast to text has the mask of a single host, too.
pub(crate) fn as_shown(inet: &str) -> String {
    format!("abbrev({inet})")
}

/// The cast by which the text of a value of `kind` becomes a column's type. An instant has the offset of its zone behind it, which a column
/// without a zone would silently leave out: it is to have the time of the session's zone, as which it is read.
fn from_text(kind: &TypeKind, ty: &str, base: &str) -> String {
    let element = if let TypeKind::Array(element) = kind { &element.kind } else { kind };
    let zoned = match base.strip_prefix("timestamp without time zone") {
        Some(dimensions) if matches!(element, TypeKind::TimestampLtz(_)) => format!("timestamp with time zone{dimensions}::"),
        _ => String::new(),
    };
    let below = if zoned.is_empty() || ty == base { String::new() } else { format!("{base}::") };
    format!("{zoned}{below}{ty}")
}

/// Types whose values are rounded to the column's precision; of others too much of a value is an error.
fn rounds(base: &str) -> bool {
    base == "numeric" || base.starts_with("time")
}

/// Whether two values of `kind` may be one in a column: by rounding, or as texts of something else (UUIDs, `citext`, `char(n)`).
fn merges(kind: &TypeKind, actual: &Actual) -> bool {
    let base = actual.base.as_str();
    match kind {
        TypeKind::Char(_) | TypeKind::VarChar(_) => !matches!(base, "text" | "character varying"),
        TypeKind::Decimal(..) | TypeKind::Time(_) | TypeKind::Timestamp(_) | TypeKind::TimestampLtz(_) => {
            !rounds(base) || actual.full != actual.ty || actual.ty != actual.base
        }
        TypeKind::Float | TypeKind::Double => true,
        kind if kind.is_integer() => !matches!(base, "smallint" | "integer" | "bigint" | "oid"),
        _ => false,
    }
}

fn mismatch(table: &TableSpec, place: &str, name: &str, ty: &SqlType, actual: &Actual, how: &str) -> Error {
    let kind = &ty.kind;
    let message = format!("PostgreSQL {place}: column '{name}' of type {} cannot be {how} as {kind}", actual.ty);
    Error::plan(message).at(table.span).hint(format!("declare it {}", usual(&actual.base)))
}

/// A value of a row of the catalog.
fn get<'r, T: tokio_postgres::types::FromSql<'r>>(row: &'r tokio_postgres::Row, at: usize) -> Result<T, Failure> {
    row.try_get(at).map_err(|e| Failure::lasting(Error::runtime(format!("the catalog of the server is not as expected: {e}"))))
}

/// Whether the connector has columns of a type at all (Flink: `PostgresDialect.supportedTypes`).
pub(crate) fn is_supported(kind: &TypeKind) -> bool {
    match kind {
        TypeKind::Null
        | TypeKind::IntervalYearMonth
        | TypeKind::IntervalDayTime
        | TypeKind::Map(..)
        | TypeKind::Multiset(_)
        | TypeKind::Row(_)
        | TypeKind::Variant => false,
        TypeKind::Array(element) => !matches!(element.kind, TypeKind::Array(_)) && is_supported(&element.kind),
        _ => true,
    }
}

/// Types that come as the bytes of their text, and are compared as texts are.
fn is_text(base: &str) -> bool {
    matches!(base, "text" | "character varying" | "bpchar" | "name")
}

/// The cast with which a column of PostgreSQL's type `base` is read as `kind`: `Some(None)` if it needs none, `None` if there is no way.
fn readable(kind: &TypeKind, base: &str) -> Option<Option<String>> {
    let as_is = |ok: bool| ok.then_some(None);
    let cast = |same: &str, from: &[&str]| match base {
        b if b == same => Some(None),
        b if from.contains(&b) => Some(Some(same.to_owned())),
        _ => None,
    };
    match kind {
        TypeKind::Boolean => as_is(base == "boolean"),
        TypeKind::TinyInt | TypeKind::SmallInt => as_is(base == "smallint"),
        TypeKind::Int => cast("integer", &["smallint"]),
        TypeKind::BigInt => cast("bigint", &["smallint", "integer", "oid"]),
        TypeKind::Float => as_is(base == "real"),
        TypeKind::Double => cast("double precision", &["real"]),
        TypeKind::Decimal(..) => cast("numeric", &["smallint", "integer", "bigint"]),
        TypeKind::Char(_) | TypeKind::VarChar(_) => match base {
            "bytea" => None,
            b if is_text(b) => Some(None),
            _ => Some(Some("text".into())),
        },
        TypeKind::Binary(_) | TypeKind::VarBinary(_) => as_is(base == "bytea"),
        TypeKind::Date => as_is(base == "date"),
        TypeKind::Time(_) => as_is(base == "time without time zone"),
        // Between the two by the session's time zone, which is the job's.
        TypeKind::Timestamp(_) => cast("timestamp without time zone", &["timestamp with time zone"]),
        TypeKind::TimestampLtz(_) => cast("timestamp with time zone", &["timestamp without time zone"]),
        TypeKind::Array(element) => {
            let cast = readable(&element.kind, base.strip_suffix("[]")?)?;
            Some(cast.map(|c| format!("{c}[]")))
        }
        _ => None,
    }
}

/// Whether a value of `kind` may go into a column of PostgreSQL's type `base`. What does not fit into a narrower number fails then.
fn writable(kind: &TypeKind, base: &str) -> bool {
    let number = matches!(base, "numeric" | "real" | "double precision");
    match kind {
        TypeKind::Boolean => base == "boolean",
        TypeKind::TinyInt | TypeKind::SmallInt | TypeKind::Int | TypeKind::BigInt => {
            number || matches!(base, "smallint" | "integer" | "bigint" | "oid")
        }
        TypeKind::Float | TypeKind::Double | TypeKind::Decimal(..) => number,
        TypeKind::Char(_) | TypeKind::VarChar(_) => base != "bytea",
        TypeKind::Binary(_) | TypeKind::VarBinary(_) => base == "bytea",
        TypeKind::Date => matches!(base, "date"),
        TypeKind::Time(_) => base == "time without time zone",
        TypeKind::Timestamp(_) | TypeKind::TimestampLtz(_) => {
            matches!(base, "timestamp without time zone" | "timestamp with time zone")
        }
        TypeKind::Array(element) => base.strip_suffix("[]").is_some_and(|base| writable(&element.kind, base)),
        _ => false,
    }
}

/// The type as which one would declare a column.
fn usual(base: &str) -> String {
    match base {
        "boolean" => "BOOLEAN",
        "smallint" => "SMALLINT",
        "integer" => "INT",
        "bigint" | "oid" => "BIGINT",
        "real" => "FLOAT",
        "double precision" => "DOUBLE",
        "numeric" => "DECIMAL(p, s)",
        "bytea" => "BYTES",
        "date" => "DATE",
        "time without time zone" => "TIME",
        "timestamp without time zone" => "TIMESTAMP(6)",
        "timestamp with time zone" => "TIMESTAMP_LTZ(6)",
        other => return other.strip_suffix("[]").map_or_else(|| "STRING".into(), |element| format!("ARRAY<{}>", usual(element))),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_mapped() {
        let cast = |c: &str| Some(Some(c.to_owned()));
        for (kind, base, want) in [
            (TypeKind::Int, "integer", Some(None)),
            (TypeKind::Int, "smallint", cast("integer")),
            (TypeKind::Int, "bigint", None),
            (TypeKind::Double, "numeric", None),
            (TypeKind::Decimal(10, 2), "numeric", Some(None)),
            (TypeKind::STRING, "uuid", cast("text")),
            (TypeKind::STRING, "jsonb", cast("text")),
            // They come as text, but cannot be compared.
            (TypeKind::STRING, "json", cast("text")),
            (TypeKind::STRING, "bpchar", Some(None)),
            (TypeKind::STRING, "bytea", None),
            (TypeKind::Timestamp(3), "timestamp with time zone", cast("timestamp without time zone")),
            (TypeKind::Array(Box::new(TypeKind::STRING.nullable())), "uuid[]", cast("text[]")),
            (TypeKind::Array(Box::new(TypeKind::Int.nullable())), "integer[]", Some(None)),
            (TypeKind::Array(Box::new(TypeKind::Int.nullable())), "integer", None),
        ] {
            assert_eq!(readable(&kind, base), want, "{kind} from {base}");
        }
        assert!(writable(&TypeKind::BigInt, "integer") && !writable(&TypeKind::Double, "integer"));
        assert!(writable(&TypeKind::STRING, "uuid") && !writable(&TypeKind::Int, "text"));
        assert!(is_supported(&TypeKind::BYTES) && !is_supported(&TypeKind::Row(vec![])));
        assert_eq!(usual("numeric[]"), "ARRAY<DECIMAL(p, s)>");
    }

    #[test]
    fn texts_become_values() {
        let actual = |ty: &str, base: &str| Actual { name: "c".into(), ty: ty.into(), base: base.into(), full: ty.into() };
        let (plain, zoned) = ("timestamp without time zone", "timestamp with time zone");
        let list = |kind: TypeKind| TypeKind::Array(Box::new(kind.nullable()));
        for (kind, actual, want) in [
            (TypeKind::Int, actual("integer", "integer"), "integer"),
            (TypeKind::STRING, actual("mood", "text"), "mood"),
            (TypeKind::TimestampLtz(3), actual(zoned, zoned), zoned),
            (TypeKind::Timestamp(3), actual(plain, plain), plain),
            (TypeKind::TimestampLtz(3), actual(plain, plain), "timestamp with time zone::timestamp without time zone"),
            (TypeKind::TimestampLtz(3), actual("born", plain), "timestamp with time zone::timestamp without time zone::born"),
            (
                list(TypeKind::TimestampLtz(3)),
                actual("timestamp without time zone[]", "timestamp without time zone[]"),
                "timestamp with time zone[]::timestamp without time zone[]",
            ),
        ] {
            assert_eq!(from_text(&kind, &actual.ty, &actual.base), want, "{kind}");
        }
        let full = |full: &str, base: &str| Actual { full: full.into(), ..actual(base, base) };
        for (kind, actual, want) in [
            (TypeKind::STRING, full("character varying(9)", "character varying"), false),
            (TypeKind::STRING, full("character(9)", "bpchar"), true),
            (TypeKind::STRING, full("uuid", "uuid"), true),
            (TypeKind::BigInt, full("integer", "integer"), false),
            (TypeKind::Date, full("date", "date"), false),
            (TypeKind::Timestamp(3), full(plain, plain), false),
            (TypeKind::Timestamp(3), full("timestamp(0) without time zone", plain), true),
            (TypeKind::Decimal(9, 2), full("numeric", "numeric"), false),
            (TypeKind::Decimal(9, 2), full("numeric(9,1)", "numeric"), true),
        ] {
            assert_eq!(merges(&kind, &actual), want, "{kind} in {}", actual.full);
        }
    }
}
