CREATE SOURCE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH (connector = 'kafka', topic = 'bid');
CREATE TABLE auction (id BIGINT PRIMARY KEY, seller BIGINT, category BIGINT);
CREATE MATERIALIZED VIEW v AS
SELECT b.auction, b.ts, a.seller FROM bid b JOIN auction a ON b.auction % 100 = a.id;
