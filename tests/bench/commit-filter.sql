-- A filter that lets one event of four pass. Input: bench.events
SET 'pipeline.name' = '${NAME}'; SET 'execution.checkpointing.interval' = '1 s'; SET 'execution.checkpointing.dir' = '${STATE}';
CREATE TABLE events (user_id STRING, amount DOUBLE, country STRING, ts TIMESTAMP(3) METADATA FROM 'timestamp')
WITH ('connector' = 'kafka', 'topic' = 'bench.events', 'properties.bootstrap.servers' = '${KAFKA}', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json');
CREATE TABLE result (user_id STRING, amount DOUBLE, ts TIMESTAMP(3))
WITH ('connector' = 'kafka', 'topic' = '${NAME}', 'properties.bootstrap.servers' = '${KAFKA}', 'format' = 'json',
    'sink.delivery-guarantee' = '${GUARANTEE}', 'sink.transactional-id-prefix' = 'bench');
INSERT INTO result SELECT user_id, amount, ts FROM events WHERE country = 'DE';
