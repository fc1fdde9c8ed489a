CREATE SOURCE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH (connector = 'kafka', topic = 'bid');
CREATE MATERIALIZED VIEW v AS
SELECT window_end, channel, bidder, sum(price) AS total
FROM TUMBLE(bid, ts, INTERVAL '10' SECOND) GROUP BY window_start, window_end, CUBE (channel, bidder) EMIT FINAL;
