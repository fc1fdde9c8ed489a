CREATE SINK s (a BIGINT) WITH (connector = 'print');
