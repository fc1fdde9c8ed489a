CREATE TABLE t (id BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH (connector = 'file', path = 'x');
CREATE TABLE s WITH ('connector' = 'print') LIKE tt;
