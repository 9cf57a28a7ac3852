//! The operator against the definition of its frames, over random rows, batches, watermarks and restarts.

use proptest::prelude::*;
use sluice_batch::algebra::{Bound, Frame, OverCall, SortKey};
use sluice_batch::{Millis, WATERMARK_MAX};

use crate::spec::{OperatorSpec, OverSpec, OverTime};
use crate::testing::{Harness, count, sum, types};

/// Key, time, value.
type Row = (usize, Millis, Option<i64>);

fn text(value: Option<i64>) -> String {
    value.map_or("NULL".into(), |v| v.to_string())
}

/// What goes out for the rows of one key, in order.
fn expected(rows: &[Row], by_rows: bool, range: Option<i64>) -> Vec<String> {
    let in_frame = |i: usize, j: usize| {
        let behind = if by_rows { j > i } else { rows[j].1 > rows[i].1 };
        let gone = range.is_some_and(|n| if by_rows { (j as i64) < i as i64 - n } else { rows[j].1 < rows[i].1 - n });
        !behind && !gone
    };
    (0..rows.len())
        .map(|i| {
            let values: Vec<Option<i64>> = (0..rows.len()).filter(|j| in_frame(i, *j)).map(|j| rows[j].2).collect();
            let sum = values.iter().flatten().copied().reduce(|a, b| a + b);
            let (key, time, value) = rows[i];
            format!("+I k{key} {time} {} {} {}", text(value), values.len(), text(sum))
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn frames(
        batches in prop::collection::vec((prop::collection::vec((0..2usize, 0..30i64, prop::option::of(-5..5i64)), 0..6), 0..8i64, any::<bool>()), 1..8),
        by_rows in any::<bool>(),
        range in prop::option::of(0..6i64),
    ) {
        let t = types("string ts bigint");
        let mut h = Harness::new(OperatorSpec::Over(OverSpec {
            input: t.clone(),
            partition_by: vec![0],
            order_by: vec![SortKey { column: 1, descending: false, nulls_first: false }],
            time: OverTime::Rowtime(1),
            frame: Frame { rows: by_rows, start: range.map_or(Bound::Unbounded, Bound::Preceding), end: Bound::Preceding(0) },
            calls: vec![OverCall::Aggregate(count()), OverCall::Aggregate(sum(2))],
            state_ttl: 0,
        }));
        let mut accepted: Vec<Vec<Row>> = vec![vec![]; 2];
        let (mut got, mut watermark, mut last_out) = (vec![], -1, [-1; 2]);
        for (mut rows, step, restart) in batches {
            // RANGE frames forget keys without rows in reach, and then take a late row that they would have dropped, as Flink's.
            if range.is_some() && !by_rows {
                rows.retain(|r| r.1 > watermark);
            }
            for row in &rows {
                // Bounded frames take what is behind the watermark, but not behind a row that went out.
                let limit = if range.is_some() { last_out[row.0] } else { watermark };
                if row.1 > limit {
                    accepted[row.0].push(*row);
                }
            }
            let lines: Vec<String> = rows.iter().map(|(k, time, v)| format!("k{k} {time} {}", text(*v))).collect();
            h.send(0, &t, &lines.join("; "));
            watermark += step;
            got.extend(h.watermark(watermark));
            for (last, rows) in last_out.iter_mut().zip(&accepted) {
                *last = rows.iter().map(|r| r.1).filter(|time| *time <= watermark).max().unwrap_or(-1);
            }
            if restart {
                h.restart();
                h.watermark = watermark;
            }
        }
        got.extend(h.watermark(WATERMARK_MAX));
        let mut want: Vec<String> = accepted
            .iter_mut()
            .flat_map(|rows| {
                rows.sort_by_key(|r| r.1);
                expected(rows, by_rows, range)
            })
            .collect();
        got.sort();
        want.sort();
        prop_assert_eq!(got, want);
    }
}
