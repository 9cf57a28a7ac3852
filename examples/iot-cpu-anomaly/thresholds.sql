-- The load that is still fine, by host: what the job compares with. psql "$SERVICE_URI" -f thresholds.sql
CREATE TABLE cpu_thresholds (hostname VARCHAR PRIMARY KEY, allowed_top INT);
INSERT INTO cpu_thresholds VALUES ('doc', 20), ('grumpy', 30), ('sleepy', 40), ('bashful', 60), ('happy', 70), ('sneezy', 80), ('dopey', 90);
