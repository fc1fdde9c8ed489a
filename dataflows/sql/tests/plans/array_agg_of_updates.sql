CREATE SOURCE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH (connector = 'kafka', topic = 'bid');
CREATE VIEW n AS SELECT auction, channel, count(*) AS bids FROM bid GROUP BY auction, channel;
CREATE MATERIALIZED VIEW v AS SELECT channel, array_agg(bids) AS f FROM n GROUP BY channel;
