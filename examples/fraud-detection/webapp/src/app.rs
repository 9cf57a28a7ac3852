//! What the application knows: rules, and how payments are made. The rules' truth is with the job: what it exports is taken over.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
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
    pub running: AtomicBool,
    pub rate: AtomicU32,
    pages: broadcast::Sender<String>,
}

impl App {
    pub fn new(sender: Sender) -> Self {
        let pages = broadcast::Sender::new(BACKLOG);
        Self { sender, rules: Mutex::default(), running: AtomicBool::new(false), rate: AtomicU32::new(10), pages }
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
            let id = rules.last_key_value().map_or(1, |(id, _)| id + 1);
            rule.insert("ruleId".to_owned(), id.into());
            let rule = Value::Object(rule);
            rules.insert(id, rule.clone());
            rule
        };
        self.send(RULES, &rule.to_string())?;
        self.changed();
        Ok(rule)
    }

    /// Sends a rule in another state; `false`: there is none with this id.
    pub fn set_state(&self, id: i64, state: &str) -> Result<bool> {
        let text = {
            let mut rules = self.rules();
            let Some(rule) = rules.get_mut(&id) else { return Ok(false) };
            rule["ruleState"] = state.into();
            rule.to_string()
        };
        self.send(RULES, &text)?;
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
