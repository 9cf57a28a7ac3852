-- Sales of 1,000 users, one a user and second, two of a hundred unusual; as the lab's loader makes them.
CREATE TABLE numbers (i BIGINT) WITH ('connector' = 'datagen', 'fields.i.kind' = 'sequence', 'fields.i.start' = '0', 'fields.i.end' = '${LAST}',
    'rows-per-second' = '1000000000');
CREATE TABLE sales (user_id STRING, product_id STRING, invoice_id STRING, quantity STRING, unit_cost STRING, ts TIMESTAMP_LTZ(3) METADATA FROM 'timestamp')
WITH ('connector' = 'kafka', 'topic' = 'bench.sales', 'properties.bootstrap.servers' = '${KAFKA}',
    'value.format' = 'avro-confluent', 'value.avro-confluent.url' = '${REGISTRY}');
INSERT INTO sales SELECT 'user-' || CAST(MOD(i, 1000) AS STRING), CAST(1000000000000000000 + i AS STRING), CAST(2000000000000000000 + i AS STRING),
    CASE WHEN MOD(i * 7919 + i / 1000 * 31, 50) = 0 THEN CAST(10 * (1 + MOD(i, 3)) AS STRING) ELSE CAST(1 + MOD(i * 7, 3) AS STRING) END,
    '£' || CAST(MOD(i, 999) AS STRING), TO_TIMESTAMP_LTZ(1704103200000 + i, 3) FROM numbers;
