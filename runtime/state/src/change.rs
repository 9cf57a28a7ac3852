//! Changes of state between two commits, and what they make of it.

use std::collections::BTreeMap;

pub use sluice_operators::state::{ChangeKind, Changes, Rows};

use crate::{Layout, OperatorState, Tables};

/// Changes of one operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorChanges {
    pub identity: String,
    /// The operator's name, for people.
    pub kind: String,
    /// What the bytes mean.
    pub layout: Layout,
    /// Its tables are emptied first: the changes are all it has.
    pub whole: bool,
    /// Each row of a table has a key of its own, and its place says nothing.
    pub by_key: bool,
    /// By table, in order.
    pub tables: BTreeMap<String, Changes>,
}

impl OperatorChanges {
    /// A state as the changes that make it from nothing.
    pub fn all_of(state: OperatorState) -> Self {
        let tables = state.tables.into_iter().map(|(name, rows)| (name, Changes::from(rows))).collect();
        Self { identity: state.identity, kind: state.kind, layout: state.layout, whole: true, by_key: false, tables }
    }

    pub fn rows(&self) -> usize {
        self.tables.values().map(Changes::len).sum()
    }
}

/// A state that changes are applied to.
#[derive(Default)]
pub struct Accumulated {
    operators: Vec<Operator>,
}

struct Operator {
    identity: String,
    kind: String,
    layout: Layout,
    tables: BTreeMap<String, Table>,
}

/// A table as its operator wrote it as long as it only writes all of it; by key once it writes changes.
enum Table {
    Written(Rows),
    ByKey(BTreeMap<Vec<u8>, Vec<u8>>),
}

impl Table {
    fn by_key(&mut self) -> &mut BTreeMap<Vec<u8>, Vec<u8>> {
        if let Table::Written(rows) = self {
            *self = Table::ByKey(rows.iter().map(|(k, v)| (k.to_vec(), v.to_vec())).collect());
        }
        match self {
            Table::ByKey(rows) => rows,
            Table::Written(_) => unreachable!("it was just turned"),
        }
    }
}

impl Accumulated {
    /// Applies what came after everything applied so far.
    pub fn apply(&mut self, changes: OperatorChanges) {
        let OperatorChanges { identity, kind, layout, .. } = changes;
        let at = match self.operators.iter().position(|o| o.identity == identity) {
            Some(at) => at,
            None => {
                self.operators.push(Operator { identity, kind: String::new(), layout: Layout::default(), tables: BTreeMap::new() });
                self.operators.len() - 1
            }
        };
        let operator = &mut self.operators[at];
        (operator.kind, operator.layout) = (kind, layout);
        let tables = &mut operator.tables;
        if changes.whole {
            tables.clear();
        }
        for (name, changed) in changes.tables {
            let changed = match if changes.whole { changed.into_puts() } else { Err(changed) } {
                Ok(rows) => {
                    tables.insert(name, Table::Written(rows));
                    continue;
                }
                Err(changed) => changed,
            };
            let table = tables.entry(name).or_insert_with(|| Table::ByKey(BTreeMap::new())).by_key();
            for (kind, key, value) in changed.iter() {
                match kind {
                    ChangeKind::Put => drop(table.insert(key.to_vec(), value.to_vec())),
                    ChangeKind::Delete => drop(table.remove(key)),
                    ChangeKind::DeletePrefix => delete_prefix(table, key),
                }
            }
        }
    }

    /// The state; operators and tables without rows are left out.
    pub fn into_states(self) -> Vec<OperatorState> {
        let rows = |table: Table| match table {
            Table::Written(rows) => rows,
            Table::ByKey(rows) => rows.into_iter().collect::<Rows>(),
        };
        let states = self.operators.into_iter().map(|Operator { identity, kind, layout, tables }| OperatorState {
            identity,
            kind,
            layout,
            tables: tables.into_iter().map(|(name, table)| (name, rows(table))).filter(|(_, rows)| !rows.is_empty()).collect::<Tables>(),
        });
        states.filter(|s| !s.tables.is_empty()).collect()
    }
}

fn delete_prefix(table: &mut BTreeMap<Vec<u8>, Vec<u8>>, prefix: &[u8]) {
    let gone: Vec<Vec<u8>> = table.range(prefix.to_vec()..).take_while(|(k, _)| k.starts_with(prefix)).map(|(k, _)| k.clone()).collect();
    for key in gone {
        table.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(whole: bool, rows: &[(ChangeKind, &str, &str)]) -> OperatorChanges {
        let mut changes = Changes::default();
        rows.iter().for_each(|(kind, k, v)| changes.push(*kind, k.as_bytes(), v.as_bytes()));
        OperatorChanges {
            identity: "a".into(),
            kind: "A".into(),
            layout: Layout::default(),
            whole,
            by_key: false,
            tables: [("t".to_owned(), changes)].into(),
        }
    }

    fn text(state: Accumulated) -> String {
        let states = state.into_states();
        let rows = states.iter().flat_map(|s| s.tables.values().flat_map(Rows::iter));
        rows.map(|(k, v)| format!("{}={}", String::from_utf8_lossy(k), String::from_utf8_lossy(v))).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn changes_are_applied_in_order() {
        let mut state = Accumulated::default();
        state.apply(changes(true, &[(ChangeKind::Put, "b", "1"), (ChangeKind::Put, "a", "2"), (ChangeKind::Put, "b", "3")]));
        state.apply(changes(
            false,
            &[
                (ChangeKind::Put, "a1", "4"),
                (ChangeKind::Put, "a2", "5"),
                (ChangeKind::Delete, "b", ""),
                (ChangeKind::DeletePrefix, "a", ""),
                (ChangeKind::Put, "a3", "6"),
            ],
        ));
        assert_eq!(text(state), "a3=6");
        let mut written = Accumulated::default();
        written.apply(changes(true, &[(ChangeKind::Put, "b", "1"), (ChangeKind::Put, "a", "2"), (ChangeKind::Put, "b", "3")]));
        assert_eq!(text(written), "b=1 a=2 b=3", "an operator that writes all keeps its order, and equal keys");
        let mut gone = Accumulated::default();
        gone.apply(changes(true, &[(ChangeKind::Put, "b", "1")]));
        gone.apply(changes(true, &[]));
        assert!(gone.into_states().is_empty());
    }
}
