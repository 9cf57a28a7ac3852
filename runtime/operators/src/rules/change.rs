//! Changes of the rules on their way from the catalog to every task, and the rules as a task knows them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::datatypes::DataType;
use serde::{Deserialize, Serialize};
use sluice_batch::{Error, Result};

use super::rule::Rule;
use crate::rows::RowCodec;
use crate::state::SnapshotReader;

/// One change; its JSON is what travels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Changes of one catalog are numbered from 1: a task that hears of one from several others applies it once.
    pub version: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub put: Option<Rule>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete: Option<i32>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub delete_all: bool,
    /// What was seen is forgotten; the rules stay.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clear: bool,
}

impl Change {
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|e| Error::runtime(format!("internal: a change of a rule: {e}")))
    }

    pub fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|e| Error::runtime(format!("internal: a change of a rule: {e}")))
    }
}

/// The rules that are known, by id.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RuleSet {
    /// The last change.
    pub version: i64,
    #[serde(with = "list")]
    pub rules: BTreeMap<i32, Rule>,
}

impl RuleSet {
    /// `false`: the change has been here before.
    pub fn apply(&mut self, change: &Change) -> bool {
        if change.version <= self.version {
            return false;
        }
        self.version = change.version;
        if change.delete_all {
            self.rules.clear();
        }
        if let Some(id) = change.delete {
            self.rules.remove(&id);
        }
        if let Some(rule) = &change.put {
            self.rules.insert(rule.rule_id, rule.clone());
        }
        true
    }

    /// All rules as one row of state: a table "rules" whose row has no key, since every task has the same.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let text = serde_json::to_string(self).map_err(|e| Error::runtime(format!("internal: rules: {e}")))?;
        encode_text(&text)
    }

    /// What [`RuleSet::encode`] wrote into the table "rules".
    pub fn restore(input: &SnapshotReader<'_>) -> Result<Self> {
        let Some((_, value)) = input.rows("rules").next() else { return Ok(Self::default()) };
        let text = decode_texts(std::iter::once(value))?;
        serde_json::from_str(text.value(0)).map_err(|e| Error::runtime(format!("the rules in the state cannot be read: {e}")))
    }
}

/// A text as a row of one STRING column.
pub fn encode_text(text: &str) -> Result<Vec<u8>> {
    let column: ArrayRef = Arc::new(StringArray::from(vec![text]));
    Ok(RowCodec::of_arrow(DataType::Utf8)?.encode(&[column])?.get(0).to_vec())
}

/// Texts that [`encode_text`] wrote.
pub fn decode_texts<'a>(rows: impl IntoIterator<Item = &'a [u8]>) -> Result<StringArray> {
    let columns = RowCodec::of_arrow(DataType::Utf8)?.decode(rows)?;
    let column = columns.first().and_then(|c| c.as_string_opt::<i32>());
    column.cloned().ok_or_else(|| Error::runtime("state that should be text is not"))
}

/// The rules as a list.
mod list {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::Rule;

    pub fn serialize<S: Serializer>(rules: &BTreeMap<i32, Rule>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(rules.values())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<i32, Rule>, D::Error> {
        Ok(Vec::<Rule>::deserialize(deserializer)?.into_iter().map(|r| (r.rule_id, r)).collect())
    }
}
