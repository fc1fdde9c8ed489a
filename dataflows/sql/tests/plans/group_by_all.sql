CREATE SOURCE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH (connector = 'kafka', topic = 'bid');
CREATE MATERIALIZED VIEW v AS SELECT auction, upper(channel) AS c, sum(price) AS total FROM bid GROUP BY ALL;
CREATE MATERIALIZED VIEW w AS SELECT auction % 10 AS tenth, channel, count(*) AS n FROM bid GROUP BY 1, 2;
