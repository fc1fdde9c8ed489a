CREATE SOURCE s (k BIGINT, ts TIMESTAMP(3)) WITH (connector = 'file');
CREATE MATERIALIZED VIEW v AS
SELECT k, window_start, count(*) AS n FROM TUMBLE(s, ts, INTERVAL '10' SECOND) GROUP BY k, window_start, window_end;
