-- customer is a column inside and a relation outside.
CREATE TABLE customer (id BIGINT PRIMARY KEY, name VARCHAR);
CREATE TABLE orders (id BIGINT PRIMARY KEY, customer BIGINT);
CREATE MATERIALIZED VIEW v AS
SELECT name FROM customer WHERE EXISTS (SELECT 1 FROM orders WHERE orders.customer = customer.id);
