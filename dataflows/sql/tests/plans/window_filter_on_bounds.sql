CREATE SOURCE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH (connector = 'kafka', topic = 'bid');
CREATE MATERIALIZED VIEW v AS
SELECT auction, window_end, count(*) AS n FROM TUMBLE(bid, ts, INTERVAL '10' SECOND)
WHERE window_end > TIMESTAMP '2024-01-01 00:00:00' GROUP BY auction, window_end;
