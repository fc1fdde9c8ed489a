CREATE SOURCE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH (connector = 'kafka', topic = 'bid');
CREATE MATERIALIZED VIEW v AS
SELECT bit_and(price) AS a, bit_or(DISTINCT price) AS o, bit_xor(DISTINCT price) AS x, bool_and(price > 3) AS ba,
  every(price > 3) AS e, bool_or(channel = 'x') AS bo, count_if(price > 100) FILTER (WHERE bidder > 2) AS c,
  any_value(channel) AS av, approx_count_distinct(bidder) AS d, count(DISTINCT bidder, channel) AS pairs,
  count(bidder, channel) AS rows
FROM bid;
