CREATE TABLE t (id BIGINT PRIMARY KEY, grp BIGINT, price BIGINT);
CREATE SOURCE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH (connector = 'kafka', topic = 'bid');
CREATE MATERIALIZED VIEW v AS
SELECT t.id, t.n, w.m
FROM (SELECT id, count(*) AS n FROM t GROUP BY id) AS t
JOIN (SELECT auction, max(price) AS m FROM bid GROUP BY auction, TUMBLE(ts, INTERVAL '1' MINUTE)) AS w
ON t.id = w.auction
EMIT FINAL;
