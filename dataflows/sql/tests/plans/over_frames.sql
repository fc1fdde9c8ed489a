CREATE SOURCE bid (auction BIGINT, bidder BIGINT, price BIGINT, at TIMESTAMP(3),
  WATERMARK FOR at AS at - INTERVAL '4' SECOND) WITH (connector = 'file', path = 'bids.jsonl');
CREATE TABLE item (id BIGINT PRIMARY KEY, kind INT, price BIGINT, day DATE);
CREATE MATERIALIZED VIEW v AS
  SELECT id, row_number() OVER w AS n, sum(price) OVER w AS running, lag(price, 2, 0) OVER w AS before,
    avg(price) OVER (PARTITION BY kind ORDER BY price ROWS BETWEEN 2 PRECEDING AND 1 FOLLOWING) AS mean,
    count(*) OVER (PARTITION BY kind) AS all_of_kind,
    max(id) OVER (ORDER BY day RANGE BETWEEN INTERVAL '36' HOUR PRECEDING AND CURRENT ROW) AS newest,
    first_value(id) OVER (PARTITION BY kind ORDER BY price GROUPS BETWEEN 1 PRECEDING AND 1 FOLLOWING) AS first
  FROM item WINDOW w AS (PARTITION BY kind ORDER BY price);
