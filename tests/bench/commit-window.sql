-- TUMBLE 5 s count/sum per user (1,000 users). Input: bench.events
SET 'pipeline.name' = '${NAME}'; SET 'execution.checkpointing.interval' = '1 s'; SET 'execution.checkpointing.dir' = '${STATE}';
CREATE TABLE events (user_id STRING, amount DOUBLE, country STRING,
    ts TIMESTAMP(3) METADATA FROM 'timestamp', WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
WITH ('connector' = 'kafka', 'topic' = 'bench.events', 'properties.bootstrap.servers' = '${KAFKA}', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json');
CREATE TABLE result (window_start TIMESTAMP(3), window_end TIMESTAMP(3), user_id STRING, n BIGINT, total DOUBLE)
WITH ('connector' = 'kafka', 'topic' = '${NAME}', 'properties.bootstrap.servers' = '${KAFKA}', 'format' = 'json',
    'sink.delivery-guarantee' = '${GUARANTEE}', 'sink.transactional-id-prefix' = 'bench');
INSERT INTO result SELECT window_start, window_end, user_id, COUNT(*), SUM(amount)
FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '5' SECOND)) GROUP BY window_start, window_end, user_id;
