//! Which rows go between tasks.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

const TABLES: &str = "
CREATE TABLE clicks (u STRING, page STRING, n INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'kafka', 'topic' = 'c',
  'properties.bootstrap.servers' = 'x', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json');
CREATE TABLE orders (id INT, u STRING, price INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = 'upsert-kafka', 'topic' = 'o',
  'properties.bootstrap.servers' = 'x', 'key.format' = 'json', 'value.format' = 'json');
CREATE TABLE users (u STRING, city STRING, PRIMARY KEY (u) NOT ENFORCED) WITH ('connector' = 'upsert-kafka', 'topic' = 'u',
  'properties.bootstrap.servers' = 'x', 'key.format' = 'json', 'value.format' = 'json');
CREATE TABLE by_id (id INT, city STRING, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = 'upsert-kafka', 'topic' = 's',
  'properties.bootstrap.servers' = 'x', 'key.format' = 'json', 'value.format' = 'json');
CREATE TABLE by_u (u STRING, n BIGINT, PRIMARY KEY (u) NOT ENFORCED) WITH ('connector' = 'upsert-kafka', 'topic' = 't',
  'properties.bootstrap.servers' = 'x', 'key.format' = 'json', 'value.format' = 'json');
CREATE TABLE rules (rule STRING) WITH ('connector' = 'kafka', 'topic' = 'r', 'properties.bootstrap.servers' = 'x', 'scan.startup.mode' = 'earliest-offset', 'format' = 'raw');
CREATE TABLE log (u STRING, n BIGINT) WITH ('connector' = 'kafka', 'topic' = 'l', 'properties.bootstrap.servers' = 'x', 'format' = 'json');
";

fn exchanges(sql: &str) -> Vec<String> {
    let mut catalog = common::catalog(TABLES);
    let graphs = common::plan_with(&mut catalog, sql).unwrap_or_else(|e| panic!("{e}\n{sql}"));
    graphs.iter().flat_map(|g| sluice_plan::distribute(g).describe(g)).collect()
}

#[test]
fn rows_go_to_where_they_meet() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("nothing meets", "INSERT INTO log SELECT u, n FROM clicks WHERE n > 1", &[]),
        ("the client is one", "SELECT u FROM clicks", &["Calc -> Client to one task"]),
        (
            "the sink's key is the group's",
            "INSERT INTO by_u SELECT u, COUNT(*) FROM clicks GROUP BY u",
            &["Source -> GroupAggregate by (u)"],
        ),
        (
            "all rows",
            "INSERT INTO log SELECT 'all', COUNT(*) FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end",
            &["Source -> WindowAggregate to one task"],
        ),
        (
            "the same key twice",
            "INSERT INTO by_u SELECT c.u, c.k FROM (SELECT u, COUNT(*) AS k FROM clicks GROUP BY u) c JOIN users ON c.u = users.u",
            &["Source -> GroupAggregate by (u)", "Source -> ChangelogNormalize by (u)"],
        ),
        (
            "another key",
            "INSERT INTO by_u SELECT page, SUM(k) FROM (SELECT page, u, COUNT(*) AS k FROM clicks GROUP BY page, u) GROUP BY page",
            &["Source -> GroupAggregate by (page, u)", "GroupAggregate -> GroupAggregate by (page)"],
        ),
        (
            "an order that gets another user must not race itself",
            "INSERT INTO by_id SELECT id, city FROM orders JOIN users ON orders.u = users.u",
            &[
                "Source -> ChangelogNormalize by (id)",
                "Source -> ChangelogNormalize by (u)",
                "ChangelogNormalize -> Join to one task",
                "ChangelogNormalize -> Join to one task",
                "Join runs in one task: a row's changes of its keys must reach the next key in order",
            ],
        ),
        (
            "top n of all",
            "SELECT * FROM (SELECT *, ROW_NUMBER() OVER (ORDER BY n DESC) AS r FROM clicks) WHERE r <= 3",
            &["Source -> TopN to one task"],
        ),
        (
            "matches of a partition",
            "SELECT * FROM clicks MATCH_RECOGNIZE (PARTITION BY u ORDER BY ts MEASURES A.n AS n PATTERN (A B) DEFINE A AS A.n > 1) AS m",
            &["Source -> MatchRecognize by (u)", "MatchRecognize -> Client to one task"],
        ),
        (
            "matches of all",
            "SELECT * FROM clicks MATCH_RECOGNIZE (ORDER BY ts MEASURES A.n AS n PATTERN (A B) DEFINE A AS A.n > 1) AS m",
            &["Source -> MatchRecognize to one task"],
        ),
        (
            "rules are everywhere",
            "INSERT INTO log SELECT grouping_key, rule_id FROM EVALUATE_RULES(TABLE clicks, TABLE rules, DESCRIPTOR(ts))",
            &["Source -> RuleCatalog to one task", "RuleCatalog -> RuleRouter to all tasks", "RuleRouter -> RuleEvaluation by (key)"],
        ),
        (
            "one exchange for two consumers",
            "INSERT INTO by_u SELECT u, COUNT(*) FROM clicks GROUP BY u; INSERT INTO log SELECT u, MAX(n) FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY u, window_start, window_end",
            &["Source -> GroupAggregate, WindowAggregate by (u)"],
        ),
    ];
    let mut wrong = vec![];
    for (what, sql, want) in cases {
        let got = exchanges(sql);
        if got != *want {
            wrong.push(format!("{what}: {want:#?} expected, {got:#?} found"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
