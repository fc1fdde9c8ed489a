CREATE SOURCE bid (auction BIGINT, price BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '4' SECOND) WITH (connector = 'http');
CREATE SOURCE ask (auction BIGINT, price BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '4' SECOND) WITH (connector = 'http');
CREATE VIEW bids AS SELECT auction, window_start, window_end, count(*) AS n FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY auction, window_start, window_end;
CREATE VIEW asks AS SELECT auction, window_start, window_end, count(*) AS n FROM TABLE(TUMBLE(TABLE ask, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY auction, window_start, window_end;
CREATE MATERIALIZED VIEW unmatched AS SELECT b.auction, b.window_end, b.n, a.n AS asks FROM bids AS b LEFT JOIN asks AS a ON b.auction = a.auction AND b.window_end = a.window_end EMIT FINAL;
CREATE MATERIALIZED VIEW only_bids AS SELECT auction, window_end, n FROM bids AS b WHERE NOT EXISTS (SELECT 1 FROM asks AS a WHERE b.auction = a.auction AND b.window_end = a.window_end AND a.n > b.n) EMIT FINAL;
