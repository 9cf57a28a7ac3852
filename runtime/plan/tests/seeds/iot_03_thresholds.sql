-- Seed iot-cpu-anomaly-postgresql-slack, thresholds from PostgreSQL, alerts to Slack: statements as the tutorial writes them, but for the brokers and the closing semicolons.

CREATE TABLE CPU_IN_AGG( window_start TIMESTAMP(3), window_end TIMESTAMP(3), hostname STRING, cpu STRING, usage_avg DOUBLE, usage_max DOUBLE ) WITH ( 'connector' = 'kafka', 'properties.bootstrap.servers' = 'localhost:9092', 'topic' = 'cpu_agg_stats', 'value.format' = 'json', 'scan.startup.mode' = 'earliest-offset' );

CREATE TABLE CPU_THRESHOLDS( hostname STRING, allowed_top INT, PRIMARY KEY (hostname) NOT ENFORCED ) WITH ( 'connector' = 'jdbc', 'url' = 'jdbc:postgresql://', 'table-name' = 'public.cpu_thresholds' );

create table SLACK_SINK ( channel_id STRING, message STRING ) WITH ( 'connector' = 'slack', 'token' = '$SLACK_TOKEN' );

INSERT INTO SLACK_SINK SELECT '$CHANNEL_ID', 'host:' || CPU.hostname || ' CPU: ' || cpu || ' avg CPU value:' || TRY_CAST(usage_avg as string) || ' over the threshold ' || TRY_CAST(allowed_top as string) FROM CPU_IN_AGG CPU INNER JOIN CPU_THRESHOLDS ON CPU.hostname = CPU_THRESHOLDS.hostname WHERE usage_avg > allowed_top;
