CREATE SOURCE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH (connector = 'kafka', topic = 'bid');
CREATE MATERIALIZED VIEW v AS SELECT channel, count(*) AS n FROM bid GROUP BY TUMBLE(ts, INTERVAL '1' MINUTE), ROLLUP (channel);
