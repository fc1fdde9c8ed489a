CREATE SOURCE s (a BIGINT, b BIGINT, a VARCHAR) WITH (connector = 'file');
