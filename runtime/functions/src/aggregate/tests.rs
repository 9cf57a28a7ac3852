//! All aggregates against the same laws: retraction undoes addition, merging is adding one behind the other, encoded
//! state comes back, running results are the results after each row. And Flink's results for single cases.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use arrow::array::ArrayRef;
use proptest::prelude::*;
use sluice_batch::aggregate::RunningRows;
use sluice_batch::datum::{from_array, from_datums};
use sluice_batch::{Accumulator, Datum, Expr, Field, Result, RowKind, Span, SqlType, TypeKind};

use crate::{AggregateArgs, BoundAggregate, JsonClauses, bind_aggregate};

fn bind(name: &str, args: &[Expr]) -> Result<BoundAggregate> {
    bind_aggregate(AggregateArgs { name, args, distinct: false, json: &JsonClauses::default(), span: Span::NONE })
}

fn columns(types: &[SqlType]) -> Vec<Expr> {
    types.iter().enumerate().map(|(i, t)| Expr::column(i, t.clone())).collect()
}

fn decimal(p: u8, s: u8) -> SqlType {
    TypeKind::Decimal(p, s).nullable()
}

fn accumulator(name: &str, types: &[SqlType], retractable: bool, distinct: bool) -> (Box<dyn Accumulator>, SqlType) {
    let bound = bind(name, &columns(types)).unwrap();
    let mut inner = bound.function.accumulator(retractable);
    if distinct {
        inner = super::distinct(inner, types.to_vec()).unwrap();
    }
    (inner, bound.ty)
}

fn arrays(rows: &[Vec<Datum>], types: &[SqlType]) -> Vec<ArrayRef> {
    types.iter().enumerate().map(|(i, t)| from_datums(rows.iter().map(|r| &r[i]), t).unwrap()).collect()
}

fn datums(array: &ArrayRef, ty: &SqlType) -> Vec<Datum> {
    (0..array.len()).map(|i| from_array(array, i, ty)).collect()
}

/// The result over the rows of one group.
fn result_of(name: &str, types: &[SqlType], rows: &[Vec<Datum>], kinds: Option<&[RowKind]>) -> Datum {
    let (mut acc, ty) = accumulator(name, types, kinds.is_some(), false);
    acc.resize(1);
    acc.update(&arrays(rows, types), &vec![0; rows.len()], kinds).unwrap();
    from_array(&acc.evaluate(&[0]).unwrap(), 0, &ty)
}

fn ints(values: &[i32]) -> Vec<Vec<Datum>> {
    values.iter().map(|v| vec![Datum::Int(*v)]).collect()
}

#[test]
fn types_are_flinks() {
    let int = TypeKind::Int.nullable();
    for (name, arg, expected) in [
        ("SUM", int.clone(), "INT"),
        ("SUM", TypeKind::TinyInt.not_null(), "TINYINT NOT NULL"),
        ("sum", decimal(10, 2), "DECIMAL(38, 2)"),
        ("SUM", TypeKind::Float.nullable(), "FLOAT"),
        ("AVG", int.clone(), "INT"),
        ("AVG", decimal(10, 2), "DECIMAL(38, 6)"),
        ("AVG", decimal(20, 10), "DECIMAL(38, 10)"),
        ("COUNT", int.clone(), "BIGINT NOT NULL"),
        ("MIN", TypeKind::VarChar(5).nullable(), "VARCHAR(5)"),
        ("LISTAGG", TypeKind::VarChar(5).nullable(), "STRING"),
        ("COLLECT", int.clone(), "MULTISET<INT> NOT NULL"),
        ("ARRAY_AGG", TypeKind::Int.not_null(), "ARRAY<INT NOT NULL>"),
        ("STDDEV_POP", TypeKind::SmallInt.nullable(), "SMALLINT"),
        ("VARIANCE", decimal(10, 2), "DECIMAL(38, 6)"),
        ("FIRST_VALUE", TypeKind::Boolean.nullable(), "BOOLEAN"),
        ("$SUM0", int.clone(), "INT NOT NULL"),
        ("APPROX_COUNT_DISTINCT", int, "BIGINT NOT NULL"),
    ] {
        assert_eq!(bind(name, &columns(&[arg])).unwrap().ty.to_string(), expected, "{name}");
    }
}

#[test]
fn errors_are_flinks() {
    let string = TypeKind::STRING.nullable();
    let message = |name: &str, types: &[SqlType]| bind(name, &columns(types)).err().unwrap().to_string();
    assert_eq!(
        message("AVG", std::slice::from_ref(&string)),
        "Cannot apply 'AVG' to arguments of type 'AVG(<VARCHAR(2147483647)>)'. Supported form(s): 'AVG(<NUMERIC>)'"
    );
    assert!(message("SUM", std::slice::from_ref(&string)).contains("SUM(<NUMERIC>)"));
    assert!(message("MAX", &[TypeKind::Array(Box::new(string.clone())).nullable()]).contains("COMPARABLE_TYPE"));
    assert!(message("SUM", &[]).contains("Invalid number of arguments"));
    assert!(message("LISTAGG", &[string.clone(), string.clone()]).contains("character literal"));
    assert!(message("LISTAGG", &[TypeKind::Int.nullable()]).contains("LISTAGG(<INTEGER>)"));
    assert!(message("SUMM", &[string]).contains("SUM"));
}

#[test]
fn results_are_flinks() {
    use Datum::{BigInt, Decimal, Double, Float, Int, Null, TinyInt};
    let d = |p, s| vec![decimal(p, s)];
    let t = |k: TypeKind| vec![k.nullable()];
    let row = |d: Datum| vec![d];
    for (name, types, rows, expected) in [
        ("SUM", t(TypeKind::Int), vec![], Null),
        ("SUM", t(TypeKind::Int), vec![row(Null)], Null),
        ("$SUM0", t(TypeKind::Int), vec![row(Null)], Int(0)),
        ("SUM", t(TypeKind::Int), ints(&[i32::MAX, 1]), Int(i32::MIN)),
        ("SUM", t(TypeKind::TinyInt), vec![row(TinyInt(100)), row(TinyInt(100))], TinyInt(-56)),
        ("SUM", t(TypeKind::Float), vec![row(Float(0.1)), row(Float(0.2))], Float(0.1 + 0.2)),
        ("AVG", t(TypeKind::Int), ints(&[1, 2]), Int(1)),
        ("AVG", t(TypeKind::Int), ints(&[-1, -2]), Int(-1)),
        ("AVG", t(TypeKind::Int), ints(&[i32::MAX, i32::MAX]), Int(i32::MAX)),
        ("AVG", t(TypeKind::Double), vec![row(Double(1.0)), row(Double(2.0)), row(Null)], Double(1.5)),
        // 0.01 + 0.02 + 0.02 over 3 is 0.016667
        ("AVG", d(10, 2), vec![row(Decimal(1)), row(Decimal(2)), row(Decimal(2))], Decimal(16667)),
        ("AVG", d(10, 2), vec![row(Decimal(-1)), row(Decimal(-2)), row(Decimal(-2))], Decimal(-16667)),
        ("SUM", d(38, 0), vec![row(Decimal(10i128.pow(38) - 1)), row(Decimal(1))], Null),
        ("COUNT", t(TypeKind::Int), vec![row(Int(1)), row(Null)], BigInt(1)),
        ("COUNT", vec![], vec![vec![], vec![]], BigInt(2)),
        ("MIN", t(TypeKind::STRING), vec![row(Datum::string("b")), row(Datum::string("a")), row(Null)], Datum::string("a")),
        ("MAX", t(TypeKind::Boolean), vec![row(Datum::Boolean(false)), row(Datum::Boolean(true))], Datum::Boolean(true)),
        ("STDDEV_POP", t(TypeKind::SmallInt), [16, 32, 48].map(|v| row(Datum::SmallInt(v))).to_vec(), Datum::SmallInt(13)),
        ("STDDEV", t(TypeKind::SmallInt), [16, 32, 48].map(|v| row(Datum::SmallInt(v))).to_vec(), Datum::SmallInt(16)),
        ("VAR_POP", t(TypeKind::SmallInt), [16, 32, 48].map(|v| row(Datum::SmallInt(v))).to_vec(), Datum::SmallInt(170)),
        ("VAR_SAMP", t(TypeKind::Int), ints(&[1]), Null),
        ("FIRST_VALUE", t(TypeKind::Int), vec![row(Null), row(Int(1)), row(Int(2))], Int(1)),
        ("LAST_VALUE", t(TypeKind::Int), vec![row(Int(1)), row(Int(2)), row(Null)], Int(2)),
        ("ARRAY_AGG", t(TypeKind::Int), vec![row(Int(1)), row(Null)], Datum::Array([Int(1), Null].into())),
        ("ARRAY_AGG", t(TypeKind::Int), vec![], Null),
        ("COLLECT", t(TypeKind::Int), ints(&[2, 1, 2]), Datum::Map([(Int(2), Int(2)), (Int(1), Int(1))].into())),
        ("LISTAGG", t(TypeKind::STRING), vec![row(Datum::string("a")), row(Null), row(Datum::string("b"))], Datum::string("a,b")),
        ("LISTAGG", t(TypeKind::STRING), vec![row(Null)], Null),
        ("SINGLE_VALUE", t(TypeKind::Int), ints(&[7]), Int(7)),
    ] {
        assert_eq!(result_of(name, &types, &rows, None), expected, "{name} {rows:?}");
    }
}

#[test]
fn nested_types_go_through() {
    let ty = TypeKind::Row(vec![
        Field::new("a", TypeKind::Int.nullable()),
        Field::new("m", TypeKind::Map(Box::new(TypeKind::STRING.nullable()), Box::new(TypeKind::Timestamp(3).nullable())).nullable()),
    ]);
    let value = Datum::Row([Datum::Int(1), Datum::Map([(Datum::string("k"), Datum::Timestamp(5))].into())].into());
    let rows = vec![vec![value.clone()], vec![Datum::Null]];
    let types = [ty.nullable()];
    assert_eq!(result_of("LAST_VALUE", &types, &rows, None), value);
    assert_eq!(result_of("ARRAY_AGG", &types, &rows, None), Datum::Array([value, Datum::Null].into()));
}

#[test]
fn a_second_single_value_fails() {
    let types = [TypeKind::Int.nullable()];
    let (mut acc, _) = accumulator("SINGLE_VALUE", &types, true, false);
    acc.resize(1);
    let rows = ints(&[1, 1, 2]);
    let kinds = [RowKind::Insert, RowKind::Delete, RowKind::Insert];
    acc.update(&arrays(&rows, &types), &[0; 3], Some(&kinds)).unwrap();
    let error = acc.update(&arrays(&ints(&[3]), &types), &[0], None).unwrap_err();
    assert_eq!(error.message(), "SingleValueAggFunction received more than one element.");
}

#[test]
fn percentiles_are_flinks() {
    let value = TypeKind::Double.nullable();
    let one = TypeKind::Double.not_null();
    let values = [1.0, 5.0, 4.0, 2.0, 9.0, 1.0, 4.0];
    let percentile = |p: f64| {
        let rows: Vec<_> = values.iter().map(|v| vec![Datum::Double(*v), Datum::Double(p)]).collect();
        result_of("PERCENTILE", &[value.clone(), one.clone()], &rows, None)
    };
    for (p, expected) in [(0.5, 4.0), (0.0, 1.0), (1.0, 9.0), (0.25, 1.5), (0.9, 0.6 * 5.0 + 0.4 * 9.0)] {
        match percentile(p) {
            Datum::Double(v) => assert!((v - expected).abs() < 1e-9, "{p}: {v} is not {expected}"),
            other => panic!("{other:?}"),
        }
    }
    let int = TypeKind::Int.nullable();
    let rows: Vec<_> = [(1.0, 1), (5.0, 2), (4.0, 1), (2.0, 4), (9.0, 3), (1.0, 2), (4.0, 1)]
        .iter()
        .map(|(v, n)| vec![Datum::Double(*v), Datum::Double(0.5), Datum::Int(*n)])
        .collect();
    assert_eq!(result_of("PERCENTILE", &[value.clone(), one.clone(), int], &rows, None), Datum::Double(3.0));
    let literal = |p| vec![Expr::column(0, value.clone()), Expr::literal(Datum::Double(p), one.clone())];
    assert!(bind("PERCENTILE", &literal(0.5)).is_ok());
    assert!(bind("PERCENTILE", &literal(1.5)).err().unwrap().message().starts_with("Invalid input arguments"));
}

#[test]
fn many_distinct_values_are_counted_within_two_percent() {
    let types = [TypeKind::Int.nullable()];
    let (mut acc, ty) = accumulator("APPROX_COUNT_DISTINCT", &types, false, false);
    acc.resize(2);
    for n in 0..20 {
        let rows = ints(&(n * 1000..n * 1000 + 1500).collect::<Vec<_>>());
        acc.update(&arrays(&rows, &types), &vec![0; rows.len()], None).unwrap();
    }
    acc.update(&arrays(&ints(&[1, 1, 2]), &types), &[1; 3], None).unwrap();
    let results = datums(&acc.evaluate(&[0, 1]).unwrap(), &ty);
    let estimate = results[0].as_i64().unwrap();
    assert!((20_100..20_900).contains(&estimate), "{estimate} is not about 20500");
    assert_eq!(results[1], Datum::BigInt(2));
}

#[derive(Clone, Debug)]
struct Case {
    name: &'static str,
    ty: SqlType,
    distinct: bool,
}

/// Aggregates of one argument whose result depends only on the rows that are there and their order.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let numbers = [TypeKind::TinyInt, TypeKind::Int, TypeKind::BigInt, TypeKind::Decimal(10, 2), TypeKind::Double, TypeKind::Float];
    for kind in numbers {
        for name in ["SUM", "$SUM0", "AVG", "MIN", "MAX", "VAR_POP", "STDDEV_SAMP"] {
            cases.push((name, kind.clone()));
        }
    }
    let others = [TypeKind::Boolean, TypeKind::Date, TypeKind::Time(3), TypeKind::Timestamp(3), TypeKind::Timestamp(9), TypeKind::STRING];
    for kind in others {
        cases.extend(["MIN", "MAX"].map(|n| (n, kind.clone())));
    }
    for kind in [TypeKind::Int, TypeKind::STRING] {
        cases.extend(["COUNT", "FIRST_VALUE", "LAST_VALUE", "ARRAY_AGG", "COLLECT", "APPROX_COUNT_DISTINCT"].map(|n| (n, kind.clone())));
    }
    cases.push(("LISTAGG", TypeKind::STRING));
    let case = |distinct| move |(name, kind): &(&'static str, TypeKind)| Case { name, ty: kind.clone().nullable(), distinct };
    cases.iter().map(case(false)).chain(cases.iter().map(case(true))).collect()
}

/// Small whole numbers, so that sums of floats are exact whatever the order.
fn value(ty: &SqlType, n: i8) -> Datum {
    if n < 0 {
        return Datum::Null;
    }
    match &ty.kind {
        TypeKind::Boolean => Datum::Boolean(n % 2 == 0),
        TypeKind::TinyInt => Datum::TinyInt(n),
        TypeKind::Int => Datum::Int(i32::from(n)),
        TypeKind::BigInt => Datum::BigInt(i64::from(n)),
        TypeKind::Decimal(..) => Datum::Decimal(i128::from(n)),
        TypeKind::Float => Datum::Float(f32::from(n)),
        TypeKind::Double => Datum::Double(f64::from(n)),
        TypeKind::Date => Datum::Date(i32::from(n)),
        TypeKind::Time(_) => Datum::Time(i32::from(n)),
        TypeKind::Timestamp(_) => Datum::Timestamp(i64::from(n)),
        _ => Datum::string("x".repeat(n as usize)),
    }
}

/// Equal, floats up to rounding.
fn same(a: &Datum, b: &Datum) -> bool {
    match (a, b) {
        (Datum::Double(a), Datum::Double(b)) => (a - b).abs() < 1e-5,
        (Datum::Float(a), Datum::Float(b)) => (a - b).abs() < 1e-3,
        // Results of VAR_POP and the like that are cut to whole numbers.
        (Datum::Map(a), Datum::Map(b)) => a.len() == b.len() && a.iter().all(|e| b.contains(e)),
        _ => a == b,
    }
}

/// Whether results are cut off after floating-point work, so that rounding shows.
fn is_truncated(case: &Case) -> bool {
    matches!(case.name, "VAR_POP" | "STDDEV_SAMP") && !matches!(case.ty.kind, TypeKind::Double | TypeKind::Float)
}

const GROUPS: u32 = 3;

/// Rows as (group, value, addition); a retraction takes back the oldest live row of the group with that value, if any.
fn changes() -> impl Strategy<Value = Vec<(u32, i8, bool)>> {
    prop::collection::vec((0..GROUPS, -1i8..5, prop::bool::weighted(0.65)), 0..30).prop_map(|ops| {
        let mut live: Vec<(u32, i8)> = Vec::new();
        let mut out = Vec::new();
        for (group, n, addition) in ops {
            let at = live.iter().position(|r| *r == (group, n));
            match (addition, at) {
                (false, Some(at)) => {
                    live.remove(at);
                    out.push((group, n, false));
                }
                _ => {
                    live.push((group, n));
                    out.push((group, n, true));
                }
            }
        }
        out
    })
}

struct Input {
    args: Vec<ArrayRef>,
    groups: Vec<u32>,
    kinds: Vec<RowKind>,
}

fn input(case: &Case, changes: &[(u32, i8, bool)]) -> Input {
    let rows: Vec<_> = changes.iter().map(|(_, n, _)| vec![value(&case.ty, *n)]).collect();
    Input {
        args: arrays(&rows, std::slice::from_ref(&case.ty)),
        groups: changes.iter().map(|(g, ..)| *g).collect(),
        kinds: changes.iter().map(|(.., add)| if *add { RowKind::UpdateAfter } else { RowKind::UpdateBefore }).collect(),
    }
}

/// What is left of the changes.
fn survivors(changes: &[(u32, i8, bool)]) -> Vec<(u32, i8, bool)> {
    let mut live: Vec<(u32, i8, bool)> = Vec::new();
    for (group, n, addition) in changes {
        match addition {
            true => live.push((*group, *n, true)),
            false => {
                let at = live.iter().position(|(g, m, _)| g == group && m == n).unwrap();
                live.remove(at);
            }
        }
    }
    live
}

fn all(acc: &dyn Accumulator, ty: &SqlType) -> Vec<Datum> {
    datums(&acc.evaluate(&(0..GROUPS).collect::<Vec<_>>()).unwrap(), ty)
}

/// An accumulator that has seen the changes.
fn run(case: &Case, changes: &[(u32, i8, bool)], retractable: bool) -> (Box<dyn Accumulator>, SqlType) {
    let (mut acc, ty) = accumulator(case.name, std::slice::from_ref(&case.ty), retractable, case.distinct);
    acc.resize(GROUPS as usize);
    let input = input(case, changes);
    acc.update(&input.args, &input.groups, retractable.then_some(&input.kinds[..])).unwrap();
    (acc, ty)
}

fn assert_same(case: &Case, what: &str, got: &[Datum], expected: &[Datum]) {
    assert_eq!(got.len(), expected.len());
    for (g, e) in got.iter().zip(expected) {
        assert!(same(g, e) || is_truncated(case), "{what}, {case:?}: {got:?} is not {expected:?}");
    }
}

/// DISTINCT keeps a value at the place where it first appeared, so order-sensitive results differ from a recomputation.
fn depends_on_order(case: &Case) -> bool {
    matches!(case.name, "FIRST_VALUE" | "LAST_VALUE" | "ARRAY_AGG" | "LISTAGG")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn retraction_undoes_addition(changes in changes()) {
        for case in cases().iter().filter(|c| !(c.distinct && depends_on_order(c))) {
            let (acc, ty) = run(case, &changes, true);
            let (plain, _) = run(case, &survivors(&changes), false);
            assert_same(case, "retraction", &all(acc.as_ref(), &ty), &all(plain.as_ref(), &ty));
        }
    }

    #[test]
    fn state_comes_back(changes in changes()) {
        for case in cases() {
            for retractable in [false, true] {
                let changes = if retractable { changes.clone() } else { survivors(&changes) };
                let (acc, ty) = run(&case, &changes, retractable);
                let (mut copy, _) = accumulator(case.name, std::slice::from_ref(&case.ty), retractable, case.distinct);
                copy.resize(GROUPS as usize);
                for group in 0..GROUPS {
                    let mut bytes = Vec::new();
                    acc.encode(group, &mut bytes);
                    bytes.push(42);
                    let mut rest = bytes.as_slice();
                    copy.decode(group, &mut rest).unwrap();
                    prop_assert_eq!(rest, &[42][..], "{:?}", &case);
                }
                assert_same(&case, "decoded", &all(copy.as_ref(), &ty), &all(acc.as_ref(), &ty));
                // It also goes on as the original does.
                let mut acc = acc;
                let more = input(&case, &[(0, 3, true), (1, 0, true)]);
                for a in [&mut acc, &mut copy] {
                    a.update(&more.args, &more.groups, None).unwrap();
                }
                assert_same(&case, "continued", &all(copy.as_ref(), &ty), &all(acc.as_ref(), &ty));
            }
        }
    }

    #[test]
    fn merging_is_adding_behind(changes in changes(), at in 0usize..30) {
        for case in cases() {
            for retractable in [false, true] {
                let changes = if retractable { changes.clone() } else { survivors(&changes) };
                // Which of two equal values goes first depends on where they lie.
                if retractable && depends_on_order(&case) {
                    continue;
                }
                let at = at.min(changes.len());
                let (mut first, ty) = run(&case, &changes[..at], retractable);
                let (second, _) = run(&case, &changes[at..], retractable);
                let slots: Vec<u32> = (0..GROUPS).collect();
                first.merge(second.as_ref(), &slots, &slots).unwrap();
                let (whole, _) = run(&case, &changes, retractable);
                // A variance cannot be merged with retractions of rows from before.
                if !(retractable && matches!(case.name, "VAR_POP" | "STDDEV_SAMP")) {
                    assert_same(&case, "merged", &all(first.as_ref(), &ty), &all(whole.as_ref(), &ty));
                }
            }
        }
    }

    #[test]
    fn running_results_are_those_after_each_row(changes in changes(), filter in prop::collection::vec(any::<bool>(), 30)) {
        for case in cases() {
            let input = input(&case, &changes);
            let filter = arrow::array::BooleanArray::from(filter[..changes.len()].to_vec());
            let types = std::slice::from_ref(&case.ty);
            let (mut acc, ty) = accumulator(case.name, types, true, case.distinct);
            let (mut slow, _) = accumulator(case.name, types, true, case.distinct);
            acc.resize(GROUPS as usize);
            slow.resize(GROUPS as usize);
            let rows = RunningRows::new(&input.groups);
            let (before, after) = rows.update(acc.as_mut(), &input.args, Some(&input.kinds), Some(&filter)).unwrap();
            for row in 0..changes.len() {
                let group = &input.groups[row..=row];
                let expected = slow.evaluate(group).unwrap();
                assert_same(&case, "before", &[from_array(&before, row, &ty)], &datums(&expected, &ty));
                if filter.value(row) {
                    slow.update(&[input.args[0].slice(row, 1)], group, Some(&input.kinds[row..=row])).unwrap();
                }
                let expected = slow.evaluate(group).unwrap();
                assert_same(&case, "after", &[from_array(&after, row, &ty)], &datums(&expected, &ty));
            }
        }
    }

    #[test]
    fn cleared_slots_are_empty(changes in changes()) {
        for case in cases() {
            let (mut acc, ty) = run(&case, &changes, true);
            let (empty, _) = run(&case, &[], true);
            (0..GROUPS).for_each(|g| acc.clear(g));
            prop_assert_eq!(all(acc.as_ref(), &ty), all(empty.as_ref(), &ty));
            prop_assert!(acc.memory() < 2000, "{:?} holds {} bytes", case, acc.memory());
        }
    }
}
