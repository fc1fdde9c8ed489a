CREATE SOURCE bid (auction BIGINT, price BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '4' SECOND) WITH (connector = 'http');
CREATE TABLE auction (id BIGINT PRIMARY KEY, seller BIGINT) WITH (connector = 'http');
CREATE MATERIALIZED VIEW v AS
SELECT seller, window_end, count(*) AS n
FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '10' SECOND)) LEFT JOIN auction ON auction = id
GROUP BY seller, window_end EMIT FINAL;
