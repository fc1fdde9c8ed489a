CREATE SOURCE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH (connector = 'kafka', topic = 'bid');
CREATE TABLE auction (id BIGINT PRIMARY KEY, seller BIGINT, category BIGINT);
CREATE TABLE seller (id BIGINT, name VARCHAR, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = 'http');
CREATE MATERIALIZED VIEW v AS
SELECT s.name, count(*) AS bids FROM bid b, auction a, seller s WHERE b.auction = a.id AND a.seller = s.id GROUP BY s.name;
