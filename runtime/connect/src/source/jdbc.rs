//! `jdbc` as a source: a table or view, read once; bounded.
//!
//! A read that was interrupted goes on behind the last row that was given: by the declared primary key, or by the rows' places in the heap
//! (`ctid`). Views and partitioned tables without a PRIMARY KEY cannot go on in the middle.

use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray};
use futures::{StreamExt, TryStreamExt};
use sluice_batch::{Batch, Error, Expr, Field, Millis, Result, SqlType, TypeKind};
use sluice_format::ChangelogMode;
use tokio::sync::mpsc;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::BATCH_ROWS;
use crate::jdbc::catalog::Relation;
use crate::jdbc::client::{Connection, Failure, runtime, wait};
use crate::jdbc::decode::{Column, Raw};
use crate::jdbc::filter;
use crate::jdbc::sql::SqlColumn;
use crate::jdbc::table::JdbcTable;
use crate::progress::{Progress, RecordEnd};
use crate::registry::SourceFactory;
use crate::{ScanColumn, ScanRequest, Source, SourceEvent, SourceInfo, SplitStatus, TableSpec};

pub(crate) const FACTORY: SourceFactory = SourceFactory { info, metadata: |_| Ok(vec![]), open, splits: true, filters };

/// The position of a split that has given all it has.
const DONE: &str = "done";

fn info(table: &TableSpec) -> Result<SourceInfo> {
    JdbcTable::new(table)?;
    Ok(SourceInfo { changelog: ChangelogMode::InsertOnly, bounded: true, upsert_key: None })
}

/// Whether PostgreSQL can look at a condition over the scan's columns. What its own columns are is seen when it is opened.
fn filters(table: &TableSpec, request: &ScanRequest, condition: &Expr) -> bool {
    filter::condition(condition, &|at| Some((String::new(), field(table, request, at)?.ty.kind.clone()))).is_some()
}

/// The field that a column of the scan is.
fn field<'t>(table: &'t TableSpec, request: &ScanRequest, at: usize) -> Option<&'t Field> {
    match request.columns.get(at)? {
        ScanColumn::Physical(i) => table.physical.get(*i),
        ScanColumn::Metadata(_) => None,
    }
}

/// The end of a range of values.
#[derive(Clone, Copy)]
enum Last {
    Is(i64),
    /// A further range begins there; between whole numbers there are others.
    Before(i64),
}

/// A part of the table, and how far it has been read.
struct Split {
    name: String,
    /// Of `scan.partition.column`: the first value, and the last one.
    range: Option<(i64, Last)>,
    /// `done`, or the key of the last row as a JSON array of texts.
    position: Option<String>,
}

fn open(table: &TableSpec, request: &ScanRequest) -> Result<Box<dyn Source>> {
    let jdbc = JdbcTable::new(table)?;
    let (names, mut splits): (Vec<String>, Vec<Split>) = match &jdbc.partitions {
        None => (vec!["all".into()], vec![Split { name: "all".into(), range: None, position: None }]),
        Some(partitions) => {
            let name = |(from, to): &(i64, i64)| format!("{}:{from}..{to}", partitions.column);
            let split = |(at, range): (usize, &(i64, i64))| {
                let last = partitions.ranges.get(at + 1).map_or(Last::Is(range.1), |next| Last::Before(next.0));
                Split { name: name(range), range: Some((range.0, last)), position: None }
            };
            (partitions.ranges.iter().map(name).collect(), partitions.ranges.iter().enumerate().map(split).collect())
        }
    };
    let mut number = 0;
    splits.retain(|_| {
        number += 1;
        match splits_are_one(&names) {
            true => request.share.task == 0,
            false => request.share.has(&table.name, number - 1),
        }
    });
    let scan = match splits.is_empty() {
        true => None,
        false => Some(Scan::open(table, &jdbc, request)?),
    };
    Ok(Box::new(JdbcSource {
        names,
        progress: Progress::new(request, true),
        splits,
        scan,
        events: None,
        current: 0,
        keys: vec![],
        first: 0,
        given: 0,
        ended: false,
    }))
}

fn splits_are_one(names: &[String]) -> bool {
    names.len() == 1
}

/// What is read, and the connection for it.
struct Scan {
    connection: Connection,
    /// The statement up to WHERE.
    select: String,
    types: Vec<SqlType>,
    /// Behind the columns come the texts of these; rows are in their order. Empty: rows have no order.
    keys: Vec<SqlColumn>,
    partition: Option<SqlColumn>,
    /// What the plan wants of the rows, as far as PostgreSQL looks at it.
    filter: Option<String>,
    /// Rows of a round trip; 0: they stream.
    fetch: i32,
}

impl Scan {
    fn open(table: &TableSpec, jdbc: &JdbcTable, request: &ScanRequest) -> Result<Self> {
        let columns = request.columns.iter().map(|c| match c {
            ScanColumn::Physical(i) => Ok(*i),
            ScanColumn::Metadata(_) => Err(Error::plan("internal: a JDBC table has no metadata")),
        });
        let columns = columns.collect::<Result<Vec<usize>>>()?;
        wait(async {
            let connection = Connection::open(&jdbc.target, request.time_zone).await?;
            let relation = Relation::find(&connection, &jdbc.table_name).await?;
            let place = connection.place.as_str();
            // All are looked at: what is declared wrong is said at once, not when it is used.
            let all = (0..table.physical.len()).map(|c| relation.read(table, place, c)).collect::<Result<Vec<_>>>()?;
            let keys = match &table.primary_key {
                Some(key) => key.iter().map(|k| relation.named(table, place, *k)).collect::<Result<Vec<_>>>()?,
                None if relation.is_heap => vec![SqlColumn { name: "ctid".into(), ty: "tid".into() }],
                None => vec![],
            };
            if table.primary_key.is_none() && relation.is_heap {
                // Only these plans give rows in the order of their places.
                let plans = "SET synchronize_seqscans = off; SET max_parallel_workers_per_gather = 0; SET enable_indexscan = off; \
                             SET enable_indexonlyscan = off";
                connection.ask("cannot set up the scan", connection.client.batch_execute(plans)).await?;
            }
            let partition = jdbc.partitions.as_ref().map(|p| relation.by_name(table, place, &p.column)).transpose()?;
            let column = |at: usize| Some((all[*columns.get(at)?].clone(), field(table, request, at)?.ty.kind.clone()));
            let texts = keys.iter().map(|k| format!("t.{}::text", k.name));
            let selected: Vec<String> = columns.iter().map(|c| all[*c].clone()).chain(texts).collect();
            let selected = if selected.is_empty() { "1".to_owned() } else { selected.join(", ") };
            Ok(Self {
                select: format!("SELECT {selected} FROM {} AS t", relation.name),
                types: columns.iter().map(|c| table.physical[*c].ty.clone()).collect(),
                keys,
                partition,
                filter: request.filter.as_ref().and_then(|f| filter::condition(f, &column)),
                fetch: if jdbc.auto_commit { 0 } else { i32::try_from(jdbc.fetch_size).unwrap_or(i32::MAX) },
                connection,
            })
        })
    }

    /// The statement for a split, and its parameters.
    ///
    /// # Errors
    /// If the split's position is none that this table's rows have.
    fn query(&self, split: &Split) -> Result<(String, Vec<String>)> {
        let (mut sql, mut conditions, mut parameters) = (self.select.clone(), self.filter.iter().cloned().collect::<Vec<_>>(), vec![]);
        if let (Some((from, to)), Some(column)) = (split.range, &self.partition) {
            let name = &column.name;
            conditions.push(match to {
                Last::Is(to) => format!("t.{name} BETWEEN {from} AND {to}"),
                Last::Before(next) => format!("t.{name} >= {from} AND t.{name} < {next}"),
            });
        }
        if let Some(position) = &split.position {
            let key: Vec<String> = serde_json::from_str(position).unwrap_or_default();
            if key.len() != self.keys.len() || key.is_empty() {
                return Err(Error::runtime(format!("the scan cannot go on in its middle ('{position}')"))
                    .hint("declare the PRIMARY KEY that it had; a view needs one"));
            }
            let names = self.keys.iter().map(|k| format!("t.{}", k.name)).collect::<Vec<_>>().join(", ");
            let values = self.keys.iter().enumerate().map(|(i, k)| format!("${}::text::{}", i + 1, k.ty)).collect::<Vec<_>>().join(", ");
            conditions.push(format!("({names}) > ({values})"));
            parameters = key;
        }
        if !conditions.is_empty() {
            sql += &format!(" WHERE {}", conditions.join(" AND "));
        }
        if self.keys.first().is_some_and(|k| k.name != "ctid") {
            sql += &format!(" ORDER BY {}", self.keys.iter().map(|k| format!("t.{}", k.name)).collect::<Vec<_>>().join(", "));
        }
        Ok((sql, parameters))
    }
}

/// What the reading task sends.
enum Event {
    /// Rows of the split: columns and keys.
    Rows(Vec<ArrayRef>, Vec<ArrayRef>, usize),
    SplitEnd,
}

type Events = mpsc::Receiver<Result<Event>>;

struct JdbcSource {
    /// Of all splits of the table.
    names: Vec<String>,
    progress: Progress,
    /// Of this task.
    splits: Vec<Split>,
    /// Until the first poll.
    scan: Option<Scan>,
    events: Option<Events>,
    /// The split that is being read; as many as there are: none any more.
    current: usize,
    /// Keys of the last batch.
    keys: Vec<ArrayRef>,
    /// Rows of the split before the last batch.
    first: i64,
    /// The split's number in `progress`, whose position counts rows.
    given: u32,
    ended: bool,
}

impl JdbcSource {
    fn start(&mut self) -> Result<()> {
        let Some(scan) = self.scan.take() else { return Ok(()) };
        let queries = self.splits.iter().filter(|s| s.position.as_deref() != Some(DONE)).map(|s| scan.query(s));
        let queries = queries.collect::<Result<Vec<_>>>()?;
        let (sender, events) = mpsc::channel(4);
        self.events = Some(events);
        self.next_split(true);
        runtime()?.spawn(async move {
            let mut scan = scan;
            for (sql, parameters) in queries {
                let read = read(&mut scan, &sql, &parameters, &sender).await.map_err(Error::from);
                // The other end is gone if the job has ended.
                let failed = read.is_err();
                if sender.send(read.map(|()| Event::SplitEnd)).await.is_err() || failed {
                    return;
                }
            }
        });
        Ok(())
    }

    /// Goes to the next split that has something to give.
    fn next_split(&mut self, first: bool) {
        if !first {
            if let Some(split) = self.splits.get_mut(self.current) {
                split.position = Some(DONE.into());
            }
            self.current += 1;
        }
        while self.splits.get(self.current).is_some_and(|s| s.position.as_deref() == Some(DONE)) {
            self.current += 1;
        }
        self.keys.clear();
        self.first = 0;
        if let Some(split) = self.splits.get(self.current) {
            self.given = self.progress.add_split(split.name.clone(), 0);
        }
    }

    fn rows(&mut self, columns: Vec<ArrayRef>, keys: Vec<ArrayRef>, rows: usize, now: Millis) -> Result<()> {
        self.first = self.progress.position(self.given);
        self.keys = keys;
        let mut records = self.progress.take_records();
        let (split, first) = (self.given, self.first);
        records.extend((1..=rows as u32).map(|end| RecordEnd { split, end, next: first + i64::from(end) }));
        self.progress.give(Batch::new(columns, rows), records, now)
    }

    /// The key of the last row that was given of the current split.
    fn key(&self) -> Option<String> {
        let row = usize::try_from(self.progress.position(self.given) - self.first - 1).ok()?;
        let texts = self.keys.iter().map(|k| k.as_string_opt::<i32>().filter(|k| row < k.len()).map(|k| k.value(row)));
        let texts = texts.collect::<Option<Vec<_>>>()?;
        serde_json::to_string(&texts).ok()
    }
}

/// Reads what a statement gives.
async fn read(scan: &mut Scan, sql: &str, parameters: &[String], sender: &mpsc::Sender<Result<Event>>) -> Result<(), Failure> {
    let what = "cannot read rows";
    let place = scan.connection.place.clone();
    let failed = |e: &tokio_postgres::Error| crate::jdbc::client::failure(e, &place, what);
    let mut batch = Builder::new(&scan.types, scan.keys.len()).map_err(Failure::lasting)?;
    let parameters: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|p| p as &(dyn ToSql + Sync)).collect();
    if scan.fetch == 0 {
        let statement = scan.connection.ask(what, scan.connection.client.prepare(sql)).await?;
        let mut rows = std::pin::pin!(scan.connection.client.query_raw(&statement, parameters).await.map_err(|e| failed(&e))?);
        while let Some(row) = rows.next().await {
            batch.push(&row.map_err(|e| failed(&e))?).map_err(|e| in_column(e, &place))?;
            if batch.rows >= BATCH_ROWS && !batch.send(sender).await? {
                return Ok(());
            }
        }
    } else {
        let transaction = scan.connection.client.transaction().await.map_err(|e| failed(&e))?;
        let statement = transaction.prepare(sql).await.map_err(|e| failed(&e))?;
        let portal = transaction.bind(&statement, &parameters).await.map_err(|e| failed(&e))?;
        loop {
            let rows = transaction.query_portal_raw(&portal, scan.fetch).await.map_err(|e| failed(&e))?;
            let rows: Vec<Row> = rows.try_collect().await.map_err(|e| failed(&e))?;
            rows.iter().try_for_each(|row| batch.push(row)).map_err(|e| in_column(e, &place))?;
            let ended = rows.len() < usize::try_from(scan.fetch).unwrap_or(1);
            if batch.rows >= BATCH_ROWS && !batch.send(sender).await? {
                return Ok(());
            }
            if ended {
                break;
            }
        }
        transaction.commit().await.map_err(|e| failed(&e))?;
    }
    batch.send(sender).await?;
    Ok(())
}

fn in_column(message: String, place: &str) -> Failure {
    Failure::lasting(Error::runtime(format!("PostgreSQL {place}: {message}")))
}

/// A batch under construction.
struct Builder {
    columns: Vec<Column>,
    keys: Vec<Column>,
    rows: usize,
}

impl Builder {
    fn new(types: &[SqlType], keys: usize) -> Result<Self> {
        let columns = types.iter().map(Column::new).collect::<Result<_>>()?;
        let keys = (0..keys).map(|_| Column::new(&TypeKind::STRING.nullable())).collect::<Result<_>>()?;
        Ok(Self { columns, keys, rows: 0 })
    }

    fn push(&mut self, row: &Row) -> Result<(), String> {
        for (at, column) in self.columns.iter_mut().chain(&mut self.keys).enumerate() {
            let raw: Option<Raw<'_>> = row.try_get(at).map_err(|e| e.to_string())?;
            column.push(raw.map(|r| r.0)).map_err(|e| format!("column {}: {e}", row.columns()[at].name()))?;
        }
        self.rows += 1;
        Ok(())
    }

    /// `false`: nobody wants more.
    async fn send(&mut self, sender: &mpsc::Sender<Result<Event>>) -> Result<bool, Failure> {
        let rows = std::mem::take(&mut self.rows);
        if rows == 0 {
            return Ok(true);
        }
        let finish = |columns: &mut Vec<Column>| columns.iter_mut().map(Column::finish).collect::<Result<Vec<_>>>();
        let columns = finish(&mut self.columns).map_err(Failure::lasting)?;
        let keys = finish(&mut self.keys).map_err(Failure::lasting)?;
        Ok(sender.send(Ok(Event::Rows(columns, keys, rows))).await.is_ok())
    }
}

impl Source for JdbcSource {
    fn poll(&mut self, timeout: Duration, now: Millis) -> Result<SourceEvent> {
        self.start()?;
        loop {
            if let Some(event) = self.progress.next_pending() {
                return Ok(event);
            }
            if let Some(event) = self.progress.tick(now) {
                return Ok(event);
            }
            if self.ended || self.current >= self.splits.len() {
                self.ended = true;
                return Ok(SourceEvent::End);
            }
            let Some(events) = &mut self.events else { return Ok(SourceEvent::End) };
            let event = match events.try_recv() {
                Ok(event) => Some(event),
                Err(_) if timeout.is_zero() && !events.is_closed() => return Ok(SourceEvent::Pending),
                Err(_) => match runtime()?.block_on(async { tokio::time::timeout(timeout, events.recv()).await }) {
                    Ok(event) => event,
                    Err(_) => return Ok(SourceEvent::Pending),
                },
            };
            match event {
                None => return Err(Error::runtime("internal: the reading of a JDBC table has ended")),
                Some(Err(error)) => return Err(error),
                Some(Ok(Event::Rows(columns, keys, rows))) => self.rows(columns, keys, rows, now)?,
                Some(Ok(Event::SplitEnd)) => self.next_split(false),
            }
        }
    }

    fn positions(&self) -> Vec<(String, String)> {
        let position = |(at, split): (usize, &Split)| {
            let key = if at == self.current && self.progress.position(self.given) > 0 {
                // Without a key nobody can say where: that is said when it is to go on there.
                self.key().or_else(|| Some("[]".into()))
            } else {
                split.position.clone()
            };
            Some((split.name.clone(), key?))
        };
        self.splits.iter().enumerate().filter_map(position).collect()
    }

    fn seek(&mut self, positions: &[(String, String)]) -> Result<()> {
        for (name, position) in positions {
            if !self.names.contains(name) {
                return Err(Error::runtime(format!("the scan was in parts that are not there any more ('{name}')"))
                    .hint("leave the 'scan.partition' options as they were"));
            }
            if let Some(split) = self.splits.iter_mut().find(|s| s.name == *name) {
                split.position = Some(position.clone());
            }
        }
        Ok(())
    }

    fn splits(&self) -> Vec<SplitStatus> {
        self.progress.status(|_, _| None)
    }
}
