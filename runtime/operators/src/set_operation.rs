//! INTERSECT and EXCEPT, with and without ALL, of two inputs that may take rows back.

use sluice_batch::{Batch, Result, RowKind};

use crate::group_index::KeyMap;
use crate::memory::{Memory, Share};
use crate::rows::{Changelog, RowCodec};
use crate::spec::SetOperationSpec;
use crate::spill::{self, KeyedState};
use crate::state::{DeltaWriter, SnapshotReader, SnapshotWriter, take_i64};
use crate::{Operator, Output};

pub struct SetOperation {
    spec: SetOperationSpec,
    codec: RowCodec,
    rows: KeyMap,
    /// How often each row is there on the left and on the right.
    counts: Vec<[i64; 2]>,
    share: Option<Share>,
}

impl SetOperation {
    pub fn new(spec: SetOperationSpec) -> Result<Self> {
        Ok(Self { codec: RowCodec::new(&spec.input)?, rows: KeyMap::default(), counts: vec![], share: None, spec })
    }

    /// How often the row is in the result.
    fn result(&self, [left, right]: [i64; 2]) -> i64 {
        let (left, right) = (left.max(0), right.max(0));
        match (self.spec.except, self.spec.all) {
            (false, true) => left.min(right),
            (false, false) => left.min(right).min(1),
            (true, true) => (left - right).max(0),
            (true, false) => i64::from(left > 0 && right == 0),
        }
    }

    /// The counts of a row as they stand in a snapshot.
    fn encode(&self, slot: u32) -> Vec<u8> {
        let mut value = vec![];
        self.encode_slot(slot, &mut value);
        value
    }

    fn slot(&mut self, row: &[u8]) -> u32 {
        let (slot, new) = self.rows.insert(row);
        if new {
            self.set(slot, [0; 2]);
        }
        slot
    }

    fn set(&mut self, slot: u32, counts: [i64; 2]) {
        self.counts.resize(self.counts.len().max(slot as usize + 1), [0; 2]);
        self.counts[slot as usize] = counts;
    }
}

impl Operator for SetOperation {
    fn name(&self) -> &'static str {
        "SetOperation"
    }

    fn batch(&mut self, input: usize, batch: Batch, out: &mut Output<'_>) -> Result<()> {
        let encoded = self.codec.encode(batch.columns())?;
        self.load((0..batch.rows()).map(|row| encoded.get(row)))?;
        let mut changes = Changelog::default();
        for row in 0..batch.rows() {
            let slot = self.slot(encoded.get(row));
            let before = self.counts[slot as usize];
            let mut after = before;
            after[input] += if batch.kind(row).is_addition() { 1 } else { -1 };
            self.counts[slot as usize] = after;
            let (old, new) = (self.result(before), self.result(after));
            for _ in old..new {
                changes.input(RowKind::Insert, row);
            }
            for _ in new..old {
                changes.input(RowKind::Delete, row);
            }
            if after == [0; 2] {
                self.rows.remove(slot);
            }
        }
        out.emit(changes.finish(&self.codec, batch.columns())?);
        KeyedState::make_room(self)
    }

    fn spill(&mut self, memory: &Memory) -> bool {
        self.share = spill::share(memory);
        true
    }

    fn make_room(&mut self) -> Result<()> {
        KeyedState::make_room(self)
    }

    fn state_bytes(&self) -> usize {
        self.rows.memory() + self.counts.len() * 16
    }

    fn snapshot(&self, out: &mut SnapshotWriter) -> Result<()> {
        for slot in self.rows.slots() {
            out.put("rows", self.rows.key(slot), self.encode(slot));
        }
        self.stored(&mut |key, value| {
            out.put("rows", key, value);
            Ok(())
        })
    }

    fn track_changes(&mut self) {
        self.rows.track();
    }

    fn delta(&mut self, out: &mut DeltaWriter) -> Result<bool> {
        Ok(self.write_changes("rows", out))
    }

    fn restores_in_parts(&self) -> bool {
        true
    }

    fn restore(&mut self, input: &mut SnapshotReader<'_>) -> Result<()> {
        self.read_rows(input.rows("rows"), |this, row, value| {
            let slot = this.slot(row);
            this.decode_slot(slot, value)
        })
    }
}

impl KeyedState for SetOperation {
    fn keys(&self) -> &KeyMap {
        &self.rows
    }

    fn keys_mut(&mut self) -> &mut KeyMap {
        &mut self.rows
    }

    fn share(&mut self) -> Option<&mut Share> {
        self.share.as_mut()
    }

    fn live_bytes(&self) -> usize {
        self.rows.memory() + self.rows.len() * 16
    }

    fn encode_slot(&self, slot: u32, out: &mut Vec<u8>) {
        self.counts[slot as usize].iter().for_each(|n| out.extend_from_slice(&n.to_be_bytes()));
    }

    fn decode_slot(&mut self, slot: u32, mut value: &[u8]) -> Result<()> {
        self.set(slot, [take_i64(&mut value)?, take_i64(&mut value)?]);
        Ok(())
    }

    fn drop_slot(&mut self, slot: u32) {
        self.counts[slot as usize] = [0; 2];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::OperatorSpec;
    use crate::testing::{Harness, types};

    #[test]
    fn each_kind() {
        let t = types("int");
        let run = |except, all| {
            let mut h = Harness::new(OperatorSpec::SetOperation(SetOperationSpec { input: types("int"), except, all }));
            let mut lines = h.send(0, &t, "1; 1; 2; NULL");
            h.restart();
            lines.extend(h.send(1, &t, "1; 3; NULL"));
            lines.extend(h.send(1, &t, "1; -D 1; -D 1"));
            lines.extend(h.send(0, &t, "-D 2; -D 1"));
            lines.join("; ")
        };
        assert_eq!(run(false, false), "+I 1; +I NULL; -D 1");
        assert_eq!(run(false, true), "+I 1; +I NULL; +I 1; -D 1; -D 1");
        assert_eq!(run(true, false), "+I 1; +I 2; +I NULL; -D 1; -D NULL; +I 1; -D 2");
        assert_eq!(run(true, true), "+I 1; +I 1; +I 2; +I NULL; -D 1; -D NULL; -D 1; +I 1; +I 1; -D 2; -D 1");
    }
}
