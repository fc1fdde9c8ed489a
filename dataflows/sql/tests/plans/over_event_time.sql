CREATE SOURCE bid (auction BIGINT, bidder BIGINT, price BIGINT, at TIMESTAMP(3),
  WATERMARK FOR at AS at - INTERVAL '4' SECOND) WITH (connector = 'file', path = 'bids.jsonl');
CREATE TABLE item (id BIGINT PRIMARY KEY, kind INT, price BIGINT, day DATE);
CREATE MATERIALIZED VIEW live AS
  SELECT auction, at, count(*) OVER (PARTITION BY auction ORDER BY at RANGE BETWEEN INTERVAL '10' SECOND PRECEDING AND CURRENT ROW) AS n FROM bid;
CREATE MATERIALIZED VIEW final AS
  SELECT auction, at, sum(price) OVER (PARTITION BY auction ORDER BY at) AS s, lead(price) OVER (PARTITION BY auction ORDER BY at) AS next FROM bid EMIT FINAL;
