//! From what a decoder and the connector give to the columns that the plan asked for.

use arrow::array::ArrayRef;
use sluice_batch::{Batch, Error, EvalContext, Expr, Field, Result};

use crate::options::closest;
use crate::{MetadataColumn, ScanColumn, ScanRequest, TableSpec};

/// A metadata column of the output: which key of the connector's it is, and the cast from its type to the declared one.
#[derive(Clone, Debug)]
pub(crate) struct Metadata {
    /// Position in what the connector offers.
    pub offered: usize,
    cast: Option<Expr>,
}

impl Metadata {
    /// Finds a declared metadata column among those that are offered.
    ///
    /// # Errors
    /// If the key is unknown (did-you-mean) or the types do not fit.
    pub fn find(table: &TableSpec, column: &MetadataColumn, offered: &[Field]) -> Result<Self> {
        let Some(at) = offered.iter().position(|f| f.name == column.key) else {
            return Err(unknown_key(table, column, offered));
        };
        Ok(Self { offered: at, cast: cast(&offered[at], &column.field, table)? })
    }

    /// Brings a column of the offered type to the declared one.
    pub fn finish(&self, array: ArrayRef, context: &EvalContext) -> Result<ArrayRef> {
        apply(self.cast.as_ref(), array, context)
    }
}

/// The error for a metadata key that the connector does not have.
pub(crate) fn unknown_key(table: &TableSpec, column: &MetadataColumn, offered: &[Field]) -> Error {
    let message = format!("table '{}' has no metadata '{}' (column '{}')", table.name, column.key, column.field.name);
    let error = Error::plan(message).at(table.span);
    let names = || offered.iter().map(|f| f.name.as_str());
    match closest(&column.key, names()) {
        Some(near) => error.hint(format!("did you mean '{near}'?")),
        None if offered.is_empty() => error.hint("the connector offers none"),
        None => error.hint(format!("metadata keys: {}", names().collect::<Vec<_>>().join(", "))),
    }
}

/// The cast from one field's type to another's; `None` if they are kept alike.
pub(crate) fn cast(from: &Field, to: &Field, table: &TableSpec) -> Result<Option<Expr>> {
    if from.ty.kind == to.ty.kind {
        return Ok(None);
    }
    let column = Expr::column(0, from.ty.clone());
    sluice_functions::cast(column, &to.ty, false, table.span).map(Some).map_err(|e| e.context(format!("metadata column '{}'", to.name)))
}

pub(crate) fn apply(cast: Option<&Expr>, array: ArrayRef, context: &EvalContext) -> Result<ArrayRef> {
    match cast {
        None => Ok(array),
        Some(expr) => {
            let rows = array.len();
            expr.eval_array(&Batch::new(vec![array], rows), context)
        }
    }
}

/// Physical columns that are asked for, each once, in order of first use.
pub(crate) fn physical(request: &ScanRequest) -> Vec<usize> {
    let mut found = vec![];
    for column in &request.columns {
        if let ScanColumn::Physical(i) = column
            && !found.contains(i)
        {
            found.push(*i);
        }
    }
    found
}

/// The session's settings for evaluation outside of operators.
pub(crate) fn context(time_zone: chrono_tz::Tz) -> EvalContext {
    EvalContext { time_zone, ..EvalContext::default() }
}

/// All metadata columns must be known to the connector.
///
/// # Errors
/// For the first that is not.
pub(crate) fn check_readable(table: &TableSpec, offered: &[Field]) -> Result<()> {
    table.metadata.iter().try_for_each(|column| match offered.iter().any(|f| f.name == column.key) {
        true => Ok(()),
        false => Err(unknown_key(table, column, offered)),
    })
}

/// All metadata columns that are written must be known to the sink.
///
/// # Errors
/// For the first that is not.
pub(crate) fn check_writable(table: &TableSpec, offered: &[Field]) -> Result<()> {
    table.metadata.iter().filter(|c| !c.is_virtual).try_for_each(|column| match offered.iter().any(|f| f.name == column.key) {
        true => Ok(()),
        false => Err(unknown_key(table, column, offered).hint("declare it VIRTUAL if it is only to be read")),
    })
}
