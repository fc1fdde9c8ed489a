CREATE SOURCE s (ts BIGINT, n BIGINT, WATERMARK FOR ts AS ts - 5) WITH (connector = 'kafka', topic = 's');
CREATE MATERIALIZED VIEW v AS SELECT window_start, count(*) AS n FROM TUMBLE(s, ts, INTERVAL '1' SECOND) GROUP BY window_start;
