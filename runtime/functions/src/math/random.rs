//! RAND and RAND_INTEGER. With a seed the numbers are those of `java.util.Random`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{ArrayRef, Int32Array};
use arrow::datatypes::{Float64Type, Int32Type};
use rand::Rng;
use sluice_batch::{Datum, Error, EvalContext, Expr, Result, ScalarFunction, SqlType, TypeKind, Value};

use crate::kernel::{Args, Column, P};
use crate::{Call, Declaration};

pub(crate) static FUNCTIONS: &[Declaration] =
    &[Declaration { names: &["RAND"], bind: |c| bind(c, false) }, Declaration { names: &["RAND_INTEGER"], bind: |c| bind(c, true) }];

/// `RAND([seed])`, `RAND_INTEGER([seed,] bound)`.
fn bind(mut call: Call<'_>, integer: bool) -> Result<Expr> {
    let bound = usize::from(integer);
    call.coerce(if integer { &[P::Int, P::Int] } else { &[P::Int] }, bound)?;
    let ty = if integer { TypeKind::Int } else { TypeKind::Double }.with_nullable(call.any_nullable());
    let seeded = call.args.len() > bound;
    // One generator for all rows if the seed is constant, one for each row if it is not.
    let shared = if seeded { call.args.first().and_then(crate::fold_constant).as_ref().and_then(Datum::as_i64) } else { None };
    let state = shared.map(|seed| AtomicU64::new(JavaRandom::new(seed).0));
    Ok(Expr::call(Arc::new(Random { integer, seeded, state }), call.args, ty))
}

/// The linear congruential generator that `java.util.Random` specifies.
#[derive(Clone, Copy)]
struct JavaRandom(u64);

impl JavaRandom {
    const MULTIPLIER: u64 = 0x5_DEEC_E66D;
    const MASK: u64 = (1 << 48) - 1;

    fn new(seed: i64) -> Self {
        Self((seed as u64 ^ Self::MULTIPLIER) & Self::MASK)
    }

    fn next(&mut self, bits: u32) -> i32 {
        self.0 = self.0.wrapping_mul(Self::MULTIPLIER).wrapping_add(0xB) & Self::MASK;
        (self.0 >> (48 - bits)) as i32
    }

    fn double(&mut self) -> f64 {
        let high = i64::from(self.next(26)) << 27;
        (high + i64::from(self.next(27))) as f64 / (1_i64 << 53) as f64
    }

    /// Below `bound`, which is positive.
    fn below(&mut self, bound: i32) -> i32 {
        let mut bits = self.next(31);
        if bound & (bound - 1) == 0 {
            return ((i64::from(bound) * i64::from(bits)) >> 31) as i32;
        }
        loop {
            let value = bits % bound;
            if bits.wrapping_sub(value).wrapping_add(bound - 1) >= 0 {
                return value;
            }
            bits = self.next(31);
        }
    }
}

struct Random {
    integer: bool,
    seeded: bool,
    /// The generator of a constant seed.
    state: Option<AtomicU64>,
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Random {
    fn body(&self, args: &Args<'_>) -> Result<ArrayRef> {
        let seeds = if self.seeded { Some(args.i32(0)?) } else { None };
        let bounds = if self.integer { Some(args.i32(args.count() - 1)?) } else { None };
        let mut shared = self.state.as_ref().map(|s| JavaRandom(s.load(Ordering::Relaxed)));
        let out = match bounds {
            None => args.primitives::<Float64Type>(|row| {
                let generator = generator(&mut shared, seeds, row)?;
                Some(generator.map_or_else(|| rand::rng().random(), Generator::double))
            })?,
            Some(bounds) => args.try_primitives::<Int32Type>(|row| {
                let Some(bound) = bounds.get(row) else { return Ok(None) };
                if bound <= 0 {
                    return Err(Error::runtime("RAND_INTEGER: bound must be positive"));
                }
                Ok(match generator(&mut shared, seeds, row) {
                    None => None,
                    Some(Some(generator)) => Some(generator.below(bound)),
                    Some(None) => Some(rand::rng().random_range(0..bound)),
                })
            })?,
        };
        if let (Some(state), Some(generator)) = (&self.state, shared) {
            state.store(generator.0, Ordering::Relaxed);
        }
        Ok(out)
    }
}

/// A borrowed shared generator or a row's own.
enum Generator<'a> {
    Shared(&'a mut JavaRandom),
    Own(JavaRandom),
}

impl Generator<'_> {
    fn double(mut self) -> f64 {
        self.get().double()
    }

    fn below(mut self, bound: i32) -> i32 {
        self.get().below(bound)
    }

    fn get(&mut self) -> &mut JavaRandom {
        match self {
            Generator::Shared(g) => g,
            Generator::Own(g) => g,
        }
    }
}

/// Outer `None`: the seed is NULL; inner `None`: there is no seed.
fn generator<'a>(shared: &'a mut Option<JavaRandom>, seeds: Option<Column<'_, Int32Array>>, row: usize) -> Option<Option<Generator<'a>>> {
    match (shared, seeds) {
        (Some(shared), _) => Some(Some(Generator::Shared(shared))),
        (None, Some(seeds)) => Some(Some(Generator::Own(JavaRandom::new(i64::from(seeds.get(row)?))))),
        (None, None) => Some(None),
    }
}

impl ScalarFunction for Random {
    fn name(&self) -> &str {
        if self.integer { "RAND_INTEGER" } else { "RAND" }
    }

    fn eval(&self, args: &[Value], rows: usize, ty: &SqlType, cx: &EvalContext) -> Result<Value> {
        Ok(Value::Array(self.body(&Args::new(args, rows, ty, cx, false))?))
    }

    fn deterministic(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_java() {
        assert!((JavaRandom::new(10).double() - 0.730_430_296_743_427_2).abs() < 1e-15);
        assert_eq!(JavaRandom::new(5).below(10), 7);
        assert_eq!(JavaRandom::new(42).below(16), 11);
    }
}
