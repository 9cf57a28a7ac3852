//! Tests of the formats through their factory.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod changelog;
mod csv;
mod debezium;
mod json;
mod properties;
mod raw;

use sluice_batch::{Batch, Datum, Field, RowKind, SqlType, TypeKind, datum};

use crate::{Decoder, Encoder, FormatContext, FormatOption, FormatOptions, Records, Schema, decoder, encoder};

pub(crate) fn options(format: &str, given: &[(&str, &str)]) -> FormatOptions {
    let option = |(key, value): &(&str, &str)| FormatOption { key: (*key).into(), value: (*value).into(), span: Default::default() };
    FormatOptions::new(format, format!("{format}."), given.iter().map(option).collect())
}

pub(crate) const UTC: FormatContext = FormatContext { time_zone: chrono_tz::UTC };

/// `name TYPE` by the few types that the tests use.
pub(crate) fn fields(columns: &[(&str, TypeKind)]) -> Vec<Field> {
    columns.iter().map(|(name, kind)| Field::new(*name, kind.clone().nullable())).collect()
}

pub(crate) fn array(kind: TypeKind) -> TypeKind {
    TypeKind::Array(Box::new(kind.nullable()))
}

pub(crate) fn map(key: TypeKind, value: TypeKind) -> TypeKind {
    TypeKind::Map(Box::new(key.nullable()), Box::new(value.nullable()))
}

pub(crate) fn row(columns: &[(&str, TypeKind)]) -> TypeKind {
    TypeKind::Row(fields(columns))
}

pub(crate) fn new_decoder(format: &str, given: &[(&str, &str)], columns: &[Field]) -> Box<dyn Decoder> {
    decoder(options(format, given), Schema::new(columns.to_vec()), UTC).unwrap()
}

pub(crate) fn new_encoder(format: &str, given: &[(&str, &str)], columns: &[Field]) -> Box<dyn Encoder> {
    encoder(options(format, given), Schema::new(columns.to_vec()), UTC).unwrap()
}

/// All rows that a decoder has, with their kinds.
pub(crate) fn rows(decoder: &mut dyn Decoder, types: &[SqlType]) -> Vec<(RowKind, Vec<Datum>)> {
    let (columns, kinds) = decoder.finish().unwrap();
    assert_eq!(columns.len(), types.len());
    for (column, ty) in columns.iter().zip(types) {
        assert_eq!(column.data_type(), &ty.to_arrow());
    }
    let count = columns.first().map_or(0, |c| c.len());
    let row = |i| columns.iter().zip(types).map(|(c, t)| datum::from_array(c.as_ref(), i, t)).collect();
    (0..count).map(|i| (kinds.as_ref().map_or(RowKind::Insert, |k| k[i]), row(i))).collect()
}

/// The rows of some records, or the error.
pub(crate) fn decode(format: &str, given: &[(&str, &str)], columns: &[Field], records: &[&str]) -> Result<Vec<Vec<Datum>>, String> {
    let mut decoder = new_decoder(format, given, columns);
    for record in records {
        decoder.decode(Some(record.as_bytes())).map_err(|e| e.to_string())?;
    }
    let types: Vec<SqlType> = columns.iter().map(|f| f.ty.clone()).collect();
    Ok(rows(decoder.as_mut(), &types).into_iter().map(|(_, row)| row).collect())
}

pub(crate) fn batch(columns: &[Field], rows: &[Vec<Datum>]) -> Batch {
    let column = |(i, f): (usize, &Field)| datum::from_datums(rows.iter().map(|r| &r[i]), &f.ty).unwrap();
    Batch::new(columns.iter().enumerate().map(column).collect(), rows.len())
}

/// The records of some rows as text (`None`: NULL), or the error.
pub(crate) fn encode(format: &str, given: &[(&str, &str)], columns: &[Field], batch: &Batch) -> Result<Vec<Option<String>>, String> {
    let mut records = Records::default();
    new_encoder(format, given, columns).encode(batch, &mut records).map_err(|e| e.to_string())?;
    Ok((0..records.len()).map(|i| records.get(i).map(|r| String::from_utf8(r.to_vec()).unwrap())).collect())
}

/// Decodes records and encodes the rows again.
pub(crate) fn pass_through(from: (&str, &[(&str, &str)]), to: (&str, &[(&str, &str)]), columns: &[Field], records: &[&str]) -> Vec<String> {
    let mut decoder = new_decoder(from.0, from.1, columns);
    let mut count = 0;
    for record in records {
        count += decoder.decode(Some(record.as_bytes())).unwrap();
    }
    let (arrays, kinds) = decoder.finish().unwrap();
    let batch = Batch::with_kinds(arrays, kinds.map(Into::into), count);
    encode(to.0, to.1, columns, &batch).unwrap().into_iter().map(Option::unwrap).collect()
}

#[test]
fn unknown_names_are_rejected_with_a_hint() {
    let error = decoder(options("jsno", &[]), Schema::default(), UTC).err().unwrap().to_string();
    assert!(error.contains("'json'"), "{error}");
    let given = options("json", &[("ignore-parse-error", "true")]);
    let error = decoder(given, Schema::default(), UTC).err().unwrap().to_string();
    assert!(error.contains("no option 'json.ignore-parse-error'") && error.contains("'json.ignore-parse-errors'"), "{error}");
    let error = decoder(options("json", &[("ignore-parse-errors", "yes")]), Schema::default(), UTC).err().unwrap().to_string();
    assert!(error.contains("true or false"), "{error}");
}
