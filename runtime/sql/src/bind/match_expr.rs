//! Expressions of DEFINE and MEASURES: what they read of the rows of variables becomes slots.
//!
//! What reads one row of one variable goes into its slot as a whole, so that it is computed for whole batches of input:
//! `CAST(LAST(X.q) AS INT)` is one slot. That is right only where the row exists, or where NULL in gives NULL out
//! (`LAST(X.q, 1) IS NULL` must see that there is no row).

use sluice_batch::{Error, Expr, Result, Span};

use super::aggregate::{bind_call, place};
use super::expr::ExprBinder;
use super::scope::{Scope, ScopeTable};
use super::{build, constant, unsupported, walk};
use crate::ast::{self, BinaryOp, FunctionCall, Ident, UnaryOp};
use crate::relation::{MatchSlot, MatchSlotKind, Schema};

/// The variables of a MATCH_RECOGNIZE.
pub(super) struct Variables {
    pub names: Vec<String>,
    /// Whether the pattern always gives the variable a row.
    pub required: Vec<bool>,
    pub subsets: Vec<(String, Vec<usize>)>,
    /// Defined, but not in the pattern: they never have a row.
    pub unmatched: Vec<String>,
    pub input: Schema,
    /// The time attribute's column.
    pub time: usize,
}

impl Variables {
    /// Positions of a variable's or subset's members.
    pub fn find(&self, name: &str) -> Option<Vec<usize>> {
        let variable = self.names.iter().position(|n| n == name).map(|i| vec![i]);
        let subset = || self.subsets.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        let unmatched = || self.unmatched.iter().any(|n| n == name).then(|| vec![UNMATCHED]);
        variable.or_else(subset).or_else(unmatched)
    }

    pub fn unknown(&self, name: &Ident) -> Error {
        let names = self.names.iter().chain(self.subsets.iter().map(|(n, _)| n)).map(String::as_str);
        super::did_you_mean(Error::plan(format!("Unknown pattern '{}'", name.name)).at(name.span), &name.name, names)
    }
}

/// The state of binding one condition or measure.
pub(super) struct Matching<'b> {
    pub variables: &'b Variables,
    /// In DEFINE: the variable whose candidate row is looked at.
    pub defining: Option<usize>,
    pub slots: Vec<MatchSlot>,
}

/// Stands for the rows of a variable that is not in the pattern.
const UNMATCHED: usize = usize::MAX;

/// One row of a match: the `offset`-th from the end or start of the rows of the variables (none: all rows).
#[derive(Clone, PartialEq)]
struct Row {
    variables: Vec<usize>,
    last: bool,
    offset: u32,
    /// The name by which columns of it are qualified.
    alias: Option<String>,
}

#[derive(Default)]
struct Reads {
    rows: Vec<Row>,
    /// Aggregates and the like: what is not one row.
    other: bool,
}

impl Matching<'_> {
    /// Whether the row is always there.
    fn exists(&self, row: &Row) -> bool {
        if row.variables == [UNMATCHED] {
            return false;
        }
        let bound = |v: &usize| match self.defining {
            Some(d) if *v == d => true,
            Some(d) => *v < d && self.variables.required[*v],
            None => self.variables.required[*v],
        };
        row.offset == 0 && (row.variables.is_empty() || row.variables.iter().any(bound))
    }

    /// Unqualified names: the row at hand in DEFINE, else the last row of all.
    fn bare(&self) -> Row {
        Row { variables: self.defining.into_iter().collect(), last: true, offset: 0, alias: None }
    }

    fn name_row(&self, parts: &[Ident]) -> Result<Option<Row>> {
        let Some((first, rest)) = parts.split_first() else { return Ok(None) };
        if !rest.is_empty()
            && let Some(variables) = self.variables.find(&first.name)
        {
            return Ok(Some(Row { variables, last: true, offset: 0, alias: Some(first.name.clone()) }));
        }
        if self.variables.input.iter().any(|c| c.name == first.name) {
            return Ok(Some(self.bare()));
        }
        if rest.is_empty() {
            // No column: a function without parentheses, or an error that the binder finds.
            return Ok(None);
        }
        Err(self.variables.unknown(first))
    }

    /// The variables that names in `exprs` mean: one variable, or none at all (`None`: no names).
    fn single(&self, exprs: &[&ast::Expr], what: &str, span: Span) -> Result<Option<Row>> {
        let mut found: Option<Row> = None;
        let mut error = None;
        for e in exprs {
            walk::walk(e, &mut |e| {
                let row = match &e.kind {
                    ast::ExprKind::Name(parts) => self.name_row(parts),
                    _ => return error.is_none(),
                };
                match (row, &found) {
                    (Err(e), _) => error = Some(e),
                    (Ok(Some(row)), Some(f)) if row.alias != f.alias => {
                        error = Some(Error::plan(format!("Multiple pattern variables in '{what}'")).at(span));
                    }
                    (Ok(Some(row)), _) => found = Some(row),
                    (Ok(None), _) => {}
                }
                error.is_none()
            });
        }
        match error {
            Some(e) => Err(e.at(span)),
            None => Ok(found),
        }
    }

    fn reads(&self, e: &ast::Expr, out: &mut Reads) -> Result<()> {
        let mut add = |row: Row| {
            let same = |r: &Row| r.variables == row.variables && r.last == row.last && r.offset == row.offset;
            match out.rows.iter_mut().find(|r| same(r)) {
                Some(r) => r.alias = r.alias.take().or(row.alias),
                None => out.rows.push(row),
            }
        };
        match &e.kind {
            ast::ExprKind::Name(parts) => {
                if let Some(row) = self.name_row(parts)? {
                    add(row);
                }
            }
            ast::ExprKind::Function(f) => match function(f) {
                Function::Navigate { last } => add(self.navigation(f, last)?),
                Function::Final => {
                    for arg in walk::args(f) {
                        self.reads(arg, out)?;
                    }
                }
                Function::Other => out.other = true,
                Function::Scalar => {
                    for child in walk::children(e) {
                        self.reads(child, out)?;
                    }
                }
            },
            _ => {
                out.other |= walk::has_subquery(e);
                for child in walk::children(e) {
                    self.reads(child, out)?;
                }
            }
        }
        Ok(())
    }

    /// `FIRST(expr [, n])` or `LAST(expr [, n])`.
    fn navigation(&self, f: &FunctionCall, last: bool) -> Result<Row> {
        let args: Vec<&ast::Expr> = walk::args(f).collect();
        let (arg, offset) = match args.as_slice() {
            [arg] => (*arg, 0),
            [arg, offset] => (*arg, navigation_offset(offset)?),
            _ => return Err(Error::plan(format!("{} needs an expression and perhaps an offset", f.name)).at(f.span)),
        };
        let nested = |e: &ast::Expr| walk::as_call(e).is_some_and(|c| !matches!(function(c), Function::Scalar));
        if walk::any(arg, &nested) {
            return Err(Error::plan(format!("{} cannot contain aggregates or navigation", f.name)).at(f.span));
        }
        let row = self.single(&[arg], f.name.object(), f.span)?;
        let row = row.ok_or_else(|| Error::plan(format!("{} needs a column of a pattern variable", f.name)).at(f.span))?;
        // Without a variable FIRST and LAST run over all rows.
        let variables = if row.alias.is_some() { row.variables } else { vec![] };
        Ok(Row { variables, last, offset, alias: row.alias })
    }
}

fn navigation_offset(e: &ast::Expr) -> Result<u32> {
    let ast::ExprKind::Literal(l) = &e.kind else {
        return Err(Error::plan("the offset of FIRST and LAST must be a constant").at(e.span));
    };
    let value = constant(&super::literal::bind(l, e.span)?).and_then(|d| d.as_i64());
    value.and_then(|v| u32::try_from(v).ok()).ok_or_else(|| Error::plan("the offset of FIRST and LAST must be a number from 0").at(e.span))
}

enum Function {
    Navigate {
        last: bool,
    },
    Final,
    /// An aggregate or a function of the match.
    Other,
    Scalar,
}

fn function(f: &FunctionCall) -> Function {
    match f.name.object().to_uppercase().as_str() {
        "FIRST" => Function::Navigate { last: false },
        "LAST" => Function::Navigate { last: true },
        "FINAL" => Function::Final,
        "RUNNING" | "PREV" | "NEXT" | "CLASSIFIER" | "MATCH_NUMBER" | "MATCH_ROWTIME" | "MATCH_PROCTIME" => Function::Other,
        name if sluice_functions::is_aggregate(name) => Function::Other,
        _ => Function::Scalar,
    }
}

impl ExprBinder<'_, '_> {
    /// The slot that an expression is as a whole; `None` if it must be looked into.
    pub(super) fn match_reference(&mut self, e: &ast::Expr) -> Result<Option<Expr>> {
        let Some(matching) = &self.matching else { return Ok(None) };
        if let Some(f) = walk::as_call(e) {
            match function(f) {
                Function::Other => return self.match_function(f).map(Some),
                Function::Final if matching.defining.is_some() => {
                    return Err(Error::plan("FINAL is not allowed in DEFINE").at(f.span));
                }
                Function::Final => {
                    let Some(arg) = walk::args(f).next() else { return Err(Error::plan("FINAL needs an argument").at(f.span)) };
                    return self.bind(arg).map(Some);
                }
                _ => {}
            }
        }
        let mut reads = Reads::default();
        matching.reads(e, &mut reads)?;
        let ([row], false) = (reads.rows.as_slice(), reads.other) else { return Ok(None) };
        let exists = matching.exists(row);
        let reference =
            matches!(e.kind, ast::ExprKind::Name(_)) || walk::as_call(e).is_some_and(|f| matches!(function(f), Function::Navigate { .. }));
        if !(reference || exists || is_strict(e)) {
            return Ok(None);
        }
        let scope = row_scope(&matching.variables.input, row.alias.as_deref());
        let mut rows = self.row_binder(&scope);
        let mut arg = match rows.bind(e) {
            Ok(arg) => arg,
            Err(e) if reference => return Err(e),
            // Its parts give the better message.
            Err(_) => return Ok(None),
        };
        if !arg.is_deterministic() && !reference {
            return Ok(None);
        }
        let ty = arg.ty.with_nullable(arg.ty.nullable || !exists);
        if row.variables == [UNMATCHED] {
            return Ok(Some(Expr::null(ty)));
        }
        arg.ty = ty.clone();
        let kind = MatchSlotKind::Navigate { variables: row.variables.clone(), last: row.last, offset: row.offset, arg };
        Ok(Some(self.slot(MatchSlot { kind, ty })))
    }

    /// A binder over the input's rows.
    fn row_binder<'s>(&'s self, scope: &'s Scope) -> ExprBinder<'s, 's> {
        let schema = self.matching.as_ref().map_or_else(|| self.schema.clone(), |m| m.variables.input.clone());
        let mut rows = ExprBinder::new(self.binder, self.env, scope, schema);
        rows.single_row = true;
        rows
    }

    fn slot(&mut self, slot: MatchSlot) -> Expr {
        let ty = slot.ty.clone();
        let Some(matching) = &mut self.matching else { return Expr::null(ty) };
        let at = matching.slots.iter().position(|s| same_slot(s, &slot)).unwrap_or_else(|| {
            matching.slots.push(slot);
            matching.slots.len() - 1
        });
        Expr::column(at, ty)
    }

    /// Aggregates over a variable's rows and functions of the match.
    fn match_function(&mut self, f: &FunctionCall) -> Result<Expr> {
        let Some(matching) = &self.matching else { return Err(Error::plan(format!("{} needs MATCH_RECOGNIZE", f.name)).at(f.span)) };
        let variables = matching.variables;
        match f.name.object().to_uppercase().as_str() {
            "MATCH_ROWTIME" => {
                let ty = variables.input[variables.time].ty.as_not_null();
                return Ok(self.slot(MatchSlot { kind: MatchSlotKind::Rowtime, ty }));
            }
            "MATCH_PROCTIME" => {
                let ty = sluice_batch::TypeKind::TimestampLtz(3).not_null();
                return Ok(self.slot(MatchSlot { kind: MatchSlotKind::Proctime, ty }));
            }
            "PREV" | "NEXT" => return Err(Error::plan("Flink does not support physical offsets within partition.").at(f.span)),
            name @ ("CLASSIFIER" | "MATCH_NUMBER" | "RUNNING") => return Err(unsupported(format!("{name} in MATCH_RECOGNIZE"), f.span)),
            _ => {}
        }
        if f.distinct {
            return Err(Error::plan(format!("DISTINCT/ALL not allowed with {} function in MATCH_RECOGNIZE", f.name)).at(f.span));
        }
        if f.filter.is_some() {
            return Err(unsupported("FILTER in MATCH_RECOGNIZE", f.span));
        }
        let args: Vec<&ast::Expr> = walk::args(f).collect();
        let nested = |e: &ast::Expr| walk::as_call(e).is_some_and(|c| !matches!(function(c), Function::Scalar));
        if args.iter().any(|a| walk::any(a, &nested)) {
            return Err(Error::plan(format!("{} cannot contain aggregates or navigation", f.name)).at(f.span));
        }
        let row = matching.single(&args, f.name.object(), f.span)?;
        if row.as_ref().is_some_and(|r| r.variables == [UNMATCHED]) {
            return Err(unsupported("an aggregate over a variable that is not in the pattern", f.span));
        }
        let alias = row.as_ref().and_then(|r| r.alias.clone());
        let scope = row_scope(&variables.input, alias.as_deref());
        let bound = bind_call(&mut self.row_binder(&scope), f, true)?;
        let mut exprs = Vec::new();
        let call = place(bound, f.name.object().to_lowercase(), &mut |e| build::intern(&mut exprs, e));
        let ty = call.ty.clone();
        let variables = row.filter(|r| r.alias.is_some()).map(|r| r.variables).unwrap_or_default();
        Ok(self.slot(MatchSlot { kind: MatchSlotKind::Aggregate { variables, call, args: exprs }, ty }))
    }
}

/// The input's columns, qualified by one variable.
fn row_scope(input: &Schema, alias: Option<&str>) -> Scope {
    let mut scope = Scope::table(alias, input);
    if alias.is_none() {
        scope.tables.iter_mut().for_each(|t: &mut ScopeTable| t.alias = None);
    }
    scope
}

fn same_slot(a: &MatchSlot, b: &MatchSlot) -> bool {
    use MatchSlotKind as K;
    let same_all = |x: &[Expr], y: &[Expr]| x.len() == y.len() && x.iter().zip(y).all(|(x, y)| build::same(x, y));
    match (&a.kind, &b.kind) {
        (K::Navigate { variables: v, last: l, offset: o, arg: x }, K::Navigate { variables: w, last: m, offset: p, arg: y }) => {
            v == w && l == m && o == p && build::same(x, y)
        }
        (K::Aggregate { variables: v, call: c, args: x }, K::Aggregate { variables: w, call: d, args: y }) => {
            v == w && c.args == d.args && same_all(x, y) && format!("{:?}", c.function) == format!("{:?}", d.function)
        }
        (K::Rowtime, K::Rowtime) | (K::Proctime, K::Proctime) => true,
        _ => false,
    }
}

/// Functions that give NULL for NULL, as far as it is worth knowing here.
const STRICT: [&str; 44] = [
    "UPPER",
    "LOWER",
    "TRIM",
    "LTRIM",
    "RTRIM",
    "BTRIM",
    "SUBSTRING",
    "SUBSTR",
    "CHAR_LENGTH",
    "CHARACTER_LENGTH",
    "ABS",
    "ROUND",
    "FLOOR",
    "CEIL",
    "CEILING",
    "TRUNCATE",
    "MOD",
    "POWER",
    "SQRT",
    "LN",
    "LOG10",
    "EXP",
    "SIGN",
    "EXTRACT",
    "YEAR",
    "QUARTER",
    "MONTH",
    "WEEK",
    "DAYOFYEAR",
    "DAYOFMONTH",
    "DAYOFWEEK",
    "HOUR",
    "MINUTE",
    "SECOND",
    "TIMESTAMPADD",
    "TIMESTAMPDIFF",
    "DATE_FORMAT",
    "REPLACE",
    "POSITION",
    "INITCAP",
    "CARDINALITY",
    "REGEXP_EXTRACT",
    "FIRST",
    "LAST",
];

/// Whether an expression is NULL when all columns in it are.
fn is_strict(e: &ast::Expr) -> bool {
    use ast::ExprKind as K;
    match &e.kind {
        K::Name(_) => true,
        K::Cast { expr, .. }
        | K::Field { expr, .. }
        | K::Index { expr, .. }
        | K::Between { expr, .. }
        | K::InList { expr, .. }
        | K::Like { expr, .. }
        | K::SimilarTo { expr, .. } => is_strict(expr),
        K::Unary { op: UnaryOp::Minus | UnaryOp::Plus | UnaryOp::Not, expr } => is_strict(expr),
        K::Binary { op, left, right } => *op != BinaryOp::Overlaps && (is_strict(left) || is_strict(right)),
        K::And(operands) | K::Or(operands) => operands.iter().all(is_strict),
        K::Function(f) => STRICT.contains(&f.name.object().to_uppercase().as_str()) && walk::args(f).any(is_strict),
        _ => false,
    }
}
