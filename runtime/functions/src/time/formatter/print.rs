//! Printing a local time by a pattern.

use super::{Field, Formatter, Node, Number, Sign, Width};
use crate::calendar::days_from_civil;
use crate::cast::render::push_padded;
use crate::time::Local;
use crate::time::extract::weekday;
use crate::time::names::{DAYS, MONTHS, short};
use crate::time::simple::us_week;

impl Formatter {
    /// Appends the local time.
    ///
    /// # Errors
    /// If the pattern asks for what a local time does not have (an offset), or a number is too large for its width.
    pub fn print(&self, local: Local, out: &mut String) -> Result<(), String> {
        print_all(&self.nodes, local, out)
    }
}

fn print_all(nodes: &[Node], local: Local, out: &mut String) -> Result<(), String> {
    for node in nodes {
        match node {
            Node::Literal(text) => out.push_str(text),
            Node::Number(number) => print_number(*number, value(number.field, local), out)?,
            Node::Text(field, width) => print_text(*field, *width, local, out)?,
            Node::Optional(nodes) => {
                let start = out.len();
                if print_all(nodes, local, out).is_err() {
                    out.truncate(start);
                }
            }
        }
    }
    Ok(())
}

fn print_number(number: Number, value: i64, out: &mut String) -> Result<(), String> {
    if number.field == Field::Fraction {
        push_padded(out, value as u64 / 10_u64.pow(9 - number.min.min(9) as u32), number.min);
        return Ok(());
    }
    if number.reduced {
        push_padded(out, value.unsigned_abs() % 100, 2);
        return Ok(());
    }
    let magnitude = value.unsigned_abs();
    let exceeds = |digits: usize| digits < 19 && magnitude >= 10_u64.pow(digits as u32);
    if exceeds(number.max) {
        return Err(format!("the value {value} exceeds the maximum print width of {}", number.max));
    }
    if value < 0 {
        out.push('-');
    } else if number.sign == Sign::ExceedsPad && exceeds(number.min) {
        out.push('+');
    }
    push_padded(out, magnitude, number.min);
    Ok(())
}

fn print_text(field: Field, width: Width, local: Local, out: &mut String) -> Result<(), String> {
    let name = |names: &[&'static str], at: i64| {
        let name = usize::try_from(at).ok().and_then(|at| names.get(at)).copied().unwrap_or_default();
        match width {
            Width::Short => short(name),
            Width::Full => name,
            Width::Narrow => name.get(..1).unwrap_or_default(),
        }
    };
    match field {
        Field::Month => out.push_str(name(&MONTHS, value(field, local) - 1)),
        Field::Weekday => out.push_str(name(&DAYS, value(field, local))),
        Field::AmPm => out.push_str(if local.second_of_day() < 43_200 { "AM" } else { "PM" }),
        Field::Era => {
            let common = local.date().0 > 0;
            out.push_str(match (width, common) {
                (Width::Short, true) => "AD",
                (Width::Short, false) => "BC",
                (Width::Full, true) => "Anno Domini",
                (Width::Full, false) => "Before Christ",
                (Width::Narrow, true) => "A",
                (Width::Narrow, false) => "B",
            });
        }
        Field::Quarter => {
            let quarter = value(field, local);
            let ordinal = ["1st quarter", "2nd quarter", "3rd quarter", "4th quarter"];
            match width {
                Width::Full => out.push_str(ordinal[(quarter - 1) as usize % 4]),
                Width::Short => {
                    out.push('Q');
                    push_padded(out, quarter as u64, 1);
                }
                Width::Narrow => push_padded(out, quarter as u64, 1),
            }
        }
        Field::Offset(letter, _) => {
            return Err(format!("a local time has no time zone for the pattern letter '{letter}'"));
        }
        _ => {}
    }
    Ok(())
}

fn value(field: Field, local: Local) -> i64 {
    let (days, second) = (local.days(), local.second_of_day());
    let (year, month, day) = local.date();
    match field {
        Field::Era => i64::from(year > 0),
        Field::YearOfEra => {
            if year > 0 {
                year
            } else {
                1 - year
            }
        }
        Field::Year => year,
        Field::WeekYear => us_week(days, year).0,
        Field::WeekOfYear => us_week(days, year).1,
        Field::WeekOfMonth => {
            let first = days - i64::from(day) + 1;
            (i64::from(day) - 1 + (weekday(first) + 1) % 7) / 7 + 1
        }
        Field::Quarter => i64::from(month.div_ceil(3)),
        Field::Month => i64::from(month),
        Field::Day => i64::from(day),
        Field::DayOfYear => days - days_from_civil(year, 1, 1) + 1,
        Field::DayOfWeekInMonth => (i64::from(day) - 1) % 7 + 1,
        Field::Weekday => weekday(days),
        Field::LocalWeekday => (weekday(days) + 1) % 7 + 1,
        Field::AmPm => second / 43_200,
        Field::Hour => second / 3600,
        Field::ClockHour => (second / 3600 + 23) % 24 + 1,
        Field::HourOfAmPm => second / 3600 % 12,
        Field::ClockHourOfAmPm => (second / 3600 + 11) % 12 + 1,
        Field::Minute => second / 60 % 60,
        Field::Second => second % 60,
        Field::Fraction | Field::Nano => i64::from(local.nanos),
        Field::MilliOfDay => second * 1000 + i64::from(local.nanos / 1_000_000),
        Field::NanoOfDay => second * 1_000_000_000 + i64::from(local.nanos),
        Field::Offset(..) => 0,
    }
}
