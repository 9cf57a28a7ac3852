//! State of one layout as state of another: columns and accumulators are found by what they mean. Whether that may be done is
//! [`crate::compatibility`]'s to say.

use arrow::array::{ArrayRef, new_null_array};
use sluice_batch::{Error, Result};

use crate::cells::{Cells, codec, join, split, sql_types};
use crate::layout::{Column, Layout, Part, Table};
use crate::{Rows, Tables};

/// Rows that are moved at once.
const ROWS: usize = 8192;

/// The tables of an operator in its new layout.
///
/// # Errors
/// If the rows are not of the old layout, or a column cannot be converted.
pub fn migrate(tables: Tables, old: &Layout, new: &Layout) -> Result<Tables> {
    if old.tables == new.tables || old.tables.is_empty() {
        return Ok(tables);
    }
    let mut out = Tables::new();
    for (name, rows) in tables {
        if let Some(moved) = migrate_rows(&name, rows, old, new)? {
            out.insert(name, moved);
        }
    }
    Ok(out)
}

/// Some rows of a table of an operator in its new layout; `None` if that has no such table.
///
/// # Errors
/// As [`migrate`].
pub fn migrate_rows(name: &str, rows: Rows, old: &Layout, new: &Layout) -> Result<Option<Rows>> {
    if old.tables == new.tables || old.tables.is_empty() {
        return Ok(Some(rows));
    }
    let (Some(from), Some(to)) = (find(old, name), find(new, name)) else { return Ok(None) };
    Ok(Some(if from == to { rows } else { table(from, to, &rows)? }))
}

fn find<'a>(layout: &'a Layout, name: &str) -> Option<&'a Table> {
    layout.tables.iter().find(|t| t.name == name)
}

fn table(from: &Table, to: &Table, rows: &Rows) -> Result<Rows> {
    let mut out = Rows::default();
    for begin in (0..rows.len()).step_by(ROWS) {
        let (mut keys, mut values): (Vec<&[u8]>, Vec<&[u8]>) = rows.iter().skip(begin).take(ROWS).unzip();
        let (keys, values) = (side(&from.key, &to.key, &mut keys)?, side(&from.value, &to.value, &mut values)?);
        keys.iter().zip(&values).for_each(|(key, value)| out.push(key, value));
    }
    Ok(out)
}

/// Keys or values in their new form.
fn side(from: &[Part], to: &[Part], rows: &mut [&[u8]]) -> Result<Vec<Vec<u8>>> {
    if from == to {
        return Ok(rows.iter().map(|r| r.to_vec()).collect());
    }
    let count = rows.len();
    let old = split(from, rows)?;
    let mut encoded = vec![];
    for part in to {
        let at = from.iter().position(|f| f.name() == part.name());
        let at = at.ok_or_else(|| Error::runtime(format!("the savepoint's state has no part '{}'", part.name())))?;
        encoded.push(convert(&from[at], part, &old[at])?);
    }
    let cells: Vec<Cells<'_>> = encoded.iter().map(Converted::cells).collect();
    Ok((0..count)
        .map(|row| {
            let mut bytes = vec![];
            join(to, &cells, row, &mut bytes);
            bytes
        })
        .collect())
}

/// A part in its new form: as it was, or made anew.
enum Converted<'a> {
    Same(Cells<'a>),
    Rows(Vec<Vec<u8>>),
    Repeated { ends: Vec<usize>, parts: Vec<Converted<'a>> },
}

impl Converted<'_> {
    fn cells(&self) -> Cells<'_> {
        match self {
            Self::Same(cells) => cells.clone(),
            Self::Rows(rows) => Cells::Rows(rows.iter().map(Vec::as_slice).collect()),
            Self::Repeated { ends, parts } => Cells::Repeated { ends: ends.clone(), parts: parts.iter().map(Self::cells).collect() },
        }
    }
}

fn convert<'a>(from: &Part, to: &Part, cells: &Cells<'a>) -> Result<Converted<'a>> {
    Ok(match (from, to, cells) {
        (Part::Row { columns: old, .. }, Part::Row { columns: new, .. }, Cells::Rows(rows)) => {
            if same_bytes(old, new)? {
                Converted::Same(cells.clone())
            } else {
                Converted::Rows(rewrite(old, new, rows)?)
            }
        }
        (Part::Aggregates { calls: old, .. }, Part::Aggregates { calls: new, .. }, Cells::Calls(states)) => {
            let rows = states.first().map_or(0, Vec::len);
            let find = |name: &str| old.iter().position(|o| o.name == name);
            // No bytes: empty.
            let state = |name: &str| find(name).map_or_else(|| vec![&[][..]; rows], |at| states[at].clone());
            Converted::Same(Cells::Calls(new.iter().map(|n| state(&n.name)).collect()))
        }
        (Part::Repeated { parts: old, .. }, Part::Repeated { parts: new, .. }, Cells::Repeated { ends, parts }) => {
            let mut converted = vec![];
            for part in new {
                let at = old.iter().position(|f| f.name() == part.name());
                let at = at.ok_or_else(|| Error::runtime(format!("the savepoint's state has no part '{}'", part.name())))?;
                converted.push(convert(&old[at], part, &parts[at])?);
            }
            Converted::Repeated { ends: ends.clone(), parts: converted }
        }
        _ => Converted::Same(cells.clone()),
    })
}

/// Whether rows of these columns are the same bytes: same columns, same order, same Arrow types.
fn same_bytes(old: &[Column], new: &[Column]) -> Result<bool> {
    let same = |(o, n): (&Column, &Column)| o.name == n.name && o.descending == n.descending && o.nulls_last == n.nulls_last;
    if old.len() != new.len() || !old.iter().zip(new).all(same) {
        return Ok(false);
    }
    let (old, new) = (sql_types(old)?, sql_types(new)?);
    Ok(old.iter().zip(&new).all(|(o, n)| o.to_arrow() == n.to_arrow()))
}

fn rewrite(old: &[Column], new: &[Column], rows: &[&[u8]]) -> Result<Vec<Vec<u8>>> {
    let columns = codec(old)?.decode(rows.iter().copied())?;
    let types = sql_types(new)?;
    let mut out: Vec<ArrayRef> = vec![];
    for (column, ty) in new.iter().zip(&types) {
        let ty = ty.to_arrow();
        out.push(match old.iter().position(|o| o.name == column.name) {
            Some(at) if columns[at].data_type() == &ty => columns[at].clone(),
            Some(at) => arrow::compute::cast(&columns[at], &ty)?,
            None => new_null_array(&ty, rows.len()),
        });
    }
    let encoded = codec(new)?.encode(&out)?;
    Ok((0..rows.len()).map(|i| encoded.get(i).to_vec()).collect())
}
