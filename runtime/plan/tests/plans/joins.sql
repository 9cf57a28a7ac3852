-- Regular joins against updating subqueries, interval joins, semi and anti joins.
CREATE TABLE orders (order_id INT, user_id STRING, amount DECIMAL(10, 2), order_time TIMESTAMP(3), WATERMARK FOR order_time AS order_time)
  WITH ('connector' = 'kafka', 'topic' = 'orders', 'properties.bootstrap.servers' = 'k:9092', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json');
CREATE TABLE payments (pay_id INT, order_id INT, pay_time TIMESTAMP(3), WATERMARK FOR pay_time AS pay_time)
  WITH ('connector' = 'kafka', 'topic' = 'payments', 'properties.bootstrap.servers' = 'k:9092', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json');
CREATE TABLE users (user_id STRING, country STRING, PRIMARY KEY (user_id) NOT ENFORCED)
  WITH ('connector' = 'upsert-kafka', 'topic' = 'users', 'properties.bootstrap.servers' = 'k:9092', 'key.format' = 'json', 'value.format' = 'json');

SELECT o.order_id, t.total FROM orders o JOIN (SELECT user_id, SUM(amount) AS total FROM orders GROUP BY user_id) t ON o.user_id = t.user_id;

SELECT o.order_id, t.n FROM orders o LEFT JOIN (SELECT order_id, COUNT(*) AS n FROM payments GROUP BY order_id) t ON o.order_id = t.order_id;

SELECT a.user_id, a.n, b.country FROM (SELECT user_id, COUNT(*) AS n FROM orders GROUP BY user_id) a FULL JOIN users b ON a.user_id = b.user_id;

SELECT u.country, COUNT(*) AS n, SUM(o.amount) AS total FROM orders o JOIN users u ON o.user_id = u.user_id GROUP BY u.country;

SELECT o.order_id, p.pay_id FROM orders o, payments p
WHERE o.order_id = p.order_id AND p.pay_time BETWEEN o.order_time AND o.order_time + INTERVAL '5' SECOND;

SELECT order_id FROM orders WHERE order_id IN (SELECT order_id FROM payments) AND NOT EXISTS (SELECT 1 FROM users WHERE users.user_id = orders.user_id);
