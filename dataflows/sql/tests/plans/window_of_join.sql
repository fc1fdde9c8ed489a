CREATE SOURCE bid (auction BIGINT, price BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH (connector = 'file');
CREATE TABLE auction (id BIGINT PRIMARY KEY, category BIGINT);
CREATE MATERIALIZED VIEW v AS
SELECT a.category, window_start, sum(b.price) AS total
FROM TUMBLE((SELECT * FROM bid JOIN auction ON auction = id), ts, INTERVAL '1' MINUTE) AS b
JOIN auction a ON a.id = b.auction
GROUP BY a.category, window_start;
CREATE MATERIALIZED VIEW w AS
SELECT category, TUMBLE_END(ts, INTERVAL '1' MINUTE) AS ends, max(price) AS top
FROM bid JOIN auction ON auction = id GROUP BY category, TUMBLE(ts, INTERVAL '1' MINUTE);
