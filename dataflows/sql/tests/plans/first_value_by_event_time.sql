CREATE SOURCE bid (
  auction BIGINT, price BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH (connector = 'file');
CREATE MATERIALIZED VIEW v AS SELECT auction, first_value(price) AS f, last_value(price) AS l FROM bid GROUP BY auction;
CREATE MATERIALIZED VIEW w AS
SELECT window_start, last_value(price) AS l FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end;
CREATE MATERIALIZED VIEW kept AS SELECT auction, price, ts FROM bid;
CREATE MATERIALIZED VIEW u AS SELECT auction, last_value(price) AS l FROM kept GROUP BY auction;
