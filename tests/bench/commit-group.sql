-- Count and sum of 100,000 groups that all change between two commits; one change out per event. Input: bench.events
SET 'pipeline.name' = '${NAME}'; SET 'execution.checkpointing.interval' = '1 s'; SET 'execution.checkpointing.dir' = '${STATE}';
CREATE TABLE events (user_id STRING, amount DOUBLE, country STRING)
WITH ('connector' = 'kafka', 'topic' = 'bench.events', 'properties.bootstrap.servers' = '${KAFKA}', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json');
CREATE TABLE result (amount DOUBLE, n BIGINT, total DOUBLE, PRIMARY KEY (amount) NOT ENFORCED)
WITH ('connector' = 'upsert-kafka', 'topic' = '${NAME}', 'properties.bootstrap.servers' = '${KAFKA}', 'key.format' = 'json', 'value.format' = 'json',
    'sink.delivery-guarantee' = '${GUARANTEE}', 'sink.transactional-id-prefix' = 'bench');
INSERT INTO result SELECT amount, COUNT(*), SUM(amount) FROM events GROUP BY amount;
