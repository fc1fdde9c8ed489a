CREATE SOURCE s (a, b BIGINT) WITH (connector = 'file');
