//! Whether the state of one job fits another: judged from the layouts alone, before anything is stopped or read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use sluice_batch::{SqlType, TypeKind};

use crate::Layout;
use crate::cells::sql_type;
use crate::layout::{Added, Call, Column, Part, Table};

/// The worse is the greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    #[default]
    Compatible,
    /// All state is used, but something starts empty.
    Partial,
    /// Some state cannot be used.
    Incompatible,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Compatible => "compatible",
            Self::Partial => "partial",
            Self::Incompatible => "incompatible",
        })
    }
}

/// What becomes of an operator's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// The new job goes on with it.
    Kept,
    /// There is none yet.
    New,
    /// No operator of the new job takes it.
    Lost,
}

/// An operator or source of the old or the new job.
#[derive(Clone, Debug)]
pub struct Member {
    pub identity: String,
    pub kind: String,
    pub layout: Layout,
    /// Rows of state; of a source: 1.
    pub rows: u64,
    /// Of a source: where it goes on.
    pub positions: Vec<(String, String)>,
    /// Of a source of the new job: the topics that it names. Its positions are `topic-partition` then.
    pub topics: Vec<String>,
    /// Positions in the members of its job of the sources that it reads, directly or not.
    pub upstream: Vec<usize>,
}

impl Member {
    pub fn is_source(&self) -> bool {
        self.kind.starts_with(SOURCE)
    }
}

/// What the kind of a source begins with; its table follows.
pub const SOURCE: &str = "source ";

#[derive(Clone, Debug, Serialize)]
pub struct Judgement {
    /// In the new job; of lost state: in the old one.
    pub identity: String,
    pub kind: String,
    pub sinks: Vec<String>,
    pub verdict: Verdict,
    pub fate: Fate,
    pub reasons: Vec<String>,
    /// The identity under which the savepoint has the state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored_from: Option<String>,
}

/// The judgement of a whole job.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    pub verdict: Verdict,
    pub operators: Vec<Judgement>,
}

impl Report {
    /// From which identity of the savepoint an operator of the new job takes its state.
    pub fn restored_from(&self, identity: &str) -> Option<&str> {
        let kept = self.operators.iter().find(|j| j.fate == Fate::Kept && j.identity == identity);
        kept.and_then(|j| j.restored_from.as_deref())
    }

    /// Kind and reasons of all state that cannot be used.
    pub fn lost(&self) -> Vec<String> {
        let lost = self.operators.iter().filter(|j| j.verdict == Verdict::Incompatible);
        lost.map(|j| format!("{}: {}", j.kind, j.reasons.join("; "))).collect()
    }
}

/// Judges all operators. `allow_lost`: state that no operator takes may be left behind (the report is partial then).
pub fn compare(old: &[Member], new: &[Member], allow_lost: bool) -> Report {
    let pairs = pair(old, new);
    let mut report = Report::default();
    for (at, member) in new.iter().enumerate() {
        let from = pairs.get(&at).map(|o| &old[*o]);
        report.operators.push(match from {
            Some(from) => kept(from, member),
            None => fresh(member, new, &pairs),
        });
    }
    for (at, member) in old.iter().enumerate() {
        if member.rows > 0 && !pairs.values().any(|o| *o == at) && !merged(member, old, new, &pairs) {
            report.operators.push(gone(member, new, &pairs));
        }
    }
    for judgement in &mut report.operators {
        if allow_lost && judgement.verdict == Verdict::Incompatible {
            judgement.verdict = Verdict::Partial;
            judgement.fate = Fate::Lost;
            judgement.reasons.push("left behind, as allowed".into());
        }
    }
    report.verdict = report.operators.iter().map(|j| j.verdict).max().unwrap_or_default();
    report
}

fn judgement(member: &Member, fate: Fate, verdict: Verdict, reasons: Vec<String>) -> Judgement {
    let sinks = member.layout.sinks.clone();
    Judgement { identity: member.identity.clone(), kind: member.kind.clone(), sinks, verdict, fate, reasons, restored_from: None }
}

/// New members by position, each with the old one whose state it may take.
fn pair(old: &[Member], new: &[Member]) -> BTreeMap<usize, usize> {
    let mut pairs: BTreeMap<usize, usize> = BTreeMap::new();
    for (n, member) in new.iter().enumerate() {
        if let Some(o) = old.iter().position(|o| o.identity == member.identity) {
            pairs.insert(n, o);
        }
    }
    // The same meaning with other sinks: a statement that shares it came or went, or a sink has another name.
    let mut candidates = vec![];
    for (n, member) in new.iter().enumerate().filter(|(n, _)| !pairs.contains_key(n)) {
        for (o, from) in old.iter().enumerate() {
            if from.kind == member.kind && !from.layout.meaning.is_empty() && from.layout.meaning == member.layout.meaning {
                candidates.push((common(from, member), n, o));
            }
        }
    }
    candidates.sort_by(|a, b| b.0.cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    for (_, n, o) in candidates {
        if !pairs.contains_key(&n) && !pairs.values().any(|p| *p == o) {
            pairs.insert(n, o);
        }
    }
    // Statements that read a table together may read it apart now: each goes on from there.
    for (n, member) in new.iter().enumerate().filter(|(_, m)| m.is_source()) {
        let like = |o: &Member| o.is_source() && o.layout.meaning == member.layout.meaning && common(o, member) > 0;
        if let (false, Some(o)) = (pairs.contains_key(&n), old.iter().position(like)) {
            pairs.insert(n, o);
        }
    }
    pairs
}

/// Whether a source is read together with another one now, from the same positions.
fn merged(member: &Member, old: &[Member], new: &[Member], pairs: &BTreeMap<usize, usize>) -> bool {
    let same = |(n, o): (&usize, &usize)| {
        old[*o].layout.meaning == member.layout.meaning && old[*o].positions == member.positions && common(member, &new[*n]) > 0
    };
    member.is_source() && pairs.iter().any(same)
}

fn common(a: &Member, b: &Member) -> usize {
    a.layout.sinks.iter().filter(|s| b.layout.sinks.contains(s)).count()
}

fn fresh(member: &Member, new: &[Member], pairs: &BTreeMap<usize, usize>) -> Judgement {
    let goes_on = member.upstream.iter().filter(|u| pairs.contains_key(u)).map(|u| new[*u].kind.clone()).collect::<Vec<_>>();
    if goes_on.is_empty() {
        return judgement(member, Fate::New, Verdict::Compatible, vec!["new".into()]);
    }
    let reason = format!("new: it starts empty, and {} goes on where the savepoint is", goes_on.join(", "));
    judgement(member, Fate::New, Verdict::Partial, vec![reason])
}

fn gone(member: &Member, new: &[Member], pairs: &BTreeMap<usize, usize>) -> Judgement {
    let free = |(n, m): &(usize, &Member)| !pairs.contains_key(n) && m.kind == member.kind;
    let like = new.iter().enumerate().filter(free).max_by_key(|(n, m)| (common(member, m), std::cmp::Reverse(*n)));
    let mut reasons = like.map(|(_, m)| changes(&member.layout, &m.layout)).unwrap_or_default();
    if reasons.is_empty() {
        reasons.push(match like {
            Some(_) => "what it reads has changed".into(),
            None => "nothing in the new SQL takes its state".into(),
        });
    }
    judgement(member, Fate::Lost, Verdict::Incompatible, reasons)
}

/// What must not change and did.
fn changes(old: &Layout, new: &Layout) -> Vec<String> {
    let mut out = vec![];
    for (name, was) in &old.fixed {
        match new.fixed.get(name) {
            Some(is) if is == was => {}
            Some(is) => out.push(format!("{name} changed from ({was}) to ({is})")),
            None => out.push(format!("{name} ({was}) went away")),
        }
    }
    out.extend(new.fixed.iter().filter(|(name, _)| !old.fixed.contains_key(*name)).map(|(name, is)| format!("{name} ({is}) came")));
    out
}

/// Partitions that the savepoint does not know are read from their start, as those that appear while a job runs (FLIP-288); positions of topics
/// that are no longer read are of no use.
fn topics(old: &Member, new: &Member, found: &mut Found) {
    if new.topics.is_empty() || old.positions.is_empty() {
        return;
    }
    let before: BTreeSet<&str> = old.positions.iter().filter_map(|(name, _)| Some(name.rsplit_once('-')?.0)).collect();
    for topic in new.topics.iter().filter(|t| !before.contains(t.as_str())) {
        found.add(Verdict::Partial, format!("the savepoint has no position in topic '{topic}': it is read from its start"));
    }
    for topic in before.iter().filter(|t| !new.topics.iter().any(|n| n == *t)) {
        found.add(Verdict::Partial, format!("topic '{topic}' is not read any more"));
    }
}

fn kept(old: &Member, new: &Member) -> Judgement {
    let mut found = Found::default();
    topics(old, new, &mut found);
    // What has no layout was written by the same job: commits.
    if old.rows > 0 && !old.layout.meaning.is_empty() {
        changes(&old.layout, &new.layout).into_iter().for_each(|c| found.refuse(c));
        for table in &old.layout.tables {
            match new.layout.tables.iter().find(|t| t.name == table.name) {
                Some(to) => found.table(table, to),
                None => found.refuse(format!("its state has no table '{}' any more", table.name)),
            }
        }
    }
    let fate = if found.verdict == Verdict::Incompatible { Fate::Lost } else { Fate::Kept };
    Judgement { restored_from: Some(old.identity.clone()), ..judgement(new, fate, found.verdict, found.reasons) }
}

#[derive(Default)]
struct Found {
    verdict: Verdict,
    reasons: Vec<String>,
}

impl Found {
    fn add(&mut self, verdict: Verdict, reason: String) {
        self.verdict = self.verdict.max(verdict);
        if !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }

    fn refuse(&mut self, reason: String) {
        self.add(Verdict::Incompatible, reason);
    }

    fn table(&mut self, old: &Table, new: &Table) {
        self.parts(&old.key, &new.key);
        self.parts(&old.value, &new.value);
    }

    fn parts(&mut self, old: &[Part], new: &[Part]) {
        for part in new {
            let Some(from) = old.iter().find(|f| f.name() == part.name()) else {
                self.refuse(format!("its state has another form: there is no '{}' in the savepoint", part.name()));
                continue;
            };
            match (from, part) {
                (Part::Row { columns: old, .. }, Part::Row { columns: new, added, .. }) => self.columns(old, new, *added),
                (Part::Aggregates { calls: old, .. }, Part::Aggregates { calls: new, closed }) => self.calls(old, new, *closed),
                (Part::Repeated { parts: old, .. }, Part::Repeated { parts: new, .. }) => self.parts(old, new),
                (Part::Number { kind: old, .. }, Part::Number { kind: new, .. }) if old == new => {}
                _ => self.refuse(format!("its state has another form: '{}'", part.name())),
            }
        }
    }

    fn columns(&mut self, old: &[Column], new: &[Column], added: Added) {
        for column in new {
            let name = &column.name;
            match (old.iter().find(|o| o.name == *name), added) {
                (Some(from), _) => self.column(from, column),
                (None, Added::Null) => self.add(Verdict::Partial, format!("{name} is NULL for rows from before the savepoint")),
                (None, Added::Refused) => {
                    self.refuse(format!("rows are found by all of their columns, and those from before the savepoint have no {name}"));
                }
                (None, Added::Fixed) => self.refuse(format!("{name} came to the keys of its state")),
            }
        }
        for gone in old.iter().filter(|o| added == Added::Fixed && !new.iter().any(|n| n.name == o.name)) {
            self.refuse(format!("{} went away from the keys of its state", gone.name));
        }
    }

    fn column(&mut self, old: &Column, new: &Column) {
        if (old.descending, old.nulls_last) != (new.descending, new.nulls_last) {
            self.refuse(format!("the order of {} changed", new.name));
        }
        if old.ty != new.ty && !widens(old, new) {
            self.refuse(format!("the type of {} changed from {} to {}", new.name, old.ty, new.ty));
        }
    }

    fn calls(&mut self, old: &[Call], new: &[Call], closed: bool) {
        for call in new {
            match old.iter().find(|o| o.name == call.name) {
                Some(from) if from.form == call.form => {}
                Some(from) => self.refuse(format!("the state of {} changed its form from {} to {}", call.name, from.form, call.form)),
                None => match old.iter().find(|o| o.name.replace("(DISTINCT ", "(") == call.name.replace("(DISTINCT ", "(")) {
                    Some(from) => self.refuse(format!("DISTINCT changed: {} became {}", from.name, call.name)),
                    None if closed => self.refuse(format!("{} is new, and takes rows back that it has not seen", call.name)),
                    None => self.add(Verdict::Partial, format!("{} is new and starts empty", call.name)),
                },
            }
        }
    }
}

/// Whether all values of a type are values of another.
fn widens(old: &Column, new: &Column) -> bool {
    match (sql_type(old), sql_type(new)) {
        (Ok(old), Ok(new)) => contains(&new, &old),
        _ => false,
    }
}

/// NOT NULL is a promise of the plan, not of what is stored: it makes no difference.
fn contains(wide: &SqlType, narrow: &SqlType) -> bool {
    use TypeKind as T;
    let integer = |t: &T| match t {
        T::TinyInt => Some(1),
        T::SmallInt => Some(2),
        T::Int => Some(3),
        T::BigInt => Some(4),
        _ => None,
    };
    match (&wide.kind, &narrow.kind) {
        (w, n) if w == n => true,
        (T::VarChar(w), T::VarChar(n) | T::Char(n)) | (T::VarBinary(w), T::VarBinary(n) | T::Binary(n)) => w >= n,
        (T::Decimal(w, s), T::Decimal(n, t)) => s == t && w >= n,
        (T::Double, T::Float) => true,
        (T::Timestamp(w), T::Timestamp(n)) | (T::TimestampLtz(w), T::TimestampLtz(n)) | (T::Time(w), T::Time(n)) => w >= n,
        (T::Array(w), T::Array(n)) | (T::Multiset(w), T::Multiset(n)) => same_arrow(wide, narrow) && contains(w, n),
        (T::Map(wk, wv), T::Map(nk, nv)) => same_arrow(wide, narrow) && contains(wk, nk) && contains(wv, nv),
        (T::Row(w), T::Row(n)) => {
            let same = |(w, n): (&sluice_batch::Field, &sluice_batch::Field)| w.name == n.name && contains(&w.ty, &n.ty);
            same_arrow(wide, narrow) && w.len() == n.len() && w.iter().zip(n).all(same)
        }
        (w, n) => integer(w).zip(integer(n)).is_some_and(|(w, n)| w >= n),
    }
}

/// Inside of collections nothing is converted.
fn same_arrow(a: &SqlType, b: &SqlType) -> bool {
    a.to_arrow() == b.to_arrow()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(positions: &[&str], topics: &[&str]) -> Member {
        Member {
            identity: "Source-1".into(),
            kind: format!("{SOURCE}t"),
            layout: Layout { meaning: format!("{SOURCE}t"), ..Layout::default() },
            rows: 1,
            positions: positions.iter().map(|p| ((*p).to_owned(), "7".to_owned())).collect(),
            topics: topics.iter().map(|t| (*t).to_owned()).collect(),
            upstream: vec![],
        }
    }

    #[test]
    fn other_topics_are_said() {
        for (before, now, verdict, reasons) in [
            (&["a-0", "a-1"][..], &["a"][..], Verdict::Compatible, ""),
            (&["my-topic-0"], &["my-topic"], Verdict::Compatible, ""),
            (&["a-0"], &["b"], Verdict::Partial, "no position in topic 'b': it is read from its start; topic 'a' is not read any more"),
            (&["a-0"], &["a", "b"], Verdict::Partial, "no position in topic 'b': it is read from its start"),
            (&["a-0", "b-0"], &["b"], Verdict::Partial, "topic 'a' is not read any more"),
            // A topic that was not there yet, and a pattern or a file: nothing is known.
            (&[], &["b"], Verdict::Compatible, ""),
            (&["1.json"], &[], Verdict::Compatible, ""),
        ] {
            let report = compare(&[source(before, &[])], &[source(&[], now)], false);
            let said = report.operators[0].reasons.join("; ");
            assert_eq!(report.verdict, verdict, "{before:?} {now:?}");
            assert!(said.ends_with(reasons) && said.is_empty() == reasons.is_empty(), "{before:?} {now:?}: {said}");
            assert_eq!(report.operators[0].fate, Fate::Kept);
        }
    }
}
