CREATE SOURCE bid (auction BIGINT, bidder BIGINT, price BIGINT, at TIMESTAMP(3),
  WATERMARK FOR at AS at - INTERVAL '4' SECOND) WITH (connector = 'file', path = 'bids.jsonl');
CREATE TABLE item (id BIGINT PRIMARY KEY, kind INT, price BIGINT);
CREATE MATERIALIZED VIEW d AS
  SELECT DISTINCT ON (kind) kind, id, price FROM item ORDER BY kind, price DESC;
CREATE MATERIALIZED VIEW filtered AS
  SELECT * FROM (SELECT DISTINCT ON (kind) kind, id, price FROM item ORDER BY kind, price DESC) WHERE price > 10 AND kind = 3;
