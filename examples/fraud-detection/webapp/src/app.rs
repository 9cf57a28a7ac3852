//! What the application knows: rules, and how payments are made. The rules' truth is with the job: what it exports is taken over.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value, json};
use tokio::sync::broadcast;

use crate::Result;
use crate::kafka::{RULES, Sender};

/// Messages that a slow page may lag behind.
const BACKLOG: usize = 1024;
/// Payments a second.
pub const MOST: u32 = 1000;

pub struct App {
    sender: Sender,
    /// By id.
    rules: Mutex<BTreeMap<i64, Value>>,
    /// The greatest id of all that were ever known: a rule that is not known here just now keeps its id.
    last: AtomicI64,
    pub running: AtomicBool,
    pub rate: AtomicU32,
    pages: broadcast::Sender<String>,
}

impl App {
    pub fn new(sender: Sender) -> Self {
        let pages = broadcast::Sender::new(BACKLOG);
        Self { sender, rules: Mutex::default(), last: AtomicI64::new(0), running: AtomicBool::new(false), rate: AtomicU32::new(10), pages }
    }

    /// Nothing panics between two changes of the rules.
    fn rules(&self) -> MutexGuard<'_, BTreeMap<i64, Value>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is told to all pages from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<String> {
        self.pages.subscribe()
    }

    /// Tells all pages; without one it is for nobody.
    pub fn tell(&self, message: String) {
        drop(self.pages.send(message));
    }

    pub fn send(&self, topic: &str, value: &str) -> Result<()> {
        self.sender.send(topic, value)
    }

    /// The rules and the generator's state, as a page shows them.
    pub fn state(&self) -> String {
        let rules: Vec<Value> = self.rules().values().cloned().collect();
        json!({"type": "state", "running": self.running.load(Relaxed), "rate": self.rate.load(Relaxed), "rules": rules}).to_string()
    }

    fn changed(&self) {
        self.tell(self.state());
    }

    pub fn generate(&self, running: Option<bool>, rate: Option<u32>) {
        if let Some(running) = running {
            self.running.store(running, Relaxed);
        }
        if let Some(rate) = rate {
            self.rate.store(rate.clamp(1, MOST), Relaxed);
        }
        self.changed();
    }

    /// Sends a new rule with the next free id.
    pub fn create(&self, mut rule: Map<String, Value>) -> Result<Value> {
        let rule = {
            let mut rules = self.rules();
            let id = self.last.fetch_add(1, Relaxed) + 1;
            rule.insert("ruleId".to_owned(), id.into());
            let rule = Value::Object(rule);
            rules.insert(id, rule.clone());
            rule
        };
        self.send(RULES, &rule.to_string())?;
        self.changed();
        Ok(rule)
    }

    /// Sends a rule's other state, and nothing else: the rest is as the job has it, with all digits of its limit. `false`: there is none with
    /// this id.
    pub fn set_state(&self, id: i64, state: &str) -> Result<bool> {
        match self.rules().get_mut(&id) {
            Some(rule) => rule["ruleState"] = state.into(),
            None => return Ok(false),
        }
        self.send(RULES, &json!({"ruleId": id, "ruleState": state}).to_string())?;
        self.changed();
        Ok(true)
    }

    pub fn delete(&self, id: i64) -> Result<()> {
        self.rules().remove(&id);
        self.send(RULES, &json!({"ruleId": id, "ruleState": "DELETE"}).to_string())?;
        self.changed();
        Ok(())
    }

    pub fn control(&self, command: &str) -> Result<()> {
        match command {
            "DELETE_RULES_ALL" => self.rules().clear(),
            // What the job has is what there is.
            "EXPORT_RULES_CURRENT" => self.rules().clear(),
            _ => {}
        }
        self.send(RULES, &json!({"ruleState": "CONTROL", "controlType": command}).to_string())?;
        self.changed();
        Ok(())
    }

    /// The job has this rule.
    pub fn exported(&self, rule: Value) {
        if let Some(id) = rule["ruleId"].as_i64() {
            self.last.fetch_max(id, Relaxed);
            self.rules().insert(id, rule);
            self.changed();
        }
    }

    /// The job has not taken this rule.
    pub fn rejected(&self, record: &Value) {
        if let Some(id) = record["ruleId"].as_i64() {
            self.rules().remove(&id);
        }
        self.tell(json!({"type": "rejected", "ruleId": record["ruleId"], "reason": record["reason"]}).to_string());
        self.changed();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_id_is_given_once() {
        let app = App::new(Sender::new("127.0.0.1:1").unwrap());
        let create = || app.create(Map::new()).unwrap()["ruleId"].as_i64().unwrap();
        assert_eq!((create(), create()), (1, 2));
        // The job has them still, and has not yet answered.
        app.control("EXPORT_RULES_CURRENT").unwrap();
        assert_eq!(create(), 3);
        app.exported(json!({"ruleId": 7, "ruleState": "ACTIVE"}));
        app.delete(7).unwrap();
        assert_eq!(create(), 8);
        assert!(!app.set_state(7, "PAUSE").unwrap() && app.set_state(8, "PAUSE").unwrap());
    }
}
