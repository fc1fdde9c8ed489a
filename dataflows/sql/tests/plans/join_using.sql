CREATE SOURCE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH (connector = 'kafka', topic = 'bid');
CREATE TABLE auction (id BIGINT PRIMARY KEY, seller BIGINT, category BIGINT);
CREATE MATERIALIZED VIEW v AS
SELECT auction, x.n, y.top FROM (SELECT auction, count(*) AS n FROM bid GROUP BY auction) x
JOIN (SELECT auction, max(price) AS top FROM bid GROUP BY auction) y USING (auction);
