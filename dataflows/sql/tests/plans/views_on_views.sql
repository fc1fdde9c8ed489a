CREATE SOURCE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH (connector = 'kafka', topic = 'bid');
CREATE VIEW big AS SELECT auction, price FROM bid WHERE price > 1000;
CREATE MATERIALIZED VIEW per_auction AS SELECT auction, count(*) AS n, max(price) AS top FROM big GROUP BY auction;
CREATE MATERIALIZED VIEW busy AS SELECT auction, n FROM per_auction WHERE n > 10;
CREATE MATERIALIZED VIEW histogram AS SELECT n, count(*) AS auctions FROM per_auction GROUP BY n;
CREATE SINK out WITH (connector = 'print') AS SELECT auction FROM busy;
