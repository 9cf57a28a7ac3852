//! The operator against a transcription of Flink's NFA (`NFACompiler`, `NFA`, `CepOperator`) that keeps all partial matches at once.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, TimestampMicrosecondArray};
use proptest::prelude::*;
use sluice_batch::algebra::{MatchClause, MatchExpr, MatchSlot, MatchSlotKind, PatternElement, SkipTo};
use sluice_batch::{Batch, EvalContext, Expr, ExprKind, Result, SqlType, TypeKind, WATERMARK_NONE};

use super::MatchRecognize;
use super::pattern::{FINAL, Program};
use crate::spec::MatchSpec;
use crate::state::{SnapshotReader, SnapshotWriter};
use crate::{Item, Operator, Output};

const VARIABLES: usize = 4;

/// A row: event time, and per variable whether its condition holds.
type Row = (i64, [bool; VARIABLES]);

#[derive(Clone, Debug)]
struct Case {
    pattern: Vec<(u32, Option<u32>, bool)>,
    /// Conditions also want fewer than three rows of the variable: they look at more than the row.
    counted: bool,
    skip: SkipTo,
    within: Option<i64>,
    rows: Vec<Row>,
    end: i64,
}

/// (emission time, row numbers of each variable)
type Match = (i64, Vec<Vec<usize>>);

// ---- the transcription ---------------------------------------------------------------------------------------

#[derive(Clone)]
struct Partial {
    start: Option<usize>,
    state: usize,
    bound: Vec<Vec<usize>>,
}

struct Model<'a> {
    case: &'a Case,
    program: Program,
}

impl Model<'_> {
    fn holds(&self, variable: usize, bound: &[Vec<usize>], row: usize) -> bool {
        self.case.rows[row].1[variable] && (!self.case.counted || bound[variable].len() < 3)
    }

    fn passes(&self, edge: &super::pattern::Edge, bound: &[Vec<usize>], row: usize) -> bool {
        edge.take.is_none_or(|v| self.holds(v, bound, row)) && !edge.not.iter().any(|v| self.holds(*v, bound, row))
    }

    fn step(&self, partial: &Partial, row: usize) -> Vec<(usize, Vec<Vec<usize>>)> {
        let (mut stack, mut taken, mut out) = (vec![partial.state], vec![], vec![]);
        while let Some(state) = stack.pop() {
            for edge in self.program.states[state].iter().filter(|e| self.passes(e, &partial.bound, row)) {
                if edge.take.is_none() { stack.push(edge.target) } else { taken.push(edge.clone()) }
            }
        }
        for edge in taken {
            let mut bound = partial.bound.clone();
            bound[edge.take.unwrap()].push(row);
            out.push((edge.target, bound.clone()));
            let mut todo = vec![edge.target];
            while let Some(state) = todo.pop() {
                let onwards: Vec<usize> = self.program.states[state]
                    .iter()
                    .filter(|e| e.take.is_none() && self.passes(e, &partial.bound, row))
                    .map(|e| e.target)
                    .collect();
                if onwards.contains(&FINAL) {
                    out.push((FINAL, bound));
                    break;
                }
                todo.extend(onwards);
            }
        }
        out
    }

    /// The first row that may start another match.
    fn cut(&self, bound: &[Vec<usize>]) -> Option<usize> {
        let first = *bound.iter().flatten().min().unwrap();
        let to = |row: Option<&usize>| row.copied().filter(|r| *r != first);
        match &self.case.skip {
            SkipTo::PastLastRow => bound.iter().flatten().max().map(|r| r + 1),
            SkipTo::NextRow => Some(first + 1),
            SkipTo::First(v) => to(bound[*v].first()),
            SkipTo::Last(v) => to(bound[*v].last()),
        }
    }

    /// All matches, or `None` if a skip went nowhere.
    fn run(&self) -> Option<Vec<Match>> {
        let (mut partials, mut done, mut out) = (Vec::<Partial>::new(), Vec::<(usize, usize, Vec<Vec<usize>>)>::new(), vec![]);
        let (rows, mut sequence) = (&self.case.rows, 0);
        let empty = vec![vec![]; self.case.pattern.len()];
        let mut release = |time: i64, partials: &mut Vec<Partial>, done: &mut Vec<(usize, usize, Vec<Vec<usize>>)>| {
            while !done.is_empty() {
                done.sort_by_key(|d| (d.0, d.1));
                if partials.iter().filter_map(|p| p.start).min().is_some_and(|s| s < done[0].0) {
                    break;
                }
                let (_, _, bound) = done.remove(0);
                let cut = self.cut(&bound)?;
                partials.retain(|p| p.start.unwrap() >= cut);
                done.retain(|d| d.0 >= cut);
                out.push((time, bound));
            }
            Some(())
        };
        for row in 0..rows.len() {
            let time = rows[row].0;
            partials.retain(|p| self.case.within.is_none_or(|w| time - rows[p.start.unwrap()].0 < w));
            release(time, &mut partials, &mut done)?;
            let mut next = vec![];
            let fresh = Partial { start: None, state: self.program.start, bound: empty.clone() };
            for partial in partials.iter().chain([&fresh]) {
                for (state, bound) in self.step(partial, row) {
                    let start = partial.start.unwrap_or(row);
                    if state == FINAL {
                        done.push((start, sequence, bound));
                        sequence += 1;
                    } else {
                        next.push(Partial { start: Some(start), state, bound });
                    }
                }
            }
            partials = next;
            release(time, &mut partials, &mut done)?;
        }
        partials.retain(|p| self.case.within.is_none_or(|w| self.case.end - rows[p.start.unwrap()].0 < w));
        release(self.case.end, &mut partials, &mut done)?;
        Some(out)
    }
}

// ---- the operator --------------------------------------------------------------------------------------------

fn timestamp() -> SqlType {
    TypeKind::Timestamp(3).not_null()
}

/// Input columns: rowtime, row number, key, then a flag per variable.
fn spec(case: &Case) -> MatchSpec {
    let mut input = vec![timestamp(), TypeKind::BigInt.not_null(), TypeKind::BigInt.not_null()];
    input.extend((0..VARIABLES).map(|_| TypeKind::Boolean.not_null()));
    let navigate = |variable: usize, last: bool, offset: u32, arg: Expr| MatchSlot {
        ty: arg.ty.as_nullable(),
        kind: MatchSlotKind::Navigate { variables: vec![variable], last, offset, arg },
    };
    let number = || Expr::column(1, TypeKind::BigInt.not_null());
    let condition = |v: usize| {
        let flag = navigate(v, true, 0, Expr::column(3 + v, TypeKind::Boolean.not_null()));
        let boolean = |kind| Expr { kind, ty: TypeKind::Boolean.not_null() };
        let flagged = Expr::column(0, flag.ty.clone());
        if !case.counted {
            return MatchExpr { expr: flagged, slots: vec![flag] };
        }
        let third = navigate(v, true, 3, number());
        let fewer = boolean(ExprKind::IsNull(Box::new(Expr::column(1, third.ty.clone()))));
        MatchExpr { expr: Expr::and(vec![flagged, fewer]), slots: vec![flag, third] }
    };
    let pattern = case.pattern.iter().enumerate().map(|(v, (min, max, greedy))| PatternElement {
        variable: format!("V{v}"),
        min: *min,
        max: *max,
        greedy: *greedy,
        condition: Some(condition(v)),
    });
    let mut measures = vec![];
    let measure = |slot: MatchSlot| MatchExpr { expr: Expr::column(0, slot.ty.clone()), slots: vec![slot] };
    measures.push(("at".to_owned(), measure(MatchSlot { kind: MatchSlotKind::Rowtime, ty: timestamp() })));
    for v in 0..case.pattern.len() {
        for last in [false, true] {
            measures.push((format!("m{v}"), measure(navigate(v, last, 0, number()))));
        }
    }
    let clause = MatchClause {
        partition_by: vec![2],
        time: 0,
        proctime: false,
        order_by: vec![],
        pattern: pattern.collect(),
        within: case.within,
        skip: case.skip.clone(),
        measures,
    };
    MatchSpec { input, clause }
}

/// The rows of two keys: the case's own under key 1, and the same an hour later under key 2.
fn batch(rows: &[(usize, Row)], key: i64) -> Batch {
    let times = rows.iter().map(|(_, (t, _))| t * 1000);
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from_iter_values(times)),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|(i, _)| *i as i64))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|_| key))),
    ];
    for v in 0..VARIABLES {
        columns.push(Arc::new(BooleanArray::from_iter(rows.iter().map(|(_, (_, f))| Some(f[v])))));
    }
    Batch::new(columns, rows.len())
}

/// Writes the operator's state and goes on in a new one.
fn restart(operator: &MatchRecognize, case: &Case, context: &EvalContext) -> Result<MatchRecognize> {
    let mut writer = SnapshotWriter::default();
    operator.snapshot(&mut writer)?;
    let tables = writer.into_tables();
    let mut operator = MatchRecognize::new(&spec(case))?;
    operator.restore(&mut SnapshotReader::new(&tables, context))?;
    Ok(operator)
}

/// Feeds the operator, a watermark and perhaps a restart behind every `every` rows, and answers its matches of key 1.
fn run(case: &Case, every: usize, restarts: bool) -> Result<Vec<Match>> {
    let mut operator = MatchRecognize::new(&spec(case))?;
    let (context, mut items) = (EvalContext::default(), vec![]);
    let rows: Vec<(usize, Row)> = case.rows.iter().copied().enumerate().collect();
    for rows in rows.chunks(every) {
        // Rows of one time must not be parted by a watermark; that of the last row but one holds the last ones back.
        let mark = rows.last().unwrap().1.0 - 1;
        operator.batch(0, batch(rows, 1), &mut Output::new(&mut items, &context, WATERMARK_NONE))?;
        operator.batch(0, batch(rows, 2), &mut Output::new(&mut items, &context, WATERMARK_NONE))?;
        operator.watermark(mark, &mut Output::new(&mut items, &context, mark))?;
        if restarts {
            operator = restart(&operator, case, &context)?;
        }
    }
    operator.watermark(case.end, &mut Output::new(&mut items, &context, case.end))?;
    let mut matches = BTreeMap::<i64, Vec<Match>>::new();
    for item in items {
        let Item::Batch(batch) = item else { panic!("no time is made here") };
        for row in 0..batch.rows() {
            let long = |c: usize| batch.column(c).as_primitive::<arrow::datatypes::Int64Type>();
            let at = batch.column(1).as_primitive::<arrow::datatypes::TimestampMicrosecondType>().value(row) / 1000;
            let range = |v: usize| {
                let (first, last) = (long(2 + 2 * v), long(3 + 2 * v));
                if arrow::array::Array::is_null(first, row) {
                    vec![]
                } else {
                    (first.value(row) as usize..=last.value(row) as usize).collect()
                }
            };
            matches.entry(long(0).value(row)).or_default().push((at, (0..case.pattern.len()).map(range).collect()));
        }
    }
    assert_eq!(matches.get(&1), matches.get(&2), "keys do not see each other");
    Ok(matches.remove(&1).unwrap_or_default())
}

// ---- random cases --------------------------------------------------------------------------------------------

fn quantifier() -> impl Strategy<Value = (u32, Option<u32>, bool)> {
    prop::sample::select(vec![
        (1, Some(1), true),
        (1, Some(1), true),
        (1, None, true),
        (1, None, false),
        (0, None, true),
        (0, None, false),
        (0, Some(1), true),
        (2, Some(2), true),
        (1, Some(2), true),
        (0, Some(2), false),
        (2, None, true),
        (1, Some(3), false),
    ])
}

fn case() -> impl Strategy<Value = Case> {
    let rows =
        prop::collection::vec((prop::sample::select(vec![0i64, 1, 1, 2, 5]), prop::array::uniform4(prop::bool::weighted(0.6))), 1..14);
    let pattern = prop::collection::vec(quantifier(), 1..=VARIABLES).prop_filter("what Flink rejects", |p| {
        let (min, max, greedy) = p[p.len() - 1];
        p.iter().any(|q| q.0 > 0) && (!greedy || Some(min) == max || (min, max) == (0, Some(1)))
    });
    let within = prop::sample::select(vec![None, None, Some(3), Some(6), Some(10)]);
    (pattern, any::<bool>(), 0..4usize, 0..VARIABLES, within, rows, prop::sample::select(vec![0i64, 2, 20])).prop_map(
        |(pattern, counted, skip, variable, within, steps, after)| {
            let variable = variable % pattern.len();
            let skip = [SkipTo::PastLastRow, SkipTo::NextRow, SkipTo::First(variable), SkipTo::Last(variable)][skip].clone();
            let mut time = 0;
            let rows: Vec<Row> = steps
                .into_iter()
                .map(|(step, flags)| {
                    time += step;
                    (time, flags)
                })
                .collect();
            Case { pattern, counted, skip, within, rows, end: time + after }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Row by row, the operator finds Flink's matches at Flink's times.
    #[test]
    fn finds_what_flink_finds(case in case()) {
        let model = Model { case: &case, program: Program::compile(&elements(&case)) };
        let got = run(&case, case.rows.len(), false);
        match model.run() {
            // A skip that goes nowhere fails; ours may find it earlier or later, as starts are tried one by one.
            None => {}
            Some(want) => {
                if let Ok(got) = got {
                    prop_assert_eq!(&got, &want);
                    for (every, restarts) in [(1, false), (3, false), (1, true), (4, true)] {
                        let parted = run(&case, every, restarts).unwrap();
                        let rows = |m: &[Match]| m.iter().map(|m| m.1.clone()).collect::<Vec<_>>();
                        prop_assert_eq!(rows(&parted), rows(&want), "a watermark behind every {} rows, restarts: {}", every, restarts);
                    }
                }
            }
        }
    }
}

fn elements(case: &Case) -> Vec<PatternElement> {
    spec(case).clause.pattern
}

/// The quirks that Flink's users know, with the results that Flink gave.
#[test]
fn greedy_is_possessive_and_optional_is_reluctant() {
    let flags = |text: &str| ["a", "b", "c", "d"].map(|v| text.contains(v));
    let find = |pattern: &[(u32, Option<u32>, bool)], rows: &[&str]| {
        let rows: Vec<Row> = rows.iter().enumerate().map(|(i, r)| (i as i64, flags(r))).collect();
        let case = Case { pattern: pattern.to_vec(), counted: false, skip: SkipTo::PastLastRow, within: None, end: 100, rows };
        run(&case, 100, false).unwrap().into_iter().map(|m| m.1).collect::<Vec<_>>()
    };
    let (one, plus, optional) = ((1, Some(1), true), (1, None, true), (0, Some(1), true));
    assert!(find(&[plus, one], &["a", "ab", "x"]).is_empty(), "A+ keeps the row that B needs");
    assert_eq!(find(&[plus, one], &["a", "b"]), [vec![vec![0], vec![1]]]);
    assert_eq!(find(&[one, optional, one], &["a", "bc", "c"]), [vec![vec![0], vec![], vec![1]]], "the match that completes first wins");
    assert!(find(&[plus, optional], &["a", "a", "x"]).is_empty(), "NOT(A) also guards the way out");
    assert!(find(&[one, (1, Some(2), true), one], &["a", "bc", "bc", "bc"]).is_empty());
}
