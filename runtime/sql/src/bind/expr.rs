//! Scalar expressions.

use std::collections::HashMap;
use std::sync::Arc;

use sluice_batch::{Error, Expr, ExprKind, Result, Span, SqlType, TypeKind};
use sluice_functions::{Call, JsonBehavior, JsonClauses};

use super::match_expr::Matching;
use super::scope::{self, Scope};
use super::{Binder, Env, OUTER, build, constant, literal, unsupported, walk};
use crate::ast::{self, BinaryOp, FunctionCall, Ident, IsTest, Literal, UnaryOp};
use crate::relation::{Rel, Schema};

/// Binds expressions over one relation.
pub(super) struct ExprBinder<'b, 'a> {
    pub binder: &'b Binder<'a>,
    pub env: &'b Env,
    pub scope: &'b Scope,
    pub schema: Schema,
    /// The relation, where subqueries may be joined to it.
    pub input: Option<Rel>,
    /// Calls whose value is a column already: aggregates, window functions.
    pub prebound: HashMap<*const FunctionCall, Expr>,
    /// Above a GROUP BY: only keys may be named.
    pub grouped: Option<Grouped<'b>>,
    /// In MATCH_RECOGNIZE: names are rows of variables.
    pub matching: Option<Matching<'b>>,
    /// Over the rows of one variable: FIRST and LAST have been taken off.
    pub single_row: bool,
}

/// The keys of a GROUP BY, over the aggregate's input and as columns of its output.
pub(super) struct Grouped<'b> {
    pub scope: &'b Scope,
    pub schema: Schema,
    pub keys: Vec<(Expr, Expr)>,
    /// With several grouping sets keys can become NULL, so types above them must be found anew.
    pub several_sets: bool,
}

impl Grouped<'_> {
    /// The expression with keys replaced by their columns; `None` if other columns remain.
    fn rewrite(&self, e: &Expr) -> Option<Expr> {
        if let Some((_, column)) = self.keys.iter().find(|(k, _)| build::same(k, e)) {
            return Some(column.clone());
        }
        if matches!(e.kind, ExprKind::Column(_)) || (self.several_sets && !e.children().is_empty()) {
            return None;
        }
        let mut copy = e.clone();
        for child in copy.children_mut() {
            *child = self.rewrite(child)?;
        }
        Some(copy)
    }
}

impl<'b, 'a> ExprBinder<'b, 'a> {
    pub fn new(binder: &'b Binder<'a>, env: &'b Env, scope: &'b Scope, schema: Schema) -> Self {
        Self { binder, env, scope, schema, input: None, prebound: HashMap::new(), grouped: None, matching: None, single_row: false }
    }

    /// Binds over a relation that subqueries can be joined to; take it back with [`Self::take_input`].
    pub fn over(binder: &'b Binder<'a>, env: &'b Env, scope: &'b Scope, input: Rel) -> Self {
        let mut this = Self::new(binder, env, scope, input.schema.clone());
        this.input = Some(input);
        this
    }

    /// The relation with what subqueries added to it on the right.
    pub fn take_input(&mut self) -> Result<Rel> {
        self.input.take().ok_or_else(|| Error::plan("no relation to bind over"))
    }

    pub fn bind(&mut self, e: &ast::Expr) -> Result<Expr> {
        if let Some(done) = self.intercept(e).map_err(|err| err.at(e.span))? {
            return Ok(done);
        }
        self.bind_kind(e).map_err(|err| err.at(e.span))
    }

    pub fn bind_all(&mut self, list: &[ast::Expr]) -> Result<Vec<Expr>> {
        list.iter().map(|e| self.bind(e)).collect()
    }

    /// A BOOLEAN expression; `clause` names it in the error.
    pub fn condition(&mut self, e: &ast::Expr, clause: &str) -> Result<Expr> {
        let bound = self.bind(e)?;
        match bound.ty.kind {
            TypeKind::Boolean => Ok(bound),
            TypeKind::Null => Ok(Expr::null(TypeKind::Boolean.nullable())),
            _ => Err(Error::plan(format!("{clause} clause must be a condition, but is {}", bound.ty.kind)).at(e.span)),
        }
    }

    /// What the surroundings say about an expression before it is looked into.
    fn intercept(&mut self, e: &ast::Expr) -> Result<Option<Expr>> {
        if let Some(call) = walk::as_call(e)
            && let Some(done) = self.prebound.get(&std::ptr::from_ref(call))
        {
            return Ok(Some(done.clone()));
        }
        if self.matching.is_some() {
            return self.match_reference(e);
        }
        if self.single_row
            && let Some(call) = walk::as_call(e)
            && matches!(call.name.object().to_uppercase().as_str(), "FIRST" | "LAST" | "FINAL")
            && let Some(arg) = walk::args(call).next()
        {
            return self.bind(arg).map(Some);
        }
        let Some(grouped) = &self.grouped else { return Ok(None) };
        let prebound = &self.prebound;
        let is_prebound = |e: &ast::Expr| walk::as_call(e).is_some_and(|c| prebound.contains_key(&std::ptr::from_ref(c)));
        if walk::has_subquery(e) || walk::any(e, &is_prebound) {
            return Ok(None);
        }
        let plain = ExprBinder::new(self.binder, self.env, grouped.scope, grouped.schema.clone()).bind(e);
        let ast::ExprKind::Name(name) = &e.kind else {
            // What does not match as a whole may match in parts; errors show up there.
            return Ok(plain.ok().and_then(|p| grouped.rewrite(&p)));
        };
        let plain = plain?;
        match grouped.rewrite(&plain) {
            Some(key) => Ok(Some(key)),
            None => {
                let text = name.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(".");
                Err(Error::plan(format!("Expression '{text}' is not being grouped"))
                    .hint("name it in GROUP BY, or put it into an aggregate function"))
            }
        }
    }

    fn bind_kind(&mut self, e: &ast::Expr) -> Result<Expr> {
        use ast::ExprKind as K;
        let span = e.span;
        match &e.kind {
            K::Literal(l) => literal::bind(l, span),
            K::Name(parts) => self.name(parts, span),
            K::Field { expr, field } => scope::fields(self.bind(expr)?, std::slice::from_ref(field)),
            K::Index { expr, index } => {
                let args = vec![self.bind(expr)?, self.bind(index)?];
                item(args, span)
            }
            K::Unary { op, expr } => self.unary(*op, expr, span),
            K::Binary { op, left, right } => self.binary(*op, left, right, span),
            K::And(operands) => self.connective(operands, true),
            K::Or(operands) => self.connective(operands, false),
            K::Is { expr, test, negated } => self.is(expr, *test, *negated, span),
            K::IsDistinctFrom { left, right, negated } => {
                let args = vec![self.bind(left)?, self.bind(right)?];
                Ok(negate(call("IS DISTINCT FROM", args, span)?, *negated))
            }
            K::Between { expr, low, high, negated, symmetric } => {
                let (e, low, high) = (self.bind(expr)?, self.bind(low)?, self.bind(high)?);
                Ok(negate(between(&e, &low, &high, *symmetric, span)?, *negated))
            }
            K::InList { expr, list, negated } => {
                let mut args = vec![self.bind(expr)?];
                args.extend(self.bind_all(list)?);
                Ok(negate(call("IN", args, span)?, *negated))
            }
            K::Like { expr, pattern, escape, negated } => self.pattern("LIKE", expr, pattern, escape.as_deref(), *negated, span),
            K::SimilarTo { expr, pattern, escape, negated } => self.pattern("SIMILAR TO", expr, pattern, escape.as_deref(), *negated, span),
            K::IsJson { expr, kind, negated } => {
                let name = format!("IS JSON {}", kind.as_deref().unwrap_or("VALUE").to_uppercase());
                let arg = self.bind(expr)?;
                Ok(negate(call(&name, vec![arg], span)?, *negated))
            }
            K::Case { operand, branches, otherwise } => self.case(operand.as_deref(), branches, otherwise.as_deref(), span),
            K::Cast { expr, ty, try_cast } => self.cast(expr, ty, *try_cast, span),
            K::Row(items) => call("ROW", self.bind_all(items)?, span),
            K::Array(items) => call("ARRAY", self.bind_all(items)?, span),
            K::Map(entries) => {
                let mut args = Vec::with_capacity(entries.len() * 2);
                for (k, v) in entries {
                    args.push(self.bind(k)?);
                    args.push(self.bind(v)?);
                }
                call("MAP", args, span)
            }
            K::Function(call) => self.function(call),
            K::InSubquery { expr, query, negated } => Ok(negate(self.in_subquery(expr, query, span)?, *negated)),
            K::Exists { query, negated } => Ok(negate(self.exists_subquery(query, span)?, *negated)),
            K::ScalarSubquery(query) => self.scalar_subquery(query, span),
        }
    }

    fn name(&mut self, parts: &[Ident], span: Span) -> Result<Expr> {
        if let Some(e) = self.scope.resolve(parts, &self.schema)? {
            return Ok(e);
        }
        if let Some(outer) = &self.env.outer
            && let Some(e) = outer.scope.resolve(parts, &outer.schema)?
        {
            return Ok(e.map_columns(&|i, ty| Expr::column(i + OUTER, ty.clone())));
        }
        if let [one] = parts {
            let upper = one.name.to_uppercase();
            let niladic = ["CURRENT_TIMESTAMP", "CURRENT_DATE", "CURRENT_TIME", "LOCALTIME", "LOCALTIMESTAMP", "CURRENT_ROW_TIMESTAMP"];
            if niladic.contains(&upper.as_str()) {
                return call(&upper, vec![], span);
            }
        }
        Err(self.scope.not_found(parts))
    }

    fn unary(&mut self, op: UnaryOp, operand: &ast::Expr, span: Span) -> Result<Expr> {
        match op {
            UnaryOp::Not => {
                let e = self.condition(operand, "NOT")?;
                Ok(negate(e, true))
            }
            UnaryOp::Plus => {
                let e = self.bind(operand)?;
                if !(e.ty.kind.is_numeric() || e.ty.kind.is_interval()) {
                    return Err(Error::plan(format!("Cannot apply '+' to arguments of type '+<{}>'", e.ty.kind)).at(span));
                }
                Ok(e)
            }
            UnaryOp::Minus => {
                // -9223372036854775808 is a BIGINT though 9223372036854775808 is not.
                if let ast::ExprKind::Literal(Literal::Number(n)) = &operand.kind
                    && n.parse::<u64>() == Ok(1 << 63)
                {
                    return Ok(Expr::literal(sluice_batch::Datum::BigInt(i64::MIN), TypeKind::BigInt.not_null()));
                }
                let e = self.bind(operand)?;
                call("-", vec![e], span)
            }
        }
    }

    fn binary(&mut self, op: BinaryOp, left: &ast::Expr, right: &ast::Expr, span: Span) -> Result<Expr> {
        if op == BinaryOp::Overlaps {
            let (ast::ExprKind::Row(a), ast::ExprKind::Row(b)) = (&left.kind, &right.kind) else {
                return Err(Error::plan("OVERLAPS needs (start, end) on both sides").at(span));
            };
            let mut args = self.bind_all(a)?;
            args.extend(self.bind_all(b)?);
            return call("OVERLAPS", args, span);
        }
        let args = vec![self.bind(left)?, self.bind(right)?];
        call(op.symbol(), args, span)
    }

    fn connective(&mut self, operands: &[ast::Expr], all: bool) -> Result<Expr> {
        let operands = operands.iter().map(|o| self.condition(o, if all { "AND" } else { "OR" })).collect::<Result<Vec<_>>>()?;
        Ok(if all { Expr::and(operands) } else { or(operands) })
    }

    fn is(&mut self, e: &ast::Expr, test: IsTest, negated: bool, span: Span) -> Result<Expr> {
        let name = match test {
            IsTest::Null => {
                let inner = Box::new(self.bind(e)?);
                let kind = if negated { ExprKind::IsNotNull(inner) } else { ExprKind::IsNull(inner) };
                return Ok(Expr { kind, ty: TypeKind::Boolean.not_null() });
            }
            IsTest::True => "IS TRUE",
            IsTest::False => "IS FALSE",
            IsTest::Unknown => "IS UNKNOWN",
        };
        let arg = self.condition(e, name)?;
        Ok(negate(call(name, vec![arg], span)?, negated))
    }

    fn pattern(
        &mut self,
        name: &str,
        e: &ast::Expr,
        pattern: &ast::Expr,
        escape: Option<&ast::Expr>,
        negated: bool,
        span: Span,
    ) -> Result<Expr> {
        let mut args = vec![self.bind(e)?, self.bind(pattern)?];
        if let Some(escape) = escape {
            args.push(self.bind(escape)?);
        }
        Ok(negate(call(name, args, span)?, negated))
    }

    fn case(
        &mut self,
        operand: Option<&ast::Expr>,
        branches: &[(ast::Expr, ast::Expr)],
        otherwise: Option<&ast::Expr>,
        span: Span,
    ) -> Result<Expr> {
        let operand = operand.map(|o| self.bind(o)).transpose()?;
        let mut conditions = Vec::with_capacity(branches.len());
        let mut results = Vec::with_capacity(branches.len() + 1);
        for (when, then) in branches {
            conditions.push(match &operand {
                Some(o) => {
                    let value = self.bind(when)?;
                    call("=", vec![o.clone(), value], when.span)?
                }
                None => self.condition(when, "WHEN")?,
            });
            results.push((self.bind(then)?, then.span));
        }
        let otherwise = match otherwise {
            Some(e) => (self.bind(e)?, e.span),
            None => (Expr::null(TypeKind::Null.nullable()), span),
        };
        results.push(otherwise);
        let types: Vec<SqlType> = results.iter().map(|(e, _)| e.ty.clone()).collect();
        if types.iter().all(|t| t.kind == TypeKind::Null) {
            return Err(Error::plan("ELSE clause or at least one THEN clause must be non-NULL").at(span));
        }
        let Some(mut ty) = sluice_functions::common_type(&types) else {
            let list = types.iter().map(|t| t.kind.to_string()).collect::<Vec<_>>().join(", ");
            return Err(Error::plan(format!("Illegal mixing of types in CASE: {list}")).at(span));
        };
        ty.nullable |= types.iter().any(|t| t.nullable);
        let mut results = results.into_iter().map(|(e, s)| coerce(e, &ty, s)).collect::<Result<Vec<_>>>()?;
        let otherwise = Box::new(results.pop().unwrap_or_else(|| Expr::null(ty.clone())));
        Ok(Expr { kind: ExprKind::Case { branches: conditions.into_iter().zip(results).collect(), otherwise }, ty })
    }

    fn cast(&mut self, e: &ast::Expr, ty: &SqlType, try_cast: bool, span: Span) -> Result<Expr> {
        let inner = self.bind(e)?;
        let ty = ty.with_nullable(inner.ty.nullable || try_cast);
        if inner.ty.kind == TypeKind::Null {
            return Ok(Expr::null(ty));
        }
        sluice_functions::cast(inner, &ty, try_cast, span)
    }

    fn function(&mut self, f: &FunctionCall) -> Result<Expr> {
        let name = f.name.object();
        if f.over.is_some() {
            return Err(Error::plan(format!("{name} OVER (…) is not allowed here")).at(f.span));
        }
        if sluice_functions::is_aggregate(name) {
            return Err(Error::plan(format!("Aggregate expression {name} is illegal here")).at(f.span));
        }
        if !sluice_functions::is_scalar(name) {
            return Err(match super::over::is_window_function(name) {
                true => Error::plan(format!("{name} needs an OVER clause")).at(f.span),
                false => sluice_functions::unknown_function(name).at(f.span),
            });
        }
        if f.star || f.distinct || f.filter.is_some() || !f.order_by.is_empty() || f.ignore_nulls.is_some() {
            return Err(Error::plan(format!("{name} is not an aggregate function")).at(f.span));
        }
        let (args, symbols) = self.arguments(f)?;
        let json = self.json(&f.json)?;
        sluice_functions::bind(Call { name, args, symbols, json, span: f.span })
    }

    /// A call's arguments, and which of them are keywords.
    pub fn arguments(&mut self, f: &FunctionCall) -> Result<(Vec<Expr>, Vec<Option<String>>)> {
        let (mut args, mut symbols) = (Vec::new(), Vec::new());
        for arg in &f.args {
            let ast::ArgValue::Expr(e) = &arg.value else {
                return Err(Error::plan(format!("{} takes no table or descriptor here", f.name)).at(f.span));
            };
            if let Some(name) = &arg.name {
                return Err(unsupported(format!("the named argument '{}' of {}", name.name, f.name), name.span));
            }
            symbols.push(match &e.kind {
                ast::ExprKind::Literal(Literal::Symbol(s)) => Some(s.clone()),
                _ => None,
            });
            args.push(self.bind(e)?);
        }
        Ok((args, symbols))
    }

    pub fn json(&mut self, clauses: &ast::JsonClauses) -> Result<JsonClauses> {
        let mut behavior = |b: &Option<ast::JsonBehavior>| -> Result<Option<JsonBehavior>> {
            use ast::JsonBehavior as B;
            Ok(Some(match b {
                None => return Ok(None),
                Some(B::Null) => JsonBehavior::Null,
                Some(B::Error) => JsonBehavior::Error,
                Some(B::True) => JsonBehavior::True,
                Some(B::False) => JsonBehavior::False,
                Some(B::Unknown) => JsonBehavior::Unknown,
                Some(B::EmptyArray) => JsonBehavior::EmptyArray,
                Some(B::EmptyObject) => JsonBehavior::EmptyObject,
                Some(B::Default(e)) => {
                    let bound = self.bind(e)?;
                    let value = constant(&bound).ok_or_else(|| unsupported("a DEFAULT that is not constant", e.span))?;
                    JsonBehavior::Default(value, bound.ty)
                }
            }))
        };
        Ok(JsonClauses {
            on_empty: behavior(&clauses.on_empty)?,
            on_error: behavior(&clauses.on_error)?,
            returning: clauses.returning.clone(),
            null_on_null: clauses.null_on_null,
            wrapper: clauses.wrapper.clone(),
        })
    }
}

/// A call of a function or operator.
pub(super) fn call(name: &str, args: Vec<Expr>, span: Span) -> Result<Expr> {
    let symbols = vec![None; args.len()];
    sluice_functions::bind(Call { name, args, symbols, json: JsonClauses::default(), span })
}

/// `row['field']` and `row[1]` are fields; the rest is the function.
fn item(args: Vec<Expr>, span: Span) -> Result<Expr> {
    if let [row, index] = args.as_slice()
        && let TypeKind::Row(fields) = &row.ty.kind
    {
        let position = match constant(index) {
            Some(sluice_batch::Datum::String(s)) => fields.iter().position(|f| f.name == *s),
            Some(d) => d.as_i64().and_then(|i| usize::try_from(i - 1).ok()),
            None => return Err(Error::plan("a field of a ROW can only be accessed by a constant").at(span)),
        };
        return position
            .and_then(|i| sluice_functions::field::row_field(row.clone(), i))
            .ok_or_else(|| Error::plan(format!("{} has no such field", row.ty.kind)).at(span));
    }
    call("ITEM", args, span)
}

fn between(e: &Expr, low: &Expr, high: &Expr, symmetric: bool, span: Span) -> Result<Expr> {
    let range = |a: &Expr, b: &Expr| -> Result<Expr> {
        Ok(Expr::and(vec![call(">=", vec![e.clone(), a.clone()], span)?, call("<=", vec![e.clone(), b.clone()], span)?]))
    };
    if symmetric { Ok(or(vec![range(low, high)?, range(high, low)?])) } else { range(low, high) }
}

pub(super) fn or(mut operands: Vec<Expr>) -> Expr {
    match operands.len() {
        1 => operands.remove(0),
        _ => {
            let nullable = operands.iter().any(|e| e.ty.nullable);
            Expr { kind: ExprKind::Or(operands), ty: TypeKind::Boolean.with_nullable(nullable) }
        }
    }
}

pub(super) fn negate(e: Expr, negated: bool) -> Expr {
    if !negated {
        return e;
    }
    let ty = TypeKind::Boolean.with_nullable(e.ty.nullable);
    Expr { kind: ExprKind::Not(Box::new(e)), ty }
}

pub(super) fn is_null(e: Expr) -> Expr {
    Expr { kind: ExprKind::IsNull(Box::new(e)), ty: TypeKind::Boolean.not_null() }
}

pub(super) fn is_not_null(e: Expr) -> Expr {
    Expr { kind: ExprKind::IsNotNull(Box::new(e)), ty: TypeKind::Boolean.not_null() }
}

/// `e` as a value of a common type.
pub(super) fn coerce(e: Expr, ty: &SqlType, span: Span) -> Result<Expr> {
    if e.ty.kind == ty.kind {
        return Ok(e);
    }
    if e.ty.kind == TypeKind::Null {
        return Ok(Expr::null(ty.as_nullable()));
    }
    let to = ty.with_nullable(e.ty.nullable);
    sluice_functions::coerce(e, &to, span)
}

/// Shares a schema.
pub(super) fn schema(columns: Vec<crate::relation::ColumnDef>) -> Schema {
    Arc::new(columns)
}
