//! Polymorphic table functions: TO_CHANGELOG, FROM_CHANGELOG, SNAPSHOT.

use sluice_batch::{Datum, Error, Expr, Result, RowKind, TypeKind};
use sluice_operators::spec::{FromChangelogSpec, LateralSnapshotSpec, OperatorSpec, ToChangelogSpec};
use sluice_sql::relation::{ColumnDef, JoinKind, Rel, RelKind, TableArg};

use super::Planner;
use super::calc::set;
use super::join_condition::Condition;
use crate::node::{Kinds, Needed, Stream, UpdateBefore, Wants, all};

type Args = [(String, TableArg)];

const KINDS: [(&str, RowKind); 4] = [
    ("INSERT", RowKind::Insert),
    ("UPDATE_BEFORE", RowKind::UpdateBefore),
    ("UPDATE_AFTER", RowKind::UpdateAfter),
    ("DELETE", RowKind::Delete),
];

impl Planner<'_> {
    pub(super) fn table_function(&mut self, rel: &Rel, name: &str, inputs: &[Rel], args: &Args, needed: &Needed) -> Result<Stream> {
        let input = inputs.first().ok_or_else(|| Error::plan(format!("{name} needs a table")))?;
        match name {
            "TO_CHANGELOG" => self.write_changelog(rel, input, args),
            "FROM_CHANGELOG" => self.read_changelog(rel, input, args),
            "SNAPSHOT" => {
                Err(Error::plan("SNAPSHOT can only be the right side of a join").hint("write JOIN LATERAL TABLE(SNAPSHOT(…)) ON …"))
            }
            "EVALUATE_RULES" | "REJECTED_RULES" | "CURRENT_RULES" => self.rules(rel, name, inputs, descriptor(args, "on_time")?.as_deref()),
            _ => {
                let _ = needed;
                Err(Error::unsupported(format!("table function {name}")))
            }
        }
    }

    /// Each change as an inserted row with a column that says what it was (Flink: `ToChangelogTypeStrategy`).
    fn write_changelog(&mut self, rel: &Rel, input: &Rel, args: &Args) -> Result<Stream> {
        let below = self.exact(input)?;
        let partition = partition(args);
        let mapping = to_mapping(args)?;
        let full_deletes = !matches!(value(args, "produces_full_deletes"), Some(Datum::Boolean(false)));
        let node = self.node(below);
        let key = || match partition.is_empty() {
            false => partition.clone(),
            true => node.keys.first().map(|k| k.iter().copied().collect()).unwrap_or_default(),
        };
        let spec = ToChangelogSpec {
            op_column: descriptor(args, "op")?.unwrap_or_else(|| "op".into()),
            delete_keys: if full_deletes { None } else { Some(key()) },
            mapping,
        };
        let with_before = spec.mapping.iter().any(|(k, _)| *k == RowKind::UpdateBefore);
        let mut schema = vec![crate::node::column(&spec.op_column, TypeKind::STRING.not_null())];
        schema.extend(node.schema.iter().cloned());
        // Output: partition keys, op, the rest; the operator gives op, then all columns.
        let width = input.schema.len();
        let order = partition.iter().map(|c| c + 1).chain([0]).chain((0..width).filter(|c| !partition.contains(c)).map(|c| c + 1));
        let map: Vec<Option<usize>> = order.map(Some).collect();
        for (at, def) in map.iter().zip(rel.schema.iter()) {
            schema[at.unwrap_or_default()] = def.clone();
        }
        let wants = if with_before { Wants::Needs } else { Wants::Avoids };
        let node = self.operator(OperatorSpec::ToChangelog(spec), vec![(below, wants)], schema, |n| {
            n.kinds = Kinds::INSERT_ONLY;
            n.update_before = UpdateBefore::Never;
        });
        Ok(Stream { node, map })
    }

    /// Rows with a column that says what they are, as changes (Flink: `FromChangelogTypeStrategy`).
    fn read_changelog(&mut self, rel: &Rel, input: &Rel, args: &Args) -> Result<Stream> {
        let stream = self.translate(input, &all(&input.schema))?;
        let below = self.narrow_to(&stream, &all(&input.schema), &input.schema)?;
        self.require_insert_only(below.node, "FROM_CHANGELOG")?;
        let name = descriptor(args, "op")?.unwrap_or_else(|| "op".into());
        let op_column = input.schema.iter().position(|c| c.name == name).ok_or_else(|| {
            Error::plan(format!("FROM_CHANGELOG: the input has no column '{name}' with the change operation"))
                .hint("name it with op => DESCRIPTOR(…)")
        })?;
        let mapping = from_mapping(args)?;
        let fail_on_unknown = match value(args, "error_handling") {
            None | Some(Datum::Null) => true,
            Some(Datum::String(s)) if s.eq_ignore_ascii_case("FAIL") => true,
            Some(Datum::String(s)) if s.eq_ignore_ascii_case("SKIP") => false,
            Some(other) => {
                return Err(Error::plan(format!("FROM_CHANGELOG: error_handling cannot be {other:?}")).hint("it is 'FAIL' or 'SKIP'"));
            }
        };
        let has = |kind| mapping.iter().any(|(_, k)| *k == kind);
        let partition = partition(args);
        let upserts = has(RowKind::UpdateAfter) && !has(RowKind::UpdateBefore);
        if upserts && partition.is_empty() {
            let message = "FROM_CHANGELOG: UPDATE_AFTER without UPDATE_BEFORE is an upsert changelog and needs a key";
            return Err(Error::plan(message).hint("add PARTITION BY the key to the table argument, or map UPDATE_BEFORE"));
        }
        let kinds = Kinds { update: has(RowKind::UpdateAfter), delete: has(RowKind::Delete) };
        // The operator gives all columns but op.
        let behind = |c: usize| if c > op_column { c - 1 } else { c };
        let rest = (0..input.schema.len()).filter(|c| *c != op_column && !partition.contains(c));
        let order: Vec<usize> = partition.iter().copied().chain(rest).collect();
        let mut schema: Vec<ColumnDef> = input.schema.iter().enumerate().filter(|(i, _)| *i != op_column).map(|(_, c)| c.clone()).collect();
        let map: Vec<Option<usize>> = order.iter().map(|c| Some(behind(*c))).collect();
        for (at, def) in map.iter().zip(rel.schema.iter()) {
            schema[at.unwrap_or_default()] = def.clone();
        }
        let key: Vec<usize> = partition.iter().map(|c| behind(*c)).collect();
        let spec = FromChangelogSpec { op_column, mapping, fail_on_unknown };
        let keys = if key.is_empty() { vec![] } else { vec![set(key.iter().copied())] };
        let mut node = self.operator(OperatorSpec::FromChangelog(spec), vec![(below.node, Wants::AsConsumers)], schema, |n| {
            n.kinds = kinds;
            n.update_before = if upserts { UpdateBefore::Never } else { UpdateBefore::Always };
            n.keys = keys;
        });
        if upserts {
            node = self.normalize(node, key);
        }
        Ok(Stream { node, map })
    }

    /// `left JOIN LATERAL TABLE(SNAPSHOT(…)) ON …`
    pub(super) fn snapshot_join(
        &mut self,
        rel: &Rel,
        left: &Rel,
        right: &Rel,
        kind: JoinKind,
        condition: &Expr,
        needed: &Needed,
    ) -> Result<Option<Stream>> {
        let Some((right, args, times)) = without_snapshot(right) else { return Ok(None) };
        if !matches!(kind, JoinKind::Inner | JoinKind::Left) {
            return Err(Error::plan("SNAPSHOT can only be the right side of an inner or left join"));
        }
        let args = args.iter().filter_map(|(name, arg)| Some((name.to_lowercase(), text(arg)?))).collect();
        let condition = Condition::split(condition, left, &right);
        if condition.equal.is_empty() {
            return Err(Error::plan("LATERAL SNAPSHOT join requires at least one equality predicate."));
        }
        let right_time = match times[..] {
            [time] => time,
            [] => {
                return Err(Error::plan("LATERAL SNAPSHOT requires a watermark on the build-side input.")
                    .hint("declare WATERMARK FOR on the table that SNAPSHOT reads"));
            }
            _ => {
                let message = "The build-side input of a LATERAL SNAPSHOT join must not have more than one row-time attribute";
                return Err(Error::plan(format!("{message}, but found {}.", times.len())));
            }
        };
        let ttl = self.settings.state_ttl;
        let sides = self.sides(left, &right, kind, condition, needed, (ttl, ttl), &[], &[right_time])?;
        self.require_insert_only(sides.left.node, "LateralSnapshotJoin")?;
        let (schema, map) = self.joined(rel, &sides);
        let inputs = vec![(sides.left.node, Wants::AsConsumers), (sides.right.node, Wants::Needs)];
        let right_time = sides.right.column(right_time)?;
        let spec = LateralSnapshotSpec { join: sides.spec, right_time, args };
        let node = self.operator(OperatorSpec::LateralSnapshotJoin(spec), inputs, schema, |n| {
            n.kinds = Kinds::INSERT_ONLY;
            n.update_before = UpdateBefore::Never;
            n.state = "unbounded: rows of the right input, and left rows until it is loaded".into();
        });
        Ok(Some(Stream { node, map }))
    }
}

/// The relation with its SNAPSHOT call taken out, the call's arguments, and which columns are rowtimes of the table that it reads.
fn without_snapshot(rel: &Rel) -> Option<(Rel, Vec<(String, TableArg)>, Vec<usize>)> {
    let mut rel = rel.clone();
    match &mut rel.kind {
        RelKind::TableFunction { name, inputs, args } if name == "SNAPSHOT" => {
            let input = inputs.first()?;
            let times = (0..input.schema.len()).filter(|c| crate::time::is_rowtime(&input.schema[*c])).collect();
            Some((input.clone(), args.clone(), times))
        }
        RelKind::Filter { input, .. } => {
            let (below, args, times) = without_snapshot(input)?;
            **input = below;
            Some((rel, args, times))
        }
        RelKind::Project { input, exprs } => {
            let (below, args, times) = without_snapshot(input)?;
            **input = below;
            let times = (0..exprs.len()).filter(|i| exprs[*i].as_column().is_some_and(|c| times.contains(&c))).collect();
            Some((rel, args, times))
        }
        _ => None,
    }
}

fn find<'a>(args: &'a Args, name: &str) -> Option<&'a TableArg> {
    args.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, a)| a)
}

fn value<'a>(args: &'a Args, name: &str) -> Option<&'a Datum> {
    match find(args, name) {
        Some(TableArg::Value(value, _)) => Some(value),
        _ => None,
    }
}

fn descriptor(args: &Args, name: &str) -> Result<Option<String>> {
    match find(args, name) {
        None => Ok(None),
        Some(TableArg::Descriptor(columns)) if columns.len() == 1 => Ok(columns.first().cloned()),
        Some(_) => Err(Error::plan(format!("argument '{name}' must be a DESCRIPTOR with one column"))),
    }
}

fn partition(args: &Args) -> Vec<usize> {
    let keys = args.iter().find_map(|(_, a)| match a {
        TableArg::Partition { input: 0, keys } => Some(keys.clone()),
        _ => None,
    });
    keys.unwrap_or_default()
}

fn row_kind(name: &str) -> Result<RowKind> {
    KINDS.iter().find(|(n, _)| *n == name).map(|(_, k)| *k).ok_or_else(|| {
        Error::plan(format!("Unknown change operation: '{name}'")).hint("it is one of INSERT, UPDATE_BEFORE, UPDATE_AFTER, DELETE")
    })
}

/// `MAP['INSERT, UPDATE_AFTER', 'false', …]`: kinds to code.
fn to_mapping(args: &Args) -> Result<Vec<(RowKind, String)>> {
    let Some(TableArg::Map(entries)) = find(args, "op_mapping") else {
        return Ok(KINDS.iter().map(|(n, k)| (*k, (*n).to_string())).collect());
    };
    let mut mapping: Vec<(RowKind, String)> = vec![];
    for (kinds, code) in entries {
        for name in kinds.split(',').map(str::trim) {
            let kind = row_kind(name)?;
            if mapping.iter().any(|(k, _)| *k == kind) {
                return Err(Error::plan(format!("Duplicate change operation: '{name}'")));
            }
            mapping.push((kind, code.clone()));
        }
    }
    Ok(mapping)
}

/// `MAP['c, r', 'INSERT', …]`: codes to kind.
fn from_mapping(args: &Args) -> Result<Vec<(String, RowKind)>> {
    let Some(TableArg::Map(entries)) = find(args, "op_mapping") else {
        return Ok(KINDS.iter().map(|(n, k)| ((*n).to_string(), *k)).collect());
    };
    let mut mapping: Vec<(String, RowKind)> = vec![];
    for (codes, kind) in entries {
        let kind = row_kind(kind.trim())?;
        for code in codes.split(',').map(str::trim) {
            if mapping.iter().any(|(c, _)| c == code) {
                return Err(Error::plan(format!("Duplicate op code: '{code}'")));
            }
            mapping.push((code.to_string(), kind));
        }
    }
    Ok(mapping)
}

/// An argument as text: timestamps as milliseconds since the epoch.
fn text(arg: &TableArg) -> Option<String> {
    let TableArg::Value(value, ty) = arg else { return None };
    Some(match (value, &ty.kind) {
        (Datum::Null, _) => return None,
        (Datum::String(s), _) => s.to_string(),
        (Datum::Timestamp(t), TypeKind::Timestamp(p) | TypeKind::TimestampLtz(p)) => {
            (t / if *p <= 6 { 1_000 } else { 1_000_000 }).to_string()
        }
        (Datum::IntervalDayTime(ms), _) => ms.to_string(),
        (Datum::Boolean(b), _) => b.to_string(),
        (other, _) => other.as_i64().map_or_else(|| format!("{other:?}"), |v| v.to_string()),
    })
}
