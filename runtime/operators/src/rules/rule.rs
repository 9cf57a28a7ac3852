//! A rule as the demo's JSON has it, read from JSON text or from columns, and checked against the data table.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sluice_batch::{Field, Millis, TypeKind};

use super::decimal::{DIGITS, Decimal};

/// The fields that are one value; `groupingKeyNames` is a list.
pub const FIELDS: [&str; 8] =
    ["ruleId", "ruleState", "aggregateFieldName", "aggregatorFunctionType", "limitOperatorType", "limit", "windowMinutes", "controlType"];
pub const KEYS_FIELD: &str = "groupingKeyNames";

/// Counts events instead of aggregating a column.
const COUNT: &str = "COUNT_FLINK";
/// The same, from zero after each alert.
const COUNT_WITH_RESET: &str = "COUNT_WITH_RESET_FLINK";

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal $(| $other:literal)*),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name { $(#[serde(rename = $text)] $variant),+ }

        impl $name {
            const WORDS: &'static [&'static str] = &[$($text),+];

            fn parse(text: &str) -> Option<Self> {
                match text.trim().to_ascii_uppercase().replace('-', "_").as_str() {
                    $($text $(| $other)* => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

words! {
    /// What a rule does, or that the message is a command.
    RuleState { Active = "ACTIVE", Pause = "PAUSE", DryRun = "DRY_RUN", Delete = "DELETE", Control = "CONTROL" }
}
words! { Function { Sum = "SUM", Avg = "AVG", Min = "MIN", Max = "MAX" } }
words! {
    LimitOperator {
        Equal = "EQUAL" | "=", NotEqual = "NOT_EQUAL" | "!=", GreaterEqual = "GREATER_EQUAL" | ">=",
        LessEqual = "LESS_EQUAL" | "<=", Greater = "GREATER" | ">", Less = "LESS" | "<",
    }
}
words! {
    ControlType {
        ClearStateAll = "CLEAR_STATE_ALL", ClearStateAllStop = "CLEAR_STATE_ALL_STOP",
        DeleteRulesAll = "DELETE_RULES_ALL", ExportRulesCurrent = "EXPORT_RULES_CURRENT",
    }
}

/// What a rule aggregates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregated {
    /// `COUNT_FLINK`
    Events,
    /// `COUNT_WITH_RESET_FLINK`
    EventsSinceAlert,
    /// A column of the data table.
    Column(usize),
}

/// A rule that is known. Its serialized form is the JSON of the seed, in the seed's order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    pub rule_id: i32,
    pub rule_state: RuleState,
    pub grouping_key_names: Vec<String>,
    pub aggregate_field_name: String,
    pub aggregator_function_type: Function,
    pub limit_operator_type: LimitOperator,
    pub limit: Decimal,
    pub window_minutes: i32,
}

/// A message of the control topic, not looked at yet: all values as text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fields {
    /// In the order of [`FIELDS`].
    pub values: [Option<String>; FIELDS.len()],
    pub keys: Option<Vec<String>>,
}

impl Fields {
    /// Reads the demo's JSON; numbers may be strings (as the demo's web application writes them), other members are left alone.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let raw: std::collections::BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(text).map_err(|e| format!("not a JSON object: {e}"))?;
        let mut fields = Self::default();
        for (name, place) in FIELDS.iter().zip(&mut fields.values) {
            if let Some(value) = raw.get(*name) {
                *place = scalar(name, value.get())?;
            }
        }
        if let Some(keys) = raw.get(KEYS_FIELD) {
            let list: Option<Vec<String>> =
                serde_json::from_str(keys.get()).map_err(|_| format!("{KEYS_FIELD} must be a list of strings, but is {}", keys.get()))?;
            fields.keys = list;
        }
        Ok(fields)
    }

    fn value(&self, field: &str) -> Option<&str> {
        let at = FIELDS.iter().position(|f| *f == field)?;
        self.values[at].as_deref()
    }

    fn required(&self, field: &str) -> Result<&str, String> {
        self.value(field).ok_or_else(|| format!("{field} is missing"))
    }

    pub fn rule_id(&self) -> Result<i32, String> {
        let text = self.required("ruleId")?;
        text.trim().parse().map_err(|_| format!("ruleId must be an integer, but is {text}"))
    }

    pub fn state(&self) -> Result<RuleState, String> {
        let text = self.required("ruleState")?;
        RuleState::parse(text).ok_or_else(|| one_of("ruleState", text, RuleState::WORDS))
    }

    pub fn control(&self) -> Result<ControlType, String> {
        let text = self.required("controlType")?;
        ControlType::parse(text).ok_or_else(|| one_of("controlType", text, ControlType::WORDS))
    }

    /// Whether there is nothing but an id and a state: the rule stays as it is otherwise. Its list may be empty, where the format knows no NULL.
    pub fn is_state_only(&self) -> bool {
        self.keys.as_ref().is_none_or(Vec::is_empty) && FIELDS[2..].iter().all(|f| self.value(f).is_none())
    }

    /// The rule, if it can be evaluated over a table of these columns.
    pub fn rule(&self, data: &[Field]) -> Result<Rule, String> {
        let rule = Rule {
            rule_id: self.rule_id()?,
            rule_state: self.state()?,
            grouping_key_names: self.keys.clone().ok_or_else(|| format!("{KEYS_FIELD} is missing"))?,
            aggregate_field_name: self.required("aggregateFieldName")?.to_owned(),
            aggregator_function_type: {
                let text = self.required("aggregatorFunctionType")?;
                Function::parse(text).ok_or_else(|| one_of("aggregatorFunctionType", text, Function::WORDS))?
            },
            limit_operator_type: {
                let text = self.required("limitOperatorType")?;
                LimitOperator::parse(text).ok_or_else(|| one_of("limitOperatorType", text, LimitOperator::WORDS))?
            },
            limit: {
                let text = self.required("limit")?;
                Decimal::parse(text).ok_or_else(|| format!("limit must be a number of at most {DIGITS} digits, but is {text}"))?
            },
            window_minutes: {
                let text = self.required("windowMinutes")?;
                let minutes = text.trim().parse().ok().filter(|m: &i32| *m > 0);
                minutes.ok_or_else(|| format!("windowMinutes must be a positive integer, but is {text}"))?
            },
        };
        rule.check(data)?;
        Ok(rule)
    }

    /// The message as the demo's JSON, for those that came as columns.
    pub fn to_json(&self) -> String {
        let mut out = serde_json::Map::new();
        for (at, name) in FIELDS.iter().enumerate() {
            if let Some(value) = &self.values[at] {
                let number = matches!(*name, "ruleId" | "windowMinutes").then(|| value.parse::<i64>().ok()).flatten();
                out.insert((*name).to_owned(), number.map_or_else(|| value.clone().into(), Into::into));
            }
            if at == 1
                && let Some(keys) = &self.keys
            {
                out.insert(KEYS_FIELD.to_owned(), keys.clone().into());
            }
        }
        serde_json::Value::Object(out).to_string()
    }
}

/// A JSON value as text; NULL is none.
fn scalar(name: &str, json: &str) -> Result<Option<String>, String> {
    match json.as_bytes().first() {
        _ if json == "null" => Ok(None),
        Some(b'"') => serde_json::from_str(json).map(Some).map_err(|e| format!("{name}: {e}")),
        Some(b'{' | b'[') => Err(format!("{name} must be one value, but is {json}")),
        _ => Ok(Some(json.to_owned())),
    }
}

fn one_of(field: &str, text: &str, words: &[&str]) -> String {
    format!("{field} must be one of {}, but is {text}", words.join(", "))
}

fn missing_column(what: &str, name: &str, data: &[Field]) -> String {
    let names: Vec<&str> = data.iter().map(|f| f.name.as_str()).collect();
    format!("{what} {name} is not a column of the data table, which has {}", names.join(", "))
}

impl Rule {
    /// Whether the rule can be evaluated over a table of these columns.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn check(&self, data: &[Field]) -> Result<(), String> {
        for name in &self.grouping_key_names {
            let field = data.iter().find(|f| f.name == *name).ok_or_else(|| missing_column("the grouping key", name, data))?;
            if !is_groupable(&field.ty.kind) {
                return Err(format!("the grouping key {name} is of type {}, which no rule can group by", field.ty.kind));
            }
        }
        let Aggregated::Column(column) = self.aggregated(data)? else { return Ok(()) };
        let scale = scale_of(&data[column].ty.kind).ok_or_else(|| {
            let ty = &data[column].ty.kind;
            let hint = if ty.is_approximate_numeric() { ": cast it to DECIMAL in a view, so that sums are exact" } else { "" };
            format!("aggregateFieldName {} is of type {ty}, and must be an integer or DECIMAL column{hint}", self.aggregate_field_name)
        })?;
        let digits = self.limit.unscaled.unsigned_abs().checked_ilog10().map_or(0, |d| d + 1);
        match digits + u32::from(scale.saturating_sub(self.limit.scale)) > u32::from(DIGITS) {
            true => Err(format!("limit {} has too many digits to be compared with {}", self.limit, data[column].ty.kind)),
            false => Ok(()),
        }
    }

    /// # Errors
    /// If the data table has no such column.
    pub fn aggregated(&self, data: &[Field]) -> Result<Aggregated, String> {
        let name = self.aggregate_field_name.as_str();
        match name {
            COUNT => Ok(Aggregated::Events),
            COUNT_WITH_RESET => Ok(Aggregated::EventsSinceAlert),
            _ => match data.iter().position(|f| f.name == name) {
                Some(column) => Ok(Aggregated::Column(column)),
                None => Err(missing_column("aggregateFieldName", name, data)),
            },
        }
    }

    pub fn window(&self) -> Millis {
        Millis::from(self.window_minutes) * 60_000
    }

    /// The JSON of the seed.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The scale of a type that rules aggregate.
pub fn scale_of(kind: &TypeKind) -> Option<u8> {
    match kind {
        TypeKind::Decimal(_, scale) => Some(*scale),
        kind if kind.is_integer() => Some(0),
        _ => None,
    }
}

/// Types whose values have one text each.
fn is_groupable(kind: &TypeKind) -> bool {
    !matches!(kind, TypeKind::Array(_) | TypeKind::Map(..) | TypeKind::Multiset(_) | TypeKind::Row(_) | TypeKind::Variant | TypeKind::Null)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SEED: &str = r#"{
 "ruleId": 1,
 "ruleState": "ACTIVE",
 "groupingKeyNames": ["payerId", "beneficiaryId"],
 "aggregateFieldName": "paymentAmount",
 "aggregatorFunctionType": "SUM",
 "limitOperatorType": "GREATER",
 "limit": 1000000,
 "windowMinutes": 10080
}"#;

    fn data() -> Vec<Field> {
        vec![
            Field::new("payerId", TypeKind::BigInt.nullable()),
            Field::new("beneficiaryId", TypeKind::BigInt.nullable()),
            Field::new("paymentAmount", TypeKind::Decimal(20, 2).nullable()),
            Field::new("rate", TypeKind::Double.nullable()),
            Field::new("tags", TypeKind::Array(Box::new(TypeKind::STRING.nullable())).nullable()),
        ]
    }

    #[test]
    fn the_seeds_rule() {
        let rule = Fields::from_json(SEED).unwrap().rule(&data()).unwrap();
        assert_eq!(rule.window(), 7 * 24 * 3_600_000);
        assert_eq!(rule.aggregated(&data()), Ok(Aggregated::Column(2)));
        let compact: String = SEED.chars().filter(|c| !c.is_whitespace()).collect();
        assert_eq!(rule.to_json(), compact);
        assert_eq!(serde_json::from_str::<Rule>(&compact).unwrap(), rule);
    }

    #[test]
    fn numbers_may_be_strings_and_others_are_left_alone() {
        let text = r#"{"ruleId":"3","aggregateFieldName":"paymentAmount","aggregatorFunctionType":"SUM","groupingKeyNames":["beneficiaryId"],
            "limit":"10000000.123456789012345678","limitOperatorType":"GREATER_EQUAL","ruleState":"ACTIVE","windowMinutes":"1440",
            "unique":[],"controlType":null}"#;
        let rule = Fields::from_json(text).unwrap().rule(&data()).unwrap();
        assert_eq!(rule.limit.to_string(), "10000000.123456789012345678");
        assert_eq!((rule.rule_id, rule.window_minutes), (3, 1440));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let change = |from: &str, to: &str| {
            assert!(SEED.contains(from));
            Fields::from_json(&SEED.replace(from, to)).and_then(|f| f.rule(&data())).unwrap_err()
        };
        for (from, to, part) in [
            ("\"limit\": 1000000", "\"limit\": \"much\"", "limit must be a number"),
            ("\"limit\": 1000000,", "", "limit is missing"),
            ("1000000", "99999999999999999999999999999999999999", "too many digits"),
            ("SUM", "MEDIAN", "must be one of SUM, AVG, MIN, MAX, but is MEDIAN"),
            ("GREATER", "ABOVE", "must be one of EQUAL"),
            ("ACTIVE", "ON", "ruleState must be one of ACTIVE, PAUSE, DRY_RUN, DELETE, CONTROL"),
            ("10080", "0", "windowMinutes must be a positive integer"),
            ("10080", "1.5", "windowMinutes must be a positive integer"),
            ("\"payerId\"", "\"payeeId\"", "the grouping key payeeId is not a column"),
            ("\"payerId\"", "\"tags\"", "no rule can group by"),
            ("\"payerId\"", "7", "groupingKeyNames must be a list of strings"),
            ("paymentAmount", "amount", "aggregateFieldName amount is not a column"),
            ("paymentAmount", "rate", "cast it to DECIMAL"),
            ("\"ruleId\": 1", "\"ruleId\": \"x\"", "ruleId must be an integer"),
            ("\"ruleId\": 1", "\"ruleId\": [1]", "ruleId must be one value"),
            ("{", "[", "not a JSON object"),
        ] {
            let error = change(from, to);
            assert!(error.contains(part), "{from} -> {to}: {error}");
        }
    }

    #[test]
    fn words_in_other_spellings() {
        assert_eq!(RuleState::parse("dry-run"), Some(RuleState::DryRun));
        assert_eq!(RuleState::parse(" active "), Some(RuleState::Active));
        assert_eq!(LimitOperator::parse(">="), Some(LimitOperator::GreaterEqual));
        assert_eq!(LimitOperator::parse("=>"), None);
    }

    #[test]
    fn columns_become_the_same_json() {
        let fields = Fields::from_json(SEED).unwrap();
        assert_eq!(Fields::from_json(&fields.to_json()).unwrap(), fields);
    }
}
