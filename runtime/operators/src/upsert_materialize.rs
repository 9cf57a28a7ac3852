//! Rows by a sink's key when the query's upsert key is another one (Flink: `SinkUpsertMaterializer`), and `ON CONFLICT`
//! (Flink: `WatermarkCompactingSinkMaterializer`).

use std::collections::{BTreeMap, BTreeSet};

use sluice_batch::{Batch, Error, Millis, Result, RowKind};

use crate::group_index::KeyMap;
use crate::rows::{Changelog, RowCodec};
use crate::session_tvf::row_kind;
use crate::spec::UpsertMaterializeSpec;
use crate::state::{SnapshotReader, SnapshotWriter, key_prefix, put_bytes, take_bytes, take_i64, take_row};
use crate::{Operator, Output};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Conflict {
    /// The last row wins, at once.
    Deduplicate,
    /// The first row wins when the watermark has passed.
    Nothing,
    Error,
}

pub struct UpsertMaterialize {
    spec: UpsertMaterializeSpec,
    conflict: Conflict,
    keys: RowCodec,
    ids: Option<RowCodec>,
    rows: RowCodec,
    map: KeyMap,
    history: Vec<History>,
    /// Rows that wait for the next watermark: sink key, kind, id, row.
    pending: Vec<(u32, RowKind, Box<[u8]>, Box<[u8]>)>,
    next: u64,
    bytes: usize,
    last_cleanup: Millis,
}

/// The rows of one sink key, in order of arrival.
#[derive(Default)]
struct History {
    rows: BTreeMap<u64, (Box<[u8]>, Box<[u8]>)>,
    /// (id, place in `rows`), so that a row is found without looking at all.
    places: BTreeSet<(Box<[u8]>, u64)>,
    changed: Millis,
}

impl History {
    fn find(&self, id: &[u8]) -> Option<u64> {
        if self.rows.len() <= 4 {
            return self.rows.iter().find(|(_, (i, _))| **i == *id).map(|(at, _)| *at);
        }
        self.places.range((Box::from(id), 0)..=(Box::from(id), u64::MAX)).next().map(|(_, at)| *at)
    }

    fn insert(&mut self, at: u64, id: &[u8], row: &[u8]) {
        self.rows.insert(at, (id.into(), row.into()));
        self.places.insert((id.into(), at));
    }

    fn remove(&mut self, at: u64) {
        if let Some((id, _)) = self.rows.remove(&at) {
            self.places.remove(&(id, at));
        }
    }
}

impl UpsertMaterialize {
    pub fn new(spec: UpsertMaterializeSpec) -> Result<Self> {
        let conflict = match spec.on_conflict.as_deref() {
            None | Some("DEDUPLICATE") => Conflict::Deduplicate,
            Some("NOTHING") => Conflict::Nothing,
            Some("ERROR") => Conflict::Error,
            Some(other) => return Err(Error::unsupported(format!("ON CONFLICT DO {other}"))),
        };
        Ok(Self {
            conflict,
            keys: RowCodec::project(&spec.input, &spec.sink_key)?,
            ids: spec.upsert_key.as_ref().map(|k| RowCodec::project(&spec.input, k)).transpose()?,
            rows: RowCodec::new(&spec.input)?,
            map: KeyMap::default(),
            history: vec![],
            pending: vec![],
            next: 0,
            bytes: 0,
            last_cleanup: 0,
            spec,
        })
    }

    fn slot(&mut self, key: &[u8], now: Millis) -> u32 {
        let (slot, _) = self.map.insert(key);
        if self.history.len() <= slot as usize {
            self.history.resize_with(slot as usize + 1, History::default);
        }
        let history = &mut self.history[slot as usize];
        if self.spec.state_ttl > 0 && now >= history.changed.saturating_add(self.spec.state_ttl) {
            *history = History::default();
        }
        history.changed = now;
        slot
    }

    fn forget_if_empty(&mut self, slot: u32) {
        if self.history[slot as usize].rows.is_empty() {
            self.map.remove(slot);
        }
    }

    fn add(&mut self, slot: u32, id: &[u8], row: &[u8]) {
        let history = &mut self.history[slot as usize];
        let known = if self.ids.is_some() { history.find(id) } else { None };
        self.bytes += row.len() + id.len() + 100;
        match known.and_then(|at| history.rows.get_mut(&at)) {
            Some(place) => place.1 = row.into(),
            None => {
                history.insert(self.next, id, row);
                self.next += 1;
            }
        }
    }

    /// Takes a row back; whether it was there.
    fn retract(&mut self, slot: u32, id: &[u8]) -> bool {
        let history = &mut self.history[slot as usize];
        let Some(at) = history.find(id) else { return false };
        self.bytes = self.bytes.saturating_sub(history.rows.get(&at).map_or(0, |r| r.1.len() + id.len() + 100));
        history.remove(at);
        true
    }

    fn at_once(&mut self, batch: &Batch, out: &mut Output<'_>) -> Result<()> {
        let (keys, rows) = (self.keys.encode_columns(batch, &self.spec.sink_key)?, self.rows.encode(batch.columns())?);
        let ids = self.encode_ids(batch)?;
        let mut changes = Changelog::default();
        for row in 0..batch.rows() {
            let slot = self.slot(keys.get(row), out.now());
            let id = ids.as_ref().map_or(rows.get(row), |i| i.get(row));
            if batch.kind(row).is_addition() {
                let first = self.history[slot as usize].rows.is_empty();
                self.add(slot, id, rows.get(row));
                changes.input(if first { RowKind::Insert } else { RowKind::UpdateAfter }, row);
            } else if self.retract(slot, id) {
                match self.history[slot as usize].rows.last_key_value() {
                    None => changes.input(RowKind::Delete, row),
                    Some((_, (_, latest))) => changes.stored(RowKind::UpdateAfter, latest),
                }
            }
            self.forget_if_empty(slot);
        }
        out.emit(changes.finish(&self.rows, batch.columns())?);
        Ok(())
    }

    fn encode_ids(&self, batch: &Batch) -> Result<Option<crate::rows::EncodedRows>> {
        match (&self.ids, &self.spec.upsert_key) {
            (Some(codec), Some(columns)) => Ok(Some(codec.encode_columns(batch, columns)?)),
            _ => Ok(None),
        }
    }

    fn hold_back(&mut self, batch: &Batch, now: Millis) -> Result<()> {
        let (keys, rows) = (self.keys.encode_columns(batch, &self.spec.sink_key)?, self.rows.encode(batch.columns())?);
        let ids = self.encode_ids(batch)?;
        for row in 0..batch.rows() {
            let slot = self.slot(keys.get(row), now);
            let id = ids.as_ref().map_or(rows.get(row), |i| i.get(row));
            self.pending.push((slot, batch.kind(row), id.into(), rows.get(row).into()));
        }
        Ok(())
    }

    /// Settles what came since the last watermark, key by key.
    fn settle(&mut self, out: &mut Output<'_>) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        let mut touched: Vec<(u32, Option<Box<[u8]>>)> = vec![];
        let mut seen = BTreeSet::new();
        for (slot, kind, id, row) in &pending {
            if seen.insert(*slot) {
                let before = self.history[*slot as usize].rows.first_key_value().map(|(_, (_, r))| r.clone());
                touched.push((*slot, before));
            }
            if kind.is_addition() {
                self.add(*slot, id, row);
            } else {
                self.retract(*slot, id);
            }
        }
        let mut changes = Changelog::default();
        for (slot, before) in touched {
            let history = &mut self.history[slot as usize];
            if history.rows.len() > 1 {
                if self.conflict == Conflict::Error {
                    return Err(Error::runtime(
                        "Primary key constraint violation: multiple distinct records with the same primary key detected",
                    )
                    .hint("use ON CONFLICT DO NOTHING to keep the first record"));
                }
                let later: Vec<u64> = history.rows.keys().skip(1).copied().collect();
                later.into_iter().for_each(|at| history.remove(at));
            }
            let after = history.rows.first_key_value().map(|(_, (_, r))| r.clone());
            match (&before, &after) {
                (None, Some(row)) => changes.stored(RowKind::Insert, row),
                (Some(row), None) => changes.stored(RowKind::Delete, row),
                (Some(old), Some(new)) if old != new => changes.stored(RowKind::UpdateAfter, new),
                _ => {}
            }
            self.forget_if_empty(slot);
        }
        if !changes.is_empty() {
            out.emit(changes.finish(&self.rows, &[])?);
        }
        Ok(())
    }
}

impl Operator for UpsertMaterialize {
    fn name(&self) -> &'static str {
        "SinkUpsertMaterializer"
    }

    fn batch(&mut self, _input: usize, batch: Batch, out: &mut Output<'_>) -> Result<()> {
        if self.conflict == Conflict::Deduplicate { self.at_once(&batch, out) } else { self.hold_back(&batch, out.now()) }
    }

    fn watermark(&mut self, _now: Millis, out: &mut Output<'_>) -> Result<()> {
        if self.pending.is_empty() { Ok(()) } else { self.settle(out) }
    }

    fn wants_ticks(&self) -> bool {
        self.spec.state_ttl > 0
    }

    fn tick(&mut self, now: Millis, _out: &mut Output<'_>) -> Result<()> {
        let ttl = self.spec.state_ttl;
        if self.pending.is_empty() && now >= self.last_cleanup.saturating_add((ttl / 4).max(1000)) {
            self.last_cleanup = now;
            let expired = |s: &u32| now >= self.history[*s as usize].changed.saturating_add(ttl);
            let slots: Vec<u32> = self.map.slots().filter(expired).collect();
            for slot in slots {
                self.history[slot as usize] = History::default();
                self.map.remove(slot);
            }
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.map.memory() + self.bytes
    }

    fn snapshot(&self, out: &mut SnapshotWriter) -> Result<()> {
        for slot in self.map.slots() {
            for (at, (id, row)) in &self.history[slot as usize].rows {
                let mut key = vec![];
                put_bytes(&mut key, self.map.key(slot));
                key.extend_from_slice(&at.to_be_bytes());
                let mut value = self.history[slot as usize].changed.to_be_bytes().to_vec();
                put_bytes(&mut value, id);
                put_bytes(&mut value, row);
                out.put("rows", key, value);
            }
        }
        for (at, (slot, kind, id, row)) in self.pending.iter().enumerate() {
            let (mut key, mut value) = (vec![], vec![*kind as u8]);
            put_bytes(&mut key, self.map.key(*slot));
            key.extend_from_slice(&(at as u64).to_be_bytes());
            put_bytes(&mut value, id);
            put_bytes(&mut value, row);
            out.put("pending", key, value);
        }
        Ok(())
    }

    fn shard_key<'k>(&self, _table: &str, key: &'k [u8]) -> Result<&'k [u8]> {
        key_prefix(key)
    }

    fn restore(&mut self, input: &mut SnapshotReader<'_>) -> Result<()> {
        for (mut key, mut value) in input.rows("rows") {
            let sink_key = take_row(&mut key)?;
            let (at, changed) = (take_i64(&mut key)? as u64, take_i64(&mut value)?);
            let slot = self.slot(sink_key, changed) as usize;
            self.history[slot].changed = changed;
            let (id, row) = (take_row(&mut value)?, take_row(&mut value)?);
            self.bytes += row.len() + id.len() + 100;
            self.history[slot].insert(at, id, row);
            self.next = self.next.max(at + 1);
        }
        let mut pending = vec![];
        for (mut key, mut value) in input.rows("pending") {
            let kind = row_kind(take_bytes(&mut value, 1)?[0])?;
            let slot = self.slot(take_row(&mut key)?, 0);
            let at = take_i64(&mut key)?;
            pending.push((at, (slot, kind, take_row(&mut value)?.into(), take_row(&mut value)?.into())));
        }
        pending.sort_by_key(|p| p.0);
        self.pending.extend(pending.into_iter().map(|p| p.1));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assert_lines;
    use crate::spec::OperatorSpec;
    use crate::testing::{Harness, types};

    fn spec(upsert_key: Option<Vec<usize>>, on_conflict: Option<&str>) -> OperatorSpec {
        OperatorSpec::UpsertMaterialize(UpsertMaterializeSpec {
            input: types("int string int"),
            sink_key: vec![0],
            upsert_key,
            on_conflict: on_conflict.map(str::to_owned),
            state_ttl: 0,
        })
    }

    #[test]
    fn the_last_row_of_a_sink_key_shows() {
        let t = types("int string int");
        let mut h = Harness::new(spec(Some(vec![1]), None));
        assert_lines!(h.send(0, &t, "1 a 1; 1 b 2; +U 1 a 3; -D 1 x 9"), "+I 1 a 1; +U 1 b 2; +U 1 a 3");
        h.restart();
        assert_lines!(h.send(0, &t, "-D 1 b 2; -D 1 a 3; -D 1 a 3"), "+U 1 a 3; -D 1 a 3");
        let mut h = Harness::new(spec(None, None));
        assert_lines!(h.send(0, &t, "1 a 1; 1 a 1; -U 1 a 1; 1 c 1; -D 1 c 1"), "+I 1 a 1; +U 1 a 1; +U 1 a 1; +U 1 c 1; +U 1 a 1");
        let many: Vec<String> = (0..20).map(|i| format!("2 k{i} 1")).collect();
        h.send(0, &t, &many.join("; "));
        assert_lines!(h.send(0, &t, "-D 2 k3 1; -D 2 k19 1"), "+U 2 k19 1; +U 2 k18 1");
    }

    #[test]
    fn on_conflict() {
        let t = types("int string int");
        let mut h = Harness::new(spec(None, Some("NOTHING")));
        assert_lines!(h.send(0, &t, "1 a 1; 1 b 2; 2 c 3; 3 d 1; -D 3 d 1"), "");
        h.restart();
        assert_lines!(h.watermark(1), "+I 1 a 1; +I 2 c 3");
        h.send(0, &t, "1 e 1; -D 2 c 3; 2 c 4");
        assert_lines!(h.watermark(2), "+U 2 c 4");
        let mut h = Harness::new(spec(None, Some("ERROR")));
        h.send(0, &t, "1 a 1; -U 1 a 1; +U 1 b 1");
        assert_lines!(h.watermark(1), "+I 1 b 1");
    }
}
