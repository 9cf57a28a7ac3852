//! The values of one key in order of time, for aggregates over any span of it.
//!
//! Values lie in chunks of at most [`CHUNK`], each with its count, sum, least and greatest value, and a tree over the chunks. A span is
//! a part of two chunks and some nodes of the tree between them, so what a query costs hardly grows with the values in the span: it
//! is the same for windows of a minute and of a week. Values that come out of order go where they belong.

use std::collections::VecDeque;

use arrow::datatypes::i256;
use sluice_batch::{Error, Millis, Result};

use crate::state::take_i64;

/// Values in a chunk.
pub const CHUNK: usize = 64;
/// With fewer chunks there is no tree.
const FEW: usize = 16;

/// Which part of a [`Total`] is wanted; the others may be anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// And the count.
    Sum,
    Min,
    Max,
}

/// Aggregates of some values. Sums are exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Total {
    pub count: u64,
    pub sum: i256,
    pub min: i128,
    pub max: i128,
}

impl Total {
    pub const NONE: Self = Self { count: 0, sum: i256::ZERO, min: i128::MAX, max: i128::MIN };

    fn add(&mut self, value: i128) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(i256::from_i128(value));
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum = self.sum.wrapping_add(other.sum);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }
}

/// Values of a chunk, as small as they allow.
enum Values {
    /// Each is 1: events are counted.
    Ones,
    Small(Vec<i64>),
    Large(Vec<i128>),
}

impl Values {
    fn get(&self, at: usize) -> i128 {
        match self {
            Self::Ones => 1,
            Self::Small(v) => i128::from(v[at]),
            Self::Large(v) => v[at],
        }
    }

    fn insert(&mut self, at: usize, value: i128) {
        match (&mut *self, i64::try_from(value)) {
            (Self::Ones, _) => {}
            (Self::Small(v), Ok(small)) => v.insert(at, small),
            (Self::Small(v), Err(_)) => {
                let mut large: Vec<i128> = v.iter().map(|v| i128::from(*v)).collect();
                large.insert(at, value);
                *self = Self::Large(large);
            }
            (Self::Large(v), _) => v.insert(at, value),
        }
    }

    fn split_off(&mut self, at: usize) -> Self {
        match self {
            Self::Ones => Self::Ones,
            Self::Small(v) => Self::Small(v.split_off(at)),
            Self::Large(v) => Self::Large(v.split_off(at)),
        }
    }

    fn total(&self, from: usize, to: usize, want: Want) -> Total {
        let mut total = Total { count: (to - from) as u64, ..Total::NONE };
        match (want, self) {
            (_, Self::Ones) => total = Total { count: total.count, sum: i256::from_i128(total.count.into()), min: 1, max: 1 },
            // A chunk of them cannot overflow.
            (Want::Sum, Self::Small(v)) => total.sum = i256::from_i128(v[from..to].iter().map(|v| i128::from(*v)).sum()),
            (Want::Sum, Self::Large(v)) => {
                total.sum = v[from..to].iter().fold(i256::ZERO, |sum, v| sum.wrapping_add(i256::from_i128(*v)));
            }
            (Want::Min, Self::Small(v)) => total.min = v[from..to].iter().min().map_or(i128::MAX, |v| i128::from(*v)),
            (Want::Min, Self::Large(v)) => total.min = v[from..to].iter().min().copied().unwrap_or(i128::MAX),
            (Want::Max, Self::Small(v)) => total.max = v[from..to].iter().max().map_or(i128::MIN, |v| i128::from(*v)),
            (Want::Max, Self::Large(v)) => total.max = v[from..to].iter().max().copied().unwrap_or(i128::MIN),
        }
        total
    }
}

struct Chunk {
    /// By which the state knows it.
    number: i64,
    /// It is not as the state has it.
    dirty: bool,
    /// In order, never empty.
    times: Vec<Millis>,
    values: Values,
    total: Total,
}

impl Chunk {
    fn first(&self) -> Millis {
        self.times.first().copied().unwrap_or(Millis::MAX)
    }

    fn last(&self) -> Millis {
        self.times.last().copied().unwrap_or(Millis::MIN)
    }

    fn insert(&mut self, time: Millis, value: i128) {
        let at = self.times.partition_point(|t| *t <= time);
        self.times.insert(at, time);
        self.values.insert(at, value);
        self.total.add(value);
        self.dirty = true;
    }

    fn split(&mut self, number: i64) -> Self {
        let at = self.times.len() / 2;
        let mut upper =
            Self { number, dirty: true, times: self.times.split_off(at), values: self.values.split_off(at), total: Total::NONE };
        for chunk in [&mut *self, &mut upper] {
            chunk.total = Total::NONE;
            (0..chunk.times.len()).for_each(|i| chunk.total.add(chunk.values.get(i)));
        }
        self.dirty = true;
        upper
    }

    fn total(&self, from: Millis, to: Millis, want: Want) -> Total {
        if from <= self.first() && self.last() <= to {
            return self.total;
        }
        let (from, to) = (self.times.partition_point(|t| *t < from), self.times.partition_point(|t| *t <= to));
        if from < to { self.values.total(from, to, want) } else { Total::NONE }
    }
}

/// A segment tree over a ring of chunks. Leaves of chunks that are gone are never asked for.
struct Tree {
    leaves: usize,
    nodes: Vec<Total>,
}

impl Tree {
    fn new(chunks: &VecDeque<Chunk>, first: usize) -> Self {
        let leaves = (2 * chunks.len()).next_power_of_two();
        let mut tree = Self { leaves, nodes: vec![Total::NONE; 2 * leaves] };
        chunks.iter().enumerate().for_each(|(i, c)| tree.nodes[leaves + (first + i) % leaves] = c.total);
        (1..leaves).rev().for_each(|n| tree.sum_up(n));
        tree
    }

    fn sum_up(&mut self, node: usize) {
        let mut total = self.nodes[2 * node];
        total.merge(&self.nodes[2 * node + 1]);
        self.nodes[node] = total;
    }

    fn set(&mut self, chunk: usize, total: Total) {
        let mut node = self.leaves + chunk % self.leaves;
        self.nodes[node] = total;
        while node > 1 {
            node /= 2;
            self.sum_up(node);
        }
    }

    /// Of the chunks `from..to`.
    fn total(&self, from: usize, to: usize) -> Total {
        let mut total = Total::NONE;
        let (start, end) = (from % self.leaves, to % self.leaves);
        if from >= to {
        } else if start < end {
            self.add(start, end, &mut total);
        } else {
            self.add(start, self.leaves, &mut total);
            self.add(0, end, &mut total);
        }
        total
    }

    fn add(&self, from: usize, to: usize, total: &mut Total) {
        let (mut left, mut right) = (from + self.leaves, to + self.leaves);
        while left < right {
            if left % 2 == 1 {
                total.merge(&self.nodes[left]);
                left += 1;
            }
            if right % 2 == 1 {
                right -= 1;
                total.merge(&self.nodes[right]);
            }
            (left, right) = (left / 2, right / 2);
        }
    }
}

/// The values of one key.
pub struct History {
    chunks: VecDeque<Chunk>,
    /// How many chunks went before the first one: where it is in the tree's ring.
    first: usize,
    tree: Option<Box<Tree>>,
    counting: bool,
    next: i64,
    /// Numbers of chunks that the state has and that are gone.
    gone: Vec<i64>,
}

impl History {
    /// `counting`: values are not kept, each counts 1.
    pub fn new(counting: bool) -> Self {
        Self { chunks: VecDeque::new(), first: 0, tree: None, counting, next: 0, gone: vec![] }
    }

    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub fn insert(&mut self, time: Millis, value: i128) {
        match self.chunks.back_mut() {
            Some(last) if last.last() <= time && last.times.len() < CHUNK => {
                last.insert(time, value);
            }
            Some(last) if last.last() > time => self.insert_before(time, value),
            _ => self.append(time, value),
        }
    }

    /// A new chunk at the end.
    fn append(&mut self, time: Millis, value: i128) {
        let values = if self.counting { Values::Ones } else { Values::Small(vec![]) };
        let mut chunk = Chunk { number: self.number(), dirty: true, times: vec![], values, total: Total::NONE };
        chunk.insert(time, value);
        let sealed = self.chunks.back().map(|c| c.total);
        self.chunks.push_back(chunk);
        let at = self.first + self.chunks.len();
        match (&mut self.tree, sealed) {
            (Some(tree), Some(sealed)) if self.chunks.len() <= tree.leaves => tree.set(at - 2, sealed),
            _ if self.chunks.len() > FEW => self.rebuild(),
            _ => {}
        }
    }

    fn number(&mut self) -> i64 {
        self.next += 1;
        self.next
    }

    fn insert_before(&mut self, time: Millis, value: i128) {
        let mut at = self.chunks.partition_point(|c| c.first() <= time).saturating_sub(1);
        let split = self.chunks[at].times.len() >= CHUNK;
        if split {
            let number = self.number();
            let upper = self.chunks[at].split(number);
            let above = upper.first() <= time;
            self.chunks.insert(at + 1, upper);
            at += usize::from(above);
        }
        self.chunks[at].insert(time, value);
        let total = self.chunks[at].total;
        match &mut self.tree {
            Some(_) if split => self.rebuild(),
            Some(tree) if at + 1 < self.chunks.len() => tree.set(self.first + at, total),
            _ => {}
        }
    }

    fn rebuild(&mut self) {
        self.tree = (self.chunks.len() > FEW).then(|| Box::new(Tree::new(&self.chunks, self.first)));
    }

    /// Aggregates of the values with times `from..=to`.
    pub fn total(&self, from: Millis, to: Millis, want: Want) -> Total {
        let low = self.chunks.partition_point(|c| c.last() < from);
        let high = self.chunks.partition_point(|c| c.first() <= to);
        if low >= high {
            return Total::NONE;
        }
        let mut total = self.chunks[low].total(from, to, want);
        if high - low > 1 {
            total.merge(&self.chunks[high - 1].total(from, to, want));
            match &self.tree {
                Some(tree) => total.merge(&tree.total(self.first + low + 1, self.first + high - 1)),
                None => self.chunks.range(low + 1..high - 1).for_each(|c| total.merge(&c.total)),
            }
        }
        total
    }

    /// When all of the first values are older than the floor that this is given, [`History::evict`] has something to do.
    pub fn oldest(&self) -> Option<Millis> {
        self.chunks.front().map(Chunk::last)
    }

    /// Drops values older than `floor`, whole chunks at a time: at most the values of one chunk are kept too long. `tracked`: their
    /// numbers are wanted.
    pub fn evict(&mut self, floor: Millis, tracked: bool) {
        while let Some(chunk) = self.chunks.pop_front_if(|c| c.last() < floor) {
            self.first += 1;
            if tracked {
                self.gone.push(chunk.number);
            }
        }
        if self.chunks.len() <= FEW / 2 {
            self.tree = None;
        }
    }

    /// Values and chunks.
    #[cfg(test)]
    fn size(&self) -> (usize, usize) {
        (self.chunks.iter().map(|c| c.times.len()).sum(), self.chunks.len())
    }

    pub fn bytes(&self) -> usize {
        let width = if self.counting { 8 } else { 16 };
        let tree = self.tree.as_ref().map_or(0, |t| t.nodes.len() * size_of::<Total>());
        self.chunks.len() * (size_of::<Chunk>() + CHUNK / 2 * width) + tree
    }

    /// All chunks as the state has them.
    pub fn encoded(&self) -> impl Iterator<Item = (i64, Vec<u8>)> {
        self.chunks.iter().map(|c| (c.number, encode(c)))
    }

    /// Numbers of chunks that went since the last call, and chunks that are new or changed.
    pub fn take_changes(&mut self) -> (Vec<i64>, Vec<(i64, Vec<u8>)>) {
        let changed = |c: &mut Chunk| std::mem::take(&mut c.dirty).then(|| (c.number, encode(c)));
        (std::mem::take(&mut self.gone), self.chunks.iter_mut().filter_map(changed).collect())
    }

    /// Chunks that were encoded, in any order.
    pub fn decode(counting: bool, parts: Vec<(i64, &[u8])>) -> Result<Self> {
        let mut history = Self::new(counting);
        let mut chunks = parts.into_iter().map(|(number, bytes)| decode(counting, number, bytes)).collect::<Result<Vec<_>>>()?;
        chunks.retain(|c| !c.times.is_empty());
        chunks.sort_by_key(|c| (c.first(), c.last()));
        history.next = chunks.iter().map(|c| c.number).max().unwrap_or_default();
        history.chunks = chunks.into();
        history.rebuild();
        Ok(history)
    }
}

/// Time and value (in two halves) of each event.
fn encode(chunk: &Chunk) -> Vec<u8> {
    let mut out = Vec::with_capacity(chunk.times.len() * 24);
    for (i, time) in chunk.times.iter().enumerate() {
        let value = chunk.values.get(i);
        out.extend_from_slice(&time.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
    out
}

fn decode(counting: bool, number: i64, mut bytes: &[u8]) -> Result<Chunk> {
    let values = if counting { Values::Ones } else { Values::Small(vec![]) };
    let mut chunk = Chunk { number, dirty: false, times: vec![], values, total: Total::NONE };
    while !bytes.is_empty() {
        let time = take_i64(&mut bytes)?;
        let (high, low) = (take_i64(&mut bytes)?, take_i64(&mut bytes)?);
        if chunk.times.last().is_some_and(|last| *last > time) {
            return Err(Error::runtime("events in the state of rules are not in order of time"));
        }
        chunk.insert(time, i128::from(high) << 64 | i128::from(low as u64));
    }
    chunk.dirty = false;
    Ok(chunk)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    /// What a list of all values says.
    fn naive(all: &[(Millis, i128)], from: Millis, to: Millis) -> Total {
        let mut total = Total::NONE;
        all.iter().filter(|(t, _)| (from..=to).contains(t)).for_each(|(_, v)| total.add(*v));
        total
    }

    fn check(history: &History, all: &[(Millis, i128)], from: Millis, to: Millis) {
        let want = naive(all, from, to);
        let got = |w| history.total(from, to, w);
        assert_eq!((got(Want::Sum).sum, got(Want::Sum).count), (want.sum, want.count), "{from}..={to}");
        assert_eq!(got(Want::Min).min, want.min, "{from}..={to}");
        assert_eq!(got(Want::Max).max, want.max, "{from}..={to}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
        #[test]
        fn as_a_list_of_all_values(
            steps in prop::collection::vec((0i64..40, -30i64..3, any::<i32>(), 0u8..40), 1..2500),
            counting: bool,
            width in 1i64..60_000,
        ) {
            let mut history = History::new(counting);
            let (mut all, mut now, mut floor) = (vec![], 0i64, Millis::MIN);
            for (i, (step, back, value, special)) in steps.into_iter().enumerate() {
                now += step;
                let time = if back < 0 { now + back * 40 } else { now };
                let value = match (counting, special) {
                    (true, _) => 1,
                    (false, 0) => i128::MAX / 4,
                    (false, 1) => i128::MIN / 4,
                    _ => i128::from(value),
                };
                history.insert(time, value);
                all.push((time, value));
                if special == 7 {
                    floor = floor.max(now - width);
                    history.evict(floor, true);
                    prop_assert!(history.oldest().is_none_or(|o| o >= floor));
                }
                if special == 9 {
                    let parts: Vec<_> = history.encoded().collect();
                    history = History::decode(counting, parts.iter().rev().map(|(n, b)| (*n, b.as_slice())).collect()).unwrap();
                }
                if i % 7 == 0 {
                    for (from, to) in [(time - 500, time), (time - 5000, time), (floor.max(-5000), time), (time - 100, time + 100)] {
                        check(&history, &all, from.max(floor), to);
                    }
                }
            }
            // Events may have come behind the floor since. Whole chunks go, so a few too old values may still be there.
            history.evict(floor, true);
            let (values, chunks) = history.size();
            let kept = all.iter().filter(|(t, _)| *t >= floor).count();
            prop_assert!(values >= kept && values < kept + CHUNK, "{values} for {kept}");
            prop_assert!(chunks <= values);
        }
    }

    #[test]
    fn what_comes_behind_the_floor_goes_with_it() {
        let mut history = History::new(false);
        history.insert(1000, 1);
        history.evict(500, true);
        (0..200).for_each(|t| history.insert(t, 1));
        assert_eq!(history.oldest(), Some(31));
        history.evict(500, true);
        let (values, chunks) = history.size();
        assert!(values <= CHUNK && chunks == 1, "{values} in {chunks}");
        assert_eq!(history.total(500, 2000, Want::Sum).count, 1);
    }

    #[test]
    fn changes_are_chunks() {
        let mut history = History::new(false);
        (0..200).for_each(|t| history.insert(t, 1));
        assert_eq!(history.take_changes().1.len(), 4);
        assert_eq!(history.take_changes(), (vec![], vec![]));
        history.insert(200, 1);
        history.insert(0, i128::MAX / 2);
        let (gone, changed) = history.take_changes();
        // The last one, and both halves of the first.
        assert_eq!((gone.len(), changed.len()), (0, 3));
        history.evict(150, true);
        assert_eq!(history.take_changes().0.len(), 3);
    }
}
