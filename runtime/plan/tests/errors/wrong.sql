SELECT symbol + 1 FROM ticks

SELECT price || symbol FROM ticks

SELECT * FROM ticks WHERE price

SELECT * FROM ticks WHERE symbol = 3

SELECT SUM(symbol) FROM ticks

SELECT symbol FROM ticks GROUP BY price

SELECT COUNT(COUNT(*)) FROM ticks

SELECT symbol FROM ticks WHERE COUNT(*) > 1

SELECT symbol FROM ticks HAVING price > 1

SELECT order_id FROM orders, payments

SELECT o.order_id FROM orders o JOIN orders o ON o.order_id = o.order_id

SELECT CASE WHEN price > 1 THEN 1 ELSE 'a' END FROM ticks

SELECT UPPER() FROM ticks

SELECT UPPER(price, 1) FROM ticks

SELECT 1 / 0 FROM ticks

SELECT NULL FROM ticks

SELECT CAST(ARRAY[1] AS INT) FROM ticks

SELECT CAST('abc' AS INT) FROM ticks

SELECT symbol FROM ticks UNION ALL SELECT symbol, price FROM ticks

SELECT symbol FROM ticks UNION ALL SELECT price FROM ticks

SELECT symbol, price FROM ticks WHERE price IN (SELECT symbol, price FROM ticks)

SELECT symbol, (SELECT price, tax FROM ticks) FROM ticks

SELECT * FROM users ORDER BY score

SELECT * FROM ticks ORDER BY 7

SELECT symbol, ROW_NUMBER() FROM ticks

SELECT symbol FROM ticks WHERE ROW_NUMBER() OVER (ORDER BY rowtime) = 1

SELECT SUM(price) OVER (PARTITION BY symbol ORDER BY rowtime), COUNT(*) OVER (ORDER BY rowtime) FROM ticks

SELECT * FROM TABLE(TUMBLE(TABLE users, DESCRIPTOR(score), INTERVAL '5' SECOND))

SELECT * FROM TABLE(TUMBLE(TABLE ticks, DESCRIPTOR(rowtime), 5))

SELECT * FROM TABLE(TUMBLE(TABLE ticks, DESCRIPTOR(rowtime), INTERVAL '0' SECOND))

SELECT * FROM TABLE(TUMBLE(TABLE ticks, DESCRIPTOR(rowtime), INTERVAL '1' MONTH))

SELECT * FROM TABLE(HOP(TABLE ticks, DESCRIPTOR(rowtime), INTERVAL '5' SECOND))

SELECT * FROM ticks CROSS JOIN UNNEST(symbol) AS u (x)

SELECT * FROM pizza_source CROSS JOIN UNNEST(pizzas) AS p (a, b, c)

INSERT INTO append_out SELECT symbol, COUNT(*) FROM ticks GROUP BY symbol

INSERT INTO append_out SELECT symbol FROM ticks

INSERT INTO append_out SELECT symbol, price, tax FROM ticks

INSERT INTO append_out SELECT price, symbol FROM ticks

INSERT INTO append_out (a, a) SELECT symbol, symbol FROM ticks

INSERT INTO upsert_out (b) SELECT price FROM ticks

CREATE TABLE t (a INT, a STRING) WITH ('connector' = 'kafka')

CREATE TABLE t (a INT);
SELECT * FROM t

CREATE TABLE ticks (a INT) WITH ('connector' = 'kafka')

CREATE TABLE t (a INT, ts STRING, WATERMARK FOR ts AS ts) WITH ('connector' = 'kafka', 'topic' = 't', 'format' = 'json');
SELECT * FROM t

CREATE TABLE t (a INT) WITH ('connector' = 'kafka', 'topic' = 't', 'properties.bootstrap.servers' = 'k:9092', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json', 'nonsense' = 'x');
SELECT * FROM t

CREATE TABLE t (a INT) WITH ('connector' = 'kafka', 'topic' = 't', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json');
SELECT * FROM t

CREATE TABLE t (a INT) WITH ('connector' = 'kafka', 'properties.bootstrap.servers' = 'k:9092', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json');
SELECT * FROM t

CREATE TABLE t (a INT) WITH ('connector' = 'kafka', 'topic' = 't', 'properties.bootstrap.servers' = 'k:9092', 'scan.startup.mode' = 'earliest-offset');
SELECT * FROM t

CREATE TABLE t (a INT) WITH ('connector' = 'upsert-kafka', 'topic' = 't', 'properties.bootstrap.servers' = 'k:9092', 'key.format' = 'json', 'value.format' = 'json');
SELECT * FROM t

CREATE TABLE t (a INT, b ROW<c INT>) WITH ('connector' = 'jdbc', 'url' = 'jdbc:postgresql://db/x', 'table-name' = 't');
SELECT a FROM t

CREATE TABLE t (a INT) WITH ('connector' = 'jdbc', 'url' = 'jdbc:postgresql://db/x', 'table-name' = 't');
CREATE TABLE s (a INT, p AS PROCTIME()) WITH ('connector' = 'datagen');
SELECT s.a FROM s JOIN t FOR SYSTEM_TIME AS OF s.p ON s.a > t.a

CREATE TABLE t (a INT) WITH ('connector' = 'jdbc', 'url' = 'jdbc:postgresql://db/x', 'table-name' = 't');
CREATE TABLE s (a INT, p AS PROCTIME()) WITH ('connector' = 'datagen');
CREATE VIEW u AS SELECT a, COUNT(*) AS n FROM t GROUP BY a;
SELECT s.a FROM s JOIN u FOR SYSTEM_TIME AS OF s.p ON s.a = u.a

CREATE TABLE t (a INT) WITH ('connector' = 'jdbc', 'url' = 'jdbc:mysql://db/x', 'table-name' = 'public.t');
SELECT * FROM t

CREATE TABLE t (a INT) WITH ('connector' = 'kafka', 'topic' = 't', 'properties.bootstrap.servers' = 'k:9092', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json');
INSERT INTO t VALUES (1, 2)

CREATE VIEW a AS SELECT * FROM ticks;
CREATE VIEW a AS SELECT * FROM ticks

CREATE VIEW a AS SELECT * FROM b;
CREATE VIEW b AS SELECT * FROM a;
SELECT * FROM b

SELECT * FROM ticks FOR SYSTEM_TIME AS OF rowtime

SELECT * FROM orders o JOIN users FOR SYSTEM_TIME AS OF o.order_id AS u ON o.user_id = u.user_id

SELECT * FROM ticks MATCH_RECOGNIZE (PARTITION BY symbol MEASURES A.price AS p PATTERN (A) DEFINE A AS A.price > 1)

SELECT * FROM ticks MATCH_RECOGNIZE (PARTITION BY symbol ORDER BY price MEASURES A.price AS p PATTERN (A) DEFINE A AS A.price > 1)

SELECT * FROM ticks MATCH_RECOGNIZE (PARTITION BY symbol ORDER BY rowtime MEASURES A.price AS p PATTERN (A B+) DEFINE A AS A.price > 1)

SELECT * FROM ticks MATCH_RECOGNIZE (PARTITION BY symbol ORDER BY rowtime MEASURES A.price AS p PATTERN (A) DEFINE A AS A.price)

SELECT * FROM ticks MATCH_RECOGNIZE (PARTITION BY symbol ORDER BY rowtime MEASURES A.price AS p PATTERN (A | B) DEFINE A AS A.price > 1)

SELECT * FROM ticks MATCH_RECOGNIZE (PARTITION BY symbol ORDER BY rowtime MEASURES A.price AS p PATTERN (A) WITHIN INTERVAL '1' MONTH DEFINE A AS A.price > 1)

SET 'table.local-time-zone' = 'Mars/Olympus';
SELECT * FROM ticks

SET 'table.exec.state.ttl' = 'long';
SELECT symbol, COUNT(*) FROM ticks GROUP BY symbol

SELECT * FROM ticks TABLESAMPLE BERNOULLI (10)

SELECT 'abc

SELECT (price FROM ticks

SELECT FROM ticks

SELECT * FROM EVALUATE_RULES(data => TABLE ticks, rules => TABLE rules)

SELECT * FROM EVALUATE_RULES(TABLE ticks, 7, DESCRIPTOR(rowtime))

SELECT * FROM EVALUATE_RULES(TABLE ticks, TABLE rules, DESCRIPTOR(price))

SELECT * FROM EVALUATE_RULES(TABLE ticks PARTITION BY symbol, TABLE rules, DESCRIPTOR(rowtime))

SELECT * FROM EVALUATE_RULES(TABLE ticks, TABLE half_rules, DESCRIPTOR(rowtime))

SELECT * FROM EVALUATE_RULES(TABLE ticks, TABLE orders, DESCRIPTOR(rowtime))

SELECT * FROM EVALUATE_RULES(data => TABLE users, rules => TABLE rules, on_time => DESCRIPTOR(score))

SELECT * FROM REJECTED_RULES(data => TABLE ticks, rules => TABLE rules, on_time => DESCRIPTOR(rowtime))

SELECT * FROM CURRENT_RULES(data => TABLE ticks, rules => TABLE users)

SELECT triggering_event.color FROM EVALUATE_RULES(TABLE ticks, TABLE rules, DESCRIPTOR(rowtime))
