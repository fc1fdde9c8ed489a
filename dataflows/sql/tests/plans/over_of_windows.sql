CREATE SOURCE bid (auction BIGINT, bidder BIGINT, price BIGINT, at TIMESTAMP(3),
  WATERMARK FOR at AS at - INTERVAL '4' SECOND) WITH (connector = 'file', path = 'bids.jsonl');
CREATE TABLE item (id BIGINT PRIMARY KEY, kind INT, price BIGINT, day DATE);
CREATE MATERIALIZED VIEW v AS
  SELECT auction, window_end, bids, ntile(4) OVER (PARTITION BY window_start, window_end ORDER BY bids DESC) AS quarter
  FROM (SELECT auction, window_start, window_end, count(*) AS bids
        FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(at), INTERVAL '10' SECOND)) GROUP BY auction, window_start, window_end) EMIT FINAL;
