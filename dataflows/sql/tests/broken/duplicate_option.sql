CREATE SOURCE s (a BIGINT) WITH (connector = 'file', path = 'a', path = 'b');
