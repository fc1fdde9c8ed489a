-- FOR SYSTEM_TIME AS OF: processing time and event time, inner and left, over tables and what is selected from them.
CREATE SOURCE orders (
  id BIGINT, currency VARCHAR, amount BIGINT, at TIMESTAMP(3),
  WATERMARK FOR at AS at - INTERVAL '5' SECOND
) WITH (connector = 'http', format = 'json');

CREATE TABLE rates (
  currency VARCHAR PRIMARY KEY, rate BIGINT, active BOOLEAN, valid_from TIMESTAMP(3), note VARCHAR,
  WATERMARK FOR valid_from AS valid_from
);

CREATE TABLE names (currency VARCHAR PRIMARY KEY, name VARCHAR);

CREATE VIEW active_rates AS SELECT currency, rate * 2 AS double_rate, valid_from FROM rates WHERE active;

CREATE MATERIALIZED VIEW at_processing_time AS
SELECT o.id, n.name
FROM (SELECT *, PROCTIME() AS seen FROM orders) AS o
JOIN names FOR SYSTEM_TIME AS OF o.seen AS n ON o.currency = n.currency
WHERE o.amount > 3;

CREATE MATERIALIZED VIEW left_at_processing_time AS
SELECT o.id, n.name, n.currency
FROM orders AS o LEFT JOIN names FOR SYSTEM_TIME AS OF PROCTIME() AS n ON o.currency = n.currency AND n.name <> 'x';

CREATE MATERIALIZED VIEW at_event_time AS
SELECT o.id, o.amount * r.rate AS total, o.at, n.name
FROM orders AS o
JOIN rates FOR SYSTEM_TIME AS OF o.at AS r ON o.currency = r.currency
LEFT JOIN names FOR SYSTEM_TIME AS OF PROCTIME() AS n ON r.currency = n.currency;

CREATE MATERIALIZED VIEW of_a_view AS
SELECT o.id, r.double_rate
FROM orders AS o LEFT JOIN active_rates FOR SYSTEM_TIME AS OF o.at AS r ON o.currency = r.currency AND r.double_rate > o.amount;
