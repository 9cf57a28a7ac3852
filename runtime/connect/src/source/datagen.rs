//! `datagen`: rows made up by rule, random or in sequence (Flink: `DataGenTableSourceFactory`).

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;
use rand::{SeedableRng, distr::Alphanumeric};
use sluice_batch::datum::from_datums;
use sluice_batch::{Batch, Datum, Error, Millis, Result, SqlType, TypeKind};
use sluice_format::ChangelogMode;

use super::BATCH_ROWS;
use crate::columns;
use crate::options::Options;
use crate::progress::{Progress, RecordEnd};
use crate::registry::SourceFactory;
use crate::{ScanColumn, ScanRequest, Source, SourceEvent, SourceInfo, SplitStatus, TableSpec};

pub(crate) const FACTORY: SourceFactory = SourceFactory { info, metadata: |_| Ok(vec![]), open, splits: false, filters: |_, _, _| false };

struct Settings {
    rows_per_second: u64,
    /// The number of rows; `None`: without end.
    rows: Option<u64>,
    fields: Vec<Generator>,
}

/// How the values of a column are made.
enum Generator {
    /// The row's number added to `start`.
    Sequence {
        start: i64,
        ty: SqlType,
    },
    Random {
        rule: Rule,
        null_rate: f64,
    },
}

enum Rule {
    Boolean,
    Integer(RangeInclusive<i64>, TypeKind),
    Float(f64, f64, TypeKind),
    Decimal(RangeInclusive<i128>),
    /// Characters, or bytes where the flag says so.
    Text(RangeInclusive<usize>, bool),
    Date,
    Time,
    /// Up to so many milliseconds ago; units a millisecond.
    Timestamp(i64, i64),
    Array(Box<Generator>, usize),
    Map(Box<Generator>, Box<Generator>, usize),
    Row(Vec<Generator>),
}

impl Settings {
    fn new(table: &TableSpec) -> Result<Self> {
        let options = Options::new(table)?;
        let rows_per_second = options.parse::<u64>("rows-per-second", "a number above 0")?.unwrap_or(10_000);
        if rows_per_second == 0 {
            return Err(options.invalid(options.required("rows-per-second")?, "a number above 0"));
        }
        let mut rows = options.parse::<u64>("number-of-rows", "a number")?;
        let fields = table.physical.iter().map(|f| generator(&options, &format!("fields.{}", f.name), &f.ty, &mut rows));
        let fields = fields.collect::<Result<_>>()?;
        options.finish()?;
        columns::check_readable(table, &[])?;
        Ok(Self { rows_per_second, rows, fields })
    }
}

/// The generator of one column from its options `<path>.…`; a sequence limits `rows`.
fn generator(options: &Options<'_>, path: &str, ty: &SqlType, rows: &mut Option<u64>) -> Result<Generator> {
    let key = |name: &str| format!("{path}.{name}");
    let null_rate = options.parse::<f64>(&key("null-rate"), "a number from 0 to 1")?.unwrap_or(0.0);
    if options.choice(&key("kind"), &["random", "sequence"])? == "sequence" {
        let bound = |name: &str| options.parse::<i64>(&key(name), "a whole number")?.ok_or_else(|| options.missing(&key(name)));
        let (start, end) = (bound("start")?, bound("end")?);
        let sequential = ty.kind.is_numeric() || ty.kind.is_character();
        if !sequential || end < start {
            let problem = if sequential { "its end is before its start".into() } else { format!("{ty} has no sequence") };
            return Err(Error::plan(format!("'{path}' cannot be a sequence: {problem}")).at(options.table.span));
        }
        let count = end.abs_diff(start).saturating_add(1);
        *rows = Some(rows.map_or(count, |r| r.min(count)));
        return Ok(Generator::Sequence { start, ty: ty.clone() });
    }
    Ok(Generator::Random { rule: rule(options, path, &ty.kind, rows)?, null_rate })
}

fn rule(options: &Options<'_>, path: &str, kind: &TypeKind, rows: &mut Option<u64>) -> Result<Rule> {
    let key = |name: &str| format!("{path}.{name}");
    let length = |default: usize| Ok::<_, Error>(options.parse::<usize>(&key("length"), "a number")?.unwrap_or(default));
    let integer = |low: i64, high: i64| {
        let min = options.parse::<i64>(&key("min"), "a whole number")?.unwrap_or(low);
        let max = options.parse::<i64>(&key("max"), "a whole number")?.unwrap_or(high);
        if min > max || min < low || max > high {
            return Err(Error::plan(format!("'{path}': {min} to {max} is no range of {kind}")).at(options.table.span));
        }
        Ok(Rule::Integer(min..=max, kind.clone()))
    };
    let float = |low: f64, high: f64| {
        let min = options.parse::<f64>(&key("min"), "a number")?.unwrap_or(low);
        let max = options.parse::<f64>(&key("max"), "a number")?.unwrap_or(high);
        if min.is_nan() || max.is_nan() || min > max {
            return Err(Error::plan(format!("'{path}': {min} to {max} is no range")).at(options.table.span));
        }
        Ok((min, max))
    };
    let text = |n: u32, fixed: bool, bytes: bool| {
        let unbounded = n == sluice_batch::types::MAX_LENGTH;
        let length = length(if unbounded { 100 } else { n as usize })?;
        if length > n as usize || (fixed && length != n as usize) {
            return Err(Error::plan(format!("'{path}.length' is {length}, which does not fit {kind}")).at(options.table.span));
        }
        let shortest = if options.flag(&key("var-len"), false)? && !fixed { 1.min(length) } else { length };
        Ok(Rule::Text(shortest..=length, bytes))
    };
    let nested = |name: &str, ty: &SqlType, rows: &mut Option<u64>| generator(options, &key(name), ty, rows).map(Box::new);
    Ok(match kind {
        TypeKind::Boolean => Rule::Boolean,
        TypeKind::TinyInt => integer(i8::MIN.into(), i8::MAX.into())?,
        TypeKind::SmallInt => integer(i16::MIN.into(), i16::MAX.into())?,
        TypeKind::Int | TypeKind::IntervalYearMonth => integer(i32::MIN.into(), i32::MAX.into())?,
        TypeKind::BigInt | TypeKind::IntervalDayTime => integer(i64::MIN, i64::MAX)?,
        TypeKind::Float => float(f32::MIN.into(), f32::MAX.into()).map(|(a, b)| Rule::Float(a, b, TypeKind::Float))?,
        TypeKind::Double => float(f64::MIN / 2.0, f64::MAX / 2.0).map(|(a, b)| Rule::Float(a, b, TypeKind::Double))?,
        TypeKind::Decimal(p, s) => {
            let largest = 10i128.pow(u32::from((*p).min(38))) - 1;
            let scaled = |v: f64| ((v * 10f64.powi(i32::from(*s))) as i128).clamp(-largest, largest);
            let (min, max) = float(f64::NEG_INFINITY, f64::INFINITY)?;
            Rule::Decimal(scaled(min)..=scaled(max))
        }
        TypeKind::Char(n) => text(*n, true, false)?,
        TypeKind::VarChar(n) => text(*n, false, false)?,
        TypeKind::Binary(n) => text(*n, true, true)?,
        TypeKind::VarBinary(n) => text(*n, false, true)?,
        TypeKind::Date => Rule::Date,
        TypeKind::Time(_) => Rule::Time,
        TypeKind::Timestamp(p) | TypeKind::TimestampLtz(p) => {
            let past = options.duration(&key("max-past"))?.unwrap_or_default();
            Rule::Timestamp(past.as_millis() as i64, if *p <= 6 { 1_000 } else { 1_000_000 })
        }
        TypeKind::Array(e) => Rule::Array(nested("element", e, rows)?, length(3)?),
        TypeKind::Map(k, v) => Rule::Map(nested("key", k, rows)?, nested("value", v, rows)?, length(3)?),
        TypeKind::Multiset(e) => {
            let one = Rule::Integer(1..=10, TypeKind::Int);
            Rule::Map(nested("element", e, rows)?, Box::new(Generator::Random { rule: one, null_rate: 0.0 }), length(3)?)
        }
        TypeKind::Row(fields) => Rule::Row(fields.iter().map(|f| generator(options, &key(&f.name), &f.ty, rows)).collect::<Result<_>>()?),
        TypeKind::Null | TypeKind::Variant => return Err(Error::unsupported(format!("datagen for {kind}")).at(options.table.span)),
    })
}

fn wrap_integer(v: i64, kind: &TypeKind) -> Datum {
    match kind {
        TypeKind::TinyInt => Datum::TinyInt(v as i8),
        TypeKind::SmallInt => Datum::SmallInt(v as i16),
        TypeKind::Int => Datum::Int(v as i32),
        TypeKind::IntervalYearMonth => Datum::IntervalYearMonth(v as i32),
        TypeKind::IntervalDayTime => Datum::IntervalDayTime(v),
        _ => Datum::BigInt(v),
    }
}

impl Generator {
    /// The value for row `row` at time `now`.
    fn value(&self, row: u64, now: Millis, rng: &mut SmallRng) -> Datum {
        match self {
            Self::Sequence { start, ty } => {
                let v = start.wrapping_add(row as i64);
                match &ty.kind {
                    TypeKind::Float => Datum::Float(v as f32),
                    TypeKind::Double => Datum::Double(v as f64),
                    TypeKind::Decimal(_, s) => Datum::Decimal(i128::from(v) * 10i128.pow(u32::from((*s).min(19)))),
                    TypeKind::Char(_) | TypeKind::VarChar(_) => Datum::string(v.to_string()),
                    kind => wrap_integer(v, kind),
                }
            }
            Self::Random { null_rate, .. } if *null_rate > 0.0 && rng.random::<f64>() < *null_rate => Datum::Null,
            Self::Random { rule, .. } => rule.value(row, now, rng),
        }
    }
}

impl Rule {
    fn value(&self, row: u64, now: Millis, rng: &mut SmallRng) -> Datum {
        const DAY: i64 = 86_400_000;
        match self {
            Self::Boolean => Datum::Boolean(rng.random()),
            Self::Integer(range, kind) => wrap_integer(rng.random_range(range.clone()), kind),
            Self::Float(min, max, TypeKind::Float) => Datum::Float((min + (max - min) * rng.random::<f64>()) as f32),
            Self::Float(min, max, _) => Datum::Double(min + (max - min) * rng.random::<f64>()),
            Self::Decimal(range) => Datum::Decimal(rng.random_range(range.clone())),
            Self::Text(length, bytes) => {
                let length = rng.random_range(length.clone());
                match bytes {
                    true => Datum::Bytes((0..length).map(|_| rng.random::<u8>()).collect()),
                    false => Datum::string(rng.sample_iter(Alphanumeric).take(length).map(char::from).collect::<String>()),
                }
            }
            Self::Date => Datum::Date(now.div_euclid(DAY) as i32),
            Self::Time => Datum::Time(now.rem_euclid(DAY) as i32),
            Self::Timestamp(past, unit) => Datum::Timestamp((now - if *past > 0 { rng.random_range(0..*past) } else { 0 }) * unit),
            Self::Array(element, n) => Datum::Array((0..*n).map(|_| element.value(row, now, rng)).collect()),
            Self::Map(key, value, n) => {
                let mut entries: Vec<(Datum, Datum)> = vec![];
                for _ in 0..*n {
                    let key = key.value(row, now, rng);
                    if entries.iter().all(|(k, _)| *k != key) {
                        entries.push((key, value.value(row, now, rng)));
                    }
                }
                Datum::Map(Arc::from(entries))
            }
            Self::Row(fields) => Datum::Row(fields.iter().map(|f| f.value(row, now, rng)).collect()),
        }
    }
}

fn info(table: &TableSpec) -> Result<SourceInfo> {
    let settings = Settings::new(table)?;
    Ok(SourceInfo { changelog: ChangelogMode::InsertOnly, bounded: settings.rows.is_some(), upsert_key: None })
}

fn open(table: &TableSpec, request: &ScanRequest) -> Result<Box<dyn Source>> {
    let settings = Settings::new(table)?;
    let output = request.columns.iter().map(|c| match c {
        ScanColumn::Physical(i) => Ok((*i, table.physical[*i].ty.clone())),
        ScanColumn::Metadata(i) => Err(columns::unknown_key(table, &table.metadata[*i], &[])),
    });
    let output = output.collect::<Result<_>>()?;
    let mut progress = Progress::new(request, true);
    progress.add_split("rows".into(), 0);
    // `--bounded` has no end to stop at: what is generated has no latest offset.
    Ok(Box::new(Datagen { settings, output, progress, started: None, rng: SmallRng::from_os_rng() }))
}

struct Datagen {
    settings: Settings,
    /// Position in the table and type.
    output: Vec<(usize, SqlType)>,
    progress: Progress,
    /// The task's clock at the first poll, and how many rows there were then.
    started: Option<(Millis, u64)>,
    rng: SmallRng,
}

impl Datagen {
    fn generate(&mut self, from: u64, rows: usize, now: Millis) -> Result<()> {
        let mut records = self.progress.take_records();
        records.extend((1..=rows).map(|i| RecordEnd { split: 0, end: i as u32, next: (from + i as u64) as i64 }));
        let (fields, rng) = (&self.settings.fields, &mut self.rng);
        let columns = self.output.iter().map(|(field, ty)| {
            let values: Vec<_> = (from..from + rows as u64).map(|row| fields[*field].value(row, now, rng)).collect();
            from_datums(&values, ty)
        });
        let batch = Batch::new(columns.collect::<Result<_>>()?, rows);
        self.progress.give(batch, records, now)
    }
}

impl Source for Datagen {
    fn poll(&mut self, timeout: Duration, now: Millis) -> Result<SourceEvent> {
        if let Some(event) = self.progress.next_pending() {
            return Ok(event);
        }
        if let Some(event) = self.progress.tick(now) {
            return Ok(event);
        }
        let done = self.progress.position(0) as u64;
        let left = self.settings.rows.map_or(u64::MAX, |rows| rows.saturating_sub(done));
        if left == 0 {
            return Ok(SourceEvent::End);
        }
        let (start, before) = *self.started.get_or_insert((now, done));
        let rate = u128::from(self.settings.rows_per_second);
        // The first row is due at once.
        let due = u128::from(now.saturating_sub(start).max(0) as u64) * rate / 1000 + 1;
        let due = u64::try_from(due).unwrap_or(u64::MAX).saturating_sub(done - before.min(done));
        let rows = due.min(left).min(BATCH_ROWS as u64) as usize;
        if rows == 0 {
            let wait = Duration::from_millis((1000 / rate).clamp(1, 50) as u64);
            std::thread::sleep(timeout.min(wait));
            return Ok(SourceEvent::Pending);
        }
        self.generate(done, rows, now)?;
        Ok(self.progress.next_pending().unwrap_or(SourceEvent::Pending))
    }

    fn positions(&self) -> Vec<(String, String)> {
        self.progress.positions().map(|(name, position)| (name.to_owned(), position.to_string())).collect()
    }

    fn seek(&mut self, positions: &[(String, String)]) -> Result<()> {
        for (split, position) in positions {
            let position = position.parse().map_err(|_| Error::runtime(format!("'{position}' is no position in '{split}'")))?;
            self.progress.set_position(0, position);
        }
        Ok(())
    }

    fn splits(&self) -> Vec<SplitStatus> {
        self.progress.status(|_, _| None)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{Int32Type, Int64Type};
    use sluice_batch::Field;

    use super::*;
    use crate::test_util::{int, scan_all, string, table};

    fn all(source: &mut dyn Source, clock: i64) -> Batch {
        let mut batches = vec![];
        let mut now = 0;
        loop {
            now += clock;
            match source.poll(Duration::ZERO, now).unwrap() {
                SourceEvent::Rows(b) => batches.push(b),
                SourceEvent::End => return Batch::concat(&batches).unwrap(),
                _ => {}
            }
        }
    }

    #[test]
    fn sequences_are_bounded_and_go_on_after_seek() {
        let options = [("connector", "datagen"), ("fields.id.kind", "sequence"), ("fields.id.start", "5"), ("fields.id.end", "20")];
        let spec = table(&options, &[("id", TypeKind::BigInt.nullable()), ("s", string())]);
        assert!(info(&spec).unwrap().bounded);
        let mut source = open(&spec, &scan_all(&spec)).unwrap();
        let rows = all(source.as_mut(), 1000);
        assert_eq!(rows.column(0).as_primitive::<Int64Type>().values(), &(5..=20).collect::<Vec<_>>());
        assert_eq!(rows.column(1).as_string::<i32>().value(0).len(), 100);
        let mut source = open(&spec, &scan_all(&spec)).unwrap();
        source.seek(&[("rows".into(), "14".into())]).unwrap();
        assert_eq!(all(source.as_mut(), 1000).column(0).as_primitive::<Int64Type>().values(), &[19, 20]);
    }

    #[test]
    fn rate_follows_the_task_clock() {
        let options = [("connector", "datagen"), ("rows-per-second", "100")];
        let spec = table(&options, &[("a", int())]);
        let mut source = open(&spec, &scan_all(&spec)).unwrap();
        let mut rows = 0;
        for now in (0..=2000).step_by(50) {
            while let SourceEvent::Rows(b) = source.poll(Duration::ZERO, now).unwrap() {
                rows += b.rows();
            }
        }
        assert_eq!(rows, 201);
    }

    #[test]
    fn random_values_keep_to_their_rules() {
        let element = Box::new(int());
        let row = TypeKind::Row(vec![Field::new("x", int())]);
        let options = [
            ("connector", "datagen"),
            ("number-of-rows", "500"),
            ("fields.a.min", "1"),
            ("fields.a.max", "3"),
            ("fields.n.null-rate", "1"),
            ("fields.r.x.max", "0"),
            ("fields.l.length", "2"),
        ];
        let fields = [
            ("a", int()),
            ("n", int()),
            ("r", row.nullable()),
            ("l", TypeKind::Array(element).nullable()),
            ("c", TypeKind::Char(7).nullable()),
            ("t", TypeKind::TimestampLtz(3).nullable()),
            ("d", TypeKind::Decimal(5, 2).nullable()),
            ("m", TypeKind::Multiset(Box::new(int())).nullable()),
        ];
        let spec = table(&options, &fields);
        let rows = all(open(&spec, &scan_all(&spec)).unwrap().as_mut(), 1000);
        assert_eq!(rows.rows(), 500);
        let a = rows.column(0).as_primitive::<Int32Type>();
        assert!(a.values().iter().all(|v| (1..=3).contains(v)) && a.values().contains(&1) && a.values().contains(&3));
        assert_eq!(rows.column(1).null_count(), 500);
        let x = rows.column(2).as_struct().column(0).as_primitive::<Int32Type>();
        assert!(x.values().iter().all(|v| *v <= 0));
        assert_eq!(rows.column(3).as_list::<i32>().value_length(9), 2);
        assert_eq!(rows.column(4).as_string::<i32>().value(3).len(), 7);
    }

    #[test]
    fn wrong_rules_are_rejected() {
        for (key, value, expected) in [
            ("fields.a.min", "99999999999", "is no range"),
            ("fields.a.mni", "1", "has no option"),
            ("fields.a.kind", "sequential", "expected: random, sequence"),
            ("rows-per-second", "0", "above 0"),
        ] {
            let spec = table(&[("connector", "datagen"), (key, value)], &[("a", int())]);
            let error = info(&spec).unwrap_err();
            assert!(error.message().contains(expected), "{error}");
        }
    }
}
