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

/// An operator, how many inputs it has, and whether rows may be taken back.
type Subject = (OperatorSpec, usize, bool);

/// Whether anything went to disk.
fn compare((spec, inputs, retracts): &Subject, steps: &[Step]) -> bool {
    let directory = directory();
    let memory = Memory::new(2500, directory.path().to_owned());
    let mut all = Harness::new(spec.clone());
    let mut few = Harness::with_memory(spec.clone(), memory.clone());
    let t = types("bigint bigint");
    for (at, step) in steps.iter().enumerate() {
        let run = |h: &mut Harness| -> Vec<String> {
            match step {
                Step::Rows(input, rows) => {
                    let line = |(add, key, value): &(bool, i64, i64)| {
                        let kind = if *add || !*retracts { "+I" } else { "-D" };
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
    }
    memory.has_spilled()
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

fn aggregates() -> Vec<Subject> {
    vec![(aggregate(false, false, 0), 1, false), (aggregate(true, false, 0), 1, true), (aggregate(true, false, 4000), 1, true)]
}

fn mini_batches() -> Vec<Subject> {
    vec![(aggregate(true, true, 0), 1, true)]
}

fn joins() -> Vec<Subject> {
    let specs = [
        join(JoinKind::Inner, false, 0),
        join(JoinKind::Full, true, 0),
        join(JoinKind::Anti, false, 0),
        join(JoinKind::Inner, false, 3000),
    ];
    specs.map(|spec| (spec, 2, true)).into()
}

fn rows_by_key() -> Vec<Subject> {
    let normalize = ChangelogNormalizeSpec {
        input: types("bigint bigint"),
        key: vec![0],
        emit_update_before: true,
        filter: None,
        mini_batch: false,
        state_ttl: 0,
    };
    let set = SetOperationSpec { input: types("bigint bigint"), except: true, all: true };
    vec![(OperatorSpec::ChangelogNormalize(normalize), 1, true), (OperatorSpec::SetOperation(set), 2, true)]
}

fn first_and_last_rows() -> Vec<Subject> {
    let spec = |(keep_last, state_ttl): (bool, i64)| {
        OperatorSpec::Deduplicate(DeduplicateSpec {
            input: types("bigint bigint"),
            keys: vec![0],
            time: 1,
            proctime: true,
            keep_last,
            emit_update_before: true,
            mini_batch: false,
            state_ttl,
            window_end: None,
        })
    };
    [(true, 0), (false, 0), (true, 3000)].map(|how| (spec(how), 1, false)).into()
}

/// What goes to disk depends on the steps; the others' may be few.
fn same(subjects: Vec<Subject>, steps: &[Step]) {
    for subject in subjects {
        compare(&subject, steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 40, ..ProptestConfig::with_cases(2) })]

    #[test]
    fn aggregates_are_the_same(steps in steps()) {
        same(aggregates(), &steps);
    }

    #[test]
    fn mini_batches_are_the_same(steps in steps()) {
        same(mini_batches(), &steps);
    }

    #[test]
    fn joins_are_the_same(steps in steps()) {
        same(joins(), &steps);
    }

    #[test]
    fn rows_by_key_are_the_same(steps in steps()) {
        same(rows_by_key(), &steps);
    }

    #[test]
    fn first_and_last_rows_are_the_same(steps in steps()) {
        same(first_and_last_rows(), &steps);
    }
}

#[test]
fn each_goes_to_disk() {
    let rows = |from: i64| (from..from + 10).map(|key| (true, key, key % 3)).collect();
    let steps: Vec<Step> = (0..24).flat_map(|i| [Step::Rows(i % 2, rows(i as i64 / 2 * 10)), Step::Flush]).collect();
    for subject in [aggregates(), mini_batches(), joins(), rows_by_key(), first_and_last_rows()].concat() {
        assert!(compare(&subject, &steps), "{:?}", subject.0);
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
