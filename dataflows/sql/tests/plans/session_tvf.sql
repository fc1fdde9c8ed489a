CREATE SOURCE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH (connector = 'kafka', topic = 'bid');
CREATE MATERIALIZED VIEW v AS
SELECT bidder, window_start, window_end, count(*) AS n
FROM TABLE(SESSION(TABLE bid PARTITION BY bidder, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
WHERE bidder > 7
GROUP BY bidder, window_start, window_end;
CREATE MATERIALIZED VIEW plain AS
SELECT bidder, window_end, count(*) AS n FROM session(bid, ts, bidder, INTERVAL '1' MINUTE) GROUP BY bidder, window_end;
