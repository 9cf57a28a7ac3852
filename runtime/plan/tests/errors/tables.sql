CREATE TABLE ticks (symbol STRING, price INT, tax INT, rowtime TIMESTAMP(3), WATERMARK FOR rowtime AS rowtime - INTERVAL '1' SECOND)
  WITH ('connector' = 'kafka', 'topic' = 'ticks', 'properties.bootstrap.servers' = 'k:9092', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json');
CREATE TABLE orders (order_id INT, user_id STRING, amount DECIMAL(10, 2), currency STRING, order_time TIMESTAMP(3),
    WATERMARK FOR order_time AS order_time)
  WITH ('connector' = 'kafka', 'topic' = 'orders', 'properties.bootstrap.servers' = 'k:9092', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json');
CREATE TABLE payments (pay_id INT, order_id INT, `method` STRING, pay_time TIMESTAMP(3), WATERMARK FOR pay_time AS pay_time)
  WITH ('connector' = 'kafka', 'topic' = 'payments', 'properties.bootstrap.servers' = 'k:9092', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json');
CREATE TABLE users (user_id STRING, name STRING, country STRING, score INT, PRIMARY KEY (user_id) NOT ENFORCED)
  WITH ('connector' = 'upsert-kafka', 'topic' = 'users', 'properties.bootstrap.servers' = 'k:9092', 'key.format' = 'json', 'value.format' = 'json');
CREATE TABLE SalesRecordTable (invoice_id STRING, user_id STRING, product_id STRING, quantity STRING, unit_cost STRING,
    `purchase_time` TIMESTAMP(3) METADATA FROM 'timestamp', WATERMARK FOR purchase_time AS purchase_time - INTERVAL '1' SECOND)
  WITH ('connector' = 'kafka', 'topic' = 'sales', 'properties.bootstrap.servers' = 'k:9092', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json');
CREATE TABLE pizza_source (id INT, shop VARCHAR, name VARCHAR, pizzas ARRAY<ROW(pizzaName VARCHAR, additionalToppings ARRAY<VARCHAR>)>,
    orderTimestamp TIMESTAMP(3) METADATA FROM 'timestamp', WATERMARK FOR orderTimestamp AS orderTimestamp - INTERVAL '5' SECOND)
  WITH ('connector' = 'kafka', 'topic' = 'pizzas', 'properties.bootstrap.servers' = 'k:9092', 'scan.startup.mode' = 'earliest-offset', 'value.format' = 'json');
CREATE TABLE append_out (a STRING, b BIGINT)
  WITH ('connector' = 'kafka', 'topic' = 'append_out', 'properties.bootstrap.servers' = 'k:9092', 'format' = 'json');
CREATE TABLE upsert_out (a STRING, b BIGINT, PRIMARY KEY (a) NOT ENFORCED)
  WITH ('connector' = 'upsert-kafka', 'topic' = 'upsert_out', 'properties.bootstrap.servers' = 'k:9092', 'key.format' = 'json', 'value.format' = 'json');
CREATE TABLE rules (rule STRING)
  WITH ('connector' = 'kafka', 'topic' = 'rules', 'properties.bootstrap.servers' = 'k:9092', 'scan.startup.mode' = 'earliest-offset', 'format' = 'raw');
CREATE TABLE half_rules (ruleId INT, ruleState STRING)
  WITH ('connector' = 'kafka', 'topic' = 'rules', 'properties.bootstrap.servers' = 'k:9092', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json');
