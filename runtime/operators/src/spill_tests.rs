//! Operators that hardly may keep anything in memory give what those give that may keep everything.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use sluice_batch::algebra::JoinKind;

use crate::memory::Memory;
use crate::spec::{ChangelogNormalizeSpec, DeduplicateSpec, GroupAggregateSpec, JoinSpec, OperatorSpec, SetOperationSpec};
use crate::testing::{Harness, count, sum, types};

/// What happens to both operators.
#[derive(Clone, Debug)]
enum Step {
    /// Rows of an input: whether it is added, key and value.
    Rows(usize, Vec<(bool, i64, i64)>),
    Flush,
    /// Processing time moves on by so much.
    Tick(i64),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let row = (prop::bool::weighted(0.7), 0..60i64, 0..3i64);
    let step = prop_oneof![
        30 => (0..2usize, prop::collection::vec(row, 1..12)).prop_map(|(input, rows)| Step::Rows(input, rows)),
        3 => Just(Step::Flush),
        3 => (1..1500i64).prop_map(Step::Tick),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 60..160)
}

/// In memory, if the machine has that: the store waits for the disk at every write, and here it writes at every step.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// `inputs`: how many; `retracts`: rows may be taken back.
fn compare(spec: &OperatorSpec, inputs: usize, retracts: bool, steps: &[Step]) {
    let directory = directory();
    let memory = Memory::new(2500, directory.path().to_owned());
    let mut all = Harness::new(spec.clone());
    let mut few = Harness::with_memory(spec.clone(), memory.clone());
    let t = types("bigint bigint");
    let mut most = 0;
    for (at, step) in steps.iter().enumerate() {
        let run = |h: &mut Harness| -> Vec<String> {
            match step {
                Step::Rows(input, rows) => {
                    let line = |(add, key, value): &(bool, i64, i64)| {
                        let kind = if *add || !retracts { "+I" } else { "-D" };
                        format!("{kind} {key} {value};")
                    };
                    h.send(input % inputs, &t, &rows.iter().map(line).collect::<String>())
                }
                Step::Flush => h.flush(),
                Step::Tick(by) => h.tick(h.context.now + by),
                Step::Restart => {
                    h.restart();
                    vec![]
                }
            }
        };
        // The order of a join key's rows is that of the snapshot.
        let (mut want, mut got) = (run(&mut all), run(&mut few));
        want.sort();
        got.sort();
        assert_eq!(got, want, "step {at}: {step:?}");
        most = most.max(few.operator.state_bytes());
    }
    assert!(memory.has_spilled() || all.operator.state_bytes() < 4000, "nothing went to disk: {most} bytes");
}

fn aggregate(retracting: bool, mini_batch: bool, state_ttl: i64) -> OperatorSpec {
    OperatorSpec::GroupAggregate(GroupAggregateSpec {
        input: types("bigint bigint"),
        keys: vec![0],
        calls: vec![count(), sum(1)],
        retracting,
        emit_update_before: true,
        mini_batch,
        state_ttl,
    })
}

fn join(kind: JoinKind, upsert: bool, ttl: i64) -> OperatorSpec {
    OperatorSpec::Join(JoinSpec {
        left: types("bigint bigint"),
        right: types("bigint bigint"),
        right_upsert_key: upsert.then(|| vec![0]),
        state_ttl: (ttl, ttl),
        ..crate::join::tests::spec(kind)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 40, ..ProptestConfig::with_cases(2) })]

    #[test]
    fn group_aggregate(steps in steps()) {
        compare(&aggregate(false, false, 0), 1, false, &steps);
        compare(&aggregate(true, false, 0), 1, true, &steps);
    }

    #[test]
    fn group_aggregate_with_time_to_live(steps in steps()) {
        compare(&aggregate(true, false, 4000), 1, true, &steps);
    }

    #[test]
    fn group_aggregate_in_mini_batches(steps in steps()) {
        compare(&aggregate(true, true, 0), 1, true, &steps);
    }

    #[test]
    fn joins(steps in steps()) {
        compare(&join(JoinKind::Inner, false, 0), 2, true, &steps);
        compare(&join(JoinKind::Full, true, 0), 2, true, &steps);
        compare(&join(JoinKind::Anti, false, 0), 2, true, &steps);
    }

    #[test]
    fn joins_with_time_to_live(steps in steps()) {
        compare(&join(JoinKind::Inner, false, 3000), 2, true, &steps);
    }

    #[test]
    fn rows_by_key(steps in steps()) {
        let normalize = ChangelogNormalizeSpec {
            input: types("bigint bigint"),
            key: vec![0],
            emit_update_before: true,
            filter: None,
            mini_batch: false,
            state_ttl: 0,
        };
        compare(&OperatorSpec::ChangelogNormalize(normalize), 1, true, &steps);
        let set = SetOperationSpec { input: types("bigint bigint"), except: true, all: true };
        compare(&OperatorSpec::SetOperation(set), 2, true, &steps);
    }

    #[test]
    fn first_and_last_rows(steps in steps()) {
        for (keep_last, state_ttl) in [(true, 0), (false, 0), (true, 3000)] {
            let spec = DeduplicateSpec {
                input: types("bigint bigint"),
                keys: vec![0],
                time: 1,
                proctime: true,
                keep_last,
                emit_update_before: true,
                mini_batch: false,
                state_ttl,
                window_end: None,
            };
            compare(&OperatorSpec::Deduplicate(spec), 1, false, &steps);
        }
    }
}

#[test]
fn what_changes_stays_until_it_is_committed() {
    let directory = directory();
    let memory = Memory::new(2000, directory.path().to_owned());
    let mut operator = crate::spec::build(&aggregate(false, false, 0)).unwrap();
    operator.spill(&memory);
    operator.track_changes();
    let context = sluice_batch::EvalContext::default();
    let rows: String = (0..200).map(|k| format!("{k} 1;")).collect();
    let mut items = vec![];
    let batch = crate::testing::batch(&types("bigint bigint"), &rows);
    operator.batch(0, batch, &mut crate::Output::new(&mut items, &context, 0)).unwrap();
    assert!(memory.wants_commit(), "all of it has changed");
    let mut delta = crate::state::DeltaWriter::default();
    operator.delta(&mut delta).unwrap();
    assert_eq!(delta.into_tables()["groups"].iter().len(), 200);
    let before = operator.state_bytes();
    operator.make_room().unwrap();
    assert!(!memory.wants_commit() && operator.state_bytes() < before / 2, "{} of {before}", operator.state_bytes());
    let mut snapshot = crate::state::SnapshotWriter::default();
    operator.snapshot(&mut snapshot).unwrap();
    assert_eq!(snapshot.into_tables()["groups"].iter().len(), 200);
}
