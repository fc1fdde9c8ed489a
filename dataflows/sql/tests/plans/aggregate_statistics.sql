CREATE SOURCE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH (connector = 'kafka', topic = 'bid');
CREATE MATERIALIZED VIEW v AS
SELECT auction, stddev(price) AS s, var_pop(price) AS v, variance(CAST(price AS DOUBLE)) AS w, corr(price, bidder) AS c,
  regr_count(price, bidder) AS n, regr_slope(price, bidder) AS slope, covar_pop(price, bidder) FILTER (WHERE price > 10) AS cp
FROM bid GROUP BY auction;
