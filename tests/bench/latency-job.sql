SET 'pipeline.name' = '${NAME}'; SET 'execution.checkpointing.interval' = '1 s'; SET 'execution.checkpointing.dir' = '${STATE}';
CREATE TABLE source (i BIGINT, sent TIMESTAMP_LTZ(3) METADATA FROM 'timestamp')
WITH ('connector' = 'kafka', 'topic' = '${NAME}-in', 'properties.bootstrap.servers' = '${KAFKA}', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json');
CREATE TABLE result (n BIGINT, sent TIMESTAMP_LTZ(3))
WITH ('connector' = 'kafka', 'topic' = '${NAME}', 'properties.bootstrap.servers' = '${KAFKA}', 'format' = 'json',
    'sink.delivery-guarantee' = '${GUARANTEE}', 'sink.transactional-id-prefix' = 'bench');
INSERT INTO result SELECT i, sent FROM source;
