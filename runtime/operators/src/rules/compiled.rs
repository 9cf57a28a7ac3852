//! Rules made ready to be evaluated: by set of grouping keys, with columns by position and limits in the scale of what they are
//! compared with.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::datatypes::i256;
use sluice_batch::{Field, Millis};

use super::change::RuleSet;
use super::decimal::{DIGITS, pow10};
use super::history::{Total, Want};
use super::rule::{Aggregated, Function, LimitOperator, Rule, RuleState, scale_of};

/// Values of one kind that are kept for each key of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Position in [`Channels`].
    pub id: u32,
    /// The column whose values they are; nothing: events are counted.
    pub column: Option<usize>,
}

/// Names of channels, as the state has them. Ids are given out once.
#[derive(Default)]
pub struct Channels {
    names: Vec<String>,
    ids: HashMap<String, u32>,
}

const EVENTS: &str = "COUNT";
const COLUMN: &str = "VALUES ";

impl Channels {
    pub fn id(&mut self, name: &str) -> u32 {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = self.names.len() as u32;
        self.names.push(name.to_owned());
        self.ids.insert(name.to_owned(), id);
        id
    }

    pub fn name(&self, id: u32) -> &str {
        &self.names[id as usize]
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    pub fn counts(&self, id: u32) -> bool {
        !self.name(id).starts_with(COLUMN)
    }
}

/// Rules with the same grouping keys.
pub struct Set {
    /// Sorted.
    pub names: Vec<String>,
    pub channels: Vec<Channel>,
    pub rules: Vec<Compiled>,
    /// The longest window of a rule.
    pub widest: Millis,
}

/// A rule of a set.
pub struct Compiled {
    pub rule: Arc<Rule>,
    /// Its JSON.
    pub text: Arc<str>,
    /// Key columns in the rule's order.
    pub columns: Vec<usize>,
    /// Position in the set's channels.
    pub channel: usize,
    pub want: Want,
    /// Values are counted anew after an alert.
    pub resets: bool,
    pub window: Millis,
    /// Whether it gives alerts: it may be paused.
    pub is_live: bool,
    pub dry_run: bool,
    /// `value * factor ? limit`
    factor: i256,
    limit: i256,
    /// The factor that brings a value to the scale of the output.
    to_output: i256,
}

/// The sets of those rules that can be evaluated over a table of these columns, by their sorted names.
pub fn sets(rules: &RuleSet, data: &[Field], output_scale: u8, channels: &mut Channels) -> BTreeMap<Vec<String>, Set> {
    let mut sets: BTreeMap<Vec<String>, Set> = BTreeMap::new();
    for rule in rules.rules.values() {
        // The table's columns may have changed since the rule was accepted; the catalog says so.
        let Some((names, columns)) = rule.check(data).ok().and_then(|()| key_columns(rule, data)) else { continue };
        let set = sets.entry(names).or_insert_with_key(|names| Set { names: names.clone(), channels: vec![], rules: vec![], widest: 0 });
        set.widest = set.widest.max(rule.window());
        if let Some(compiled) = compile(rule, data, output_scale, columns, set, channels) {
            set.rules.push(compiled);
        }
    }
    sets
}

fn position(data: &[Field], name: &str) -> Option<usize> {
    data.iter().position(|f| f.name == name)
}

/// The sorted names of a rule's set, and the key columns in the rule's order.
pub fn key_columns(rule: &Rule, data: &[Field]) -> Option<(Vec<String>, Vec<usize>)> {
    let mut names = rule.grouping_key_names.clone();
    let columns = names.iter().map(|n| position(data, n)).collect::<Option<Vec<_>>>()?;
    names.sort();
    names.dedup();
    Some((names, columns))
}

fn compile(rule: &Rule, data: &[Field], output_scale: u8, columns: Vec<usize>, set: &mut Set, channels: &mut Channels) -> Option<Compiled> {
    let aggregated = rule.aggregated(data).ok()?;
    let (name, column, scale) = match aggregated {
        Aggregated::Events => (EVENTS.to_owned(), None, 0),
        Aggregated::EventsSinceAlert => (format!("{EVENTS} SINCE ALERT OF {}", rule.rule_id), None, 0),
        Aggregated::Column(c) => (format!("{COLUMN}{}", data[c].name), Some(c), scale_of(&data[c].ty.kind)?),
    };
    let channel = Channel { id: channels.id(&name), column };
    let at = match set.channels.iter().position(|c| c.id == channel.id) {
        Some(at) => at,
        None => {
            set.channels.push(channel);
            set.channels.len() - 1
        }
    };
    let common = scale.max(rule.limit.scale);
    let power = |exponent: u8| i256::from_i128(pow10(exponent));
    Some(Compiled {
        text: rule.to_json().into(),
        columns,
        channel: at,
        want: match rule.aggregator_function_type {
            Function::Sum | Function::Avg => Want::Sum,
            Function::Min => Want::Min,
            Function::Max => Want::Max,
        },
        resets: aggregated == Aggregated::EventsSinceAlert,
        window: rule.window(),
        is_live: matches!(rule.rule_state, RuleState::Active | RuleState::DryRun),
        dry_run: rule.rule_state == RuleState::DryRun,
        factor: power(common - scale),
        limit: i256::from_i128(rule.limit.unscaled).wrapping_mul(power(common - rule.limit.scale)),
        to_output: power(output_scale.saturating_sub(scale)),
        rule: Arc::new(rule.clone()),
    })
}

impl Compiled {
    /// The aggregate if it breaks the limit: unscaled, in the scale of the output; `Some(None)` if it has more than 38 digits there.
    ///
    /// Comparisons are exact: an average is not divided for them.
    pub fn violation(&self, total: &Total) -> Option<Option<i128>> {
        if total.count == 0 {
            return None;
        }
        let one = i256::from_i128(1);
        let count = i256::from_i128(total.count.into());
        let (value, divisor) = match self.rule.aggregator_function_type {
            Function::Sum => (total.sum, one),
            Function::Avg => (total.sum, count),
            Function::Min => (i256::from_i128(total.min), one),
            Function::Max => (i256::from_i128(total.max), one),
        };
        let order = compare(value, self.factor, self.limit, divisor);
        let violated = match self.rule.limit_operator_type {
            LimitOperator::Equal => order.is_eq(),
            LimitOperator::NotEqual => order.is_ne(),
            LimitOperator::Greater => order.is_gt(),
            LimitOperator::GreaterEqual => order.is_ge(),
            LimitOperator::Less => order.is_lt(),
            LimitOperator::LessEqual => order.is_le(),
        };
        violated.then(|| value.checked_mul(self.to_output).and_then(|v| divide(v, divisor)))
    }
}

/// Compares `value * factor` with `limit * divisor`. 256 bits hold both for less than 10^18 values of 38 digits; beyond, their
/// magnitudes decide.
fn compare(value: i256, factor: i256, limit: i256, divisor: i256) -> Ordering {
    match (value.checked_mul(factor), limit.checked_mul(divisor)) {
        (Some(left), Some(right)) => left.cmp(&right),
        (left, right) => {
            let size = |exact: Option<i256>, a: i256, b: i256| exact.map_or_else(|| to_f64(a) * to_f64(b), to_f64);
            size(left, value, factor).total_cmp(&size(right, limit, divisor))
        }
    }
}

fn to_f64(value: i256) -> f64 {
    let (low, high) = value.to_parts();
    high as f64 * 2f64.powi(128) + low as f64
}

/// Rounds half away from zero (`RoundingMode.HALF_UP`), as DECIMAL averages do. `None`: more than 38 digits.
fn divide(value: i256, divisor: i256) -> Option<i128> {
    let (quotient, rest) = (value.checked_div(divisor)?, value.checked_rem(divisor)?);
    let twice = rest.wrapping_add(rest).wrapping_abs();
    let away = if twice >= divisor { i256::from_i128(if value < i256::ZERO { -1 } else { 1 }) } else { i256::ZERO };
    quotient.wrapping_add(away).to_i128().filter(|v| v.unsigned_abs() < pow10(DIGITS).unsigned_abs())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use sluice_batch::TypeKind;

    use super::super::change::Change;
    use super::super::rule::Fields;
    use super::*;

    fn compiled(function: &str, operator: &str, limit: &str) -> Compiled {
        let data = [Field::new("k", TypeKind::Int.nullable()), Field::new("v", TypeKind::Decimal(10, 2).nullable())];
        let json = format!(
            r#"{{"ruleId":1,"ruleState":"ACTIVE","groupingKeyNames":["k"],"aggregateFieldName":"v","aggregatorFunctionType":"{function}",
                "limitOperatorType":"{operator}","limit":{limit},"windowMinutes":1}}"#
        );
        let mut rules = RuleSet::default();
        let put = Some(Fields::from_json(&json).unwrap().rule(&data).unwrap());
        rules.apply(&Change { version: 1, put, ..Change::default() });
        let mut sets = sets(&rules, &data, 6, &mut Channels::default());
        sets.get_mut(&vec!["k".to_owned()]).unwrap().rules.pop().unwrap()
    }

    fn total(values: &[i128]) -> Total {
        let mut history = super::super::history::History::new(false);
        values.iter().for_each(|v| history.insert(0, *v));
        history.total(0, 0, Want::Sum)
    }

    #[test]
    fn limits_are_exact() {
        for (function, operator, limit, values, want) in [
            ("SUM", "GREATER", "10.00", &[500, 500][..], None),
            ("SUM", "GREATER_EQUAL", "10", &[500, 500], Some(Some(10_000_000))),
            ("SUM", "GREATER", "9.9999999", &[500, 500], Some(Some(10_000_000))),
            ("SUM", "EQUAL", "10.000", &[500, 500], Some(Some(10_000_000))),
            ("SUM", "NOT_EQUAL", "10", &[500, 500], None),
            ("SUM", "LESS", "0", &[-1], Some(Some(-10_000))),
            // 10.00 / 3 is neither 3.333333 nor 3.33.
            ("AVG", "GREATER", "3.333333", &[500, 300, 200], Some(Some(3_333_333))),
            ("AVG", "EQUAL", "3.333333", &[500, 300, 200], None),
            ("AVG", "LESS_EQUAL", "6.6666666666", &[1000, 1000, 0], None),
            ("AVG", "GREATER", "6.6666666666", &[1000, 1000, 0], Some(Some(6_666_667))),
            ("AVG", "LESS", "0", &[-1000, -1000, 0], Some(Some(-6_666_667))),
            ("MIN", "LESS", "2", &[500, 199], Some(Some(1_990_000))),
            ("MAX", "GREATER", "5", &[500, 199], None),
            ("SUM", "GREATER", "1", &[i128::MAX / 2, i128::MAX / 2, i128::MAX / 2], Some(None)),
        ] {
            assert_eq!(compiled(function, operator, limit).violation(&total(values)), want, "{function} {operator} {limit} {values:?}");
        }
        assert_eq!(compiled("SUM", "LESS", "5").violation(&Total::NONE), None);
    }

    #[test]
    fn values_beyond_256_bits_are_compared_by_size() {
        let big = i256::MAX;
        assert_eq!(compare(big, i256::from_i128(10), big, i256::from_i128(3)), Ordering::Greater);
        assert_eq!(compare(i256::MIN, i256::from_i128(10), big, i256::from_i128(3)), Ordering::Less);
    }
}
