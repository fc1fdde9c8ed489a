CREATE SOURCE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH (connector = 'kafka', topic = 'bid');
CREATE MATERIALIZED VIEW v AS
SELECT auction, window_end, count(*) AS n FROM tumble(bid, ts, INTERVAL '10 seconds', INTERVAL '3 seconds')
WHERE price > 5 GROUP BY auction, window_end;
