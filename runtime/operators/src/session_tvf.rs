//! SESSION: rows leave when their session has closed (Flink: `UnalignedWindowTableFunctionOperator`).

use std::sync::Arc;

use arrow::array::Array;
use sluice_batch::{Batch, Error, Millis, Result, RowKind, WATERMARK_NONE};

use crate::rows::RowCodec;
use crate::sessions::Sessions;
use crate::spec::WindowTvfSpec;
use crate::state::{SnapshotReader, SnapshotWriter, key_prefix, put_bytes, take_bytes, take_i64, take_row};
use crate::time::{Zone, to_millis};
use crate::window_output::WindowOutput;
use crate::{Operator, Output};

/// A row as it waits: its place in the order of arrival, kind, value.
type Held = (u64, RowKind, Box<[u8]>);

pub struct SessionTvf {
    spec: WindowTvfSpec,
    gap: Millis,
    output: WindowOutput,
    keys: RowCodec,
    rows: RowCodec,
    sessions: Sessions,
    /// By slot.
    held: Vec<Vec<Held>>,
    next: u64,
    progress: Millis,
    late: u64,
    bytes: usize,
}

impl SessionTvf {
    pub fn new(spec: WindowTvfSpec, gap: Millis) -> Result<Self> {
        Ok(Self {
            output: WindowOutput::bounds(spec.ltz || spec.proctime),
            keys: RowCodec::project(&spec.input, &spec.partition_by)?,
            rows: RowCodec::new(&spec.input)?,
            sessions: Sessions::default(),
            held: vec![],
            next: 0,
            progress: WATERMARK_NONE,
            late: 0,
            bytes: 0,
            spec,
            gap,
        })
    }

    fn fire(&mut self, now: Millis, out: &mut Output<'_>) -> Result<()> {
        self.progress = self.progress.max(now);
        let zone = Zone::new(self.output.ltz, out.context().time_zone);
        let (mut rows, mut starts, mut ends) = (Vec::<Held>::new(), vec![], vec![]);
        while let Some(closed) = self.sessions.close(now, zone) {
            let mut held = std::mem::take(&mut self.held[closed.session.slot as usize]);
            held.sort_unstable_by_key(|h| h.0);
            starts.resize(starts.len() + held.len(), closed.session.start);
            ends.resize(ends.len() + held.len(), closed.session.end);
            self.bytes -= held.iter().map(|h| h.2.len() + 40).sum::<usize>();
            rows.extend(held);
            self.sessions.release(closed);
        }
        if rows.is_empty() {
            return Ok(());
        }
        let mut columns = self.rows.decode(rows.iter().map(|r| &*r.2))?;
        columns.extend(self.output.columns(&starts, &ends, zone, out.now()));
        let kinds: Arc<[RowKind]> = rows.iter().map(|r| r.1).collect();
        out.emit(Batch::with_kinds(columns, Some(kinds), rows.len()));
        Ok(())
    }
}

impl Operator for SessionTvf {
    fn name(&self) -> &'static str {
        "WindowTableFunction"
    }

    fn batch(&mut self, _input: usize, batch: Batch, out: &mut Output<'_>) -> Result<()> {
        let zone = Zone::new(self.output.ltz, out.context().time_zone);
        let times = to_millis(batch.column(self.spec.time))?;
        let keys = self.keys.encode_columns(&batch, &self.spec.partition_by)?;
        let rows = self.rows.encode(batch.columns())?;
        let progress = if self.spec.proctime { Millis::MIN } else { self.progress };
        for row in 0..batch.rows() {
            if !self.spec.proctime && times.is_null(row) {
                self.late += 1;
                continue;
            }
            let time = zone.to_local(if self.spec.proctime { out.now() } else { times.value(row) });
            let held = &mut self.held;
            let on_merge = |from: u32, to: u32| {
                let moved = std::mem::take(&mut held[from as usize]);
                held[to as usize].extend(moved);
            };
            let Some(slot) = self.sessions.assign(keys.get(row), time, self.gap, progress, zone, on_merge) else {
                self.late += 1;
                continue;
            };
            if self.held.len() <= slot as usize {
                self.held.resize_with(slot as usize + 1, Vec::new);
            }
            let value = rows.get(row);
            self.bytes += value.len() + 40;
            self.held[slot as usize].push((self.next, batch.kind(row), value.into()));
            self.next += 1;
        }
        Ok(())
    }

    fn watermark(&mut self, now: Millis, out: &mut Output<'_>) -> Result<()> {
        if self.spec.proctime { Ok(()) } else { self.fire(now, out) }
    }

    fn wants_ticks(&self) -> bool {
        self.spec.proctime
    }

    fn tick(&mut self, now: Millis, out: &mut Output<'_>) -> Result<()> {
        if self.spec.proctime { self.fire(now, out) } else { Ok(()) }
    }

    fn late_rows(&self) -> u64 {
        self.late
    }

    fn state_bytes(&self) -> usize {
        self.sessions.keys.memory() + self.bytes
    }

    fn snapshot(&self, out: &mut SnapshotWriter) -> Result<()> {
        for (key, session) in self.sessions.iter() {
            let mut id = vec![];
            put_bytes(&mut id, key);
            id.extend_from_slice(&session.start.to_be_bytes());
            id.extend_from_slice(&session.end.to_be_bytes());
            let mut value = vec![];
            for (order, kind, row) in &self.held[session.slot as usize] {
                value.extend_from_slice(&order.to_be_bytes());
                value.push(*kind as u8);
                put_bytes(&mut value, row);
            }
            out.put("sessions", id, value);
        }
        Ok(())
    }

    fn shard_key<'k>(&self, _table: &str, key: &'k [u8]) -> Result<&'k [u8]> {
        key_prefix(key)
    }

    fn restore(&mut self, input: &mut SnapshotReader<'_>) -> Result<()> {
        for (mut id, mut value) in input.rows("sessions") {
            let key = take_row(&mut id)?;
            let slot = self.sessions.restore(key, take_i64(&mut id)?, take_i64(&mut id)?) as usize;
            self.held.resize_with(self.held.len().max(slot + 1), Vec::new);
            while !value.is_empty() {
                let order = take_i64(&mut value)? as u64;
                let kind = row_kind(take_bytes(&mut value, 1)?[0])?;
                let row = take_row(&mut value)?;
                self.next = self.next.max(order + 1);
                self.bytes += row.len() + 40;
                self.held[slot].push((order, kind, row.into()));
            }
        }
        Ok(())
    }
}

/// A row kind as it is written in state.
pub fn row_kind(code: u8) -> Result<RowKind> {
    Ok(match code {
        0 => RowKind::Insert,
        1 => RowKind::UpdateBefore,
        2 => RowKind::UpdateAfter,
        3 => RowKind::Delete,
        other => return Err(Error::runtime(format!("state holds an unknown row kind {other}"))),
    })
}
