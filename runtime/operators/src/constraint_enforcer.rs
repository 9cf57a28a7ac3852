//! What a sink's column types promise: NOT NULL and lengths, also inside rows and collections (Flink: `ConstraintEnforcer`).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, StringArray, StructArray};
use sluice_batch::types::{MAX_LENGTH, row_fields};
use sluice_batch::{Batch, Error, Result, SqlType, TypeKind};

use crate::spec::ConstraintSpec;
use crate::{Operator, Output};

pub struct ConstraintEnforcer {
    spec: ConstraintSpec,
}

impl ConstraintEnforcer {
    pub fn new(spec: ConstraintSpec) -> Self {
        Self { spec }
    }
}

impl Operator for ConstraintEnforcer {
    fn name(&self) -> &'static str {
        "ConstraintEnforcer"
    }

    fn batch(&mut self, _input: usize, batch: Batch, out: &mut Output<'_>) -> Result<()> {
        let mut walk = Walk { drop: self.spec.drop_null_rows, dropped: vec![], collections: false, lengths: None };
        for (column, name) in &self.spec.not_null {
            walk.not_null(batch.column(*column), &Owner::Rows, &|_| name.clone())?;
        }
        let mut columns = batch.columns().to_vec();
        for l in &self.spec.lengths {
            if let Some(cut) = length(&columns[l.column], &l.ty.kind, l.fail, &|_| l.name.clone())? {
                columns[l.column] = cut;
            }
        }
        for n in &self.spec.nested {
            (walk.collections, walk.lengths) = (n.collections, n.lengths);
            if let Some(changed) = walk.children(&columns[n.column], &n.ty.kind, &Owner::Rows, &|_| n.name.clone())? {
                columns[n.column] = changed;
            }
        }
        let batch = batch.replace_columns(columns);
        if walk.dropped.is_empty() {
            out.emit(batch);
        } else {
            walk.dropped.resize(batch.rows(), false);
            out.emit(batch.filter(&walk.dropped.iter().map(|d| Some(!d)).collect::<BooleanArray>())?);
        }
        Ok(())
    }
}

/// The input row that a nested value belongs to.
enum Owner {
    Rows,
    /// `None`: the value is not part of any row (it lies under a NULL).
    Of(Vec<Option<usize>>),
}

impl Owner {
    fn row(&self, at: usize) -> Option<usize> {
        match self {
            Owner::Rows => Some(at),
            Owner::Of(rows) => rows[at],
        }
    }
}

/// Names the place of a value for errors: `a.b[0].c`.
type Path<'a> = &'a dyn Fn(usize) -> String;

struct Walk {
    drop: bool,
    /// Rows to drop; empty if none are.
    dropped: Vec<bool>,
    collections: bool,
    lengths: Option<bool>,
}

impl Walk {
    fn not_null(&mut self, array: &ArrayRef, owner: &Owner, path: Path<'_>) -> Result<()> {
        if array.null_count() == 0 {
            return Ok(());
        }
        for at in (0..array.len()).filter(|at| array.is_null(*at)) {
            let Some(row) = owner.row(at) else { continue };
            if !self.drop {
                return Err(Error::runtime(format!(
                    "Column '{}' is NOT NULL, however, a null value is being written into it. You can set job configuration \
                     'table.exec.sink.not-null-enforcer'='DROP' to suppress this exception and drop such records silently.",
                    path(at)
                )));
            }
            if self.dropped.len() <= row {
                self.dropped.resize(row + 1, false);
            }
            self.dropped[row] = true;
        }
        Ok(())
    }

    /// Checks a nested value and what is in it; the changed column if something was cut or padded.
    fn value(&mut self, array: &ArrayRef, ty: &SqlType, owner: &Owner, path: Path<'_>) -> Result<Option<ArrayRef>> {
        if !ty.nullable {
            self.not_null(array, owner, path)?;
        }
        if let Some(fail) = self.lengths
            && let Some(cut) = length(array, &ty.kind, fail, path)?
        {
            return Ok(Some(cut));
        }
        self.children(array, &ty.kind, owner, path)
    }

    fn children(&mut self, array: &ArrayRef, kind: &TypeKind, owner: &Owner, path: Path<'_>) -> Result<Option<ArrayRef>> {
        match kind {
            TypeKind::Row(fields) => {
                let rows = array.as_struct();
                let inner = Owner::Of((0..rows.len()).map(|i| if rows.is_valid(i) { owner.row(i) } else { None }).collect());
                let mut columns = rows.columns().to_vec();
                let mut changed = false;
                for (i, f) in fields.iter().enumerate() {
                    if let Some(new) = self.value(&columns[i], &f.ty, &inner, &|at| format!("{}.{}", path(at), f.name))? {
                        columns[i] = new;
                        changed = true;
                    }
                }
                let nulls = rows.nulls().cloned();
                Ok(if changed { Some(Arc::new(StructArray::try_new(row_fields(fields), columns, nulls)?)) } else { None })
            }
            TypeKind::Array(element) if self.collections => {
                let list = array.as_list::<i32>();
                let (inner, places) = elements(list, list.offsets(), list.values().len(), owner);
                let place = |at: usize| format!("{}[{}]", path(places[at].0), places[at].1);
                self.collection(list.values(), element, &inner, &place)?;
                Ok(None)
            }
            TypeKind::Map(key, value) if self.collections => {
                let map = array.as_map();
                let (inner, places) = elements(map, map.offsets(), map.entries().len(), owner);
                self.collection(map.keys(), key, &inner, &|at| format!("{}[key]", path(places[at].0)))?;
                self.collection(map.values(), value, &inner, &|at| format!("{}[value]", path(places[at].0)))?;
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// Elements are checked but, as in Flink, never cut or padded.
    fn collection(&mut self, values: &ArrayRef, ty: &SqlType, owner: &Owner, path: Path<'_>) -> Result<()> {
        let lengths = self.lengths;
        self.lengths = lengths.filter(|fail| *fail);
        let result = self.value(values, ty, owner, path);
        self.lengths = lengths;
        result.map(|_| ())
    }
}

/// For each element its input row, and its list and position in it.
fn elements(list: &dyn Array, offsets: &[i32], values: usize, owner: &Owner) -> (Owner, Vec<(usize, usize)>) {
    let (mut rows, mut places) = (vec![None; values], vec![(0, 0); values]);
    for at in (0..list.len()).filter(|at| list.is_valid(*at)) {
        let (from, to) = (offsets[at] as usize, offsets[at + 1] as usize);
        for element in from..to {
            rows[element] = owner.row(at);
            places[element] = (at, element - from);
        }
    }
    (Owner::Of(rows), places)
}

fn too_long(kind: &TypeKind, actual: usize, name: String) -> Error {
    Error::runtime(format!(
        "Column '{name}' is {kind}, however, a string of length {actual} is being written into it. You can set job configuration \
         'table.exec.sink.type-length-enforcer' to control this behaviour."
    ))
}

/// Brings strings and bytes to the length of their type; `None` if all have it.
fn length(array: &ArrayRef, kind: &TypeKind, fail: bool, path: Path<'_>) -> Result<Option<ArrayRef>> {
    let (n, pad) = match kind {
        TypeKind::Char(n) | TypeKind::Binary(n) => (*n, true),
        TypeKind::VarChar(n) | TypeKind::VarBinary(n) if *n < MAX_LENGTH => (*n, false),
        _ => return Ok(None),
    };
    let n = n as usize;
    let wrong = |len: usize| len > n || (pad && len < n);
    if kind.is_character() {
        let Some(strings) = array.as_string_opt::<i32>() else { return Ok(None) };
        let bad = strings.iter().position(|s| s.is_some_and(|s| wrong(chars(s))));
        let Some(at) = bad else { return Ok(None) };
        if fail {
            return Err(too_long(kind, chars(strings.value(at)), path(at)));
        }
        let fit = |s: &str| match chars(s) {
            len if len > n => s.chars().take(n).collect(),
            len if pad && len < n => format!("{s}{}", " ".repeat(n - len)),
            _ => s.to_owned(),
        };
        return Ok(Some(Arc::new(strings.iter().map(|s| s.map(fit)).collect::<StringArray>())));
    }
    let Some(bytes) = array.as_binary_opt::<i32>() else { return Ok(None) };
    let Some(at) = bytes.iter().position(|b| b.is_some_and(|b| wrong(b.len()))) else { return Ok(None) };
    if fail {
        return Err(too_long(kind, bytes.value(at).len(), path(at)));
    }
    let fit = |b: &[u8]| {
        let mut b = b.to_vec();
        if wrong(b.len()) {
            b.resize(n, 0);
        }
        b
    };
    Ok(Some(Arc::new(bytes.iter().map(|b| b.map(fit)).collect::<BinaryArray>())))
}

fn chars(s: &str) -> usize {
    if s.is_ascii() { s.len() } else { s.chars().count() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use sluice_batch::datum::from_datums;
    use sluice_batch::{Datum, EvalContext, Field};

    use super::*;
    use crate::Item;
    use crate::spec::{LengthConstraint, NestedConstraint};
    use crate::testing::print;

    fn run(spec: ConstraintSpec, ty: &SqlType, values: &[Datum]) -> String {
        let batch = Batch::new(vec![from_datums(values, ty).unwrap()], values.len());
        let (context, mut items) = (EvalContext::default(), vec![]);
        match ConstraintEnforcer::new(spec).batch(0, batch, &mut Output::new(&mut items, &context, 0)) {
            Err(e) => e.message().split(',').next().unwrap().to_owned(),
            Ok(()) => items.iter().flat_map(|i| if let Item::Batch(b) = i { print(b) } else { vec![] }).collect::<Vec<_>>().join("; "),
        }
    }

    #[test]
    fn not_null_and_lengths() {
        let ty = TypeKind::Char(2).nullable();
        let values = [Datum::string("a"), Datum::string("äbc"), Datum::Null];
        let length = |fail| LengthConstraint { column: 0, name: "c".into(), ty: ty.clone(), fail };
        let not_null = vec![(0, "c".to_owned())];
        let drop = ConstraintSpec { not_null: not_null.clone(), drop_null_rows: true, ..Default::default() };
        assert_eq!(run(drop, &ty, &values), "+I a; +I äbc");
        assert_eq!(run(ConstraintSpec { not_null, ..Default::default() }, &ty, &values), "Column 'c' is NOT NULL");
        let fail = ConstraintSpec { lengths: vec![length(true)], ..Default::default() };
        assert_eq!(run(fail, &ty, &values), "Column 'c' is CHAR(2)");
        let pad = ConstraintSpec { lengths: vec![length(false)], ..Default::default() };
        assert_eq!(run(pad, &ty, &values), "+I a ; +I äb; +I NULL");
    }

    #[test]
    fn nested() {
        let inner = TypeKind::Row(vec![Field::new("x", TypeKind::VarChar(2).not_null())]).nullable();
        let ty = TypeKind::Array(Box::new(inner)).nullable();
        let row = |d: Datum| Datum::Row([d].into());
        let spec = |collections, lengths, drop| ConstraintSpec {
            nested: vec![NestedConstraint { column: 0, name: "a".into(), ty: ty.clone(), collections, lengths }],
            drop_null_rows: drop,
            ..Default::default()
        };
        let good = Datum::Array([row(Datum::string("ok")), Datum::Null].into());
        let null = [good.clone(), Datum::Array([row(Datum::string("a")), row(Datum::Null)].into())];
        assert_eq!(run(spec(true, None, false), &ty, &null), "Column 'a[1].x' is NOT NULL");
        assert_eq!(run(spec(true, None, true), &ty, &null), "+I [{x: ok}, ]");
        assert_eq!(run(spec(false, None, false), &ty, &null).matches("+I").count(), 2);
        let long = [good, Datum::Array([row(Datum::string("abc"))].into())];
        assert_eq!(run(spec(true, Some(true), false), &ty, &long), "Column 'a[0].x' is VARCHAR(2)");
        assert_eq!(run(spec(true, Some(false), false), &ty, &long).matches("abc").count(), 1);
    }
}
