CREATE SOURCE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH (connector = 'kafka', topic = 'bid');
-- Rows are final when the watermark has passed them, rows of windows when it closes those.
CREATE MATERIALIZED VIEW v AS SELECT ts, price FROM bid WHERE price > 1 EMIT ON WINDOW CLOSE;
CREATE MATERIALIZED VIEW w AS SELECT price, window_start, window_end FROM SESSION(bid, ts, bidder, INTERVAL '1' MINUTE) EMIT FINAL;
CREATE MATERIALIZED VIEW by_time AS SELECT ts, count(*) AS n FROM bid GROUP BY ts EMIT FINAL;
CREATE MATERIALIZED VIEW by_day AS SELECT date_trunc('day', ts) AS d, count(*) AS n FROM bid GROUP BY date_trunc('day', ts) EMIT FINAL;
CREATE MATERIALIZED VIEW without_time AS SELECT price FROM TUMBLE(bid, ts, INTERVAL '1' MINUTE) WHERE price > 2 EMIT FINAL;
