//! APPROX_COUNT_DISTINCT by HyperLogLog: exact up to some thousand values, then within about 1 %
//! (Flink: `ApproxCountDistinctAggFunctions`). Under retraction it counts exactly, as a sketch cannot forget.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array};
use arrow::buffer::NullBuffer;
use arrow::row::Rows;
use hashbrown::HashSet;
use sluice_batch::{Accumulator, AggregateFunction, Result, TypeKind};

use super::codec::{put_bytes, put_i64, put_len, take_bytes, take_i64, take_len, take_u8};
use super::one_argument;
use super::slots::{Aggregate, Slots, arg, is_valid};
use super::values::{Counts, ValueCodec};
use crate::{AggregateArgs, AggregateDeclaration, BoundAggregate};

pub(super) const DECLARATIONS: &[AggregateDeclaration] = &[AggregateDeclaration { names: &["APPROX_COUNT_DISTINCT"], bind }];

fn bind(call: AggregateArgs<'_>) -> Result<BoundAggregate> {
    let arg = one_argument(&call, |_| true, "<ANY>")?;
    let codec = Arc::new(ValueCodec::new(vec![arg.ty.clone()])?);
    Ok(BoundAggregate { function: Arc::new(ApproxCountDistinct { codec }), args: vec![arg], ty: TypeKind::BigInt.not_null() })
}

#[derive(Debug)]
pub struct ApproxCountDistinct {
    codec: Arc<ValueCodec>,
}

impl AggregateFunction for ApproxCountDistinct {
    fn name(&self) -> &str {
        "APPROX_COUNT_DISTINCT"
    }

    fn accumulator(&self, retractable: bool) -> Box<dyn Accumulator> {
        Slots::boxed(Distinct { codec: self.codec.clone(), retractable })
    }
}

/// 2^14 registers: a relative error of 0.8 %.
const BITS: u32 = 14;
const REGISTERS: usize = 1 << BITS;
/// Up to here the hashes themselves take less room than the registers.
const SPARSE: usize = 2048;

#[derive(Default)]
enum State {
    #[default]
    Empty,
    Sparse(HashSet<u64>),
    Dense(Box<Sketch>),
    Exact(Counts),
}

struct Sketch {
    registers: Vec<u8>,
    /// The sum of 2^-register, kept up to date so that a result costs nothing.
    harmonic: f64,
    zeros: u32,
}

impl Sketch {
    fn new() -> Self {
        Self { registers: vec![0; REGISTERS], harmonic: REGISTERS as f64, zeros: REGISTERS as u32 }
    }

    fn raise(&mut self, index: usize, rank: u8) {
        let Some(register) = self.registers.get_mut(index) else { return };
        if rank > *register {
            self.zeros -= u32::from(*register == 0);
            self.harmonic += 0.5f64.powi(i32::from(rank)) - 0.5f64.powi(i32::from(*register));
            *register = rank;
        }
    }

    fn add(&mut self, hash: u64) {
        let rank = (hash << BITS).leading_zeros().min(64 - BITS) + 1;
        self.raise((hash >> (64 - BITS)) as usize, rank as u8);
    }

    fn estimate(&self) -> i64 {
        let m = REGISTERS as f64;
        let raw = 0.7213 / (1.0 + 1.079 / m) * m * m / self.harmonic;
        // Linear counting is better while registers are empty.
        let linear = m * (m / f64::from(self.zeros.max(1))).ln();
        (if raw <= 2.5 * m && self.zeros > 0 { linear } else { raw }).round() as i64
    }
}

impl State {
    fn add(&mut self, hash: u64) {
        match self {
            State::Empty => *self = State::Sparse(HashSet::from_iter([hash])),
            State::Sparse(hashes) => {
                hashes.insert(hash);
                if hashes.len() > SPARSE {
                    let mut sketch = Sketch::new();
                    hashes.iter().for_each(|h| sketch.add(*h));
                    *self = State::Dense(Box::new(sketch));
                }
            }
            State::Dense(sketch) => sketch.add(hash),
            State::Exact(_) => {}
        }
    }
}

/// 64 bits of a value: FNV-1a with a final mix. It is part of the state's format.
fn hash(bytes: &[u8]) -> u64 {
    let mut h = bytes.iter().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3));
    h = (h ^ (h >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    h = (h ^ (h >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ (h >> 33)
}

struct Distinct {
    codec: Arc<ValueCodec>,
    retractable: bool,
}

impl Distinct {
    fn change(&self, state: &mut State, (rows, nulls): &(Rows, Option<NullBuffer>), row: usize, by: i64) {
        if !is_valid(nulls.as_ref(), row) {
            return;
        }
        let value = rows.row(row);
        if !self.retractable {
            return state.add(hash(value.data()));
        }
        if let State::Empty = state {
            *state = State::Exact(Counts::default());
        }
        if let State::Exact(counts) = state {
            counts.add(value.data(), by);
        }
    }
}

impl Aggregate for Distinct {
    type State = State;
    type Args<'a> = (Rows, Option<NullBuffer>);
    type Output = Vec<i64>;
    const HEAP: bool = true;

    fn args<'a>(&self, args: &'a [ArrayRef]) -> Result<Self::Args<'a>> {
        Ok((self.codec.rows(args)?, arg(args, 0)?.logical_nulls()))
    }

    fn add(&self, state: &mut State, args: &Self::Args<'_>, row: usize) -> Result<()> {
        self.change(state, args, row, 1);
        Ok(())
    }

    fn retract(&self, state: &mut State, args: &Self::Args<'_>, row: usize) -> Result<()> {
        if !self.retractable {
            return Err(super::not_retractable("APPROX_COUNT_DISTINCT"));
        }
        self.change(state, args, row, -1);
        Ok(())
    }

    fn merge(&self, into: &mut State, from: &State) -> Result<()> {
        match (&mut *into, from) {
            (_, State::Empty) => {}
            (_, State::Sparse(hashes)) => hashes.iter().for_each(|h| into.add(*h)),
            (State::Dense(a), State::Dense(b)) => b.registers.iter().enumerate().for_each(|(i, rank)| a.raise(i, *rank)),
            (State::Exact(a), State::Exact(b)) => b.ordered().into_iter().for_each(|(value, count)| {
                a.add(value, count);
            }),
            (_, State::Dense(b)) => {
                let mut sketch = Sketch::new();
                b.registers.iter().enumerate().for_each(|(i, rank)| sketch.raise(i, *rank));
                if let State::Sparse(hashes) = into {
                    hashes.iter().for_each(|h| sketch.add(*h));
                }
                *into = State::Dense(Box::new(sketch));
            }
            (_, State::Exact(b)) => {
                let mut counts = Counts::default();
                b.ordered().into_iter().for_each(|(value, count)| {
                    counts.add(value, count);
                });
                *into = State::Exact(counts);
            }
        }
        Ok(())
    }

    fn output(&self, capacity: usize) -> Vec<i64> {
        Vec::with_capacity(capacity)
    }

    fn push(&self, state: &State, out: &mut Vec<i64>) -> Result<()> {
        out.push(match state {
            State::Empty => 0,
            State::Sparse(hashes) => hashes.len() as i64,
            State::Dense(sketch) => sketch.estimate(),
            State::Exact(counts) => counts.present() as i64,
        });
        Ok(())
    }

    fn finish(&self, out: Vec<i64>) -> Result<ArrayRef> {
        Ok(Arc::new(Int64Array::from(out)))
    }

    fn encode(&self, state: &State, out: &mut Vec<u8>) {
        match state {
            State::Empty => out.push(0),
            State::Sparse(hashes) => {
                out.push(1);
                put_len(hashes.len(), out);
                hashes.iter().for_each(|h| put_i64(*h as i64, out));
            }
            State::Dense(sketch) => {
                out.push(2);
                put_bytes(&sketch.registers, out);
            }
            State::Exact(counts) => {
                out.push(3);
                counts.encode(&self.codec, out);
            }
        }
    }

    fn decode(&self, input: &mut &[u8]) -> Result<State> {
        Ok(match take_u8(input)? {
            1 => State::Sparse((0..take_len(input)?).map(|_| Ok(take_i64(input)? as u64)).collect::<Result<_>>()?),
            2 => {
                let mut sketch = Sketch::new();
                take_bytes(input)?.iter().enumerate().for_each(|(i, rank)| sketch.raise(i, *rank));
                State::Dense(Box::new(sketch))
            }
            3 => State::Exact(Counts::decode(&self.codec, input)?),
            _ => State::Empty,
        })
    }

    fn heap(&self, state: &State) -> usize {
        match state {
            State::Empty => 0,
            State::Sparse(hashes) => hashes.capacity() * 9,
            State::Dense(_) => REGISTERS + size_of::<Sketch>(),
            State::Exact(counts) => counts.heap(),
        }
    }
}
