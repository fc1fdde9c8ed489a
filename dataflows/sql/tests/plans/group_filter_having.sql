CREATE SOURCE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH (connector = 'kafka', topic = 'bid');
CREATE MATERIALIZED VIEW v AS
SELECT auction, count(*) AS n, count(*) FILTER (WHERE price < 100) AS cheap, sum(price) AS total, avg(price) AS mean,
       min(channel) AS first_channel, count(DISTINCT bidder) AS bidders, sum(price * 2) FILTER (WHERE bidder > 1) AS twice
FROM bid GROUP BY auction HAVING count(*) > 3;
