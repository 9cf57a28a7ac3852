//! Payments and rules of the fraud detection demo (its `DemoTransactionsGenerator` and `RulesBootstrapper`).

use rand::Rng;
use rand::rngs::StdRng;
use sluice_batch::Millis;

use super::Generator;

/// Payers and beneficiaries.
const PEOPLE: i64 = 100_000;
/// Amounts, in cents: usual ones; one that a beneficiary's rule finds; one that a pair's rule finds.
const USUAL: std::ops::Range<i64> = 500..2000;
const TO_ONE: i64 = 1_000_000_000;
const BETWEEN_TWO: i64 = 2_000_000_000;

/// Payments of 5 to 20, and a very large one every 8 to 22 seconds.
#[derive(Default)]
pub struct Transactions {
    to_one: Millis,
    between_two: Millis,
}

impl Generator for Transactions {
    fn avro_schema(&self) -> Option<&'static str> {
        None
    }

    fn next(&mut self, random: &mut StdRng, now: Millis, out: &mut Vec<u8>) -> Option<String> {
        let mut cents = random.random_range(USUAL);
        if now > self.to_one {
            self.to_one = now + 8000 + random.random_range(0..5000);
            cents = TO_ONE + random.random_range(0..100_000_000);
        }
        if now > self.between_two {
            self.between_two = now + 12_000 + random.random_range(0..10_000);
            cents = BETWEEN_TWO + random.random_range(0..100_000_000);
        }
        let kind = if random.random() { "CRD" } else { "CSH" };
        let (payer, beneficiary) = (random.random_range(0..PEOPLE), random.random_range(0..PEOPLE));
        let text = format!(
            r#"{{"transactionId":{},"eventTime":{now},"payerId":{payer},"beneficiaryId":{beneficiary},"paymentAmount":{}.{:02},"paymentType":"{kind}"}}"#,
            random.random_range(0..i64::MAX),
            cents / 100,
            cents % 100
        );
        out.extend_from_slice(text.as_bytes());
        None
    }
}

/// The demo's four rules; then, once a minute, a rule on trial, one that is wrong, and commands.
#[derive(Default)]
pub struct Rules {
    given: usize,
}

const FIRST: [&str; 4] = [
    r#"{"ruleId":1,"ruleState":"ACTIVE","groupingKeyNames":["payerId","beneficiaryId"],"aggregateFieldName":"paymentAmount","aggregatorFunctionType":"SUM","limitOperatorType":"GREATER","limit":20000000,"windowMinutes":43200}"#,
    r#"{"ruleId":2,"ruleState":"PAUSE","groupingKeyNames":["paymentType"],"aggregateFieldName":"COUNT_FLINK","aggregatorFunctionType":"SUM","limitOperatorType":"LESS","limit":300,"windowMinutes":1440}"#,
    r#"{"ruleId":3,"ruleState":"ACTIVE","groupingKeyNames":["beneficiaryId"],"aggregateFieldName":"paymentAmount","aggregatorFunctionType":"SUM","limitOperatorType":"GREATER_EQUAL","limit":10000000,"windowMinutes":1440}"#,
    r#"{"ruleId":4,"ruleState":"ACTIVE","groupingKeyNames":["paymentType"],"aggregateFieldName":"COUNT_WITH_RESET_FLINK","aggregatorFunctionType":"SUM","limitOperatorType":"GREATER_EQUAL","limit":100,"windowMinutes":1440}"#,
];

/// At these seconds of each minute.
const LATER: [(usize, &str); 4] = [
    (
        5,
        r#"{"ruleId":5,"ruleState":"DRY_RUN","groupingKeyNames":["beneficiaryId"],"aggregateFieldName":"paymentAmount","aggregatorFunctionType":"MAX","limitOperatorType":"GREATER","limit":5000000,"windowMinutes":60}"#,
    ),
    (
        10,
        r#"{"ruleId":6,"ruleState":"ACTIVE","groupingKeyNames":["payer"],"aggregateFieldName":"paymentAmount","aggregatorFunctionType":"SUM","limitOperatorType":"GREATER","limit":1,"windowMinutes":60}"#,
    ),
    (15, r#"{"ruleState":"CONTROL","controlType":"EXPORT_RULES_CURRENT"}"#),
    (50, r#"{"ruleId":5,"ruleState":"DELETE"}"#),
];

impl Generator for Rules {
    fn avro_schema(&self) -> Option<&'static str> {
        None
    }

    /// Nothing in most seconds.
    fn next(&mut self, _random: &mut StdRng, _now: Millis, out: &mut Vec<u8>) -> Option<String> {
        let second = self.given;
        self.given += 1;
        let later = || LATER.iter().find(|(at, _)| *at == (second - FIRST.len()) % 60).map(|(_, text)| *text);
        if let Some(text) = FIRST.get(second).copied().or_else(later) {
            out.extend_from_slice(text.as_bytes());
        }
        None
    }
}
