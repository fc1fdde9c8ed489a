-- What expires, what its own bound ends, and what state_ttl cannot reach.
SET state_ttl = '1 hour';
CREATE SOURCE bid (auction BIGINT, price BIGINT, at TIMESTAMP(3), WATERMARK FOR at AS at - INTERVAL '1' SECOND)
  WITH (connector = 'http');
CREATE TABLE auction (id BIGINT PRIMARY KEY, category BIGINT) WITH (connector = 'http');
CREATE MATERIALIZED VIEW by_category AS
  SELECT a.category, count(*) AS bids FROM bid AS b JOIN auction AS a ON b.auction = a.id GROUP BY a.category;
CREATE MATERIALIZED VIEW windowed AS
  SELECT auction, window_start, count(*) AS bids
  FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(at), INTERVAL '1' MINUTE)) GROUP BY auction, window_start, window_end;
CREATE MATERIALIZED VIEW best AS
  SELECT auction, price FROM (SELECT auction, price, row_number() OVER (PARTITION BY auction ORDER BY price DESC) AS n FROM bid)
  WHERE n <= 3;
CREATE MATERIALIZED VIEW total AS SELECT count(*) AS bids FROM bid;
CREATE MATERIALIZED VIEW pairs AS SELECT b.auction, a.id FROM bid AS b JOIN auction AS a ON b.price > a.id;
