//! `FOR SYSTEM_TIME AS OF` a processing time: keys are looked up outside (Flink: `CommonPhysicalLookupJoin`).

use std::sync::Arc;

use sluice_batch::{Error, Expr, Result, SqlType, TypeKind};
use sluice_connect::{LookupRequest, ScanColumn, TableSpec};
use sluice_operators::spec::{LookupJoinSpec, OperatorSpec};
use sluice_sql::catalog::Table;
use sluice_sql::relation::{ColumnDef, Rel, RelKind};

use super::Planner;
use super::join_condition::{Condition, Equality};
use super::scan::{scan_column, table_spec};
use crate::expressions::{columns, conjunction, conjuncts, without_casts};
use crate::node::{Needed, Stream, UpdateBefore, Wants};

/// A table, and what a query makes of its rows: filters and columns, over the scan's columns.
struct Looked<'r> {
    table: &'r Arc<Table>,
    /// Positions in the table's columns.
    columns: &'r [usize],
    hints: &'r [(String, String)],
    filters: Vec<Expr>,
    exprs: Vec<Expr>,
}

impl<'r> Looked<'r> {
    /// # Errors
    /// If the relation is more than a filtered and projected table.
    fn new(rel: &'r Rel) -> Result<Self> {
        let over =
            |exprs: &[Expr], expr: &Expr| expr.map_columns(&|c, ty| exprs.get(c).cloned().unwrap_or_else(|| Expr::column(c, ty.clone())));
        Ok(match &rel.kind {
            RelKind::Scan { table, columns, hints } => {
                let exprs = rel.schema.iter().enumerate().map(|(i, c)| Expr::column(i, c.ty.clone())).collect();
                Self { table, columns, hints, filters: vec![], exprs }
            }
            RelKind::Project { input, exprs } => {
                let below = Self::new(input)?;
                Self { exprs: exprs.iter().map(|e| over(&below.exprs, e)).collect(), ..below }
            }
            RelKind::Filter { input, predicate } => {
                let mut below = Self::new(input)?;
                below.filters.push(over(&below.exprs, predicate));
                below
            }
            RelKind::Watermark { input, .. } => Self::new(input)?,
            RelKind::Shared { input, .. } => Self::new(input)?,
            _ => {
                let message = "what is joined as of a processing time must be a table, or a view that filters and projects one";
                return Err(Error::plan(message).at(rel.span));
            }
        })
    }

    /// The physical column of the table that a column of the scan is.
    fn physical(&self, column: usize) -> Option<usize> {
        match scan_column(self.table, *self.columns.get(column)?) {
            ScanColumn::Physical(i) => Some(i),
            ScanColumn::Metadata(_) => None,
        }
    }

    /// The physical column that an equality's right side is, if the outside compares it as we do: widened, it is the same.
    fn key(&self, equality: &Equality) -> Option<usize> {
        let right = self.exprs_over(&equality.right);
        let plain = without_casts(&right);
        let kept = match (&plain.ty.kind, &right.ty.kind) {
            (from, to) if from == to => true,
            (TypeKind::VarChar(from), TypeKind::VarChar(to)) => from <= to,
            (from, to) => from.is_integer() && to.is_integer() && width(from) <= width(to),
        };
        if equality.null_safe || !kept { None } else { self.physical(plain.as_column()?) }
    }

    /// An expression over the relation's columns as one over the scan's.
    fn exprs_over(&self, expr: &Expr) -> Expr {
        expr.map_columns(&|c, ty| self.exprs.get(c).cloned().unwrap_or_else(|| Expr::column(c, ty.clone())))
    }
}

fn width(kind: &TypeKind) -> u8 {
    match kind {
        TypeKind::TinyInt => 1,
        TypeKind::SmallInt => 2,
        TypeKind::Int => 4,
        _ => 8,
    }
}

/// What is fetched of the table, and where each scan column is among it.
struct Fetched {
    /// Positions in the scan's columns.
    scan: Vec<usize>,
}

impl Fetched {
    fn expr(&self, expr: &Expr) -> Expr {
        expr.map_columns(&|c, ty| Expr::column(self.scan.iter().position(|s| *s == c).unwrap_or_default(), ty.clone()))
    }
}

impl Planner<'_> {
    /// # Errors
    /// If the right side is no table that can be looked up in, or no column of it is compared.
    pub(super) fn lookup_join(
        &mut self,
        rel: &Rel,
        left: &Rel,
        right: &Rel,
        outer: bool,
        condition: &Expr,
        needed: &Needed,
    ) -> Result<Stream> {
        let looked = Looked::new(right)?;
        let spec = table_spec(looked.table, looked.hints);
        let info = sluice_connect::lookup_info(&spec)?;
        let (mut keys, mut rest) = (vec![], vec![]);
        for conjunct in conjuncts(condition) {
            match Condition::split(&conjunct, left, right).equal.pop().filter(|e| looked.key(e).is_some()) {
                Some(key) => keys.push(key),
                None => rest.push(conjunct),
            }
        }
        if keys.is_empty() {
            let message = format!("Temporal table join requires an equality condition on fields of table '{}'", spec.name);
            return Err(Error::plan(message)
                .at(rel.span)
                .hint("compare a column of the table, as it is, with = to something of the left side"));
        }
        let width = left.schema.len();
        let used: Needed = needed.iter().copied().chain(rest.iter().flat_map(columns)).collect();
        let (of_left, of_right): (Vec<usize>, Vec<usize>) = used.iter().partition(|c| **c < width);
        let (stream, left_keys) = self.side(left, &of_left.into_iter().collect(), keys.iter().map(|k| &k.left))?;
        let of_right: Vec<usize> = of_right.into_iter().map(|c| c - width).collect();
        self.looked_up(rel, right, &looked, spec, info.cache, outer, Sides { stream, left_keys, keys, rest, of_right, width })
    }

    fn looked_up(
        &mut self,
        rel: &Rel,
        right: &Rel,
        looked: &Looked<'_>,
        table: TableSpec,
        cache: Option<sluice_connect::CacheOptions>,
        outer: bool,
        sides: Sides,
    ) -> Result<Stream> {
        let Sides { stream, left_keys, keys, rest, of_right, width } = sides;
        let project: Vec<Expr> = of_right.iter().map(|c| looked.exprs[*c].clone()).collect();
        let scan: Needed = project.iter().chain(&looked.filters).flat_map(columns).collect();
        let fetched = Fetched { scan: scan.into_iter().collect() };
        let physical = fetched.scan.iter().map(|c| {
            looked.physical(*c).ok_or_else(|| Error::unsupported("a METADATA column of a table that is looked up").at(right.span))
        });
        let physical = physical.collect::<Result<Vec<usize>>>()?;
        let left_node = self.node(stream.node);
        let left_types = left_node.types();
        let mut map = stream.map.clone();
        map.extend((0..right.schema.len()).map(|c| of_right.iter().position(|r| *r == c).map(|at| left_types.len() + at)));
        let mut schema: Vec<ColumnDef> = (*left_node.schema).clone();
        schema.extend(of_right.iter().map(|c| rel.schema[width + c].clone()));
        let both = Stream { node: stream.node, map: map.clone() };
        let key_columns: Vec<usize> = keys.iter().filter_map(|k| looked.key(k)).collect();
        // One row at most: what told the left rows apart still does.
        let unique = table.primary_key.as_ref().is_some_and(|k| k.iter().all(|c| key_columns.contains(c)));
        let kept = if unique { left_node.keys.clone() } else { vec![] };
        let (kinds, updating) = (left_node.kinds, !left_node.kinds.insert_only());
        let types: Vec<SqlType> = physical.iter().map(|c| table.physical[*c].ty.clone()).collect();
        let spec = LookupJoinSpec {
            request: LookupRequest {
                keys: key_columns.iter().zip(&left_keys).map(|(c, l)| (*c, left_types[*l].clone())).collect(),
                columns: physical,
                time_zone: self.settings.time_zone,
            },
            table,
            left: left_types,
            left_keys,
            fetched: types,
            filter: conjunction(looked.filters.iter().map(|f| fetched.expr(f)).collect()),
            project: project.iter().map(|e| fetched.expr(e)).collect(),
            condition: conjunction(rest.iter().map(|e| both.expr(e)).collect::<Result<Vec<_>>>()?),
            outer,
            cache,
        };
        let inputs = vec![(stream.node, if updating { Wants::Needs } else { Wants::AsConsumers })];
        let node = self.operator(OperatorSpec::LookupJoin(spec), inputs, schema, |n| {
            n.kinds = kinds;
            n.keys = kept;
            n.update_before = if updating { UpdateBefore::Forced } else { UpdateBefore::Never };
        });
        Ok(Stream { node, map })
    }
}

/// What is known of both sides.
struct Sides {
    stream: Stream,
    left_keys: Vec<usize>,
    keys: Vec<Equality>,
    /// Over both sides' columns.
    rest: Vec<Expr>,
    /// Columns of the right side that are used.
    of_right: Vec<usize>,
    /// Columns of the left side.
    width: usize,
}
