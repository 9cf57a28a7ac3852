//! Exact arithmetic on unscaled decimals. A result that does not fit its precision is NULL (Flink: `DecimalDataUtils`).

use arrow::datatypes::i256;

use super::arithmetic::Op;
use crate::cast::{fits_precision, rescale_decimal};

/// Scales of the operands, and precision and scale of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scales {
    pub left: u8,
    pub right: u8,
    pub precision: u8,
    pub scale: u8,
}

fn wide_pow10(exponent: u32) -> Option<i256> {
    i256::from_i128(10).checked_pow(exponent)
}

/// Half up to the target scale; `None` if it does not fit.
fn narrow(value: i256, from_scale: u8, to: Scales) -> Option<i128> {
    let scaled = if to.scale >= from_scale {
        value.checked_mul(wide_pow10(u32::from(to.scale - from_scale))?)?
    } else {
        divide_half_up(value, wide_pow10(u32::from(from_scale - to.scale))?)?
    };
    scaled.to_i128().filter(|v| fits_precision(*v, to.precision))
}

fn divide_half_up(value: i256, divisor: i256) -> Option<i256> {
    let quotient = value.checked_div(divisor)?;
    let rest = value.checked_rem(divisor)?;
    let negative = (value < i256::ZERO) != (divisor < i256::ZERO);
    let twice = rest.wrapping_abs().checked_mul(i256::from_i128(2))?;
    if twice < divisor.wrapping_abs() {
        return Some(quotient);
    }
    if negative { quotient.checked_sub(i256::ONE) } else { quotient.checked_add(i256::ONE) }
}

/// `a op b`; the divisor is not zero. `None` is NULL: too many digits.
#[inline]
pub(crate) fn apply(op: Op, a: i128, b: i128, s: Scales) -> Option<i128> {
    match op {
        Op::Add | Op::Subtract | Op::Modulo => aligned(op, a, b, s),
        Op::Multiply => {
            let scale = s.left + s.right;
            match a.checked_mul(b) {
                Some(product) => rescale_decimal(product, scale, s.precision, s.scale),
                None => narrow(i256::from_i128(a).checked_mul(i256::from_i128(b))?, scale, s),
            }
        }
        Op::Divide => divide(a, b, s),
    }
}

fn aligned(op: Op, a: i128, b: i128, s: Scales) -> Option<i128> {
    let scale = s.left.max(s.right);
    let (up_a, up_b) = (u32::from(scale - s.left), u32::from(scale - s.right));
    let fast = || {
        let (a, b) = (a.checked_mul(10_i128.pow(up_a))?, b.checked_mul(10_i128.pow(up_b))?);
        match op {
            Op::Add => a.checked_add(b),
            Op::Subtract => a.checked_sub(b),
            _ => a.checked_rem(b),
        }
    };
    if let Some(value) = fast() {
        return rescale_decimal(value, scale, s.precision, s.scale);
    }
    let a = i256::from_i128(a).checked_mul(wide_pow10(up_a)?)?;
    let b = i256::from_i128(b).checked_mul(wide_pow10(up_b)?)?;
    let value = match op {
        Op::Add => a.checked_add(b)?,
        Op::Subtract => a.checked_sub(b)?,
        _ => a.checked_rem(b)?,
    };
    narrow(value, scale, s)
}

fn divide(a: i128, b: i128, s: Scales) -> Option<i128> {
    let up = i32::from(s.scale) - i32::from(s.left) + i32::from(s.right);
    let (mut numerator, mut divisor) = (i256::from_i128(a), i256::from_i128(b));
    let factor = wide_pow10(up.unsigned_abs())?;
    if up >= 0 {
        numerator = numerator.checked_mul(factor)?;
    } else {
        divisor = divisor.checked_mul(factor)?;
    }
    divide_half_up(numerator, divisor)?.to_i128().filter(|v| fits_precision(*v, s.precision))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact() {
        let s = |left, right, precision, scale| Scales { left, right, precision, scale };
        let big = 10_i128.pow(37);
        let cases = [
            (Op::Add, 1050, 25, s(2, 1, 13, 2), Some(1300)),
            (Op::Subtract, 1, 2, s(0, 2, 5, 2), Some(98)),
            (Op::Multiply, 15, 15, s(1, 1, 5, 2), Some(225)),
            (Op::Multiply, big, big, s(20, 20, 38, 6), None),
            (Op::Multiply, big, big, s(37, 37, 38, 6), Some(1_000_000)),
            (Op::Divide, 1000, 3, s(2, 0, 21, 13), Some(33_333_333_333_333)),
            (Op::Divide, -2000, 3, s(2, 0, 21, 13), Some(-66_666_666_666_667)),
            (Op::Divide, 1, 8, s(0, 0, 10, 2), Some(13)),
            (Op::Modulo, -75, 2, s(1, 0, 5, 1), Some(-15)),
            (Op::Add, 10_i128.pow(38) - 1, 1, s(0, 0, 38, 0), None),
        ];
        for (op, a, b, scales, expected) in cases {
            assert_eq!(apply(op, a, b, scales), expected, "{a} {op:?} {b}");
        }
    }
}
