CREATE SOURCE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH (connector = 'kafka', topic = 'bid');
CREATE MATERIALIZED VIEW v AS
SELECT window_start, bidder, max(double_price) AS top
FROM TUMBLE((SELECT bidder, price * 2 AS double_price, ts FROM bid WHERE price > 1), ts, INTERVAL '1' HOUR)
GROUP BY window_start, bidder;
