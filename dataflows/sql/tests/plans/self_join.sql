CREATE SOURCE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH (connector = 'kafka', topic = 'bid');
CREATE MATERIALIZED VIEW v AS
SELECT x.bidder, y.bidder AS other FROM bid x JOIN bid y ON x.auction = y.auction AND x.price = y.price WHERE x.bidder < y.bidder;
