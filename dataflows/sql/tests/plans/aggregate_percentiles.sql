CREATE SOURCE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH (connector = 'kafka', topic = 'bid');
CREATE MATERIALIZED VIEW v AS
SELECT median(price) AS m, percentile_cont(0.9) WITHIN GROUP (ORDER BY price DESC) AS c, percentile_disc(channel, 0.5) AS d,
  approx_percentile_cont(0.99) WITHIN GROUP (ORDER BY price) AS a, approx_median(price) AS am,
  approx_percentile(0.5, 0.01) WITHIN GROUP (ORDER BY price) AS r,
  mode() WITHIN GROUP (ORDER BY channel) AS o, quantile_cont(price, 0.25) FILTER (WHERE bidder = 1) AS q
FROM bid;
