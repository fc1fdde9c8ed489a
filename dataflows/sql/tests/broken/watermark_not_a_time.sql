CREATE SOURCE s (a BIGINT, WATERMARK FOR a AS a - 1) WITH (connector = 'file');
