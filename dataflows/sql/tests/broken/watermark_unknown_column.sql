CREATE SOURCE s (a BIGINT, ts TIMESTAMP(3), WATERMARK FOR t AS t) WITH (connector = 'file');
