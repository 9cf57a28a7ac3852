//! ORDER BY and LIMIT.

use sluice_batch::{Error, Result};
use sluice_operators::spec::{OperatorSpec, SortSpec, TemporalSortSpec};
use sluice_sql::relation::{Rel, RelKind};

use super::Planner;
use super::over::remap_keys;
use crate::node::{Kinds, Needed, Stream, UpdateBefore, Wants};
use crate::time::{is_proctime, is_rowtime};

impl Planner<'_> {
    pub(super) fn sort(&mut self, rel: &Rel, needed: &Needed) -> Result<Stream> {
        let RelKind::Sort { input, keys, limit, offset } = &rel.kind else { return Err(Error::plan("internal: not a sort")) };
        if let Some(limit) = limit {
            return self.limit(rel, input, keys, *limit, *offset, needed);
        }
        let used: Needed = needed.iter().copied().chain(keys.iter().map(|k| k.column)).collect();
        let below = self.translate(input, &used)?;
        if keys.is_empty() && *offset == 0 {
            return Ok(below);
        }
        let below = self.narrow_to(&below, &used, &input.schema)?;
        let node = self.node(below.node);
        let (types, schema, bounded, insert_only) = (node.types(), (*node.schema).clone(), node.bounded, node.kinds.insert_only());
        let at = |c: usize| below.column(c);
        if let Some(first) = keys.first().filter(|k| *offset == 0 && !k.descending && insert_only) {
            let column = &input.schema[first.column];
            if is_rowtime(column) || is_proctime(column) {
                let spec = TemporalSortSpec {
                    input: types,
                    time: below.column(first.column)?,
                    proctime: is_proctime(column),
                    then_by: remap_keys(&keys[1..], &at)?,
                };
                let node = self.operator(OperatorSpec::TemporalSort(spec), vec![(below.node, Wants::AsConsumers)], schema, |n| {
                    n.update_before = UpdateBefore::Never;
                    n.state = "rows that wait for the watermark".into();
                });
                return Ok(Stream { node, map: below.map });
            }
        }
        if !bounded {
            return Err(match keys.is_empty() {
                true => Error::plan("FETCH is missed, which on streaming table is not supported currently.").hint("add LIMIT"),
                false => Error::plan("Sort on a non-time-attribute field is not supported.")
                    .hint("an unbounded stream can only be sorted by a time attribute, ascending; or add LIMIT, or bound the sources"),
            });
        }
        let spec = SortSpec { input: types, keys: remap_keys(keys, &at)?, limit: None, offset: *offset };
        let node = self.operator(OperatorSpec::Sort(spec), vec![(below.node, Wants::Needs)], schema, |n| {
            n.kinds = Kinds::INSERT_ONLY;
            n.update_before = UpdateBefore::Never;
            n.state = "all rows of a bounded input".into();
        });
        Ok(Stream { node, map: below.map })
    }
}
