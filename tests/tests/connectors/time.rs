//! Watermarks of real partitions.

use arrow::array::AsArray;
use sluice_batch::Expr;
use sluice_connect::WatermarkSpec;

use super::*;

pub fn watermarks_follow_each_row_on_event() {
    let topic = topic("wm");
    produce(&topic, &[Some("1"), Some("3"), Some("2"), Some("4")]);
    let spec = table("kafka", &topic, &[EARLIEST, ("format", "json")], &[("v", string())]);
    let mut spec = TableSpec { physical: vec![Field::new("v", string())], ..spec };
    spec.options.last_mut().unwrap().value = "raw".into();
    spec.metadata = vec![metadata("timestamp", TypeKind::TimestampLtz(3).nullable())];
    let watermark = WatermarkSpec {
        expr: Expr::column(1, TypeKind::TimestampLtz(3).nullable()),
        column: 1,
        on_event: true,
        interval: Duration::from_millis(200),
        idle_timeout: Duration::ZERO,
    };
    let mut source = open_source(&spec, &ScanRequest { watermark: Some(watermark), ..bounded(&spec) }).unwrap();
    let (mut rows, mut marks) = (0, vec![]);
    loop {
        match source.poll(Duration::from_millis(100), 0).unwrap() {
            SourceEvent::Rows(b) => {
                let times = b.column(1).as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
                assert!(marks.is_empty() || times.values().iter().all(|t| t / 1000 >= marks[marks.len() - 1]));
                rows += b.rows();
            }
            SourceEvent::Watermark(w) => marks.push(w),
            SourceEvent::End => break,
            _ => {}
        }
    }
    assert_eq!(rows, 4);
    assert!(!marks.is_empty() && marks.is_sorted());
}

/// Time is the least of the partitions that are not idle. The clock is the test's own.
pub fn watermarks_are_kept_by_partition() {
    let topic = created("wm-partitions", 3);
    produce_to(&topic, 0, &["a", "b", "c", "d", "e", "f"]);
    produce_to(&topic, 1, &["a", "b", "c"]);
    let mut spec = raw(&topic, &[EARLIEST]);
    spec.metadata = vec![metadata("timestamp", TypeKind::TimestampLtz(3).nullable())];
    let watermark = WatermarkSpec {
        expr: Expr::column(1, TypeKind::TimestampLtz(3).nullable()),
        column: 1,
        on_event: false,
        interval: Duration::from_millis(200),
        idle_timeout: Duration::from_millis(1000),
    };
    let mut source = open_source(&spec, &ScanRequest { watermark: Some(watermark), ..request(&spec) }).unwrap();
    // Rows, without the clock moving: the partition without rows holds time back.
    assert_eq!(read_at(source.as_mut(), 9, 0), [0_i64; 0]);
    // It becomes idle, and the others do, too: in the order of their watermarks.
    let marks = advance(source.as_mut(), 0, 2000);
    assert_eq!(marks, ["6000", "idle"]);
    let splits = source.splits();
    assert_eq!(splits.iter().map(|s| (s.watermark, s.idle)).collect::<Vec<_>>(), [(Some(6000), true), (Some(3000), true), (None, true)]);
    // One wakes up behind the others: time does not go back, and waits for it.
    produce_to(&topic, 1, &["x"]);
    assert_eq!(read_at(source.as_mut(), 1, 2000), [0_i64; 0]);
    assert_eq!(advance(source.as_mut(), 2000, 2400), [] as [&str; 0]);
    produce_to(&topic, 1, &["1", "2", "3", "4", "5", "6", "7"]);
    read_at(source.as_mut(), 7, 2400);
    assert_eq!(advance(source.as_mut(), 2400, 2800), ["7000"]);
}

/// Polls at a moment of the clock until so many rows are there; answers the watermarks among them.
fn read_at(source: &mut dyn Source, rows: usize, now: i64) -> Vec<i64> {
    let (mut seen, mut marks, started) = (0, vec![], Instant::now());
    while seen < rows {
        match source.poll(Duration::from_millis(50), now).unwrap() {
            SourceEvent::Rows(b) => seen += b.rows(),
            SourceEvent::Watermark(w) => marks.push(w),
            _ => assert!(started.elapsed() < Duration::from_secs(20), "{seen} of {rows} rows"),
        }
    }
    marks
}

/// Moves the clock and answers what the source says of time.
fn advance(source: &mut dyn Source, from: i64, to: i64) -> Vec<String> {
    let mut told = vec![];
    for now in (from..=to).step_by(50) {
        match source.poll(Duration::ZERO, now).unwrap() {
            SourceEvent::Watermark(w) => told.push(w.to_string()),
            SourceEvent::Idle => told.push("idle".into()),
            SourceEvent::Pending => {}
            other => panic!("{other:?}"),
        }
    }
    told
}
