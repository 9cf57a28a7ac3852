//! CREATE TABLE … LIKE: what of the base table goes into the new one (Flink: `MergeTableLikeUtil`).

use sluice_batch::{Error, Result, Span};

use super::declare::{check_columns, check_watermark, column_of, options_of, set_primary_key};
use super::{Column, ColumnKind, Table};
use crate::ast::{CreateTable, Ident, LikeClause};

#[derive(Clone, Copy, PartialEq)]
enum Strategy {
    Including,
    Excluding,
    Overwriting,
}

struct Strategies {
    constraints: Strategy,
    generated: Strategy,
    metadata: Strategy,
    options: Strategy,
    watermarks: Strategy,
}

fn strategies(like: &LikeClause) -> Result<Strategies> {
    let span = like.table.span();
    let parse = |s: &str| match s {
        "EXCLUDING" => Strategy::Excluding,
        "OVERWRITING" => Strategy::Overwriting,
        _ => Strategy::Including,
    };
    for (i, (strategy, feature)) in like.options.iter().enumerate() {
        if like.options.iter().take(i).any(|(_, f)| f == feature) {
            return Err(Error::plan(format!("LIKE says twice what to do with {feature}")).at(span));
        }
        if strategy == "OVERWRITING" && ["ALL", "CONSTRAINTS", "PARTITIONS", "DISTRIBUTION"].contains(&feature.as_str()) {
            return Err(Error::plan(format!("LIKE cannot overwrite {feature}, only include or exclude it")).at(span));
        }
    }
    let all = like.options.iter().find(|(_, f)| f == "ALL").map(|(s, _)| parse(s));
    let of = |feature: &str, default: Strategy| {
        let given = like.options.iter().find(|(_, f)| f == feature).map(|(s, _)| parse(s));
        given.or(all).unwrap_or(default)
    };
    Ok(Strategies {
        constraints: of("CONSTRAINTS", Strategy::Including),
        generated: of("GENERATED", Strategy::Including),
        metadata: of("METADATA", Strategy::Including),
        options: of("OPTIONS", Strategy::Overwriting),
        watermarks: of("WATERMARKS", Strategy::Including),
    })
}

/// The table that `create`, which has a LIKE clause, declares on top of `base`.
pub(super) fn merge(base: &Table, like: &LikeClause, create: &CreateTable) -> Result<Table> {
    let strategies = strategies(like)?;
    let name = create.name.object().to_string();
    let mut table = Table {
        name,
        columns: base
            .columns
            .iter()
            .filter(|c| match c.kind {
                ColumnKind::Physical => true,
                ColumnKind::Metadata { .. } => strategies.metadata != Strategy::Excluding,
                ColumnKind::Computed(_) => strategies.generated != Strategy::Excluding,
            })
            .cloned()
            .collect(),
        watermark: None,
        primary_key: None,
        options: Default::default(),
        text: create.text.clone(),
        span: create.name.span(),
    };
    for definition in &create.columns {
        add_column(&mut table.columns, column_of(definition), &strategies)?;
    }
    check_columns(&table)?;
    merge_options(&mut table, base, create, strategies.options)?;
    merge_watermark(&mut table, base, create, strategies.watermarks)?;
    merge_primary_key(&mut table, base, create, strategies.constraints)?;
    check_watermark(&table)?;
    Ok(table)
}

fn add_column(columns: &mut Vec<Column>, column: Column, strategies: &Strategies) -> Result<()> {
    let Some(existing) = columns.iter_mut().find(|c| c.name == column.name) else {
        columns.push(column);
        return Ok(());
    };
    let taken = |hint: Option<&str>| {
        let error = Error::plan(format!("the base table already has a column '{}'", column.name)).at(column.span);
        match hint {
            Some(feature) => error.hint(format!("say EXCLUDING {feature} or OVERWRITING {feature} in LIKE")),
            None => error,
        }
    };
    let (strategy, feature) = match (&existing.kind, &column.kind) {
        (ColumnKind::Computed(_), ColumnKind::Computed(_)) => (strategies.generated, "GENERATED"),
        (ColumnKind::Metadata { .. }, ColumnKind::Metadata { .. }) => (strategies.metadata, "METADATA"),
        _ => return Err(taken(None)),
    };
    if strategy != Strategy::Overwriting {
        return Err(taken(Some(feature)));
    }
    *existing = column;
    Ok(())
}

fn merge_options(table: &mut Table, base: &Table, create: &CreateTable, strategy: Strategy) -> Result<()> {
    if strategy != Strategy::Excluding {
        table.options = base.options.clone();
    }
    for (key, option) in options_of(&create.options)? {
        if strategy == Strategy::Including && table.options.contains_key(&key) {
            return Err(Error::plan(format!("the base table already has an option '{key}'"))
                .at(option.key_span)
                .hint("say EXCLUDING OPTIONS or OVERWRITING OPTIONS in LIKE"));
        }
        table.options.insert(key, option);
    }
    Ok(())
}

fn merge_watermark(table: &mut Table, base: &Table, create: &CreateTable, strategy: Strategy) -> Result<()> {
    if strategy != Strategy::Excluding {
        table.watermark = base.watermark.clone();
    }
    let Some(watermark) = &create.watermark else { return Ok(()) };
    if strategy == Strategy::Including && table.watermark.is_some() {
        return Err(Error::plan("the base table already has a watermark")
            .at(watermark.span)
            .hint("say EXCLUDING WATERMARKS or OVERWRITING WATERMARKS in LIKE"));
    }
    table.watermark = Some(watermark.clone());
    Ok(())
}

fn merge_primary_key(table: &mut Table, base: &Table, create: &CreateTable, strategy: Strategy) -> Result<()> {
    let inherited = base.primary_key.as_ref().filter(|_| strategy != Strategy::Excluding);
    match (&create.primary_key, inherited) {
        (Some(key), Some(_)) => {
            Err(Error::plan("the base table already has a primary key").at(key.span).hint("say EXCLUDING CONSTRAINTS in LIKE"))
        }
        (Some(key), None) => set_primary_key(table, &key.columns, key.span),
        (None, Some(key)) => {
            let columns = key.iter().filter_map(|i| base.columns.get(*i));
            let columns: Vec<Ident> = columns.map(|c| Ident { name: c.name.clone(), span: Span::NONE }).collect();
            set_primary_key(table, &columns, table.span)
        }
        (None, None) => Ok(()),
    }
}
