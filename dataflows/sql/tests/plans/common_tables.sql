CREATE SOURCE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH (connector = 'kafka', topic = 'bid');
CREATE MATERIALIZED VIEW v AS
WITH per_auction AS (SELECT auction, sum(price) AS total FROM bid GROUP BY auction),
     big AS (SELECT auction, total FROM per_auction WHERE total > 100)
SELECT big.auction, big.total, p.total AS again FROM big JOIN per_auction p ON big.auction = p.auction;
