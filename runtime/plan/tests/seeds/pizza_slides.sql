-- Seed pizza-slides: the statements as the slides write them, but for the brokers, the dots that stand for further options,
-- DESCRITOR and the closing semicolons. (The last slide's MATCH_RECOGNIZE is a fragment.)

CREATE TABLE pizza_orders (  
  id INT,  
  shop VARCHAR,  
  name VARCHAR,  
  phoneNumber VARCHAR,  
  address VARCHAR,  
  pizzas ARRAY <ROW (pizzaName VARCHAR, additionalToppings ARRAY <VARCHAR>)>,  
  orderTimestamp TIMESTAMP(3) METADATA FROM 'timestamp',  
  WATERMARK FOR orderTimestamp AS orderTimestamp - INTERVAL '5' SECOND  
) WITH (  
  'connector' = 'kafka',  
  'properties.bootstrap.servers' = 'localhost:9092',  
  'topic' = 'pizza-orders',  
  'scan.startup.mode' = 'earliest-offset',  
  'value.format' = 'json'  
) ;

select
    id,
    name,
    c.topping,
    orderTimestamp
from pizza_orders
cross join UNNEST(pizzas) b
cross join UNNEST(b.additionalToppings) as c(topping)
where c.topping in
    ('🍍 pineapple', '🍓 strawberry', '🍌 banana');

select
    id,
    name,
    count(*) nr_bad_items,
    LISTAGG(c.topping) list_bad_items,
    orderTimestamp
from pizza_orders
cross join UNNEST(pizzas) b
cross join UNNEST(b.additionalToppings) as c(topping)
where c.topping in
    ('🍍 pineapple', '🍓 strawberry', '🍌 banana')
group by id, name, orderTimestamp
having count(*) > 3;

SELECT window_time,  
       window_start,  
       window_end,  
       topping,  
       count(*) nr_orders  
FROM TABLE(TUMBLE(TABLE pizza_orders,  
DESCRIPTOR(orderTimestamp), interval '5' seconds))  
       cross join UNNEST(pizzas) b  
       cross join UNNEST(b.additionalToppings) as c(topping)  
where c.topping in ('🍍', '🍓', '🍌')  
group by window_time,  
       topping,  
       window_start,  
       window_end  
having count(*) > 10;
