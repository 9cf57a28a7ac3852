//! JSON_ARRAYAGG and JSON_OBJECTAGG. Their arguments are turned into JSON text before
//! (Flink: `WrapJsonAggFunctionArgumentsRule`, `JsonArrayAggFunction`, `JsonObjectAggFunction`).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringArray, StringBuilder};
use hashbrown::HashMap;
use sluice_batch::{Accumulator, AggregateFunction, Error, Result, SqlType, TypeKind};

use super::codec::{put_bytes, put_len, take_len, take_str, take_u8};
use super::slots::{Aggregate, Slots, arg, typed};
use super::values::{Bag, put_raw, take_raw};
use super::{arity_error, signature_error};
use crate::{AggregateArgs, AggregateDeclaration, BoundAggregate, json};

pub(super) const DECLARATIONS: &[AggregateDeclaration] = &[
    AggregateDeclaration { names: &["JSON_ARRAYAGG"], bind: bind_array },
    AggregateDeclaration { names: &["JSON_OBJECTAGG"], bind: bind_object },
];

/// The type that Calcite gives both.
fn result_type() -> SqlType {
    TypeKind::VarChar(2000).not_null()
}

fn bind_array(call: AggregateArgs<'_>) -> Result<BoundAggregate> {
    let [value] = call.args else { return Err(arity_error(&call, "1")) };
    let function = JsonArrayAgg { nulls: call.json.null_on_null == Some(true) };
    Ok(BoundAggregate { function: Arc::new(function), args: vec![json::to_json(value.clone())?], ty: result_type() })
}

fn bind_object(call: AggregateArgs<'_>) -> Result<BoundAggregate> {
    let [key, value] = call.args else { return Err(arity_error(&call, "2")) };
    if !key.ty.kind.is_character() {
        return Err(signature_error(&call, "JSON_OBJECTAGG(KEY <CHARACTER> VALUE <ANY>)"));
    }
    let function = JsonObjectAgg { nulls: call.json.null_on_null != Some(false) };
    Ok(BoundAggregate { function: Arc::new(function), args: vec![key.clone(), json::to_json(value.clone())?], ty: result_type() })
}

/// An array of the values in order of arrival.
#[derive(Clone, Debug)]
pub struct JsonArrayAgg {
    /// Whether NULLs are kept.
    nulls: bool,
}

impl AggregateFunction for JsonArrayAgg {
    fn name(&self) -> &str {
        if self.nulls { "JSON_ARRAYAGG_NULL_ON_NULL" } else { "JSON_ARRAYAGG_ABSENT_ON_NULL" }
    }

    fn accumulator(&self, _retractable: bool) -> Box<dyn Accumulator> {
        Slots::boxed(self.clone())
    }
}

impl JsonArrayAgg {
    fn item<'a>(&self, values: &'a StringArray, row: usize) -> Option<&'a str> {
        if values.is_valid(row) { Some(values.value(row)) } else { self.nulls.then_some("null") }
    }
}

impl Aggregate for JsonArrayAgg {
    type State = Bag;
    type Args<'a> = &'a StringArray;
    type Output = StringBuilder;
    const HEAP: bool = true;

    fn args<'a>(&self, args: &'a [ArrayRef]) -> Result<Self::Args<'a>> {
        typed(arg(args, 0)?)
    }

    fn add(&self, state: &mut Bag, values: &Self::Args<'_>, row: usize) -> Result<()> {
        if let Some(item) = self.item(values, row) {
            state.push(item.as_bytes());
        }
        Ok(())
    }

    fn retract(&self, state: &mut Bag, values: &Self::Args<'_>, row: usize) -> Result<()> {
        if let Some(item) = self.item(values, row) {
            state.retract(item.as_bytes());
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
        let mut text = String::from("[");
        for (i, item) in state.iter().enumerate() {
            text.push_str(if i > 0 { "," } else { "" });
            text.push_str(std::str::from_utf8(item).map_err(|e| Error::runtime(format!("JSON_ARRAYAGG: {e}")))?);
        }
        text.push(']');
        out.append_value(text);
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

/// An object of keys, each of which may be there once, and values.
#[derive(Clone, Debug)]
pub struct JsonObjectAgg {
    /// Whether fields that are NULL are kept.
    nulls: bool,
}

impl AggregateFunction for JsonObjectAgg {
    fn name(&self) -> &str {
        if self.nulls { "JSON_OBJECTAGG_NULL_ON_NULL" } else { "JSON_OBJECTAGG_ABSENT_ON_NULL" }
    }

    fn accumulator(&self, _retractable: bool) -> Box<dyn Accumulator> {
        Slots::boxed(self.clone())
    }
}

/// Fields, a value of `None` is NULL; and fields taken back before they came.
#[derive(Default)]
pub struct Fields {
    fields: HashMap<Box<str>, Option<Box<str>>>,
    missing: HashMap<Box<str>, Option<Box<str>>>,
    bytes: usize,
}

impl Fields {
    fn add(&mut self, key: &str, value: Option<&str>) -> Result<()> {
        if self.fields.contains_key(key) {
            return Err(Error::runtime(format!(
                "Key '{key}' is already present. Duplicate keys are not allowed in JSON_OBJECTAGG. Please ensure that keys are unique."
            )));
        }
        self.bytes += key.len() + value.map_or(0, str::len);
        self.fields.insert(Box::from(key), value.map(Box::from));
        Ok(())
    }

    fn retract(&mut self, key: &str, value: Option<&str>) {
        if self.fields.get(key).is_some_and(|v| v.as_deref() == value) {
            self.bytes = self.bytes.saturating_sub(key.len() + value.map_or(0, str::len));
            self.fields.remove(key);
        } else {
            self.missing.insert(Box::from(key), value.map(Box::from));
        }
    }
}

fn sorted(fields: &HashMap<Box<str>, Option<Box<str>>>) -> Vec<(&str, Option<&str>)> {
    let mut all: Vec<_> = fields.iter().map(|(k, v)| (k.as_ref(), v.as_deref())).collect();
    all.sort_unstable_by(|a, b| json::compare_keys(a.0, b.0));
    all
}

impl JsonObjectAgg {
    /// The field of a row, unless it is to be left out.
    fn field<'a>(&self, (keys, values): &(&'a StringArray, &'a StringArray), row: usize) -> Result<Option<(&'a str, Option<&'a str>)>> {
        if keys.is_null(row) {
            return Err(Error::runtime("a key of JSON_OBJECTAGG is NULL"));
        }
        let value = values.is_valid(row).then(|| values.value(row));
        Ok((self.nulls || value.is_some()).then(|| (keys.value(row), value)))
    }
}

impl Aggregate for JsonObjectAgg {
    type State = Fields;
    type Args<'a> = (&'a StringArray, &'a StringArray);
    type Output = StringBuilder;
    const HEAP: bool = true;

    fn args<'a>(&self, args: &'a [ArrayRef]) -> Result<Self::Args<'a>> {
        Ok((typed(arg(args, 0)?)?, typed(arg(args, 1)?)?))
    }

    fn add(&self, state: &mut Fields, args: &Self::Args<'_>, row: usize) -> Result<()> {
        match self.field(args, row)? {
            Some((key, value)) => state.add(key, value),
            None => Ok(()),
        }
    }

    fn retract(&self, state: &mut Fields, args: &Self::Args<'_>, row: usize) -> Result<()> {
        if let Some((key, value)) = self.field(args, row)? {
            state.retract(key, value);
        }
        Ok(())
    }

    fn merge(&self, into: &mut Fields, from: &Fields) -> Result<()> {
        for (key, value) in sorted(&from.missing) {
            into.retract(key, value);
        }
        for (key, value) in sorted(&from.fields) {
            if into.missing.get(key).is_some_and(|v| v.as_deref() == value) {
                into.missing.remove(key);
            } else {
                into.add(key, value)?;
            }
        }
        Ok(())
    }

    fn output(&self, capacity: usize) -> StringBuilder {
        StringBuilder::with_capacity(capacity, 0)
    }

    fn push(&self, state: &Fields, out: &mut StringBuilder) -> Result<()> {
        let mut text = String::from("{");
        for (i, (key, value)) in sorted(&state.fields).into_iter().enumerate() {
            text.push_str(if i > 0 { "," } else { "" });
            json::write_string(key, &mut text);
            text.push(':');
            text.push_str(value.unwrap_or("null"));
        }
        text.push('}');
        out.append_value(text);
        Ok(())
    }

    fn finish(&self, mut out: StringBuilder) -> Result<ArrayRef> {
        Ok(Arc::new(out.finish()))
    }

    fn encode(&self, state: &Fields, out: &mut Vec<u8>) {
        for fields in [&state.fields, &state.missing] {
            put_len(fields.len(), out);
            for (key, value) in sorted(fields) {
                put_bytes(key.as_bytes(), out);
                out.push(u8::from(value.is_some()));
                put_bytes(value.unwrap_or_default().as_bytes(), out);
            }
        }
    }

    fn decode(&self, input: &mut &[u8]) -> Result<Fields> {
        let mut state = Fields::default();
        for missing in [false, true] {
            for _ in 0..take_len(input)? {
                let key = take_str(input)?;
                let present = take_u8(input)? != 0;
                let value = Some(take_str(input)?).filter(|_| present);
                if missing {
                    state.missing.insert(Box::from(key), value.map(Box::from));
                } else {
                    state.add(key, value)?;
                }
            }
        }
        Ok(state)
    }

    fn heap(&self, state: &Fields) -> usize {
        state.bytes + (state.fields.capacity() + state.missing.capacity()) * size_of::<(Box<str>, Option<Box<str>>)>()
    }
}
