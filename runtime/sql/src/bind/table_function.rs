//! Table functions in FROM: window TVFs, TO_CHANGELOG, FROM_CHANGELOG, SNAPSHOT. Those of rules are in [`super::rules`].

use sluice_batch::{Datum, Error, Expr, Result, Span, TypeKind};

use super::expr::ExprBinder;
use super::from::FromContext;
use super::scope::{Bound, Scope};
use super::window::{assign, descriptor, is_window_function};
use super::{Binder, build, constant, did_you_mean, unsupported};
use crate::ast::{self, ArgValue, FunctionCall};
use crate::relation::{ColumnDef, Rel, RelKind, TableArg};

const ROW_KINDS: [&str; 4] = ["INSERT", "UPDATE_BEFORE", "UPDATE_AFTER", "DELETE"];

impl Binder<'_> {
    pub(super) fn table_function(&self, call: &FunctionCall, cx: FromContext<'_>) -> Result<Bound> {
        let name = call.name.object().to_uppercase();
        let rel = match name.as_str() {
            _ if is_window_function(&name) => return self.window_function(call, cx),
            "TO_CHANGELOG" => self.write_changelog(call, cx)?,
            "FROM_CHANGELOG" => self.read_changelog(call, cx)?,
            "SNAPSHOT" => self.snapshot(call, cx)?,
            _ if super::rules::is_rule_function(&name) => self.rule_function(&name, call, cx)?,
            _ => {
                let known = ["TUMBLE", "HOP", "CUMULATE", "SESSION", "UNNEST", "TO_CHANGELOG", "FROM_CHANGELOG", "SNAPSHOT"];
                let error = unsupported(format!("the table function {}", call.name), call.span);
                return Err(did_you_mean(error, &name, known.into_iter().chain(super::rules::FUNCTIONS)));
            }
        };
        let scope = Scope::table(None, &rel.schema);
        Ok(Bound { rel, scope })
    }

    /// Output: partition columns, the operation, the other columns (Flink: `ToChangelogTypeStrategy`).
    fn write_changelog(&self, call: &FunctionCall, cx: FromContext<'_>) -> Result<Rel> {
        let args = assign(call, "TO_CHANGELOG", &["input", "op", "op_mapping", "produces_full_deletes"])?;
        let (input, keys) = self.table_argument(args[0], call, cx)?;
        let op = op_name(args[1], "TO_CHANGELOG", call)?;
        let mut out = vec![("op".to_string(), TableArg::Descriptor(vec![op.clone()]))];
        if let Some(mapping) = self.map_argument(args[2], call, cx)? {
            check_kinds(mapping.iter().map(|(k, _)| k), true, call.span)?;
            out.push(("op_mapping".into(), TableArg::Map(mapping)));
        }
        let mut full_deletes = true;
        if let Some((value, ty)) = self.value_argument(args[3], call, cx)? {
            full_deletes = value.as_bool().ok_or_else(|| Error::plan("produces_full_deletes must be TRUE or FALSE").at(call.span))?;
            out.push(("produces_full_deletes".into(), TableArg::Value(value, ty)));
        }
        let others = input.schema.iter().enumerate().filter(|(i, _)| !keys.contains(i)).map(|(_, c)| ColumnDef {
            // A partial delete has NULLs in them.
            ty: c.ty.with_nullable(c.ty.nullable || !full_deletes),
            ..c.clone()
        });
        let mut columns: Vec<ColumnDef> = keys.iter().map(|k| input.schema[*k].clone()).collect();
        columns.push(build::column(op, TypeKind::STRING.nullable(), None));
        columns.extend(others);
        Ok(self.call_rel("TO_CHANGELOG", input, keys, out, columns, call.span))
    }

    /// Output: partition columns, then the others without the operation (Flink: `FromChangelogTypeStrategy`).
    fn read_changelog(&self, call: &FunctionCall, cx: FromContext<'_>) -> Result<Rel> {
        let args = assign(call, "FROM_CHANGELOG", &["input", "op", "op_mapping", "error_handling"])?;
        let (input, keys) = self.table_argument(args[0], call, cx)?;
        let op = op_name(args[1], "FROM_CHANGELOG", call)?;
        let Some(op_column) = input.schema.iter().position(|c| c.name == op) else {
            let error = Error::plan(format!("The op column '{op}' does not exist in the input table")).at(call.span);
            return Err(did_you_mean(error, &op, input.schema.iter().map(|c| c.name.as_str())));
        };
        if !input.schema[op_column].ty.kind.is_character() {
            return Err(
                Error::plan(format!("The op column '{op}' must be of STRING type, but is {}", input.schema[op_column].ty)).at(call.span)
            );
        }
        let mut out = vec![("op".to_string(), TableArg::Descriptor(vec![op]))];
        if let Some(mapping) = self.map_argument(args[2], call, cx)? {
            check_kinds(mapping.iter().map(|(_, v)| v), false, call.span)?;
            check_codes(&mapping, call.span)?;
            out.push(("op_mapping".into(), TableArg::Map(mapping)));
        }
        if let Some((value, ty)) = self.value_argument(args[3], call, cx)? {
            if !matches!(value.as_str(), Some("FAIL" | "SKIP")) {
                return Err(Error::plan("Invalid value for argument 'error_handling': it must be 'FAIL' or 'SKIP'").at(call.span));
            }
            out.push(("error_handling".into(), TableArg::Value(value, ty)));
        }
        let rest = (0..input.schema.len()).filter(|i| !keys.contains(i) && *i != op_column);
        let columns = keys.iter().copied().chain(rest).map(|i| input.schema[i].clone()).collect();
        Ok(self.call_rel("FROM_CHANGELOG", input, keys, out, columns, call.span))
    }

    /// `JOIN LATERAL TABLE(SNAPSHOT(…))`: the planner makes a join of it. Time attributes become plain (Flink:
    /// `LateralSnapshotTypeStrategy`).
    fn snapshot(&self, call: &FunctionCall, cx: FromContext<'_>) -> Result<Rel> {
        let names = ["input", "load_completed_condition", "load_completed_time", "load_completed_idle_timeout", "state_ttl"];
        let args = assign(call, "SNAPSHOT", &names)?;
        let (input, keys) = self.table_argument(args[0], call, cx)?;
        if !keys.is_empty() {
            return Err(Error::plan("the input of SNAPSHOT takes no PARTITION BY").at(call.span));
        }
        let mut out = Vec::new();
        for (name, arg) in names.iter().zip(&args).skip(1) {
            if let Some((value, ty)) = self.value_argument(*arg, call, cx)? {
                out.push(((*name).to_string(), TableArg::Value(value, ty)));
            }
        }
        let value = |name: &str| out.iter().find(|(n, _)| n == name);
        let user_time = match value("load_completed_condition") {
            Some((_, TableArg::Value(Datum::String(s), _))) if **s == *"user_time" => true,
            None => false,
            Some((_, TableArg::Value(Datum::String(s), _))) if **s == *"compile_time" => false,
            Some(_) => {
                return Err(
                    Error::plan("Argument 'load_completed_condition' of SNAPSHOT must be one of 'compile_time', 'user_time'").at(call.span)
                );
            }
        };
        match (user_time, value("load_completed_time").is_some()) {
            (true, false) => {
                return Err(
                    Error::plan("SNAPSHOT requires 'load_completed_time' when 'load_completed_condition' is 'user_time'.").at(call.span)
                );
            }
            (false, true) => {
                return Err(Error::plan(
                    "SNAPSHOT does not accept 'load_completed_time' when 'load_completed_condition' is not 'user_time'.",
                )
                .at(call.span));
            }
            _ => {}
        }
        let columns = input.schema.iter().map(|c| ColumnDef { time: None, ..c.clone() }).collect();
        Ok(self.call_rel("SNAPSHOT", input, keys, out, columns, call.span))
    }

    fn call_rel(
        &self,
        name: &str,
        input: Rel,
        keys: Vec<usize>,
        mut args: Vec<(String, TableArg)>,
        columns: Vec<ColumnDef>,
        span: Span,
    ) -> Rel {
        if !keys.is_empty() {
            args.push(("partition_by".into(), TableArg::Partition { input: 0, keys }));
        }
        build::rel(RelKind::TableFunction { name: name.to_string(), inputs: vec![input], args }, columns, span)
    }

    fn constant_argument(&self, e: &ast::Expr, cx: FromContext<'_>) -> Result<Expr> {
        let scope = Scope::default();
        ExprBinder::new(self, cx.env, &scope, super::expr::schema(vec![])).bind(e)
    }

    fn value_argument(
        &self,
        arg: Option<&ArgValue>,
        call: &FunctionCall,
        cx: FromContext<'_>,
    ) -> Result<Option<(Datum, sluice_batch::SqlType)>> {
        match arg {
            None => Ok(None),
            Some(ArgValue::Expr(e)) => {
                let bound = self.constant_argument(e, cx)?;
                let value = constant(&bound).or_else(|| self.session_constant(&bound));
                let value = value.ok_or_else(|| Error::plan(format!("{} needs constants", call.name)).at(e.span))?;
                Ok((!value.is_null()).then_some((value, bound.ty)))
            }
            Some(_) => Err(Error::plan(format!("{} takes a value here", call.name)).at(call.span)),
        }
    }

    /// The value of an expression that hangs on the session's time zone only.
    fn session_constant(&self, e: &Expr) -> Option<Datum> {
        let mut columns = false;
        e.walk(&mut |e| columns |= e.as_column().is_some());
        if columns || !e.is_deterministic() {
            return None;
        }
        let mut cx = sluice_batch::EvalContext::default();
        if let Some(zone) = self.catalog.settings.get("table.local-time-zone") {
            cx.time_zone = zone.parse().ok()?;
        }
        let value = e.eval(&sluice_batch::Batch::new(vec![], 1), &cx).ok()?;
        Some(sluice_batch::datum::from_array(value.array().as_ref(), 0, &e.ty))
    }

    /// `MAP['a', 'b', …]` of strings.
    fn map_argument(&self, arg: Option<&ArgValue>, call: &FunctionCall, cx: FromContext<'_>) -> Result<Option<Vec<(String, String)>>> {
        let Some(arg) = arg else { return Ok(None) };
        let error = || Error::plan("The 'op_mapping' argument must be a constant MAP literal.").at(call.span);
        let ArgValue::Expr(ast::Expr { kind: ast::ExprKind::Map(entries), .. }) = arg else { return Err(error()) };
        let text = |e: &ast::Expr| constant(&self.constant_argument(e, cx)?).and_then(|d| d.as_str().map(str::to_string)).ok_or_else(error);
        entries.iter().map(|(k, v)| Ok((text(k)?, text(v)?))).collect::<Result<Vec<_>>>().map(Some)
    }
}

/// The operation's column; `op` unless a descriptor names it.
fn op_name(arg: Option<&ArgValue>, name: &str, call: &FunctionCall) -> Result<String> {
    match arg {
        None => Ok("op".to_string()),
        Some(_) => Ok(descriptor(arg, name, call)?.name.clone()),
    }
}

/// Row kinds in a mapping, each a comma-separated list when `lists`; none twice.
fn check_kinds<'m>(kinds: impl Iterator<Item = &'m String>, lists: bool, span: Span) -> Result<()> {
    let mut seen: Vec<&str> = Vec::new();
    for text in kinds {
        let names: Vec<&str> = if lists { text.split(',').map(str::trim).collect() } else { vec![text.trim()] };
        for name in names {
            if !ROW_KINDS.contains(&name) {
                return Err(Error::plan(format!(
                    "Invalid target mapping for argument 'op_mapping'. Unknown change operation: '{name}'. Operations are case-sensitive. \
                     Valid values are: {}.",
                    ROW_KINDS.join(", ")
                ))
                .at(span));
            }
            if seen.contains(&name) {
                return Err(Error::plan(format!(
                    "Invalid target mapping for argument 'op_mapping'. Duplicate change operation: '{name}'."
                ))
                .at(span));
            }
            seen.push(name);
        }
    }
    Ok(())
}

/// Codes in a FROM_CHANGELOG mapping: none twice.
fn check_codes(mapping: &[(String, String)], span: Span) -> Result<()> {
    let mut seen: Vec<&str> = Vec::new();
    for code in mapping.iter().flat_map(|(k, _)| k.split(',').map(str::trim)) {
        if seen.contains(&code) {
            return Err(
                Error::plan(format!("Invalid target mapping for argument 'op_mapping'. Duplicate operation code: '{code}'.")).at(span)
            );
        }
        seen.push(code);
    }
    Ok(())
}
