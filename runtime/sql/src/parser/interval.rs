//! INTERVAL literals and their units.

use sluice_batch::{Error, Result, Span};

use super::Parser;
use crate::ast::{BinaryOp, Expr, ExprKind, Literal};
use crate::lexer::TokenKind;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unit {
    Year,
    Quarter,
    Month,
    Week,
    Day,
    Hour,
    Minute,
    Second,
    Millisecond,
}

/// Singular and plural; Flink takes both.
const UNITS: &[(&str, &str, Unit)] = &[
    ("YEAR", "YEARS", Unit::Year),
    ("QUARTER", "QUARTERS", Unit::Quarter),
    ("MONTH", "MONTHS", Unit::Month),
    ("WEEK", "WEEKS", Unit::Week),
    ("DAY", "DAYS", Unit::Day),
    ("HOUR", "HOURS", Unit::Hour),
    ("MINUTE", "MINUTES", Unit::Minute),
    ("SECOND", "SECONDS", Unit::Second),
    ("MILLISECOND", "MILLISECONDS", Unit::Millisecond),
];

impl Unit {
    fn name(self) -> &'static str {
        UNITS.iter().find(|(_, _, u)| *u == self).map_or("", |(name, _, _)| name)
    }

    fn is_months(self) -> bool {
        matches!(self, Unit::Year | Unit::Quarter | Unit::Month)
    }

    /// In months or milliseconds.
    fn size(self) -> i64 {
        match self {
            Unit::Year => 12,
            Unit::Quarter => 3,
            Unit::Month | Unit::Millisecond => 1,
            Unit::Week => 7 * 86_400_000,
            Unit::Day => 86_400_000,
            Unit::Hour => 3_600_000,
            Unit::Minute => 60_000,
            Unit::Second => 1000,
        }
    }

    /// The largest value that the unit may have behind a greater one.
    fn limit(self) -> i64 {
        match self {
            Unit::Month => 11,
            Unit::Hour => 23,
            Unit::Minute | Unit::Second => 59,
            _ => i64::MAX,
        }
    }
}

/// The units from a greater to a smaller one, and what stands before each but the first.
fn fields(from: Unit, to: Unit) -> Option<Vec<(Unit, char)>> {
    if from == Unit::Year && to == Unit::Month {
        return Some(vec![(Unit::Year, ' '), (Unit::Month, '-')]);
    }
    let all = [(Unit::Day, ' '), (Unit::Hour, ' '), (Unit::Minute, ':'), (Unit::Second, ':')];
    let begin = all.iter().position(|(u, _)| *u == from)?;
    let end = all.iter().position(|(u, _)| *u == to)?;
    all.get(begin..=end).filter(|f| f.len() > 1).map(<[_]>::to_vec)
}

impl Parser<'_> {
    fn interval_unit(&mut self) -> Result<Unit> {
        for (singular, plural, unit) in UNITS {
            if self.take_kw(singular) || self.take_kw(plural) {
                if self.take("(") {
                    self.unsigned("a precision")?;
                    if self.take(",") {
                        self.unsigned("a precision")?;
                    }
                    self.expect(")")?;
                }
                return Ok(*unit);
            }
        }
        Err(self.expected("a unit of time such as SECOND, MINUTE, HOUR or DAY"))
    }

    /// `DAY`, `DAY(3) TO SECOND(3)`
    pub(super) fn interval_units(&mut self) -> Result<(Unit, Option<Unit>)> {
        let span = self.span();
        let from = self.interval_unit()?;
        if !self.take_kw("TO") {
            return Ok((from, None));
        }
        let to = self.interval_unit()?;
        if fields(from, to).is_none() {
            return Err(Error::plan(format!("{} TO {} is no interval", from.name(), to.name())).at(span));
        }
        Ok((from, Some(to)))
    }

    /// What follows INTERVAL: `'5' MINUTE`, `-'1-2' YEAR TO MONTH`, `n MINUTE`.
    pub(super) fn interval_literal(&mut self, span: Span) -> Result<Expr> {
        let signed = (self.is("-") || self.is("+")) && matches!(self.token(1).kind, TokenKind::String(_));
        let negative = signed && self.is("-");
        if signed {
            self.advance();
        }
        if !matches!(self.kind(), TokenKind::String(_)) {
            return self.interval_of_expression(span);
        }
        let (text, place) = self.string("an interval's value")?;
        let (from, to) = self.interval_units()?;
        let wrong = || {
            let unit = to.map_or(from.name().to_string(), |to| format!("{} TO {}", from.name(), to.name()));
            Error::plan(format!("'{text}' is no INTERVAL {unit}")).at(place)
        };
        let value = parse_interval(&text, from, to).ok_or_else(wrong)?;
        let value = if negative { value.checked_neg().ok_or_else(wrong)? } else { value };
        let literal = match from.is_months() {
            true => Literal::IntervalYearMonth(i32::try_from(value).map_err(|_| wrong())?),
            false => Literal::IntervalDayTime(value),
        };
        Ok(Expr { kind: ExprKind::Literal(literal), span })
    }

    /// `INTERVAL expr UNIT` is `expr * INTERVAL '1' UNIT` (Calcite's `SqlIntervalOperator`).
    fn interval_of_expression(&mut self, span: Span) -> Result<Expr> {
        let count = self.nested(Self::operand)?;
        let (unit, to) = self.interval_units()?;
        if to.is_some() {
            return Err(Error::plan("an interval of two units takes a string: INTERVAL '1 10' DAY TO HOUR").at(span));
        }
        let one = match unit.is_months() {
            true => Literal::IntervalYearMonth(unit.size() as i32),
            false => Literal::IntervalDayTime(unit.size()),
        };
        let one = Expr { kind: ExprKind::Literal(one), span };
        Ok(Expr { kind: ExprKind::Binary { op: BinaryOp::Multiply, left: Box::new(count), right: Box::new(one) }, span })
    }
}

/// Months or milliseconds; `None` if the text does not fit the units or the number overflows.
fn parse_interval(text: &str, from: Unit, to: Option<Unit>) -> Option<i64> {
    let text = text.trim();
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest.trim_start()),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let fields = match to {
        Some(to) => fields(from, to)?,
        None => vec![(from, ' ')],
    };
    let mut rest = text;
    let mut total = 0i64;
    for (i, (unit, before)) in fields.iter().enumerate() {
        if i > 0 {
            rest = rest.strip_prefix(*before)?;
        }
        let digits = rest.chars().take_while(char::is_ascii_digit).count();
        let value: i64 = rest.get(..digits)?.parse().ok()?;
        if i > 0 && value > unit.limit() {
            return None;
        }
        rest = rest.get(digits..)?;
        total = total.checked_add(value.checked_mul(unit.size())?)?;
        if *unit == Unit::Second
            && let Some(fraction) = rest.strip_prefix('.')
        {
            total = total.checked_add(milliseconds(fraction)?)?;
            rest = "";
        }
    }
    if !rest.is_empty() {
        return None;
    }
    if negative { total.checked_neg() } else { Some(total) }
}

/// The milliseconds of a fraction of a second; further digits are cut.
fn milliseconds(fraction: &str) -> Option<i64> {
    if fraction.is_empty() || fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    format!("{fraction:0<3}").get(..3)?.parse().ok()
}
