CREATE TABLE t (v BIGINT, w BIGINT);
CREATE MATERIALIZED VIEW mv AS SELECT
  (((((((((((((((((((((((((((((((((((((((((((((((((v))))))))))))))))))))))))))))))))))))))))))))))))) AS x FROM t;
