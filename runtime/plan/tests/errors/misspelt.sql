SELECT simbol FROM ticks

SELECT t.simbol FROM ticks AS t

SELECT tick.symbol FROM ticks

SELECT symbol FROM tick

SELECT * FROM ticks JOIN payment ON TRUE

SELECT symbol FROM ticks WHERE prize > 1

SELECT symbol, COUNT(*) FROM ticks GROUP BY symbl

SELECT symbol FROM ticks ORDER BY rowtme

SELECT UPER(symbol) FROM ticks

SELECT symbol, ROW_NUMBR() OVER (PARTITION BY symbol ORDER BY rowtime) FROM ticks

SELECT SUMM(price) OVER (PARTITION BY symbol ORDER BY rowtime) FROM ticks

SELECT symbol, CUONT(*) FROM ticks GROUP BY symbol

SELECT symbol, SUMM(price) FROM ticks GROUP BY symbol

SELECT CAST(price AS STRNG) FROM ticks

SELECT c.toping FROM pizza_source CROSS JOIN UNNEST(pizzas) AS p (pizzaName, additionalToppings) CROSS JOIN UNNEST(p.additionalToppings) AS c (topping)

SELECT p.pizaName FROM pizza_source CROSS JOIN UNNEST(pizzas) AS p

SELECT pizzas[1].pizaName FROM pizza_source

SELECT widow_start, COUNT(*) FROM TABLE(TUMBLE(TABLE ticks, DESCRIPTOR(rowtime), INTERVAL '5' SECOND)) GROUP BY window_start, window_end

SELECT * FROM TABLE(TUMBEL(TABLE ticks, DESCRIPTOR(rowtime), INTERVAL '5' SECOND))

SELECT * FROM TABLE(TUMBLE(TABLE tics, DESCRIPTOR(rowtime), INTERVAL '5' SECOND))

SELECT * FROM TABLE(TUMBLE(TABLE ticks, DESCRIPTOR(rowtme), INTERVAL '5' SECOND))

SELECT SUM(price) OVER v FROM ticks WINDOW w AS (PARTITION BY symbol ORDER BY rowtime)

INSERT INTO apend_out SELECT symbol, 1 FROM ticks

INSERT INTO append_out (a, bb) SELECT symbol, 1 FROM ticks

SELECT * FROM ticks MATCH_RECOGNIZE (PARTITION BY symbl ORDER BY rowtime MEASURES A.price AS p PATTERN (A) DEFINE A AS A.price > 1)

SELECT * FROM ticks MATCH_RECOGNIZE (PARTITION BY symbol ORDER BY rowtime MEASURES UPP.price AS p PATTERN (DOWN UP) DEFINE UP AS UP.price > 1)

SELECT * FROM ticks MATCH_RECOGNIZE (PARTITION BY symbol ORDER BY rowtime MEASURES A.prise AS p PATTERN (A) DEFINE A AS A.price > 1)

SELECT * FROM ticks MATCH_RECOGNIZE (PARTITION BY symbol ORDER BY rowtime MEASURES UP.price AS p AFTER MATCH SKIP TO LAST UPP PATTERN (DOWN UP) DEFINE UP AS UP.price > 1)

CREATE TABLE t (a INT) WITH ('connector' = 'kafak', 'topic' = 't');
SELECT * FROM t

CREATE TABLE t (a INT) WITH ('connector' = 'kafka', 'topic' = 't', 'properties.bootstrap.servers' = 'k:9092', 'scan.startup.mod' = 'earliest-offset', 'format' = 'json');
SELECT * FROM t

CREATE TABLE t (a INT) WITH ('connector' = 'kafka', 'topic' = 't', 'properties.bootstrap.servers' = 'k:9092', 'scan.startup.mode' = 'earliest', 'format' = 'json');
SELECT * FROM t

CREATE TABLE t (a INT) WITH ('connector' = 'kafka', 'topic' = 't', 'properties.bootstrap.servers' = 'k:9092', 'scan.startup.mode' = 'earliest-offset', 'format' = 'jsn');
SELECT * FROM t

CREATE TABLE t (a INT) WITH ('connector' = 'kafka', 'topic' = 't', 'properties.bootstrap.servers' = 'k:9092', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json', 'json.ignore-parse-eror' = 'true');
SELECT * FROM t

CREATE TABLE t (a INT, p INT METADATA FROM 'partitoin' VIRTUAL) WITH ('connector' = 'kafka', 'topic' = 't', 'properties.bootstrap.servers' = 'k:9092', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json');
SELECT * FROM t

CREATE TABLE t (a INT, ts TIMESTAMP(3), WATERMARK FOR tss AS ts) WITH ('connector' = 'kafka', 'topic' = 't', 'format' = 'json');

CREATE TABLE t (a INT, ts TIMESTAMP(3), WATERMARK FOR ts AS tss - INTERVAL '1' SECOND) WITH ('connector' = 'kafka', 'topic' = 't', 'properties.bootstrap.servers' = 'k:9092', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json');
SELECT * FROM t

CREATE TABLE t (amount INT, PRIMARY KEY (amout) NOT ENFORCED) WITH ('connector' = 'upsert-kafka')

CREATE TABLE t (amount INT, twice AS amout * 2) WITH ('connector' = 'kafka', 'topic' = 't', 'properties.bootstrap.servers' = 'k:9092', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json');
SELECT * FROM t

DROP TABLE tick

CREATE TABLE t2 (a INT) LIKE tick

SELECT symbol FORM ticks

CREATE TABEL t (a INT)

SELECT INTERVAL '1' SECODN

SELECT * FROM EVALUATE_RULE(TABLE ticks, TABLE rules, DESCRIPTOR(rowtime))

SELECT * FROM EVALUATE_RULES(TABLE ticks, TABLE rules, DESCRIPTOR(rowtim))

SELECT * FROM EVALUATE_RULES(datas => TABLE ticks, rules => TABLE rules, on_time => DESCRIPTOR(rowtime))

SELECT rule_ids FROM REJECTED_RULES(TABLE ticks, TABLE rules)
