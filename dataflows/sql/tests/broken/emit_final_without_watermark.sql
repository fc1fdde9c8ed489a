CREATE SOURCE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, ts TIMESTAMP(3)
) WITH (connector = 'kafka', topic = 'bid');
CREATE MATERIALIZED VIEW v AS
SELECT auction, count(*) AS n FROM bid GROUP BY auction, TUMBLE(ts, INTERVAL '1' MINUTE)
EMIT FINAL;
