CREATE TABLE t (id BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH (connector = 'file', path = 'x');
CREATE TABLE s (id BIGINT) WITH ('connector' = 'print');
INSERT INTO s SELECT id FROM t;
CREATE MATERIALIZED VIEW v AS SELECT * FROM s;
