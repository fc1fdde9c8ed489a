CREATE TABLE t (id BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH (connector = 'file', path = 'x');
CREATE MATERIALIZED VIEW v AS SELECT * FROM t /*+ OPTIONS('path' = 'y') */;
