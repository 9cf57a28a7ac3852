//! The calls of an OVER window, evaluated over rows that come in the window's order. Rows that leave a bounded frame are taken back
//! from the aggregates, so a row costs the same whatever the frame's length.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, UInt32Array, new_null_array};
use arrow::compute;
use sluice_batch::aggregate::AggregateCall;
use sluice_batch::algebra::{Bound, Frame, OverCall};
use sluice_batch::{Batch, Error, EvalContext, Expr, Millis, Result, RowKind, Span, SqlType};
use sluice_functions::{AggregateArgs, JsonClauses};

use crate::aggregates::Aggregates;
use crate::group_index::KeyMap;
use crate::row_log::RowLog;
use crate::rows::{RowCodec, take};
use crate::state::{SnapshotReader, SnapshotWriter, put_bytes, take_i64, take_row};

/// Which rows up to the current one a call sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// ROWS UNBOUNDED PRECEDING
    AllRows,
    /// RANGE UNBOUNDED PRECEDING: peers are in, too.
    AllPeers,
    /// ROWS n PRECEDING: so many rows, the current one included.
    LastRows(usize),
    /// RANGE PRECEDING of so many milliseconds.
    LastTime(Millis),
}

impl Extent {
    pub fn of(frame: &Frame) -> Result<Self> {
        if !matches!(frame.end, Bound::Preceding(0) | Bound::Following(0)) {
            return Err(Error::plan("OVER windows on streams can only end with CURRENT ROW")
                .hint("write BETWEEN … PRECEDING AND CURRENT ROW; what follows a row is not known yet"));
        }
        Ok(match (&frame.start, frame.rows) {
            (Bound::Unbounded, true) => Self::AllRows,
            (Bound::Unbounded, false) => Self::AllPeers,
            (Bound::Preceding(n), true) => Self::LastRows(usize::try_from(n.saturating_add(1)).unwrap_or(usize::MAX)),
            (Bound::Following(0), true) => Self::LastRows(1),
            (Bound::Preceding(ms), false) => Self::LastTime(*ms),
            (Bound::Following(0), false) => Self::LastTime(0),
            (Bound::Following(_), _) => return Err(Error::plan("OVER FOLLOWING windows are not supported on streams")),
        })
    }

    pub fn is_bounded(self) -> bool {
        matches!(self, Self::LastRows(_) | Self::LastTime(_))
    }

    /// Whether rows of the same time have the same result.
    pub fn has_peers(self) -> bool {
        matches!(self, Self::AllPeers | Self::LastTime(_))
    }
}

/// Where an output column comes from.
enum Column {
    Aggregate(usize),
    RowNumber,
    Rank,
    DenseRank,
    Lag { arg: usize, offset: usize, default: Option<Expr>, ty: SqlType },
}

pub struct Calls {
    extent: Extent,
    /// Rows of the same time are one step of LAG and of RANGE frames.
    peers: bool,
    columns: Vec<Column>,
    /// Input columns that aggregates and LAG read: what is kept of a row.
    kept: Vec<usize>,
    codec: RowCodec,
    aggregates: Aggregates,
    has_aggregates: bool,
    /// How many rows back LAG looks at most.
    lag: usize,
    log: RowLog,
    states: Vec<State>,
}

/// What is known of one partition.
pub struct State {
    /// Rows of a bounded frame, with their times.
    frame: VecDeque<(Millis, u64)>,
    /// The last rows, for LAG.
    history: VecDeque<u64>,
    count: i64,
    /// The time of the last row.
    pub last: Millis,
    rank: i64,
    dense: i64,
    /// When a row came last, by the task's clock.
    pub changed: Millis,
}

impl Default for State {
    fn default() -> Self {
        Self { frame: VecDeque::new(), history: VecDeque::new(), count: 0, last: Millis::MIN, rank: 0, dense: 0, changed: 0 }
    }
}

/// FIRST_VALUE and LAST_VALUE are aggregates here.
fn ends_of_frame(name: &str, column: &str, arg: usize, ty: &SqlType, input: &[SqlType]) -> Result<AggregateCall> {
    let args = [Expr::column(arg, input[arg].clone())];
    let json = JsonClauses::default();
    let bound = sluice_functions::bind_aggregate(AggregateArgs { name, args: &args, distinct: false, json: &json, span: Span::default() })?;
    Ok(AggregateCall { function: bound.function, args: vec![arg], distinct: false, filter: None, ty: ty.clone(), name: column.into() })
}

impl Calls {
    /// `peers`: rows of the same time belong together (not so by processing time, where each row is alone).
    pub fn new(input: &[SqlType], calls: &[OverCall], extent: Extent, peers: bool) -> Result<Self> {
        let (mut columns, mut aggregates, mut lag, mut kept) = (vec![], vec![], 0, vec![]);
        let mut keep = |c: usize| {
            kept.iter().position(|k| *k == c).unwrap_or_else(|| {
                kept.push(c);
                kept.len() - 1
            })
        };
        let unsupported = |what: &str| Err(Error::unsupported(format!("{what} is not supported in stream mode")));
        for call in calls {
            let aggregate = match call {
                OverCall::Aggregate(call) => call.clone(),
                OverCall::FirstValue { arg, name, ty } => ends_of_frame("FIRST_VALUE", name, *arg, ty, input)?,
                OverCall::LastValue { arg, name, ty } => ends_of_frame("LAST_VALUE", name, *arg, ty, input)?,
                OverCall::RowNumber { .. } => {
                    columns.push(Column::RowNumber);
                    continue;
                }
                OverCall::Rank { .. } => {
                    columns.push(Column::Rank);
                    continue;
                }
                OverCall::DenseRank { .. } => {
                    columns.push(Column::DenseRank);
                    continue;
                }
                OverCall::Lag { offset, .. } if *offset < 0 => return unsupported("LEAD Function"),
                OverCall::Lag { arg, offset, default, ty, .. } => {
                    let offset = usize::try_from(*offset).unwrap_or(usize::MAX);
                    lag = lag.max(offset);
                    columns.push(Column::Lag { arg: keep(*arg), offset, default: default.clone(), ty: ty.clone() });
                    continue;
                }
                OverCall::Ntile { .. } => return unsupported("NTILE Function"),
                OverCall::PercentRank { .. } => return unsupported("PERCENT_RANK Function"),
                OverCall::CumeDist { .. } => return unsupported("CUME_DIST Function"),
            };
            columns.push(Column::Aggregate(aggregates.len()));
            let args = aggregate.args.iter().map(|a| keep(*a)).collect();
            aggregates.push(AggregateCall { args, filter: aggregate.filter.map(&mut keep), ..aggregate });
        }
        let types: Vec<SqlType> = kept.iter().map(|c| input[*c].clone()).collect();
        let has_lag = columns.iter().any(|c| matches!(c, Column::Lag { .. }));
        Ok(Self {
            extent,
            peers,
            columns,
            codec: RowCodec::new(&types)?,
            kept,
            has_aggregates: !aggregates.is_empty(),
            aggregates: Aggregates::new(&aggregates, &types, extent.is_bounded())?,
            lag: if has_lag { lag.max(1) } else { 0 },
            log: RowLog::default(),
            states: vec![],
        })
    }

    pub fn state(&self, slot: u32) -> Option<&State> {
        self.states.get(slot as usize)
    }

    /// Results for rows that are in order: a column a call. `slots` are partitions, `times` what RANGE and peers go by.
    pub fn evaluate(&mut self, batch: &Batch, slots: &[u32], times: &[Millis], cx: &EvalContext) -> Result<Vec<ArrayRef>> {
        let partitions = slots.iter().max().map_or(0, |s| *s as usize + 1);
        self.states.resize_with(self.states.len().max(partitions), State::default);
        self.aggregates.resize(partitions);
        let kept = batch.project(&self.kept);
        let (bounded, lags) = (self.extent.is_bounded() && self.has_aggregates, self.lag > 0);
        let base = self.log.push(kept.columns().to_vec(), batch.rows(), usize::from(bounded) + usize::from(lags))?;
        let last_peers = self.last_peers(slots, times);
        let aggregated = match (self.has_aggregates, bounded) {
            (false, _) => vec![],
            (true, true) => self.slide(base, slots, times, &last_peers)?,
            (true, false) => {
                let (_, after) = self.aggregates.update_running(&kept, slots)?;
                self.with_peers(after, &last_peers)?
            }
        };
        let ranks = self.rank(slots, times, cx.now);
        let lagged = if lags { self.lags(base, batch, slots, &ranks.row_numbers, &last_peers, cx)? } else { vec![] };
        let mut lagged = lagged.into_iter();
        let output = self.columns.iter().filter_map(|c| match c {
            Column::Aggregate(i) => aggregated.get(*i).cloned(),
            Column::RowNumber => Some(Arc::new(Int64Array::from(ranks.row_numbers.clone())) as ArrayRef),
            Column::Rank => Some(Arc::new(Int64Array::from(ranks.ranks.clone())) as ArrayRef),
            Column::DenseRank => Some(Arc::new(Int64Array::from(ranks.dense.clone())) as ArrayRef),
            Column::Lag { .. } => lagged.next(),
        });
        let output = output.collect();
        self.compact()?;
        Ok(output)
    }

    fn with_peers(&self, columns: Vec<ArrayRef>, last_peers: &[u32]) -> Result<Vec<ArrayRef>> {
        let alone = !self.extent.has_peers() || last_peers.iter().enumerate().all(|(i, p)| i as u32 == *p);
        if alone { Ok(columns) } else { take(&columns, &UInt32Array::from(last_peers.to_vec())) }
    }

    /// The last row of the same partition and time, for each row.
    fn last_peers(&self, slots: &[u32], times: &[Millis]) -> Vec<u32> {
        let mut peers: Vec<u32> = (0..slots.len() as u32).collect();
        if self.peers && times.windows(2).any(|w| w[0] == w[1]) {
            let mut last: Vec<u32> = vec![u32::MAX; self.states.len()];
            for row in (0..slots.len()).rev() {
                let seen = &mut last[slots[row] as usize];
                match times.get(*seen as usize) {
                    Some(time) if *time == times[row] => peers[row] = *seen,
                    _ => *seen = row as u32,
                }
            }
        }
        peers
    }

    /// Aggregates over bounded frames: what leaves the frame is taken back before the row that pushes it out is added.
    fn slide(&mut self, base: u64, slots: &[u32], times: &[Millis], last_peers: &[u32]) -> Result<Vec<ArrayRef>> {
        let (mut kinds, mut rows, mut groups) = (vec![], vec![], vec![]);
        let mut at = Vec::with_capacity(slots.len());
        let mut gone = vec![];
        for (i, (slot, time)) in slots.iter().zip(times).enumerate() {
            let frame = &mut self.states[*slot as usize].frame;
            let full = |frame: &VecDeque<(Millis, u64)>| match self.extent {
                Extent::LastRows(n) => frame.len() >= n,
                Extent::LastTime(ms) => frame.front().is_some_and(|f| f.0 < time.saturating_sub(ms)),
                Extent::AllRows | Extent::AllPeers => false,
            };
            while full(frame) {
                let Some((_, row)) = frame.pop_front() else { break };
                kinds.push(RowKind::Delete);
                rows.push(row);
                groups.push(*slot);
                gone.push(row);
            }
            frame.push_back((*time, base + i as u64));
            at.push(kinds.len() as u32);
            kinds.push(RowKind::Insert);
            rows.push(base + i as u64);
            groups.push(*slot);
        }
        let changes = Batch::with_kinds(self.log.gather(&rows)?, Some(kinds.into()), rows.len());
        let (_, after) = self.aggregates.update_running(&changes, &groups)?;
        gone.into_iter().for_each(|row| self.log.release(row));
        if self.extent.has_peers() {
            at = last_peers.iter().map(|p| at[*p as usize]).collect();
        }
        take(&after, &UInt32Array::from(at))
    }

    fn rank(&mut self, slots: &[u32], times: &[Millis], now: Millis) -> Ranks {
        let mut out = Ranks::default();
        for (slot, time) in slots.iter().zip(times) {
            let s = &mut self.states[*slot as usize];
            s.count += 1;
            if s.count == 1 || s.last != *time || !self.peers {
                (s.rank, s.dense, s.last) = (s.count, s.dense + 1, *time);
            }
            s.changed = now;
            out.row_numbers.push(s.count);
            out.ranks.push(s.rank);
            out.dense.push(s.dense);
        }
        out
    }

    /// The values of the LAG calls. Of rows of the same time all look back from the last of them, as in Flink.
    fn lags(
        &mut self,
        base: u64,
        batch: &Batch,
        slots: &[u32],
        row_numbers: &[i64],
        last_peers: &[u32],
        cx: &EvalContext,
    ) -> Result<Vec<ArrayRef>> {
        for (i, slot) in slots.iter().enumerate() {
            self.states[*slot as usize].history.push_back(base + i as u64);
        }
        let mut out = vec![];
        for column in &self.columns {
            let Column::Lag { arg, offset, default, ty } = column else { continue };
            let default = match default {
                Some(e) => e.eval(batch, cx)?.into_array(batch.rows())?,
                None => new_null_array(&ty.to_arrow(), batch.rows()),
            };
            let (mut rows, mut picks) = (vec![], Vec::with_capacity(batch.rows()));
            for (i, slot) in slots.iter().enumerate() {
                let state = &self.states[*slot as usize];
                // Rows before the history's first one are gone.
                let gone = state.count as usize - state.history.len();
                let target = (row_numbers[last_peers[i] as usize] as usize - 1).checked_sub(*offset).and_then(|t| t.checked_sub(gone));
                match target.and_then(|t| state.history.get(t)) {
                    Some(row) => {
                        picks.push((0, rows.len()));
                        rows.push(*row);
                    }
                    None => picks.push((1, i)),
                }
            }
            let values = self.log.gather(&rows)?;
            out.push(compute::interleave(&[values[*arg].as_ref(), default.as_ref()], &picks)?);
        }
        for slot in slots {
            let history = &mut self.states[*slot as usize].history;
            while history.len() > self.lag {
                if let Some(row) = history.pop_front() {
                    self.log.release(row);
                }
            }
        }
        Ok(out)
    }

    fn compact(&mut self) -> Result<()> {
        if !self.log.is_sparse() {
            return Ok(());
        }
        let references = self.states.iter_mut().flat_map(|s| s.frame.iter_mut().map(|f| &mut f.1).chain(s.history.iter_mut())).collect();
        self.log.compact(references)
    }

    /// Forgets a partition.
    pub fn clear(&mut self, slot: u32) {
        let Some(state) = self.states.get_mut(slot as usize) else { return };
        let state = std::mem::take(state);
        state.frame.iter().map(|f| f.1).chain(state.history).for_each(|row| self.log.release(row));
        self.aggregates.resize(slot as usize + 1);
        self.aggregates.clear(slot);
    }

    /// A row came for this partition, even if it waits.
    pub fn touch(&mut self, slot: u32, now: Millis) {
        self.states.resize_with(self.states.len().max(slot as usize + 1), State::default);
        self.states[slot as usize].changed = now;
    }

    pub fn memory(&self) -> usize {
        self.aggregates.memory() + self.log.memory() + self.states.len() * size_of::<State>()
    }

    pub fn snapshot(&self, keys: &KeyMap, out: &mut SnapshotWriter) -> Result<()> {
        for slot in keys.slots() {
            let Some(s) = self.states.get(slot as usize) else { continue };
            let mut value = vec![];
            for n in [s.count, s.last, s.rank, s.dense, s.changed] {
                value.extend_from_slice(&n.to_be_bytes());
            }
            if self.has_aggregates {
                self.aggregates.encode(slot, &mut value);
            }
            out.put("partitions", keys.key(slot), value);
            let frame: Vec<u64> = s.frame.iter().map(|f| f.1).collect();
            let times = s.frame.iter().map(|f| f.0);
            self.snapshot_rows("frame", keys.key(slot), &frame, times, out)?;
            let history: Vec<u64> = s.history.iter().copied().collect();
            self.snapshot_rows("history", keys.key(slot), &history, std::iter::repeat(0), out)?;
        }
        Ok(())
    }

    fn snapshot_rows(
        &self,
        table: &'static str,
        key: &[u8],
        rows: &[u64],
        times: impl Iterator<Item = Millis>,
        out: &mut SnapshotWriter,
    ) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let encoded = self.codec.encode(&self.log.gather(rows)?)?;
        for (i, time) in (0..rows.len()).zip(times) {
            let mut id = vec![];
            put_bytes(&mut id, key);
            id.extend_from_slice(&(i as u64).to_be_bytes());
            let mut value = time.to_be_bytes().to_vec();
            value.extend_from_slice(encoded.get(i));
            out.put(table, id, value);
        }
        Ok(())
    }

    pub fn restore(&mut self, keys: &mut KeyMap, input: &SnapshotReader<'_>) -> Result<()> {
        for (key, mut value) in input.rows("partitions") {
            let (slot, _) = keys.insert(key);
            self.states.resize_with(self.states.len().max(slot as usize + 1), State::default);
            self.aggregates.resize(self.states.len());
            let s = &mut self.states[slot as usize];
            for n in [&mut s.count, &mut s.last, &mut s.rank, &mut s.dense, &mut s.changed] {
                *n = take_i64(&mut value)?;
            }
            if self.has_aggregates {
                self.aggregates.decode(slot, &mut value)?;
            }
        }
        for table in ["frame", "history"] {
            let (mut places, mut rows) = (vec![], vec![]);
            for (mut id, mut value) in input.rows(table) {
                let (key, index) = (take_row(&mut id)?, take_i64(&mut id)?);
                let slot = keys.find(key).ok_or_else(|| Error::runtime("state has rows of an OVER partition that it does not have"))?;
                places.push((slot, index, take_i64(&mut value)?, rows.len() as u64));
                rows.push(value);
            }
            let base = self.log.push(self.codec.decode(rows.iter().copied())?, rows.len(), 1)?;
            places.sort_unstable();
            for (slot, _, time, row) in places {
                let state = &mut self.states[slot as usize];
                match table {
                    "frame" => state.frame.push_back((time, base + row)),
                    _ => state.history.push_back(base + row),
                }
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct Ranks {
    row_numbers: Vec<i64>,
    ranks: Vec<i64>,
    dense: Vec<i64>,
}
