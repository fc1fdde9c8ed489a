CREATE SOURCE bid (auction BIGINT, price BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH (connector = 'file');
CREATE SINK a AS SELECT auction, price FROM bid WITH (connector = 'print');
CREATE SINK b WITH ("connector" = 'print') AS SELECT auction FROM bid b WHERE price > 1 EMIT CHANGES;
CREATE SINK c AS SELECT window_start, count(*) FROM TUMBLE(bid, ts, INTERVAL '1' MINUTE) GROUP BY window_start
  EMIT FINAL WITH (connector = 'print');
CREATE SINK d (auction BIGINT, n BIGINT) WITH (connector = 'print');
INSERT INTO d SELECT auction, price FROM bid WHERE price > 2;
INSERT INTO d (n, auction) SELECT auction, price FROM bid WHERE price < 2;
