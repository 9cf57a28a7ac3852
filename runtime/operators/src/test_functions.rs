//! COUNT(*) and SUM(BIGINT) for tests of operators.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use sluice_batch::aggregate::AggregateCall;
use sluice_batch::{Accumulator, AggregateFunction, Result, RowKind, TypeKind};

#[derive(Debug)]
struct Sum(bool);

struct State {
    sum: bool,
    values: Vec<(i64, i64)>,
}

pub fn count() -> AggregateCall {
    call(false, vec![])
}

pub fn sum(arg: usize) -> AggregateCall {
    call(true, vec![arg])
}

fn call(sum: bool, args: Vec<usize>) -> AggregateCall {
    let function = Arc::new(Sum(sum));
    AggregateCall { function, args, distinct: false, filter: None, ty: TypeKind::BigInt.nullable(), name: "x".into() }
}

impl AggregateFunction for Sum {
    fn name(&self) -> &str {
        "SUM"
    }

    fn accumulator(&self, _retractable: bool) -> Box<dyn Accumulator> {
        Box::new(State { sum: self.0, values: vec![] })
    }
}

impl Accumulator for State {
    fn resize(&mut self, groups: usize) {
        self.values.resize(groups, (0, 0));
    }

    fn clear(&mut self, group: u32) {
        self.values[group as usize] = (0, 0);
    }

    fn update(&mut self, args: &[ArrayRef], groups: &[u32], kinds: Option<&[RowKind]>) -> Result<()> {
        for (row, group) in groups.iter().enumerate() {
            let sign = if kinds.is_none_or(|k| k[row].is_addition()) { 1 } else { -1 };
            let state = &mut self.values[*group as usize];
            let arg = args.first().map(|a| a.as_primitive::<Int64Type>());
            if arg.is_none_or(|a| a.is_valid(row)) {
                state.0 += sign;
                state.1 += sign * arg.map_or(0, |a| a.value(row));
            }
        }
        Ok(())
    }

    fn merge(&mut self, other: &dyn Accumulator, from: &[u32], to: &[u32]) -> Result<()> {
        let other = other.as_any().downcast_ref::<State>().unwrap();
        for (f, t) in from.iter().zip(to) {
            self.values[*t as usize].0 += other.values[*f as usize].0;
            self.values[*t as usize].1 += other.values[*f as usize].1;
        }
        Ok(())
    }

    fn evaluate(&self, groups: &[u32]) -> Result<ArrayRef> {
        let value = |g: &u32| {
            let (n, s) = self.values[*g as usize];
            if self.sum { (n != 0).then_some(s) } else { Some(n) }
        };
        Ok(Arc::new(groups.iter().map(value).collect::<Int64Array>()))
    }

    fn encode(&self, group: u32, out: &mut Vec<u8>) {
        let (n, s) = self.values[group as usize];
        out.extend_from_slice(&n.to_be_bytes());
        out.extend_from_slice(&s.to_be_bytes());
    }

    fn decode(&mut self, group: u32, input: &mut &[u8]) -> Result<()> {
        self.values[group as usize] = (crate::state::take_i64(input)?, crate::state::take_i64(input)?);
        Ok(())
    }

    fn memory(&self) -> usize {
        0
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}
