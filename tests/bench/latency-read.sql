CREATE TABLE result (n BIGINT, sent TIMESTAMP_LTZ(3))
WITH ('connector' = 'kafka', 'topic' = '${NAME}', 'properties.bootstrap.servers' = '${KAFKA}', 'scan.startup.mode' = 'latest-offset', 'format' = 'json',
    'properties.isolation.level' = '${ISOLATION}');
SELECT * FROM result;
