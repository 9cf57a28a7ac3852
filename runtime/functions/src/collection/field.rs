//! Fields of a ROW: `r.f`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StructArray, make_array};
use arrow::buffer::NullBuffer;
use sluice_batch::{Error, EvalContext, Expr, Result, ScalarFunction, SqlType, TypeKind, Value};

/// A field of a ROW by position; `None` if the input is no ROW or has no such field. It is nullable if the row or the field is.
pub fn row_field(input: Expr, index: usize) -> Option<Expr> {
    let TypeKind::Row(fields) = &input.ty.kind else { return None };
    let field = fields.get(index)?;
    let ty = field.ty.with_nullable(field.ty.nullable || input.ty.nullable);
    let function = FieldAccess { name: format!("FIELD[{}]", field.name), index };
    Some(Expr::call(Arc::new(function), vec![input], ty))
}

/// [`row_field`] of a field that is known to exist; else the input itself.
pub fn field_access(input: Expr, index: usize) -> Expr {
    row_field(input.clone(), index).unwrap_or(input)
}

#[derive(Debug)]
struct FieldAccess {
    name: String,
    index: usize,
}

impl ScalarFunction for FieldAccess {
    fn name(&self) -> &str {
        &self.name
    }

    fn eval(&self, args: &[Value], _rows: usize, _ty: &SqlType, _cx: &EvalContext) -> Result<Value> {
        let [arg] = args else {
            return Err(Error::runtime("a field access takes one argument"));
        };
        let row = arg.array().as_any().downcast_ref::<StructArray>();
        let field = row.and_then(|row| Some((row, row.columns().get(self.index)?)));
        let (row, field) = field.ok_or_else(|| Error::runtime(format!("no field {} in {}", self.index, arg.array().data_type())))?;
        let out = with_outer_nulls(field, row.nulls())?;
        Ok(if arg.is_scalar() { Value::Scalar(out) } else { Value::Array(out) })
    }

    fn eval_row(&self, args: &[sluice_batch::Datum], _ty: &SqlType, _cx: &EvalContext) -> Option<Result<sluice_batch::Datum>> {
        match args.first()? {
            sluice_batch::Datum::Row(fields) => fields.get(self.index).cloned().map(Ok),
            _ => Some(Ok(sluice_batch::Datum::Null)),
        }
    }
}

/// The column, NULL also where its parent is.
pub(crate) fn with_outer_nulls(column: &ArrayRef, outer: Option<&NullBuffer>) -> Result<ArrayRef> {
    match outer {
        Some(outer) if outer.null_count() > 0 && *column.data_type() != arrow::datatypes::DataType::Null => {
            let nulls = NullBuffer::union(column.nulls(), Some(outer));
            Ok(make_array(column.to_data().into_builder().nulls(nulls).build()?))
        }
        _ => Ok(column.clone()),
    }
}
