//! `PERCENTILE(value, percentage [, frequency])`: the exact percentile, interpolated (Flink: `PercentileAggFunction`).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Float64Builder, Int64Array, ListArray, ListBuilder};
use arrow::compute;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type};
use sluice_batch::{Accumulator, AggregateFunction, Datum, Error, Expr, Result, TypeKind};

use super::codec::{put_f64, put_i64, put_len, take_f64, take_i64, take_len, take_u8};
use super::min_max::{Multiset, Total, change};
use super::slots::{Aggregate, Slots, arg, typed};
use crate::{AggregateArgs, AggregateDeclaration, BoundAggregate};

pub(super) const DECLARATIONS: &[AggregateDeclaration] = &[AggregateDeclaration { names: &["PERCENTILE"], bind }];

const FORMS: &str = "PERCENTILE(expr <NUMERIC>, percentage [<NUMERIC NOT NULL> | ARRAY<NUMERIC NOT NULL> NOT NULL])
PERCENTILE(expr <NUMERIC>, percentage [<NUMERIC NOT NULL> | ARRAY<NUMERIC NOT NULL> NOT NULL], frequency <INTEGER_NUMERIC>)";

fn bind(call: AggregateArgs<'_>) -> Result<BoundAggregate> {
    let invalid = || Error::plan(format!("Invalid input arguments. Expected signatures are:\n{FORMS}"));
    let (value, percentage, frequency) = match call.args {
        [value, percentage] => (value, percentage, None),
        [value, percentage, frequency] => (value, percentage, Some(frequency)),
        _ => return Err(invalid()),
    };
    let many = matches!(percentage.ty.kind, TypeKind::Array(_));
    let percentage_fits = !percentage.ty.nullable
        && match &percentage.ty.kind {
            TypeKind::Array(element) => element.kind.is_numeric() && !element.nullable,
            kind => kind.is_numeric(),
        };
    let frequency_fits = frequency.is_none_or(|f| f.ty.kind.is_integer());
    if !value.ty.kind.is_numeric() || !percentage_fits || !frequency_fits || !constant_fits(percentage) {
        return Err(invalid());
    }
    let ty = if many { TypeKind::Array(Box::new(TypeKind::Double.nullable())) } else { TypeKind::Double };
    let function = Arc::new(Percentile { many, frequency: frequency.is_some() });
    Ok(BoundAggregate { function, args: call.args.to_vec(), ty: ty.nullable() })
}

/// Whether a percentage that is known already lies between 0 and 1.
fn constant_fits(percentage: &Expr) -> bool {
    let fits = |value: &Datum, kind: &TypeKind| {
        let number = match (value, kind) {
            (Datum::Decimal(v), TypeKind::Decimal(_, scale)) => *v as f64 / 10f64.powi(i32::from(*scale)),
            (Datum::Float(v), _) => f64::from(*v),
            (Datum::Double(v), _) => *v,
            _ => match value.as_i64() {
                Some(v) => v as f64,
                None => return true,
            },
        };
        (0.0..=1.0).contains(&number)
    };
    match (crate::fold_constant(percentage).or_else(|| percentage.as_literal().cloned()), &percentage.ty.kind) {
        (Some(Datum::Array(items)), TypeKind::Array(element)) => items.iter().all(|i| fits(i, &element.kind)),
        (Some(value), kind) => fits(&value, kind),
        (None, _) => true,
    }
}

/// The percentile, or an array of several.
#[derive(Clone, Debug)]
pub struct Percentile {
    many: bool,
    /// Whether there is a third argument: how often a row's value counts.
    frequency: bool,
}

impl AggregateFunction for Percentile {
    fn name(&self) -> &str {
        "PERCENTILE"
    }

    fn accumulator(&self, _retractable: bool) -> Box<dyn Accumulator> {
        Slots::boxed(self.clone())
    }
}

#[derive(Default)]
pub struct State {
    /// Those of the first row.
    percentages: Option<Vec<f64>>,
    counts: Multiset<Total<f64>>,
}

pub struct Columns {
    values: Float64Array,
    percentages: ArrayRef,
    frequencies: Option<Int64Array>,
}

impl Percentile {
    fn percentages(&self, column: &ArrayRef, row: usize) -> Result<Vec<f64>> {
        let values = match self.many {
            true => typed::<ListArray>(column)?.value(row),
            false => column.slice(row, 1),
        };
        let values = compute::cast(&values, &DataType::Float64)?;
        let values = values.as_primitive::<Float64Type>().values().to_vec();
        match values.iter().find(|p| !(0.0..=1.0).contains(*p)) {
            Some(p) => Err(Error::runtime(format!("Percentage of PERCENTILE should be between [0.0, 1.0], but was '{p:?}'."))),
            None => Ok(values),
        }
    }

    fn change(&self, state: &mut State, columns: &Columns, row: usize, sign: i64) {
        let frequency = match &columns.frequencies {
            None => 1,
            Some(f) if f.is_valid(row) => f.value(row).max(0),
            Some(_) => 0,
        };
        if frequency > 0 && columns.values.is_valid(row) {
            change(&mut state.counts, Total(columns.values.value(row)), sign * frequency);
        }
    }

    /// The percentiles in the order of the percentages, or `None` if there is no value.
    fn results(state: &State) -> Option<Vec<f64>> {
        let percentages = state.percentages.as_ref().filter(|p| !p.is_empty())?;
        let total: i64 = state.counts.values().sum();
        if total <= 0 {
            return None;
        }
        Some(percentages.iter().map(|p| percentile(&state.counts, *p * (total - 1) as f64 + 1.0)).collect())
    }
}

/// The value at a position that counts from 1, between two of them if it is not whole.
fn percentile(counts: &Multiset<Total<f64>>, position: f64) -> f64 {
    let (lower, higher) = (position.floor(), position.ceil());
    let mut values = counts.iter();
    let mut reached = 0i64;
    let mut current = f64::NAN;
    for (value, count) in values.by_ref() {
        reached += count;
        current = value.0;
        if reached as f64 >= lower {
            break;
        }
    }
    match values.next() {
        Some((next, _)) if (reached as f64) < higher => (higher - position) * current + (position - lower) * next.0,
        _ => current,
    }
}

pub enum Output {
    One(Float64Builder),
    Many(ListBuilder<Float64Builder>),
}

impl Aggregate for Percentile {
    type State = State;
    type Args<'a> = Columns;
    type Output = Output;
    const HEAP: bool = true;

    fn args(&self, args: &[ArrayRef]) -> Result<Columns> {
        let values = compute::cast(arg(args, 0)?, &DataType::Float64)?;
        let frequencies = match self.frequency {
            true => Some(compute::cast(arg(args, 2)?, &DataType::Int64)?.as_primitive::<Int64Type>().clone()),
            false => None,
        };
        Ok(Columns { values: values.as_primitive::<Float64Type>().clone(), percentages: arg(args, 1)?.clone(), frequencies })
    }

    fn add(&self, state: &mut State, columns: &Columns, row: usize) -> Result<()> {
        if state.percentages.is_none() {
            state.percentages = Some(self.percentages(&columns.percentages, row)?);
        }
        self.change(state, columns, row, 1);
        Ok(())
    }

    fn retract(&self, state: &mut State, columns: &Columns, row: usize) -> Result<()> {
        self.change(state, columns, row, -1);
        Ok(())
    }

    fn merge(&self, into: &mut State, from: &State) -> Result<()> {
        if into.percentages.is_none() {
            into.percentages.clone_from(&from.percentages);
        }
        from.counts.iter().for_each(|(value, count)| change(&mut into.counts, *value, *count));
        Ok(())
    }

    fn output(&self, capacity: usize) -> Output {
        match self.many {
            true => Output::Many(ListBuilder::new(Float64Builder::new()).with_field(Field::new("item", DataType::Float64, true))),
            false => Output::One(Float64Builder::with_capacity(capacity)),
        }
    }

    fn push(&self, state: &State, out: &mut Output) -> Result<()> {
        let results = Self::results(state);
        match out {
            Output::One(out) => out.append_option(results.and_then(|r| r.first().copied())),
            Output::Many(out) => out.append_option(results.map(|r| r.into_iter().map(Some))),
        }
        Ok(())
    }

    fn finish(&self, out: Output) -> Result<ArrayRef> {
        Ok(match out {
            Output::One(mut out) => Arc::new(out.finish()),
            Output::Many(mut out) => Arc::new(out.finish()),
        })
    }

    fn encode(&self, state: &State, out: &mut Vec<u8>) {
        out.push(u8::from(state.percentages.is_some()));
        if let Some(percentages) = &state.percentages {
            put_len(percentages.len(), out);
            percentages.iter().for_each(|p| put_f64(*p, out));
        }
        put_len(state.counts.len(), out);
        for (value, count) in &state.counts {
            put_f64(value.0, out);
            put_i64(*count, out);
        }
    }

    fn decode(&self, input: &mut &[u8]) -> Result<State> {
        let percentages = match take_u8(input)? {
            0 => None,
            _ => Some((0..take_len(input)?).map(|_| take_f64(input)).collect::<Result<_>>()?),
        };
        let counts = (0..take_len(input)?).map(|_| Ok((Total(take_f64(input)?), take_i64(input)?))).collect::<Result<_>>()?;
        Ok(State { percentages, counts })
    }

    fn heap(&self, state: &State) -> usize {
        state.counts.len() * 24 + state.percentages.as_ref().map_or(0, |p| p.capacity() * 8)
    }
}
