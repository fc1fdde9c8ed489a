CREATE SOURCE bid (auction BIGINT, bidder BIGINT, price BIGINT, at TIMESTAMP(3),
  WATERMARK FOR at AS at - INTERVAL '4' SECOND) WITH (connector = 'file', path = 'bids.jsonl');
CREATE TABLE item (id BIGINT PRIMARY KEY, kind INT, price BIGINT);
CREATE MATERIALIZED VIEW newest AS
  SELECT auction, bidder, price, at FROM (SELECT *, row_number() OVER (PARTITION BY auction, bidder ORDER BY at DESC) AS n FROM bid) WHERE n = 1;
CREATE MATERIALIZED VIEW spread AS
  SELECT count(*) AS n FROM newest;
