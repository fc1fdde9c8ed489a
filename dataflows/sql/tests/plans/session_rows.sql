CREATE SOURCE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH (connector = 'kafka', topic = 'bid');
-- Rows with their sessions; a condition that could split a session stays above it, and so does a grouping by other keys.
CREATE MATERIALIZED VIEW v AS
SELECT * FROM SESSION(TABLE bid PARTITION BY (bidder, channel), DESCRIPTOR(ts), INTERVAL '1' MINUTE)
WHERE price > 10 AND channel = 'web';
CREATE MATERIALIZED VIEW by_end AS
SELECT window_end, sum(price) AS total FROM SESSION(bid, ts, bidder, INTERVAL '1' MINUTE) GROUP BY window_end EMIT FINAL;
