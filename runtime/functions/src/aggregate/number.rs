//! What SUM and AVG do to the numeric types.

use arrow::datatypes::{ArrowPrimitiveType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, i256};
use sluice_batch::Result;

use super::codec::{put_f64, put_i64, put_i128, take_array, take_f64, take_i64, take_i128, take_u8};

/// The largest absolute value of a DECIMAL(38, s), unscaled.
const MAX_DECIMAL: i128 = 99_999_999_999_999_999_999_999_999_999_999_999_999;

/// A running total.
pub(crate) trait Total: Copy + Default + Send + 'static {
    fn encode(&self, out: &mut Vec<u8>);
    fn decode(input: &mut &[u8]) -> Result<Self>;
    fn join(&mut self, other: &Self);
}

/// A numeric column type with the totals in which Flink sums it.
pub(crate) trait Number: ArrowPrimitiveType {
    /// For SUM: integers wrap as in Java, FLOAT is summed in single precision.
    type Sum: Total;
    /// For AVG: BIGINT, DOUBLE or DECIMAL(38, s) (Flink: `AvgAggFunction.getSumType`).
    type Wide: Total;

    fn add(sum: &mut Self::Sum, value: Self::Native);
    fn subtract(sum: &mut Self::Sum, value: Self::Native);
    /// NULL if it overflows.
    fn sum(sum: &Self::Sum) -> Option<Self::Native>;

    fn add_wide(sum: &mut Self::Wide, value: Self::Native);
    fn subtract_wide(sum: &mut Self::Wide, value: Self::Native);
    /// The total over the count, which is not 0; a decimal gets `extra` more digits of scale.
    fn average(sum: &Self::Wide, count: i64, extra: u32) -> Option<Self::Native>;
}

impl Total for i64 {
    fn encode(&self, out: &mut Vec<u8>) {
        put_i64(*self, out);
    }

    fn decode(input: &mut &[u8]) -> Result<Self> {
        take_i64(input)
    }

    fn join(&mut self, other: &Self) {
        *self = self.wrapping_add(*other);
    }
}

impl Total for f32 {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_bits().to_le_bytes());
    }

    fn decode(input: &mut &[u8]) -> Result<Self> {
        Ok(f32::from_bits(u32::from_le_bytes(take_array(input)?)))
    }

    fn join(&mut self, other: &Self) {
        *self += other;
    }
}

impl Total for f64 {
    fn encode(&self, out: &mut Vec<u8>) {
        put_f64(*self, out);
    }

    fn decode(input: &mut &[u8]) -> Result<Self> {
        take_f64(input)
    }

    fn join(&mut self, other: &Self) {
        *self += other;
    }
}

/// A sum of decimals. Once it left 128 bits it stays NULL.
#[derive(Clone, Copy, Default)]
pub(crate) struct DecimalTotal {
    value: i128,
    overflow: bool,
}

impl DecimalTotal {
    #[inline]
    fn change(&mut self, value: Option<i128>) {
        match value {
            Some(v) => self.value = v,
            None => self.overflow = true,
        }
    }
}

impl Total for DecimalTotal {
    fn encode(&self, out: &mut Vec<u8>) {
        put_i128(self.value, out);
        out.push(u8::from(self.overflow));
    }

    fn decode(input: &mut &[u8]) -> Result<Self> {
        Ok(Self { value: take_i128(input)?, overflow: take_u8(input)? != 0 })
    }

    fn join(&mut self, other: &Self) {
        self.change(self.value.checked_add(other.value));
        self.overflow |= other.overflow;
    }
}

macro_rules! integer {
    ($($ty:ty),*) => {$(
        impl Number for $ty {
            type Sum = i64;
            type Wide = i64;

            #[inline]
            fn add(sum: &mut i64, value: Self::Native) {
                *sum = sum.wrapping_add(i64::from(value));
            }

            #[inline]
            fn subtract(sum: &mut i64, value: Self::Native) {
                *sum = sum.wrapping_sub(i64::from(value));
            }

            #[inline]
            fn sum(sum: &i64) -> Option<Self::Native> {
                Some(*sum as Self::Native)
            }

            #[inline]
            fn add_wide(sum: &mut i64, value: Self::Native) {
                Self::add(sum, value);
            }

            #[inline]
            fn subtract_wide(sum: &mut i64, value: Self::Native) {
                Self::subtract(sum, value);
            }

            #[inline]
            fn average(sum: &i64, count: i64, _extra: u32) -> Option<Self::Native> {
                Some(sum.wrapping_div(count) as Self::Native)
            }
        }
    )*};
}

integer!(Int8Type, Int16Type, Int32Type, Int64Type);

macro_rules! float {
    ($ty:ty, $native:ty) => {
        impl Number for $ty {
            type Sum = $native;
            type Wide = f64;

            #[inline]
            fn add(sum: &mut $native, value: $native) {
                *sum += value;
            }

            #[inline]
            fn subtract(sum: &mut $native, value: $native) {
                *sum -= value;
            }

            #[inline]
            fn sum(sum: &$native) -> Option<$native> {
                Some(*sum)
            }

            #[inline]
            fn add_wide(sum: &mut f64, value: $native) {
                *sum += f64::from(value);
            }

            #[inline]
            fn subtract_wide(sum: &mut f64, value: $native) {
                *sum -= f64::from(value);
            }

            #[inline]
            fn average(sum: &f64, count: i64, _extra: u32) -> Option<$native> {
                Some((*sum / count as f64) as $native)
            }
        }
    };
}

float!(Float32Type, f32);
float!(Float64Type, f64);

impl Number for Decimal128Type {
    type Sum = DecimalTotal;
    type Wide = DecimalTotal;

    #[inline]
    fn add(sum: &mut DecimalTotal, value: i128) {
        sum.change(sum.value.checked_add(value));
    }

    #[inline]
    fn subtract(sum: &mut DecimalTotal, value: i128) {
        sum.change(sum.value.checked_sub(value));
    }

    #[inline]
    fn sum(sum: &DecimalTotal) -> Option<i128> {
        (!sum.overflow && (-MAX_DECIMAL..=MAX_DECIMAL).contains(&sum.value)).then_some(sum.value)
    }

    fn add_wide(sum: &mut DecimalTotal, value: i128) {
        Self::add(sum, value);
    }

    fn subtract_wide(sum: &mut DecimalTotal, value: i128) {
        Self::subtract(sum, value);
    }

    fn average(sum: &DecimalTotal, count: i64, extra: u32) -> Option<i128> {
        let value = i256::from_i128(Self::sum(sum)?).checked_mul(i256::from_i128(10i128.checked_pow(extra)?))?;
        let count = i256::from_i128(i128::from(count));
        let (quotient, rest) = (value.checked_div(count)?, value.checked_rem(count)?);
        // HALF_UP, away from zero.
        let away = rest.wrapping_abs().checked_mul(i256::from_i128(2))? >= count.wrapping_abs();
        let negative = (value < i256::ZERO) != (count < i256::ZERO);
        let step = i256::from_i128(if !away {
            0
        } else if negative {
            -1
        } else {
            1
        });
        let result = quotient.checked_add(step)?.to_i128()?;
        (-MAX_DECIMAL..=MAX_DECIMAL).contains(&result).then_some(result)
    }
}
