//! Rules that come at run time and are evaluated over windows of events: `EVALUATE_RULES`, `REJECTED_RULES`, `CURRENT_RULES`.
//!
//! Three operators, after Flink's fraud detection demo (`DynamicKeyFunction`, `DynamicAlertFunction`):
//! [`catalog::RuleCatalog`] runs in one task. It checks what comes from the control topic, keeps the rules, and numbers their changes.
//! [`router::RuleRouter`] gets the changes in every task, and gives each event once for each distinct set of grouping keys.
//! [`evaluation::RuleEvaluation`] gets the events of a key in one task, keeps what the widest window needs, and gives alerts.
//! Changes go through the router to the evaluation, on the same way as the events, so an event never comes before the rule that
//! routed it there.

pub mod catalog;
mod change;
mod compiled;
mod decimal;
pub mod evaluation;
mod history;
mod keys;
pub mod router;
mod rule;
mod store;
#[cfg(test)]
mod tests;

pub use rule::{FIELDS, KEYS_FIELD};
