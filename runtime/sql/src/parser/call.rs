//! Function calls: arguments, the special forms of the standard's functions, and the clauses of aggregates.

use sluice_batch::{Error, Result, Span};

use super::Parser;
use super::expr::{empty_call, literal, precedence};
use crate::ast::{
    Arg, ArgValue, Expr, ExprKind, Frame, FrameBound, FunctionCall, JsonBehavior, Literal, ObjectName, Over, TableAlias, TableRef,
    WindowSpec,
};
use crate::keywords::closest;
use crate::lexer::TokenKind;

/// Units of EXTRACT, TIMESTAMPADD, TIMESTAMPDIFF, CEIL and FLOOR.
const TIME_UNITS: &[&str] = &[
    "NANOSECOND",
    "MICROSECOND",
    "MILLISECOND",
    "SECOND",
    "MINUTE",
    "HOUR",
    "DAY",
    "DOW",
    "ISODOW",
    "DOY",
    "WEEK",
    "MONTH",
    "QUARTER",
    "YEAR",
    "ISOYEAR",
    "EPOCH",
    "DECADE",
    "CENTURY",
    "MILLENNIUM",
];

impl Parser<'_> {
    /// A call from its opening parenthesis on. `plain` for a quoted or qualified name, which has no special forms; `table` in FROM,
    /// where a query as an argument is a table.
    pub(super) fn call(&mut self, name: ObjectName, plain: bool, table: bool) -> Result<FunctionCall> {
        let span = name.span();
        let upper = if plain { String::new() } else { name.object().to_ascii_uppercase() };
        let mut call = empty_call(name, span);
        self.nested(|p| {
            p.expect("(")?;
            p.arguments(&mut call, &upper, table)?;
            p.expect(")")?;
            p.call_clauses(&mut call)
        })?;
        Ok(call)
    }

    fn arguments(&mut self, call: &mut FunctionCall, upper: &str, table: bool) -> Result<()> {
        match upper {
            "EXTRACT" if self.is_word_at(1, "FROM") => {
                let unit = self.time_unit()?;
                self.expect_kw("FROM")?;
                let value = self.expr()?;
                push(call, [unit, value]);
                Ok(())
            }
            "TIMESTAMPADD" | "TIMESTAMPDIFF" => {
                let unit = self.time_unit()?;
                push(call, [unit]);
                while self.take(",") {
                    let value = self.expr()?;
                    push(call, [value]);
                }
                Ok(())
            }
            "CEIL" | "CEILING" | "FLOOR" => {
                let value = self.expr()?;
                push(call, [value]);
                if self.take_kw("TO") {
                    let unit = self.time_unit()?;
                    push(call, [unit]);
                    return Ok(());
                }
                self.more_expressions(call)
            }
            "TRIM" => self.trim(call),
            "SUBSTRING" => self.substring(call),
            "POSITION" => {
                let needle = self.expr_above(precedence::RANGE + 1)?;
                push(call, [needle]);
                if !self.take_kw("IN") {
                    return self.more_expressions(call);
                }
                let haystack = self.expr()?;
                push(call, [haystack]);
                self.clause_argument(call, "FROM")
            }
            "OVERLAY" => {
                let value = self.expr()?;
                push(call, [value]);
                if !self.is_kw("PLACING") {
                    return self.more_expressions(call);
                }
                self.clause_argument(call, "PLACING")?;
                if !self.is_kw("FROM") {
                    return Err(self.expected("FROM"));
                }
                self.clause_argument(call, "FROM")?;
                self.clause_argument(call, "FOR")
            }
            "JSON_VALUE" | "JSON_QUERY" | "JSON_EXISTS" => self.json_path_call(call, upper),
            "JSON_OBJECT" | "JSON_OBJECTAGG" => self.json_object(call),
            "JSON_ARRAY" if self.json_null_clause(call) => Ok(()),
            _ => self.plain_arguments(call, table),
        }
    }

    /// `KEYWORD expr`, if there.
    fn clause_argument(&mut self, call: &mut FunctionCall, keyword: &'static str) -> Result<()> {
        if self.take_kw(keyword) {
            let value = self.expr()?;
            push(call, [value]);
        }
        Ok(())
    }

    fn more_expressions(&mut self, call: &mut FunctionCall) -> Result<()> {
        while self.take(",") {
            let value = self.expr()?;
            push(call, [value]);
        }
        Ok(())
    }

    fn time_unit(&mut self) -> Result<Expr> {
        let span = self.span();
        if *self.kind() != TokenKind::Word {
            return Err(self.expected("a unit of time such as SECOND, MINUTE, HOUR or DAY"));
        }
        let word = self.here().to_ascii_uppercase();
        let unit = match word.as_str() {
            // ODBC's names
            "FRAC_SECOND" | "SQL_TSI_FRAC_SECOND" => "MICROSECOND",
            w => w.strip_prefix("SQL_TSI_").unwrap_or(w),
        };
        if !TIME_UNITS.contains(&unit) {
            let error =
                Error::plan(format!("found '{}', expected a unit of time such as SECOND, MINUTE, HOUR or DAY", self.here())).at(span);
            return Err(match closest(unit, TIME_UNITS.iter().copied()) {
                Some(known) => error.hint(format!("did you mean {known}?")),
                None => error,
            });
        }
        let symbol = literal(Literal::Symbol(unit.to_string()), span);
        self.advance();
        Ok(symbol)
    }

    /// `TRIM([BOTH|LEADING|TRAILING] [chars] FROM x)`, `TRIM(chars FROM x)`, `TRIM(x)`
    fn trim(&mut self, call: &mut FunctionCall) -> Result<()> {
        let span = self.span();
        let side = self.take_one_of(&["BOTH", "LEADING", "TRAILING"]);
        let symbol = literal(Literal::Symbol(side.unwrap_or("BOTH").to_string()), span);
        let blank = || literal(Literal::String(" ".into()), span);
        if side.is_some() && self.take_kw("FROM") {
            let value = self.expr()?;
            push(call, [symbol, blank(), value]);
            return Ok(());
        }
        let first = self.expr()?;
        if self.take_kw("FROM") {
            let value = self.expr()?;
            push(call, [symbol, first, value]);
            return Ok(());
        }
        if side.is_some() {
            push(call, [symbol, blank(), first]);
            return Ok(());
        }
        push(call, [first]);
        self.more_expressions(call)
    }

    /// `SUBSTRING(x FROM a [FOR b])`, `SUBSTRING(x FOR b)`, `SUBSTRING(x, a[, b])`
    fn substring(&mut self, call: &mut FunctionCall) -> Result<()> {
        let value = self.expr()?;
        push(call, [value]);
        if self.is_kw("FOR") {
            let one = literal(Literal::Number("1".into()), self.span());
            push(call, [one]);
        } else if self.is_kw("FROM") {
            self.clause_argument(call, "FROM")?;
        } else {
            return self.more_expressions(call);
        }
        self.clause_argument(call, "FOR")
    }

    fn plain_arguments(&mut self, call: &mut FunctionCall, table: bool) -> Result<()> {
        if self.is(")") {
            return Ok(());
        }
        if self.is("*") && self.is_at(1, ")") {
            self.advance();
            call.star = true;
            return Ok(());
        }
        call.distinct = self.take_kw("DISTINCT");
        if !call.distinct {
            self.take_kw("ALL");
        }
        call.args = self.comma_separated(|p| p.argument(table))?;
        if self.is_word_at(0, "USING") {
            return Err(Error::unsupported(format!("{}(… USING …)", call.name)).at(self.span()));
        }
        loop {
            if self.are_kws(&["ORDER", "BY"]) {
                call.order_by = self.optional_order_by()?;
            } else if !self.null_treatment(call) && !self.json_null_clause(call) {
                return Ok(());
            }
        }
    }

    fn argument(&mut self, table: bool) -> Result<Arg> {
        let named = matches!(self.kind(), TokenKind::Word | TokenKind::Quoted(_)) && self.is_at(1, "=>");
        let name = if named {
            let name = match self.kind() {
                TokenKind::Quoted(name) => name.clone(),
                _ => self.here().to_string(),
            };
            let span = self.span();
            self.advance();
            self.advance();
            Some(crate::ast::Ident { name, span })
        } else {
            None
        };
        Ok(Arg { name, value: self.argument_value(table)? })
    }

    fn argument_value(&mut self, table: bool) -> Result<ArgValue> {
        let span = self.span();
        if self.take_kw("TABLE") {
            return self.table_argument(span);
        }
        if self.is_word_at(0, "DESCRIPTOR") && self.is_at(1, "(") {
            self.advance();
            let columns = self.parenthesized(|p| {
                let column = p.ident("a column name")?;
                // A type may follow in table arguments of functions; no built-in function uses it.
                if !p.is(",") && !p.is(")") && *p.kind() == TokenKind::Word {
                    let place = p.span();
                    p.sql_type()?;
                    p.lacks("a type in DESCRIPTOR", place);
                }
                Ok(column)
            })?;
            return Ok(ArgValue::Descriptor { columns, span });
        }
        if self.is_word_at(0, "MODEL") && self.is_ident_at(1) {
            self.advance();
            self.object_name("a model's name")?;
            self.lacks("a MODEL argument", span);
            return Ok(ArgValue::Expr(literal(Literal::Null, span)));
        }
        if table && self.is_query_in_parentheses() {
            let query = self.subquery_in_parentheses()?;
            return self.table_argument_rest(query, span);
        }
        self.expr().map(ArgValue::Expr)
    }

    /// What follows TABLE: `t`, `(SELECT …)`, `f(…)`.
    fn table_argument(&mut self, span: Span) -> Result<ArgValue> {
        if self.is("(") {
            let query = self.subquery_in_parentheses()?;
            return self.table_argument_rest(query, span);
        }
        let name = self.object_name("a table")?;
        let table = if self.is("(") {
            TableRef::Function { lateral: false, call: self.call(name, false, true)?, alias: None }
        } else {
            TableRef::Table { name, hints: self.hints()?, system_time: None, alias: None }
        };
        self.table_argument_rest(table, span)
    }

    fn subquery_in_parentheses(&mut self) -> Result<TableRef> {
        self.expect("(")?;
        let query = Box::new(self.query()?);
        self.expect(")")?;
        Ok(TableRef::Subquery { lateral: false, query, alias: None })
    }

    /// `[[AS] alias [(columns)]] [PARTITION BY key | (keys)] [ORDER BY key | (keys)]`
    fn table_argument_rest(&mut self, mut table: TableRef, span: Span) -> Result<ArgValue> {
        if self.is_word_at(0, "AS") || self.is_ident_at(0) {
            let given = self.table_alias()?;
            match &mut table {
                TableRef::Table { alias, .. } | TableRef::Subquery { alias, .. } | TableRef::Function { alias, .. } => *alias = given,
                _ => {}
            }
        }
        // Without parentheses there is one key: a comma begins the next argument.
        let partition_by = if self.take_kws(&["PARTITION", "BY"]) {
            let key = self.expr()?;
            match key.kind {
                ExprKind::Row(keys) => keys,
                _ => vec![key],
            }
        } else {
            Vec::new()
        };
        let order_by = match self.take_kws(&["ORDER", "BY"]) {
            true if self.is("(") => self.parenthesized(Self::order_item)?,
            true => vec![self.order_item()?],
            false => Vec::new(),
        };
        Ok(ArgValue::Table { table: Box::new(table), partition_by, order_by, span })
    }

    /// What may follow the closing parenthesis: WITHIN GROUP, FILTER, IGNORE NULLS, OVER.
    fn call_clauses(&mut self, call: &mut FunctionCall) -> Result<()> {
        loop {
            let span = self.span();
            if self.null_treatment(call) {
                continue;
            }
            if self.take_kws(&["WITHIN", "GROUP"]) {
                self.expect("(")?;
                call.order_by = self.optional_order_by()?;
                if call.order_by.is_empty() {
                    return Err(self.expected("ORDER BY"));
                }
                self.expect(")")?;
            } else if self.are_kws(&["WITHIN", "DISTINCT"]) {
                return Err(Error::unsupported("WITHIN DISTINCT").at(span));
            } else if self.is_word_at(0, "FILTER") && self.is_at(1, "(") {
                self.advance();
                self.advance();
                self.expect_kw("WHERE")?;
                call.filter = Some(self.expr()?);
                self.expect(")")?;
            } else if self.take_kw("OVER") {
                call.over = Some(if self.is("(") {
                    Over::Spec(self.window_spec()?)
                } else {
                    Over::Named(self.ident("a window's name or its definition in parentheses")?)
                });
            } else {
                return Ok(());
            }
        }
    }

    fn null_treatment(&mut self, call: &mut FunctionCall) -> bool {
        for (words, ignore) in [(["IGNORE", "NULLS"], true), (["RESPECT", "NULLS"], false)] {
            if self.take_kws(&words) {
                call.ignore_nulls = Some(ignore);
                return true;
            }
        }
        false
    }

    /// `([base] [PARTITION BY …] [ORDER BY …] [frame])`
    pub(super) fn window_spec(&mut self) -> Result<WindowSpec> {
        let span = self.span();
        self.expect("(")?;
        let mut spec = WindowSpec { span, ..WindowSpec::default() };
        if self.is_ident_at(0) {
            self.alias_at = Some(self.pos);
            spec.base = Some(self.ident("a window's name")?);
        }
        if self.take_kws(&["PARTITION", "BY"]) {
            spec.partition_by = self.key_list()?;
        }
        spec.order_by = self.optional_order_by()?;
        spec.frame = self.frame()?;
        if !self.take(")") {
            return Err(self.expected("PARTITION BY, ORDER BY, ROWS, RANGE or ')'"));
        }
        Ok(spec)
    }

    fn frame(&mut self) -> Result<Option<Frame>> {
        let rows = match self.take_one_of(&["ROWS", "RANGE"]) {
            Some(unit) => unit == "ROWS",
            None => return Ok(None),
        };
        let (start, end) = if self.take_kw("BETWEEN") {
            let start = self.frame_bound()?;
            self.expect_kw("AND")?;
            (start, self.frame_bound()?)
        } else {
            (self.frame_bound()?, FrameBound::CurrentRow)
        };
        if self.is_word_at(0, "EXCLUDE") {
            return Err(Error::unsupported("EXCLUDE in a window frame").at(self.span()));
        }
        Ok(Some(Frame { rows, start, end }))
    }

    fn frame_bound(&mut self) -> Result<FrameBound> {
        if self.take_kws(&["CURRENT", "ROW"]) {
            return Ok(FrameBound::CurrentRow);
        }
        if self.take_kws(&["UNBOUNDED", "PRECEDING"]) {
            return Ok(FrameBound::UnboundedPreceding);
        }
        if self.take_kws(&["UNBOUNDED", "FOLLOWING"]) {
            return Ok(FrameBound::UnboundedFollowing);
        }
        let offset = Box::new(self.expr_above(precedence::RANGE + 1)?);
        match self.take_one_of(&["PRECEDING", "FOLLOWING"]) {
            Some("PRECEDING") => Ok(FrameBound::Preceding(offset)),
            Some(_) => Ok(FrameBound::Following(offset)),
            None => Err(self.expected("PRECEDING or FOLLOWING")),
        }
    }

    /// `JSON_VALUE(doc, path [RETURNING type] [wrapper] [… ON EMPTY] [… ON ERROR])` and its kin.
    fn json_path_call(&mut self, call: &mut FunctionCall, upper: &str) -> Result<()> {
        let doc = self.expr()?;
        self.take_kws(&["FORMAT", "JSON"]);
        self.expect(",")?;
        let path = self.expr()?;
        push(call, [doc, path]);
        if self.is_word_at(0, "PASSING") {
            return Err(Error::unsupported("PASSING in a JSON path").at(self.span()));
        }
        loop {
            let span = self.span();
            if upper != "JSON_EXISTS" && self.take_kw("RETURNING") {
                call.json.returning = Some(self.sql_type()?);
            } else if upper == "JSON_QUERY" && (self.is_kw("WITH") || self.is_kw("WITHOUT")) {
                call.json.wrapper = Some(self.json_wrapper()?.to_string());
            } else if self.are_kws(&["KEEP", "QUOTES"]) || self.are_kws(&["OMIT", "QUOTES"]) {
                return Err(Error::unsupported(format!("{} QUOTES in {upper}", self.here())).at(span));
            } else if let Some(behavior) = self.json_behavior()? {
                self.expect_kw("ON")?;
                match self.take_one_of(&["EMPTY", "ERROR"]) {
                    Some("EMPTY") => call.json.on_empty = Some(behavior),
                    Some(_) => call.json.on_error = Some(behavior),
                    None => return Err(self.expected("EMPTY or ERROR")),
                }
            } else {
                return Ok(());
            }
        }
    }

    fn json_wrapper(&mut self) -> Result<&'static str> {
        let wrapper = if self.take_kw("WITHOUT") {
            "WITHOUT"
        } else {
            self.expect_kw("WITH")?;
            match self.take_one_of(&["CONDITIONAL", "UNCONDITIONAL"]) {
                Some("CONDITIONAL") => "WITH CONDITIONAL",
                _ => "WITH UNCONDITIONAL",
            }
        };
        self.take_kw("ARRAY");
        self.expect_kw("WRAPPER")?;
        Ok(wrapper)
    }

    fn json_behavior(&mut self) -> Result<Option<JsonBehavior>> {
        let plain = [
            (&["NULL"] as &[&'static str], JsonBehavior::Null),
            (&["ERROR"], JsonBehavior::Error),
            (&["TRUE"], JsonBehavior::True),
            (&["FALSE"], JsonBehavior::False),
            (&["UNKNOWN"], JsonBehavior::Unknown),
            (&["EMPTY", "OBJECT"], JsonBehavior::EmptyObject),
            (&["EMPTY", "ARRAY"], JsonBehavior::EmptyArray),
            (&["EMPTY"], JsonBehavior::EmptyArray),
        ];
        for (words, behavior) in plain {
            if self.take_kws(words) {
                return Ok(Some(behavior));
            }
        }
        if self.take_kw("DEFAULT") {
            return Ok(Some(JsonBehavior::Default(Box::new(self.expr()?))));
        }
        Ok(None)
    }

    /// `NULL ON NULL` or `ABSENT ON NULL`
    fn json_null_clause(&mut self, call: &mut FunctionCall) -> bool {
        for (words, null) in [(["NULL", "ON", "NULL"], true), (["ABSENT", "ON", "NULL"], false)] {
            if self.take_kws(&words) {
                call.json.null_on_null = Some(null);
                return true;
            }
        }
        false
    }

    /// `[KEY] k VALUE v`, `k : v`, … as arguments k, v, …
    fn json_object(&mut self, call: &mut FunctionCall) -> Result<()> {
        if self.is(")") || self.json_null_clause(call) {
            return Ok(());
        }
        loop {
            // A column may be called key.
            if self.is_word_at(0, "KEY") && !self.is_word_at(1, "VALUE") && !self.is_at(1, ":") && !self.is_at(1, ".") {
                self.advance();
            }
            let key = self.expr()?;
            if !self.take_kw("VALUE") && !self.take(":") {
                return Err(self.expected("VALUE"));
            }
            let value = self.expr()?;
            self.take_kws(&["FORMAT", "JSON"]);
            push(call, [key, value]);
            if !self.take(",") {
                break;
            }
        }
        self.json_null_clause(call);
        Ok(())
    }

    /// `[AS] name [(columns)]`
    pub(super) fn table_alias(&mut self) -> Result<Option<TableAlias>> {
        let Some(name) = self.optional_alias()? else { return Ok(None) };
        let columns = if self.is("(") { self.parenthesized(|p| p.ident("a column name"))? } else { Vec::new() };
        Ok(Some(TableAlias { name, columns }))
    }
}

fn push<const N: usize>(call: &mut FunctionCall, values: [Expr; N]) {
    call.args.extend(values.into_iter().map(|e| Arg { name: None, value: ArgValue::Expr(e) }));
}
