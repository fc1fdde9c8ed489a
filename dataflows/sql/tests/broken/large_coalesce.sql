CREATE TABLE t (v BIGINT, w BIGINT);
CREATE MATERIALIZED VIEW mv AS SELECT
  coalesce(abs(coalesce(abs(coalesce(abs(coalesce(abs(coalesce(abs(coalesce(abs(coalesce(abs(coalesce(abs(coalesce(abs(coalesce(abs(coalesce(abs(coalesce(abs(coalesce(abs(coalesce(abs(coalesce(abs(coalesce(abs(coalesce(abs(coalesce(abs(coalesce(abs(coalesce(abs(coalesce(abs(v), 0)), 0)), 0)), 0)), 0)), 0)), 0)), 0)), 0)), 0)), 0)), 0)), 0)), 0)), 0)), 0)), 0)), 0)), 0)), 0)), 0) AS x FROM t;
