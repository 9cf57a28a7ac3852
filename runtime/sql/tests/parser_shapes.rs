//! What texts mean: expressions, queries and types, written back with all parentheses.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use sluice_sql::ast::*;
use sluice_sql::parser::{parse_expression, parse_query, parse_script, parse_type};

fn list(items: &[Expr]) -> String {
    items.iter().map(show).collect::<Vec<_>>().join(", ")
}

fn names(parts: &[Ident]) -> String {
    parts.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(".")
}

fn not(negated: bool) -> &'static str {
    if negated { "NOT " } else { "" }
}

/// An expression as text that shows its structure.
fn show(e: &Expr) -> String {
    match &e.kind {
        ExprKind::Literal(Literal::Number(n) | Literal::Approximate(n)) => n.clone(),
        ExprKind::Literal(Literal::String(s)) => format!("'{s}'"),
        ExprKind::Literal(Literal::Null) => "NULL".into(),
        ExprKind::Literal(Literal::Symbol(s)) => format!("#{s}"),
        ExprKind::Literal(Literal::IntervalDayTime(ms)) => format!("{ms}ms"),
        ExprKind::Literal(Literal::IntervalYearMonth(m)) => format!("{m}mon"),
        ExprKind::Literal(l) => format!("{l:?}"),
        ExprKind::Name(parts) => names(parts),
        ExprKind::Field { expr, field } => format!("{}.{}", show(expr), field.name),
        ExprKind::Index { expr, index } => format!("{}[{}]", show(expr), show(index)),
        ExprKind::Unary { op, expr } => format!("({op:?} {})", show(expr)),
        ExprKind::Binary { op, left, right } => format!("({} {} {})", show(left), op.symbol(), show(right)),
        ExprKind::And(items) => format!("AND({})", list(items)),
        ExprKind::Or(items) => format!("OR({})", list(items)),
        ExprKind::Is { expr, test, negated } => format!("({} IS {}{test:?})", show(expr), not(*negated)),
        ExprKind::IsDistinctFrom { left, right, negated } => format!("({} IS {}DISTINCT {})", show(left), not(*negated), show(right)),
        ExprKind::Between { expr, low, high, negated, symmetric } => {
            format!("({} {}BETWEEN{} {} {})", show(expr), not(*negated), if *symmetric { " SYM" } else { "" }, show(low), show(high))
        }
        ExprKind::InList { expr, list: items, negated } => format!("({} {}IN [{}])", show(expr), not(*negated), list(items)),
        ExprKind::InSubquery { expr, negated, .. } => format!("({} {}IN query)", show(expr), not(*negated)),
        ExprKind::Exists { negated, .. } => format!("{}EXISTS", not(*negated)),
        ExprKind::ScalarSubquery(_) => "query".into(),
        ExprKind::Like { expr, pattern, escape, negated } => {
            format!("({} {}LIKE {} {:?})", show(expr), not(*negated), show(pattern), escape.as_deref().map(show))
        }
        ExprKind::SimilarTo { expr, pattern, negated, .. } => format!("({} {}SIMILAR {})", show(expr), not(*negated), show(pattern)),
        ExprKind::IsJson { expr, kind, negated } => format!("({} IS {}JSON {kind:?})", show(expr), not(*negated)),
        ExprKind::Case { operand, branches, otherwise } => {
            let branches: Vec<_> = branches.iter().map(|(c, v)| format!("{}: {}", show(c), show(v))).collect();
            format!("CASE({:?}, {}, {:?})", operand.as_deref().map(show), branches.join(", "), otherwise.as_deref().map(show))
        }
        ExprKind::Cast { expr, ty, try_cast } => format!("{}CAST({} {ty})", if *try_cast { "TRY_" } else { "" }, show(expr)),
        ExprKind::Row(items) => format!("ROW({})", list(items)),
        ExprKind::Array(items) => format!("ARRAY({})", list(items)),
        ExprKind::Map(items) => {
            format!("MAP({})", items.iter().map(|(k, v)| format!("{}: {}", show(k), show(v))).collect::<Vec<_>>().join(", "))
        }
        ExprKind::Function(call) => show_call(call),
    }
}

fn show_order(items: &[OrderBy]) -> String {
    let one = |o: &OrderBy| {
        format!(
            "{}{}{}",
            show(&o.expr),
            if o.descending { " DESC" } else { "" },
            o.nulls_first.map_or("", |f| if f { " NF" } else { " NL" })
        )
    };
    items.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn show_arg(arg: &Arg) -> String {
    let value = match &arg.value {
        ArgValue::Expr(e) => show(e),
        ArgValue::Table { table, partition_by, order_by, .. } => {
            let table = match &**table {
                TableRef::Table { name, .. } => name.to_string(),
                TableRef::Subquery { .. } => "query".into(),
                _ => "?".into(),
            };
            format!("TABLE {table} [{}] [{}]", list(partition_by), show_order(order_by))
        }
        ArgValue::Descriptor { columns, .. } => format!("DESCRIPTOR {}", names(columns)),
    };
    match &arg.name {
        Some(name) => format!("{} => {value}", name.name),
        None => value,
    }
}

fn show_call(call: &FunctionCall) -> String {
    let args: Vec<_> = call.args.iter().map(show_arg).collect();
    let mut text =
        format!("{}({}{}{})", call.name, if call.distinct { "DISTINCT " } else { "" }, if call.star { "*" } else { "" }, args.join(", "));
    if !call.order_by.is_empty() {
        text += &format!(" ORDER {}", show_order(&call.order_by));
    }
    if let Some(ignore) = call.ignore_nulls {
        text += if ignore { " IGNORE" } else { " RESPECT" };
    }
    if let Some(filter) = &call.filter {
        text += &format!(" FILTER {}", show(filter));
    }
    match &call.over {
        Some(Over::Named(name)) => text += &format!(" OVER {}", name.name),
        Some(Over::Spec(w)) => {
            text += &format!(" OVER [{}] [{}]", list(&w.partition_by), show_order(&w.order_by));
            if let Some(f) = &w.frame {
                text += &format!(" {} {}..{}", if f.rows { "ROWS" } else { "RANGE" }, show_bound(&f.start), show_bound(&f.end));
            }
        }
        None => {}
    }
    let json = format!("{:?}", call.json);
    if json != format!("{:?}", JsonClauses::default()) {
        text += &format!(" {}", json.replace("JsonClauses ", ""));
    }
    text
}

fn show_bound(b: &FrameBound) -> String {
    match b {
        FrameBound::UnboundedPreceding => "-∞".into(),
        FrameBound::Preceding(e) => format!("-{}", show(e)),
        FrameBound::CurrentRow => "0".into(),
        FrameBound::Following(e) => format!("+{}", show(e)),
        FrameBound::UnboundedFollowing => "+∞".into(),
    }
}

#[test]
fn precedence() {
    for (text, expected) in [
        ("a OR b AND NOT c = d OR e", "OR(a, AND(b, (Not (c = d))), e)"),
        ("a AND (b AND c) AND d", "AND(a, b, c, d)"),
        ("a + b * c - d % e", "((a + (b * c)) - (d % e))"),
        ("-a * -2 + +b", "(((Minus a) * (Minus 2)) + (Plus b))"),
        ("a || b || 'c' = d", "(((a || b) || 'c') = d)"),
        ("a < b IS TRUE", "((a < b) IS True)"),
        ("NOT a IS NOT NULL", "(Not (a IS NOT Null))"),
        ("a = b LIKE c", "(a = (b LIKE c None))"),
        ("a NOT BETWEEN b + 1 AND c - 1 AND d", "AND((a NOT BETWEEN (b + 1) (c - 1)), d)"),
        ("a BETWEEN SYMMETRIC 1 AND 2", "(a BETWEEN SYM 1 2)"),
        ("a NOT IN (1, 2) OR b IN (SELECT 1)", "OR((a NOT IN [1, 2]), (b IN query))"),
        ("a LIKE 'x!%' ESCAPE '!' AND b NOT SIMILAR TO 'y'", "AND((a LIKE 'x!%' Some(\"'!'\")), (b NOT SIMILAR 'y'))"),
        ("a IS NOT DISTINCT FROM b + 1 AND c IS JSON OBJECT", "AND((a IS NOT DISTINCT (b + 1)), (c IS JSON Some(\"OBJECT\")))"),
        ("(a, b) OVERLAPS (c, d)", "(ROW(a, b) OVERLAPS ROW(c, d))"),
        ("NOT EXISTS (SELECT 1) AND EXISTS (VALUES 1)", "AND(NOT EXISTS, EXISTS)"),
        ("a <> b AND c != d", "AND((a <> b), (c <> d))"),
        ("(SELECT 1) + ((SELECT 2) + 3) + ((SELECT 4) UNION (SELECT 5))", "((query + (query + 3)) + query)"),
    ] {
        assert_eq!(show(&parse_expression(text).unwrap_or_else(|e| panic!("{text}: {e}"))), expected, "{text}");
    }
}

#[test]
fn primaries() {
    for (text, expected) in [
        ("a.b.c[1].d['k'].e", "a.b.c[1].d['k'].e"),
        ("(a.b).c", "a.b.c"),
        ("f(x).a", "f(x).a"),
        ("cat.db.f(1)", "cat.db.f(1)"),
        ("`a b`.`c``d`", "a b.c`d"),
        ("ARRAY[1, 2][1]", "ARRAY(1, 2)[1]"),
        ("MAP['a', 1, 'b', 2]", "MAP('a': 1, 'b': 2)"),
        ("ROW(1, 'x')", "ROW(1, 'x')"),
        ("CASE WHEN a THEN 1 ELSE 2 END", "CASE(None, a: 1, Some(\"2\"))"),
        ("case x when 1 then 'a' when 2 then 'b' end", "CASE(Some(\"x\"), 1: 'a', 2: 'b', None)"),
        ("CAST(a AS DECIMAL(10, 2))", "CAST(a DECIMAL(10, 2))"),
        ("try_cast(a AS STRING)", "TRY_CAST(a STRING)"),
        ("'it''s' || U&'\\00e9'", "('it's' || 'é')"),
        ("U&'!00e9' UESCAPE '!'", "'é'"),
        ("'a'\n'b'", "'ab'"),
        ("X'0aff'", "Bytes([10, 255])"),
        ("DATE '2020-01-01'", "Date(\"2020-01-01\")"),
        ("TIMESTAMP '2020-01-01 00:00:00'", "Timestamp(\"2020-01-01 00:00:00\")"),
        ("CURRENT_TIMESTAMP", "CURRENT_TIMESTAMP()"),
        ("ts AT TIME ZONE 'UTC'", "AT TIME ZONE(ts, 'UTC')"),
        ("user", "user"),
    ] {
        assert_eq!(show(&parse_expression(text).unwrap_or_else(|e| panic!("{text}: {e}"))), expected, "{text}");
    }
}

#[test]
fn intervals() {
    for (text, expected) in [
        ("INTERVAL '5' SECOND", "5000ms"),
        ("interval '5' seconds", "5000ms"),
        ("INTERVAL '-5' MINUTE", "-300000ms"),
        ("INTERVAL -'5' MINUTE", "-300000ms"),
        ("INTERVAL '1.5' SECOND(10, 3)", "1500ms"),
        ("INTERVAL '1 10:00:00.5' DAY TO SECOND", "122400500ms"),
        ("INTERVAL '1 02' DAY(3) TO HOUR", "93600000ms"),
        ("INTERVAL '10:30' HOUR TO MINUTE", "37800000ms"),
        ("INTERVAL '2' WEEK", "1209600000ms"),
        ("INTERVAL '10-2' YEAR TO MONTH", "122mon"),
        ("INTERVAL '1' QUARTER", "3mon"),
        ("INTERVAL 5 DAY", "(5 * 86400000ms)"),
        ("INTERVAL (a + 1) HOURS", "((a + 1) * 3600000ms)"),
        ("ts - INTERVAL '1' DAY", "(ts - 86400000ms)"),
    ] {
        assert_eq!(show(&parse_expression(text).unwrap_or_else(|e| panic!("{text}: {e}"))), expected, "{text}");
    }
    for text in [
        "INTERVAL 'x' DAY",
        "INTERVAL '1-13' YEAR TO MONTH",
        "INTERVAL '1:60' HOUR TO MINUTE",
        "INTERVAL '1' DAY TO YEAR",
        "INTERVAL '9999999999999' DAY",
        "INTERVAL '1 2' DAY",
        "INTERVAL '1'",
        "INTERVAL '' SECOND",
    ] {
        assert!(parse_expression(text).is_err(), "{text}");
    }
}

#[test]
fn calls() {
    for (text, expected) in [
        ("COUNT(*)", "COUNT(*)"),
        ("count(DISTINCT a, b) FILTER (WHERE c > 1)", "count(DISTINCT a, b) FILTER (c > 1)"),
        ("LISTAGG(x, ',') WITHIN GROUP (ORDER BY y DESC NULLS LAST)", "LISTAGG(x, ',') ORDER y DESC NL"),
        ("ARRAY_AGG(x ORDER BY y)", "ARRAY_AGG(x) ORDER y"),
        ("FIRST_VALUE(x) IGNORE NULLS OVER w", "FIRST_VALUE(x) IGNORE OVER w"),
        ("LAST_VALUE(x RESPECT NULLS)", "LAST_VALUE(x) RESPECT"),
        ("SUM(x) OVER (PARTITION BY a, b ORDER BY ts)", "SUM(x) OVER [a, b] [ts]"),
        ("SUM(x) OVER (ORDER BY ts RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW)", "SUM(x) OVER [] [ts] RANGE -3600000ms..0"),
        ("SUM(x) OVER (ORDER BY ts ROWS 2 PRECEDING)", "SUM(x) OVER [] [ts] ROWS -2..0"),
        ("SUM(x) OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND 1 FOLLOWING)", "SUM(x) OVER [] [] ROWS -∞..+1"),
        ("EXTRACT(YEAR FROM x)", "EXTRACT(#YEAR, x)"),
        ("TIMESTAMPADD(sql_tsi_day, 1, x)", "TIMESTAMPADD(#DAY, 1, x)"),
        ("FLOOR(x TO HOUR)", "FLOOR(x, #HOUR)"),
        ("CEIL(x)", "CEIL(x)"),
        ("TRIM(x)", "TRIM(x)"),
        ("TRIM(LEADING 'a' FROM x)", "TRIM(#LEADING, 'a', x)"),
        ("TRIM('a' FROM x)", "TRIM(#BOTH, 'a', x)"),
        ("TRIM(TRAILING FROM x)", "TRIM(#TRAILING, ' ', x)"),
        ("SUBSTRING(x FROM 2 FOR 3)", "SUBSTRING(x, 2, 3)"),
        ("SUBSTRING(x, 2)", "SUBSTRING(x, 2)"),
        ("POSITION('a' IN b || c)", "POSITION('a', (b || c))"),
        ("OVERLAY(a PLACING b FROM 1 FOR 2)", "OVERLAY(a, b, 1, 2)"),
        ("IF(a, b, c)", "IF(a, b, c)"),
        ("LEFT(a, 1)", "LEFT(a, 1)"),
        ("f(a => 1, b => TABLE t PARTITION BY k, c => DESCRIPTOR(x, y))", "f(a => 1, b => TABLE t [k] [], c => DESCRIPTOR x.y)"),
        ("f(TABLE a.b PARTITION BY (k, l) ORDER BY (ts DESC), INTERVAL '1' SECOND)", "f(TABLE a.b [k, l] [ts DESC], 1000ms)"),
        ("FINAL LAST(A.x, 1)", "FINAL(LAST(A.x, 1))"),
        ("JSON_OBJECT(KEY 'a' VALUE 1, 'b' VALUE key)", "JSON_OBJECT('a', 1, 'b', key)"),
    ] {
        assert_eq!(show(&parse_expression(text).unwrap_or_else(|e| panic!("{text}: {e}"))), expected, "{text}");
    }
}

#[test]
fn json_clauses() {
    let json = |text: &str| match parse_expression(text).unwrap().kind {
        ExprKind::Function(call) => call.json,
        other => panic!("{other:?}"),
    };
    let j = json("JSON_VALUE(x, '$.a' RETURNING INT NULL ON EMPTY DEFAULT 0 ON ERROR)");
    assert_eq!(j.returning.unwrap().to_string(), "INT");
    assert!(matches!(j.on_empty, Some(JsonBehavior::Null)) && matches!(j.on_error, Some(JsonBehavior::Default(_))));
    let j = json("JSON_QUERY(x, '$.a' WITH WRAPPER EMPTY ARRAY ON EMPTY ERROR ON ERROR)");
    assert_eq!(j.wrapper.as_deref(), Some("WITH UNCONDITIONAL"));
    assert!(matches!(j.on_empty, Some(JsonBehavior::EmptyArray)) && matches!(j.on_error, Some(JsonBehavior::Error)));
    assert_eq!(json("JSON_QUERY(x, '$' WITH CONDITIONAL ARRAY WRAPPER)").wrapper.as_deref(), Some("WITH CONDITIONAL"));
    assert!(matches!(json("JSON_EXISTS(x, '$' UNKNOWN ON ERROR)").on_error, Some(JsonBehavior::Unknown)));
    assert_eq!(json("JSON_OBJECT(KEY 'a' VALUE 1 ABSENT ON NULL)").null_on_null, Some(false));
    assert_eq!(json("JSON_ARRAYAGG(a NULL ON NULL)").null_on_null, Some(true));
    assert_eq!(json("JSON_ARRAY(NULL ON NULL)").null_on_null, Some(true));
}

#[test]
fn types() {
    for (text, expected) in [
        ("varchar", "STRING"),
        ("VARCHAR(10)", "VARCHAR(10)"),
        ("CHAR", "CHAR(1)"),
        ("BINARY", "BINARY(1)"),
        ("VARBINARY", "BYTES"),
        ("DECIMAL", "DECIMAL(10, 0)"),
        ("NUMERIC(5)", "DECIMAL(5, 0)"),
        ("DOUBLE PRECISION", "DOUBLE"),
        ("TIME", "TIME(0)"),
        ("TIMESTAMP", "TIMESTAMP(6)"),
        ("TIMESTAMP(3) WITHOUT TIME ZONE NOT NULL", "TIMESTAMP(3) NOT NULL"),
        ("TIMESTAMP(3) WITH LOCAL TIME ZONE", "TIMESTAMP_LTZ(3)"),
        ("TIMESTAMP_LTZ", "TIMESTAMP_LTZ(6)"),
        ("INT ARRAY NOT NULL", "ARRAY<INT> NOT NULL"),
        ("INT NOT NULL ARRAY", "ARRAY<INT NOT NULL>"),
        ("STRING MULTISET", "MULTISET<STRING>"),
        ("ARRAY <ROW (a VARCHAR, b ARRAY <VARCHAR>)>", "ARRAY<ROW<`a` STRING, `b` ARRAY<STRING>>>"),
        ("ROW<a INT NOT NULL 'comment', `b c` MAP<INT, STRING>>", "ROW<`a` INT NOT NULL, `b c` MAP<INT, STRING>>"),
        ("ROW(a INT 'x', b STRING)", "ROW<`a` INT, `b` STRING>"),
        ("INTERVAL DAY TO SECOND(3)", "INTERVAL DAY TO SECOND(3)"),
        ("INTERVAL YEAR TO MONTH", "INTERVAL YEAR TO MONTH"),
        ("VARIANT", "VARIANT"),
    ] {
        assert_eq!(parse_type(text).unwrap_or_else(|e| panic!("{text}: {e}")).to_string(), expected, "{text}");
    }
    for (text, message) in [
        ("DECIMAL(39, 2)", "between 1 and 38"),
        ("DECIMAL(5, 6)", "between 0 and 5"),
        ("CHAR(0)", "between 1 and"),
        ("TIMESTAMP(10)", "between 0 and 9"),
        ("STRNG", "did you mean STRING"),
        ("RAW('a', 'b')", "the type RAW is not supported"),
        ("ROW<a INT, a INT>", "two fields 'a'"),
        ("ARRAY<INT", "expected '>'"),
    ] {
        let e = parse_type(text).unwrap_err().to_string();
        assert!(e.contains(message), "{text}: {e}");
    }
}

fn pattern(p: &Pattern) -> String {
    let all = |ps: &[Pattern], by: &str| ps.iter().map(pattern).collect::<Vec<_>>().join(by);
    match &p.node {
        PatternNode::Variable(v) => v.name.clone(),
        PatternNode::Concat(ps) => all(ps, " "),
        PatternNode::Alternation(ps) => all(ps, "|"),
        PatternNode::Group(p) => format!("({})", pattern(p)),
        PatternNode::Quantified { inner, min, max, greedy } => {
            format!("{}{{{min},{}}}{}", pattern(inner), max.map_or("".into(), |m| m.to_string()), if *greedy { "" } else { "?" })
        }
        PatternNode::Permute(ps) => format!("PERMUTE({})", all(ps, ", ")),
        PatternNode::Exclude(p) => format!("{{-{}-}}", pattern(p)),
        PatternNode::Start => "^".into(),
        PatternNode::End => "$".into(),
    }
}

#[test]
fn patterns() {
    for (text, expected) in [
        ("A B+? C", "A B{1,}? C"),
        ("A* B*? C?? D{2} E{1,3}? F{2,} G{,4}", "A{0,} B{0,}? C{0,1}? D{2,2} E{1,3}? F{2,} G{0,4}"),
        ("A (B | C D)+ E", "A (B|C D){1,} E"),
        ("^ A {- B+ -} C $", "^ A {-B{1,}-} C $"),
        ("PERMUTE(A, B C)", "PERMUTE(A, B C)"),
    ] {
        let sql = format!("SELECT * FROM t MATCH_RECOGNIZE (ORDER BY ts PATTERN ({text}) DEFINE A AS TRUE)");
        let SetExpr::Select(select) = parse_query(&sql).unwrap_or_else(|e| panic!("{text}: {e}")).body else { panic!("{text}") };
        let TableRef::MatchRecognize { clause, .. } = &select.from[0] else { panic!("{text}") };
        assert_eq!(pattern(&clause.pattern), expected, "{text}");
    }
    for text in ["A{3,2}", "A{0}", "A{,}", "", "A |", "A{1.5}", "(A"] {
        let sql = format!("SELECT * FROM t MATCH_RECOGNIZE (ORDER BY ts PATTERN ({text}) DEFINE A AS TRUE)");
        assert!(parse_query(&sql).is_err(), "{text}");
    }
}

#[test]
fn match_recognize() {
    let sql =
        "SELECT * FROM t AS x MATCH_RECOGNIZE (PARTITION BY a, b ORDER BY ts MEASURES A.x AS ax, LAST(B.y, 1) AS ly ALL ROWS PER MATCH
        AFTER MATCH SKIP TO LAST B PATTERN (A B) WITHIN INTERVAL '10' SECOND SUBSET U = (A, B) DEFINE A AS A.x > 1, B AS TRUE) AS m (p, q)";
    let SetExpr::Select(select) = parse_query(sql).unwrap().body else { panic!() };
    let TableRef::MatchRecognize { input, clause, alias } = &select.from[0] else { panic!() };
    assert!(matches!(&**input, TableRef::Table { alias: Some(a), .. } if a.name.name == "x"));
    assert_eq!((list(&clause.partition_by), show_order(&clause.order_by), clause.all_rows), ("a, b".into(), "ts".into(), true));
    assert_eq!(clause.measures.iter().map(|(e, n)| format!("{} {}", show(e), n.name)).collect::<Vec<_>>(), ["A.x ax", "LAST(B.y, 1) ly"]);
    assert!(matches!(&clause.after_match, Some(SkipTo::Last(v)) if v.name == "B"));
    assert_eq!(clause.within.as_ref().map(show).as_deref(), Some("10000ms"));
    assert_eq!(clause.subsets.iter().map(|(n, v)| format!("{} {}", n.name, names(v))).collect::<Vec<_>>(), ["U A.B"]);
    assert_eq!(clause.define.len(), 2);
    assert_eq!(alias.as_ref().map(|a| names(&a.columns)).as_deref(), Some("p.q"));
}

fn from(text: &str) -> Vec<TableRef> {
    match parse_query(&format!("SELECT * FROM {text}")).unwrap_or_else(|e| panic!("{text}: {e}")).body {
        SetExpr::Select(select) => select.from,
        other => panic!("{other:?}"),
    }
}

fn show_table(t: &TableRef) -> String {
    let with = |alias: &Option<TableAlias>| {
        alias.as_ref().map_or(String::new(), |a| match a.columns.is_empty() {
            true => format!(" {}", a.name.name),
            false => format!(" {}({})", a.name.name, names(&a.columns)),
        })
    };
    match t {
        TableRef::Table { name, system_time, alias, hints } => {
            let time = system_time.as_ref().map_or(String::new(), |e| format!("@{}", show(e)));
            let hints: String = hints
                .iter()
                .map(|h| format!(" /*{}({:?})*/", h.name, h.options.iter().map(|o| (&o.key, &o.value)).collect::<Vec<_>>()))
                .collect();
            format!("{name}{hints}{time}{}", with(alias))
        }
        TableRef::Subquery { lateral, alias, .. } => format!("{}query{}", if *lateral { "LATERAL " } else { "" }, with(alias)),
        TableRef::Function { lateral, call, alias } => {
            format!("{}{}{}", if *lateral { "LATERAL " } else { "" }, show_call(call), with(alias))
        }
        TableRef::Unnest { expr, with_ordinality, alias, .. } => {
            format!("UNNEST {}{}{}", show(expr), if *with_ordinality { " ORD" } else { "" }, with(alias))
        }
        TableRef::Join { left, right, kind, condition, .. } => {
            let condition = match condition {
                JoinCondition::None => String::new(),
                JoinCondition::On(e) => format!(" ON {}", show(e)),
                JoinCondition::Using(c) => format!(" USING {}", names(c)),
                JoinCondition::Natural => " NATURAL".into(),
            };
            format!("({} {kind:?} {}{condition})", show_table(left), show_table(right))
        }
        TableRef::MatchRecognize { input, alias, .. } => format!("MR({}){}", show_table(input), with(alias)),
    }
}

#[test]
fn tables() {
    for (text, expected) in [
        ("a, b AS x, c y (p, q)", "a; b x; c y(p.q)"),
        ("a JOIN b ON a.x = b.x LEFT JOIN c USING (k, l)", "((a Inner b ON (a.x = b.x)) Left c USING k.l)"),
        ("a NATURAL FULL OUTER JOIN b CROSS JOIN c", "((a Full b NATURAL) Cross c)"),
        ("(a JOIN b ON TRUE) RIGHT JOIN c ON x", "((a Inner b ON Boolean(true)) Right c ON x)"),
        ("o AS x JOIN c FOR SYSTEM_TIME AS OF x.pt AS y ON x.id = y.id", "(o x Inner c@x.pt y ON (x.id = y.id))"),
        ("t CROSS JOIN UNNEST(t.a) WITH ORDINALITY AS c (x, n)", "(t Cross UNNEST t.a ORD c(x.n))"),
        ("t, LATERAL TABLE(f(x)) AS s(w)", "t; LATERAL f(x) s(w)"),
        ("t, LATERAL (SELECT 1) AS s", "t; LATERAL query s"),
        ("((SELECT 1) UNION (SELECT 2)) AS s", "query s"),
        ("((SELECT 1) a JOIN b ON x)", "(query a Inner b ON x)"),
        ("TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' SECOND)) w", "TUMBLE(TABLE t [] [], DESCRIPTOR ts, 1000ms) w"),
        ("TUMBLE((SELECT * FROM t), DESCRIPTOR(ts), INTERVAL '1' SECOND)", "TUMBLE(TABLE query [] [], DESCRIPTOR ts, 1000ms)"),
        ("HOP(DATA => TABLE t, SIZE => INTERVAL '1' HOUR)", "HOP(DATA => TABLE t [] [], SIZE => 3600000ms)"),
        ("t /*+ OPTIONS('a'='b', 'c'='d') */ AS x", "t /*OPTIONS([(\"a\", \"b\"), (\"c\", \"d\")])*/ x"),
        ("(VALUES (1, 'a'), (2, 'b')) AS t(a, b)", "query t(a.b)"),
    ] {
        assert_eq!(from(text).iter().map(show_table).collect::<Vec<_>>().join("; "), expected, "{text}");
    }
}

fn show_set(s: &SetExpr) -> String {
    match s {
        SetExpr::Select(s) => s
            .items
            .iter()
            .map(|i| if let SelectItem::Expr { expr, .. } = i { show(expr) } else { "*".into() })
            .collect::<Vec<_>>()
            .join(","),
        SetExpr::Values { rows, .. } => format!("VALUES {}", rows.iter().map(|r| format!("[{}]", list(r))).collect::<String>()),
        SetExpr::Query(q) => format!("<{}>", show_set(&q.body)),
        SetExpr::Operation { op, all, left, right, .. } => {
            format!("({} {op:?}{} {})", show_set(left), if *all { " ALL" } else { "" }, show_set(right))
        }
    }
}

#[test]
fn queries() {
    for (text, expected) in [
        ("SELECT a UNION ALL SELECT b INTERSECT SELECT c EXCEPT SELECT d", "((a Union ALL (b Intersect c)) Except d)"),
        ("(SELECT a UNION SELECT b) INTERSECT SELECT c", "(<(a Union b)> Intersect c)"),
        ("VALUES (1, 'a'), ROW(2, 'b'), 3", "VALUES [1, 'a'][2, 'b'][3]"),
        ("TABLE t", "*"),
    ] {
        assert_eq!(show_set(&parse_query(text).unwrap_or_else(|e| panic!("{text}: {e}")).body), expected, "{text}");
    }
    let q =
        parse_query("WITH x AS (SELECT 1), y (a, b) AS (SELECT 2, 3) SELECT * FROM x ORDER BY a DESC, b NULLS FIRST LIMIT 3 OFFSET 1 ROWS")
            .unwrap();
    assert_eq!(q.with.iter().map(|c| format!("{}({})", c.name.name, names(&c.columns))).collect::<Vec<_>>(), ["x()", "y(a.b)"]);
    assert_eq!(show_order(&q.order_by), "a DESC, b NF");
    assert_eq!((q.limit.as_ref().map(show), q.offset.as_ref().map(show)), (Some("3".into()), Some("1".into())));
    let SetExpr::Select(s) = parse_query("SELECT DISTINCT t.*, x y FROM t GROUP BY a, (b, c), ROLLUP(d, (e, f)), GROUPING SETS ((a), CUBE(b, c), ()) WINDOW w AS (ORDER BY z)").unwrap().body else { panic!() };
    assert!(s.distinct && s.windows.len() == 1);
    assert!(matches!(&s.items[0], SelectItem::Wildcard { qualifier, .. } if names(qualifier) == "t"));
    assert!(matches!(&s.items[1], SelectItem::Expr { alias: Some(a), .. } if a.name == "y"));
    let groups: Vec<String> = s
        .group_by
        .iter()
        .map(|g| {
            let sets = |s: &[Vec<Expr>]| s.iter().map(|k| format!("[{}]", list(k))).collect::<String>();
            match g {
                GroupBy::Expr(e) => show(e),
                GroupBy::GroupingSets(s) => format!("SETS{}", sets(s)),
                GroupBy::Rollup(s) => format!("ROLLUP{}", sets(s)),
                GroupBy::Cube(s) => format!("CUBE{}", sets(s)),
            }
        })
        .collect();
    assert_eq!(groups, ["a", "b", "c", "ROLLUP[d][e, f]", "SETS[a][b, c][b][c][][]"]);
}

#[test]
fn statements() {
    let one = |text: &str| parse_script(text).unwrap_or_else(|e| panic!("{text}: {e}")).swap_remove(0).0;
    let Statement::Insert(i) = one("INSERT INTO a.b /*+ OPTIONS('k'='v') */ PARTITION (d = 1) (x, `y`) SELECT 1 ON CONFLICT DO NOTHING;")
    else {
        panic!()
    };
    assert_eq!((i.table.to_string(), names(&i.columns), i.hints.len(), i.partition.len()), ("a.b".into(), "x.y".into(), 1, 1));
    assert_eq!(i.on_conflict.unwrap().0, "NOTHING");
    let Statement::Insert(i) = one("INSERT OVERWRITE t (SELECT 1)") else { panic!() };
    assert!(i.overwrite && i.columns.is_empty());
    for text in [
        "EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT 1; INSERT INTO b SELECT 2; END",
        "BEGIN STATEMENT SET; INSERT INTO a SELECT 1; INSERT INTO b SELECT 2; END;",
    ] {
        assert!(matches!(one(text), Statement::StatementSet { inserts, .. } if inserts.len() == 2), "{text}");
    }
    let Statement::Explain { details, statement, .. } = one("EXPLAIN CHANGELOG_MODE, PLAN_ADVICE SELECT 1") else { panic!() };
    assert_eq!((details.join(" "), matches!(*statement, Statement::Query(_))), ("CHANGELOG_MODE PLAN_ADVICE".into(), true));
    for (text, key, value) in [
        ("SET 'a.b' = 'it''s'", "a.b", "it's"),
        ("SET execution.checkpointing.interval = 10 s;", "execution.checkpointing.interval", "10 s"),
        ("SET table.local-time-zone=Europe/Berlin", "table.local-time-zone", "Europe/Berlin"),
    ] {
        let Statement::Set { option: Some(o), .. } = one(text) else { panic!("{text}") };
        assert_eq!((o.key.as_str(), o.value.as_str()), (key, value));
    }
    assert!(matches!(one("SET;"), Statement::Set { option: None, .. }));
    assert!(matches!(one("RESET 'k'"), Statement::Reset { key: Some(k), .. } if k == "k"));
    assert!(matches!(
        one("DROP TEMPORARY VIEW IF EXISTS v"),
        Statement::Drop { kind: ObjectKind::View, if_exists: true, temporary: true, .. }
    ));
    assert!(matches!(one("desc t"), Statement::Describe { name } if name.object() == "t"));
    assert!(matches!(one("SHOW CREATE VIEW v"), Statement::ShowCreate { kind: ObjectKind::View, .. }));
    let script = parse_script(";; SELECT 1;\n  -- x\n  'é' ;").unwrap_err();
    assert_eq!((script.span().line, script.span().column), (3, 3));
    let places: Vec<_> = parse_script("/* é */ SELECT 1;\n\n  SELECT 2").unwrap().iter().map(|(_, s)| (s.line, s.column)).collect();
    assert_eq!(places, [(1, 9), (3, 3)]);
}
