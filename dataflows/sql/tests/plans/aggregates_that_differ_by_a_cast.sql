CREATE SOURCE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH (connector = 'kafka', topic = 'bid');
CREATE MATERIALIZED VIEW v AS
SELECT auction, sum(price) AS a, sum(CAST(price AS DOUBLE)) AS b, sum(price::INT) AS c FROM bid GROUP BY auction
HAVING sum(CAST(price AS DOUBLE)) > 3;
