//! Watermarks move from above a table's computed columns down to its scan, so that the source makes them per split
//! (Flink: `PushWatermarkIntoTableSourceScanAcrossCalcRule`).

use std::sync::Arc;

use sluice_sql::relation::{Rel, RelKind};

use super::{map_inputs, placeholder, substitute};
use crate::expressions::columns;

pub(super) fn to_scans(rel: Rel) -> Rel {
    let mut rel = map_inputs(rel, &mut to_scans);
    let RelKind::Watermark { input, column, expr } = &mut rel.kind else { return rel };
    let RelKind::Project { input: below, exprs } = &mut input.kind else { return rel };
    let inlined = substitute(expr, exprs);
    let used = columns(&inlined);
    let rowtime = exprs.get(*column).and_then(|e| e.as_column());
    let Some(at) = rowtime.or_else(|| used.first().copied()) else { return rel };
    if !inlined.is_deterministic() {
        return rel;
    }
    let below = std::mem::replace(&mut **below, placeholder());
    let mut schema = (*below.schema).clone();
    if rowtime.is_some() {
        schema[at].time = rel.schema.get(*column).and_then(|c| c.time);
    }
    let span = rel.span;
    let watermark = Rel { schema: Arc::new(schema), span, kind: RelKind::Watermark { input: Box::new(below), column: at, expr: inlined } };
    let exprs = std::mem::take(exprs);
    Rel { schema: rel.schema, span, kind: RelKind::Project { input: Box::new(to_scans(watermark)), exprs } }
}
