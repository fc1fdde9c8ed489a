CREATE SOURCE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH (connector = 'kafka', topic = 'bid');
CREATE MATERIALIZED VIEW v AS
SELECT bidder % 10 AS b, channel, count(DISTINCT auction) AS n,
  SESSION_START(ts, INTERVAL '10' SECOND) AS s, SESSION_END(ts, INTERVAL '10' SECOND) AS e
FROM bid
GROUP BY bidder % 10, SESSION(ts, INTERVAL '10' SECOND), channel
EMIT FINAL;
