CREATE SOURCE s (a BIGINT, b AS aa + 1) WITH (connector = 'file');
