-- A group for each number: a key of 45 bytes, a count, a sum and a text of 64 bytes.
CREATE TABLE numbers (i BIGINT) WITH ('connector' = 'datagen', 'fields.i.kind' = 'sequence', 'fields.i.start' = '0', 'fields.i.end' = '${LAST}',
    'rows-per-second' = '1000000000');
CREATE TABLE result (k STRING, n BIGINT, total BIGINT, most STRING) WITH ('connector' = '${SINK}');
INSERT INTO result SELECT k, COUNT(*), SUM(i), MAX(t) FROM
    (SELECT i, SHA1(CAST(i AS STRING)) AS k, SHA256(CAST(i AS STRING)) AS t FROM numbers) GROUP BY k;
