CREATE SOURCE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH (connector = 'kafka', topic = 'bid');
CREATE VIEW per_second AS
SELECT window_time AS second, sum(price) AS total FROM TUMBLE(bid, ts, INTERVAL '1' SECOND)
GROUP BY window_start, window_end, window_time;
CREATE MATERIALIZED VIEW v AS
SELECT window_start, max(total) AS busiest FROM TUMBLE(per_second, second, INTERVAL '1' MINUTE) GROUP BY window_start, window_end
EMIT FINAL;
