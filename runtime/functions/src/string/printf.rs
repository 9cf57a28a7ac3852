//! `PRINTF(format, …)`: Java's `Formatter` with US locale. What Java refuses gives NULL.

use arrow::array::ArrayRef;
use sluice_batch::datum::from_array;
use sluice_batch::{Datum, Expr, Result, SqlType, TypeKind};

use crate::calendar::{SECONDS_PER_DAY, split};
use crate::cast::{decimal_to_f64, render};
use crate::kernel::{Args, P};
use crate::{Call, Declaration};

pub(crate) static FUNCTIONS: &[Declaration] = &[Declaration { names: &["PRINTF"], bind }];

/// The argument types travel in a function of their own: a kernel sees only columns.
fn bind(mut call: Call<'_>) -> Result<Expr> {
    if call.args.is_empty() {
        return Err(call.wrong_count("at least 1"));
    }
    let mut params = vec![P::Any; call.args.len()];
    params[0] = P::Chars;
    call.coerce(&params, 1)?;
    for i in 1..call.args.len() {
        // Java would print the class of Flink's internal data.
        let kind = &call.args[i].ty.kind;
        if matches!(kind, TypeKind::Array(_) | TypeKind::Map(..) | TypeKind::Multiset(_) | TypeKind::Row(_) | TypeKind::Variant) {
            call.cast_arg(i, TypeKind::STRING)?;
        }
    }
    let types = call.args.iter().map(|a| a.ty.clone()).collect();
    Ok(Expr::call(std::sync::Arc::new(Printf { types }), call.args, TypeKind::STRING.nullable()))
}

#[derive(Debug)]
struct Printf {
    types: Vec<SqlType>,
}

impl sluice_batch::ScalarFunction for Printf {
    fn name(&self) -> &str {
        "PRINTF"
    }

    fn eval(&self, args: &[sluice_batch::Value], rows: usize, ty: &SqlType, cx: &sluice_batch::EvalContext) -> Result<sluice_batch::Value> {
        let args = Args::new(args, rows, ty, cx, true);
        let out = self.body(&args)?;
        Ok(if args.is_scalar() { sluice_batch::Value::Scalar(out) } else { sluice_batch::Value::Array(out) })
    }
}

impl Printf {
    fn body(&self, args: &Args<'_>) -> Result<ArrayRef> {
        let format = args.str(0)?;
        let mut values = Vec::with_capacity(self.types.len());
        args.strings(|row, out| {
            let format = format.get(row)?;
            values.clear();
            let rest = self.types.iter().zip(args.values).skip(1);
            values.extend(rest.map(|(ty, v)| Argument::new(from_array(v.array().as_ref(), v.index(row), ty), &ty.kind)));
            formatted(format, &values, out)
        })
    }
}

/// A value as Java's formatter sees Flink's internal data.
enum Argument {
    Null,
    Boolean(bool),
    /// With its width in bits.
    Integer(i64, u32),
    Float(f64),
    Decimal(i128, u8),
    Text(String),
}

impl Argument {
    fn new(value: Datum, kind: &TypeKind) -> Self {
        match value {
            Datum::Null => Self::Null,
            Datum::Boolean(b) => Self::Boolean(b),
            Datum::TinyInt(v) => Self::Integer(i64::from(v), 8),
            Datum::SmallInt(v) => Self::Integer(i64::from(v), 16),
            Datum::Int(v) | Datum::Date(v) | Datum::Time(v) | Datum::IntervalYearMonth(v) => Self::Integer(i64::from(v), 32),
            Datum::BigInt(v) | Datum::IntervalDayTime(v) => Self::Integer(v, 64),
            Datum::Float(v) => Self::Float(f64::from(v)),
            Datum::Double(v) => Self::Float(v),
            Datum::Decimal(v) => Self::Decimal(v, if let TypeKind::Decimal(_, s) = kind { *s } else { 0 }),
            Datum::String(s) => Self::Text(s.to_string()),
            Datum::Timestamp(raw) => match kind {
                TypeKind::Timestamp(p) | TypeKind::TimestampLtz(p) => Self::Text(iso_timestamp(raw, *p)),
                _ => Self::Integer(raw, 64),
            },
            Datum::Bytes(b) => Self::Text(String::from_utf8_lossy(&b).into_owned()),
            // Cast to text when the call was typed.
            Datum::Array(_) | Datum::Map(_) | Datum::Row(_) => Self::Null,
        }
    }

    fn text(&self) -> String {
        let mut out = String::new();
        match self {
            Self::Null => out.push_str("null"),
            Self::Boolean(b) => out.push_str(if *b { "true" } else { "false" }),
            Self::Integer(v, _) => render::push_int(&mut out, *v),
            Self::Float(v) => render::push_double(&mut out, *v),
            Self::Decimal(v, s) => render::push_decimal(&mut out, *v, *s),
            Self::Text(s) => out.push_str(s),
        }
        out
    }
}

/// Java's `LocalDateTime.toString`: `2024-07-30T10:24`, seconds and fraction (3, 6 or 9 digits) only where they are not zero.
fn iso_timestamp(raw: i64, precision: u8) -> String {
    let (seconds, nanos) = split(raw, precision);
    let mut out = String::new();
    render::push_date(&mut out, seconds.div_euclid(SECONDS_PER_DAY));
    out.push('T');
    let mut clock = String::new();
    render::push_clock(&mut clock, seconds.rem_euclid(SECONDS_PER_DAY) as u32);
    let whole_minute = seconds.rem_euclid(60) == 0 && nanos == 0;
    out.push_str(if whole_minute { &clock[..5] } else { &clock });
    if nanos > 0 {
        out.push('.');
        let (value, digits) = match (nanos % 1_000_000, nanos % 1000) {
            (0, _) => (nanos / 1_000_000, 3),
            (_, 0) => (nanos / 1000, 6),
            _ => (nanos, 9),
        };
        render::push_padded(&mut out, u64::from(value), digits);
    }
    out
}

#[derive(Default)]
struct Spec {
    index: Option<usize>,
    /// `%<s`: the argument of the specification before.
    again: bool,
    minus: bool,
    plus: bool,
    space: bool,
    zero: bool,
    group: bool,
    parentheses: bool,
    alternate: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// One `%…` specification behind the percent sign: itself, its conversion, what follows it.
fn parse_spec(text: &str) -> Option<(Spec, char, &str)> {
    let mut spec = Spec::default();
    let mut rest = text;
    let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
    let n = digits(rest);
    if n > 0 && rest[n..].starts_with('$') {
        spec.index = Some(rest[..n].parse::<usize>().ok()?);
        rest = &rest[n + 1..];
    }
    while let Some(c) = rest.chars().next() {
        match c {
            '<' => spec.again = true,
            '-' => spec.minus = true,
            '+' => spec.plus = true,
            ' ' => spec.space = true,
            '0' => spec.zero = true,
            ',' => spec.group = true,
            '(' => spec.parentheses = true,
            '#' => spec.alternate = true,
            _ => break,
        }
        rest = &rest[1..];
    }
    let n = digits(rest);
    if n > 0 {
        spec.width = Some(rest[..n].parse().ok().filter(|w| *w < 100_000)?);
        rest = &rest[n..];
    }
    if let Some(after) = rest.strip_prefix('.') {
        let n = digits(after);
        spec.precision = Some(after[..n].parse().ok().filter(|p| *p < 1000)?);
        rest = &after[n..];
    }
    let conversion = rest.chars().next()?;
    Some((spec, conversion, &rest[conversion.len_utf8()..]))
}

fn formatted(format: &str, args: &[Argument], out: &mut String) -> Option<()> {
    let mut rest = format;
    let (mut next, mut before) = (0, None);
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let (spec, conversion, after) = parse_spec(&rest[at + 1..])?;
        rest = after;
        if !is_valid(&spec, conversion) {
            return None;
        }
        match conversion {
            '%' => push_aligned(out, "%", &spec),
            'n' => out.push('\n'),
            _ => {
                let index = match spec.index {
                    _ if spec.again => before?,
                    Some(index) => index.checked_sub(1)?,
                    None => {
                        next += 1;
                        next - 1
                    }
                };
                before = Some(index);
                push_argument(out, args.get(index)?, conversion, &spec)?;
            }
        }
    }
    out.push_str(rest);
    Some(())
}

fn push_aligned(out: &mut String, text: &str, spec: &Spec) {
    let missing = spec.width.unwrap_or(0).saturating_sub(text.chars().count());
    if !spec.minus {
        out.extend(std::iter::repeat_n(' ', missing));
    }
    out.push_str(text);
    if spec.minus {
        out.extend(std::iter::repeat_n(' ', missing));
    }
}

/// What Java's formatter refuses: flags without the width they need, flags that exclude each other, precision of integers.
fn is_valid(spec: &Spec, conversion: char) -> bool {
    let of_number = spec.plus || spec.space || spec.zero || spec.group || spec.parentheses;
    let conversion = conversion.to_ascii_lowercase();
    let fits = match conversion {
        'b' | 's' | 'c' => !of_number && !spec.alternate,
        'd' => !spec.alternate,
        'x' | 'o' => !spec.group && !spec.plus && !spec.space && !spec.parentheses,
        'e' => !spec.group,
        'g' => !spec.alternate,
        '%' => !of_number && !spec.alternate,
        'n' => !of_number && !spec.alternate && !spec.minus && spec.width.is_none(),
        _ => true,
    };
    fits && !(spec.width.is_none() && (spec.minus || spec.zero))
        && !(spec.minus && spec.zero || spec.plus && spec.space)
        && !(spec.precision.is_some() && matches!(conversion, 'd' | 'x' | 'o' | 'c' | '%' | 'n'))
}

/// The two's complement of an integer of this width.
fn unsigned(value: i64, bits: u32) -> u64 {
    value as u64 & (u64::MAX >> (64 - bits.clamp(1, 64)))
}

fn push_argument(out: &mut String, arg: &Argument, conversion: char, spec: &Spec) -> Option<()> {
    let upper = conversion.is_ascii_uppercase();
    let mut text = match (conversion.to_ascii_lowercase(), arg) {
        ('s', arg) => cut(arg.text(), spec),
        ('b', Argument::Null) => cut("false".to_string(), spec),
        ('b', Argument::Boolean(b)) => cut(b.to_string(), spec),
        ('b', _) => cut("true".to_string(), spec),
        (_, Argument::Null) => "null".to_string(),
        ('c', Argument::Integer(v, _)) => char::from_u32(u32::try_from(*v).ok()?)?.to_string(),
        ('c', Argument::Text(s)) if s.chars().count() == 1 => s.clone(),
        ('d', Argument::Integer(v, _)) => return push_number(out, *v < 0, &v.unsigned_abs().to_string(), spec),
        ('x', Argument::Integer(v, bits)) => format!("{}{:x}", if spec.alternate { "0x" } else { "" }, unsigned(*v, *bits)),
        ('o', Argument::Integer(v, bits)) => format!("{}{:o}", if spec.alternate { "0" } else { "" }, unsigned(*v, *bits)),
        ('f', Argument::Float(v)) if v.is_finite() => {
            let digits = Digits::of(v.abs()).fixed(spec.precision.unwrap_or(6));
            return push_number(out, v.is_sign_negative(), &digits, spec);
        }
        ('f', Argument::Decimal(v, s)) => {
            let digits = fixed_decimal(v.unsigned_abs(), *s, spec.precision.unwrap_or(6));
            return push_number(out, *v < 0, &digits, spec);
        }
        ('e' | 'g', Argument::Float(v)) if v.is_finite() => {
            return push_number(out, v.is_sign_negative(), &scientific(v.abs(), conversion, spec), spec);
        }
        ('e' | 'g', Argument::Decimal(v, s)) => {
            let value = decimal_to_f64(*v, *s);
            return push_number(out, value < 0.0, &scientific(value.abs(), conversion, spec), spec);
        }
        ('f' | 'e' | 'g', Argument::Float(_)) => arg.text(),
        _ => return None,
    };
    if upper {
        text = text.to_uppercase();
    }
    if spec.zero && matches!(conversion, 'x' | 'X' | 'o') {
        let missing = spec.width.unwrap_or(0).saturating_sub(text.len());
        out.extend(std::iter::repeat_n('0', missing));
        out.push_str(&text);
    } else {
        push_aligned(out, &text, spec);
    }
    Some(())
}

fn cut(text: String, spec: &Spec) -> String {
    match spec.precision {
        Some(p) => text.chars().take(p).collect(),
        None => text,
    }
}

/// `digits` fractional digits, rounded half up.
fn fixed_decimal(unscaled: u128, scale: u8, digits: usize) -> String {
    let mut out = String::new();
    let scale_now = usize::from(scale);
    if digits >= scale_now {
        render::push_decimal(&mut out, unscaled as i128, scale);
        if scale == 0 && digits > 0 {
            out.push('.');
        }
        out.extend(std::iter::repeat_n('0', digits - scale_now));
    } else {
        let divisor = 10_u128.pow((scale_now - digits) as u32);
        render::push_decimal(&mut out, ((unscaled + divisor / 2) / divisor) as i128, digits as u8);
    }
    out
}

/// A value as 0.d₁d₂d₃… × 10^exponent: the shortest digits that mean it, which Java rounds half up.
struct Digits {
    digits: Vec<u8>,
    exponent: i32,
}

impl Digits {
    /// Of a value that is finite and not negative.
    fn of(value: f64) -> Self {
        let text = format!("{value:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let digits = mantissa.bytes().filter(u8::is_ascii_digit).map(|b| b - b'0').collect();
        Self { digits, exponent: exponent.parse::<i32>().unwrap_or(0) + 1 }
    }

    /// Rounded to so many digits; a carry adds one in front.
    fn rounded(mut self, count: i64) -> Self {
        let Ok(count) = usize::try_from(count) else { return Self { digits: vec![0], exponent: 1 } };
        if count >= self.digits.len() {
            return self;
        }
        let up = self.digits[count] >= 5;
        self.digits.truncate(count);
        if up {
            match self.digits.iter().rposition(|d| *d < 9) {
                Some(at) => {
                    self.digits[at] += 1;
                    self.digits.truncate(at + 1);
                }
                None => self = Self { digits: vec![1], exponent: self.exponent + 1 },
            }
        }
        if self.digits.is_empty() {
            return Self { digits: vec![0], exponent: 1 };
        }
        self
    }

    fn digit(&self, at: i64) -> char {
        let digit = usize::try_from(at).ok().and_then(|at| self.digits.get(at)).copied().unwrap_or(0);
        char::from(b'0' + digit)
    }

    /// `places` digits behind the point.
    fn fixed(self, places: usize) -> String {
        let keep = i64::from(self.exponent) + places as i64;
        let this = self.rounded(keep);
        let whole = i64::from(this.exponent.max(1));
        let shift = i64::from(this.exponent) - whole;
        let mut out: String = (0..whole).map(|i| this.digit(i + shift)).collect();
        if places > 0 {
            out.push('.');
            out.extend((whole..whole + places as i64).map(|i| this.digit(i + shift)));
        }
        out
    }

    /// `d.ddde±dd` with `places` digits behind the point.
    fn scientific(self, places: usize, e: char) -> String {
        let this = self.rounded(places as i64 + 1);
        let zero = this.digits.iter().all(|d| *d == 0);
        let exponent = if zero { 0 } else { this.exponent - 1 };
        let mut out = String::from(this.digit(0));
        if places > 0 {
            out.push('.');
            out.extend((1..=places as i64).map(|i| this.digit(i)));
        }
        out.push(e);
        out.push(if exponent < 0 { '-' } else { '+' });
        render::push_padded(&mut out, u64::from(exponent.unsigned_abs()), if exponent.abs() < 100 { 2 } else { 3 });
        out
    }
}

/// `%e`, and `%g`: of the significant digits asked for, without exponent from 0.0001 up to 10^precision.
fn scientific(value: f64, conversion: char, spec: &Spec) -> String {
    let e = if conversion.is_ascii_uppercase() { 'E' } else { 'e' };
    let precision = spec.precision.unwrap_or(6);
    let digits = Digits::of(value);
    if conversion.eq_ignore_ascii_case(&'e') {
        return digits.scientific(precision, e);
    }
    let precision = precision.max(1);
    if value == 0.0 {
        return digits.fixed(precision - 1);
    }
    let rounded = digits.rounded(precision as i64);
    let before_point = i64::from(rounded.exponent);
    if (-3..=precision as i64).contains(&before_point) {
        rounded.fixed((precision as i64 - before_point).max(0) as usize)
    } else {
        rounded.scientific(precision - 1, e)
    }
}

fn push_number(out: &mut String, negative: bool, digits: &str, spec: &Spec) -> Option<()> {
    let (whole, fraction) = digits.split_at(digits.find(['.', 'e', 'E']).unwrap_or(digits.len()));
    let mut body = String::new();
    for (i, c) in whole.chars().enumerate() {
        if spec.group && i > 0 && (whole.len() - i).is_multiple_of(3) {
            body.push(',');
        }
        body.push(c);
    }
    body.push_str(fraction);
    let (before, behind) = match (negative, spec.parentheses, spec.plus, spec.space) {
        (true, true, ..) => ("(", ")"),
        (true, false, ..) => ("-", ""),
        (false, _, true, _) => ("+", ""),
        (false, _, false, true) => (" ", ""),
        _ => ("", ""),
    };
    if spec.zero {
        let missing = spec.width.unwrap_or(0).saturating_sub(body.len() + before.len() + behind.len());
        body.insert_str(0, &"0".repeat(missing));
    }
    push_aligned(out, &format!("{before}{body}{behind}"), spec);
    Some(())
}
