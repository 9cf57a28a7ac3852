//! COLLECT: the multiset of the values that are not NULL; of none the empty one (Flink: `CollectAggFunction`).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int32Array, MapArray, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::DataType;
use arrow::row::Rows;
use sluice_batch::{Accumulator, AggregateFunction, Error, Result, TypeKind};

use super::one_argument;
use super::slots::{Aggregate, Slots, arg, is_valid};
use super::values::{Counts, ValueCodec};
use crate::{AggregateArgs, AggregateDeclaration, BoundAggregate};

pub(super) const DECLARATIONS: &[AggregateDeclaration] = &[AggregateDeclaration { names: &["COLLECT"], bind }];

fn bind(call: AggregateArgs<'_>) -> Result<BoundAggregate> {
    let arg = one_argument(&call, |k| *k != TypeKind::Null, "<ANY>")?;
    let codec = Arc::new(ValueCodec::new(vec![arg.ty.clone()])?);
    let ty = TypeKind::Multiset(Box::new(arg.ty.clone())).not_null();
    Ok(BoundAggregate { function: Arc::new(Collect { codec, ty: ty.to_arrow() }), args: vec![arg], ty })
}

#[derive(Debug)]
pub struct Collect {
    codec: Arc<ValueCodec>,
    ty: DataType,
}

impl AggregateFunction for Collect {
    fn name(&self) -> &str {
        "COLLECT"
    }

    fn accumulator(&self, _retractable: bool) -> Box<dyn Accumulator> {
        Slots::boxed(Multisets { codec: self.codec.clone(), ty: self.ty.clone() })
    }
}

struct Multisets {
    codec: Arc<ValueCodec>,
    ty: DataType,
}

#[derive(Default)]
struct Entries {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    counts: Vec<i32>,
    lengths: Vec<usize>,
}

impl Multisets {
    fn change(&self, state: &mut Counts, (rows, nulls): &(Rows, Option<NullBuffer>), row: usize, by: i64) {
        if is_valid(nulls.as_ref(), row) {
            state.add(rows.row(row).data(), by);
        }
    }
}

impl Aggregate for Multisets {
    type State = Counts;
    type Args<'a> = (Rows, Option<NullBuffer>);
    type Output = Entries;
    const HEAP: bool = true;

    fn args<'a>(&self, args: &'a [ArrayRef]) -> Result<Self::Args<'a>> {
        Ok((self.codec.rows(args)?, arg(args, 0)?.logical_nulls()))
    }

    fn add(&self, state: &mut Counts, args: &Self::Args<'_>, row: usize) -> Result<()> {
        self.change(state, args, row, 1);
        Ok(())
    }

    fn retract(&self, state: &mut Counts, args: &Self::Args<'_>, row: usize) -> Result<()> {
        self.change(state, args, row, -1);
        Ok(())
    }

    fn merge(&self, into: &mut Counts, from: &Counts) -> Result<()> {
        for (value, count) in from.ordered() {
            into.add(value, count);
        }
        Ok(())
    }

    fn output(&self, capacity: usize) -> Entries {
        Entries { lengths: Vec::with_capacity(capacity), ..Entries::default() }
    }

    fn push(&self, state: &Counts, out: &mut Entries) -> Result<()> {
        let before = out.ends.len();
        for (value, count) in state.ordered().into_iter().filter(|(_, count)| *count > 0) {
            out.bytes.extend_from_slice(value);
            out.ends.push(out.bytes.len());
            out.counts.push(i32::try_from(count).unwrap_or(i32::MAX));
        }
        out.lengths.push(out.ends.len() - before);
        Ok(())
    }

    fn finish(&self, out: Entries) -> Result<ArrayRef> {
        let DataType::Map(field, _) = &self.ty else {
            return Err(Error::runtime("a multiset is not kept as a map"));
        };
        let DataType::Struct(fields) = field.data_type() else {
            return Err(Error::runtime("a multiset has no entries"));
        };
        let keys = self.codec.optional_column(&out.bytes, &out.ends)?;
        let entries = StructArray::try_new(fields.clone(), vec![keys, Arc::new(Int32Array::from(out.counts))], None)?;
        Ok(Arc::new(MapArray::try_new(field.clone(), OffsetBuffer::from_lengths(out.lengths), entries, None, false)?))
    }

    fn encode(&self, state: &Counts, out: &mut Vec<u8>) {
        state.encode(&self.codec, out);
    }

    fn decode(&self, input: &mut &[u8]) -> Result<Counts> {
        Counts::decode(&self.codec, input)
    }

    fn heap(&self, state: &Counts) -> usize {
        state.heap()
    }
}
