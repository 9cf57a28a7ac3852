//! ARRAY_AGG: all values, NULLs too, in order of arrival; of none NULL (Flink: `ArrayAggFunction`).

use std::sync::Arc;

use arrow::array::{ArrayRef, ListArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field};
use arrow::row::Rows;
use sluice_batch::{Accumulator, AggregateFunction, Result, TypeKind};

use super::one_argument;
use super::slots::{Aggregate, Slots};
use super::values::{Bag, ValueCodec};
use crate::{AggregateArgs, AggregateDeclaration, BoundAggregate};

pub(super) const DECLARATIONS: &[AggregateDeclaration] = &[AggregateDeclaration { names: &["ARRAY_AGG"], bind }];

fn bind(call: AggregateArgs<'_>) -> Result<BoundAggregate> {
    let arg = one_argument(&call, |k| *k != TypeKind::Null, "<ANY>")?;
    let codec = Arc::new(ValueCodec::new(vec![arg.ty.clone()])?);
    let ty = TypeKind::Array(Box::new(arg.ty.clone())).nullable();
    Ok(BoundAggregate { function: Arc::new(ArrayAgg { codec, element: arg.ty.to_arrow() }), args: vec![arg], ty })
}

#[derive(Debug)]
pub struct ArrayAgg {
    codec: Arc<ValueCodec>,
    element: DataType,
}

impl AggregateFunction for ArrayAgg {
    fn name(&self) -> &str {
        "ARRAY_AGG"
    }

    fn accumulator(&self, _retractable: bool) -> Box<dyn Accumulator> {
        Slots::boxed(Items { codec: self.codec.clone(), element: self.element.clone() })
    }
}

struct Items {
    codec: Arc<ValueCodec>,
    element: DataType,
}

/// The values of all lists, where each value ends, and how many values each list has.
#[derive(Default)]
struct Lists {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    lengths: Vec<usize>,
}

impl Aggregate for Items {
    type State = Bag;
    type Args<'a> = Rows;
    type Output = Lists;
    const HEAP: bool = true;

    fn args(&self, args: &[ArrayRef]) -> Result<Rows> {
        self.codec.rows(args)
    }

    fn add(&self, state: &mut Bag, rows: &Rows, row: usize) -> Result<()> {
        state.push(rows.row(row).data());
        Ok(())
    }

    fn retract(&self, state: &mut Bag, rows: &Rows, row: usize) -> Result<()> {
        state.retract(rows.row(row).data());
        Ok(())
    }

    fn merge(&self, into: &mut Bag, from: &Bag) -> Result<()> {
        into.merge(from);
        Ok(())
    }

    fn output(&self, capacity: usize) -> Lists {
        Lists { lengths: Vec::with_capacity(capacity), ..Lists::default() }
    }

    fn push(&self, state: &Bag, out: &mut Lists) -> Result<()> {
        for item in state.iter() {
            out.bytes.extend_from_slice(item);
            out.ends.push(out.bytes.len());
        }
        out.lengths.push(state.len());
        Ok(())
    }

    fn finish(&self, out: Lists) -> Result<ArrayRef> {
        let values = self.codec.optional_column(&out.bytes, &out.ends)?;
        let valid = NullBuffer::from_iter(out.lengths.iter().map(|n| *n > 0));
        let field = Arc::new(Field::new("item", self.element.clone(), true));
        Ok(Arc::new(ListArray::try_new(field, OffsetBuffer::from_lengths(out.lengths), values, Some(valid))?))
    }

    fn encode(&self, state: &Bag, out: &mut Vec<u8>) {
        state.encode(out, &mut |value, out| self.codec.encode(value, out));
    }

    fn decode(&self, input: &mut &[u8]) -> Result<Bag> {
        Bag::decode(input, &mut |input| self.codec.decode(input))
    }

    fn heap(&self, state: &Bag) -> usize {
        state.heap()
    }
}
