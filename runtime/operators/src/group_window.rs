//! Which operator aggregates windows: window TVFs and the old `GROUP BY TUMBLE(…)`, which differ in what goes out.

use sluice_batch::Result;
use sluice_batch::algebra::WindowSpec;

use crate::Operator;
use crate::session_aggregate::SessionAggregate;
use crate::spec::{GroupWindowSpec, WindowAggregateSpec, WindowInput};
use crate::window_aggregate::WindowAggregate;
use crate::window_output::WindowOutput;

pub fn window_aggregate(spec: WindowAggregateSpec) -> Result<Box<dyn Operator>> {
    let proctime = matches!(spec.window, WindowInput::Assign { proctime: true, .. });
    let output = WindowOutput::bounds(spec.ltz || proctime);
    make(spec, output, "WindowAggregate")
}

pub fn group_window(spec: GroupWindowSpec) -> Result<Box<dyn Operator>> {
    let output = WindowOutput { properties: spec.properties, ltz: spec.ltz };
    let aggregate = WindowAggregateSpec {
        input: spec.input,
        window: WindowInput::Assign { time: spec.time, window: spec.window, proctime: spec.proctime },
        keys: spec.keys,
        calls: spec.calls,
        retracting: spec.retracting,
        ltz: spec.ltz,
    };
    make(aggregate, output, "GroupWindowAggregate")
}

fn make(spec: WindowAggregateSpec, output: WindowOutput, name: &'static str) -> Result<Box<dyn Operator>> {
    Ok(match spec.window {
        WindowInput::Assign { window: WindowSpec::Session { gap }, .. } => Box::new(SessionAggregate::new(spec, output, gap, name)?),
        _ => Box::new(WindowAggregate::new(spec, output, name)?),
    })
}

#[cfg(test)]
mod tests {
    use sluice_batch::algebra::WindowProperty;
    use sluice_batch::{SqlType, WATERMARK_MAX};

    use super::*;
    use crate::assert_lines;
    use crate::spec::{OperatorSpec, WindowTvfSpec};
    use crate::testing::{Harness, count, sum, types};

    fn input() -> Vec<SqlType> {
        types("ts string bigint")
    }

    fn aggregate(window: WindowSpec, retracting: bool) -> Harness {
        Harness::new(OperatorSpec::WindowAggregate(WindowAggregateSpec {
            input: input(),
            window: WindowInput::Assign { time: 0, window, proctime: false },
            keys: vec![1],
            calls: vec![count(), sum(2)],
            retracting,
            ltz: false,
        }))
    }

    #[test]
    fn tumble() {
        let mut h = aggregate(WindowSpec::Tumble { size: 10, offset: 0 }, false);
        assert_lines!(h.send(0, &input(), "1 a 1; 12 a 2; 3 b 3; 9 a 4; 25 c 1"), "");
        assert_lines!(h.watermark(8), "");
        assert_lines!(h.watermark(9), "+I a 2 5 0 10 9; +I b 1 3 0 10 9");
        // Late for [0, 10), but not for [10, 20).
        assert_lines!(h.send(0, &input(), "5 a 9; 11 b 1"), "");
        assert_eq!(h.operator.late_rows(), 1);
        h.restart();
        h.send(0, &input(), "5 a 9");
        assert_lines!(h.watermark(WATERMARK_MAX), "+I a 1 2 10 20 19; +I b 1 1 10 20 19; +I c 1 1 20 30 29");
        assert_eq!(h.operator.late_rows(), 1);
        assert_eq!(h.operator.state_bytes(), 0);
    }

    #[test]
    fn hop_shares_slices() {
        let mut h = aggregate(WindowSpec::Hop { slide: 5, size: 10, offset: 0 }, false);
        h.send(0, &input(), "1 a 1; 6 a 2; 12 b 4");
        assert_lines!(h.watermark(9), "+I a 1 1 -5 5 4; +I a 2 3 0 10 9");
        // [0, 10) is over, [5, 15) is not.
        h.send(0, &input(), "7 a 8; 2 a 100");
        assert_eq!(h.operator.late_rows(), 1);
        h.restart();
        assert_lines!(h.watermark(14), "+I a 2 10 5 15 14; +I b 1 4 5 15 14");
        assert_lines!(h.watermark(WATERMARK_MAX), "+I b 1 4 10 20 19");
        assert_eq!(h.operator.state_bytes(), 0);
    }

    #[test]
    fn cumulate_and_retraction() {
        let mut h = aggregate(WindowSpec::Cumulate { step: 5, max: 15, offset: 0 }, true);
        h.send(0, &input(), "1 a 1; 6 a 2; 7 b 4; -D 8 b 4; 13 c 1; -D 13 c 1; 13 d 1; 16 e 1");
        assert_lines!(
            h.watermark(WATERMARK_MAX),
            "+I a 1 1 0 5 4; +I a 2 3 0 10 9; +I a 2 3 0 15 14; +I d 1 1 0 15 14; +I e 1 1 15 20 19; +I e 1 1 15 25 24; +I e 1 1 15 30 29"
        );
    }

    #[test]
    fn sessions_merge() {
        let mut h = aggregate(WindowSpec::Session { gap: 5 }, false);
        h.send(0, &input(), "1 a 1; 9 a 2; 20 a 4; 2 b 1; 5 a 8");
        h.restart();
        assert_lines!(h.watermark(6), "+I b 1 1 2 7 6");
        assert_lines!(h.watermark(13), "+I a 3 11 1 14 13");
        h.send(0, &input(), "8 a 1; 16 a 16");
        assert_eq!(h.operator.late_rows(), 1);
        assert_lines!(h.watermark(WATERMARK_MAX), "+I a 2 20 16 25 24");
    }

    #[test]
    fn attached_windows() {
        let t = types("ts ts string bigint");
        let mut h = Harness::new(OperatorSpec::WindowAggregate(WindowAggregateSpec {
            input: t.clone(),
            window: WindowInput::Attached { start: 0, end: 1 },
            keys: vec![],
            calls: vec![sum(3)],
            retracting: false,
            ltz: false,
        }));
        h.send(0, &t, "0 10 a 1; 5 15 a 2; 0 10 b 4; 2 10 b 1");
        assert_lines!(h.watermark(9), "+I 5 0 10 9; +I 1 2 10 9");
        h.send(0, &t, "0 10 a 1");
        assert_lines!(h.watermark(14), "+I 2 5 15 14");
    }

    #[test]
    fn zones_and_properties() {
        let t = types("ltz string bigint");
        let mut h = Harness::new(OperatorSpec::GroupWindow(GroupWindowSpec {
            input: t.clone(),
            time: 0,
            window: WindowSpec::Tumble { size: 86_400_000, offset: 0 },
            proctime: false,
            keys: vec![1],
            calls: vec![count()],
            retracting: false,
            properties: vec![WindowProperty::End, WindowProperty::Start, WindowProperty::Rowtime],
            ltz: true,
        }));
        h.context.time_zone = chrono_tz::Tz::Asia__Shanghai;
        // 1970-01-01 17:00 UTC is 1970-01-02 01:00 in Shanghai; the day ends at 16:00 UTC.
        h.send(0, &t, "61200000 a 1; 50400000 a 1");
        assert_lines!(h.watermark(57_599_998), "");
        assert_lines!(h.watermark(57_599_999), "+I a 1 86400000 0 57599999");
        assert_lines!(h.watermark(WATERMARK_MAX), "+I a 1 172800000 86400000 143999999");
    }

    #[test]
    fn proctime_windows_fire_on_ticks() {
        let t = types("ltz string bigint");
        let mut h = Harness::new(OperatorSpec::WindowAggregate(WindowAggregateSpec {
            input: t.clone(),
            window: WindowInput::Assign { time: 0, window: WindowSpec::Tumble { size: 10, offset: 0 }, proctime: true },
            keys: vec![],
            calls: vec![sum(2)],
            retracting: false,
            ltz: false,
        }));
        h.tick(3);
        h.send(0, &t, "NULL a 1; NULL a 2");
        assert_lines!(h.watermark(100), "");
        assert_lines!(h.tick(9), "+I 3 0 10 9");
    }

    fn tvf(window: WindowSpec) -> Harness {
        let t = types("ts string");
        Harness::new(OperatorSpec::WindowTvf(WindowTvfSpec {
            input: t,
            time: 0,
            window,
            partition_by: vec![1],
            proctime: false,
            ltz: false,
        }))
    }

    #[test]
    fn table_functions() {
        let t = types("ts string");
        let mut h = tvf(WindowSpec::Hop { slide: 5, size: 10, offset: 0 });
        assert_lines!(h.send(0, &t, "7 a; NULL b; -D 12 c"), "+I 7 a 5 15 14; +I 7 a 0 10 9; -D 12 c 10 20 19; -D 12 c 5 15 14");
        let mut h = tvf(WindowSpec::Session { gap: 5 });
        assert_lines!(h.send(0, &t, "7 a; 1 b; 15 a; 12 a"), "");
        h.restart();
        assert_lines!(h.watermark(5), "+I 1 b 1 6 5");
        assert_lines!(h.watermark(19), "+I 7 a 7 20 19; +I 15 a 7 20 19; +I 12 a 7 20 19");
    }
}
