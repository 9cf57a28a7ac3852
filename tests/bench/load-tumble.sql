-- Events of 1,000 users, ten a millisecond; as the lab's loader makes them.
CREATE TABLE numbers (i BIGINT) WITH ('connector' = 'datagen', 'fields.i.kind' = 'sequence', 'fields.i.start' = '0', 'fields.i.end' = '${LAST}',
    'rows-per-second' = '1000000000');
CREATE TABLE events (user_id STRING, amount DOUBLE, country STRING, ts TIMESTAMP_LTZ(3) METADATA FROM 'timestamp')
WITH ('connector' = 'kafka', 'topic' = 'bench.events', 'properties.bootstrap.servers' = '${KAFKA}', 'format' = 'json');
INSERT INTO events SELECT 'user-' || CAST(MOD(i * 7919, 1000) AS STRING), CAST(100 + MOD(i * 31, 99899) AS DOUBLE) / 100,
    CASE MOD(i, 4) WHEN 0 THEN 'DE' WHEN 1 THEN 'FR' WHEN 2 THEN 'GB' ELSE 'US' END, TO_TIMESTAMP_LTZ(1704103200000 + i / 10, 3) FROM numbers;
