CREATE SOURCE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH (connector = 'kafka', topic = 'bid');
CREATE MATERIALIZED VIEW v AS
SELECT auction, window_start, window_end, sum(price) AS total
FROM TABLE(CUMULATE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' HOUR, INTERVAL '1' DAY, -INTERVAL '8' HOUR))
GROUP BY auction, window_start, window_end
EMIT FINAL;
CREATE MATERIALIZED VIEW twice AS
SELECT window_end, max(total) AS most FROM v GROUP BY window_start, window_end;
