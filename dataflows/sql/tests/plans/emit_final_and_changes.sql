CREATE SOURCE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH (connector = 'kafka', topic = 'bid');
CREATE MATERIALIZED VIEW hot AS
SELECT auction, count(*) AS bids, window_start, window_end
FROM TABLE(HOP(TABLE bid, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
GROUP BY auction, window_start, window_end;
CREATE SINK live FROM hot WITH (connector = 'kafka', topic = 'live');
CREATE SINK closed FROM hot WITH (connector = 'kafka', topic = 'closed', delivery = 'exactly_once') EMIT FINAL;
