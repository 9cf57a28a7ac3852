//! `CROSS JOIN UNNEST` and `LEFT JOIN UNNEST`: take indexes over the rows and over the collections' elements.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, StructArray, UInt32Array, new_null_array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{self, FilterBuilder};
use arrow::datatypes::{DataType, Int32Type, UInt32Type};
use sluice_batch::{Batch, Error, Result, TypeKind};

use crate::rows::take;
use crate::spec::UnnestSpec;
use crate::{Operator, Output};

pub struct Unnest {
    spec: UnnestSpec,
}

impl Unnest {
    pub fn new(spec: UnnestSpec) -> Self {
        Self { spec }
    }
}

/// Which input row each output row comes from, and which element.
struct Picks {
    rows: Vec<u32>,
    /// No element for rows kept by an outer join. Empty if elements are taken `in_place`.
    elements: Vec<Option<u32>>,
    ordinals: Vec<Option<i32>>,
    /// All elements are taken, in order: (first, how many). Their columns are sliced, not copied.
    in_place: Option<(usize, usize)>,
}

impl Operator for Unnest {
    fn name(&self) -> &'static str {
        "Unnest"
    }

    fn batch(&mut self, _input: usize, batch: Batch, out: &mut Output<'_>) -> Result<()> {
        let collection = self.spec.expr.eval_array(&batch, out.context())?;
        let (offsets, mut columns) = parts(&collection)?;
        let multiset = matches!(self.spec.expr.ty.kind, TypeKind::Multiset(_));
        let counts = if multiset { columns.pop() } else { None };
        let Picks { rows, elements, ordinals, in_place } = pick(&collection, offsets, counts.as_ref(), &self.spec);
        let indices = UInt32Array::from(elements);
        let element = |position: &usize| match (columns.get(*position), in_place) {
            (Some(values), Some((from, len))) => Ok(values.slice(from, len)),
            (Some(values), None) => Ok(compute::take(values, &indices, None)?),
            (None, _) => Ok(Arc::new(Int32Array::from(ordinals.clone())) as ArrayRef),
        };
        let mut elements = Batch::new(self.spec.element.iter().map(element).collect::<Result<_>>()?, rows.len());
        let mut rows = UInt32Array::from(rows);
        // Before the other columns are copied: mostly few rows pass.
        if let Some(filter) = &self.spec.filter {
            let predicate = FilterBuilder::new(&filter.eval_mask(&elements, out.context())?).optimize().build();
            let columns = elements.columns().iter().map(|c| predicate.filter(c)).collect::<Result<Vec<_>, _>>()?;
            elements = Batch::new(columns, predicate.count());
            rows = predicate.filter(&rows)?.as_primitive::<UInt32Type>().clone();
        }
        let kinds = batch.kinds().map(|k| rows.values().iter().map(|i| k[*i as usize]).collect());
        let kept: Vec<ArrayRef> = self.spec.keep.iter().map(|i| batch.column(*i).clone()).collect();
        let mut columns = take(&kept, &rows)?;
        columns.extend_from_slice(elements.columns());
        out.emit(Batch::with_kinds(columns, kinds, rows.len()));
        Ok(())
    }
}

/// Offsets and element columns of a list (a ROW element's fields) or map (key and value).
fn parts(collection: &ArrayRef) -> Result<(&OffsetBuffer<i32>, Vec<ArrayRef>)> {
    match collection.data_type() {
        DataType::List(_) => {
            let list = collection.as_list::<i32>();
            let columns = match list.values().as_struct_opt() {
                Some(fields) => struct_columns(fields)?,
                None => vec![list.values().clone()],
            };
            Ok((list.offsets(), columns))
        }
        DataType::Map(..) => {
            let map = collection.as_map();
            Ok((map.offsets(), map.entries().columns().to_vec()))
        }
        other => Err(Error::runtime(format!("UNNEST of a {other}"))),
    }
}

/// The fields of ROW elements; those of a NULL row are NULL.
fn struct_columns(rows: &StructArray) -> Result<Vec<ArrayRef>> {
    let Some(nulls) = rows.nulls().filter(|n| n.null_count() > 0) else {
        return Ok(rows.columns().to_vec());
    };
    let null_rows = arrow::array::BooleanArray::new(!nulls.inner(), None);
    rows.columns()
        .iter()
        .map(|c| match c.data_type() {
            DataType::Null => Ok(new_null_array(&DataType::Null, c.len())),
            _ => Ok(compute::nullif(c, &null_rows)?),
        })
        .collect()
}

fn pick(collection: &ArrayRef, offsets: &OffsetBuffer<i32>, counts: Option<&ArrayRef>, spec: &UnnestSpec) -> Picks {
    let counts = counts.map(|c| c.as_primitive::<Int32Type>());
    let len = |row: usize| (offsets[row + 1] - offsets[row]) as usize;
    let (first, last) = (offsets.first().copied().unwrap_or(0), offsets.last().copied().unwrap_or(0));
    let total = (last - first) as usize;
    let whole = |row: usize| if collection.is_valid(row) { !spec.outer || len(row) > 0 } else { !spec.outer && len(row) == 0 };
    let in_place = counts.is_none() && (0..collection.len()).all(whole);
    let mut picks = Picks {
        rows: Vec::with_capacity(total),
        elements: vec![],
        ordinals: vec![],
        in_place: in_place.then_some((first as usize, total)),
    };
    for row in 0..collection.len() {
        let before = picks.rows.len();
        if in_place {
            picks.rows.resize(before + len(row), row as u32);
        } else if collection.is_valid(row) {
            for at in offsets[row]..offsets[row + 1] {
                let times = counts.map_or(1, |c| c.value(at as usize).max(0)) as usize;
                picks.rows.resize(picks.rows.len() + times, row as u32);
                picks.elements.resize(picks.rows.len(), Some(at as u32));
            }
        }
        let padded = spec.outer && picks.rows.len() == before;
        if padded {
            picks.rows.push(row as u32);
            picks.elements.push(None);
        }
        if spec.ordinality {
            let rows = picks.rows.len() - before;
            picks.ordinals.extend((1..=rows as i32).map(|n| (!padded).then_some(n)));
        }
    }
    picks
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use sluice_batch::datum::from_datums;
    use sluice_batch::{Datum, EvalContext, Expr, Field, RowKind, SqlType};

    use super::*;
    use crate::Item;
    use crate::testing::{lines, print};

    fn run(ty: SqlType, values: &[Datum], outer: bool, ordinality: bool, element: Vec<usize>) -> String {
        let ids: Vec<Datum> = (0..values.len()).map(|i| Datum::Int(i as i32)).collect();
        let columns = vec![from_datums(&ids, &TypeKind::Int.nullable()).unwrap(), from_datums(values, &ty).unwrap()];
        let spec = UnnestSpec { expr: Expr::column(1, ty), outer, ordinality, keep: vec![0], element, filter: None };
        let context = EvalContext::default();
        let mut items = vec![];
        Unnest::new(spec).batch(0, Batch::new(columns, values.len()), &mut Output::new(&mut items, &context, 0)).unwrap();
        items.iter().flat_map(|i| if let Item::Batch(b) = i { print(b) } else { vec![] }).collect::<Vec<_>>().join("; ")
    }

    fn array(items: Vec<Datum>) -> Datum {
        Datum::Array(items.into())
    }

    #[test]
    fn arrays() {
        let ty = TypeKind::Array(Box::new(TypeKind::Int.nullable())).nullable();
        let v = [array(vec![Datum::Int(10), Datum::Null]), array(vec![]), Datum::Null, array(vec![Datum::Int(30)])];
        assert_eq!(run(ty.clone(), &v, false, false, vec![0]), lines("+I 0 10; +I 0 NULL; +I 3 30").join("; "));
        assert_eq!(run(ty, &v, true, true, vec![0, 1]), "+I 0 10 1; +I 0 NULL 2; +I 1 NULL NULL; +I 2 NULL NULL; +I 3 30 1");
    }

    #[test]
    fn filtered_by_the_element() {
        let ty = TypeKind::Array(Box::new(TypeKind::Boolean.nullable())).nullable();
        let v = [Some(true), Some(false), None].map(|b| b.map_or(Datum::Null, Datum::Boolean));
        let values = [array(v.to_vec()), Datum::Null, array(vec![v[1].clone(), v[0].clone()])];
        let columns = vec![
            from_datums(&[Datum::Int(0), Datum::Int(1), Datum::Int(2)], &TypeKind::Int.nullable()).unwrap(),
            from_datums(&values, &ty).unwrap(),
        ];
        let filter = Some(Expr::column(1, TypeKind::Boolean.nullable()));
        let spec = UnnestSpec { expr: Expr::column(1, ty), outer: false, ordinality: true, keep: vec![0], element: vec![1, 0], filter };
        let kinds = [RowKind::UpdateBefore, RowKind::Insert, RowKind::UpdateAfter];
        let (context, mut items) = (EvalContext::default(), vec![]);
        let batch = Batch::with_kinds(columns, Some(kinds.into()), 3);
        Unnest::new(spec).batch(0, batch, &mut Output::new(&mut items, &context, 0)).unwrap();
        let rows: Vec<String> = items.iter().flat_map(|i| if let Item::Batch(b) = i { print(b) } else { vec![] }).collect();
        assert_eq!(rows, ["-U 0 1 true", "+U 2 2 true"]);
    }

    #[test]
    fn rows_maps_and_multisets() {
        let row = TypeKind::Row(vec![Field::new("a", TypeKind::Int.nullable()), Field::new("b", TypeKind::STRING.nullable())]);
        let ty = TypeKind::Array(Box::new(row.nullable())).nullable();
        let v = [array(vec![Datum::Row([Datum::Int(1), Datum::string("x")].into()), Datum::Null])];
        assert_eq!(run(ty, &v, false, false, vec![1, 0]), "+I 0 x 1; +I 0 NULL NULL");
        let map = TypeKind::Map(Box::new(TypeKind::STRING.nullable()), Box::new(TypeKind::Int.nullable())).nullable();
        let v = [Datum::Map([(Datum::string("k"), Datum::Int(5)), (Datum::Null, Datum::Null)].into())];
        assert_eq!(run(map, &v, false, false, vec![0, 1]), "+I 0 k 5; +I 0 NULL NULL");
        let bag = TypeKind::Multiset(Box::new(TypeKind::STRING.nullable())).nullable();
        let v = [Datum::Map([(Datum::string("k"), Datum::Int(2)), (Datum::string("l"), Datum::Int(1))].into())];
        assert_eq!(run(bag, &v, false, true, vec![0, 1]), "+I 0 k 1; +I 0 k 2; +I 0 l 3");
    }
}
