//! Records per second through the Kafka source with its decoder, and through the sink:
//! `SLUICE_KAFKA=127.0.0.1:29092 cargo run --release -p sluice-connect --example kafka_bench -- 2000000`.
//! CPU time is of the whole process: librdkafka's threads too.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};
use sluice_batch::{Batch, Field, Result, Span, TypeKind};
use sluice_connect::{ScanColumn, ScanRequest, SourceEvent, TableOption, TableSpec, open_sink, open_source};

/// User and system time in seconds (Linux counts in ticks of 10 ms).
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    fields.iter().skip(11).take(2).filter_map(|f| f.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn main() -> Result<()> {
    let rows: usize = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(1_000_000);
    let servers = std::env::var("SLUICE_KAFKA").unwrap_or_else(|_| "127.0.0.1:29092".into());
    let topic = std::env::var("TOPIC").unwrap_or_else(|_| format!("connect-bench-{:08x}", rand::random::<u32>()));
    let options = [
        ("connector", "kafka"),
        ("topic", &topic),
        ("properties.bootstrap.servers", &servers),
        ("scan.startup.mode", "earliest-offset"),
        ("format", "json"),
    ];
    let option = |(k, v): &(&str, &str)| TableOption { key: (*k).into(), value: (*v).into(), key_span: Span::NONE, value_span: Span::NONE };
    let table = TableSpec {
        name: "bench".into(),
        physical: vec![
            Field::new("user_id", TypeKind::STRING.nullable()),
            Field::new("amount", TypeKind::BigInt.nullable()),
            Field::new("ts", TypeKind::Timestamp(3).nullable()),
        ],
        metadata: vec![],
        primary_key: None,
        options: options.iter().map(option).collect(),
        span: Span::NONE,
    };
    if std::env::var("TOPIC").is_err() {
        write(&table, rows)?;
    }
    for (name, columns) in [("all three columns", vec![0, 1, 2]), ("one column", vec![1]), ("none", vec![])] {
        let columns = columns.into_iter().map(ScanColumn::Physical).collect();
        let share = sluice_connect::Share::ALL;
        let request =
            ScanRequest { columns, watermark: None, force_bounded: true, time_zone: chrono_tz::UTC, share, group: None, filter: None };
        let (wall, used) = (Instant::now(), cpu());
        let mut source = open_source(&table, &request)?;
        let (mut read, mut batches) = (0, 0);
        loop {
            match source.poll(Duration::from_millis(100), 0)? {
                SourceEvent::Rows(b) => (read, batches) = (read + b.rows(), batches + 1),
                SourceEvent::End => break,
                _ => {}
            }
        }
        report(&format!("read, {name} ({} rows a batch)", read / batches.max(1)), read, wall, used);
    }
    Ok(())
}

fn write(table: &TableSpec, rows: usize) -> Result<()> {
    let mut sink = open_sink(table, chrono_tz::UTC, &Default::default())?;
    let (wall, used) = (Instant::now(), cpu());
    for start in (0..rows).step_by(8192) {
        let n = 8192.min(rows - start);
        let users = StringArray::from_iter_values((start..start + n).map(|i| format!("user-{}", i % 1000)));
        let amounts = Int64Array::from_iter_values((start..start + n).map(|i| i as i64 * 7 % 1000));
        let times = TimestampMicrosecondArray::from_iter_values((start..start + n).map(|i| 1_700_000_000_000_000 + i as i64 * 1000));
        let columns: Vec<ArrayRef> = vec![Arc::new(users), Arc::new(amounts), Arc::new(times)];
        sink.write(&Batch::new(columns, n))?;
    }
    sink.flush(true)?;
    report("write", rows, wall, used);
    Ok(())
}

fn report(what: &str, rows: usize, wall: Instant, used: f64) {
    let (wall, cpu) = (wall.elapsed().as_secs_f64(), cpu() - used);
    let million = rows as f64 / 1e6;
    println!("{what}: {rows} rows, {:.2} M/s, {:.2} CPU-s per million ({:.2} M per CPU-s)", million / wall, cpu / million, million / cpu);
}
