CREATE TABLE t (id BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH (connector = 'file', path = 'x');
CREATE TABLE s (id BIGINT) WITH ('connector' = 'print');
INSERT OVERWRITE s SELECT id FROM t;
