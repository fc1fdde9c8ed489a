CREATE SOURCE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH (connector = 'kafka', topic = 'bid');
CREATE MATERIALIZED VIEW tumbled AS
SELECT bidder, window_start, window_end, count(*) AS n FROM TUMBLE(bid, ts, INTERVAL '1' MINUTE)
GROUP BY GROUPING SETS ((bidder, window_start, window_end), (window_start, window_end)) EMIT FINAL;
CREATE MATERIALIZED VIEW sessions AS
SELECT bidder, window_start, window_end, count(*) AS n FROM SESSION(bid, ts, bidder, INTERVAL '1' MINUTE)
GROUP BY window_start, window_end, ROLLUP (bidder);
