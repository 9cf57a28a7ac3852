-- GROUP BY, DISTINCT, UNION ALL, windows, sinks.
CREATE TABLE ticks (symbol STRING, price INT, rowtime TIMESTAMP(3), WATERMARK FOR rowtime AS rowtime - INTERVAL '1' SECOND)
  WITH ('connector' = 'kafka', 'topic' = 'ticks', 'properties.bootstrap.servers' = 'k:9092', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json');
CREATE TABLE counts (symbol STRING, n BIGINT, PRIMARY KEY (symbol) NOT ENFORCED)
  WITH ('connector' = 'upsert-kafka', 'topic' = 'counts', 'properties.bootstrap.servers' = 'k:9092', 'key.format' = 'json', 'value.format' = 'json');
CREATE TABLE changes (symbol STRING, n BIGINT)
  WITH ('connector' = 'kafka', 'topic' = 'changes', 'properties.bootstrap.servers' = 'k:9092', 'format' = 'debezium-json');
CREATE VIEW dear AS SELECT symbol, price FROM ticks WHERE price > 100;

SELECT symbol, COUNT(*) AS n, SUM(price), AVG(price), MIN(price), MAX(price), LISTAGG(symbol, '-'), COUNT(DISTINCT price), COUNT(*) FILTER (WHERE price > 10)
FROM ticks GROUP BY symbol HAVING COUNT(*) > 1;

SELECT DISTINCT symbol FROM ticks;

SELECT symbol FROM dear UNION ALL SELECT symbol FROM ticks WHERE price < 0;

SELECT window_start, symbol, COUNT(*) FROM TABLE(HOP(TABLE ticks, DESCRIPTOR(rowtime), INTERVAL '5' SECOND, INTERVAL '10' SECOND)) GROUP BY window_start, window_end, symbol;

SELECT window_start, window_end, MAX(price) FROM TABLE(CUMULATE(TABLE ticks, DESCRIPTOR(rowtime), INTERVAL '5' SECOND, INTERVAL '20' SECOND))
GROUP BY window_start, window_end;

SELECT symbol, total FROM (SELECT symbol, SUM(price) AS total, ROW_NUMBER() OVER (ORDER BY SUM(price) DESC) AS place FROM ticks GROUP BY symbol) WHERE place <= 3;

SELECT symbol, n, COUNT(*) FROM (SELECT symbol, COUNT(*) AS n FROM ticks GROUP BY symbol) GROUP BY symbol, n;

EXECUTE STATEMENT SET BEGIN
INSERT INTO counts SELECT symbol, COUNT(*) FROM ticks GROUP BY symbol;
INSERT INTO changes SELECT symbol, COUNT(*) FROM ticks GROUP BY symbol;
END;
