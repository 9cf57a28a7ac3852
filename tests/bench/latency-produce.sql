CREATE TABLE numbers (i BIGINT) WITH ('connector' = 'datagen', 'fields.i.kind' = 'sequence', 'fields.i.start' = '0', 'fields.i.end' = '1000000000',
    'rows-per-second' = '1000');
CREATE TABLE source (i BIGINT) WITH ('connector' = 'kafka', 'topic' = '${NAME}-in', 'properties.bootstrap.servers' = '${KAFKA}', 'format' = 'json');
INSERT INTO source SELECT i FROM numbers;
