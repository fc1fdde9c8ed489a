CREATE TABLE t (k BIGINT, ts TIMESTAMP(3)) WITH (connector = 'http');
CREATE MATERIALIZED VIEW v AS
SELECT k, window_start, count(*) AS n FROM SESSION(t, ts, k, INTERVAL '1' MINUTE) GROUP BY k, window_start, window_end;
