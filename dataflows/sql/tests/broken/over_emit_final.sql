CREATE SOURCE bid (auction BIGINT, bidder BIGINT, price BIGINT, at TIMESTAMP(3),
  WATERMARK FOR at AS at - INTERVAL '4' SECOND) WITH (connector = 'file', path = 'bids.jsonl');
CREATE TABLE item (id BIGINT PRIMARY KEY, kind INT, price BIGINT, day DATE);
CREATE MATERIALIZED VIEW v AS SELECT id, sum(price) OVER (ORDER BY id) AS n FROM item EMIT FINAL;
