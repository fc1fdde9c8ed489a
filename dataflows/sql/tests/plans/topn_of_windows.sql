CREATE SOURCE bid (auction BIGINT, bidder BIGINT, price BIGINT, at TIMESTAMP(3),
  WATERMARK FOR at AS at - INTERVAL '4' SECOND) WITH (connector = 'file', path = 'bids.jsonl');
CREATE TABLE item (id BIGINT PRIMARY KEY, kind INT, price BIGINT);
CREATE MATERIALIZED VIEW top AS
  SELECT * FROM (
    SELECT *, row_number() OVER (PARTITION BY window_start, window_end ORDER BY bids DESC) AS rn
    FROM (SELECT auction, window_start, window_end, count(*) AS bids
          FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(at), INTERVAL '10' SECOND)) GROUP BY auction, window_start, window_end))
  WHERE rn <= 2 EMIT FINAL;
CREATE MATERIALIZED VIEW live AS
  SELECT * FROM (
    SELECT *, row_number() OVER (PARTITION BY window_start, window_end ORDER BY bids DESC) AS rn
    FROM (SELECT auction, window_start, window_end, count(*) AS bids
          FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(at), INTERVAL '10' SECOND)) GROUP BY auction, window_start, window_end))
  WHERE rn <= 2;
