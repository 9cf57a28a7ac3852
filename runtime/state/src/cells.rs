//! Rows of bytes taken apart by their layout, part by part, and put together again.

use sluice_batch::{Error, Result, SqlType};
use sluice_operators::rows::RowCodec;
use sluice_operators::state::{put_bytes, take_bytes, take_i64, take_row};

use crate::layout::{Column, NumberKind, Part};

/// One part of many rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cells<'a> {
    Rows(Vec<&'a [u8]>),
    Numbers(Vec<i64>),
    /// By call, by row.
    Calls(Vec<Vec<&'a [u8]>>),
    /// `ends[i]`: how many entries rows `0..=i` have together.
    Repeated {
        ends: Vec<usize>,
        parts: Vec<Cells<'a>>,
    },
}

/// Takes rows apart.
///
/// # Errors
/// If the bytes are not of this layout.
pub fn split<'a>(parts: &[Part], rows: &mut [&'a [u8]]) -> Result<Vec<Cells<'a>>> {
    parts.iter().map(|part| split_part(part, rows)).collect()
}

fn split_part<'a>(part: &Part, rows: &mut [&'a [u8]]) -> Result<Cells<'a>> {
    Ok(match part {
        Part::Row { prefixed: true, .. } => Cells::Rows(rows.iter_mut().map(take_row).collect::<Result<_>>()?),
        Part::Row { .. } => Cells::Rows(rows.iter_mut().map(std::mem::take).collect()),
        Part::Number { kind, .. } => Cells::Numbers(rows.iter_mut().map(|r| take_number(*kind, r)).collect::<Result<_>>()?),
        Part::Aggregates { calls, .. } => {
            let mut cells = vec![Vec::with_capacity(rows.len()); calls.len()];
            for row in rows.iter_mut() {
                for call in &mut cells {
                    call.push(take_row(row)?);
                }
            }
            Cells::Calls(cells)
        }
        Part::Repeated { parts, .. } => {
            let mut ends = Vec::with_capacity(rows.len());
            // Entries have no length of their own: one at a time.
            let mut all: Vec<Cells<'a>> = parts.iter().map(empty).collect();
            let mut entries = 0;
            for row in rows.iter_mut() {
                while !row.is_empty() {
                    let mut one = [*row];
                    for (part, cells) in parts.iter().zip(&mut all) {
                        append(cells, split_part(part, &mut one)?);
                    }
                    if one[0].len() == row.len() {
                        return Err(Error::runtime("state has an entry without bytes"));
                    }
                    *row = one[0];
                    entries += 1;
                }
                ends.push(entries);
            }
            Cells::Repeated { ends, parts: all }
        }
    })
}

fn empty<'a>(part: &Part) -> Cells<'a> {
    match part {
        Part::Row { .. } => Cells::Rows(vec![]),
        Part::Number { .. } => Cells::Numbers(vec![]),
        Part::Aggregates { calls, .. } => Cells::Calls(vec![vec![]; calls.len()]),
        Part::Repeated { parts, .. } => Cells::Repeated { ends: vec![], parts: parts.iter().map(empty).collect() },
    }
}

fn append<'a>(to: &mut Cells<'a>, from: Cells<'a>) {
    match (to, from) {
        (Cells::Rows(to), Cells::Rows(from)) => to.extend(from),
        (Cells::Numbers(to), Cells::Numbers(from)) => to.extend(from),
        (Cells::Calls(to), Cells::Calls(from)) => to.iter_mut().zip(from).for_each(|(t, f)| t.extend(f)),
        // Repetitions inside of repetitions would not know where they end.
        _ => {}
    }
}

fn take_number(kind: NumberKind, row: &mut &[u8]) -> Result<i64> {
    match kind.bytes() {
        1 => Ok(i64::from(take_bytes(row, 1)?[0])),
        _ => take_i64(row),
    }
}

/// Writes row `row` of the parts behind `out`.
pub fn join(parts: &[Part], cells: &[Cells<'_>], row: usize, out: &mut Vec<u8>) {
    for (part, cells) in parts.iter().zip(cells) {
        match (part, cells) {
            (Part::Row { prefixed: true, .. }, Cells::Rows(rows)) => put_bytes(out, rows[row]),
            (_, Cells::Rows(rows)) => out.extend_from_slice(rows[row]),
            (Part::Number { kind, .. }, Cells::Numbers(numbers)) if kind.bytes() == 1 => out.push(numbers[row] as u8),
            (_, Cells::Numbers(numbers)) => out.extend_from_slice(&numbers[row].to_be_bytes()),
            (_, Cells::Calls(calls)) => calls.iter().for_each(|c| put_bytes(out, c[row])),
            (Part::Repeated { parts, .. }, Cells::Repeated { ends, parts: cells }) => {
                let start = if row == 0 { 0 } else { ends[row - 1] };
                (start..ends[row]).for_each(|entry| join(parts, cells, entry, out));
            }
            (_, Cells::Repeated { .. }) => {}
        }
    }
}

/// The type of a column of a manifest.
pub fn sql_type(column: &Column) -> Result<SqlType> {
    sluice_sql::parser::parse_type(&column.ty).map_err(|e| e.context(format!("the type of {}", column.name)))
}

pub fn sql_types(columns: &[Column]) -> Result<Vec<SqlType>> {
    columns.iter().map(sql_type).collect()
}

/// What encodes and decodes a part's rows.
pub fn codec(columns: &[Column]) -> Result<RowCodec> {
    let types = sql_types(columns)?;
    let key =
        |(column, c): (usize, &Column)| sluice_batch::algebra::SortKey { column, descending: c.descending, nulls_first: !c.nulls_last };
    RowCodec::sorted(&types, &columns.iter().enumerate().map(key).collect::<Vec<_>>())
}
