CREATE TABLE t (id BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH (connector = 'file', path = 'x');
CREATE TABLE p (id BIGINT, day VARCHAR) PARTITIONED BY (day) WITH ('connector' = 'filesystem', 'path' = 'x');
