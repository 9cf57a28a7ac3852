//! `row.field`: a field of a ROW value. The binder resolves the name; there is no function of this name in SQL.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StructArray, new_null_array};
use arrow::compute;
use sluice_batch::{Datum, Error, EvalContext, Expr, Result, ScalarFunction, SqlType, TypeKind, Value};

/// The field at `index` of `row`; NULL when the row is NULL. `None` if `row` is not a ROW or has no such field.
pub fn row_field(row: Expr, index: usize) -> Option<Expr> {
    let TypeKind::Row(fields) = &row.ty.kind else { return None };
    let field = fields.get(index)?;
    let ty = field.ty.with_nullable(field.ty.nullable || row.ty.nullable);
    let function = RowField { index, name: format!("FIELD[{index}]") };
    Some(Expr::call(Arc::new(function), vec![row], ty))
}

#[derive(Debug)]
struct RowField {
    index: usize,
    /// Holds the index: the canonical text of an expression must tell fields apart.
    name: String,
}

impl ScalarFunction for RowField {
    fn name(&self) -> &str {
        &self.name
    }

    fn eval(&self, args: &[Value], _rows: usize, ty: &SqlType, _cx: &EvalContext) -> Result<Value> {
        let [row] = args else { return Err(Error::runtime("field access needs one argument")) };
        let field = field_of(row.array(), self.index, ty)?;
        Ok(if row.is_scalar() { Value::Scalar(field) } else { Value::Array(field) })
    }

    fn eval_row(&self, args: &[Datum], _ty: &SqlType, _cx: &EvalContext) -> Option<Result<Datum>> {
        Some(Ok(match args {
            [Datum::Row(fields)] => fields.get(self.index).cloned().unwrap_or(Datum::Null),
            _ => Datum::Null,
        }))
    }
}

fn field_of(array: &ArrayRef, index: usize, ty: &SqlType) -> Result<ArrayRef> {
    let Some(rows) = array.as_any().downcast_ref::<StructArray>() else {
        return if array.null_count() == array.len() {
            Ok(new_null_array(&ty.to_arrow(), array.len()))
        } else {
            Err(Error::runtime(format!("expected ROW, got {}", array.data_type())))
        };
    };
    let Some(field) = rows.columns().get(index) else {
        return Err(Error::runtime(format!("the ROW has no field {index}")));
    };
    // The child's own validity says nothing about NULL rows.
    match rows.nulls() {
        Some(nulls) if nulls.null_count() > 0 => {
            let null_rows = arrow::array::BooleanArray::new(!nulls.inner(), None);
            Ok(compute::nullif(field, &null_rows)?)
        }
        _ => Ok(field.clone()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use sluice_batch::types::Field;
    use sluice_batch::{Batch, datum};

    #[test]
    fn reads_fields_and_null_rows() {
        let row = TypeKind::Row(vec![Field::new("a", TypeKind::Int.not_null()), Field::new("b", TypeKind::STRING.nullable())]).nullable();
        let rows =
            [Datum::Row(Arc::from([Datum::Int(1), Datum::string("x")])), Datum::Null, Datum::Row(Arc::from([Datum::Int(3), Datum::Null]))];
        let column = datum::from_datums(&rows, &row).unwrap();
        let batch = Batch::new(vec![column], 3);
        for (index, expected) in
            [(0, vec![Datum::Int(1), Datum::Null, Datum::Int(3)]), (1, vec![Datum::string("x"), Datum::Null, Datum::Null])]
        {
            let field = row_field(Expr::column(0, row.clone()), index).unwrap();
            assert!(field.ty.nullable);
            let got = field.eval_array(&batch, &EvalContext::default()).unwrap();
            assert_eq!((0..3).map(|i| datum::from_array(&got, i, &field.ty)).collect::<Vec<_>>(), expected);
        }
        assert!(row_field(Expr::column(0, row.clone()), 2).is_none());
    }
}
