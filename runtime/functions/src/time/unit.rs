//! Units of time as keyword arguments, and functions that are made for one unit.

use std::fmt;
use std::sync::Arc;

use arrow::array::ArrayRef;
use sluice_batch::{EvalContext, Expr, Result, ScalarFunction, SqlType, Value};

use crate::Call;
use crate::kernel::Args;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Unit {
    Nanosecond,
    Microsecond,
    Millisecond,
    Second,
    Minute,
    Hour,
    Day,
    Dow,
    IsoDow,
    Doy,
    Week,
    Month,
    Quarter,
    Year,
    IsoYear,
    Epoch,
    Decade,
    Century,
    Millennium,
}

impl Unit {
    /// By its keyword, upper case.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "NANOSECOND" => Self::Nanosecond,
            "MICROSECOND" => Self::Microsecond,
            "MILLISECOND" => Self::Millisecond,
            "SECOND" => Self::Second,
            "MINUTE" => Self::Minute,
            "HOUR" => Self::Hour,
            "DAY" => Self::Day,
            "DOW" => Self::Dow,
            "ISODOW" => Self::IsoDow,
            "DOY" => Self::Doy,
            "WEEK" => Self::Week,
            "MONTH" => Self::Month,
            "QUARTER" => Self::Quarter,
            "YEAR" => Self::Year,
            "ISOYEAR" => Self::IsoYear,
            "EPOCH" => Self::Epoch,
            "DECADE" => Self::Decade,
            "CENTURY" => Self::Century,
            "MILLENNIUM" => Self::Millennium,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Nanosecond => "NANOSECOND",
            Self::Microsecond => "MICROSECOND",
            Self::Millisecond => "MILLISECOND",
            Self::Second => "SECOND",
            Self::Minute => "MINUTE",
            Self::Hour => "HOUR",
            Self::Day => "DAY",
            Self::Dow => "DOW",
            Self::IsoDow => "ISODOW",
            Self::Doy => "DOY",
            Self::Week => "WEEK",
            Self::Month => "MONTH",
            Self::Quarter => "QUARTER",
            Self::Year => "YEAR",
            Self::IsoYear => "ISOYEAR",
            Self::Epoch => "EPOCH",
            Self::Decade => "DECADE",
            Self::Century => "CENTURY",
            Self::Millennium => "MILLENNIUM",
        }
    }

    /// The length in milliseconds of units up to a week.
    pub fn millis(self) -> Option<i64> {
        Some(match self {
            Self::Millisecond => 1,
            Self::Second => 1000,
            Self::Minute => 60_000,
            Self::Hour => 3_600_000,
            Self::Day => 86_400_000,
            Self::Week => 7 * 86_400_000,
            _ => return None,
        })
    }

    /// The length in months of units from a month on.
    pub fn months(self) -> Option<i64> {
        Some(match self {
            Self::Month => 1,
            Self::Quarter => 3,
            Self::Year => 12,
            Self::Decade => 120,
            Self::Century => 1200,
            Self::Millennium => 12_000,
            _ => return None,
        })
    }

    pub fn is_below_day(self) -> bool {
        matches!(self, Self::Nanosecond | Self::Microsecond | Self::Millisecond | Self::Second | Self::Minute | Self::Hour)
    }
}

/// What a function of a unit does.
pub(crate) type UnitBody = fn(&Args<'_>, Unit) -> Result<ArrayRef>;

/// A function whose unit is known when the query is planned.
struct UnitFunction {
    /// Holds the unit: the canonical text of an expression must tell units apart.
    name: String,
    unit: Unit,
    body: UnitBody,
}

impl fmt::Debug for UnitFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl ScalarFunction for UnitFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn eval(&self, args: &[Value], rows: usize, ty: &SqlType, cx: &EvalContext) -> Result<Value> {
        let args = Args::new(args, rows, ty, cx, true);
        let out = (self.body)(&args, self.unit)?;
        Ok(if args.is_scalar() { Value::Scalar(out) } else { Value::Array(out) })
    }
}

impl Call<'_> {
    /// Takes the unit at this position off the arguments.
    ///
    /// # Errors
    /// If it is not a unit.
    pub(crate) fn take_unit(&mut self, index: usize) -> Result<Unit> {
        let Some(unit) = self.symbol(index).and_then(Unit::parse) else {
            return Err(self.invalid("a unit of time such as SECOND, MINUTE, HOUR or DAY is expected"));
        };
        self.args.remove(index);
        self.symbols.remove(index);
        Ok(unit)
    }

    /// A deterministic function of a unit over the arguments as they are.
    pub(crate) fn unit_kernel(self, name: &str, unit: Unit, ty: SqlType, body: UnitBody) -> Expr {
        let function = UnitFunction { name: format!("{name}[{}]", unit.name()), unit, body };
        Expr::call(Arc::new(function), self.args, ty)
    }
}
