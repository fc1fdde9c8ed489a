CREATE SOURCE s (a MAP(VARCHAR, BIGINT)) WITH (connector = 'file');
