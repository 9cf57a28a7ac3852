-- Rules of a control topic: one catalog for the three functions.
CREATE TABLE transactions (payerId BIGINT, beneficiaryId BIGINT, paymentAmount DECIMAL(20, 2), pt AS PROCTIME(), eventTime TIMESTAMP_LTZ(3),
    WATERMARK FOR eventTime AS eventTime - INTERVAL '5' SECOND)
  WITH ('connector' = 'kafka', 'topic' = 'tx', 'properties.bootstrap.servers' = 'k:9092', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json');
CREATE TABLE rules (ruleId INT, ruleState STRING, groupingKeyNames ARRAY<STRING>, aggregateFieldName STRING, aggregatorFunctionType STRING,
    limitOperatorType STRING, `limit` DECIMAL(38, 18), windowMinutes INT, controlType STRING)
  WITH ('connector' = 'kafka', 'topic' = 'rules', 'properties.bootstrap.servers' = 'k:9092', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json');
CREATE TABLE alerts (id INT, k STRING, amount DECIMAL(38, 6), dry BOOLEAN)
  WITH ('connector' = 'kafka', 'topic' = 'alerts', 'properties.bootstrap.servers' = 'k:9092', 'format' = 'json');
CREATE TABLE said (id INT, rule STRING, reason STRING)
  WITH ('connector' = 'kafka', 'topic' = 'said', 'properties.bootstrap.servers' = 'k:9092', 'format' = 'json');

EXECUTE STATEMENT SET BEGIN
INSERT INTO alerts SELECT rule_id, grouping_key, triggering_event.paymentAmount, dry_run
FROM EVALUATE_RULES(data => TABLE transactions, rules => TABLE rules, on_time => DESCRIPTOR(eventTime));
INSERT INTO said SELECT * FROM REJECTED_RULES(data => TABLE transactions, rules => TABLE rules);
INSERT INTO said SELECT rule_id, rule, CAST(NULL AS STRING) FROM CURRENT_RULES(TABLE transactions, TABLE rules);
END;

SELECT window_start, rule_id, COUNT(*) FROM TABLE(TUMBLE(
  TABLE (SELECT rule_id, rowtime FROM EVALUATE_RULES(TABLE transactions, TABLE rules, DESCRIPTOR(eventTime)) WHERE NOT dry_run),
  DESCRIPTOR(rowtime), INTERVAL '1' HOUR)) GROUP BY window_start, window_end, rule_id;
