CREATE SOURCE bid (auction BIGINT, bidder BIGINT, price BIGINT, at TIMESTAMP(3),
  WATERMARK FOR at AS at - INTERVAL '4' SECOND) WITH (connector = 'file', path = 'bids.jsonl');
CREATE TABLE item (id BIGINT PRIMARY KEY, kind INT, price BIGINT);
CREATE MATERIALIZED VIEW best AS
  SELECT auction, bidder, price FROM (SELECT *, row_number() OVER (PARTITION BY auction ORDER BY price DESC, at) AS rn FROM bid) WHERE rn <= 3;
CREATE MATERIALIZED VIEW numbered AS
  SELECT kind, id, r FROM (SELECT *, rank() OVER (PARTITION BY kind ORDER BY price NULLS FIRST) AS r FROM item) WHERE r BETWEEN 2 AND 4 AND id > 7;
CREATE MATERIALIZED VIEW picked AS
  SELECT id, kind FROM (SELECT *, dense_rank() OVER (PARTITION BY kind % 2 ORDER BY price) AS r FROM item) WHERE r IN (1, 3);
