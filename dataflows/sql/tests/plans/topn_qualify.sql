CREATE SOURCE bid (auction BIGINT, bidder BIGINT, price BIGINT, at TIMESTAMP(3),
  WATERMARK FOR at AS at - INTERVAL '4' SECOND) WITH (connector = 'file', path = 'bids.jsonl');
CREATE TABLE item (id BIGINT PRIMARY KEY, kind INT, price BIGINT);
CREATE MATERIALIZED VIEW q AS
  SELECT auction, price FROM bid QUALIFY row_number() OVER (PARTITION BY auction ORDER BY price DESC) < 3;
