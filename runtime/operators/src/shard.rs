//! Which task a row belongs to: rows of equal keys have the same shard, and a task owns a range of shards. Shards depend only on the
//! key's bytes, so that state can be given to another number of tasks.

use arrow::array::{Array, UInt32Array};
use arrow::buffer::NullBuffer;
use sluice_batch::{Batch, Result, SqlType};

use crate::rows::RowCodec;

/// Shards of a keyed operator: the most tasks that can share its work.
pub const SHARDS: u32 = 64;

/// The shard of an encoded key (as [`RowCodec`] writes it).
#[inline]
pub fn shard(key: &[u8]) -> u32 {
    // 64-bit multiply and mix, eight bytes at a time. State lies in files by it, so it must never change.
    const K: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash = K ^ (key.len() as u64);
    let mut chunks = key.chunks_exact(8);
    let mix = |hash: u64, word: u64| (hash ^ word).wrapping_mul(K).rotate_left(29);
    for chunk in &mut chunks {
        hash = mix(hash, chunk.iter().fold(0, |w, b| w << 8 | u64::from(*b)));
    }
    hash = mix(hash, chunks.remainder().iter().fold(0, |w, b| w << 8 | u64::from(*b)));
    // The finish of MurmurHash3: all bits reach the upper ones, which are used.
    hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    ((hash ^ hash >> 33) >> 58) as u32
}

/// Which of `tasks` tasks owns a shard.
#[inline]
pub fn task_of(shard: u32, tasks: u32) -> u32 {
    shard * tasks / SHARDS
}

/// Splits batches by key over tasks.
pub struct Partitioner {
    codec: RowCodec,
    keys: Vec<usize>,
    tasks: u32,
    /// Rows whose keys are NULL go to all tasks.
    nulls_to_all: bool,
    /// Rows of each task, kept for the allocation.
    rows: Vec<Vec<u32>>,
}

impl Partitioner {
    /// `types`: of the batches' columns.
    ///
    /// # Errors
    /// If a key column has a type without bytes.
    pub fn new(types: &[SqlType], keys: &[usize], tasks: u32) -> Result<Self> {
        Ok(Self {
            codec: RowCodec::project(types, keys)?,
            keys: keys.to_vec(),
            tasks,
            nulls_to_all: false,
            rows: vec![vec![]; tasks as usize],
        })
    }

    /// Rows whose key columns are NULL go to all tasks.
    #[must_use]
    pub fn with_nulls_to_all(mut self) -> Self {
        self.nulls_to_all = true;
        self
    }

    /// Calls `send(task, rows)` for each task that has rows of the batch, in their order.
    pub fn split(&mut self, batch: Batch, mut send: impl FnMut(u32, Batch)) -> Result<()> {
        let keys = self.codec.encode_columns(&batch, &self.keys)?;
        self.rows.iter_mut().for_each(Vec::clear);
        let nulls: Option<NullBuffer> = match self.keys[..] {
            [key] if self.nulls_to_all => batch.column(key).logical_nulls(),
            _ => None,
        };
        for row in 0..batch.rows() {
            if nulls.as_ref().is_some_and(|n| n.is_null(row)) {
                self.rows.iter_mut().for_each(|rows| rows.push(row as u32));
                continue;
            }
            self.rows[task_of(shard(keys.get(row)), self.tasks) as usize].push(row as u32);
        }
        for (task, rows) in self.rows.iter_mut().enumerate().filter(|(_, rows)| !rows.is_empty()) {
            if rows.len() == batch.rows() {
                send(task as u32, batch.clone());
                continue;
            }
            send(task as u32, batch.take(&UInt32Array::from(std::mem::take(rows)))?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::{batch, print, types};

    #[test]
    fn shards_never_change_and_are_even() {
        assert_eq!([&b""[..], b"a", b"user-7", b"0123456789abcdef"].map(shard), [47, 54, 49, 52]);
        let mut counts = [0; SHARDS as usize];
        (0..64_000u64).for_each(|i| counts[shard(&i.to_be_bytes()) as usize] += 1);
        assert!(counts.iter().all(|c| (800..1200).contains(c)), "{counts:?}");
    }

    #[test]
    fn tasks_own_ranges_of_shards() {
        for tasks in 1..=SHARDS {
            let owners: Vec<u32> = (0..SHARDS).map(|s| task_of(s, tasks)).collect();
            assert!(owners.is_sorted() && owners[0] == 0 && owners[SHARDS as usize - 1] == tasks - 1, "{owners:?}");
        }
    }

    #[test]
    fn rows_of_a_key_stay_together_and_in_order() {
        let t = types("int string");
        let mut partitioner = Partitioner::new(&t, &[1], 3).unwrap();
        let mut parts = vec![vec![]; 3];
        partitioner
            .split(batch(&t, "1 a; -D 2 b; 3 a; 4 c; 5 d; 6 NULL; 7 a; 8 b"), |task, rows| parts[task as usize].extend(print(&rows)))
            .unwrap();
        assert_eq!(parts.iter().map(Vec::len).sum::<usize>(), 8);
        let of = |key: &str| parts.iter().map(|p| p.iter().filter(|r| r.ends_with(key)).cloned().collect::<Vec<_>>()).collect::<Vec<_>>();
        assert!(of(" a").contains(&vec!["+I 1 a".to_owned(), "+I 3 a".to_owned(), "+I 7 a".to_owned()]));
        assert!(of(" b").contains(&vec!["-D 2 b".to_owned(), "+I 8 b".to_owned()]));
        assert!(parts.iter().filter(|p| !p.is_empty()).count() > 1);
    }
}
