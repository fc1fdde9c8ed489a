CREATE SOURCE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH (connector = 'kafka', topic = 'bid');
CREATE MATERIALIZED VIEW v AS
SELECT auction, CASE WHEN price > 100 THEN 'high' WHEN price > 10 THEN 'middle' ELSE 'low' END AS class,
       COALESCE(channel, '?') AS channel, CAST(price AS DOUBLE) / 2 AS half
FROM bid
WHERE channel LIKE 'a%' AND bidder IN (1, 2, 3) AND price BETWEEN 10 AND 20 AND auction IS NOT NULL;
