//! FIRST_VALUE and LAST_VALUE: the first or last value that is not NULL, in order of arrival
//! (Flink: `FirstValueAggFunction`, `FirstValueWithRetractAggFunction` and their LAST twins).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::buffer::NullBuffer;
use arrow::row::Rows;
use sluice_batch::{Accumulator, AggregateFunction, Result, TypeKind};

use super::codec::{put_len, take_len};
use super::one_argument;
use super::slots::{Aggregate, Slots, arg, is_valid};
use super::values::{Bag, ValueCodec};
use crate::{AggregateArgs, AggregateDeclaration, BoundAggregate};

pub(super) const DECLARATIONS: &[AggregateDeclaration] =
    &[AggregateDeclaration { names: &["FIRST_VALUE"], bind: bind_first }, AggregateDeclaration { names: &["LAST_VALUE"], bind: bind_last }];

fn bind_first(call: AggregateArgs<'_>) -> Result<BoundAggregate> {
    bind(call, false)
}

fn bind_last(call: AggregateArgs<'_>) -> Result<BoundAggregate> {
    bind(call, true)
}

fn bind(call: AggregateArgs<'_>, last: bool) -> Result<BoundAggregate> {
    let arg = one_argument(&call, |k| *k != TypeKind::Null, "<ANY>")?;
    let ty = arg.ty.clone();
    let codec = Arc::new(ValueCodec::new(vec![ty.clone()])?);
    Ok(BoundAggregate { function: Arc::new(FirstLast { codec, last }), args: vec![arg], ty })
}

#[derive(Debug)]
pub struct FirstLast {
    codec: Arc<ValueCodec>,
    last: bool,
}

impl AggregateFunction for FirstLast {
    fn name(&self) -> &str {
        if self.last { "LAST_VALUE" } else { "FIRST_VALUE" }
    }

    fn accumulator(&self, retractable: bool) -> Box<dyn Accumulator> {
        Slots::boxed(Ends { codec: self.codec.clone(), last: self.last, retractable })
    }
}

struct Ends {
    codec: Arc<ValueCodec>,
    last: bool,
    /// All values are kept, to find the next one when the result is taken back; else only the result.
    retractable: bool,
}

impl Aggregate for Ends {
    type State = Bag;
    type Args<'a> = (Rows, Option<NullBuffer>);
    type Output = (Vec<u8>, Vec<usize>);
    const HEAP: bool = true;

    fn args<'a>(&self, args: &'a [ArrayRef]) -> Result<Self::Args<'a>> {
        Ok((self.codec.rows(args)?, arg(args, 0)?.logical_nulls()))
    }

    fn add(&self, state: &mut Bag, (rows, nulls): &Self::Args<'_>, row: usize) -> Result<()> {
        if is_valid(nulls.as_ref(), row) {
            let value = rows.row(row);
            if self.retractable || state.is_empty() {
                state.push(value.data());
            } else if self.last {
                state.replace(value.data());
            }
        }
        Ok(())
    }

    fn retract(&self, state: &mut Bag, (rows, nulls): &Self::Args<'_>, row: usize) -> Result<()> {
        if is_valid(nulls.as_ref(), row) {
            // One that never came changes nothing until a merge brings it.
            state.retract(rows.row(row).data());
        }
        Ok(())
    }

    fn merge(&self, into: &mut Bag, from: &Bag) -> Result<()> {
        if self.retractable {
            into.merge(from);
        } else if let Some(value) = from.get(0)
            && (self.last || into.is_empty())
        {
            into.replace(value);
        }
        Ok(())
    }

    fn output(&self, capacity: usize) -> Self::Output {
        (Vec::new(), Vec::with_capacity(capacity))
    }

    fn push(&self, state: &Bag, (bytes, ends): &mut Self::Output) -> Result<()> {
        let value = if self.last { state.len().checked_sub(1).and_then(|i| state.get(i)) } else { state.get(0) };
        bytes.extend_from_slice(value.unwrap_or_default());
        ends.push(bytes.len());
        Ok(())
    }

    fn finish(&self, (bytes, ends): Self::Output) -> Result<ArrayRef> {
        self.codec.optional_column(&bytes, &ends)
    }

    fn encode(&self, state: &Bag, out: &mut Vec<u8>) {
        put_len(usize::from(self.retractable), out);
        state.encode(out, &mut |value, out| self.codec.encode(value, out));
    }

    fn decode(&self, input: &mut &[u8]) -> Result<Bag> {
        take_len(input)?;
        Bag::decode(input, &mut |input| self.codec.decode(input))
    }

    fn heap(&self, state: &Bag) -> usize {
        state.heap()
    }
}
