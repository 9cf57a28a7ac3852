//! LISTAGG: strings that are not NULL, joined; of none NULL
//! (Flink: `ListAggFunction`, `ListAggWithRetractAggFunction`, `ListAggWsWithRetractAggFunction`).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringArray, StringBuilder};
use sluice_batch::{Accumulator, AggregateFunction, Datum, Error, Result, TypeKind};

use super::slots::{Aggregate, Slots, arg, typed};
use super::values::{Bag, put_raw, take_raw};
use super::{arity_error, signature_error};
use crate::{AggregateArgs, AggregateDeclaration, BoundAggregate};

pub(super) const DECLARATIONS: &[AggregateDeclaration] = &[AggregateDeclaration { names: &["LISTAGG"], bind }];

const FORMS: &str = "LISTAGG(<CHARACTER>)\nLISTAGG(<CHARACTER>, <CHARACTER_LITERAL>)";

fn bind(call: AggregateArgs<'_>) -> Result<BoundAggregate> {
    let (value, separator) = match call.args {
        [value] => (value, ","),
        [value, separator] => match separator.as_literal() {
            Some(Datum::String(s)) => (value, s.as_ref()),
            _ => return Err(signature_error(&call, FORMS).hint("the separator has to be a character literal")),
        },
        _ => return Err(arity_error(&call, "1 or 2")),
    };
    if !value.ty.kind.is_character() {
        return Err(signature_error(&call, FORMS));
    }
    let ty = TypeKind::STRING.with_nullable(value.ty.nullable);
    Ok(BoundAggregate { function: Arc::new(ListAgg { separator: Arc::from(separator) }), args: vec![value.clone()], ty })
}

#[derive(Debug)]
pub struct ListAgg {
    separator: Arc<str>,
}

impl AggregateFunction for ListAgg {
    fn name(&self) -> &str {
        "LISTAGG"
    }

    fn accumulator(&self, _retractable: bool) -> Box<dyn Accumulator> {
        Slots::boxed(Joined { separator: self.separator.clone() })
    }
}

struct Joined {
    separator: Arc<str>,
}

impl Aggregate for Joined {
    type State = Bag;
    type Args<'a> = &'a StringArray;
    type Output = StringBuilder;
    const HEAP: bool = true;

    fn args<'a>(&self, args: &'a [ArrayRef]) -> Result<Self::Args<'a>> {
        typed(arg(args, 0)?)
    }

    fn add(&self, state: &mut Bag, values: &Self::Args<'_>, row: usize) -> Result<()> {
        if values.is_valid(row) {
            state.push(values.value(row).as_bytes());
        }
        Ok(())
    }

    fn retract(&self, state: &mut Bag, values: &Self::Args<'_>, row: usize) -> Result<()> {
        if values.is_valid(row) {
            state.retract(values.value(row).as_bytes());
        }
        Ok(())
    }

    fn merge(&self, into: &mut Bag, from: &Bag) -> Result<()> {
        into.merge(from);
        Ok(())
    }

    fn output(&self, capacity: usize) -> StringBuilder {
        StringBuilder::with_capacity(capacity, 0)
    }

    fn push(&self, state: &Bag, out: &mut StringBuilder) -> Result<()> {
        use std::fmt::Write;
        if state.is_empty() {
            out.append_null();
            return Ok(());
        }
        for (i, item) in state.iter().enumerate() {
            let item = std::str::from_utf8(item).map_err(|e| Error::runtime(format!("LISTAGG: {e}")))?;
            let separator = if i > 0 { &*self.separator } else { "" };
            // Writing to a builder appends to the value at hand; it cannot fail.
            let _ = out.write_str(separator);
            let _ = out.write_str(item);
        }
        out.append_value("");
        Ok(())
    }

    fn finish(&self, mut out: StringBuilder) -> Result<ArrayRef> {
        Ok(Arc::new(out.finish()))
    }

    fn encode(&self, state: &Bag, out: &mut Vec<u8>) {
        state.encode(out, &mut put_raw);
    }

    fn decode(&self, input: &mut &[u8]) -> Result<Bag> {
        Bag::decode(input, &mut take_raw)
    }

    fn heap(&self, state: &Bag) -> usize {
        state.heap()
    }
}
