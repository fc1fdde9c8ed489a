CREATE SOURCE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH (connector = 'kafka', topic = 'bid');
CREATE SINK s (id BIGINT, total DECIMAL(20, 2), PRIMARY KEY (id) NOT ENFORCED) WITH (connector = 'print');
INSERT INTO s SELECT auction, sum(price) FROM bid GROUP BY auction;
