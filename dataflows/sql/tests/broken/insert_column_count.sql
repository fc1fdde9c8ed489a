CREATE SOURCE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH (connector = 'kafka', topic = 'bid');
CREATE SINK s (a BIGINT, b BIGINT) WITH (connector = 'print');
INSERT INTO s SELECT auction FROM bid;
