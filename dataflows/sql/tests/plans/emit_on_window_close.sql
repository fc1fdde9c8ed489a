CREATE SOURCE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH (connector = 'kafka', topic = 'bid');
CREATE MATERIALIZED VIEW v AS
SELECT auction, window_start, max(price) AS top FROM TUMBLE(bid, ts, INTERVAL '1' MINUTE)
GROUP BY auction, window_start EMIT ON WINDOW CLOSE;
