//! MIN and MAX. Without retraction a slot keeps one value, else an ordered multiset
//! (Flink: `MinAggFunction`, `MinWithRetractAggFunction` and their MAX twins).

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, PrimitiveArray, PrimitiveBuilder, StringArray, StringBuilder};
use arrow::compute;
use arrow::datatypes::{
    ArrowNativeType, ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time32MillisecondType, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
};
use sluice_batch::{Accumulator, AggregateFunction, Result, SqlType, TypeKind};

use super::codec::{put_bytes, put_i64, put_len, take_i64, take_len, take_str, take_u8};
use super::one_argument;
use super::slots::{Aggregate, Slots, arg, typed};
use crate::{AggregateArgs, AggregateDeclaration, BoundAggregate};

pub(super) const DECLARATIONS: &[AggregateDeclaration] =
    &[AggregateDeclaration { names: &["MIN"], bind: bind_min }, AggregateDeclaration { names: &["MAX"], bind: bind_max }];

fn bind_min(call: AggregateArgs<'_>) -> Result<BoundAggregate> {
    bind(call, false)
}

fn bind_max(call: AggregateArgs<'_>) -> Result<BoundAggregate> {
    bind(call, true)
}

fn bind(call: AggregateArgs<'_>, max: bool) -> Result<BoundAggregate> {
    let comparable = |k: &TypeKind| k.is_numeric() || k.is_character() || k.is_datetime() || *k == TypeKind::Boolean;
    let arg = one_argument(&call, comparable, "<COMPARABLE_TYPE>")?;
    let ty = arg.ty.clone();
    Ok(BoundAggregate { function: Arc::new(MinMax { ty: ty.clone(), max }), args: vec![arg], ty })
}

/// The smallest or largest value; of none NULL. NaN is the largest number, as in Java's `Double.compare`.
#[derive(Debug)]
pub struct MinMax {
    ty: SqlType,
    max: bool,
}

impl AggregateFunction for MinMax {
    fn name(&self) -> &str {
        if self.max { "MAX" } else { "MIN" }
    }

    fn accumulator(&self, retractable: bool) -> Box<dyn Accumulator> {
        match &self.ty.kind {
            // Booleans are compared as the numbers 0 and 1.
            TypeKind::Boolean | TypeKind::TinyInt => self.primitive::<Int8Type>(retractable),
            TypeKind::SmallInt => self.primitive::<Int16Type>(retractable),
            TypeKind::Int => self.primitive::<Int32Type>(retractable),
            TypeKind::Float => self.primitive::<Float32Type>(retractable),
            TypeKind::Double => self.primitive::<Float64Type>(retractable),
            TypeKind::Decimal(..) => self.primitive::<Decimal128Type>(retractable),
            TypeKind::Date => self.primitive::<Date32Type>(retractable),
            TypeKind::Time(_) => self.primitive::<Time32MillisecondType>(retractable),
            TypeKind::Timestamp(p) | TypeKind::TimestampLtz(p) => match TypeKind::timestamp_unit(*p) {
                TimeUnit::Nanosecond => self.primitive::<TimestampNanosecondType>(retractable),
                _ => self.primitive::<TimestampMicrosecondType>(retractable),
            },
            kind if kind.is_character() => match retractable {
                true => Slots::boxed(RetractableString { max: self.max }),
                false => Slots::boxed(OneString { max: self.max }),
            },
            _ => self.primitive::<Int64Type>(retractable),
        }
    }
}

impl MinMax {
    fn primitive<T: ArrowPrimitiveType>(&self, retractable: bool) -> Box<dyn Accumulator>
    where
        T::Native: Fixed,
    {
        let ty = self.ty.to_arrow();
        match retractable {
            true => Slots::boxed(Retractable::<T> { ty, max: self.max, input: Default::default() }),
            false => Slots::boxed(One::<T> { ty, max: self.max, input: Default::default() }),
        }
    }
}

/// A number as bytes.
trait Fixed: ArrowNativeTypeOp + ArrowNativeType {
    fn put(self, out: &mut Vec<u8>);
    fn take(input: &mut &[u8]) -> Result<Self>;
}

macro_rules! fixed {
    ($($t:ty),*) => {$(
        impl Fixed for $t {
            fn put(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            fn take(input: &mut &[u8]) -> Result<Self> {
                Ok(<$t>::from_le_bytes(super::codec::take_array(input)?))
            }
        }
    )*};
}

fixed!(i8, i16, i32, i64, i128, f32, f64);

/// The argument as a column of numbers.
fn numbers<T: ArrowPrimitiveType>(args: &[ArrayRef]) -> Result<PrimitiveArray<T>> {
    let values = arg(args, 0)?;
    match values.data_type() {
        DataType::Boolean => Ok(typed::<PrimitiveArray<T>>(&compute::cast(values, &DataType::Int8)?)?.clone()),
        _ => Ok(typed::<PrimitiveArray<T>>(values)?.clone()),
    }
}

fn builder<T: ArrowPrimitiveType>(ty: &DataType, capacity: usize) -> PrimitiveBuilder<T> {
    let builder = PrimitiveBuilder::with_capacity(capacity);
    if *ty == DataType::Boolean { builder } else { builder.with_data_type(ty.clone()) }
}

fn finish<T: ArrowPrimitiveType>(ty: &DataType, mut out: PrimitiveBuilder<T>) -> Result<ArrayRef> {
    let values: ArrayRef = Arc::new(out.finish());
    if *ty == DataType::Boolean { Ok(compute::cast(&values, ty)?) } else { Ok(values) }
}

struct One<T> {
    ty: DataType,
    max: bool,
    input: std::marker::PhantomData<fn() -> T>,
}

impl<T: ArrowPrimitiveType> One<T> {
    #[inline]
    fn offer(&self, state: &mut Option<T::Native>, value: T::Native) {
        let better = match state {
            None => true,
            Some(best) => {
                if self.max {
                    value.is_gt(*best)
                } else {
                    value.is_lt(*best)
                }
            }
        };
        if better {
            *state = Some(value);
        }
    }
}

impl<T: ArrowPrimitiveType> Aggregate for One<T>
where
    T::Native: Fixed,
{
    type State = Option<T::Native>;
    type Args<'a> = PrimitiveArray<T>;
    type Output = PrimitiveBuilder<T>;

    fn args<'a>(&self, args: &'a [ArrayRef]) -> Result<Self::Args<'a>> {
        numbers(args)
    }

    #[inline]
    fn add(&self, state: &mut Self::State, values: &Self::Args<'_>, row: usize) -> Result<()> {
        if values.is_valid(row) {
            self.offer(state, values.values()[row]);
        }
        Ok(())
    }

    fn retract(&self, _: &mut Self::State, _: &Self::Args<'_>, _: usize) -> Result<()> {
        Err(super::not_retractable(if self.max { "MAX" } else { "MIN" }))
    }

    fn merge(&self, into: &mut Self::State, from: &Self::State) -> Result<()> {
        if let Some(value) = from {
            self.offer(into, *value);
        }
        Ok(())
    }

    fn output(&self, capacity: usize) -> Self::Output {
        builder(&self.ty, capacity)
    }

    #[inline]
    fn push(&self, state: &Self::State, out: &mut Self::Output) -> Result<()> {
        out.append_option(*state);
        Ok(())
    }

    fn finish(&self, out: Self::Output) -> Result<ArrayRef> {
        finish(&self.ty, out)
    }

    fn encode(&self, state: &Self::State, out: &mut Vec<u8>) {
        out.push(u8::from(state.is_some()));
        if let Some(value) = state {
            value.put(out);
        }
    }

    fn decode(&self, input: &mut &[u8]) -> Result<Self::State> {
        Ok(if take_u8(input)? == 0 { None } else { Some(T::Native::take(input)?) })
    }
}

/// A number in its total order.
#[derive(Clone, Copy)]
pub(super) struct Total<N>(pub(super) N);

impl<N: ArrowNativeTypeOp> PartialEq for Total<N> {
    fn eq(&self, other: &Self) -> bool {
        self.0.is_eq(other.0)
    }
}

impl<N: ArrowNativeTypeOp> Eq for Total<N> {}

impl<N: ArrowNativeTypeOp> PartialOrd for Total<N> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<N: ArrowNativeTypeOp> Ord for Total<N> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.compare(other.0)
    }
}

/// Values with how often they are there. A value taken back before it came has a negative count.
pub(super) type Multiset<K> = BTreeMap<K, i64>;

pub(super) fn change<K: Ord>(multiset: &mut Multiset<K>, key: K, by: i64) {
    use std::collections::btree_map::Entry;
    match multiset.entry(key) {
        Entry::Vacant(entry) => {
            entry.insert(by);
        }
        Entry::Occupied(mut entry) => {
            *entry.get_mut() += by;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

fn best<K>(multiset: &Multiset<K>, max: bool) -> Option<&K> {
    let present = |(k, count): (_, &i64)| (*count > 0).then_some(k);
    if max { multiset.iter().rev().find_map(present) } else { multiset.iter().find_map(present) }
}

struct Retractable<T> {
    ty: DataType,
    max: bool,
    input: std::marker::PhantomData<fn() -> T>,
}

impl<T: ArrowPrimitiveType> Aggregate for Retractable<T>
where
    T::Native: Fixed,
{
    type State = Multiset<Total<T::Native>>;
    type Args<'a> = PrimitiveArray<T>;
    type Output = PrimitiveBuilder<T>;
    const HEAP: bool = true;

    fn args<'a>(&self, args: &'a [ArrayRef]) -> Result<Self::Args<'a>> {
        numbers(args)
    }

    fn add(&self, state: &mut Self::State, values: &Self::Args<'_>, row: usize) -> Result<()> {
        if values.is_valid(row) {
            change(state, Total(values.values()[row]), 1);
        }
        Ok(())
    }

    fn retract(&self, state: &mut Self::State, values: &Self::Args<'_>, row: usize) -> Result<()> {
        if values.is_valid(row) {
            change(state, Total(values.values()[row]), -1);
        }
        Ok(())
    }

    fn merge(&self, into: &mut Self::State, from: &Self::State) -> Result<()> {
        from.iter().for_each(|(k, count)| change(into, *k, *count));
        Ok(())
    }

    fn output(&self, capacity: usize) -> Self::Output {
        builder(&self.ty, capacity)
    }

    fn push(&self, state: &Self::State, out: &mut Self::Output) -> Result<()> {
        out.append_option(best(state, self.max).map(|t| t.0));
        Ok(())
    }

    fn finish(&self, out: Self::Output) -> Result<ArrayRef> {
        finish(&self.ty, out)
    }

    fn encode(&self, state: &Self::State, out: &mut Vec<u8>) {
        put_len(state.len(), out);
        for (k, count) in state {
            k.0.put(out);
            put_i64(*count, out);
        }
    }

    fn decode(&self, input: &mut &[u8]) -> Result<Self::State> {
        (0..take_len(input)?).map(|_| Ok((Total(T::Native::take(input)?), take_i64(input)?))).collect()
    }

    fn heap(&self, state: &Self::State) -> usize {
        state.len() * (size_of::<T::Native>() + 8)
    }
}

/// Strings are compared by their bytes, as in Flink (`BinaryStringData.compareTo`).
struct OneString {
    max: bool,
}

impl OneString {
    fn offer(&self, state: &mut Option<String>, value: &str) {
        match state {
            None => *state = Some(value.to_owned()),
            Some(best) if (if self.max { value > best.as_str() } else { value < best.as_str() }) => {
                best.clear();
                best.push_str(value);
            }
            Some(_) => {}
        }
    }
}

impl Aggregate for OneString {
    type State = Option<String>;
    type Args<'a> = &'a StringArray;
    type Output = StringBuilder;
    const HEAP: bool = true;

    fn args<'a>(&self, args: &'a [ArrayRef]) -> Result<Self::Args<'a>> {
        typed(arg(args, 0)?)
    }

    fn add(&self, state: &mut Self::State, values: &Self::Args<'_>, row: usize) -> Result<()> {
        if values.is_valid(row) {
            self.offer(state, values.value(row));
        }
        Ok(())
    }

    fn retract(&self, _: &mut Self::State, _: &Self::Args<'_>, _: usize) -> Result<()> {
        Err(super::not_retractable(if self.max { "MAX" } else { "MIN" }))
    }

    fn merge(&self, into: &mut Self::State, from: &Self::State) -> Result<()> {
        if let Some(value) = from {
            self.offer(into, value);
        }
        Ok(())
    }

    fn output(&self, _capacity: usize) -> Self::Output {
        StringBuilder::new()
    }

    fn push(&self, state: &Self::State, out: &mut Self::Output) -> Result<()> {
        out.append_option(state.as_deref());
        Ok(())
    }

    fn finish(&self, mut out: Self::Output) -> Result<ArrayRef> {
        Ok(Arc::new(out.finish()))
    }

    fn encode(&self, state: &Self::State, out: &mut Vec<u8>) {
        out.push(u8::from(state.is_some()));
        if let Some(value) = state {
            put_bytes(value.as_bytes(), out);
        }
    }

    fn decode(&self, input: &mut &[u8]) -> Result<Self::State> {
        Ok(if take_u8(input)? == 0 { None } else { Some(take_str(input)?.to_owned()) })
    }

    fn heap(&self, state: &Self::State) -> usize {
        state.as_ref().map_or(0, String::capacity)
    }
}

struct RetractableString {
    max: bool,
}

/// The multiset and the bytes of its keys.
#[derive(Default)]
struct Strings {
    multiset: Multiset<Box<str>>,
}

impl Strings {
    fn change(&mut self, key: &str, by: i64) {
        match self.multiset.get_mut(key) {
            Some(count) if *count + by == 0 => {
                self.multiset.remove(key);
            }
            Some(count) => *count += by,
            None => {
                self.multiset.insert(Box::from(key), by);
            }
        }
    }
}

impl Aggregate for RetractableString {
    type State = Strings;
    type Args<'a> = &'a StringArray;
    type Output = StringBuilder;
    const HEAP: bool = true;

    fn args<'a>(&self, args: &'a [ArrayRef]) -> Result<Self::Args<'a>> {
        typed(arg(args, 0)?)
    }

    fn add(&self, state: &mut Self::State, values: &Self::Args<'_>, row: usize) -> Result<()> {
        if values.is_valid(row) {
            state.change(values.value(row), 1);
        }
        Ok(())
    }

    fn retract(&self, state: &mut Self::State, values: &Self::Args<'_>, row: usize) -> Result<()> {
        if values.is_valid(row) {
            state.change(values.value(row), -1);
        }
        Ok(())
    }

    fn merge(&self, into: &mut Self::State, from: &Self::State) -> Result<()> {
        from.multiset.iter().for_each(|(k, count)| into.change(k, *count));
        Ok(())
    }

    fn output(&self, _capacity: usize) -> Self::Output {
        StringBuilder::new()
    }

    fn push(&self, state: &Self::State, out: &mut Self::Output) -> Result<()> {
        out.append_option(best(&state.multiset, self.max));
        Ok(())
    }

    fn finish(&self, mut out: Self::Output) -> Result<ArrayRef> {
        Ok(Arc::new(out.finish()))
    }

    fn encode(&self, state: &Self::State, out: &mut Vec<u8>) {
        put_len(state.multiset.len(), out);
        for (k, count) in &state.multiset {
            put_bytes(k.as_bytes(), out);
            put_i64(*count, out);
        }
    }

    fn decode(&self, input: &mut &[u8]) -> Result<Self::State> {
        let mut state = Strings::default();
        for _ in 0..take_len(input)? {
            let key = take_str(input)?;
            state.change(key, take_i64(input)?);
        }
        Ok(state)
    }

    fn heap(&self, state: &Self::State) -> usize {
        state.multiset.len() * 48
    }
}
