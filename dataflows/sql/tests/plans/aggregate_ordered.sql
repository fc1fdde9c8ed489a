CREATE SOURCE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH (connector = 'kafka', topic = 'bid');
CREATE MATERIALIZED VIEW v AS
SELECT auction, first_value(price ORDER BY bidder DESC) AS f, last_value(channel) IGNORE NULLS AS l,
  array_agg(price ORDER BY ts DESC NULLS LAST) AS a, string_agg(channel, ', ') AS s,
  listagg(channel, '+') WITHIN GROUP (ORDER BY price) AS t, min_by(bidder, price) AS who, arg_max(bidder, price) AS most,
  string_agg(DISTINCT channel, ',' ORDER BY channel) AS d
FROM bid GROUP BY auction;
