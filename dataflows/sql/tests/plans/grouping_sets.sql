CREATE SOURCE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH (connector = 'kafka', topic = 'bid');
CREATE MATERIALIZED VIEW v AS
SELECT auction, channel, count(*) AS n, GROUPING(auction) AS ga, GROUPING(auction, channel) AS g
FROM bid GROUP BY GROUPING SETS ((auction), (channel, auction), ()) HAVING count(*) > 1;
