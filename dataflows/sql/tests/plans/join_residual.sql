CREATE SOURCE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH (connector = 'kafka', topic = 'bid');
CREATE TABLE auction (id BIGINT PRIMARY KEY, seller BIGINT, category BIGINT);
CREATE MATERIALIZED VIEW v AS
SELECT a.seller, b.price + 1 AS price FROM bid b JOIN auction a ON b.auction = a.id AND b.price > a.category
WHERE a.seller <> b.bidder AND b.channel = 'x';
