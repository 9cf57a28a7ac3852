//! `jdbc` as a sink: inserts, or with a PRIMARY KEY upserts and deletes.

use std::sync::Arc;
use std::time::Duration;

use sluice_batch::{Batch, Error, Millis, Result};
use sluice_format::ChangelogMode;

use crate::columns;
use crate::jdbc::table::JdbcTable;
use crate::jdbc::transaction::Transaction;
use crate::jdbc::write::{self, Changes, Statements, Writer};
use crate::registry::SinkFactory;
use crate::{Later, Sink, SinkInfo, TableSpec, Transactions};

pub(crate) const FACTORY: SinkFactory = SinkFactory { info, open };

/// So many bytes may wait for a commit before they go into the open transaction.
const MOST: usize = 32 << 20;

fn info(spec: &TableSpec) -> Result<SinkInfo> {
    let table = JdbcTable::new(spec)?;
    columns::check_writable(spec, &[])?;
    let changelog = if spec.primary_key.is_some() { ChangelogMode::Upsert } else { ChangelogMode::InsertOnly };
    Ok(SinkInfo { changelog, delete_by_key: true, guarantee: table.sink.guarantee })
}

fn open(spec: &TableSpec, time_zone: chrono_tz::Tz, transactions: &Transactions) -> Result<Box<dyn Sink>> {
    info(spec)?;
    let table = JdbcTable::new(spec)?;
    let (connection, prepared, statements) = write::open(spec, &table, time_zone)?;
    let changes = Changes::new(spec.physical.len(), spec.primary_key.clone());
    if table.sink.guarantee == "exactly-once" {
        let Some(transaction) = &transactions.database else {
            return Err(Error::runtime("an exactly-once table is written without a transaction"));
        };
        return Ok(Box::new(WithinTransaction { transaction: transaction.clone(), statements: Arc::new(statements), changes }));
    }
    let writer = Writer::new(table.target, time_zone, (connection, prepared), statements, table.sink.retries)?;
    let interval = i64::try_from(table.sink.interval.as_millis()).unwrap_or(i64::MAX);
    Ok(Box::new(AtLeastOnce { writer, changes, rows: table.sink.rows, interval, flushed: None }))
}

/// Rows are visible when enough are there, after a while, and before a commit counts.
struct AtLeastOnce {
    writer: Writer,
    changes: Changes,
    rows: usize,
    interval: i64,
    flushed: Option<Millis>,
}

impl AtLeastOnce {
    fn send(&mut self) -> Result<()> {
        if self.changes.is_empty() { Ok(()) } else { self.writer.write(self.changes.take()) }
    }
}

impl Sink for AtLeastOnce {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        self.changes.push(batch)?;
        let full = self.rows > 0 && self.changes.len() >= self.rows;
        if full || self.changes.size() >= MOST { self.send() } else { Ok(()) }
    }

    fn flush(&mut self, _end: bool) -> Result<()> {
        self.send()?;
        self.writer.later()()
    }

    fn flush_later(&mut self) -> Result<Option<Later>> {
        self.send()?;
        Ok(Some(self.writer.later()))
    }

    fn tick(&mut self, now: Millis) -> Result<()> {
        let last = *self.flushed.get_or_insert(now);
        if self.interval > 0 && now - last >= self.interval {
            self.flushed = Some(now);
            return self.send();
        }
        Ok(())
    }
}

/// Rows are visible with the commit that they belong to.
struct WithinTransaction {
    transaction: Arc<Transaction>,
    statements: Arc<Statements>,
    changes: Changes,
}

impl Sink for WithinTransaction {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        self.changes.push(batch)?;
        self.transaction.gate.mark();
        if self.changes.size() < MOST {
            return Ok(());
        }
        // They belong to the transaction behind the one that is being committed.
        while self.transaction.gate.is_closed() {
            std::thread::sleep(Duration::from_millis(1));
        }
        if self.transaction.gate.is_open() { self.transaction.apply(&self.statements, &self.changes.take()) } else { Ok(()) }
    }

    /// The commit writes them.
    fn flush(&mut self, _end: bool) -> Result<()> {
        Ok(())
    }

    fn flush_later(&mut self) -> Result<Option<Later>> {
        if self.changes.is_empty() {
            return Ok(None);
        }
        let (transaction, statements, changes) = (self.transaction.clone(), self.statements.clone(), self.changes.take());
        Ok(Some(Box::new(move || transaction.apply(&statements, &changes))))
    }
}
