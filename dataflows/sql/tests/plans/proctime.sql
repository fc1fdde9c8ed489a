CREATE SOURCE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, p AS PROCTIME()
) WITH (connector = 'kafka', topic = 'bid');
CREATE MATERIALIZED VIEW per_minute AS
SELECT bidder, window_start, count(*) AS n
FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(p), INTERVAL '1' MINUTE))
GROUP BY bidder, window_start, window_end
EMIT FINAL;
CREATE MATERIALIZED VIEW visits AS
SELECT bidder, SESSION_START(p, INTERVAL '1' MINUTE) AS came, count(*) AS n
FROM bid GROUP BY bidder, SESSION(p, INTERVAL '1' MINUTE);
CREATE MATERIALIZED VIEW stamped AS SELECT auction, price * 2 AS double, PROCTIME() AS came FROM bid WHERE p < TIMESTAMP '2100-01-01';
